"""Would the checks notice? Every known fault is planted into every backend, and must be caught.

Which faults a format shows is decided on the oracle: numbers of float32 cannot be rounded to it.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from convbench.backends.compute import Computed
from convbench.correctness import oracle
from convbench.correctness.accuracy import Reference, accuracy_of, refer_for
from convbench.correctness.faults import FAULTS
from convbench.correctness.worker import Task, Worker
from convbench.stimulus.arrays import Array
from convbench.stimulus.formats import Fill, format_of
from convbench.stimulus.inputs import Inputs, make_inputs
from convbench.stimulus.probes import SENSITIVE
from convbench.stimulus.spec import PipelineSpec
from convbench.stimulus.targets import Target
from convbench.words.status import Exit, Outcome, Status
from convbench.words.table import Column, Styled, Table, line, remark, stacked

if TYPE_CHECKING:
    from rich.console import RenderableType

_SEED = 0


@dataclass(frozen=True, slots=True)
class Planted:
    """One fault in one target.

    Attributes
    ----------
    caught : tuple of Fill
        The fills that showed it.
    hidden : str
        Why only fills could show it for which the backend declares that it differs; empty if not.
    """

    target: Target
    fault: str
    caught: tuple[Fill, ...]
    hidden: str = ""

    @property
    def missed(self) -> bool:
        """Whether it should have been caught and was not."""
        return not self.caught and not self.hidden

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "target": str(self.target),
            "fault": self.fault,
            "what": FAULTS[self.fault].what,
            "caught_by": [str(fill) for fill in self.caught],
            "hidden": self.hidden,
        }


Unfit = tuple[Target, Outcome]
"""A target into which nothing can be planted: absent, or wrong without any fault."""


def self_test(
    targets: Mapping[Target, Outcome | None], timeout_s: float, dtype: str = "float32"
) -> Generator[Planted | Unfit]:
    """Plant every fault into every target, as it is done.

    A fault is tried with each fill on one pipeline after the other until one shows it.
    """
    for target, absence in targets.items():
        with Worker(target, timeout_s, absence) as worker:
            deviations: dict[tuple[int, Fill], str] = {}
            unfit = _examine(worker, dtype, deviations)
            if unfit is not None:
                yield target, unfit
                continue
            for fault in faults_shown(dtype):
                yield _plant(worker, fault, dtype, deviations)


@cache
def faults_shown(dtype: str = "float32") -> tuple[str, ...]:
    """Those in :data:`.faults.FAULTS` that can be seen in a format."""
    tries = [(number, fill) for fill in Fill for number in range(len(SENSITIVE))]
    return tuple(
        fault for fault in FAULTS if any(_shows(n, dtype, fill, fault) for n, fill in tries)
    )


def exit_code(results: Sequence[Planted | Unfit]) -> Exit:
    """Whether a fault was missed or a target is wrong, or none was planted."""
    planted = [result for result in results if isinstance(result, Planted)]
    unfit = [result[1] for result in results if isinstance(result, tuple)]
    if any(p.missed for p in planted) or any(u.status is not Status.SKIPPED for u in unfit):
        return Exit.WRONG
    return Exit.OK if planted else Exit.NOTHING


def render(results: Sequence[Planted | Unfit]) -> RenderableType:
    """Lay out which fill caught what, and the score of each target."""
    planted = {(p.fault, p.target): p for p in results if isinstance(p, Planted)}
    faults = dict.fromkeys(fault for fault, _ in planted)
    targets = dict.fromkeys(target for _, target in planted)
    columns = [Column("planted fault", [FAULTS[fault].what for fault in faults], "name")]
    columns += [
        Column(f"{target} caught by", [_cell(planted.get((f, target))) for f in faults], "word")
        for target in targets
    ]
    parts: list[RenderableType] = [Table(columns)]
    for target in targets:
        mine = [p for p in planted.values() if p.target == target]
        hidden = [p for p in mine if p.hidden]
        due = len(mine) - len(hidden)
        caught = sum(bool(p.caught) for p in mine)
        by_fill = ", ".join(f"{fill} {sum(fill in p.caught for p in mine)}" for fill in Fill)
        style = "bold red" if caught < due else "green"
        parts.append(line(f"{target}: {caught} of {due} caught ({by_fill})", style=style))
        parts += [
            line(f"not counted, {FAULTS[p.fault].what}: {p.hidden}", indent=4, style="yellow")
            for p in hidden
        ]
    for result in results:
        if isinstance(result, tuple):
            target, why = result
            parts += remark(why.status, f"{target}: {why.reason}", [why.remedy], "yellow")
    return stacked(parts)


def _examine(worker: Worker, dtype: str, deviations: dict[tuple[int, Fill], str]) -> Outcome | None:
    """See that the target is right without a fault, and note where it says that it is not."""
    for number in range(len(SENSITIVE)):
        for fill in Fill:
            pipeline, inputs, expected = _probe(number, dtype, fill)
            answer = worker.compute(Task(pipeline, inputs, fill))
            if isinstance(answer, Outcome):
                return answer
            if answer.deviation:
                deviations[number, fill] = answer.deviation
            elif not (worst := accuracy_of(answer.output, expected)).ok:
                reason = f"wrong without any fault: {pipeline} {fill} {worst}"
                return Outcome(Status.WRONG, reason)
    return None


def _plant(
    worker: Worker, fault: str, dtype: str, deviations: Mapping[tuple[int, Fill], str]
) -> Planted:
    caught, could, hidden = [], False, ""
    for fill in Fill:
        for number in range(len(SENSITIVE)):
            if not _shows(number, dtype, fill, fault):
                continue
            if (number, fill) in deviations:
                hidden = deviations[number, fill]
                continue
            could = True
            pipeline, inputs, expected = _probe(number, dtype, fill)
            answer = worker.compute(Task(pipeline, inputs, fill, fault))
            if isinstance(answer, Computed) and not accuracy_of(answer.output, expected).ok:
                caught.append(fill)
                break
    return Planted(worker.target, fault, tuple(caught), "" if could else hidden)


@cache
def _probe(number: int, dtype: str, fill: Fill) -> tuple[PipelineSpec, Inputs, Reference]:
    pipeline = SENSITIVE[number]
    inputs = make_inputs(pipeline, dtype, fill, _SEED)
    return pipeline, inputs, refer_for(pipeline, inputs, fill)


@cache
def _shows(number: int, dtype: str, fill: Fill, fault: str) -> bool:
    """Whether the fault would show, planted into the oracle."""

    def rightly(pipeline: PipelineSpec, inputs: Inputs) -> Array:
        with np.errstate(all="ignore"):
            return oracle.compute(pipeline, inputs).astype(format_of(dtype).storage)

    pipeline, inputs, expected = _probe(number, dtype, fill)
    output = FAULTS[fault].apply(rightly, pipeline, inputs)
    return output is not None and not accuracy_of(output, expected).ok


def _cell(planted: Planted | None) -> Styled:
    if planted is None:
        return ""
    if planted.missed:
        return "MISSED", "bold red"
    return ", ".join(planted.caught) or "not counted"
