"""The float64 oracle: the definition of the pipeline, written down as plainly as possible.

It is slow, it is never timed, and it shares no code with any backend. Every function but the first
takes float64 arrays, and all return them (NHWC, HWIO). Called on absolute values, the convolution
gives the magnitude sum S of the error bound in :mod:`convbench.correctness.accuracy`.

Each function computes the whole output, or only what is read at some positions of it. For those the
convolution is computed once for every tap of every pool window: the result is then an array of
(samples, window height, window width, K), which the pool reduces to (samples, 1, 1, K).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from convbench.stimulus.inputs import Inputs
from convbench.stimulus.spec import PipelineSpec, Windows, present

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
    groups = present(pipeline.conv).groups
    n, p, q, k = pipeline.conv_shape
    depth = pipeline.c // groups
    padded = pad(x, pipeline.conv_windows, 0.0)
    y = np.zeros((groups, n * p * q, k // groups))
    by_tap = filters.reshape(-1, depth, groups, k // groups)
    for tap, weight in zip(taps(padded, pipeline.conv_windows), by_tap, strict=True):
        left = tap.reshape(n * p * q, groups, depth)
        y += left.transpose(1, 0, 2) @ weight.transpose(1, 0, 2)
    return y.transpose(1, 0, 2).reshape(n, p, q, k)


def max_pool(pipeline: PipelineSpec, y: Float64, positions: Positions | None = None) -> Float64:
    """Largest element of each window, nan if it holds one; padding is -inf."""
    if positions is not None:
        valid = _valid(pipeline, positions)
        largest: Float64 = np.where(valid, y, -np.inf).max(axis=(1, 2), keepdims=True)
        return largest
    padded = pad(y, pipeline.pool_windows, -np.inf)
    return functools.reduce(np.maximum, taps(padded, pipeline.pool_windows))


def avg_pool(pipeline: PipelineSpec, y: Float64, positions: Positions | None = None) -> Float64:
    """Mean of each window over the elements that count, or its sum over the divisor."""
    if positions is not None:
        total: Float64 = np.where(_valid(pipeline, positions), y, 0.0).sum(
            axis=(1, 2), keepdims=True
        )
        divisors = _divisors(pipeline)[0, positions[1], positions[2]]
        mean: Float64 = total / divisors[:, np.newaxis, np.newaxis]
        return mean
    padded = pad(y, pipeline.pool_windows, 0.0)
    return sum(taps(padded, pipeline.pool_windows)) / _divisors(pipeline)


def _divisors(pipeline: PipelineSpec) -> Float64:
    """What each window is divided by, as (1, P, Q, 1): the elements that count, by pooling ones."""
    pool = present(pipeline.pool)
    if pool.divisor_override is not None:
        return np.full((1, *pipeline.output_shape[1:3], 1), float(pool.divisor_override))
    windows = pipeline.pool_windows
    ones = np.ones((1, *pipeline.conv_shape[1:3], 1))
    padded = pad(ones, windows, 1.0 if pool.count_include_pad else 0.0)
    high, wide = (w.before + w.size + w.counted_after for w in windows)
    padded[:, high:] = padded[:, :, wide:] = 0.0  # what ceil_mode adds is never counted
    return functools.reduce(np.add, taps(padded, windows))


# -- at some positions -----------------------------------------------------------------------------


def _sampled_conv(
    pipeline: PipelineSpec, x: Float64, filters: Float64 | None, positions: Positions
) -> Float64:
    """What the windows at these positions read: (samples, window height, window width, K)."""
    images, *indices = positions
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
    y = patches(x, images, starts, lengths)
    if (conv := pipeline.conv) is not None:
        alone = replace(conv, stride=(strides[0], strides[1]), padding="VALID")
        spec = PipelineSpec(len(images), lengths[0], lengths[1], pipeline.c, alone)
        y = convolve(spec, y, present(filters))
    down, across = (1, 1) if pipeline.pool is None else pipeline.pool.dilation
    return y[:, ::down, ::across]


def patches(
    x: Float64, images: NDArray[np.intp], starts: list[NDArray[np.intp]], lengths: list[int]
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
    cut: Float64 = np.where(inside[..., np.newaxis], taken, 0.0)
    return cut


def _valid(pipeline: PipelineSpec, positions: Positions) -> NDArray[np.bool_]:
    """Which taps of the sampled pool windows lie on the input: (samples, height, width, 1)."""
    rows, columns = conv_positions(pipeline, positions)
    high, wide = pipeline.conv_shape[1:3]
    valid: NDArray[np.bool_] = ((rows >= 0) & (rows < high))[:, :, np.newaxis, np.newaxis] & (
        (columns >= 0) & (columns < wide)
    )[:, np.newaxis, :, np.newaxis]
    return valid


def conv_positions(
    pipeline: PipelineSpec, positions: Positions
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The rows and columns of the convolution's output that samples read: (samples, taps) each.

    Of a pool over the edge some lie outside.
    """
    rows, columns = (index[:, np.newaxis] for index in positions[1:])
    if pipeline.pool is None:
        return rows, columns
    down, across = (
        index * window.stride - window.before + np.arange(window.taps) * window.dilation
        for index, window in zip((rows, columns), pipeline.pool_windows, strict=True)
    )
    return down, across


# -- the whole -------------------------------------------------------------------------------------


def pad(x: Float64, windows: Windows, value: float) -> Float64:
    """Pad height and width by what the windows read."""
    pads = [(window.before, window.after) for window in windows]
    return np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=value)


def taps(padded: Float64, windows: Windows) -> Iterator[Float64]:
    """What each tap of every window reads, row by row, as (N, P, Q, C)."""
    rows, columns = (
        [
            slice(tap * w.dilation, tap * w.dilation + (w.out - 1) * w.stride + 1, w.stride)
            for tap in range(w.taps)
        ]
        for w in windows
    )
    for row, column in itertools.product(rows, columns):
        yield padded[:, row, column]
