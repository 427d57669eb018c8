"""Pipelines without a convolution: a bias, a pool, or both."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from convbench.backends.base import Array, Run, Weights
from convbench.backends.methods import blocks
from convbench.backends.methods.blocks import Borrowed, Kernel
from convbench.backends.methods.pooling import combining, divisors
from convbench.backends.methods.windows import is_all
from convbench.stimulus.spec import PipelineSpec, Window, present

_BLOCK_BYTES = 1 << 20
"""Of the input: it is read once a tap, and stays in a core's second-level cache."""

_TINY = 1 << 12
"""Input elements up to which the time is that of calling NumPy."""


def plan(pipeline: PipelineSpec, weights: Weights) -> Run:
    """Plan a pipeline without a convolution."""
    if pipeline.pool is None:
        return Run(partial(np.add, weights.bias), "bias")
    if weights.bias is None and all(map(is_all, pipeline.pool_windows)):
        return Run(_of_all(pipeline, weights.dtype), f"{pipeline.pool.op} of whole images")
    if weights.bias is None and math.prod(pipeline.input_shape) <= _TINY:
        make = partial(_prepared, pipeline, weights.dtype)
        return Run(Borrowed(make), f"separable {pipeline.pool.op} pool")
    line_bytes = pipeline.w * pipeline.c * np.dtype(weights.dtype).itemsize
    kernel = Kernel(lambda: _copy, max(1, _BLOCK_BYTES // line_bytes))
    return blocks.plan(pipeline, weights, kernel)


def _copy(images: Array, a: int, b: int, out: Array) -> None:
    np.copyto(out, images[:, a:b])


def _of_all(pipeline: PipelineSpec, dtype: str) -> Callable[[Array], Array]:
    """One window, which is the image: one reduction; a sum is a product by ones."""
    n, pixels, c = lines = pipeline.n, pipeline.h * pipeline.w, pipeline.c
    shape = pipeline.output_shape
    if present(pipeline.pool).op == "max":
        return lambda x: np.maximum.reduce(x.reshape(lines), 1).reshape(shape)
    ones, by = np.ones((1, pixels), dtype), divisors(pipeline, dtype)

    def average(x: Array) -> Array:
        y: Array = np.empty(shape, dtype)
        sums = y.reshape(n, 1, c)
        np.matmul(ones, x.reshape(lines), out=sums)
        np.divide(sums, by, out=sums)
        return y

    return average


def _prepared(pipeline: PipelineSpec, dtype: str) -> Callable[[Array], Array]:
    """Copy the input between its padding, where the views of all taps are made already."""
    n, h, w, c = pipeline.input_shape
    down, across = pipeline.pool_windows
    combine, neutral = combining(pipeline)
    shape = (n, down.before + h + down.after, across.before + w + across.after, c)
    padded = np.full(shape, neutral, dtype)
    inside = padded[:, down.before : down.before + h, across.before : across.before + w]
    folded = np.empty((n, down.out, *shape[2:]), dtype)
    rows = [padded[:, part] for part in _read(down)]
    columns = [folded[:, :, part] for part in _read(across)]
    by = divisors(pipeline, dtype) if combine is np.add else None
    empty, copyto, divide, output_shape = np.empty, np.copyto, np.divide, pipeline.output_shape

    def run(x: Array) -> Array:
        y = empty(output_shape, dtype)
        copyto(inside, x)
        fold(rows, folded)
        fold(columns, y)
        if by is not None:
            divide(y, by, y)
        return y

    def fold(taps: Sequence[Array], out: Array) -> None:
        if len(taps) == 1:
            copyto(out, taps[0])
            return
        combine(taps[0], taps[1], out=out)
        for tap in taps[2:]:
            combine(out, tap, out=out)

    return run


def _read(window: Window) -> list[slice]:
    """What each tap reads of the padded input."""
    starts = range(0, window.extent, window.dilation)
    length = (window.out - 1) * window.stride + 1
    return [slice(start, start + length, window.stride) for start in starts]
