"""The pipeline on any library with NumPy's interface, for CuPy; NumPy has its own :mod:`.methods`.

A plan is made once per pipeline, with the weights laid out and the workspaces allocated; what it
returns is called again and again. Work is cut into blocks of output rows, so that what one step
writes is still in cache when the next one reads it.

Every method here is direct: it adds the same products as the definition, in some order, so that
integers whose partial sums are exact give the exact result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from convbench.backends.base import Run
from convbench.stimulus.arrays import Weights
from convbench.stimulus.spec import PipelineSpec, PoolSpec, Shape, Window, Windows, present

Step = Callable[[Any], Any]
Stage = tuple[str, Step]


def build(xp: Any, pipeline: PipelineSpec, weights: Weights, block_bytes: int) -> Run:
    """Plan a pipeline; one of 16 bits is computed in float32, and its output rounded once.

    Parameters
    ----------
    xp : module
        ``numpy``, or a library with its interface.
    weights : Weights
        Holding arrays of that library.
    block_bytes : int
        How large a workspace may grow, about; at least one output row is always computed at once.
    """
    return in_float32(lambda weights: _build(xp, pipeline, weights, block_bytes), weights)


def in_float32(plan: Callable[[Weights], Run], weights: Weights) -> Run:
    """Plan with weights of float32 or float64; 16 bits are widened, and the output rounded once."""
    if (dtype := weights.dtype) in {"float32", "float64"}:
        return plan(weights)
    run = plan(replace(weights.each(lambda array: array.astype("float32")), dtype="float32"))
    return replace(
        run,
        function=lambda x: run(x.astype("float32")).astype(dtype),
        algorithm=f"{run.algorithm} in float32",
    )


def _build(xp: Any, pipeline: PipelineSpec, weights: Weights, block_bytes: int) -> Run:
    steps: list[Stage] = []
    if pipeline.conv is not None:
        steps.append(_conv(xp, pipeline, weights, block_bytes))
    elif pipeline.bias:
        steps.append(("bias", lambda x: x + weights.bias))
    if pipeline.pool is not None:
        steps.append(_pool(xp, pipeline, pipeline.pool, weights.dtype, block_bytes))
    names, functions = zip(*steps, strict=True)
    if len(functions) == 1:
        return Run(functions[0], names[0])
    first, second = functions
    return Run(lambda x: second(first(x)), " + ".join(names))


# -- convolution -----------------------------------------------------------------------------------


def _conv(xp: Any, pipeline: PipelineSpec, weights: Weights, block_bytes: int) -> Stage:
    conv = present(pipeline.conv)
    padded = any(w.before or w.after for w in pipeline.conv_windows)
    if pipeline.depthwise:
        return _depthwise(xp, pipeline, weights, block_bytes)
    if (conv.r, conv.s, conv.groups) == (1, 1, 1) and not padded:
        return _pointwise(xp, pipeline, weights, block_bytes)
    return _im2col(xp, pipeline, weights, block_bytes)


def _pointwise(xp: Any, pipeline: PipelineSpec, weights: Weights, block_bytes: int) -> Stage:
    """1x1 filters: the pixels are the rows of a matrix already."""
    rows, columns = (_taken(window, 0, 0, window.out) for window in pipeline.conv_windows)
    matrix = xp.ascontiguousarray(present(weights.filters).reshape(pipeline.c, -1))
    pixels = math.prod(pipeline.conv_shape[:3])
    line_bytes = (pipeline.c + matrix.shape[1]) * matrix.itemsize
    lines = max(_FEWEST_GEMM_ROWS, block_bytes // line_bytes)

    def run(x: Any) -> Any:
        y = xp.empty(pipeline.conv_shape, weights.dtype)
        left = xp.ascontiguousarray(x[:, rows, columns]).reshape(pixels, pipeline.c)
        out = y.reshape(pixels, -1) if pixels else y
        for start in range(0, pixels, lines):
            part = out[start : start + lines]
            xp.matmul(left[start : start + lines], matrix, out=part)
            if weights.bias is not None:
                part += weights.bias
        return y

    return "1x1 GEMM", run


def _im2col(xp: Any, pipeline: PipelineSpec, weights: Weights, block_bytes: int) -> Stage:
    """Copy the windows of a block of output rows into a matrix, and multiply it by the filters.

    With groups, the matrix has one slice a group, and the product is a batch of products.
    """
    conv = present(pipeline.conv)
    groups, depth = conv.groups, pipeline.c // conv.groups
    n, p, q, k = pipeline.conv_shape
    pad = _pad(xp, pipeline.input_shape, pipeline.conv_windows, weights.dtype, 0.0)
    matrix = xp.ascontiguousarray(
        present(weights.filters).reshape(pipeline.reduction, groups, k // groups).swapaxes(0, 1)
    )
    line_bytes = q * groups * pipeline.reduction * matrix.itemsize
    fewest = -(-_FEWEST_GEMM_ROWS // q)  # output rows, each of them q rows of the matrix
    cut = list(blocks(n, p, max(fewest, block_bytes // line_bytes)))
    largest = max(((n1 - n0) * (p1 - p0) for n0, n1, p0, p1 in cut), default=0)
    workspace = xp.empty(groups * largest * q * pipeline.reduction, weights.dtype)
    bias = None if weights.bias is None else weights.bias.reshape(groups, k // groups)

    def run(x: Any) -> Any:
        y = xp.empty(pipeline.conv_shape, weights.dtype)
        windows = _window_view(xp, pad(x), pipeline.conv_windows)
        windows = windows.reshape(*windows.shape[:5], groups, depth).transpose(5, 0, 1, 2, 3, 4, 6)
        for n0, n1, p0, p1 in cut:
            part = windows[:, n0:n1, p0:p1]
            pixels = (n1 - n0) * (p1 - p0) * q
            left = workspace[: part.size].reshape(groups, pixels, pipeline.reduction)
            left.reshape(part.shape)[...] = part
            out = y[n0:n1, p0:p1].reshape(pixels, groups, k // groups)
            xp.matmul(left, matrix, out=out.swapaxes(0, 1))
            if bias is not None:
                out += bias
        return y

    return ("im2col" if groups == 1 else f"im2col in {groups} groups"), run


def _depthwise(xp: Any, pipeline: PipelineSpec, weights: Weights, block_bytes: int) -> Stage:
    """One filter a channel (or a few): multiply and add tap by tap; there is no matrix in it."""
    conv = present(pipeline.conv)
    n, p, q, k = pipeline.conv_shape
    rows, columns = pipeline.conv_windows
    multiplier = k // pipeline.c
    pad = _pad(xp, pipeline.input_shape, pipeline.conv_windows, weights.dtype, 0.0)
    # Repeated along a row of the output: whole rows are then one long contiguous loop, instead of
    # one short loop over the channels for every pixel.
    taps = xp.ascontiguousarray(
        xp.broadcast_to(
            present(weights.filters).reshape(conv.r, conv.s, 1, pipeline.c, multiplier),
            (conv.r, conv.s, q, pipeline.c, multiplier),
        )
    )
    bias = None if weights.bias is None else weights.bias.reshape(pipeline.c, multiplier)
    cut = list(blocks(n, p, block_bytes // (2 * q * k * taps.itemsize)))

    def run(x: Any) -> Any:
        y = xp.empty((n, p, q, pipeline.c, multiplier), weights.dtype)
        padded = pad(x)[..., None]
        for n0, n1, p0, p1 in cut:
            out = y[n0:n1, p0:p1]
            for r in range(conv.r):
                for s in range(conv.s):
                    tap = padded[n0:n1, _taken(rows, r, p0, p1), _taken(columns, s, 0, q)]
                    if (r, s) == (0, 0):
                        xp.multiply(tap, taps[r, s], out=out)
                    else:
                        out += tap * taps[r, s]
            if bias is not None:
                out += bias
        return y.reshape(n, p, q, k)

    return "depthwise tap sum", run


# -- pooling ---------------------------------------------------------------------------------------


def _pool(xp: Any, pipeline: PipelineSpec, pool: PoolSpec, dtype: str, block_bytes: int) -> Stage:
    """Both poolings are separable: along the height first, then along the width."""
    n, p, q, k = pipeline.output_shape
    rows, columns = pipeline.pool_windows
    combine, neutral = (xp.maximum, -math.inf) if pool.op == "max" else (xp.add, 0.0)
    pad = _pad(xp, pipeline.conv_shape, pipeline.pool_windows, dtype, neutral)
    divisors = None
    if pool.op == "avg":
        high, wide = (xp.asarray(axis, dtype) for axis in pipeline.pool_divisors)
        divisors = (high[:, None] * wide)[:, :, None]
    width = columns.before + columns.size + columns.after
    cut = list(blocks(n, p, block_bytes // (2 * width * k * xp.dtype(dtype).itemsize)))

    def run(x: Any) -> Any:
        y = xp.empty(pipeline.output_shape, dtype)
        padded = pad(x)
        for n0, n1, p0, p1 in cut:
            part = _fold(
                combine, [padded[n0:n1, _taken(rows, r, p0, p1)] for r in range(rows.taps)]
            )
            taps = [part[:, :, _taken(columns, s, 0, q)] for s in range(columns.taps)]
            out = y[n0:n1, p0:p1]
            if len(taps) == 1:
                out[...] = taps[0]
            else:
                combine(_fold(combine, taps[:-1]), taps[-1], out=out)
            if divisors is not None:
                out /= divisors[p0:p1]
        return y

    return f"separable {pool.op} pool", run


def _fold(combine: Any, taps: list[Any]) -> Any:
    """Combine the taps pairwise from the left; with one tap there is nothing to do, nor to copy."""
    if len(taps) == 1:
        return taps[0]
    out = combine(taps[0], taps[1])
    for tap in taps[2:]:
        combine(out, tap, out=out)
    return out


# -- windows ---------------------------------------------------------------------------------------

_FEWEST_GEMM_ROWS = 256
"""A product with fewer rows spends its time on laying out the filters again for every block."""


def blocks(n: int, p: int, rows: int) -> Iterator[tuple[int, int, int, int]]:
    """Cut N images of P output rows into blocks of about `rows`: (n0, n1, p0, p1).

    A block is some whole images, or a part of one.
    """
    rows = max(rows, 1)
    if rows >= p:
        images = rows // p
        for n0 in range(0, n, images):
            yield n0, min(n0 + images, n), 0, p
        return
    rows = -(-p // -(-p // rows))  # equal parts, rather than a small one at the end
    for image in range(n):
        for p0 in range(0, p, rows):
            yield image, image + 1, p0, min(p0 + rows, p)


def _pad(xp: Any, shape: Shape, windows: Windows, dtype: str, value: float) -> Step:
    """Put the input into a workspace whose border holds `value` already."""
    rows, columns = windows
    if not any(w.before or w.after for w in windows):
        return lambda x: x
    n, h, w, c = shape
    workspace = xp.full(
        (n, rows.before + h + rows.after, columns.before + w + columns.after, c), value, dtype
    )
    inside = workspace[:, rows.before : rows.before + h, columns.before : columns.before + w]

    def pad(x: Any) -> Any:
        inside[...] = x
        return workspace

    return pad


def _window_view(xp: Any, padded: Any, windows: Windows) -> Any:
    """All windows as a view of (N, P, Q, R, S, C), without a copy."""
    (rows, columns), (sn, sh, sw, sc) = windows, padded.strides
    return xp.lib.stride_tricks.as_strided(
        padded,
        (padded.shape[0], rows.out, columns.out, rows.taps, columns.taps, padded.shape[3]),
        (sn, sh * rows.stride, sw * columns.stride, sh * rows.dilation, sw * columns.dilation, sc),
    )


def _taken(window: Window, tap: int, first: int, end: int) -> slice:
    """The positions that a tap of the windows first to end reads, along one axis."""
    start, stride = tap * window.dilation, window.stride
    return slice(start + first * stride, start + (end - 1) * stride + 1, stride)
