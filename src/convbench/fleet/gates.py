"""A gate whose pairs equal machines measure, each pair on one of them, and that is decided here.

A worker is asked to build both sides, to check head's outputs, and then for *slices*: pairs of all
that is open, for some seconds. What it has seen is taken in pair by pair, as if it had been seen
here, and what the next slice is asked to measure follows from it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

from convbench.comparing.comparison import Rule
from convbench.correctness.verify import Check
from convbench.errors import InputError
from convbench.fleet.client import Fleet, Order, Range
from convbench.fleet.slots import Labels
from convbench.fleet.units import Kind
from convbench.gate import slices
from convbench.gate.build import Built, Wanted, as_commit
from convbench.gate.pairs import Pooled, Progress
from convbench.gate.verdicts import Verdicts
from convbench.results.journal import UNREADABLE, table, unreadable
from convbench.stimulus.targets import Target
from convbench.stimulus.workloads import Workload
from convbench.words.status import Exit

T = TypeVar("T")

SLICES = 8
"""At least so many for each machine, unless they would be shorter than the shortest."""

LEAST_SLICE_S, MOST_SLICE_S = 5.0, 30.0

TRIES = 3
"""So many slices in a row may fail before the gate ends with what it has."""

TIMEOUT_S = 7200.0


@dataclass
class Machines:
    """Equal machines that a gate is given to.

    Attributes
    ----------
    fleet : Fleet
    kind : Kind
    of : Range
        What is sent of the repository.
    sides : sequence of (Wanted, str, str)
        Base and head, with the commit that each is of, and that which is sent.
    facts, before, after : dict
        The machine that has answered first, and how it was before its first and after its last
        answer.
    """

    fleet: Fleet
    kind: Kind
    of: Range
    sides: Sequence[tuple[Wanted, str, str]]
    facts: dict[str, Any] = field(default_factory=dict)
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def given(cls, fleet: Fleet, kind: Kind, sides: Sequence[Wanted], root: Path) -> Self:
        """Ready to be asked about two sides of a repository.

        Raises
        ------
        InputError
            If there is no such side.
        """
        found = [(side, *as_commit(side, root)) for side in sides]
        return cls(fleet, kind, Range.holding([sent for *_, sent in found], root), found)

    @property
    def moments(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """The machine, and how it was when it began and when it ended."""
        return self.facts, self.before, self.after

    def build(self, side: Wanted) -> Built:
        """Have one of them build a side: what there is to say of it.

        Raises
        ------
        InputError
            If it cannot be built there.
        """
        commit, sent = next((of, sent) for known, of, sent in self.sides if known == side)
        asked = {"step": "build", "commits": [sent], "environments": [side.environment]}

        def read(told: dict[str, Any]) -> Built:
            (of,) = told["sides"]
            return slices.built(of)

        with closing(self.answers(partial(next, iter([asked]), None), read)) as answers:
            built, reason = next(answers)
        if built is None:
            raise InputError(
                f"gate: what a worker builds for {side} is an error ({reason}); expected it to be"
                " built there. Mend that, or name a side that can be."
            )
        return replace(built, name=str(side), commit=commit, changed=sent != commit)

    def answers(
        self,
        step: Callable[[], dict[str, Any] | None],
        read: Callable[[dict[str, Any]], T],
        *,
        cards: bool = False,
    ) -> Generator[tuple[T | None, str]]:
        """Ask for one step after the other, and what is read of each; or None, and why not.

        What no worker refuses, but has an accident with, is asked for once more.
        """
        about = {"do": "gate", "machine": self.kind.machine}
        names = (Labels.KIND + self.kind.hardware, Labels.OURS, *["gpu"] * cards)
        again: list[dict[str, Any]] = []

        def following() -> Order | None:
            asked = again.pop() if again else step()
            if asked is None:
                return None
            key = f"convbench-gate-{uuid.uuid4().hex}"
            return Order(key, dict.fromkeys(names, 1), about | asked)

        given = self.fleet.answers({self.kind.hardware: following}, self.of, TIMEOUT_S)
        with closing(given):
            for order, sent in given:
                told, reason, accident = self._told(sent, read)
                if accident and not order.asked.get("again"):
                    again.append({**order.asked, "again": True})
                    continue
                yield told, reason

    def _told(
        self, sent: bytes | str, read: Callable[[dict[str, Any]], T]
    ) -> tuple[T | None, str, bool]:
        """What was told, or None and why; and whether its process has only met with an accident."""
        if isinstance(sent, str):
            return None, sent, False
        try:
            answer = json.loads(sent)
            if (code := int(answer["code"])) != Exit.OK:
                last = "; ".join(str(answer["said"]).strip().splitlines()[-3:])
                reason = f"{answer['worker']}: {last or f'exit status {code}'}"
                return None, reason, code != Exit.INPUT
            told = table(answer["told"], "what is told")
            facts, *moments = (table(told[name], name) for name in ("machine", "before", "after"))
            found = read(told)
        except UNREADABLE as error:
            return None, f"what a worker sent cannot be used: {unreadable(error)}", False
        self.facts = self.facts or facts
        self.before = self.before or moments[0]
        self.after = moments[1]
        return found, "", False


class FleetGate(Verdicts):
    """One head against one base, on other machines.

    Parameters
    ----------
    machines : Machines
    base, head, workloads, targets, rule
        As of :class:`~convbench.gate.verdicts.Verdicts`.
    say : callable
        Is told what machines have failed at.
    cores : int, optional
        Of each machine, so many; by default, all.
    """

    def __init__(
        self,
        machines: Machines,
        base: Built,
        head: Built,
        workloads: Sequence[Workload],
        targets: Sequence[tuple[Target, Target]],
        rule: Rule,
        say: Callable[[str], None],
        cores: int | None = None,
    ) -> None:
        super().__init__(base, head, workloads, targets, rule, machines.kind.machine)
        self._machines = machines
        self._cards = machines.kind.cards and any(cell.cards for cell in self.cells)
        self._asked: dict[str, Any] = {
            "commits": [sent for *_, sent in machines.sides],
            "environments": [side.environment for side, *_ in machines.sides],
            "targets": [[str(each) for each in both] for both in targets],
            "workloads": [[each.name, each.pipeline.to_dict()] for each in workloads],
            "cores": cores,
        }
        self.say = say

    @property
    def workers(self) -> int:
        """How many machines there were."""
        return self._machines.kind.workers

    def check(self) -> Generator[Check]:
        """Have a machine hold what head computes of each target against the oracle.

        Raises
        ------
        InputError
            If it cannot be done there.
        """
        steps = (
            self._asked | {"step": "check", "targets": [both]} for both in self._asked["targets"]
        )

        def read(told: dict[str, Any]) -> list[tuple[str, Check]]:
            return [slices.check(each) for each in told["checks"]]

        next_step = partial(next, steps, None)
        with closing(self._machines.answers(next_step, read, cards=self._cards)) as answers:
            for found, reason in answers:
                if found is None:
                    raise InputError(
                        f"gate: what came of checking head on a worker is an error ({reason});"
                        " expected an answer about every output. Mend that, and start again."
                    )
                for side, check in found:
                    self.take(side, check)
                    yield check

    def measure(self, budget_s: float) -> Generator[Progress]:
        """Have them measure what head computes rightly, until all is decided or it is spent.

        It ends, too, when several slices in a row have failed, or the scheduler is gone: what was
        measured is kept.
        """
        cells = self.measurable
        places = [self.cells.index(cell) for cell in cells]
        pooled = self.pairs = Pooled(cells, self.rule, budget_s)
        pooled.begin()
        slice_s = min(max(budget_s / SLICES, LEAST_SLICE_S), MOST_SLICE_S)

        def step() -> dict[str, Any] | None:
            left_s = budget_s * (1 - pooled.share)
            if (left_s <= 0 and pooled.pairs) or not (open_ := slices.open_cells(pooled)):
                return None
            told = {"cells": places, "open": open_, "slice_s": max(1.0, min(slice_s, left_s))}
            return self._asked | {"step": "measure"} | told

        failed = 0
        try:
            read = partial(slices.take, pooled)
            with closing(self._machines.answers(step, read, cards=self._cards)) as answers:
                for _, reason in answers:
                    failed = failed + 1 if reason else 0
                    if reason:
                        self.say(f"WARNING: a slice was not measured: {reason}")
                    yield pooled.progress("")
                    if failed >= TRIES:
                        self.say(f"WARNING: {failed} slices in a row were not, so this is all")
                        return
        except InputError as error:
            self.say(f"WARNING: {error}")
        finally:
            pooled.finish()
