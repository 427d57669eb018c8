"""How the machine was in a session, and how far two sessions of one machine lie apart.

Processes of one session tell how far processes differ, and nothing of what shifts all of them:
another job beside them, another clock. What they say of the machine may, and a commit that was
measured twice does.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from convbench.results import journal, machines
from convbench.results.folder import Filed, Folder
from convbench.results.journal import Ends, Note, finite


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of `convbench bench` or asv has of a cell.

    Attributes
    ----------
    value : float
        In seconds or bytes, the centre of its processes; of errors the worst.
    processes : int
        How many there were.
    counted : bool
        Whether it is a part of what counts: it has measured the same as the last one.
    """

    value: float
    processes: int
    counted: bool


SLOWED = frozenset(
    {"hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown"}
)
"""Reasons for a lower clock of a GPU, of NVML's, that are no setting and not its usual limit."""


@dataclass(frozen=True, slots=True)
class Card:
    """How a GPU was; 0 is not known.

    Attributes
    ----------
    sm_mhz : float
        Its clock while it was not idle.
    slowed : frozenset of str
        Of `SLOWED`, what any process has seen.
    """

    sm_mhz: float = 0.0
    slowed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Health:
    """How the machine was while some processes measured: what is typical of them.

    Attributes
    ----------
    cores : int
        Of the machine; 0 is not known.
    load : float, optional
        Processes that wanted to run, these among them: the average over a minute.
    stolen : float, optional
        Of the time of all cores, what the host gave to others: 0.1 for 10 %.
    stopped : float, optional
        Of the time, how long the quota of the cgroup had it stopped.
    cpu_mhz : float, optional
        The highest clock of the cores.
    cards : tuple of Card
        The GPUs.
    """

    cores: int = 0
    load: float | None = None
    stolen: float | None = None
    stopped: float | None = None
    cpu_mhz: float | None = None
    cards: tuple[Card, ...] = ()

    @classmethod
    def of(cls, processes: Iterable[Mapping[str, Any]]) -> Self:
        """As they have said themselves, before and after."""
        told = [*processes]
        moments = [
            moment
            for process in told
            for name in ("before", "after")
            if isinstance(moment := process.get(name), Mapping)
        ]
        both = [
            (process["before"], process["after"])
            for process in told
            if all(isinstance(process.get(name), Mapping) for name in ("before", "after"))
        ]
        machines = [m for process in told if isinstance(m := process.get("machine"), Mapping)]
        cores = [c for m in machines if (c := finite(m.get("machine_cores"))) is not None]
        return cls(
            int(cores[0]) if cores else 0,
            _typical(moments, "load_1min"),
            _share(both, "cpu_steal_jiffies", "cpu_total_jiffies"),
            _share(both, "cpu_throttled_s", "unix_s"),
            _typical(moments, "cpu_mhz_max"),
            _cards([m["gpus"] for m in moments if isinstance(m.get("gpus"), list)]),
        )

    def card(self, index: int) -> Card:
        """One of them; nothing is known of one that is not there."""
        return self.cards[index] if index < len(self.cards) else Card()


def _typical(moments: Iterable[Mapping[str, Any]], name: str) -> float | None:
    told = [value for moment in moments if (value := finite(moment.get(name))) is not None]
    return statistics.median(told) if told else None


def _share(
    moments: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]], part: str, whole: str
) -> float | None:
    """How much of the one has gone by while the other did, over all processes."""
    parts = wholes = 0.0
    for before, after in moments:
        some = [finite(moment.get(name)) for name in (part, whole) for moment in (before, after)]
        if None not in some:
            first, last, begun, ended = (value or 0.0 for value in some)
            parts, wholes = parts + last - first, wholes + ended - begun
    return min(max(parts / wholes, 0.0), 1.0) if wholes > 0 else None


def _cards(moments: Sequence[Sequence[Any]]) -> tuple[Card, ...]:
    """The driver lists them in the same order each time."""
    cards = []
    for told in itertools.zip_longest(*moments):
        seen = [card for card in told if isinstance(card, Mapping)]
        lists = [card.get("throttling") for card in seen]
        why = [
            frozenset(map(str, some)) if isinstance(some, list) else frozenset() for some in lists
        ]
        busy = [card for card, reasons in zip(seen, why, strict=True) if "gpu_idle" not in reasons]
        slowed = frozenset().union(*why) & SLOWED
        cards.append(Card(_typical(busy, "sm_clock_mhz") or 0.0, slowed))
    return tuple(cards)


NEWEST = 20
"""So many files of evidence, the newest, are looked through for what was measured twice."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Between sessions of a machine.

    Attributes
    ----------
    variance : float
        Of the logarithm of a time, beyond what the processes within the sessions let expect.
    freedom : int
        How many sessions, less how many commits: cells of a session move together.
    commits : int
        That were measured in more than one session; 1 where that is a calibration.
    """

    variance: float
    freedom: int
    commits: int = 1

    @property
    def deviation(self) -> float:
        """0.02 if sessions of equal code differ by 2 %."""
        return math.sqrt(self.variance)


@dataclass(frozen=True, slots=True)
class Between:
    """What is known of how far sessions of a machine lie apart, and from where.

    Attributes
    ----------
    spreads : mapping of str to Spread
        By target; that of "" is of all targets.
    source : str
        What it was learnt from, in words.
    unused : str
        Why what there is was not used, in words.
    """

    spreads: Mapping[str, Spread] = field(default_factory=dict)
    source: str = ""
    unused: str = ""

    def of(self, target: str) -> Spread | None:
        """That of a target; else the largest of those on the same kind of device."""
        if known := self.spreads.get(target, self.spreads.get("")):
            return known
        alike = [spread for name, spread in self.spreads.items() if _kind(name) == _kind(target)]
        return max(alike, key=lambda spread: spread.variance, default=None)


def _kind(target: str) -> str:
    return target.partition("@")[2].partition(":")[0]


_Cell = tuple[Sequence[float], Sequence[float]]
"""The means of the logarithms of a time in each of several sessions, and their variances."""


def estimate(commits: Iterable[Iterable[_Cell]]) -> Spread | None:
    """How far sessions lie apart, from the cells of commits that were measured in several.

    Of a cell with k runs, means m_r of the logarithms and their variances e_r the variance between
    sessions is estimated without bias by var(m_r) - mean(e_r), that of one factor with random
    effects; over all cells it is the mean, weighted by k - 1, and 0 at least.

    References
    ----------
    S. R. Searle, G. Casella, C. E. McCulloch, Variance Components, 1992, ch. 3.
    """
    total = weight = 0.0
    freedom = repeated = 0
    for cells in commits:
        most = 0
        for means, errors in cells:
            total += (len(means) - 1) * (statistics.variance(means) - statistics.fmean(errors))
            weight += len(means) - 1
            most = max(most, len(means) - 1)
        freedom += most
        repeated += most > 0
    if not weight:
        return None
    return Spread(max(0.0, total / weight), freedom, repeated)


def spread(folder: Folder, machine: str, environment: str, newest: int = NEWEST) -> Spread | None:
    """Estimate it from finished runs of one commit with nothing uncommitted; None without any."""
    files = _newest(folder, machine, newest)
    return estimate(_repeated(folder, filed, environment) for filed in files)


def _newest(folder: Folder, machine: str, number: int) -> list[Filed]:
    files = folder.files()
    called = machines.names(folder)
    mine = [filed for filed in files if called.get(filed.machine, filed.machine) == machine]
    return sorted(mine, key=lambda filed: files[filed])[-number:]


def _repeated(
    folder: Folder, filed: Filed, environment: str
) -> Iterator[tuple[list[float], list[float]]]:
    """Of each time that was taken in several runs: their means, and the variances of these."""
    told = journal.read(folder.evidence_of(filed))
    fit = {
        run
        for run, facts in told.runs.items()
        if facts.get("clean") is True
        and facts.get("state") == "finished"
        and facts.get("environment") == environment
    }
    for (benchmark, _), notes in journal.by_cell(told.notes).items():
        if journal.kind_of(benchmark) != "time":
            continue
        of: dict[str, list[Note]] = {}
        for note in notes:
            if note.run in fit:
                of.setdefault(note.run, []).append(note)
        known = [found for run in of.values() if (found := _moments(run)) is not None]
        same = [found for found in known if found[0] == known[-1][0]]
        if len(same) > 1:
            yield [mean for _, mean, _ in same], [error for _, _, error in same]


def _moments(notes: Sequence[Note]) -> tuple[object, float, float] | None:
    """What was measured, the mean of the logarithms of its processes, and the variance of that."""
    try:
        ends = Ends.of(notes)
        known = len(ends.processes) > 1 and all(0 < each < math.inf for each in ends.processes)
        if ends.failed or not known:
            return None
        log = [*map(math.log, ends.processes)]
    except journal.UNREADABLE:
        return None
    return ends.what, statistics.fmean(log), statistics.variance(log) / len(log)
