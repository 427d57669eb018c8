"""Windows copied into a matrix, a block of output rows at a time, and multiplied by the filters.

K. Chellapilla, S. Puri, P. Simard, "High Performance Convolutional Neural Networks for Document
Processing", 2006. With groups, the matrix has one slice a group, and the product is a batch.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided

from convbench.backends.base import Array, Run, Weights
from convbench.backends.methods import blocks
from convbench.backends.methods.blocks import Compute, Kernel, PaddedRows
from convbench.stimulus.spec import PipelineSpec, present

_BLOCK_BYTES = 1 << 20
"""Of the matrix: about what a core's second-level cache holds."""

_PADDED_ROWS = 32
"""Output rows whose input is padded at once: each block copies the rows again that two share."""

_FEWEST_ROWS = 256
"""A product with fewer rows spends its time on packing the filters again for every block."""


def plan(pipeline: PipelineSpec, weights: Weights) -> Run:
    """Plan a pipeline with a convolution."""
    conv = present(pipeline.conv)
    name = "im2col" if conv.groups == 1 else f"im2col in {conv.groups} groups"
    return blocks.plan(pipeline, weights, _kernel(pipeline, weights), name)


def _kernel(pipeline: PipelineSpec, weights: Weights) -> Kernel:
    conv = present(pipeline.conv)
    groups, depth = conv.groups, pipeline.c // conv.groups
    reduction = pipeline.reduction
    n, p, q, k = pipeline.conv_shape
    down, across = pipeline.conv_windows
    each = k // groups
    matrix = present(weights.filters).reshape(reduction, groups, each).swapaxes(0, 1)
    matrix = np.array(matrix, order="C")
    line_bytes = q * groups * reduction * matrix.itemsize
    size = max(-(-_FEWEST_ROWS // q), _BLOCK_BYTES // line_bytes)  # output rows in the matrix
    size = min(size, max(n, 1) * p)
    padded = any(w.before or w.after for w in pipeline.conv_windows)
    rows = max(size, min(p, _PADDED_ROWS if padded else p))

    def make() -> Compute:
        lines_of = PaddedRows(pipeline, weights.dtype, rows)
        workspace = np.empty(groups * size * q * reduction, weights.dtype)

        def compute(images: Array, a: int, b: int, out: Array) -> None:
            lines = lines_of(images, a, b)
            sn, sh, sw, sc = lines.strides
            windows = as_strided(
                lines,
                (groups, len(images), b - a, q, conv.r, conv.s, depth),
                (
                    depth * sc, sn, sh * down.stride, sw * across.stride,
                    sh * down.dilation, sw * across.dilation, sc,
                ),
            )  # fmt: skip
            step = b - a if b - a <= size else -(-(b - a) // -(-(b - a) // size))  # equal parts
            for start in range(0, b - a, step):
                part = windows[:, :, start : start + step]
                left = workspace[: part.size].reshape(part.shape)
                left[...] = part
                pixels = part.size // (groups * reduction)
                sums = out[:, start : start + step].reshape(pixels, groups, each)
                np.matmul(
                    left.reshape(groups, pixels, reduction),
                    matrix,
                    out=sums.swapaxes(0, 1),
                )

        return compute

    return Kernel(make, rows, own_threads=True)
