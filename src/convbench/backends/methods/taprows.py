"""One row of a matrix for each tap, which is a long run of the image; for few input channels.

The matrix of im2col, turned: what a tap reads for a row of outputs is copied as one line, where a
window would be copied in many short runs. BLAS takes the matrix turned back.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided

from convbench.backends.base import Array, Run, Weights
from convbench.backends.methods import blocks, cores
from convbench.backends.methods.blocks import Compute, Kernel, PaddedRows
from convbench.stimulus.spec import PipelineSpec

_BLOCK_BYTES = 1 << 20
"""Of the matrix: about what a core's second-level cache holds."""


def plan(pipeline: PipelineSpec, weights: Weights) -> Run:
    """Plan a pipeline with a convolution."""
    kernel = blocks.in_groups(pipeline, weights, _kernel)
    return blocks.plan(pipeline, weights, kernel, "tap rows")


def _kernel(pipeline: PipelineSpec, filters: Array, bias: Array | None) -> Kernel:
    r, s, c, k = filters.shape
    down, across = pipeline.conv_windows
    q, depth = across.out, r * s * c
    # The bias is a row of ones more: with so few products an output, a pass of its own counts.
    extra = 0 if bias is None else 1
    matrix = np.empty((depth + extra, k), filters.dtype)
    matrix[:depth] = filters.reshape(depth, k)
    if bias is not None:
        matrix[depth] = bias
    rows = max(1, min(_BLOCK_BYTES // (q * len(matrix) * filters.itemsize), down.out))

    def make() -> Compute:
        padded = PaddedRows(pipeline, filters.dtype.name, rows)
        workspace = np.ones((len(matrix), rows, q), filters.dtype)

        def compute(images: Array, a: int, b: int, out: Array) -> None:
            count = b - a
            for image, sums in zip(images, out, strict=True):
                lines = padded(image[None], a, b)[0]
                sh, sw, sc = lines.strides
                workspace[:depth].reshape(r, s, c, rows, q)[..., :count, :] = as_strided(
                    lines,
                    (r, s, c, count, q),
                    (
                        sh * down.dilation,
                        sw * across.dilation,
                        sc,
                        sh * down.stride,
                        sw * across.stride,
                    ),
                )
                np.matmul(workspace[:, :count].transpose(1, 2, 0), matrix, out=sums)

        return compute

    return Kernel(make, rows, own_threads=not cores.small_products(), biased=True)
