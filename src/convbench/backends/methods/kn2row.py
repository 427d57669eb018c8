"""One product for each row of taps, added up.

A. Anderson, A. Vasudevan, C. Keane, D. Gregg, "Low-memory GEMM-based convolution algorithms for
deep neural networks", arXiv:1709.03395, who make one for each tap. A row of taps together is long
enough for a product to be fast, and has fewer sums to add. The windows are laid out along the width
only, by the row of the input: what a row of taps reads is then one matrix, contiguous over all the
pixels of a block.
"""

from __future__ import annotations

import numpy as np

from convbench.backends.base import Array, Run, Weights
from convbench.backends.methods import blocks, cores
from convbench.backends.methods.blocks import Compute, Kernel
from convbench.backends.methods.windows import taps
from convbench.stimulus.spec import PipelineSpec, present

_BLOCK_BYTES = 1 << 21
"""Of windows and sums at once. With fewer rows, large filters are read too often."""

_FEWEST, _MOST = 4, 256
"""Pixels in a product: with fewer it waits for the filters, and with more there is no gain."""


def plan(pipeline: PipelineSpec, weights: Weights) -> Run:
    """Plan a pipeline with a convolution."""
    return blocks.plan(pipeline, weights, blocks.in_groups(pipeline, weights, _kernel), "kn2row")


def suits(pipeline: PipelineSpec) -> bool:
    """Whether a row of taps fits into a small product of enough pixels."""
    conv = present(pipeline.conv)
    width = blocks.panel(conv.k // conv.groups)
    return cores.SMALL // (width * conv.s * (pipeline.c // conv.groups)) >= _FEWEST


def _kernel(pipeline: PipelineSpec, filters: Array, _: Array | None) -> Kernel:
    r, s, c, k = filters.shape
    down, across = pipeline.conv_windows
    width, depth, q = blocks.panel(k), s * c, across.out
    panels = filters.reshape(r, depth, k // width, width).swapaxes(1, 2)
    panels = np.array(panels[:, :, None], order="C")
    most = min(max(1, cores.SMALL // (width * depth)), _MOST)
    rows = _BLOCK_BYTES // (q * (k + depth) * filters.itemsize)
    rows = -(-down.out // -(-down.out // min(max(rows, 1), down.out)))
    columns = taps(across, 0, q)
    # Input rows apart by the stride lie side by side: those of one tap of successive outputs.
    phases = min(down.stride, down.extent)
    lines = rows - 1 + -(-down.extent // down.stride)

    def make() -> Compute:
        windows = np.zeros((phases, lines, q, s, c), filters.dtype)
        others = np.empty((rows * q, k), filters.dtype)

        def fill(image: Array, a: int, count: int) -> None:
            for phase in range(phases):
                # The rows top, top + stride, ... as far as they are read and in the image.
                top = a * down.stride - down.before + phase
                need = count + (down.extent - 1 - phase) // down.stride
                low = min(max(-(top // down.stride), 0), need)
                high = max(min((down.size - 1 - top) // down.stride + 1, need), low)
                windows[phase, :low] = 0
                windows[phase, high:need] = 0
                if low < high:
                    first = top + low * down.stride
                    end = first + (high - low - 1) * down.stride + 1
                    source = image[first : end : down.stride]
                    for tap, read, reached in columns:
                        windows[phase, low:high, reached, tap] = source[:, read]

        def multiply(tap: int, count: int, out: Array) -> None:
            phase, line = tap * down.dilation % down.stride, tap * down.dilation // down.stride
            left = windows[phase, line : line + count].reshape(count * q, depth)
            blocks.multiply(left, panels[tap], out, most)

        def compute(images: Array, a: int, b: int, out: Array) -> None:
            count = b - a
            for image, sums in zip(images, out, strict=True):
                fill(image, a, count)
                flat, other = sums.reshape(count * q, k), others[: count * q]
                multiply(0, count, flat)
                for tap in range(1, r):
                    multiply(tap, count, other)
                    np.add(flat, other, out=flat)

        return compute

    return Kernel(make, rows, own_threads=not cores.small_products())
