"""Arrays for results, which are new, or which nobody holds any more."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from convbench.backends.base import Array
from convbench.stimulus.spec import Shape

_LARGE_BYTES = 32 << 20
"""glibc gives larger arrays back to the system when they are freed (``DEFAULT_MMAP_THRESHOLD_MAX``,
mallopt(3)), and every page of a new one costs a fault when it is first written."""


class _Lent:
    """What a lent array keeps alive, and with it every view of that array: its base.

    When the last of them is gone, so is this, and the memory may be lent again.
    """

    def __init__(self, memory: Array, free: deque[Array]) -> None:
        self._memory, self._free = memory, free

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self._memory.__array_interface__

    def __del__(self) -> None:
        self._free.append(self._memory)


def outputs(shape: Shape, dtype: str) -> Callable[[], Array]:
    """What makes an array for each result. Its numbers are any."""
    if math.prod(shape) * np.dtype(dtype).itemsize <= _LARGE_BYTES:
        return partial(np.empty, shape, dtype)
    free: deque[Array] = deque(maxlen=1)  # of more than one that are free, the others are freed

    def lend() -> Array:
        try:
            memory = free.pop()
        except IndexError:
            memory = np.empty(shape, dtype)
        return np.asarray(_Lent(memory, free))

    return lend
