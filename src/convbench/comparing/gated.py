"""Puts what two commits took side by side in the place of what was measured of them apart.

docs/comparing.md says which gates count, and for which cells.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from convbench.comparing.comparison import ComparedCell
from convbench.comparing.pairs import LEAST_PAIRS
from convbench.comparing.sides import Side
from convbench.machine.facts import THREAD_SETTINGS
from convbench.results.gates import GATE_VERSION, Gate, GatedCell, GatedSide
from convbench.results.records import ONE_CORE, Record
from convbench.words.numbers import count, date
from convbench.words.status import Status

Name = tuple[str, str, str]
"""Target, workload and stage."""

Both = list[Record | None]
"""Base's and head's."""

Numbers = dict[tuple[str, str, Name], Both]
"""By kind, suite and name."""

Checks = dict[Name, Both]

PairName = tuple[int, int]
"""Which gate's, and its number: cells that share it were measured in the same processes."""

GATED = ("time", "pipeline")
"""Kind and suite of what a gate measures."""


def fitting(gates: Iterable[Gate], base: Side, head: Side) -> tuple[Gate, ...]:
    """Those of these two sides, as they are in their commits, turned to where base and head are."""
    return tuple(
        turned
        for gate in gates
        if gate.committed
        for turned in (gate, gate.turned())
        if _fits(base, turned, turned.base) and _fits(head, turned, turned.head)
    )


def _fits(side: Side, gate: Gate, of: GatedSide) -> bool:
    if not side.machine:  # nothing was measured of it, and so nowhere
        return of.commit.startswith(side.commit)
    return gate.fits(of, side.commit, side.machine, side.environment)


@dataclass(slots=True)
class Gated:
    """What has been taken from gates.

    Attributes
    ----------
    log_ratios : dict
        By the names of the cells and of their pairs.
    ended_s : set of float
        When those gates ended.
    left_out : Counter of str
        Cells that were not taken, by the reason.
    """

    log_ratios: dict[Name, dict[PairName, float]] = field(default_factory=dict)
    ended_s: set[float] = field(default_factory=set)
    left_out: Counter[str] = field(default_factory=Counter)

    def remarks(self, cells: Sequence[ComparedCell]) -> Iterator[str]:
        """How many cells were measured so and when, and which were not taken."""
        if number := sum(cell.pairs > 0 for cell in cells):
            when = ", ".join(map(date, sorted(self.ended_s)))
            yield (
                f"{count(number, 'cell')} measured side by side ({when}), which counts before what"
                " was measured apart"
            )
        for reason, number in self.left_out.items():
            yield f"{count(number, 'cell')} of a gate left out: {reason}"


def join(numbers: Numbers, checks: Checks, gates: Sequence[Gate]) -> Gated:
    """Put what the gates have in the place of what was measured apart.

    Of either side the worse counts, so that neither hides a fault that the other has seen.
    """
    gated = Gated()
    newest = {
        name: (i, cell)
        for i, gate in reversed([*enumerate(gates)])
        for name, cell in gate.cells.items()
        if cell.tells
    }
    for (target, workload), (i, cell) in newest.items():
        name = (target, workload, "")
        apart = numbers.get((*GATED, name), [None, None])
        if reason := _unlike(cell, apart):
            gated.left_out[reason] += 1
            continue
        times = list(cell.times)
        if len(cell.log_ratios) < LEAST_PAIRS and all(map(_is_ok, (*filter(None, times), *apart))):
            times = [None, None]  # cut off before its first look
        both = [*map(_worse, times, apart)]
        if any(both):
            numbers[*GATED, name] = both
        found = [*map(_worse, checks.get(name, [None, None]), cell.checks)]
        if any(found):
            checks[name] = found
        if all(map(is_gated, both)):
            gated.log_ratios[name] = {(i, pair): log for pair, log in cell.log_ratios.items()}
            gated.ended_s.add(gates[i].ended_s)
            # The same pairs again, each side for itself, or what is less precise.
            numbers.pop(("time", ONE_CORE, name), None)
    return gated


def with_gates(sides: Sequence[Side], numbers: Numbers) -> list[Side]:
    """Both sides with what gates have of them, where that is all that counts."""
    gated = [both for both in numbers.values() if all(map(is_gated, both))]
    return [
        replace(side, records=(*side.records, *filter(None, (both[i] for both in gated))))
        for i, side in enumerate(sides)
    ]


def _worse(first: Record | None, second: Record | None) -> Record | None:
    """The first if they are as good, under the name that was measured apart."""
    if first is None or second is None:
        return first or second
    worse = second if second.status.rank < first.status.rank else first
    return replace(worse, benchmark=second.benchmark if is_gated(first) else first.benchmark)


def _is_ok(record: Record | None) -> bool:
    return record is not None and record.status is Status.OK


def is_gated(record: Record | None) -> bool:
    """Whether it is a gate's."""
    return record is not None and record.version == GATE_VERSION


def _unlike(cell: GatedCell, apart: Both) -> str:
    """Why what a gate has is of another thing than what was measured apart; "" if it is not."""
    for gated, record in zip(cell.times, apart, strict=True):
        facts = record.facts if record else {}
        if facts.get("flops", cell.flops) != cell.flops:
            return "another workload of the same name was measured apart"
        known = facts.get("versions", {})
        ours = gated.facts["versions"] if gated else {}
        if any(str(known[name]) != ours[name] for name in (known.keys() & ours.keys()) - _THREADS):
            return "other versions of the libraries were measured apart"
    return ""


_THREADS = frozenset(THREAD_SETTINGS)
"""A pair has one core, and so one thread a side, whatever else is set."""
