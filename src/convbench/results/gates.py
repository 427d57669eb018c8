"""Gates that are stored: what two commits took when they were measured side by side.

A gate is one file of JSON, written whole when it ends, beside the evidence of its machine::

    .asv/evidence/<machine>/<base>-<head>-<when>-<any>.gate.json

docs/evidence.md documents its fields. What it says of either side of a cell becomes a record, as
that of any other measurement; beside them are the logarithms of head / base, one a pair.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from convbench.results import machines
from convbench.results.folder import FiledGate, Folder, short
from convbench.results.journal import UNREADABLE, centre, content, listed, number, table, unreadable
from convbench.results.records import Record, doubt
from convbench.words.status import Status

SCHEMA = "convbench.gate_evidence/1"

SIDES = ("base", "head")

MOST_LOG = 30.0
"""No two times are further apart than this power of e."""

SIDE_BY_SIDE = "measured side by side"

GATE_VERSION = "gate"
"""The version of what its records measure: it is no benchmark of asv's."""

_TIME = "bench_pipeline.Gate.track_time"
_CHECK = "bench_accuracy.Gate.track_error_over_bound"


@dataclass(frozen=True, slots=True)
class Discarded:
    """What does not count, since a card was slowed down meanwhile.

    Attributes
    ----------
    quartets, of : int
        Of blocks, so many of all that were measured.
    why : tuple of str
        NVML's names of the reasons.
    """

    quartets: int
    of: int
    why: tuple[str, ...]

    def __str__(self) -> str:
        why = ", ".join(self.why)
        return f"{self.quartets} of {self.of} quartets discarded: the card was slowed down ({why})"


@dataclass(frozen=True, slots=True)
class GatedSide:
    """What a side was.

    Attributes
    ----------
    commit : str
        The full hash.
    environments : tuple of str
        The names of its environment: the gate's own, and what asv calls its interpreter where that
        is found and not built.
    changed : bool
        It was another thing than what is in that commit.
    """

    commit: str
    environments: tuple[str, ...]
    changed: bool


@dataclass(frozen=True, slots=True)
class GatedCell:
    """One workload on one target, on both sides.

    Attributes
    ----------
    times, checks : (Record or None, Record or None)
        Base's and head's: the time, or why there is none that can be trusted; and the check of the
        output. None where there is neither.
    log_ratios : mapping of int to float
        By the number of the pair, the logarithm of head / base, of the pairs that count: what has
        made a cell seem to differ does not count, but the pairs after that.
    flops : float
        Of the workload.
    said : str
        The gate's own verdict and reason.
    """

    times: tuple[Record | None, Record | None]
    checks: tuple[Record | None, Record | None]
    log_ratios: Mapping[int, float]
    flops: float
    said: str

    def turned(self) -> Self:
        """The same with base and head exchanged."""
        turned = {pair: -log for pair, log in self.log_ratios.items()}
        return replace(
            self, times=self.times[::-1], checks=self.checks[::-1], log_ratios=turned
        )  # fmt: skip

    @property
    def tells(self) -> bool:
        """Whether it says more than that head is right: a time, or what is wrong with a side."""
        records = filter(None, (*self.times, *self.checks))
        return bool(self.log_ratios) or any(r.status is not Status.OK for r in records)


@dataclass(frozen=True, slots=True)
class Gate:
    """One stored gate.

    Attributes
    ----------
    ended_s : float
        In seconds since 1970.
    cells : mapping of (str, str) to GatedCell
        By target and workload. Those of two targets, one a side, are no cells of two commits.
    delta : float
        The share that did not matter to it, by which its own verdicts are; 0 if it does not say.
    """

    machine: str
    ended_s: float
    base: GatedSide
    head: GatedSide
    cells: Mapping[tuple[str, str], GatedCell]
    delta: float = 0.0

    @property
    def within(self) -> str:
        """What did not matter to it, in words: ", beyond 2 %"."""
        return f", beyond {100 * self.delta:g} %" if self.delta else ""

    @property
    def committed(self) -> bool:
        """Whether both sides are what is in their commits."""
        return not self.base.changed and not self.head.changed

    def fits(self, side: GatedSide, commit: str, machine: str, environment: str) -> bool:
        """Whether one of its sides is that; a commit may be given by its start."""
        here = machine == self.machine and environment in side.environments
        return here and side.commit.startswith(commit)

    def turned(self) -> Self:
        """The same with base and head exchanged."""
        cells = {name: cell.turned() for name, cell in self.cells.items()}
        return replace(self, base=self.head, head=self.base, cells=cells)


@dataclass(frozen=True, slots=True)
class LoadedGates:
    """Those that could be read, the newest first, and what could not."""

    gates: tuple[Gate, ...] = ()
    problems: tuple[str, ...] = ()


def load(results_dir: Path | str, wanted: Callable[[FiledGate], bool]) -> LoadedGates:
    """Read the gates whose names are wanted; what cannot be read is a problem, named with why."""
    gates: list[Gate] = []
    problems: list[str] = []
    folder = Folder(Path(results_dir))
    called = machines.names(folder)
    for filed in folder.gates():
        if not wanted(filed):
            continue
        try:
            gate = _gate(filed, problems)
        except UNREADABLE as error:
            problems.append(f"{filed.path}: left out, because {unreadable(error)}")
            continue
        gates.append(replace(gate, machine=called.get(gate.machine, gate.machine)))
    gates.sort(key=lambda gate: -gate.ended_s)
    return LoadedGates(tuple(gates), tuple(problems))


def between(one: str, other: str) -> Callable[[FiledGate], bool]:
    """For :func:`load`: gates of these two commits, whichever was the base."""
    both = {short(one), short(other)}
    return lambda filed: {filed.base, filed.head} == both


def _gate(filed: FiledGate, problems: list[str]) -> Gate:
    told = table(json.loads(content(filed.path)), "it")
    if told["schema"] != SCHEMA:
        raise ValueError(f"its schema is {told['schema']!r:.80} and this version reads {SCHEMA!r}")
    ended_s = number(told["ended_s"], "ended_s")
    sides = [table(told[side], side) for side in SIDES]
    base, head = map(_side, sides)
    cells = {}
    for place, cell in enumerate(listed(told["cells"], "cells"), start=1):
        try:
            described = table(cell, "it")
            target, workload = (str(described[name]) for name in ("base_target", "workload"))
            if described["head_target"] == target:
                versions = [_versions(side, target) for side in sides]
                about = [
                    {"machine": filed.machine, "commit": side.commit,
                     "environment": side.environments[0], "commit_time_s": 0.0,
                     "measured_at_s": ended_s, "version": GATE_VERSION, "target": target,
                     "workload": workload, "stage": ""}
                    for side in (base, head)
                ]  # fmt: skip
                cells[target, workload] = _cell(described, about, versions)
        except UNREADABLE as error:
            why = unreadable(error)
            problems.append(f"{filed.path}: cell {place} left out, because {why}")
    rule = table(told.get("rule", {}), "the rule")
    delta = number(rule.get("delta", 0.0), "delta")
    return Gate(filed.machine, ended_s, base, head, cells, delta)


def _side(told: Mapping[str, Any]) -> GatedSide:
    commit, changed = str(told["commit"]), told["changed"]
    if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", commit) is None:
        raise ValueError(f"{commit!r:.80} is no hash of a commit")
    if not isinstance(changed, bool):
        raise TypeError("whether a side was changed is not said")
    return GatedSide(commit, (str(told["environment"]), str(told["existing"])), changed)


def _versions(side: Mapping[str, Any], target: str) -> dict[str, str]:
    known = table(table(side["versions"], "versions").get(target, {}), "versions")
    return {name: str(version) for name, version in known.items()}


def _cell(
    told: Mapping[str, Any],
    about: Sequence[Mapping[str, Any]],
    versions: Sequence[Mapping[str, str]],
) -> GatedCell:
    pairs: dict[int, tuple[float, ...]] = {}
    only_fresh = told["state"] == "flagged"  # by chance, perhaps; "different" has been confirmed
    for each in listed(told["pairs"], "pairs"):
        pair = table(each, "a pair")
        log_ratio, *seconds = (number(pair[name], name) for name in ("log_ratio", *_SECONDS))
        if abs(log_ratio) > MOST_LOG or min(seconds) <= 0:
            raise ValueError(f"a pair has the times {seconds} and the logarithm {log_ratio}")
        if not only_fresh or pair["fresh"] is True:
            pairs[int(number(pair["pair"], "pair"))] = (log_ratio, *seconds)
    sides = [table(told[side], side) for side in SIDES]
    times = [
        _time(side, [pair[1 + i] for pair in pairs.values()], versions[i], about[i])
        for i, side in enumerate(sides)
    ]
    checks = [_check(side, of) for side, of in zip(sides, about, strict=True)]
    return GatedCell(
        (times[0], times[1]),
        (checks[0], checks[1]),
        {place: pair[0] for place, pair in pairs.items()},
        number(told["flops"], "flops"),
        f"{told['verdict']}: {told['reason']}{_discarded(told.get('discarded'))}",
    )


def _discarded(told: Any) -> str:
    """What does not count of a cell, in words; files from before this have no such field."""
    if told is None:
        return ""
    lost = table(told, "what was discarded")
    quartets, of = (int(number(lost[name], name)) for name in ("quartets", "of"))
    return f"; {Discarded(quartets, of, tuple(map(str, listed(lost['why'], 'why'))))}"


_SECONDS = tuple(f"{side}_s" for side in SIDES)


def _time(
    told: Mapping[str, Any],
    seconds: Sequence[float],
    versions: Mapping[str, str],
    about: Mapping[str, Any],
) -> Record | None:
    """What a side took, or why that is not known; None if it was not timed."""
    facts: dict[str, Any] = {"versions": versions, "algorithm": str(told["algorithm"])}
    if told["receipt"] is not None:
        facts["receipt"] = table(told["receipt"], "receipt")
    status, reason = _outcome(told["outcome"])
    if status in {Status.OK, Status.DEVIATES}:
        raise ValueError(f"{status} is no reason why there is no time")
    if status is None and not seconds:
        return None
    if status is None and (why := doubt(facts.get("receipt"))):
        status, reason = Status.INVALID, f"what was seen does not support it: {why}"
    if status not in {None, Status.INVALID}:  # what was measured of it before means nothing
        seconds = ()
    return Record(
        **about, benchmark=_TIME, kind="time", status=status or Status.OK,
        value=centre(seconds) if seconds else None, processes=tuple(seconds),
        reason=reason and f"{SIDE_BY_SIDE}: {reason}", facts=facts,
    )  # fmt: skip


def _check(told: Mapping[str, Any], about: Mapping[str, Any]) -> Record | None:
    """What was found of the outputs of a side; None if none was looked at."""
    status, reason = _outcome(told["check"])
    error = told["error_over_bound"]
    if error is not None:
        error = math.inf if error == "inf" else number(error, "error_over_bound")
        if error > 1:
            status = Status.WRONG
            reason = reason or f"the error is {error:.3g} times its bound"
    if status is None:
        return None
    return Record(
        **about, benchmark=_CHECK, kind="accuracy", status=status, value=error,
        reason=reason and f"{SIDE_BY_SIDE}: {reason}",
    )  # fmt: skip


def _outcome(told: Any) -> tuple[Status | None, str]:
    if told is None:
        return None, ""
    outcome = table(told, "an outcome")
    return Status(str(outcome["status"])), str(outcome["reason"])
