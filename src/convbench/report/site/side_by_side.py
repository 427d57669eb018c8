"""Backends side by side: the newest results of every machine, as data and as a plain page.

:mod:`.publisher` puts both into the site that ``asv publish`` makes. Names and reasons come
from files that anybody may have written. In the data they are strings, which the script of the tab
shows as text; in the page every one of them passes through :func:`html.escape`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from convbench import __version__
from convbench.comparing.beside import times_as_fast
from convbench.results.folder import environment_in_words, is_existing, short
from convbench.results.gates import SIDE_BY_SIDE, Gate
from convbench.results.records import OTHER, Place, Record
from convbench.results.rows import BASELINE, Row, causes_in_words, summarise
from convbench.words.numbers import date, digits, duration, faster, share
from convbench.words.status import Standing, Status


@dataclass(frozen=True, slots=True)
class Entry:
    """A workload on a target.

    Attributes
    ----------
    time, error : str
        To be read: the time of a call, and the largest error over its bound. "" if there is none.
    spread : str
        Half the distance between the fastest and the slowest process, as a share of the time.
    counts : bool
        Whether the time means something: it was measured, and nothing is known against it.
    speed_ups : mapping of str to str
        By the other targets whose times count, too: how many times as fast as each.
    fastest : bool
        Of several times that count it is the shortest.
    claim : bool
        Nobody has looked at what was computed while the time was taken.
    gate : str
        What the newest gate of this commit says of it; "" if there is none.
    """

    status: str
    time_s: float | None
    time: str
    error: str
    counts: bool
    spread: str = ""
    speed_ups: Mapping[str, str] = field(default_factory=dict)
    fastest: bool = False
    reasons: tuple[str, ...] = ()
    claim: bool = False
    gate: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A workload, or one stage of it, on all targets of a section.

    Attributes
    ----------
    benchmark : str
        Which of asv's graphs shows its history; "" if none does.
    cells : tuple of Entry
        In the order of the section's targets; None where nothing was measured.
    """

    workload: str
    stage: str
    benchmark: str
    cells: tuple[Entry | None, ...]


@dataclass(frozen=True, slots=True)
class Suite:
    """What was measured in one respect: "layers", "sweep", "transfer", ..."""

    name: str
    checked: bool
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Why:
    """A reason why cells are not ok, and in words which."""

    status: str
    where: str
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Section:
    """The newest commit that was measured on a machine in an environment.

    Attributes
    ----------
    name : str
        All of these to be read: the environment without the path of an existing one, where that
        leaves no doubt, and the day of the commit.
    targets : tuple of str
        Those that measured anything.
    baseline : str
        One of them; "" if there is none.
    """

    machine: str
    commit: str
    environment: str
    name: str
    age: int
    measured_with: tuple[str, ...]
    targets: tuple[str, ...]
    baseline: str
    suites: tuple[Suite, ...]
    causes: tuple[Why, ...]


def sections(
    records: Iterable[Record], age: Mapping[str, int], gates: Sequence[Gate] = ()
) -> tuple[Section, ...]:
    """Sum up the newest commit of each machine and environment, the newest of all first.

    `age` is the place of each commit in the history; what is not in it is left out. Of `gates`, the
    newest first, those count whose head is such a commit, at the same place. Benchmarks that are
    none of ours have no targets that could stand side by side.
    """
    places: dict[Place, dict[str, list[Record]]] = {}
    for record in records:
        if record.commit in age and record.suite != OTHER:
            commits = places.setdefault(record.place, {})
            commits.setdefault(record.commit, []).append(record)
    newest = [max(commits.items(), key=lambda item: age[item[0]]) for commits in places.values()]
    newest.sort(key=lambda item: (-age[item[0]], item[1][0].place))
    existing = [machine for machine, environment in places if is_existing(environment)]
    return tuple(
        _section(
            some, age[commit], _gated(gates, some[0]), only=existing.count(some[0].machine) == 1
        )
        for commit, some in newest
    )


_TimeOf = tuple[str, str, str, str]
"""Suite, workload, target and stage."""

_Gated = Mapping[tuple[str, str], str]
"""What the newest gate says, by target and workload."""


def _gated(gates: Sequence[Gate], of: Record) -> _Gated:
    return {
        name: f"{SIDE_BY_SIDE} with {short(gate.base.commit)}, {date(gate.ended_s)}: {cell.said}"
        for gate in reversed(gates)
        if gate.committed and gate.fits(gate.head, of.commit, of.machine, of.environment)
        for name, cell in gate.cells.items()
        if cell.tells
    }


def _section(records: Sequence[Record], age: int, gated: _Gated, *, only: bool) -> Section:
    first = records[0]
    environment = environment_in_words(first.environment) if only else first.environment
    commit = f"commit {short(first.commit)} of {date(first.commit_time_s)}"
    rows = summarise(records)
    measured = {row.target for row in rows if row.status is not Status.SKIPPED}
    targets = [t for t in dict.fromkeys(record.target for record in records) if t in measured]
    graphs = {
        (record.suite, record.workload, record.stage): record.benchmark
        for record in records
        if record.kind == "time"
    }
    times = {
        ("layers" if r.suite == "pipeline" else r.suite, r.workload, r.target, r.stage): r
        for r in records
        if r.kind == "time" and r.value
    }
    suites = dict.fromkeys(row.suite for row in sorted(rows, key=lambda row: row.suite != "layers"))
    return Section(
        machine=first.machine,
        commit=first.commit,
        environment=first.environment,
        name=f"{first.machine}, {environment}, {commit}",
        age=age,
        measured_with=tuple(_measured_with(records)),
        targets=tuple(targets),
        baseline=BASELINE if BASELINE in targets else next(iter(targets), ""),
        suites=tuple(
            Suite(name, name == "layers", lines)
            for name in suites
            if (
                lines := tuple(
                    _compared(line, name, targets, times)
                    for line in _lines([r for r in rows if r.suite == name], targets, graphs, gated)
                )
            )
        ),
        causes=tuple(
            Why(str(status), where, reason, remedy)
            for (status, reason, remedy), where in causes_in_words(rows).items()
        ),
    )


def _lines(
    rows: Sequence[Row],
    targets: Sequence[str],
    graphs: Mapping[tuple[str, str, str], str],
    gated: _Gated,
) -> Iterator[Line]:
    """Stages have lines of their own where there is nothing but stages."""
    of: dict[str, dict[str, Row]] = {}
    for row in rows:
        of.setdefault(row.workload, {})[row.target] = row
    for workload, by_target in of.items():
        present = {target: row for target, row in by_target.items() if target in targets}
        if not present:
            continue
        stages: dict[str, None] = {}
        if all(row.suite != "layers" and row.time_s is None for row in present.values()):
            stages = dict.fromkeys(stage for row in present.values() for stage in row.stages_s)
        for stage in stages or ("",):
            cells = tuple(_cell(present.get(target), stage, gated) for target in targets)
            suite = "pipeline" if rows[0].suite == "layers" else rows[0].suite
            yield Line(workload, stage, graphs.get((suite, workload, stage), ""), cells)


def _compared(
    line: Line, suite: str, targets: Sequence[str], times: Mapping[_TimeOf, Record]
) -> Line:
    """The same with how many times as fast each of its cells is as each other."""
    counted = {
        target: times[suite, line.workload, target, line.stage]
        for target, cell in zip(targets, line.cells, strict=True)
        if cell is not None and cell.counts
    }
    found = {
        one: {
            other: faster(times_as_fast(time, beside))
            for other, beside in counted.items()
            if other != one
        }
        for one, time in counted.items()
    }
    first = min(counted, key=lambda one: counted[one].value or 0.0) if len(counted) > 1 else ""
    cells = (
        cell and replace(cell, speed_ups=found.get(target, {}), fastest=target == first)
        for target, cell in zip(targets, line.cells, strict=True)
    )
    return replace(line, cells=tuple(cells))


def _cell(row: Row | None, stage: str, gated: _Gated) -> Entry | None:
    if row is None:
        return None
    time_s = _finite(row.stages_s.get(stage) if stage else row.time_s)
    return Entry(
        status=str(row.status),
        time_s=time_s,
        time=duration(time_s),
        error=digits(_finite(row.error_over_bound)),
        counts=bool(time_s) and not row.doubted(stage),
        spread="" if stage or row.spread is None else f"± {share(row.spread)}",
        reasons=tuple(dict.fromkeys(outcome.reason for _, outcome in row.outcomes)),
        claim=row.standing is Standing.CLAIM and not stage,
        gate=gated.get((row.target, row.workload), "") if row.suite == "layers" else "",
    )


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def _measured_with(records: Sequence[Record]) -> Iterator[str]:
    yield from hardware(records)
    if known := versions(records):
        yield ", ".join(f"{name} {version}" for name, version in known.items())


def hardware(records: Iterable[Record]) -> list[str]:
    """Processors and cards, each once."""
    processors: dict[str, None] = {}
    cards: dict[str, None] = {}
    for record in records:
        match record.facts.get("machine"):
            case {"cpu_model": model, "logical_cores": cores, **rest}:
                processors[f"{model}, {cores} cores"] = None
                found = rest.get("gpus")
                for card in found if isinstance(found, list) else ():
                    if isinstance(card, dict) and "name" in card:
                        cards[str(card["name"])] = None
    return [*processors, *cards]


def versions(records: Iterable[Record]) -> dict[str, str]:
    """Of libraries and settings, by name; "2 or 3" where there were two."""
    found: dict[str, dict[str, None]] = {}
    for record in records:
        match record.facts.get("versions"):
            case dict() as known:
                for name, version in known.items():
                    found.setdefault(str(name), {})[str(version)] = None
    return {name: " or ".join(of) for name, of in sorted(found.items())}


def to_json(found: Iterable[Section], problems: Iterable[str]) -> str:
    """Everything that the tab shows."""
    document = {
        "schema": "convbench.side_by_side/2",
        "convbench": __version__,
        "legend": LEGEND,
        "sections": [asdict(section) for section in found],
        "problems": [*problems],
    }
    return json.dumps(document, allow_nan=False, separators=(",", ":"))


LEGEND = (
    "The newest measured commit of each machine and environment. A cell has the time of a"
    " call, ± how far its processes lie apart; how many times as fast that is as the baseline; and"
    " the largest error over its bound,"
    " which is wrong above 1. The shortest time of a line is bold."
    ' Nothing is said of the speed of a wrong result. "side by side" has a'
    " stored gate, which measured it in turns with another commit: point at it."
)
