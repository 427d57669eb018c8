"""Depthwise: multiply and add tap by tap; there is no matrix in it.

Rows of the input are copied between their padding, columns of one remainder by the stride side by
side. What a tap reads for a row of outputs is then one contiguous line, over columns and channels,
and one :func:`numpy.einsum` multiplies the lines of all taps by the filters and adds them, both in
one loop.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.lib.stride_tricks import as_strided

from convbench.backends.base import Array, Hole, Run, Weights
from convbench.backends.methods import blocks
from convbench.backends.methods.blocks import Compute, Kernel
from convbench.backends.methods.windows import needed, taps
from convbench.stimulus.spec import PipelineSpec, Window, present

_BLOCK_BYTES = 1 << 20
"""Of padded rows: they are read once a tap, and stay in a core's second-level cache."""

_TAPS_BYTES = 1 << 19
"""Of the filters, repeated along a line."""

_MOST_ROWS = 14


HOLE = Hole(
    "other than depthwise convolutions",
    "their products are added over channels, too, which is what a matrix product is for",
    lambda pipeline, dtype: pipeline.conv is not None and not pipeline.depthwise,  # noqa: ARG005
)


def plan(pipeline: PipelineSpec, weights: Weights) -> Run:
    """Plan a pipeline with a depthwise convolution."""
    return blocks.plan(pipeline, weights, _kernel(pipeline, weights), "depthwise tap sum")


def _kernel(pipeline: PipelineSpec, weights: Weights) -> Kernel:
    conv, filters = present(pipeline.conv), present(weights.filters)
    _, p, q, k = pipeline.conv_shape
    down, across = pipeline.conv_windows
    multiplier = k // pipeline.c
    # Taps whose columns leave the same remainder by the stride lie at even distances.
    apart = across.stride // math.gcd(across.stride, across.dilation)
    wide = q + (across.extent - 1) // across.stride
    columns = _equal(q, _TAPS_BYTES // (conv.r * conv.s * k * filters.itemsize))
    tiled = np.tile(filters.reshape(conv.r, conv.s, k), columns)
    line_bytes = across.stride * wide * k * filters.itemsize
    most = (_BLOCK_BYTES // line_bytes - down.extent) // down.stride + 1
    rows = _equal(p, min(most, _MOST_ROWS))
    sides = [
        (phase, column_taps[0].source, column_taps[0].out)
        for phase in range(across.stride)
        if (column_taps := taps(_every(across, phase, wide), 0, wide))
    ]

    def make() -> Compute:
        lines = (rows - 1) * down.stride + down.extent
        padded = np.zeros((lines, across.stride, wide, pipeline.c, multiplier), weights.dtype)
        s0, _, s2, _, s4 = padded.strides
        others = np.empty(rows * columns * k, weights.dtype)

        def fill(image: Array, a: int, b: int) -> None:
            top = a * down.stride - down.before
            low, high = needed(down, a, b)
            high = max(low, high)
            padded[: low - top] = 0
            padded[high - top : (b - a - 1) * down.stride + down.extent] = 0
            for phase, source, out in sides:
                padded[low - top : high - top, phase, out] = image[low:high, source, :, None]

        def add(count: int, first: int, out: Array) -> None:
            """Add the taps for the columns from the first on."""
            length = out.shape[1]
            for start in range(min(apart, conv.s)):
                offset, phase = divmod(start * across.dilation, across.stride)
                size = len(range(start, conv.s, apart))
                left = as_strided(
                    padded[:, phase, first + offset :],
                    (conv.r, size, count, length),
                    (
                        down.dilation * s0,
                        apart * across.dilation // across.stride * s2,
                        down.stride * s0,
                        s4,
                    ),
                )
                right = tiled[:, start::apart, :length]
                if start == 0:
                    np.einsum("rspl,rsl->pl", left, right, out=out)
                else:
                    other = others[: out.size].reshape(out.shape)
                    np.einsum("rspl,rsl->pl", left, right, out=other)
                    np.add(out, other, out=out)

        def compute(images: Array, a: int, b: int, out: Array) -> None:
            for image, sums in zip(images, out, strict=True):
                fill(image, a, b)
                flat = sums.reshape(b - a, q * k)
                for first in range(0, q, columns):
                    add(b - a, first, flat[:, first * k : (first + columns) * k])

        return compute

    return Kernel(make, rows)


def _equal(n: int, most: int) -> int:
    """Into parts of how many to cut n, so that none has more than `most` and all are alike."""
    return -(-n // -(-n // max(min(most, n), 1)))


def _every(window: Window, phase: int, count: int) -> Window:
    """The padded positions phase, phase + stride, ... as a window of one tap."""
    return replace(window, taps=1, before=window.before - phase, out=count)
