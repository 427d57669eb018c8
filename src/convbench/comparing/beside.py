"""Targets beside each other on the same workload: how many times as fast one is as another.

The page, the tab in asv's pages and ``backends.html`` all ask here, so that none of them says
another number, and none of them counts the time of a result that another takes for wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from convbench.results.records import Record
from convbench.results.rows import Row
from convbench.words.numbers import faster

Times = Mapping[tuple[str, str], Record]
"""The times that count, by workload and target."""


@dataclass(frozen=True, slots=True)
class SpeedUp:
    """How many times as fast.

    Attributes
    ----------
    low, high : float, optional
        The interval; None if either was measured in one process only.
    """

    ratio: float
    low: float | None = None
    high: float | None = None

    @property
    def span(self) -> str:
        """The interval, to be read; "" without one."""
        if self.low is None or self.high is None:
            return ""
        return f"{faster(self.low)} to {faster(self.high)}"

    @property
    def sure(self) -> bool:
        """Whether the interval is all on one side of 1."""
        return self.low is not None and self.high is not None and not self.low <= 1 <= self.high


@dataclass(frozen=True, slots=True)
class Fastest:
    """Who is the fastest on a workload.

    Attributes
    ----------
    time : Record
        Of the target that is.
    second : Record, optional
        Of the one after it; None where nothing else was measured.
    """

    time: Record
    second: Record | None = None
    speed_up: SpeedUp | None = None


def counted(records: Iterable[Record], rows: Iterable[Row]) -> dict[tuple[str, str], Record]:
    """Times of whole pipelines against which nothing is known: :attr:`Row.counts`."""
    count = {(row.workload, row.target) for row in rows if row.suite == "layers" and row.counts}
    return {
        cell: record for record in records
        if record.suite == "pipeline" and (cell := (record.workload, record.target)) in count
    }  # fmt: skip


def times_as_fast(one: Record, other: Record) -> float:
    """How many times as fast the one is: the ratio of the geometric means of their processes.

    Both are above 0.
    """
    assert one.value
    assert other.value
    return other.value / one.value


def speed_ups(pairs: Sequence[tuple[Record, Record]], confidence: float) -> list[SpeedUp]:
    """How many times as fast the first of each pair is as the second, with intervals.

    They are Welch's: :func:`convbench.comparing.stats.ratios`.

    Parameters
    ----------
    pairs : sequence of (Record, Record)
        Times that are above 0.
    """
    # asv makes its pages in an environment of its own, where there may be no NumPy.
    from convbench.comparing import stats  # noqa: PLC0415

    if not pairs:
        return []
    found = stats.ratios([one.draws for one, _ in pairs], [other.draws for _, other in pairs])
    ends = zip(*(side.tolist() for side in stats.intervals(found, confidence)), strict=True)
    return [
        SpeedUp(times_as_fast(*pair), *(() if math.isnan(low) else (low, high)))
        for pair, (low, high) in zip(pairs, ends, strict=True)
    ]


def fastest(times: Times, confidence: float) -> Iterator[Fastest]:
    """Who is the fastest on each workload, and how far ahead of the next."""
    of: dict[str, list[Record]] = {}
    for (workload, _), record in times.items():
        of.setdefault(workload, []).append(record)
    ranked = [sorted(some, key=lambda record: record.value or 0.0) for some in of.values()]
    pairs = [(some[0], some[1]) for some in ranked if len(some) > 1]
    ahead = iter(speed_ups(pairs, confidence))
    for some in ranked:
        yield Fastest(some[0], some[1], next(ahead)) if len(some) > 1 else Fastest(some[0])
