"""What a backend is measured with: a CPU's by default, and a backend may have its own."""

from __future__ import annotations

import itertools
import os
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from convbench.errors import Unsupported
from convbench.machine.facts import machine_facts
from convbench.machine.watch import memory_bytes
from convbench.stimulus.arrays import DeviceArray
from convbench.stimulus.targets import kind_of

if TYPE_CHECKING:
    from convbench.backends.base import Run

_LARGE_CACHE_BYTES = 256 << 20
"""Taken for the last level of cache where the system does not tell it."""

_SHARED_COPY_BYTES = 16 << 20
"""Larger copies are shared among the cores; for smaller ones that would cost more than it gains."""


class DeviceTimer(Protocol):
    """Two events on the stream that the device's work goes to."""

    def start(self) -> None:
        """Mark the start, without waiting for anything."""

    def stop_s(self) -> float:
        """Mark the end, wait for it, and return the seconds that the device has taken."""


class Gauges:
    """The part of a backend that nobody needs to compute, only to measure."""

    def device_timer(self) -> DeviceTimer | None:
        """Events on the device's own clock, if it has any that can be reached."""
        return None

    def capture(self, run: Run, x: DeviceArray) -> Callable[[], DeviceArray] | None:  # noqa: ARG002
        """Record what ``run(x)`` asks of the device, to be replayed without asking again.

        Returns
        -------
        callable or None
            Each call replays, and returns the same array, written anew. None if this backend
            cannot record.

        Raises
        ------
        Unsupported
            If it can, and not this run.
        """
        return None

    def flusher(self) -> Callable[[], object]:
        """Something to call that leaves nothing of the inputs in the caches."""
        # Twice the last level, so that whatever its policy of replacement is, it is overwritten.
        last_level_bytes = machine_facts().get("last_level_cache_bytes") or _LARGE_CACHE_BYTES
        buffer = np.zeros(2 * last_level_bytes // 8)
        return lambda: np.add(buffer, 1.0, out=buffer)

    def gemm(self, n: int) -> Callable[[DeviceArray], DeviceArray]:
        """Multiply a float32 matrix of n x n by another: the ceiling of the device's arithmetic."""
        right, out = np.ones((n, n), "float32"), np.empty((n, n), "float32")
        return lambda left: np.matmul(left, right, out=out)

    def copier(self, size_bytes: int) -> Callable[[DeviceArray], object]:
        """Copy an array of float32 of so many bytes: the ceiling of the device's memory."""
        out = np.empty(size_bytes // 4, "float32")
        if size_bytes < _SHARED_COPY_BYTES:
            return lambda x: np.copyto(out, x)
        # One core alone does not use all of the memory's width.
        cores: int = machine_facts()["logical_cores"]
        pool = ThreadPoolExecutor(cores)
        cuts = [round(i * out.size / cores) for i in range(cores + 1)]
        parts = [slice(*cut) for cut in itertools.pairwise(cuts)]

        def copy(x: DeviceArray) -> object:
            return list(pool.map(lambda part: np.copyto(out[part], x[part]), parts))

        weakref.finalize(copy, pool.shutdown)  # its threads end with what they are for
        return copy

    def memory(self) -> Callable[[], int]:
        """Start to watch: what is returned tells the peak of memory since now, beyond that of now.

        The default is the memory of the process, in bytes, as Linux counts it.

        Raises
        ------
        Unsupported
            Where the system does not keep that count.
        """
        try:
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        except OSError as error:
            raise Unsupported(f"the peak of memory cannot be watched here: {error}") from error
        before = memory_bytes(os.getpid(), "VmRSS")
        return lambda: max(0, memory_bytes(os.getpid(), "VmHWM") - before)


def gauge(backend: Gauges, name: str) -> Callable[..., Any]:
    """One of convbench's own gauges for a backend: who is measured does not bring the scales.

    On a CPU these are the defaults here. A card can only be asked through its library: there a
    backend's own counts.

    Parameters
    ----------
    name : str
        ``flusher``, ``memory``, ``gemm`` or ``copier``.
    """
    own: Callable[..., Any] = getattr(backend, name)
    shipped = type(backend).__module__.startswith("convbench.backends.")
    if shipped or kind_of(getattr(backend, "device", "cpu")) != "cpu":
        return own
    return partial(getattr(Gauges, name), backend)
