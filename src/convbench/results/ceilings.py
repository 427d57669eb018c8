"""The most that a device was seen to do, and what cannot be true beside it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from convbench.results.journal import positive
from convbench.results.records import Record

GEMM_MARGIN, COPY_MARGIN = 1.1, 2.0
"""How far above a ceiling a result is taken to be noise.

A copy is not quite a ceiling: what reads more than it writes can move up to twice as much.
"""

MOST_SAVED = 4.0
"""Of the schemes that are known: :mod:`convbench.correctness.schemes`."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The most that a device was seen to do, in its fastest sample; see bench_ceiling.py.

    Attributes
    ----------
    gflops : float
        A large product of float32 matrices.
    gb_per_s, cached_gb_per_s : float
        Read and written by copies that do not fit the caches, and by one that does, on all cores.
        0 for the latter on a card.
    cache_bytes : int
        What fits the caches; 0 on a card.
    """

    gflops: float = 0.0
    gb_per_s: float = 0.0
    cached_gb_per_s: float = 0.0
    cache_bytes: int = 0

    def attainable_gflops(self, flops: float, traffic_bytes: float) -> float | None:
        """The roofline: min(peak, flops / byte * bandwidth).

        Williams, Waterman and Patterson, "Roofline: an insightful visual performance model", CACM
        52(4), 2009.
        """
        bandwidth = self.bandwidth(traffic_bytes)
        if not (self.gflops and bandwidth and flops and traffic_bytes):
            return None
        return min(self.gflops, flops / traffic_bytes * bandwidth)

    def bandwidth(self, traffic_bytes: float) -> float:
        """GB/s for so many bytes: those that fit the caches are found there again."""
        return self.cached_gb_per_s if traffic_bytes <= self.cache_bytes else self.gb_per_s


OURS = ("numpy", "tensorflow", "cupy")


def find_ceilings(records: Iterable[Record]) -> dict[tuple[str, ...], Ceiling]:
    """The ceiling of each device: (machine, commit, environment, device)."""
    best: dict[tuple[str, ...], dict[str, float]] = {}
    for record in records:
        fastest_s = record.facts.get("fastest_s")
        backend = record.target.partition("@")[0].partition(".")[0]
        # Who is held against a ceiling must not be able to raise it.
        if record.suite != "ceiling" or not fastest_s or backend not in OURS:
            continue
        found = best.setdefault((*record.origin, record.device), {})
        work = "flops" if record.workload == "ceiling.gemm" else "bytes"
        rate = float(record.facts.get(work, 0)) / fastest_s / 1e9
        found[record.workload] = max(found.get(record.workload, 0.0), rate)
        machine = record.facts.get("machine") or {}
        # A copy within a card's cache takes hardly longer than to ask for it: it is no ceiling.
        on_cpu = record.device == "cpu"
        found["cores"] = (positive(machine.get("logical_cores")) or 1.0) if on_cpu else 0.0
        cache_bytes = positive(machine.get("last_level_cache_bytes")) if on_cpu else None
        found["cache_bytes"] = cache_bytes or 0.0
    return {
        key: Ceiling(
            found.get("ceiling.gemm", 0.0),
            found.get("ceiling.copy", 0.0),
            found.get("ceiling.copy_cached", 0.0) * found["cores"],
            int(found["cache_bytes"]),
        )
        for key, found in best.items()
    }


def impossible(
    ceiling: Ceiling, flops: float, traffic: float, time_s: float, saves: float = 1.0
) -> str | None:
    """Why a time cannot be true, or None.

    Parameters
    ----------
    saves : float
        How many times fewer multiplications it takes, as its receipt says.
    """
    peak = min(saves, MOST_SAVED) * ceiling.gflops
    if peak and (rate := flops / time_s / 1e9) > GEMM_MARGIN * peak:
        times = f" {saves:g} times, as its scheme saves," if saves > 1 else ""
        return (
            f"{rate:.0f} GFLOP/s are more than{times} the {ceiling.gflops:.0f} of a large matrix"
            " product on this device, as measured of this commit"
        )
    bandwidth = ceiling.bandwidth(traffic)
    if bandwidth and (rate := traffic / time_s / 1e9) > COPY_MARGIN * bandwidth:
        return (
            f"{rate:.0f} GB/s are more than {COPY_MARGIN:g} times the {bandwidth:.0f} of a copy on"
            " this device, as measured of this commit"
        )
    return None
