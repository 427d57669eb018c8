"""Filters of 1x1, or as large as the image: the input is the matrix.

Small products read each pixel once for every panel of output channels, so that a block of pixels is
copied to where it stays in cache, and a column of ones beside it adds the bias.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from convbench.backends.base import Array, Hole, Run, Weights
from convbench.backends.methods import blocks, cores
from convbench.backends.methods.blocks import Compute, Kernel
from convbench.backends.methods.windows import is_all
from convbench.stimulus.spec import ConvSpec, PipelineSpec, Shape, present

_BLOCK_BYTES = 1 << 20
"""Of pixels and sums at once: about what a core's second-level cache holds."""

_TINY = 1 << 16
"""Operations below which there is nothing to gain from blocks."""

_FEWEST_LARGE = 256
"""Pixels in a large product: with fewer it spends its time on packing the filters."""

_FEWEST, _MOST = 12, 256
"""Pixels in a small product: with fewer it waits for the filters, with more there is no gain."""


def suits(pipeline: PipelineSpec) -> bool:
    """Whether the pixels, or the images, are the rows of a matrix already."""
    conv = pipeline.conv
    if conv is None or conv.groups > 1:
        return False
    if all(map(is_all, pipeline.conv_windows)):
        return True
    padded = any(w.before or w.after for w in pipeline.conv_windows)
    return conv.window == (1, 1) and not padded


HOLE = Hole(
    "other filters than 1x1 or as large as the image",
    "their windows overlap, so that the input is not the matrix that they multiply",
    lambda pipeline, dtype: pipeline.conv is not None and not suits(pipeline),  # noqa: ARG005
)


def plan(pipeline: PipelineSpec, weights: Weights) -> Run:
    """Plan a pipeline that :func:`suits`."""
    conv = present(pipeline.conv)
    whole = conv.window != (1, 1)
    name = "GEMM of images" if whole else "1x1 GEMM"
    n, p, q, k = shape = pipeline.conv_shape
    matrix = present(weights.filters).reshape(-1, k)
    if pipeline.pool is not None or n == 0 or not (whole or conv.stride == (1, 1)):
        return blocks.plan(pipeline, weights, _kernel(pipeline, matrix, weights.bias), name)
    if pipeline.flops < _TINY:
        return Run(_at_once(matrix.copy(), weights.bias, shape), name)
    # All pixels of all images, one below the other.
    flat = PipelineSpec(1, n * p * q, 1, len(matrix), ConvSpec(k, 1, 1), pipeline.bias)
    run = blocks.plan(flat, weights, _kernel(flat, matrix, weights.bias), name).function
    return Run(lambda x: run(x.reshape(flat.input_shape)).reshape(shape), name)


def _at_once(matrix: Array, bias: Array | None, shape: Shape) -> Callable[[Array], Array]:
    """Where the time is that of calling NumPy."""
    matmul, add, pixels = np.matmul, np.add, (-1, len(matrix))

    def run(x: Array) -> Array:
        y = matmul(x.reshape(pixels), matrix)
        if bias is not None:
            add(y, bias, y)
        reshaped: Array = y.reshape(shape)
        return reshaped

    return run


def _kernel(pipeline: PipelineSpec, matrix: Array, bias: Array | None) -> Kernel:
    depth, k = matrix.shape
    down, across = pipeline.conv_windows
    whole = down.taps > 1 or across.taps > 1
    width = blocks.panel(k)
    most = min(cores.SMALL // (width * (depth + 1)), _MOST)
    small = cores.small_products() and most >= _FEWEST and k >= _FEWEST
    line_bytes = across.out * (depth + k) * matrix.itemsize
    lines = max(_BLOCK_BYTES // line_bytes, -(-_FEWEST_LARGE // across.out))
    biased = False
    if small and bias is not None:
        matrix, biased = np.vstack([matrix, bias]), True
    wide = len(matrix)
    panels = matrix.reshape(wide, k // width, width).swapaxes(0, 1)[:, None] if small else matrix
    panels = np.array(panels, order="C")
    columns = slice(None, (across.out - 1) * across.stride + 1, across.stride)

    def make() -> Compute:
        workspace = np.ones((lines * across.out if small else 0, wide), panels.dtype)

        def compute(images: Array, a: int, b: int, out: Array) -> None:
            sums = out.reshape(-1, k)
            if whole:
                pixels = images.reshape(-1, 1, 1, depth)
            else:
                rows = slice(a * down.stride, (b - 1) * down.stride + 1, down.stride)
                pixels = images[:, rows, columns]
            if not small:
                np.matmul(pixels.reshape(-1, depth), panels, out=sums)  # copied if strided
                return
            left = workspace[: len(sums)]
            left[:, :depth].reshape(pixels.shape)[...] = pixels
            blocks.multiply(left, panels, sums, most)

        return compute

    return Kernel(make, lines, own_threads=not small, biased=biased)
