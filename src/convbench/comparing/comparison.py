"""What a comparison of two sides is: a verdict, a reason and numbers for each cell."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from convbench.comparing.sides import Side
from convbench.errors import InputError
from convbench.results.folder import is_existing, short
from convbench.results.gates import Discarded
from convbench.results.records import OTHER
from convbench.results.sessions import Run
from convbench.words.numbers import count, share
from convbench.words.status import Exit, Standing, Status


class Verdict(StrEnum):
    """What became of a cell from base to head, the worst first."""

    WRONG = "wrong"
    """Head's output is, and base's was not."""
    FAILED = "failed"
    """Head has no result because something broke, and base did not fail."""
    SKIPPED = "skipped"
    """Base was right, and head says why it cannot compute this."""
    VANISHED = "vanished"
    """Base has been measured, and head has not: not selected, or not run."""
    STILL_WRONG = "still wrong"
    STILL_FAILED = "still failed"
    REGRESSED = "regressed"
    """Slower (or larger), for sure, and not by so little that it is within delta."""
    SUSPECT = "suspect"
    """Slower, and so may the machine have been, or in one session and not in another."""
    NOT_COMPARABLE = "not comparable"
    """Both have a number, and the numbers are not of the same thing."""
    UNDECIDED = "undecided"
    """The interval admits both equality and a difference that matters."""
    IMPROVED = "improved"
    FIXED = "fixed"
    """Base was wrong or failed, and head is right."""
    NEW = "new"
    """Head has been measured, and base has not."""
    EQUIVALENT = "equivalent"
    """The interval lies within 1 / (1 + delta) and 1 + delta; without a time, both are right."""
    NOT_MEASURED = "not measured"
    """Head is skipped, and base was not right either."""


BAD = frozenset(
    {Verdict.WRONG, Verdict.FAILED, Verdict.SKIPPED, Verdict.STILL_WRONG, Verdict.STILL_FAILED}
)
"""Head does not compute this rightly: exit code 2."""

_COMPARED = frozenset(
    {
        Verdict.REGRESSED,
        Verdict.SUSPECT,
        Verdict.UNDECIDED,
        Verdict.IMPROVED,
        Verdict.FIXED,
        Verdict.EQUIVALENT,
    }
)

SLOWER = frozenset({Verdict.REGRESSED, Verdict.SUSPECT})

ORDER = {verdict: place for place, verdict in enumerate(Verdict)}


SESSIONS_UNKNOWN = "how far two sessions of this machine differ is not known"
"""A remark begins so where that is in no interval of what was claimed."""


@dataclass(frozen=True, slots=True)
class Rule:
    """When a difference is claimed, and when equality is.

    Attributes
    ----------
    delta : float
        Ratios from 1 / (1 + delta) to 1 + delta do not matter: 0.05 for 5 %.
    confidence : float
        Of the intervals; of what is claimed to have changed, at most 1 - confidence is false, in
        expectation.
    minimum_effect : float
        Nothing smaller is ever claimed: order of building, place in memory and the like make up to
        0.3 % of difference between equal programs.
    power : float
        With this probability the smallest effect that is named would have been found.

    Raises
    ------
    InputError
        If delta is not more than the minimum effect.
    """

    delta: float = 0.05
    confidence: float = 0.95
    minimum_effect: float = 0.005
    power: float = 0.8

    def __post_init__(self) -> None:
        if not self.minimum_effect < self.delta < math.inf:
            raise InputError(
                f"--delta: the difference that does not matter is {100 * self.delta:g} %; expected "
                f"more than the {100 * self.minimum_effect:g} % below which nothing is claimed. 5 "
                "% is the default."
            )


class Suspects(StrEnum):
    """What suspects are to a gate."""

    FAIL = "fail"
    """Slower, whoever is to blame: exit code 1."""
    UNDECIDED = "undecided"
    """Something that has to be measured again: exit code 3."""
    FINE = "pass"


@dataclass(frozen=True, slots=True)
class Demands:
    """What has to be so beyond that nothing is wrong or surely slower.

    Attributes
    ----------
    strict : bool
        Nothing is undecided.
    power : float, optional
        What is undecided would have shown a slow-down of so much: 0.05 for 5 %.
    """

    strict: bool = False
    power: float | None = None
    suspects: Suspects = Suspects.UNDECIDED


_PLAIN = frozenset({"pipeline", "stages", "accuracy", OTHER})
"""Suites that need not be named: the workload and the stage say it."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one side has of a cell.

    Attributes
    ----------
    status : Status, optional
        Of the time or the memory; None if it was not measured.
    value : float, optional
        Seconds of a call, or bytes: the geometric mean of the medians of the processes.
    processes : int
        How many fresh processes that is over; 1 where only asv's pooled statistics are known.
    correct : Status, optional
        Ok or wrong, or why that is not known; None if it was not checked.
    error_over_bound : float, optional
        More than 1 is wrong.
    digests : tuple of str
        Names of the bits of the outputs, each once.
    standing : Standing, optional
        What stands behind a time.
    quartiles_s : tuple of float
        The lower and the upper one of all samples, where asv's are all that is known.
    runs : tuple of Run
        All that have measured the number, in their order, if there are several.
    """

    status: Status | None = None
    value: float | None = None
    processes: int = 0
    correct: Status | None = None
    error_over_bound: float | None = None
    digests: tuple[str, ...] = ()
    algorithm: str = ""
    standing: Standing | None = None
    quartiles_s: tuple[float, ...] = ()
    runs: tuple[Run, ...] = ()


_HOPELESS = 10.0

_MOST_GATED = 20
"""Cells that one gate is proposed for: those that are left come next."""


@dataclass(frozen=True, slots=True)
class Effect:
    """How many times as long head takes as base (or how many times as much it needs).

    Attributes
    ----------
    ratio : float
        1.1 if head takes 10 % longer.
    low, high : float, optional
        The confidence interval; None if a side was measured in one process only.
    p_value : float, optional
        Of a ratio this far from 1 by chance, adjusted for the number of cells.
    smallest_effect : float, optional
        The slow-down that this data would have shown: 0.1 for 10 %.
    """

    ratio: float
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    smallest_effect: float | None = None

    @property
    def seen(self) -> float | None:
        """The smallest effect, unless it is so large that nobody needs statistics for it."""
        smallest = self.smallest_effect
        return smallest if smallest is not None and smallest < _HOPELESS else None


@dataclass(frozen=True, slots=True)
class ComparedCell:
    """One workload on one target, or a stage of it, on both sides.

    Attributes
    ----------
    kind : "time", "memory" or "accuracy"
        Accuracy belongs to the time of the same cell; by itself only where there is no time.
    suite : str
        "pipeline", "stages", "cold", ...; see :attr:`convbench.results.records.Record.suite`.
    effect : Effect, optional
        None unless both sides have a comparable number and neither is known to be wrong.
    bits : str
        "same", "different", or "vary" where a side differs from process to process; "" if unknown.
    notes : tuple of str
        What else has changed about it.
    moved : bool
        Equivalent, and yet surely not the same: slower or faster by less than delta.
    pairs : int
        Of processes, measured side by side; 0 where the sides were measured one after the other.
    to_decide_s : float, optional
        Of what is undecided: about so much longer would decide it, side by side.
    discarded : Discarded, optional
        Of what was measured side by side.
    unit : str
        Of what is neither a time nor a memory.
    """

    kind: str
    suite: str
    target: str
    workload: str
    stage: str
    verdict: Verdict
    reason: str
    base: Measured
    head: Measured
    effect: Effect | None = None
    bits: str = ""
    notes: tuple[str, ...] = ()
    moved: bool = False
    pairs: int = 0
    to_decide_s: float | None = None
    discarded: Discarded | None = None
    unit: str = ""

    @property
    def undecidable(self) -> bool:
        """Nothing that is stored of it could decide it: asv pools what it measures."""
        return self.suite == OTHER and self.verdict is Verdict.UNDECIDED

    @property
    def name(self) -> str:
        """The workload, and what of it."""
        plain = self.suite in _PLAIN or self.workload.startswith(f"{self.suite}.")
        parts = [self.stage, "" if plain else f"({self.suite})"]
        return " ".join((self.workload, *filter(None, parts)))


def paired(cell: ComparedCell, effect: Effect) -> ComparedCell:
    """The cell with what its pairs say, and with times that are as far apart as that.

    What pairs of processes tell is head / base, of which stragglers are left out; the ratio of the
    two sides' own means is another number.
    """
    base, head = cell.base.value, cell.head.value
    if not base or not head:
        return replace(cell, effect=effect)
    base, head = about(base, head, effect.ratio)
    return replace(
        cell, effect=effect, base=replace(cell.base, value=base),
        head=replace(cell.head, value=head),
    )  # fmt: skip


def about(base: float, head: float, ratio: float) -> tuple[float, float]:
    """Two times about the same geometric mean of which the second is `ratio` times the first.

    Examples
    --------
    >>> about(2.0, 8.0, 1.0)
    (4.0, 4.0)
    """
    level = math.sqrt(base * head / ratio)
    return level, level * ratio


@dataclass(frozen=True, slots=True)
class Mean:
    """The geometric mean of the ratios of one target, over whole pipelines.

    Attributes
    ----------
    cells : int
        How many it is over: those with an interval, if any has one.
    low, high : float, optional
        The interval, as far as the noise of the measuring goes; None if no cell has one.
    """

    target: str
    cells: int
    ratio: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Change:
    """A version, setting or part of the machine that the sides do not have in common.

    What is absent is "", and the targets are those that were measured so on both sides.
    """

    name: str
    base: str
    head: str
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Against:
    """Head, held against other commits than its base: small steps add up.

    Attributes
    ----------
    asked : str
        "best", of all ancestors that were measured, or the revision of one commit.
    commits : tuple of str
        With which it was compared.
    cells : tuple of (str, ComparedCell)
        Those with an interval against any of them, the worst first, each with the commit against
        which head is slower most clearly, or the nearest to it.
    """

    asked: str
    commits: tuple[str, ...]
    cells: tuple[tuple[str, ComparedCell], ...]

    @property
    def compared(self) -> int:
        """How many cells have an interval against any of them."""
        return len(self.cells)

    @property
    def slower(self) -> tuple[tuple[str, ComparedCell], ...]:
        """What has regressed or is suspect."""
        return tuple(found for found in self.cells if found[1].verdict in SLOWER)

    def lines(self) -> list[str]:
        """In words: how much was compared, and each cell that is slower."""
        few = count(len(self.commits), "commit")
        first = f"against {self.asked} ({few}): {len(self.slower)} of {self.compared} cells slower"
        return [first, *(
            f"{cell.verdict}: {cell.target} on {cell.name} against {short(commit)}: {cell.reason}"
            for commit, cell in self.slower
        )]  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        slower = [{"commit": commit, **asdict(cell)} for commit, cell in self.slower]
        known = {"asked": self.asked, "commits": [*self.commits], "compared": self.compared}
        return {**known, "slower": slower}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that is known about two sides, the worst cells first.

    Attributes
    ----------
    warnings : tuple of str
        What has to be known before any of it is believed.
    remarks : tuple of str
        What else is to be known of where the numbers are from.
    skipped : int
        Cells that neither side has measured; they are not among `cells`.
    unmeasured : tuple of str
        "base", "head" or both, if nothing at all was measured of them.
    """

    base: Side
    head: Side
    rule: Rule
    cells: tuple[ComparedCell, ...]
    means: tuple[Mean, ...] = ()
    changes: tuple[Change, ...] = ()
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    skipped: int = 0
    unmeasured: tuple[str, ...] = ()
    demands: Demands = field(default_factory=Demands)
    against: Against | None = None

    @property
    def open_cells(self) -> list[ComparedCell]:
        """What is undecided or suspect; where power is demanded, only what lacks it, or is suspect.

        To measure these again is all that a gate needs.
        """
        lacking = {id(cell) for cell in self.power_lacking}
        wanted = Verdict.UNDECIDED if self.demands.power is None else None
        return [
            cell
            for cell in self.cells
            if cell.verdict in {Verdict.SUSPECT, wanted} or id(cell) in lacking
        ]

    @property
    def power_lacking(self) -> list[ComparedCell]:
        """What is undecided and would not have shown a slow-down of what is demanded."""
        power = self.demands.power
        if power is None:
            return []

        def shows(cell: ComparedCell) -> bool:
            smallest = cell.effect.smallest_effect if cell.effect else None
            return smallest is not None and smallest <= power

        undecided = (cell for cell in self.cells if cell.verdict is Verdict.UNDECIDED)
        return [cell for cell in undecided if not shows(cell)]

    @property
    def gate_it(self) -> str:
        """The command that would decide what stored medians leave open, for a shell.

        "" if there is nothing of which a gate measures the like on the machine of both sides.
        """
        undecided = [
            cell for cell in self.open_cells
            if cell.effect and not cell.pairs
            and (cell.kind, cell.suite, cell.stage) == ("time", "pipeline", "")
        ][:_MOST_GATED]  # fmt: skip
        if not undecided or self.unlike_machines:
            return ""
        return self.gate(selection(undecided))

    def gate(self, options: Iterable[str]) -> str:
        """The command that measures both sides in turns, for a shell."""
        words = ["convbench", "gate", short(self.base.commit), short(self.head.commit)]
        for name, side in (("base", self.base), ("head", self.head)):
            if not is_existing(side.environment):
                words.append(f"--{name}-env={side.environment}")
        return shlex.join((*words, *options))

    @property
    def unlike_machines(self) -> bool:
        """Whether the sides were measured on two machines, which has to be asked for."""
        return self.base.machine != self.head.machine

    @property
    def counts(self) -> dict[Verdict, int]:
        """How many cells have each verdict, the worst first; those that none has are left out."""
        found = Counter(cell.verdict for cell in self.cells)
        return {verdict: found[verdict] for verdict in Verdict if found[verdict]}

    @property
    def undecided_everywhere(self) -> bool:
        """There were times to compare, and about none of them anything can be said."""
        timed = {cell.verdict for cell in self.cells if cell.kind == "time" and cell.effect}
        decided = {Verdict.REGRESSED, Verdict.IMPROVED, Verdict.EQUIVALENT}
        return Verdict.UNDECIDED in timed and not timed & decided

    def _outcome(self) -> tuple[Exit, str]:
        """Wrong, slower, not measured or comparable, not known well enough, fine; in this order."""
        found = self.counts.keys()
        suspects = self.demands.suspects
        beyond = {cell.verdict for _, cell in self.against.slower} if self.against else set()
        suspected = Verdict.SUSPECT in found | beyond
        if bad := [verdict for verdict in found if verdict in BAD]:
            return Exit.WRONG, " and ".join(bad).upper()
        if Verdict.REGRESSED in found:
            return Exit.SLOWER, "REGRESSED"
        if self.against and Verdict.REGRESSED in beyond:
            return Exit.SLOWER, f"REGRESSED AGAINST {self.against.asked}"
        if suspected and suspects is Suspects.FAIL:
            return Exit.SLOWER, "SUSPECT: slower, or the machine was"
        if not {cell.verdict for cell in self.cells if not cell.undecidable} & _COMPARED:
            measured = {Verdict.NOT_COMPARABLE, Verdict.UNDECIDED} & found
            return Exit.NOTHING, f"NOTHING {'COMPARABLE' if measured else 'MEASURED ON BOTH SIDES'}"
        if self.against and not self.against.compared:
            return Exit.NOTHING, f"NOTHING COMPARABLE WITH {self.against.asked}"
        if Verdict.VANISHED in found:
            return Exit.NOTHING, "NOT ALL MEASURED"
        if suspected and suspects is Suspects.UNDECIDED:
            return Exit.NOTHING, "SUSPECT: slower, or the machine was"
        if lacking := self.power_lacking:
            power = share(self.demands.power)
            some = count(len(lacking), "cell")
            return Exit.NOTHING, f"TOO LITTLE POWER: {power} slower may have gone unseen in {some}"
        code = Exit.NOTHING if self.demands.strict and Verdict.UNDECIDED in found else Exit.OK
        if self.undecided_everywhere:
            return code, "UNDECIDED: this does not say that nothing is slower"
        if code is Exit.NOTHING:
            return code, "UNDECIDED IN PART"
        if suspected:
            return code, "SUSPECTS PASS: slower, or the machine was"
        return code, "NOTHING SEEN TO BE SLOWER" if Verdict.UNDECIDED in found else "FINE"

    def exit_code(self) -> Exit:
        """What to exit with, by what is demanded."""
        return self._outcome()[0]

    def summary(self) -> str:
        """One line: the outcome in words, and how many cells have which verdict."""
        if self.unmeasured:
            sides = {"base": self.base, "head": self.head}
            named = [f"{name}, {short(sides[name].commit)}" for name in self.unmeasured]
            return f"NOTHING MEASURED of {' and of '.join(named)}: there is nothing to compare"
        if not self.cells:
            return "NOTHING MEASURED: there is no cell to compare"
        _, outcome = self._outcome()
        listed = ", ".join(f"{number} {verdict}" for verdict, number in self.counts.items())
        said = f"{outcome}: {listed}, of {count(len(self.cells), 'cell')}"
        if moved := sum(cell.moved for cell in self.cells):
            delta = f"{100 * self.rule.delta:g} %"
            said += f"; {moved} of the equivalent ones surely moved within {delta}"
        if self.unlike_machines:
            said += f"; UNLIKE MACHINES {self.base.machine} and {self.head.machine}"
        return said

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; docs/comparing.md describes them."""
        lacking, power = self.power_lacking, self.demands.power
        return {
            "summary": self.summary(),
            "exit_code": self.exit_code(),
            "base": self.base.to_dict(),
            "head": self.head.to_dict(),
            "unmeasured": list(self.unmeasured),
            "unlike_machines": self.unlike_machines,
            "undecided_everywhere": self.undecided_everywhere,
            "rule": asdict(self.rule),
            "strict": self.demands.strict,
            "suspects": str(self.demands.suspects),
            "power": power and {
                "required": power,
                "satisfied": not lacking,
                "cells": [
                    {"target": cell.target, "workload": cell.workload, "stage": cell.stage,
                     "suite": cell.suite, "kind": cell.kind,
                     "smallest_effect": cell.effect and cell.effect.smallest_effect}
                    for cell in lacking
                ],
            },
            "counts": {str(verdict): count for verdict, count in self.counts.items()},
            "skipped_on_both_sides": self.skipped,
            "warnings": list(self.warnings),
            "remarks": list(self.remarks),
            "gate_it": self.gate_it,
            "against": self.against and self.against.to_dict(),
            "cells": [
                asdict(cell) | {"smallest_effect": cell.effect and cell.effect.smallest_effect}
                for cell in self.cells
            ],
            "geometric_means": [asdict(mean) for mean in self.means],
            "changes": [asdict(change) for change in self.changes],
        }  # fmt: skip


def selection(cells: Iterable[ComparedCell]) -> list[str]:
    """The options of a command that measures these cells, and as few others as it can."""
    targets, workloads = (
        dict.fromkeys(names) for names in zip(*((c.target, c.workload) for c in cells), strict=True)
    )
    return [
        word
        for option, names in (("--target", targets), ("--workload", workloads))
        for name in names
        for word in (option, name)
    ]
