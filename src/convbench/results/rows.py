"""From records to rows: a workload on a target, with what is derived, and a table of them.

GFLOP/s and the place on the roofline are derived here and never tracked: asv takes lower to be
better everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from convbench.results.ceilings import Ceiling, find_ceilings, impossible
from convbench.results.folder import environment_in_words, short
from convbench.results.journal import positive
from convbench.results.records import ONE_CORE, OTHER, Record
from convbench.words.numbers import digits, duration, share, size
from convbench.words.status import Exit, Outcome, Standing, Status
from convbench.words.table import Column, Table, line, remark, stacked

if TYPE_CHECKING:
    from rich.console import RenderableType

LAYERS = ("pipeline", "stages", "accuracy", "memory", "cold")
"""The suites that a row of a layer sums up; each other suite has rows of its own."""

BAD = frozenset({Status.WRONG, Status.FAILED, Status.INVALID})
"""A row that is so makes the exit code 2."""

BASELINE = "numpy@cpu"
"""What other targets are held against, where it was measured and nobody names another."""


@dataclass(frozen=True, slots=True)
class Row:
    """One workload on one target.

    Attributes
    ----------
    suite : str
        "layers", or the suite that the row is of.
    target : str
        "" of a benchmark that is none of ours; its `workload` is then its name and parameters.
    status : Status
        Wrong if the accuracy is, failed if any part is, skipped if there is no number at all.
    processes : int
        How many fresh processes the time was measured in.
    spread : float, optional
        Half the distance between the fastest and the slowest of them, as a share of the time.
    standing : Standing, optional
        What stands behind the time.
    fresh_s, end_to_end_s : float, optional
        On fresh numbers: a run by the clock of its own process, and from the host to the host by
        that of the judge.
    device_s : float, optional
        The part of the time that a GPU was at work, by its own events.
    gflops : float, optional
        10**9 floating-point operations of the direct method per second.
    gb_per_s : float, optional
        10**9 bytes of input, weights and output per second.
    of_roofline : float, optional
        That, as a share of what the device could do at this ratio of operations to bytes.
    error_over_bound : float, optional
        More than 1 is wrong.
    cold_s : float, optional
        Time of a call with nothing in the caches.
    peak_bytes : float, optional
        Memory beyond the input.
    number, unit : float, optional, and str
        What a benchmark that is none of ours has counted that is neither a time nor a memory.
    stages_s : mapping of str to float
        Time of a call of each stage by itself; or of what else the suite tells apart.
    outcomes : tuple of (str, Outcome)
        Of each part that is not ok: "pipeline", "accuracy", "stage conv".
    """

    machine: str
    commit: str
    environment: str
    workload: str
    target: str
    status: Status
    suite: str = "layers"
    time_s: float | None = None
    processes: int = 0
    spread: float | None = None
    standing: Standing | None = None
    fresh_s: float | None = None
    end_to_end_s: float | None = None
    device_s: float | None = None
    gflops: float | None = None
    gb_per_s: float | None = None
    of_roofline: float | None = None
    error_over_bound: float | None = None
    cold_s: float | None = None
    peak_bytes: float | None = None
    number: float | None = None
    unit: str = ""
    stages_s: Mapping[str, float] = field(default_factory=dict)
    algorithm: str = ""
    outcomes: tuple[tuple[str, Outcome], ...] = ()

    @property
    def counts(self) -> bool:
        """Whether its time means something: there is one, and nothing is known against it."""
        return self.time_s is not None and 0 < self.time_s < math.inf and not self.doubted()

    def doubted(self, stage: str = "") -> bool:
        """Whether the whole, or this stage of it, is wrong, failed or cannot be true."""
        parts = {"pipeline", "accuracy", "time", stage}
        return any(part in parts and of.status is not Status.SKIPPED for part, of in self.outcomes)


def summarise(records: Iterable[Record]) -> list[Row]:
    """One row for each workload on each target (of each machine, commit and environment).

    What is wrong comes first; otherwise the order is that of the workloads, then of the targets.
    """
    records = list(records)
    ceilings = find_ceilings(records)
    groups: dict[tuple[str, ...], list[Record]] = {}
    order: dict[str, int] = {}
    for record in records:
        suite = "layers" if record.suite in LAYERS else record.suite
        key = (suite, *record.origin, record.workload, record.target)
        groups.setdefault(key, []).append(record)
        for name in (record.workload, record.target):
            order.setdefault(name, len(order))
    return sorted(
        (_row(suite, parts, ceilings) for (suite, *_), parts in groups.items()),
        key=lambda row: (row.status is not Status.WRONG, order[row.workload], order[row.target]),
    )


def _row(suite: str, parts: Sequence[Record], ceilings: Mapping[tuple[str, ...], Ceiling]) -> Row:
    any_part = parts[0]
    whole = {_respect(part): part for part in parts if not part.stage}
    time, accuracy = whole.get("pipeline"), whole.get("accuracy")
    time_s, processes, facts = (time.value, time.processes, time.facts) if time else (None, (), {})
    flops, traffic = (float(facts.get(name) or 0) for name in ("flops", "bytes"))
    apart = max(processes) - min(processes) if len(processes) > 1 else None
    gflops = flops / time_s / 1e9 if flops and time_s else None
    ceiling = ceilings.get((*any_part.origin, any_part.device), Ceiling())
    attainable = ceiling.attainable_gflops(flops, traffic)
    outcomes = [
        (_part(part), Outcome(part.status, part.reason, part.remedy))
        for part in parts
        if part.status is not Status.OK
    ]
    saves = positive(facts.get("receipt", {}).get("saves")) or 1.0
    reason = impossible(ceiling, flops, traffic, time_s, saves) if time_s else None
    if suite != "ceiling" and reason:
        remedy = (
            "Most likely work is missing: see that synchronize() waits for all of it, and what"
            " `convbench audit` says. Otherwise measure again with `convbench bench --fresh`."
        )
        outcomes.append(("pipeline", Outcome(Status.INVALID, reason, remedy)))
    present = {part.status for part in parts} | {outcome.status for _, outcome in outcomes}
    if present == {Status.OK, Status.SKIPPED} and all(
        part.value is None for part in whole.values()
    ):
        present = {Status.SKIPPED}  # of the whole pipeline there is neither a time nor a check
    return Row(
        *any_part.origin,
        any_part.workload,
        any_part.target,
        suite=suite,
        status=next(status for status in Status if status in present),
        time_s=time_s,
        processes=len(processes),
        spread=apart / 2 / time_s if apart is not None and time_s else None,
        standing=time.standing if time else None,
        fresh_s=positive(facts.get("receipt", {}).get("fresh_s")),
        end_to_end_s=positive(facts.get("receipt", {}).get("end_to_end_s")),
        device_s=facts.get("device_s"),
        gflops=gflops,
        gb_per_s=traffic / time_s / 1e9 if traffic and time_s else None,
        # The roofline is that of all cores.
        of_roofline=gflops / attainable if gflops and attainable and suite != ONE_CORE else None,
        error_over_bound=accuracy.value if accuracy else None,
        cold_s=whole["cold"].value if "cold" in whole else None,
        peak_bytes=whole["memory"].value if "memory" in whole else None,
        number=whole["number"].value if "number" in whole else None,
        unit=str(any_part.facts.get("unit", "")),
        stages_s={p.stage: p.value for p in parts if p.stage and p.value is not None},
        algorithm=str((time or any_part).facts.get("algorithm", "")),
        outcomes=tuple(outcomes),
    )


def _respect(record: Record) -> str:
    """In what respect a record is of a whole workload."""
    if record.suite == OTHER:
        return {"memory": "memory", "number": "number"}.get(record.kind, "pipeline")
    return record.suite if record.suite in LAYERS else "pipeline"


def _part(record: Record) -> str:
    if record.suite == OTHER:
        return "time"
    if record.stage:
        return f"stage {record.stage}" if record.suite == "stages" else record.stage
    return record.suite if record.suite in LAYERS else "time"


def exit_code(rows: Sequence[Row]) -> Exit:
    """Whether anything is wrong, failed or invalid, or nothing was measured."""
    statuses = {row.status for row in rows}
    if BAD & statuses:
        return Exit.WRONG
    return Exit.OK if Status.OK in statuses else Exit.NOTHING


def to_dict(rows: Iterable[Row], problems: Iterable[str] = ()) -> dict[str, Any]:
    """Everything as plain values, the rows of absent targets included."""
    listed = []
    for row in rows:
        plain = asdict(row)
        del plain["outcomes"]
        plain["causes"] = [
            {"part": part, "status": of.status, "reason": of.reason, "remedy": of.remedy}
            for part, of in row.outcomes
        ]
        listed.append(plain)
    return {"rows": listed, "problems": list(problems)}


def causes_in_words(rows: Iterable[Row]) -> dict[tuple[Status, str, str], str]:
    """Each distinct reason, the worst first, with the cells that it concerns in words."""
    workloads: dict[str, set[str]] = {}
    concerned: dict[tuple[Status, str, str], dict[str, dict[str, list[str]]]] = {}
    for row in rows:
        workloads.setdefault(row.target, set()).add(row.workload)
        for part, of in row.outcomes:
            targets = concerned.setdefault((of.status, of.reason, of.remedy), {})
            parts = targets.setdefault(row.target, {}).setdefault(row.workload, [])
            parts.append(part)

    def where(target: str, cells: Mapping[str, Sequence[str]]) -> str:
        # A stage is only named where it is the stages alone that the reason concerns.
        names = [
            name if {"pipeline", "accuracy", "time"} & {*parts} else f"{name} ({', '.join(parts)})"
            for name, parts in cells.items()
        ]
        if {*names} == workloads[target]:
            return target or f"all {OTHER}"
        some = ", ".join(names[:_MOST_NAMED])
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        return " on ".join(filter(None, (target, f"{some}{more}")))

    return {
        key: "; ".join(where(target, cells) for target, cells in targets.items())
        for key, targets in sorted(concerned.items(), key=lambda item: item[0][0].rank)
    }


_MOST_NAMED = 50

_STYLES = {
    Status.WRONG: "bold red",
    Status.FAILED: "red",
    Status.INVALID: "red",
    Status.OK: "green",
    Status.SKIPPED: "yellow",
}


def render(rows: Sequence[Row]) -> RenderableType:
    """Draw a table of the rows, and below it each reason once, with the cells that it concerns.

    A target that is skipped everywhere is only named below.
    """
    parts: list[RenderableType] = []
    origins: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        origins.setdefault((row.machine, row.commit, row.environment), []).append(row)
    for (machine, commit, environment), group in origins.items():
        only = len({origin[2] for origin in origins}) == 1
        name = environment_in_words(environment) if only else environment
        parts.append(line(f"{machine}, commit {short(commit)}, {name}", style="italic"))
        present = {row.target for row in group if row.status is not Status.SKIPPED}
        for suite in dict.fromkeys(row.suite for row in group):
            shown = [row for row in group if row.suite == suite and row.target in present]
            if shown:
                parts.append(_table(shown, suite))
        for (status, reason, remedy), where in causes_in_words(group).items():
            parts += remark(status, where, (reason, remedy), _STYLES[status])
    return stacked(parts)


def _table(rows: Sequence[Row], suite: str) -> Table:
    styles = [_STYLES[Status.WRONG] if row.status is Status.WRONG else "" for row in rows]
    alone = " alone" if suite == "layers" else ""
    stages = [
        Column(f"{name}{alone}", [duration(row.stages_s.get(name)) for row in rows])
        for name in dict.fromkeys(stage for row in rows for stage in row.stages_s)
    ]
    columns = [
        Column("workload", list(zip((row.workload for row in rows), styles, strict=True)), "name"),
        Column("target", list(zip((row.target for row in rows), styles, strict=True)), "name"),
        Column("time", [duration(row.time_s) for row in rows]),
        Column("\u00b1", [share(row.spread) for row in rows]),
        Column("stands", [row.standing or "" for row in rows], "word"),
        Column("fresh", [duration(row.fresh_s) for row in rows]),
        Column("end to end", [duration(row.end_to_end_s) for row in rows]),
        Column("device", [duration(row.device_s) for row in rows]),
        Column("GFLOP/s", [digits(row.gflops) for row in rows]),
        # Where there is arithmetic its rate says more; JSON has both.
        Column("GB/s", ["" if row.gflops else digits(row.gb_per_s) for row in rows]),
        Column("of roofline", [share(row.of_roofline) for row in rows]),
        Column("cold", [duration(row.cold_s) for row in rows]),
        Column("memory", [size(row.peak_bytes) for row in rows]),
        Column("value", [f"{digits(row.number)} {row.unit}".strip() for row in rows]),
        Column("error/bound", [digits(row.error_over_bound) for row in rows]),
        *stages,
        Column("status", [(row.status, _STYLES[row.status]) for row in rows], "word"),
    ]
    # The stages of a layer first; those of other suites are all that these have.
    dispensable = [column.title for column in stages if alone]
    dispensable += ["memory", "cold", "GB/s", "of roofline", "fresh", "end to end", "device"]
    dispensable += ["GFLOP/s", "\u00b1"]
    return Table(columns, dispensable, suite)
