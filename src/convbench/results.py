"""From asv's result files and the evidence beside them to records, rows and a table.

The files are read as they lie on the disk (version 2 of asv's format) and asv is not imported, nor
is any backend: what was measured elsewhere can be read anywhere.
"""

from __future__ import annotations

import ast
import io
import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from convbench import evidence
from convbench.failures import Status

if TYPE_CHECKING:
    from rich.table import Table

_ASV_VERSION = 2

Kind = Literal["time", "accuracy"]
_KINDS: dict[str, Kind] = {"track_time": "time", "track_error_over_bound": "accuracy"}


@dataclass(frozen=True, slots=True)
class Record:
    """One number that asv has stored, or the reason why there is none.

    Attributes
    ----------
    machine, commit, environment : str
        Where and what it was measured on; the full hash.
    commit_time_s, measured_at_s : float
        When the commit was made and when the benchmark was last started, in seconds since 1970.
    benchmark, version : str
        As asv calls them. Numbers of two versions are not comparable.
    kind : "time" or "accuracy"
    target, workload : str
    stage : str
        "conv", "bias" or "pool"; "" for the whole pipeline.
    status : Status
    value : float, optional
        Seconds per call, the median of the samples; or error over bound.
    quartiles, interval : (float, float), optional
        Of the samples: the middle half, and asv's 99 % interval of the median. Both are about one
        process only.
    samples : tuple of float
        Where asv was told to keep them (``--record-samples``).
    number, repeat : int
        Calls per sample, and samples.
    reason, remedy : str
        Why there is no number or a wrong one, and what to do.
    facts : mapping of str to JSON values
        The rest of the evidence: algorithm, versions, method, flops, ...
    """

    machine: str
    commit: str
    environment: str
    commit_time_s: float
    measured_at_s: float
    benchmark: str
    version: str
    kind: Kind
    target: str
    workload: str
    stage: str
    status: Status
    value: float | None = None
    quartiles: tuple[float, float] | None = None
    interval: tuple[float, float] | None = None
    samples: tuple[float, ...] = ()
    number: int = 0
    repeat: int = 0
    reason: str = ""
    remedy: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a folder of results holds, and what of it could not be read."""

    records: tuple[Record, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a part of a row is not ok: "pipeline", "accuracy" or "stage conv"."""

    part: str
    status: Status
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Row:
    """One workload on one target.

    Attributes
    ----------
    machine, commit, environment, workload, target : str
    status : Status
        Wrong if the accuracy is, failed if any part is, skipped if there is no number at all.
    time_s : float, optional
        Median time of a call.
    quartiles_s : (float, float), optional
        The middle half of the samples of one process; another process may lie outside.
    gflops : float, optional
        10**9 floating-point operations of the direct method per second.
    error_over_bound : float, optional
        More than 1 is wrong.
    stages_s : mapping of str to float
        Median time of a call of each stage by itself.
    algorithm : str
    causes : tuple of Cause
        Of all that is not ok.
    """

    machine: str
    commit: str
    environment: str
    workload: str
    target: str
    status: Status
    time_s: float | None
    quartiles_s: tuple[float, float] | None
    gflops: float | None
    error_over_bound: float | None
    stages_s: Mapping[str, float]
    algorithm: str
    causes: tuple[Cause, ...]


# -- Reading --------------------------------------------------------------------------------------


def load(results_dir: Path | str) -> Loaded:
    """Read asv's folder of results, usually ``.asv/results``, and ``evidence`` beside it.

    Nothing in it is fatal: a file or a part of one that cannot be read becomes a problem, named
    with the reason, and the rest is read.
    """
    results_dir = Path(results_dir)
    records: list[Record] = []
    problems: list[str] = []
    for path in sorted(results_dir.glob("*/*.json")):
        if path.name == "machine.json":
            continue
        try:
            file = json.loads(path.read_bytes())
            if file["version"] != _ASV_VERSION:
                raise ValueError(f"its version is {file['version']!r}, not {_ASV_VERSION}")
            origin = {
                "machine": str(file["params"]["machine"]),
                "commit": str(file["commit_hash"]),
                "environment": str(file["env_name"]),
                "commit_time_s": float(file["date"]) / 1000,
            }
            columns, benchmarks = file["result_columns"], dict(file["results"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            problems.append(f"{path}: left out, because {evidence.unreadable(error)}")
            continue
        notes, torn = evidence.read(
            results_dir.parent / "evidence" / path.parent.name / f"{path.stem}.jsonl"
        )
        problems += torn
        cells: dict[tuple[str, tuple[str, ...]], list[evidence.Note]] = {}
        for note in notes:
            cells.setdefault((note.benchmark, note.params), []).append(note)
        for benchmark, values in benchmarks.items():
            kind = _KINDS.get(benchmark.rpartition(".")[2])
            if kind is None:
                continue  # another suite's
            try:
                columns_of = dict(zip(columns, values, strict=False))
                records += _records(origin, benchmark, kind, columns_of, cells)
            except (ValueError, TypeError, KeyError, SyntaxError) as error:
                problems.append(
                    f"{path}: {benchmark} left out, because {evidence.unreadable(error)}"
                )
    return Loaded(tuple(records), tuple(problems))


def _records(
    origin: Mapping[str, Any],
    benchmark: str,
    kind: Kind,
    columns: Mapping[str, Any],
    cells: Mapping[tuple[str, tuple[str, ...]], list[evidence.Note]],
) -> list[Record]:
    """Unfold one benchmark; asv stores its parameters, and a list over their product a column."""
    # asv stores the repr() of every parameter
    product = list(
        itertools.product(*([ast.literal_eval(p) for p in ps] for ps in columns["params"]))
    )

    def column(name: str) -> list[Any]:
        # asv writes None for a list of nothing but None
        values = columns.get(name) or [None] * len(product)
        if len(values) != len(product):
            raise ValueError(f"{name} has {len(values)} values for {len(product)} parameters")
        return list(values)

    records = []
    for params, value, q_25, q_75, ci_a, ci_b, number, repeat, samples in zip(
        product,
        *map(column, ("result", "stats_q_25", "stats_q_75", "stats_ci_99_a", "stats_ci_99_b")),
        *map(column, ("stats_number", "stats_repeat", "samples")),
        strict=True,
    ):
        target, workload, *stage = params
        outcome = _outcome(kind, value, cells.get((benchmark, params), []))
        if outcome is None:
            continue
        records.append(
            Record(
                **origin,
                benchmark=benchmark,
                version=str(columns.get("version")),
                measured_at_s=float(columns.get("started_at") or 0) / 1000,
                kind=kind,
                target=target,
                workload=workload,
                stage="".join(stage),
                quartiles=None if q_25 is None else (q_25, q_75),
                interval=None if ci_a is None else (ci_a, ci_b),
                samples=tuple(samples or ()),
                number=number or 0,
                repeat=repeat or 0,
                **outcome,
            )
        )
    return records


def _outcome(
    kind: Kind, value: float | None, notes: Sequence[evidence.Note]
) -> dict[str, Any] | None:
    """Put asv's number and the evidence together; None for a cell that was not run.

    asv's number decides what became of the cell and the evidence says why: n/a is both "skipped"
    and "not selected", and only the first leaves evidence.
    """
    last = notes[-1] if notes else None
    if value is None:
        if last is not None and last.status == "failed":
            return {"status": Status.FAILED, **_split(last.facts)}
        if last is not None and last.status == "started":
            reason = "the process ended in the middle: it crashed, was killed or ran out of time"
            remedy = (
                "Run this cell alone with `asv run --show-stderr -b ...` to see its last words."
            )
        else:
            reason = "asv stored a failure and there is no evidence of the cell being started"
            remedy = (
                "See whether `asv run --show-stderr` can build this commit and import the suites."
            )
        return {"status": Status.FAILED, "reason": reason, "remedy": remedy}
    if math.isnan(value):
        if last is None or last.status != "skipped":
            return None
        return {"status": Status.SKIPPED, **_split(last.facts)}
    facts = next((note.facts for note in reversed(notes) if note.status == "ok"), {})
    outcome = {"status": Status.OK, "value": float(value), **_split(facts)}
    if kind == "accuracy" and value > 1:
        outcome |= {
            "status": Status.WRONG,
            "reason": f"the error is {value:.3g} times its bound: {facts.get('worst', '')}",
            "remedy": "`convbench verify` tells more; the times of a wrong result mean nothing.",
        }
    return outcome


def _split(facts: Mapping[str, Any]) -> dict[str, Any]:
    rest = dict(facts)
    return {
        "reason": str(rest.pop("reason", "")),
        "remedy": str(rest.pop("remedy", "")),
        "facts": rest,
    }


# -- Summing up -----------------------------------------------------------------------------------


def latest_commit(records: Iterable[Record]) -> str | None:
    """The commit that was measured last; None without records."""
    latest = max(records, key=lambda record: record.measured_at_s, default=None)
    return None if latest is None else latest.commit


def summarise(records: Iterable[Record]) -> list[Row]:
    """One row for each workload on each target (of each machine, commit and environment).

    What is wrong comes first; otherwise the order is that of the workloads, then of the targets.
    """
    groups: dict[tuple[str, ...], list[Record]] = {}
    order: dict[str, int] = {}
    for record in records:
        origin = (record.machine, record.commit, record.environment)
        groups.setdefault((*origin, record.workload, record.target), []).append(record)
        for name in (record.workload, record.target):
            order.setdefault(name, len(order))
    return sorted(
        map(_row, groups.values()),
        key=lambda row: (row.status is not Status.WRONG, order[row.workload], order[row.target]),
    )


def _row(parts: Sequence[Record]) -> Row:
    any_part = parts[0]
    whole = {part.kind: part for part in parts if not part.stage}
    time, accuracy = whole.get("time"), whole.get("accuracy")
    time_s = time.value if time else None
    flops = time.facts.get("flops") if time else None
    present = {part.status for part in parts}
    if present == {Status.OK, Status.SKIPPED} and all(
        part.value is None for part in whole.values()
    ):
        present = {Status.SKIPPED}  # of the whole pipeline there is neither a time nor a check
    return Row(
        machine=any_part.machine,
        commit=any_part.commit,
        environment=any_part.environment,
        workload=any_part.workload,
        target=any_part.target,
        status=next(status for status in Status if status in present),
        time_s=time_s,
        quartiles_s=time.quartiles if time else None,
        gflops=flops / time_s / 1e9 if flops and time_s else None,
        error_over_bound=accuracy.value if accuracy else None,
        stages_s={p.stage: p.value for p in parts if p.stage and p.value is not None},
        algorithm=str((time or any_part).facts.get("algorithm", "")),
        causes=tuple(
            Cause(_part(part), part.status, part.reason, part.remedy)
            for part in parts
            if part.status is not Status.OK
        ),
    )


def _part(record: Record) -> str:
    if record.stage:
        return f"stage {record.stage}"
    return "pipeline" if record.kind == "time" else "accuracy"


def exit_code(rows: Sequence[Row]) -> int:
    """2 if anything is wrong or failed, 3 if nothing was measured, else 0."""
    statuses = {row.status for row in rows}
    if {Status.WRONG, Status.FAILED} & statuses:
        return 2
    return 0 if Status.OK in statuses else 3


def to_dict(rows: Iterable[Row], problems: Iterable[str] = ()) -> dict[str, Any]:
    """Everything as plain values, the rows of absent targets included."""
    return {"rows": [asdict(row) for row in rows], "problems": list(problems)}


# -- Text -----------------------------------------------------------------------------------------


def render(rows: Sequence[Row], *, width: int | None = None, color: bool = False) -> str:
    """Draw a table of the rows, and below it each reason once, with the cells that it concerns.

    A target that is skipped everywhere is only named below.

    Parameters
    ----------
    width : int, optional
        Of a terminal, in columns: if it is too narrow the stages are left out and names are folded.
        By default there is room for everything, as a pipe has.
    color : bool
        Write a terminal's escape sequences.
    """
    # `import convbench.results` must stay fast.
    from rich.console import Console  # noqa: PLC0415
    from rich.measure import Measurement  # noqa: PLC0415
    from rich.padding import Padding  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    text = io.StringIO()
    console = Console(file=text, width=width or _PIPE_COLUMNS, force_terminal=color)
    origins: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        origins.setdefault((row.machine, row.commit, row.environment), []).append(row)
    for (machine, commit, environment), group in origins.items():
        # The rest of the name of an existing environment is the path of its interpreter.
        only = len({origin[2] for origin in origins}) == 1 and environment.startswith("existing-py")
        name = "existing environment" if only else environment
        console.print(Text(f"{machine}, commit {commit[:8]}, {name}", style="italic"))
        present = {row.target for row in group if row.status is not Status.SKIPPED}
        if shown := [row for row in group if row.target in present]:
            table = _table(shown, _numbers(shown) | _stages(shown))
            unlimited = console.options.update_width(_PIPE_COLUMNS)
            if Measurement.get(console, unlimited, table).maximum > console.width:
                table = _table(shown, _numbers(shown))
            console.print(table)
        for (status, reason, remedy), where in _causes(group).items():
            console.print(Text.assemble((status, _STYLES[status]), f" {where}"))
            for sentence in filter(None, (reason, remedy)):
                console.print(Padding(Text(sentence), (0, 0, 0, 4), expand=False))
    return text.getvalue()


_PIPE_COLUMNS = 10_000
_STYLES = {
    Status.WRONG: "bold red",
    Status.FAILED: "red",
    Status.OK: "green",
    Status.SKIPPED: "yellow",
}


def _table(rows: Sequence[Row], columns: Mapping[str, Sequence[str]]) -> Table:
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD)
    for name in ("workload", "target"):
        table.add_column(name, overflow="fold", min_width=8)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for i, row in enumerate(rows):
        table.add_row(
            row.workload,
            row.target,
            *(column[i] for column in columns.values()),
            Text(row.status, style=_STYLES[row.status]),
            style=_STYLES[Status.WRONG] if row.status is Status.WRONG else "",
        )
    return table


def _numbers(rows: Sequence[Row]) -> dict[str, list[str]]:
    return _not_empty(
        {
            "time": [_spread(row) for row in rows],
            "GFLOP/s": [_digits(row.gflops) for row in rows],
            "error/bound": [_digits(row.error_over_bound) for row in rows],
        }
    )


def _stages(rows: Sequence[Row]) -> dict[str, list[str]]:
    names = dict.fromkeys(stage for row in rows for stage in row.stages_s)
    return {f"{name} alone": [_duration(row.stages_s.get(name)) for row in rows] for name in names}


def _not_empty(columns: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: column for name, column in columns.items() if any(column)}


def _causes(rows: Iterable[Row]) -> dict[tuple[Status, str, str], str]:
    """Each distinct reason with the cells that it concerns, in words."""
    workloads: dict[str, set[str]] = {}
    concerned: dict[tuple[Status, str, str], dict[str, dict[str, list[str]]]] = {}
    for row in rows:
        workloads.setdefault(row.target, set()).add(row.workload)
        for cause in row.causes:
            targets = concerned.setdefault((cause.status, cause.reason, cause.remedy), {})
            parts = targets.setdefault(row.target, {}).setdefault(row.workload, [])
            parts.append(cause.part)

    def where(target: str, cells: Mapping[str, Sequence[str]]) -> str:
        # A stage is only named where it is the stages alone that the reason concerns.
        names = [
            name if {"pipeline", "accuracy"} & {*parts} else f"{name} ({', '.join(parts)})"
            for name, parts in cells.items()
        ]
        return target if {*names} == workloads[target] else f"{target} on {', '.join(names)}"

    return {
        key: "; ".join(where(target, cells) for target, cells in targets.items())
        for key, targets in concerned.items()
    }


def _duration(seconds: float | None) -> str:
    """As in 1.23 ms.

    Examples
    --------
    >>> _duration(0.0012345), _duration(2.5), _duration(None)
    ('1.23 ms', '2.50 s', '')
    """
    if seconds is None:
        return ""
    scale, unit = _unit(seconds)
    return f"{_digits(seconds * scale)} {unit}"


def _spread(row: Row) -> str:
    """Median and half the distance of the quartiles, to the same decimal."""
    if row.time_s is None or row.quartiles_s is None:
        return _duration(row.time_s)
    scale, unit = _unit(row.time_s)
    median = _digits(row.time_s * scale)
    half = (row.quartiles_s[1] - row.quartiles_s[0]) / 2 * scale
    return f"{median} \u00b1 {half:.{len(median.partition('.')[2])}f} {unit}"


def _unit(seconds: float) -> tuple[float, str]:
    for scale, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if seconds * scale >= 1:
            return scale, unit
    return 1e9, "ns"


def _digits(value: float | None) -> str:
    """Three significant digits, without an exponent where one can do without.

    Examples
    --------
    >>> _digits(12.345), _digits(123.4), _digits(1234.5), _digits(0.0), _digits(1e30)
    ('12.3', '123', '1234', '0', '1e+30')
    """
    if value is None:
        return ""
    if 1e-3 <= value < 1000:
        return f"{value:#.3g}".rstrip(".")
    return f"{value:.0f}" if 1000 <= value < 1e6 or value == 0 else f"{value:.2g}"
