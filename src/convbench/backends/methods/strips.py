"""Windows laid out along the width only; then the whole window of an output is contiguous.

M. Cho, D. Brand, "MEC: Memory-efficient Convolution for Deep Neural Network", ICML 2017. A strip of
the input, as wide as the filters, is copied for each output column, one row below the other: the
window of output row p starts p strides further down. Copied are S / stride times the input instead
of R S. Each product is of a few pixels of one output row and a panel of the output channels, small
enough for the kernels that do not pack.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided

from convbench.backends.base import Array, Hole, Run, Weights
from convbench.backends.methods import blocks, cores
from convbench.backends.methods.blocks import Compute, Kernel
from convbench.backends.methods.windows import needed
from convbench.stimulus.spec import PipelineSpec, Windows, present

_STRIP_BYTES = 1 << 20
"""Of strips at once: what a core's second-level cache holds, with the filters beside it."""

_ROWS = 32
"""Output rows at once. Each block copies R - stride input rows that the one before had, too."""

_FEWEST, _MOST = 8, 256
"""Pixels in a product: with fewer it waits for the filters, and with more there is no gain."""


def plan(pipeline: PipelineSpec, weights: Weights) -> Run:
    """Plan a pipeline with a convolution."""
    return blocks.plan(pipeline, weights, blocks.in_groups(pipeline, weights, _kernel), "strips")


HOLE = Hole(
    "dilation along the height",
    "the rows of a window are then not one below the other in a strip",
    lambda pipeline, dtype: pipeline.conv is not None and pipeline.conv.dilation[0] > 1,  # noqa: ARG005
)


def suits(pipeline: PipelineSpec) -> bool:
    """Whether a whole window fits into a small product of enough pixels."""
    conv = present(pipeline.conv)
    width = blocks.panel(conv.k // conv.groups)
    fits = cores.SMALL // (width * pipeline.reduction) >= _FEWEST
    return fits and conv.dilation[0] == 1


def _kernel(pipeline: PipelineSpec, filters: Array, _: Array | None) -> Kernel:
    r, s, c, k = filters.shape
    windows = down, across = pipeline.conv_windows
    depth, width = r * s * c, blocks.panel(k)
    panels = filters.reshape(depth, k // width, width).swapaxes(0, 1)
    panels = np.array(panels[:, None, None], order="C")
    most = min(max(1, cores.SMALL // (width * depth)), _MOST)
    rows = min(_ROWS, down.out)
    line_bytes = ((rows - 1) * down.stride + r) * s * c * filters.itemsize
    columns = min(across.out, max(most, _STRIP_BYTES // line_bytes // 4 * 4))
    columns = -(-across.out // -(-across.out // columns))  # equal parts
    columns = min(-(-columns // 4) * 4, across.out)
    jobs = []
    for q0 in range(0, across.out, columns):
        q1 = min(q0 + columns, across.out)
        jobs.append((q0, q1, list(blocks.cut(q1 - q0, most))))

    def make() -> Compute:
        strips = np.zeros((columns, (rows - 1) * down.stride + r, s, c), filters.dtype)
        a0, a1, _, a3 = strips.strides

        def compute(images: Array, a: int, b: int, out: Array) -> None:
            count = b - a
            for image, sums in zip(images, out, strict=True):
                for q0, q1, parts in jobs:
                    _fill(strips[: q1 - q0], image, windows, (a, b), q0)
                    for start, times, size in parts:
                        left = as_strided(
                            strips[start:],
                            (count, times, size, depth),
                            (down.stride * a1, size * a0, a0, a3),
                        )
                        part = sums[:, q0 + start : q0 + start + times * size]
                        product = part.reshape(count, times, size, k // width, width)
                        np.matmul(left, panels, out=product.transpose(3, 0, 1, 2, 4))

        return compute

    return Kernel(make, rows, own_threads=not cores.small_products())


def _fill(strips: Array, image: Array, windows: Windows, block: tuple[int, int], q0: int) -> None:
    """Copy what the output rows of a block read, for the output columns from q0 on."""
    down, across = windows
    columns, s = strips.shape[0], strips.shape[2]
    top = block[0] * down.stride - down.before
    end = (block[1] - 1) * down.stride - down.before + down.extent
    low, high = needed(down, *block)
    high = max(low, high)  # where all of it is padding
    strips[:, : low - top] = 0
    strips[:, high - top : end - top] = 0
    lines, inside = image[low:high], strips[:, low - top : high - top]
    # Columns whose window lies in the image, between those that reach beyond it.
    first = min(max(-(-across.before // across.stride) - q0, 0), columns)
    last = (across.size + across.before - across.extent) // across.stride + 1 - q0
    last = max(min(last, columns), first)
    if last > first and high > low:
        s0, s1, s2 = lines.strides
        at = (q0 + first) * across.stride - across.before
        inside[first:last] = as_strided(
            lines[:, at:],
            (last - first, high - low, s, image.shape[2]),
            (s1 * across.stride, s0, s1 * across.dilation, s2),
        )
    for q in (*range(first), *range(last, columns)):
        for tap in range(s):
            column = (q0 + q) * across.stride - across.before + tap * across.dilation
            inside[q, :, tap] = lines[:, column] if 0 <= column < across.size else 0
