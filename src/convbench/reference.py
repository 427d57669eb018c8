"""The float64 oracle: the definition of the pipeline, written down as plainly as possible.

It is slow, it is never timed, and it shares no code with any backend. Every function takes and
returns float64 arrays (NHWC, HWIO). Called on absolute values, :func:`convolve` gives the magnitude
sum S of the error bound in :mod:`convbench.accuracy`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convbench.spec import PipelineSpec, Window

Float64 = NDArray[np.float64]


def convolve(pipeline: PipelineSpec, x: Float64, filters: Float64) -> Float64:
    """Sum over the taps of the filter: y[n,p,q,k] = sum x[n, p*stride + r*dilation - pad, ...] w.

    Parameters
    ----------
    x : array of shape (N, H, W, C)
    filters : array of shape (R, S, C // groups, K)

    Returns
    -------
    array of shape (N, P, Q, K)
    """
    assert pipeline.conv is not None
    groups = pipeline.conv.groups
    n, p, q, k = pipeline.conv_shape
    depth = pipeline.c // groups
    padded = _pad(x, pipeline.conv_windows, 0.0)
    y = np.zeros((groups, n * p * q, k // groups))
    for r in range(pipeline.conv.r):
        for s in range(pipeline.conv.s):
            tap = _tap(padded, pipeline.conv_windows, r, s).reshape(n * p * q, groups, depth)
            weight = filters[r, s].reshape(depth, groups, k // groups)
            y += tap.transpose(1, 0, 2) @ weight.transpose(1, 0, 2)
    return y.transpose(1, 0, 2).reshape(n, p, q, k)


def max_pool(pipeline: PipelineSpec, y: Float64) -> Float64:
    """Largest element of each window; padding is -inf."""
    assert pipeline.pool is not None
    padded = _pad(y, pipeline.pool_windows, -np.inf)
    result = np.full(pipeline.output_shape, -np.inf)
    for r in range(pipeline.pool.window[0]):
        for s in range(pipeline.pool.window[1]):
            result = np.maximum(result, _tap(padded, pipeline.pool_windows, r, s))
    return result


def avg_pool(pipeline: PipelineSpec, y: Float64) -> Float64:
    """Mean of each window over the elements that count."""
    pool = pipeline.pool
    assert pool is not None
    counts = np.ones((1, *y.shape[1:3], 1))
    if pool.count_include_pad:
        rows, columns = pipeline.pool_windows
        asked = ((rows.before, rows.counted_after), (columns.before, columns.counted_after))
        counts = np.pad(counts, ((0, 0), *asked, (0, 0)), constant_values=1.0)
        counts = _pad(counts, pipeline.pool_windows, 0.0, have=asked)
    else:
        counts = _pad(counts, pipeline.pool_windows, 0.0)
    padded = _pad(y, pipeline.pool_windows, 0.0)
    total = np.zeros(pipeline.output_shape)
    number = np.zeros((1, *pipeline.output_shape[1:3], 1))
    for r in range(pool.window[0]):
        for s in range(pool.window[1]):
            total += _tap(padded, pipeline.pool_windows, r, s)
            number += _tap(counts, pipeline.pool_windows, r, s)
    return total / number


def _pad(
    x: Float64,
    windows: tuple[Window, Window],
    value: float,
    have: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0)),
) -> Float64:
    """Pad height and width by what the windows read, less what is there already."""
    pads = [(w.before - b, w.after - a) for w, (b, a) in zip(windows, have, strict=True)]
    return np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=value)


def _tap(padded: Float64, windows: tuple[Window, Window], r: int, s: int) -> Float64:
    """What tap (r, s) of every window reads, as (N, P, Q, C)."""
    rows, columns = (
        slice(tap * w.dilation, tap * w.dilation + (w.out - 1) * w.stride + 1, w.stride)
        for w, tap in zip(windows, (r, s), strict=True)
    )
    return padded[:, rows, columns]
