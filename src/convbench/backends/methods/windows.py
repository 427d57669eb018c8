"""Which input positions a tap of the windows reads, along one axis."""

from __future__ import annotations

from typing import NamedTuple

from convbench.stimulus.spec import Window


class Tap(NamedTuple):
    """What one tap reads of the input, and the outputs whose windows have it there.

    The other outputs have it on the padding.
    """

    tap: int
    source: slice
    out: slice


def taps(window: Window, a: int, b: int, first: int = 0) -> list[Tap]:
    """Every tap of the outputs a to b that reads some of the input.

    Parameters
    ----------
    first : int
        What position of the input is the first of the array that `source` indexes.
    """
    found = []
    for tap in range(window.taps):
        offset = tap * window.dilation - window.before
        low = max(a, -(offset // window.stride))
        high = min(b, (window.size - 1 - offset) // window.stride + 1)
        if low < high:
            start = low * window.stride + offset - first
            end = start + (high - low - 1) * window.stride + 1
            found.append(Tap(tap, slice(start, end, window.stride), slice(low - a, high - a)))
    return found


def needed(window: Window, a: int, b: int) -> tuple[int, int]:
    """From where to where the outputs a to b read the input."""
    first = a * window.stride - window.before
    end = (b - 1) * window.stride - window.before + window.extent
    return min(max(first, 0), window.size), max(min(end, window.size), 0)


def is_all(window: Window) -> bool:
    """Whether there is one window along this axis, which reads every position once."""
    return window.out == 1 and window.extent == window.taps == window.size
