"""What the methods share: blocks of output rows, the bias, the pool, workspaces and threads.

A method computes some rows of the convolution into an array. The block is pooled while it is still
in a core's cache, so that the output of the convolution is never stored as a whole. The bias is
added after a max pool, where there are fewer numbers: rounding is monotonic, so that these are the
same bits.

A plan may be called from several threads at once: each call borrows a worker with workspaces of its
own, and one is made where none is free.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from convbench.backends.array_kernels import blocks
from convbench.backends.base import Array, Run, Weights
from convbench.backends.methods.cores import shares, side_by_side, threads
from convbench.backends.methods.outputs import outputs
from convbench.backends.methods.pooling import Pool
from convbench.backends.methods.windows import needed
from convbench.stimulus.spec import PipelineSpec, present

Compute = Callable[[Array, int, int, Array], None]
"""``(images, a, b, out)``: convolve (n, H, W, C), and write the output rows a to b of each image
into (n, b - a, Q, K). Neither need be contiguous."""

_WORTH_A_THREAD = 1 << 21
"""Operations below which handing a part to another thread costs more than it gains."""

_SUMS = 1 << 18
"""What is pooled at once, about; so much of float32 stays in a core's second-level cache."""

_LONG = 2048
"""A loop of so many numbers spends next to nothing on being started."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A convolution as a method computes it.

    Attributes
    ----------
    make : callable
        Allocates workspaces, and returns what computes with them.
    rows : int
        How many output rows at once, of one image or several.
    own_threads : bool
        Its products are so large that BLAS uses its own threads.
    biased : bool
        It adds the bias itself.
    """

    make: Callable[[], Compute]
    rows: int
    own_threads: bool = False
    biased: bool = False


class Borrowed:
    """Workspaces: each is used by one call at a time, and there are as many as calls at once."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._free: deque[Any] = deque([make()])

    def __call__(self, *args: Any) -> Any:
        """Call one that is free, or a new one."""
        try:
            worker = self._free.pop()  # a deque's ends need no lock
        except IndexError:
            worker = self._make()
        try:
            return worker(*args)
        finally:
            self._free.append(worker)


def plan(pipeline: PipelineSpec, weights: Weights, kernel: Kernel, algorithm: str = "") -> Run:
    """Run a convolution, the bias and the pool a block at a time.

    Parameters
    ----------
    kernel : Kernel
        Without the bias. For a pipeline without a convolution, one that copies.
    algorithm : str
        As in :class:`convbench.backends.base.Run`.
    """
    worker = Borrowed(partial(_Worker, pipeline, weights, kernel))
    cut = _blocks(pipeline, kernel.rows)
    count = 1
    if pipeline.flops > _WORTH_A_THREAD and not kernel.own_threads and (count := threads()) > 1:
        n, p = pipeline.output_shape[:2]
        cut = _blocks(pipeline, min(kernel.rows, -(-n * p // count)))
    parts = shares(cut, count)
    new = outputs(pipeline.output_shape, weights.dtype)

    def run(x: Array) -> Array:
        y = new()
        side_by_side([partial(worker, x, y, part) for part in parts] or [lambda: None])
        return y

    if pipeline.pool is not None:
        algorithm += f"{' + ' * bool(algorithm)}separable {pipeline.pool.op} pool"
    return Run(run, algorithm)


_Block = tuple[int, int, int, int]
"""The images from the first number to the second, and their output rows likewise."""


def _blocks(pipeline: PipelineSpec, rows: int) -> list[_Block]:
    """Cut the output of the last stage, so that about `rows` of the convolution are in a block."""
    n, p = pipeline.output_shape[:2]
    if pipeline.pool is not None:
        window, (_, _, q, k) = pipeline.pool_windows[0], pipeline.conv_shape
        rows = min(rows, max(1, _SUMS // (q * k)))
        if rows < window.size:  # or else whole images
            rows = max(1, (rows - window.extent) // window.stride + 1)
        else:
            rows = rows // window.size * p
    return list(blocks(n, p, rows))


class _Worker:
    """Computes blocks, one after the other, with workspaces of its own."""

    def __init__(self, pipeline: PipelineSpec, weights: Weights, kernel: Kernel) -> None:
        self._compute, self._rows = kernel.make(), kernel.rows
        bias = None if kernel.biased else weights.bias
        self._bias = None if bias is None else _Bias(bias)
        self._pool, self._sums = None, np.empty(0, weights.dtype)
        if pipeline.pool is not None:
            self._pool = Pool(pipeline, weights.dtype)
            self._window = pipeline.pool_windows[0]
            # inf - inf is nan, which a maximum passes on: then not the same bits.
            self._late = pipeline.pool.op == "max" and (
                bias is None or bool(np.isfinite(bias).all())
            )
            self._in_place = pipeline.conv is None and (bias is None or self._late)
            if self._in_place:
                return
            most = max(
                (
                    (n1 - n0) * (end - first)
                    for n0, n1, a, b in _blocks(pipeline, kernel.rows)
                    for first, end in [needed(self._window, a, b)]
                ),
                default=0,
            )
            self._line = pipeline.conv_shape[2:]
            self._sums = np.empty(most * math.prod(self._line), weights.dtype)

    def __call__(self, x: Array, y: Array, part: list[_Block]) -> None:
        """Compute these blocks of the output."""
        held, ends = self._sums[:0], (0, 0)  # sums, up to which image and row
        for n0, n1, a, b in part:
            images, out = x[n0:n1], y[n0:n1, a:b]
            if self._pool is None:
                self._compute(images, a, b, out)
                if self._bias is not None:
                    self._bias(out)
                continue
            if self._in_place:
                self._pool(images, 0, a, b, out)
                if self._bias is not None:
                    self._bias(out)
                continue
            first, end = needed(self._window, a, b)
            shape = (n1 - n0, end - first, *self._line)
            sums = self._sums[: math.prod(shape)].reshape(shape)
            kept = 0
            if ends[0] == n1 and ends[1] > first and a:  # windows overlap: the last rows again
                kept = ends[1] - first
                sums[:, :kept] = held[:, -kept:]
            new = sums[:, kept:]
            for start in range(first + kept, end, self._rows):
                stop = min(start + self._rows, end)
                rows = sums[:, start - first : stop - first]
                self._compute(images, start, stop, rows)
            if self._bias is not None and not self._late:
                self._bias(new)
            self._pool(sums, first, a, b, out)
            if self._bias is not None and self._late:
                self._bias(out)
            held, ends = sums, (n1, end)


class _Bias:
    """Adds a number a channel to contiguous pixels, in loops that are long."""

    def __init__(self, bias: Array) -> None:
        self._tiled = np.tile(bias, -(-_LONG // bias.size))

    def __call__(self, out: Array) -> None:
        flat, size = out.reshape(-1), self._tiled.size
        whole = flat.size // size * size
        lines, rest = flat[:whole].reshape(-1, size), flat[whole:]
        np.add(lines, self._tiled, out=lines)
        np.add(rest, self._tiled[: rest.size], out=rest)


class PaddedRows:
    """Input rows with their padding around them, for methods that read it in place.

    Parameters
    ----------
    pipeline : PipelineSpec
        With a convolution.
    rows : int
        Output rows, of all the images of a block together.
    """

    def __init__(self, pipeline: PipelineSpec, dtype: str, rows: int) -> None:
        self._rows, self._columns = pipeline.conv_windows
        w = self._columns
        self._shape = (w.before + w.size + w.after, pipeline.c)
        self._padded = any(w.before or w.after for w in pipeline.conv_windows)
        if self._padded:
            images, one = divmod(rows, self._rows.out)
            lines = max(images, 1) * self._needed(min(rows, self._rows.out) if images else one)
            self._workspace = np.zeros((lines, *self._shape), dtype)

    def _needed(self, rows: int) -> int:
        return (rows - 1) * self._rows.stride + self._rows.extent

    def __call__(self, images: Array, a: int, b: int) -> Array:
        """What the output rows a to b read: (n, rows, columns, C), from the padding before on."""
        rows, columns, need = self._rows, self._columns, self._needed(b - a)
        top = a * rows.stride - rows.before
        if not self._padded:
            return images[:, top : top + need]
        n = len(images)
        lines = self._workspace[: n * need].reshape(n, need, *self._shape)
        low, high = min(max(-top, 0), need), max(min(need, rows.size - top), 0)
        high = max(low, high)
        lines[:, :low] = 0
        lines[:, high:] = 0
        inside = lines[:, low:high, columns.before : columns.before + columns.size]
        inside[...] = images[:, top + low : top + high]
        return lines


def in_groups(
    pipeline: PipelineSpec,
    weights: Weights,
    one: Callable[[PipelineSpec, Array, Array | None], Kernel],
) -> Kernel:
    """Compute each group as a convolution of its own, on its channels of the same arrays."""
    conv, filters = present(pipeline.conv), present(weights.filters)
    if conv.groups == 1:
        return one(pipeline, filters, weights.bias)
    depth, each = pipeline.c // conv.groups, conv.k // conv.groups
    alone = replace(pipeline, c=depth, conv=replace(conv, k=each, groups=1), pool=None)
    biases = [None] * conv.groups if weights.bias is None else np.split(weights.bias, conv.groups)
    kernels = [
        one(alone, np.ascontiguousarray(part), bias)
        for part, bias in zip(np.split(filters, conv.groups, axis=3), biases, strict=True)
    ]

    def make() -> Compute:
        groups = [
            (kernel.make(), slice(g * depth, (g + 1) * depth), slice(g * each, (g + 1) * each))
            for g, kernel in enumerate(kernels)
        ]

        def compute(images: Array, a: int, b: int, out: Array) -> None:
            for convolve, channels, filters in groups:
                convolve(images[..., channels], a, b, out[..., filters])

        return compute

    return replace(kernels[0], make=make)


def cut(n: int, most: int) -> Iterator[tuple[int, int, int]]:
    """Cover n rows by products of at most `most`: (start, how many of this size, size).

    Kernels like multiples of four rows. The last product overlaps the one before, and computes the
    same values again, rather than being a slow odd rest.
    """
    if n <= most:
        yield 0, 1, n
        return
    sizes = range(4, most + 1, 4) if most >= 4 else range(most, most + 1)
    size = min(sizes, key=lambda m: -(-n // m) * (m + 0.5))  # rows, and half a row a product
    yield 0, n // size, size
    if n % size:
        yield n - size, 1, size


def multiply(left: Array, panels: Array, out: Array, most: int) -> None:
    """Multiply (n, depth) by panels (K // width, 1, depth, width), at most so many rows at once."""
    width = panels.shape[-1]
    for start, times, size in cut(len(left), most):
        part = slice(start, start + times * size)
        product = out[part].reshape(times, size, len(panels), width).transpose(2, 0, 1, 3)
        np.matmul(left[part].reshape(times, size, left.shape[1]), panels, out=product)


def panel(k: int) -> int:
    """How many of K output channels a small product has: a divisor of K."""
    return k if k <= 64 else next((v for v in (64, 48, 32) if k % v == 0), k)
