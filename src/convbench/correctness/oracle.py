"""The float64 oracle: the definition of the pipeline, written down as plainly as possible.

It is slow, it is never timed, and it shares no code with any backend. Every function but the first
takes float64 arrays, and all return them (NHWC, HWIO). Called on absolute values, the convolution
gives the magnitude sum S of the error bound in :mod:`convbench.correctness.accuracy`.

Each function computes the whole output, or only what is read at some positions of it. For those the
convolution is computed once for every tap of every pool window: the result is then an array of
(samples, window height, window width, K), which the pool reduces to (samples, 1, 1, K).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from convbench.stimulus.inputs import Inputs
from convbench.stimulus.spec import ConvSpec, PipelineSpec, PoolSpec, Windows

if TYPE_CHECKING:
    from convbench.correctness.sample import Positions

Float64 = NDArray[np.float64]


def compute(pipeline: PipelineSpec, inputs: Inputs, positions: Positions | None = None) -> Float64:
    """Compute all stages on inputs of any format."""
    exact = inputs.in_float64()
    with np.errstate(invalid="ignore", over="ignore"):  # nan - nan and 0 * inf are results here
        y = conv_and_bias(pipeline, exact, positions)
        if pipeline.pool is None:
            return y
        return (max_pool if pipeline.pool.op == "max" else avg_pool)(pipeline, y, positions)


def conv_and_bias(
    pipeline: PipelineSpec, inputs: Inputs, positions: Positions | None = None
) -> Float64:
    """Compute the first two stages, as far as they are present, on inputs in float64."""
    y, weights = inputs.x, inputs.weights
    if positions is not None:
        y = _sampled_conv(pipeline, y, weights.filters, positions)
    elif weights.filters is not None:
        y = convolve(pipeline, y, weights.filters)
    return y if weights.bias is None else y + weights.bias


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


def max_pool(pipeline: PipelineSpec, y: Float64, positions: Positions | None = None) -> Float64:
    """Largest element of each window, nan if it holds one; padding is -inf."""
    if positions is not None:
        valid = _valid(pipeline, positions)
        largest: Float64 = np.where(valid, y, -np.inf).max(axis=(1, 2), keepdims=True)
        return largest
    assert pipeline.pool is not None
    padded = _pad(y, pipeline.pool_windows, -np.inf)
    result = np.full(pipeline.output_shape, -np.inf)
    for r in range(pipeline.pool.window[0]):
        for s in range(pipeline.pool.window[1]):
            result = np.maximum(result, _tap(padded, pipeline.pool_windows, r, s))
    return result


def avg_pool(pipeline: PipelineSpec, y: Float64, positions: Positions | None = None) -> Float64:
    """Mean of each window over the elements that count."""
    if positions is not None:
        total: Float64 = np.where(_valid(pipeline, positions), y, 0.0).sum(
            axis=(1, 2), keepdims=True
        )
        counts = _counts(pipeline)[0, positions[1], positions[2]]
        mean: Float64 = total / counts[:, np.newaxis, np.newaxis]
        return mean
    assert pipeline.pool is not None
    padded = _pad(y, pipeline.pool_windows, 0.0)
    total = np.zeros(pipeline.output_shape)
    for r in range(pipeline.pool.window[0]):
        for s in range(pipeline.pool.window[1]):
            total += _tap(padded, pipeline.pool_windows, r, s)
    return total / _counts(pipeline)


def _counts(pipeline: PipelineSpec) -> Float64:
    """How many elements each window counts, as (1, P, Q, 1): by pooling ones."""
    pool, windows = pipeline.pool, pipeline.pool_windows
    assert pool is not None
    ones = np.ones((1, *pipeline.conv_shape[1:3], 1))
    have = ((0, 0), (0, 0))
    if pool.count_include_pad:
        rows, columns = windows
        have = ((rows.before, rows.counted_after), (columns.before, columns.counted_after))
        ones = np.pad(ones, ((0, 0), *have, (0, 0)), constant_values=1.0)
    padded = _pad(ones, windows, 0.0, have)
    taps = [(r, s) for r in range(pool.window[0]) for s in range(pool.window[1])]
    counts: Float64 = np.sum([_tap(padded, windows, r, s) for r, s in taps], axis=0)
    return counts


# -- at some positions -----------------------------------------------------------------------------


def _sampled_conv(
    pipeline: PipelineSpec, x: Float64, filters: Float64 | None, positions: Positions
) -> Float64:
    """What the windows at these positions read: (samples, window height, window width, K)."""
    images, *indices = positions
    pool = pipeline.pool or PoolSpec("max", (1, 1))
    # The first pixel that is read of each axis, and how many, convolution and pool together.
    starts, lengths, strides = [], [], []
    for axis, index in enumerate(indices):
        start, length, stride = index, 1, 1
        if pipeline.pool is not None:
            window = pipeline.pool_windows[axis]
            start, length = index * window.stride - window.before, window.extent
        if pipeline.conv is not None:
            window = pipeline.conv_windows[axis]
            start = start * window.stride - window.before
            length, stride = (length - 1) * window.stride + window.extent, window.stride
        starts.append(start)
        lengths.append(length)
        strides.append(stride)
    patches = _patches(x, images, starts, lengths)
    if (conv := pipeline.conv) is not None:
        assert filters is not None
        alone = ConvSpec(
            conv.k, conv.r, conv.s, (strides[0], strides[1]), conv.dilation, conv.groups
        )
        patches = convolve(
            PipelineSpec(len(images), lengths[0], lengths[1], pipeline.c, alone), patches, filters
        )
    return patches[:, :: pool.dilation[0], :: pool.dilation[1]]


def _patches(
    x: Float64,
    images: NDArray[np.intp],
    starts: list[NDArray[np.intp]],
    lengths: list[int],
) -> Float64:
    """Cut a patch out of an image for each sample; what lies outside is zero."""
    rows, columns = (
        start[:, np.newaxis] + np.arange(length)
        for start, length in zip(starts, lengths, strict=True)
    )
    inside = ((rows >= 0) & (rows < x.shape[1]))[:, :, np.newaxis] & (
        (columns >= 0) & (columns < x.shape[2])
    )[:, np.newaxis]
    taken = x[
        images[:, np.newaxis, np.newaxis],
        rows.clip(0, x.shape[1] - 1)[:, :, np.newaxis],
        columns.clip(0, x.shape[2] - 1)[:, np.newaxis],
    ]
    patches: Float64 = np.where(inside[..., np.newaxis], taken, 0.0)
    return patches


def _valid(pipeline: PipelineSpec, positions: Positions) -> NDArray[np.bool_]:
    """Which taps of the sampled pool windows lie on the input: (samples, height, width, 1)."""
    rows, columns = (
        index[:, np.newaxis] * window.stride - window.before
        + np.arange(window.taps) * window.dilation
        for index, window in zip(positions[1:], pipeline.pool_windows, strict=True)
    )  # fmt: skip
    high, wide = pipeline.conv_shape[1:3]
    valid: NDArray[np.bool_] = ((rows >= 0) & (rows < high))[:, :, np.newaxis, np.newaxis] & (
        (columns >= 0) & (columns < wide)
    )[:, np.newaxis, :, np.newaxis]
    return valid


# -- the whole -------------------------------------------------------------------------------------


def _pad(
    x: Float64,
    windows: Windows,
    value: float,
    have: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0)),
) -> Float64:
    """Pad height and width by what the windows read, less what is there already."""
    pads = [(w.before - b, w.after - a) for w, (b, a) in zip(windows, have, strict=True)]
    return np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=value)


def _tap(padded: Float64, windows: Windows, r: int, s: int) -> Float64:
    """What tap (r, s) of every window reads, as (N, P, Q, C)."""
    rows, columns = (
        slice(tap * w.dilation, tap * w.dilation + (w.out - 1) * w.stride + 1, w.stride)
        for w, tap in zip(windows, (r, s), strict=True)
    )
    return padded[:, rows, columns]
