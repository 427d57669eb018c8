"""The gate: first whether head is right, then how long both take, and what that means."""

from __future__ import annotations

import math
import statistics
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from convbench.backends.compute import Computed
from convbench.comparing.comparison import (
    Change,
    ComparedCell,
    Comparison,
    Effect,
    Mean,
    Measured,
    Rule,
    Verdict,
    paired,
)
from convbench.comparing.judge import worst_first
from convbench.comparing.pairs import ERROR, State, adjusted_p_values, geometric_mean
from convbench.comparing.sides import Side
from convbench.correctness.verify import Check, Plan, verify
from convbench.correctness.worker import Task, read
from convbench.errors import InputError
from convbench.gate.build import Built
from convbench.gate.pairs import (
    DTYPE,
    SIDES,
    Cell,
    Found,
    Pairs,
    Pooled,
    Progress,
    Templates,
    plain,
)
from convbench.machine.child import Child
from convbench.measuring.asv_store import machine_name
from convbench.measuring.bench import Examiner
from convbench.results.gates import Discarded
from convbench.stimulus.formats import Fill
from convbench.stimulus.targets import Target
from convbench.stimulus.workloads import Workload
from convbench.words.numbers import count, duration, share, times
from convbench.words.status import Outcome, Status

RULE = Rule(delta=0.02)
"""Side by side, 2 % can be told from nothing within minutes."""


class Verdicts:
    """One head against one base, and what is known of it, wherever it was measured.

    Parameters
    ----------
    base, head : Built
    workloads : sequence of Workload
    targets : sequence of (Target, Target)
        Base's and head's.
    rule : Rule
    machine : str
        The name that results of where it is measured are filed under; by default, this machine's.

    Attributes
    ----------
    cells : list of Cell
    pairs : Pooled or None
        None until something is timed.
    """

    def __init__(
        self,
        base: Built,
        head: Built,
        workloads: Sequence[Workload],
        targets: Sequence[tuple[Target, Target]],
        rule: Rule = RULE,
        machine: str = "",
    ) -> None:
        self.base, self.head, self.rule = base, head, rule
        self.machine = machine or machine_name()
        self.cells = [
            Cell(workload.name, workload.pipeline, *both)
            for both in targets
            for workload in workloads
        ]
        self.pairs: Pooled | None = None
        self._checks: dict[tuple[str, Target, str], list[Check]] = {}

    def take(self, side: str, check: Check) -> None:
        """Take in one check of a side."""
        self._checks.setdefault((side, check.target, check.workload), []).append(check)

    def checks(self) -> Iterator[tuple[str, Check]]:
        """All that were taken in, with their sides."""
        for (side, *_), checks in self._checks.items():
            yield from ((side, check) for check in checks)

    def _status(self, side: str, cell: Cell) -> Status | None:
        """Whether a side is right about a cell; a deviation that it declares is."""
        return None if (worst := self._worst(side, cell)) is None else _of(worst)

    def _worst(self, side: str, cell: Cell) -> Check | None:
        target = cell.targets[SIDES.index(side)]
        checks = self._checks.get((side, target, cell.workload), ())
        computed = [c for c in checks if c.status is not Status.SKIPPED] or checks
        return min(computed, key=lambda check: _of(check).rank, default=None)

    @property
    def right(self) -> bool:
        """Whether head computes all that base does, and rightly: if not, no time matters."""
        return not any(self._verdict_of_check(cell) for cell in self.cells)

    @property
    def measurable(self) -> list[Cell]:
        """The cells that head computes rightly."""
        return [cell for cell in self.cells if self._status("head", cell) is Status.OK]

    # -- What it means ---------------------------------------------------------------------------

    def comparison(self) -> Comparison:
        """What is known so far."""
        judged = [told for *_, told in self.judged()]
        cells = [cell for cell in judged if cell is not None]
        return Comparison(
            self._side(self.base),
            self._side(self.head),
            self.rule,
            tuple(sorted(cells, key=worst_first)),
            means=tuple(self._means()),
            changes=tuple(self._changes()),
            warnings=tuple(self._warnings()),
            remarks=tuple(self._remarks()),
            skipped=len(judged) - len(cells),
        )

    def judged(self) -> list[tuple[Cell, Found | None, ComparedCell | None]]:
        """Each cell with what was found and what that means; None where there is neither."""
        found = {id(each.cell): each for each in self.pairs.found} if self.pairs else {}
        p = adjusted_p_values([each.monitor for each in found.values()])
        adjusted = dict(zip(found, p, strict=True))
        return [
            (cell, of := found.get(id(cell)), self._judged(cell, of, adjusted))
            for cell in self.cells
        ]

    def why(self, side: str, cell: Cell) -> str:
        """Why the check of a side did not find it right; "" if it did, or there was none."""
        worst = self._worst(side, cell)
        return "" if worst is None or _of(worst) is Status.OK else worst.reason

    def _side(self, built: Built) -> Side:
        return Side(built.commit, built.environment, self.machine)

    def _warnings(self) -> Iterator[str]:
        for name, built in (("base", self.base), ("head", self.head)):
            if built.changed:
                yield f"{name} is the working tree, which differs from its commit"
        same = self.base.tree == self.head.tree and self.base.python == self.head.python
        if same and all(cell.base == cell.head for cell in self.cells):
            yield "both sides are the same code: whatever is found is noise"
        if not self.right and self.pairs is None:
            yield "nothing was timed, since head is not right"
        cells = self.pairs.found if self.pairs else []
        if discarded := list(filter(None, (found.discarded for found in cells))):
            of_all = Discarded(
                sum(each.quartets for each in discarded),
                sum(each.of for each in discarded),
                tuple(sorted({reason for each in discarded for reason in each.why})),
            )
            yield f"in {count(len(discarded), 'cell')} {of_all}. Let it cool, and see to its power"
        cards = [card for found in cells for card in found.cards.values()]
        if cards and not any(card.told for card in cards):
            yield "the driver does not tell whether the card was slowed down: nothing is discarded"

    def _remarks(self) -> Iterator[str]:
        found = self.pairs.found if self.pairs else []
        if by_events := sorted({each.cell.target for each in found if each.events}):
            yield (
                f"of {', '.join(by_events)} the card's events decide; base and head are shown by"
                " the host's clock"
            )

    def _judged(
        self, cell: Cell, found: Found | None, adjusted: Mapping[int, float]
    ) -> ComparedCell | None:
        """Say what became of a cell; None if neither side computes it."""
        if (of_check := self._verdict_of_check(cell)) is not None:
            return self._without_time(cell, *of_check)
        status = self._status("head", cell)
        if status is Status.SKIPPED or (found is None and status is None):
            return None
        if found is None:
            return self._without_time(cell, Verdict.EQUIVALENT, "head is right; it was not timed")
        if found.outcomes:
            return self._without_time(cell, *_of_outcomes(found.outcomes), found)
        return self._with_time(found, adjusted[id(cell)])

    def _verdict_of_check(self, cell: Cell) -> tuple[Verdict, str] | None:
        """What the checks of the outputs decide by themselves."""
        head, base = self._worst("head", cell), self._status("base", cell)
        if head is None or _of(head) is Status.OK:
            return None
        reason = f"head: {head.reason}"
        if _of(head) is Status.SKIPPED:
            return (Verdict.SKIPPED, reason) if base is Status.OK else None
        wrong = _of(head) is Status.WRONG
        if base in {Status.WRONG, Status.FAILED}:
            return (Verdict.STILL_WRONG if wrong else Verdict.STILL_FAILED), f"as in base; {reason}"
        return (Verdict.WRONG if wrong else Verdict.FAILED), f"{reason}; {head.command()}"

    def _measured(self, side: str, cell: Cell, found: Found | None = None) -> Measured:
        worst = self._worst(side, cell)
        checks = self._checks_of(side, cell)
        ratios = [
            c.accuracy.ratio for c in checks if c.accuracy and c.status is not Status.DEVIATES
        ]
        of_timed = found.worst.get(side) if found else None
        if of_timed is not None:
            ratios.append(of_timed.ratio)
        correct = None if worst is None else _of(worst)
        if found is not None and of_timed is not None:
            correct = Status.OK if of_timed.ok else Status.WRONG
        seconds = [*found.medians(side).values()] if found else []
        return Measured(
            status=Status.OK if seconds else None,
            value=statistics.geometric_mean(seconds) if seconds else None,
            processes=len(seconds),
            correct=correct,
            error_over_bound=max(ratios, default=None),
            algorithm=found.algorithms.get(side, "") if found else "",
            standing=found.standing(side) if found else None,
        )

    def _checks_of(self, side: str, cell: Cell) -> Sequence[Check]:
        return self._checks.get((side, cell.targets[SIDES.index(side)], cell.workload), ())

    def _without_time(
        self, cell: Cell, verdict: Verdict, reason: str, found: Found | None = None
    ) -> ComparedCell:
        base, head = (self._measured(side, cell, found) for side in SIDES)
        discarded = found.discarded if found else None
        return ComparedCell(
            "time" if found else "accuracy", "pipeline", cell.target, cell.workload, "",
            verdict, reason, base, head, pairs=len(found.samples) if found else 0,
            notes=(str(discarded),) if discarded else (), discarded=discarded,
        )  # fmt: skip

    def _with_time(self, found: Found, p_value: float) -> ComparedCell:
        assert self.pairs is not None
        monitor, cell = found.monitor, found.cell
        if not found.samples:
            tried = found.discarded is not None
            what = "enough of it counted" if tried else "it was measured"
            reason = f"the budget ended before {what}"
            return self._without_time(cell, Verdict.UNDECIDED, reason, found)
        ratio, low, high = monitor.estimate
        effect = Effect(ratio, low, high, p_value, monitor.smallest_effect)
        judged = self._without_time(cell, Verdict.UNDECIDED, "", found)
        # What the host's clock says is the history's, and shown as it is beside the card's events.
        judged = replace(judged, effect=effect) if found.events else paired(judged, effect)
        span = f"head takes {times(low)} to {times(high)} times as long" if low and high else ""
        to_decide_s = None
        if p_value <= 1 - self.rule.confidence:
            verdict = Verdict.REGRESSED if ratio > 1 else Verdict.IMPROVED
            factor = f"{times(max(ratio, 1 / ratio))}x {'slower' if ratio > 1 else 'faster'}"
            reason = (
                f"{factor}: {span}, in {len(monitor.first)} pairs and {len(monitor.fresh)} fresh"
            )
        elif monitor.state is State.EQUIVALENT:
            verdict = Verdict.EQUIVALENT
            reason = f"within {100 * self.rule.delta:g} %: {span}"
        else:
            verdict = Verdict.UNDECIDED
            each_s = self.pairs.pair_s.get(cell.target, 1.0)
            to_decide_s = max(1, monitor.pairs_to_go()) * each_s
            parts = [span] if span else []
            if (seen := effect.seen) is not None:
                parts.append(f"{share(seen)} slower would have been seen")
            if monitor.state is State.FLAGGED:
                parts.append("it seems to differ, and was to be measured again")
            parts.append(f"about {duration(to_decide_s)} more on it would decide")
            reason = "; ".join(parts)
        notes = [*judged.notes]
        before, after = (found.algorithms.get(side, "") for side in SIDES)
        if before != after:
            notes.append(f"the algorithm was {before} and is {after}")
        if found.events and verdict is not Verdict.REGRESSED:
            base, head = (found.medians(side) for side in SIDES)
            by_host = {pair: math.log(head[pair] / base[pair]) for pair in base}
            _, low, high = geometric_mean([by_host], 1 - ERROR)
            if low and high and low > 1 + self.rule.delta:
                verdict, to_decide_s = Verdict.UNDECIDED, None
                reason = (
                    f"by the card's events {reason}; by the host's clock {times(low)} to "
                    f"{times(high)} times: what it does around the card's work is slower, or the"
                    " events are not to be believed"
                )
        return replace(
            judged, verdict=verdict, reason=reason, notes=tuple(notes), to_decide_s=to_decide_s
        )

    def _means(self) -> Iterator[Mean]:
        by_target: dict[str, list[dict[int, float]]] = {}
        for found in self.pairs.found if self.pairs else ():
            if not found.outcomes and found.samples:
                by_target.setdefault(found.cell.target, []).append(found.monitor.counted)
        for target, cells in sorted(by_target.items()):
            yield Mean(target, len(cells), *geometric_mean(cells, self.rule.confidence))

    def _changes(self) -> Iterator[Change]:
        if self.pairs is None:
            return
        before, after = (self.pairs.versions[side] for side in SIDES)
        found: dict[tuple[str, str, str], list[str]] = {}
        for target in sorted(before.keys() & after.keys()):
            for name in sorted(before[target].keys() | after[target].keys()):
                one, other = (side[target].get(name, "") for side in (before, after))
                if one != other:
                    found.setdefault((name, one, other), []).append(target)
        for (name, one, other), targets in sorted(found.items()):
            yield Change(name, one, other, tuple(targets))


class Gate(Verdicts):
    """One that is measured on this machine; use it as a context manager.

    Parameters
    ----------
    base, head, workloads, targets, rule
        As of :class:`Verdicts`.
    interface : Path
        The suites' `interface.py`, for both sides.
    """

    def __init__(
        self,
        base: Built,
        head: Built,
        workloads: Sequence[Workload],
        targets: Sequence[tuple[Target, Target]],
        interface: Path,
        rule: Rule = RULE,
    ) -> None:
        super().__init__(base, head, workloads, targets, rule)
        self._workloads = {workload.name: workload for workload in workloads}
        self.templates = Templates({"base": base, "head": head}, interface)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.templates.close()

    def check(self) -> Generator[Check]:
        """Hold what head computes against the oracle; base too, where head is not right.

        Raises
        ------
        InputError
            If neither side has a target.
        """
        yield from self._check("head", self.cells)
        bad = [cell for cell in self.cells if self._status("head", cell) is not Status.OK]
        yield from self._check("base", bad)
        unknown = self.templates.unknown
        for cell in bad:
            said = [unknown.get(each) for each in zip(SIDES, cell.targets, strict=True)]
            if all(said) and (head := said[1]):
                raise InputError(
                    f"--target: the target is {cell.target}, which neither side has ({head.reason})"
                    "; expected what at least one of them can open. Correct the name."
                )

    def _check(self, side: str, cells: Sequence[Cell]) -> Iterator[Check]:
        place = SIDES.index(side)

        def start(target: Target, timeout_s: float, *_: object) -> _SideWorker:
            return _SideWorker(self.templates, side, target, timeout_s)

        for target in dict.fromkeys(cell.targets[place] for cell in cells):
            names = [cell.workload for cell in cells if cell.targets[place] == target]
            plan = Plan([self._workloads[name] for name in names], {target: None}, (DTYPE,))
            for check in verify(plan, start):
                self.take(side, check)
                yield check

    def measure(
        self, budget_s: float, examiners: Sequence[Examiner], *, checked: bool = True
    ) -> Generator[Progress]:
        """Measure the cells that head computes rightly, on as many cores as there are examiners.

        Parameters
        ----------
        checked : bool
            They have been checked; else all are measured, and are right as far as timed calls show.
        """
        cells = self.measurable if checked else self.cells
        pairs = self.pairs = Pairs(self.templates, cells, self.rule, budget_s, examiners)
        yield from pairs.measure()


def _of(check: Check) -> Status:
    return Status.OK if check.status is Status.DEVIATES else check.status


def _of_outcomes(outcomes: Mapping[str, Outcome]) -> tuple[Verdict, str]:
    """What follows where a side has no time that can be trusted."""
    base, head = outcomes.get("base"), outcomes.get("head")
    if head is None:
        assert base is not None
        if base.status is Status.SKIPPED:
            return Verdict.NEW, f"head is right; base: {base.reason}"
        if base.status in {Status.WRONG, Status.FAILED}:
            return Verdict.FIXED, f"head is right; base: {base.reason}"
        return Verdict.NOT_COMPARABLE, f"base: {base.reason}"
    if head.status is Status.WRONG:
        still = base is not None and base.status is Status.WRONG
        return (Verdict.STILL_WRONG if still else Verdict.WRONG), f"head: {head.reason}"
    if head.status is Status.SKIPPED:
        return Verdict.SKIPPED, f"head: {head.reason}"
    return (Verdict.STILL_FAILED if base else Verdict.FAILED), f"head: {head.reason}"


@dataclass(slots=True)
class _SideWorker:
    """Computes cells in processes of a side, one after another has died."""

    templates: Templates
    side: str
    target: Target
    timeout_s: float
    _child: Child | None = None

    def compute(self, task: Task) -> Computed | Outcome:
        if self._child is None:
            opened = self.templates.open(self.side, self.target, None)
            if isinstance(opened, Outcome):
                return opened
            self._child, _ = opened
        fill = task.fill or Fill.NORMAL
        order: dict[str, Any] = {"do": "compute", "thorough": task.thorough}
        order |= plain(task.pipeline, task.inputs, fill)
        answer = self._child.ask(order, self.timeout_s)
        computed = answer if isinstance(answer, Outcome) else read(answer)
        if isinstance(computed, Outcome) and computed.process_lost:
            self.close()
        return computed

    def close(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
