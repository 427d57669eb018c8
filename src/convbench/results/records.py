"""From asv's result files and the evidence beside them to records.

The files are read as they lie on the disk (version 2 of asv's format) and asv is not imported, nor
is any backend: what was measured elsewhere can be read anywhere.
"""

from __future__ import annotations

import ast
import itertools
import json
import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from convbench.results.journal import UNREADABLE, Journal, Note, read, unreadable
from convbench.words.status import Status

ASV_VERSION = 2

Kind = Literal["time", "accuracy", "memory"]
KINDS: dict[str, Kind] = {
    "track_time": "time",
    "track_error_over_bound": "accuracy",
    "track_peak_bytes": "memory",
}


@dataclass(frozen=True, slots=True)
class Record:
    """One number that was measured, or the reason why there is none.

    Attributes
    ----------
    machine, commit, environment : str
        Where and what it was measured on; the full hash.
    commit_time_s, measured_at_s : float
        When the commit was made and when the benchmark was last started, in seconds since 1970.
    benchmark, version : str
        As asv calls them. Numbers of two versions are not comparable.
    kind : "time", "accuracy" or "memory"
    target, workload : str
    stage : str
        "conv", "bias" or "pool"; "" for the whole pipeline. Other suites have other words here.
    status : Status
    value : float, optional
        Seconds per call, the median of all samples; error over bound; or bytes.
    quartiles, interval : (float, float), optional
        Of the samples: the middle half, and asv's 99 % interval of the median. Samples of one
        process are not independent, so neither says how sure the value is.
    processes : tuple of float
        The median of each fresh process, in the order in which they ran: these are independent.
        Empty where only asv's numbers are known.
    samples : tuple of float
        Where they were kept.
    number, repeat : int
        Calls per sample, and samples.
    reason, remedy : str
        Why there is no number or a wrong one, and what to do.
    facts : mapping of str to JSON values
        The rest of the evidence: algorithm, versions, method, flops, digests, ...
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
    processes: tuple[float, ...] = ()
    samples: tuple[float, ...] = ()
    number: int = 0
    repeat: int = 0
    reason: str = ""
    remedy: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def suite(self) -> str:
        """What the benchmark is about: "pipeline", "stages", "accuracy", "cold", "sweep", ..."""
        return self.benchmark.partition(".")[0].removeprefix("bench_")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a folder of results holds, and what of it could not be read."""

    records: tuple[Record, ...]
    problems: tuple[str, ...]


def load(results_dir: Path | str, commits: Collection[str] | None = None) -> Loaded:
    """Read asv's folder of results, usually ``.asv/results``, and ``evidence`` beside it.

    asv's file has a commit when all of it is measured, and the evidence has each cell as soon as it
    is: what only the evidence has is read from there. Nothing in the files is fatal: a file or a
    part of one that cannot be read becomes a problem, named with the reason, and the rest is read.

    Parameters
    ----------
    results_dir : path
    commits : collection of str, optional
        Full hashes; the files of other commits are not opened.
    """
    results_dir = Path(results_dir)
    evidence_dir = results_dir.parent / "evidence"
    found = {
        (path.parent.name, path.stem)
        for path in (*results_dir.glob("*/*.json"), *evidence_dir.glob("*/*.jsonl"))
        if path.name != "machine.json"
    }
    if commits is not None:
        wanted = {commit[:8] for commit in commits}
        found = {(machine, stem) for machine, stem in found if stem[:8] in wanted}
    records: list[Record] = []
    problems: list[str] = []
    for machine, stem in sorted(found):
        journal = read(evidence_dir / machine / f"{stem}.jsonl")
        problems += journal.problems
        cells = _last_run(journal.notes)
        path = results_dir / machine / f"{stem}.json"
        if path.is_file():
            records += _of_asv(path, cells, problems)
        records += _of_evidence(machine, journal, cells, problems)
    return Loaded(tuple(records), tuple(problems))


_Cells = dict[tuple[str, tuple[str, ...]], list[Note]]


def _last_run(notes: Iterable[Note]) -> _Cells:
    """The notes of each cell, of the run that noted it last."""
    cells: _Cells = {}
    for note in notes:
        known = cells.setdefault((note.benchmark, note.params), [])
        if known and known[-1].run != note.run:
            known.clear()
        known.append(note)
    return cells


def _of_asv(path: Path, cells: _Cells, problems: list[str]) -> list[Record]:
    """Unfold one of asv's files. What it has is taken out of the cells."""
    try:
        file = json.loads(path.read_bytes())
        if file["version"] != ASV_VERSION:
            raise ValueError(f"its version is {file['version']!r}, not {ASV_VERSION}")
        origin = {
            "machine": str(file["params"]["machine"]),
            "commit": str(file["commit_hash"]),
            "environment": str(file["env_name"]),
            "commit_time_s": float(file["date"]) / 1000,
        }
        columns, benchmarks = list(file["result_columns"]), dict(file["results"])
    except UNREADABLE as error:
        problems.append(f"{path}: left out, because {unreadable(error)}")
        return []
    records = []
    for benchmark, values in benchmarks.items():
        kind = KINDS.get(benchmark.rpartition(".")[2])
        if kind is None:
            continue  # another suite's
        try:
            columns_of = dict(zip(columns, values, strict=False))
            made = _records(origin, benchmark, kind, columns_of, cells)
        except UNREADABLE as error:
            problems.append(f"{path}: {benchmark} left out, because {unreadable(error)}")
            continue
        for record in made:
            params = (record.target, record.workload, *filter(None, [record.stage]))
            cells.pop((benchmark, params), None)
        records += made
    return records


def _of_evidence(
    machine: str, journal: Journal, cells: _Cells, problems: list[str]
) -> list[Record]:
    """Records of cells that asv's file does not have: it is written after them, or not at all."""
    records = []
    for (benchmark, params), notes in sorted(cells.items()):
        kind = KINDS.get(benchmark.rpartition(".")[2])
        run = journal.runs.get(notes[-1].run)
        if kind is None or run is None or len(params) < 2:
            continue  # asv's own runs save everything or nothing
        try:
            outcome = _outcome(kind, math.nan, notes)
            commit_time_s = float(run.get("commit_time_s", 0.0))
        except UNREADABLE as error:
            where = f"{journal.path}: {benchmark}({', '.join(params)})"
            problems.append(f"{where} left out, because {unreadable(error)}")
            continue
        if outcome is None:
            continue
        target, workload, *stage = params
        records.append(
            Record(
                machine=machine,
                commit=str(run.get("commit", "")),
                environment=str(run.get("environment", "")),
                commit_time_s=commit_time_s,
                measured_at_s=notes[0].time_s,
                benchmark=benchmark,
                version=str(notes[-1].facts.get("version", "")),
                kind=kind,
                target=target,
                workload=workload,
                stage="".join(stage),
                **outcome,
            )
        )
    return records


def _records(
    origin: Mapping[str, Any],
    benchmark: str,
    kind: Kind,
    columns: Mapping[str, Any],
    cells: Mapping[tuple[str, tuple[str, ...]], list[Note]],
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
        stored = {
            "quartiles": None if q_25 is None else (q_25, q_75),
            "interval": None if ci_a is None else (ci_a, ci_b),
            "samples": tuple(samples or ()),
            "number": number or 0,
            "repeat": repeat or 0,
        }
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
                **{**stored, **outcome},
            )
        )
    return records


def _outcome(kind: Kind, value: float | None, notes: Sequence[Note]) -> dict[str, Any] | None:
    """Put asv's number and the evidence together; None for a cell that was not run.

    Where the evidence has the samples or the values of the processes, it is what counts. In lines
    of schema 1 asv's number decides what became of the cell and the evidence says why: n/a is both
    "skipped" and "not selected", and only the first leaves evidence.
    """
    ended = _ends(notes)
    if value is None and (died := _died(notes)):
        # asv stores None for a cell if the last of its processes has failed.
        reason = "the process ended in the middle: it crashed, was killed or ran out of time"
        number = len({note.process for note in notes})
        return {
            "status": Status.FAILED,
            "reason": f"in {died} of {number} processes: {reason}" if number > died else reason,
            "remedy": "Run this cell alone with `asv run --show-stderr -b ...` to see its last"
            " words.",
        }
    if failed := [note for note in ended if note.status == "failed"]:
        outcome = {"status": Status.FAILED, **_split(failed[-1].facts)}
        if len(ended) > len(failed):
            outcome["reason"] = f"in {len(failed)} of {len(ended)} processes: {outcome['reason']}"
        return outcome
    measured = [note for note in ended if note.status == "ok"]
    if measured and {"samples_s", "value"} & measured[0].facts.keys():
        return _measured(kind, measured)
    if value is None:
        return {
            "status": Status.FAILED,
            "reason": "asv stored a failure and there is no evidence of the cell being started",
            "remedy": "See whether `asv run --show-stderr` can build this commit and import the"
            " suites.",
        }
    if math.isnan(value):
        skipped = [note for note in ended if note.status == "skipped"]
        return {"status": Status.SKIPPED, **_split(skipped[-1].facts)} if skipped else None
    facts = measured[-1].facts if measured else {}
    return _judged(kind, float(value), facts)


def _ends(notes: Iterable[Note]) -> list[Note]:
    """How each round ended, or each process where the rounds are asv's.

    A cell whose process was killed together with the run that started it has no end; in a run that
    was continued it has one from another process.
    """
    ends: dict[str | int, Note] = {}
    for note in notes:
        if note.status != "started":
            ends[note.round or note.process] = note
    return list(ends.values())


def _died(notes: Sequence[Note]) -> int:
    """How many of asv's processes have started and said no more."""
    if any(note.round for note in notes):
        return 0  # of `convbench bench`, which notes how each of them ended
    last = {note.process: note.status for note in notes}
    return sum(status == "started" for status in last.values())


def _measured(kind: Kind, notes: Sequence[Note]) -> dict[str, Any]:
    """Sum up what the processes have measured."""
    facts = dict(notes[-1].facts)
    if digests := [note.facts["digest"] for note in notes if "digest" in note.facts]:
        facts["digests"] = digests
    if kind != "time":
        values = [float(note.facts["value"]) for note in notes]
        worst = max(range(len(values)), key=values.__getitem__)
        facts["worst"] = notes[worst].facts.get("worst", "")
        facts.pop("value", None)
        value = values[worst] if kind == "accuracy" else statistics.median(values)
        return {**_judged(kind, value, facts), "processes": tuple(values)}
    each = [[float(s) for s in note.facts["samples_s"]] for note in notes]
    samples = [sample for process in each for sample in process]
    facts = {k: v for k, v in facts.items() if k not in {"samples_s", "device_samples_s"}}
    facts["fastest_s"] = min(samples)
    device = [d for note in notes for d in note.facts.get("device_samples_s", ())]
    if device:
        facts["device_s"] = statistics.median(device)
    quartiles = statistics.quantiles(samples, n=4) if len(samples) > 1 else samples * 3
    return {
        **_judged(kind, statistics.median(samples), facts),
        "processes": tuple(map(statistics.median, each)),
        "quartiles": (quartiles[0], quartiles[2]),
        "number": int(facts.pop("number", 0)),
        "repeat": len(samples),
    }


def _judged(kind: Kind, value: float, facts: Mapping[str, Any]) -> dict[str, Any]:
    outcome = {"status": Status.OK, "value": value, **_split(facts)}
    if kind == "accuracy" and value > 1:
        outcome |= {
            "status": Status.WRONG,
            "reason": f"the error is {value:.3g} times its bound: {facts.get('worst', '')}",
            "remedy": "`convbench verify` tells more; the times of a wrong result mean nothing.",
        }
    return outcome


_TYPES = {
    "flops": (int, float),
    "bytes": (int, float),
    "versions": (dict,),
    "machine": (dict,),
    "digests": (list,),
}
"""What others rely on; a fact of another type was not written by us and is left out."""


def _split(facts: Mapping[str, Any]) -> dict[str, Any]:
    rest = {
        name: value
        for name, value in facts.items()
        if name not in _TYPES or isinstance(value, _TYPES[name])
    }
    return {
        "reason": str(rest.pop("reason", "")),
        "remedy": str(rest.pop("remedy", "")),
        "facts": rest,
    }


def latest_commit(records: Iterable[Record]) -> str | None:
    """The commit that was measured last; None without records."""
    latest = max(records, key=lambda record: record.measured_at_s, default=None)
    return None if latest is None else latest.commit
