"""Winograd's minimal filtering F(m x m, 3 x 3): fewer multiplications, and an error law of its own.

A tile of m x m outputs of a 3x3 convolution at stride 1 reads (m + 2) x (m + 2) inputs d. With the
matrices of :data:`_TRANSFORMS` (A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural
Networks", CVPR 2016, section 4) and the filters g it is

    Y = A^T [sum over the channels of (G g G^T) (B^T d B)] A,

where the product in the sum is that of elements: (m + 2)^2 multiplications for 9 m^2, 2.25 times
fewer with m = 2 and 4 times fewer with m = 4. Summed over the channels, each of the (m + 2)^2
points is a matrix product of tiles x C by C x K. A transform of all tiles of a block is a product,
too, by the Kronecker square of its matrix.

The transforms add numbers that cancel in the end, so that the results are less accurate than those
of a direct method: :mod:`convbench.correctness.schemes` has the bound. And they read a whole tile:
an inf or nan in it reaches all of its outputs.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.lib.stride_tricks import as_strided

from convbench.backends.base import Hole, HoleKind, Run
from convbench.backends.methods import blocks, cores
from convbench.backends.methods.blocks import Compute, Kernel
from convbench.stimulus.arrays import Array, Weights
from convbench.stimulus.spec import PipelineSpec, present

_TRANSFORMS: dict[int, tuple[list[list[float]], ...]] = {
    2: (
        [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]],
        [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
        [[1, 1, 1, 0], [0, 1, -1, -1]],
    ),
    4: (
        [
            [4, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ],
        [
            [1 / 4, 0, 0],
            [-1 / 6, -1 / 6, -1 / 6],
            [-1 / 6, 1 / 6, -1 / 6],
            [1 / 24, 1 / 12, 1 / 6],
            [1 / 24, -1 / 12, 1 / 6],
            [0, 0, 1],
        ],
        [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    ),
}
"""B^T, G and A^T, by m."""

_FILTER_BYTES = 16 << 20
"""Where the transformed filters of m = 4 are larger, each block of tiles waits for them: m = 2 has
16 points for 36, and is faster in spite of its multiplications, as on the 512 channels of
vgg16.conv5_3."""

_BLOCK_BYTES = 2 << 20
"""How large the points of a block may be: smaller ones read the filters too often, and larger ones
do not stay in the cache. Measured: half of it is 7 % slower."""

_PANEL = 64
"""Output channels of one product, at most."""

_LANES = 512
"""Columns of one product of a transform: with the 36 x 36 elements of m = 4 it is a small one."""


def applies(pipeline: PipelineSpec) -> bool:
    """Whether it is a dense 3x3 convolution without stride and dilation."""
    conv = pipeline.conv
    if conv is None:
        return False
    return (conv.window, conv.stride, conv.dilation, conv.groups) == ((3, 3), (1, 1), (1, 1), 1)


HOLES = (
    Hole(
        "all but dense 3x3 convolutions without stride and dilation",
        "Winograd's method is for those",
        lambda pipeline, _: not applies(pipeline),
    ),
    Hole(
        "nan and inf",
        "Winograd's transforms spread them over a tile of outputs",
        kind=HoleKind.DEVIATES,
        fills=("nonfinite",),
    ),
)
"""Of every variant that computes so."""


def plan(pipeline: PipelineSpec, weights: Weights, m: int | None = None) -> Run:
    """Transform and pack the filters.

    Parameters
    ----------
    pipeline : PipelineSpec
        One that the method :func:`applies` to.
    m : 2 or 4, optional
        Outputs of a tile along an axis; by default 4, but 2 where the transformed filters of 4 are
        larger than `_FILTER_BYTES`.
    """
    if m is None:
        points = 36 * pipeline.c * pipeline.conv_shape[3]
        m = 2 if points * np.dtype(weights.dtype).itemsize > _FILTER_BYTES else 4
    scheme = f"winograd F({m}x{m},3x3)"
    return replace(
        blocks.plan(pipeline, weights, _kernel(pipeline, weights, m), scheme), scheme=scheme
    )


def _kernel(pipeline: PipelineSpec, weights: Weights, m: int) -> Kernel:
    """Convolution and bias, by blocks of tiles whose points stay in the cache."""
    dtype, points = np.dtype(weights.dtype), (m + 2) ** 2
    n, p, q, k = pipeline.conv_shape
    high, wide = -(-p // m), -(-q // m)  # in tiles
    into, filters, out_of = (np.kron(matrix, matrix) for matrix in _TRANSFORMS[m])
    into, out_of = into.astype(dtype), out_of.astype(dtype)
    packed = _packed(filters, weights)
    panels, _, _, c, width = packed.shape
    bias = None if weights.bias is None else weights.bias.reshape(panels, width).copy()
    down = max(1, _BLOCK_BYTES // (points * wide * (c + k) * dtype.itemsize))  # rows of tiles
    images = min(max(down // high, 1), max(n, 1))
    down = min(down, high)

    def make() -> Compute:
        most = images * min(down + 1, high)  # a block may begin and end within a row of tiles
        padded = np.zeros((most * m + 2 * images, wide * m + 2, c), dtype)
        sizes = (points * c, points * c, points * k, m * m * k)
        spaces = [np.empty((size, most * wide), dtype) for size in sizes]

        def compute(x: Array, a: int, b: int, out: Array) -> None:
            # Tiles begin at multiples of m, whatever the block: the bound is that of those.
            before = a % m
            shape = (len(x), -(-(b - a + before) // m), wide)
            tiles, lines = math.prod(shape), shape[1] * m + 2
            d, v, products, sums = (each.reshape(-1)[: len(each) * tiles] for each in spaces)
            rows = padded[: len(x) * lines].reshape(len(x), lines, *padded.shape[1:])
            read = _tiles(pipeline, x, rows, a - before, m)
            d.reshape(read.shape)[...] = read
            _transform(into, d, v)
            v = v.reshape(points, tiles, c)
            products = products.reshape(points, panels, tiles, width)
            _multiply(v, packed, products)
            _transform(out_of, products, sums)
            parts = sums.reshape(m, m, panels, *shape, width)
            y = out.reshape(*out.shape[:3], panels, width)
            for row, column in np.ndindex(m, m):
                place = y[:, (row - before) % m :: m, column::m]
                part = parts[row, column].transpose(1, 2, 3, 0, 4)[:, row < before :]
                part = part[:, : place.shape[1], : place.shape[2]]
                if bias is None:
                    place[...] = part
                else:
                    np.add(part, bias, out=place)

        return compute

    return Kernel(make, images * p if down == high else down * m, biased=True)


def _packed(transform: Array, weights: Weights) -> Array:
    """The transformed filters as contiguous panels: (panels, points, 1, C, width)."""
    filters = present(weights.filters)
    c, k = filters.shape[2:]
    width = next((width for width in range(_PANEL, _PANEL // 2, -1) if k % width == 0), k)
    # In float64, and rounded once: they are what every sum has in common.
    exact = transform @ filters.reshape(9, c * k).astype("float64")
    panels = exact.reshape(len(transform), 1, c, k // width, width).transpose(3, 0, 1, 2, 4)
    return np.ascontiguousarray(panels, weights.dtype)


def _tiles(pipeline: PipelineSpec, x: Array, padded: Array, row: int, m: int) -> Array:
    """Pad the rows that a block reads, and see its tiles in them.

    Parameters
    ----------
    x : array of shape (images, H, W, C)
    padded : array of shape (images, rows of tiles * m + 2, tiles * m + 2, C)
        A workspace, whose columns of padding are zero.
    row : int
        Of the output, where the block begins.

    Returns
    -------
    array of shape (m + 2, m + 2, images, rows of tiles, tiles, C)
    """
    top, left = (window.before for window in pipeline.conv_windows)
    first, high = row - top, padded.shape[1]
    begin = min(max(-first, 0), high)
    end = min(max(pipeline.h - first, begin), high)
    padded[:, :begin] = padded[:, end:] = 0
    padded[:, begin:end, left : left + pipeline.w] = x[:, first + begin : first + end]
    images, down, across, c = padded.shape
    shape = (m + 2, m + 2, images, (down - 2) // m, (across - 2) // m, c)
    one, row_step, step, channel = padded.strides
    strides = (row_step, step, one, m * row_step, m * step, channel)
    return as_strided(padded, shape, strides)


def _transform(matrix: Array, points: Array, out: Array) -> None:
    """Multiply the points of all tiles and channels by a matrix, some columns at a time."""
    points, out = points.reshape(matrix.shape[1], -1), out.reshape(len(matrix), -1)
    whole = points.shape[1] // _LANES * _LANES
    if whole:
        lanes, lanes_out = (
            each[:, :whole].reshape(len(each), -1, _LANES).swapaxes(0, 1) for each in (points, out)
        )
        np.matmul(matrix, lanes, out=lanes_out)
    np.matmul(matrix, points[:, whole:], out=out[:, whole:])


def _multiply(points: Array, packed: Array, out: Array) -> None:
    """Sum over the channels, point by point, in products of few enough tiles.

    Parameters
    ----------
    points : array of shape (points, tiles, C)
    packed : array of shape (panels, points, 1, C, width)
    out : array of shape (points, panels, tiles, width)
    """
    number, tiles, c = points.shape
    panels, *_, width = packed.shape
    most = max(cores.SMALL // (c * width) // 4 * 4, 4)
    each = tiles if tiles <= most else -(-tiles // -(-tiles // most)) + 3 & ~3
    # A rest is computed by a product of the same size, which begins a little earlier.
    for start, count in ((0, tiles // each), (tiles - each, 1))[: 2 if tiles % each else 1]:
        taken = slice(start, start + count * each)
        left = points[:, taken].reshape(1, number, count, each, c)
        sums = out[:, :, taken].reshape(number, panels, count, each, width)
        np.matmul(left, packed, out=sums.swapaxes(0, 1))
