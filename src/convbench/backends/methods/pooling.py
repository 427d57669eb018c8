"""Pooling, which is separable: along the height first, then along the width.

Padding is not stored anywhere: a tap that falls on it is left out, for the outputs it would reach.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from convbench.backends.base import Array
from convbench.backends.methods.windows import Tap, taps
from convbench.stimulus.spec import PipelineSpec, present


class Pool:
    """The pool of a pipeline, for a block of output rows at a time. It owns a workspace.

    Parameters
    ----------
    pipeline : PipelineSpec
        With a pool.
    dtype : str
    """

    def __init__(self, pipeline: PipelineSpec, dtype: str) -> None:
        self._rows, columns = pipeline.pool_windows
        self._columns = _sorted(taps(columns, 0, columns.out), columns.out)
        self._width, self._k = columns.size, pipeline.output_shape[3]
        self._dtype = np.dtype(dtype)
        self._programs: dict[tuple[int, int, int], list[list[Tap]]] = {}
        self._workspace = np.empty(0, dtype)
        self._combine, self._neutral = combining(pipeline)
        self._divisors = divisors(pipeline, dtype) if self._combine is np.add else None

    def __call__(self, source: Array, first: int, a: int, b: int, out: Array) -> None:
        """Compute the output rows a to b.

        Parameters
        ----------
        source : array of shape (N, rows, Q, K)
            What is pooled, from row `first` on.
        out : array of shape (N, b - a, columns, K)
        """
        program = self._programs.get((first, a, b))
        if program is None:
            program = self._programs[first, a, b] = _sorted(taps(self._rows, a, b, first), b - a)
        if len(program[0]) == 1 and not program[1]:  # one tap a window: nothing to combine
            down = source[:, program[0][0].source]
        else:
            shape = (len(source), b - a, self._width, self._k)
            down = self._room(math.prod(shape)).reshape(shape)
            self._fold(program, source.swapaxes(0, 1), down.swapaxes(0, 1))
        self._fold(self._columns, down.transpose(2, 0, 1, 3), out.transpose(2, 0, 1, 3))
        if self._divisors is not None:
            by = self._divisors
            np.divide(out, by if by.ndim == 0 else by[a:b], out=out)

    def _room(self, elements: int) -> Array:
        if self._workspace.size < elements:
            self._workspace = np.empty(elements, self._dtype)
        return self._workspace[:elements]

    def _fold(self, program: list[list[Tap]], source: Array, out: Array) -> None:
        """Combine the taps along the first axis."""
        whole, partial = program
        combine = self._combine
        if len(whole) > 1:
            combine(source[whole[0].source], source[whole[1].source], out=out)
        elif whole:
            np.copyto(out, source[whole[0].source])
        else:
            out.fill(self._neutral)
        for tap in whole[2:]:
            combine(out, source[tap.source], out=out)
        for tap in partial:
            part = out[tap.out]
            combine(part, source[tap.source], out=part)


def combining(pipeline: PipelineSpec) -> tuple[np.ufunc, float]:
    """What combines the numbers of a window, and the number that changes nothing in it."""
    return (np.add, 0.0) if present(pipeline.pool).op == "avg" else (np.maximum, -math.inf)


def divisors(pipeline: PipelineSpec, dtype: str) -> Array:
    """What sums are divided by: (P, Q, 1), or one number where all are the same."""
    high, wide = (np.asarray(axis, dtype) for axis in pipeline.pool_divisors)
    found: Array = (high[:, None] * wide)[:, :, None]
    return found.flat[0].reshape(()) if found.size and (found == found.flat[0]).all() else found


def _sorted(taps: Iterable[Tap], count: int) -> list[list[Tap]]:
    """Those that reach all of the outputs, and the others."""
    found: list[list[Tap]] = [[], []]
    for tap in taps:
        found[tap.out != slice(0, count)].append(tap)
    return found
