"""From asv's result files and the evidence beside them to records."""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from convbench.results import journal, machines
from convbench.results.folder import Filed, Folder, read_asv, short
from convbench.results.journal import Ends, Kind, Name, Note, centre
from convbench.results.sessions import Health, Run
from convbench.words.status import Standing, Status
from convbench.words.text import clip

Place = tuple[str, str]
"""Machine and environment."""

OTHER = "other benchmarks"
"""The suite of those that are none of ours, of which asv's file is all that is known."""

ONE_CORE = "one_core"
"""The suite of whole pipelines with one thread on one core, where gates are filed for asv."""

_MOST_REASON = 2000


def suite_of(benchmark: str, target: str) -> str:
    """What a benchmark of asv's is about: "pipeline", "stages", "accuracy", "cold", "sweep", ..."""
    return benchmark.partition(".")[0].removeprefix("bench_") if target else OTHER


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
    target : str
        "" of a benchmark that is none of ours; its `workload` is then its name and parameters.
    stage : str
        "conv", "bias" or "pool"; "" for the whole pipeline. Other suites have other words here.
    value : float, optional
        Seconds per call or bytes, the geometric mean of the processes, or asv's median of all
        samples where only that is known; or error over bound, the worst; or a number of another
        unit.
    processes : tuple of float
        The median of each fresh process, in the order in which they ran: these are independent.
        Empty where only asv's numbers are known.
    facts : mapping of str to JSON values
        The rest of the evidence: algorithm, versions, method, flops, digests, ...
    health : Health
        How the machine was, as far as the processes that count have told.
    runs : tuple of Run
        All that have measured it, in their order, if there are several.
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
    processes: tuple[float, ...] = ()
    reason: str = ""
    remedy: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    health: Health = field(default_factory=Health)
    runs: tuple[Run, ...] = ()

    @property
    def suite(self) -> str:
        """What the benchmark is about: see :func:`suite_of`."""
        return suite_of(self.benchmark, self.target)

    @property
    def origin(self) -> tuple[str, str, str]:
        """Where and what it was measured on: machine, commit and environment."""
        return self.machine, self.commit, self.environment

    @property
    def place(self) -> Place:
        """Where it was measured."""
        return self.machine, self.environment

    @property
    def device(self) -> str:
        """Of its target."""
        return self.target.partition("@")[2]

    @property
    def standing(self) -> Standing | None:
        """What stands behind it, if it is a time."""
        if self.kind != "time" or self.value is None:
            return None
        receipt = self.facts.get("receipt")
        if not receipt:
            return Standing.CLAIM
        return Standing.DOUBTED if doubt(receipt) else Standing.HELD

    @property
    def draws(self) -> tuple[float, ...]:
        """One number a process; asv's one number where only that is known; () without any."""
        return self.processes or (() if self.value is None else (self.value,))

    @property
    def sessions(self) -> float:
        """In how many sessions its processes were, where all have as many; else less (Kish's)."""
        each = [run.processes for run in self.runs if run.counted] or [1]
        return sum(each) ** 2 / sum(number**2 for number in each)


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

    Of a cell that stands in several suites, as of two lists of workloads, the newest counts.

    With `commits`, hashes or their starts of eight digits or more, only their files are opened.
    """
    folder = Folder(Path(results_dir))
    starts = set(map(short, commits or ()))
    records: list[Record] = []
    problems: list[str] = folder.unread()
    for filed in folder.files():
        if commits is None or filed.commit in starts:
            found = _of_commit(folder, filed)
            records += found.records
            problems += found.problems
    if called := machines.names(folder):
        records = _together(records, called)
    records = _newest(records)
    if commits is not None:
        records = [record for record in records if record.commit.startswith(tuple(commits))]
    return Loaded(tuple(records), tuple(dict.fromkeys(problems)))


def _newest(records: Iterable[Record]) -> list[Record]:
    """One of each cell: a workload of several lists may have been measured in each of them."""
    found: dict[tuple[str, ...], Record] = {}
    for record in records:
        cell = (record.suite, record.kind, record.target, record.workload, record.stage)
        known = found.setdefault((*record.origin, *cell), record)
        if known.measured_at_s <= record.measured_at_s:
            found[*record.origin, *cell] = record
    return [*found.values()]


def _together(records: Iterable[Record], called: Mapping[str, str]) -> list[Record]:
    """Those of one machine under its one name; what it has measured under two counts together."""
    found: dict[tuple[str, ...], Record] = {}
    for own in sorted(records, key=lambda record: record.measured_at_s):
        record = replace(own, machine=called.get(own.machine, own.machine))
        key = (*record.origin, record.benchmark, record.target, record.workload, record.stage)
        found[key] = _pooled(found[key], record) if key in found else record
    return [*found.values()]


def _pooled(earlier: Record, later: Record) -> Record:
    """The processes of both if they have measured the same; otherwise the later."""

    def what(record: Record) -> tuple[Any, ...]:
        facts = (record.facts.get(name) for name in ("method", "versions"))
        return record.status is Status.OK, record.version, *facts

    if later.kind == "accuracy" and earlier.status is Status.WRONG:
        return earlier
    if what(earlier) != what(later) or not (earlier.processes and later.processes):
        return later
    runs = tuple(
        run
        for record in (earlier, later)
        for run in record.runs
        or (Run(centre(record.processes), len(record.processes), counted=True),)
    )
    processes = (*earlier.processes, *later.processes)
    value = max(processes) if later.kind == "accuracy" else centre(processes)
    return replace(later, value=value, processes=processes, runs=runs)


_Outcome = dict[str, Any]
"""The part of a record that says what became of the cell."""


def _of_commit(folder: Folder, filed: Filed) -> Loaded:
    """Put together what asv and we have of a commit, on a machine, in an environment."""
    columns, problems = read_asv(folder.results_of(filed))
    told = journal.read(folder.evidence_of(filed))
    of_cells = journal.by_cell(told.notes)
    cells: dict[Name, list[Note]] = {}
    runs: dict[Name, list[tuple[Ends, bool]]] = {}
    for name, notes in of_cells.items():
        cells[name], runs[name] = _of_runs(notes, told.runs)
    healths: dict[frozenset[str], Health] = {}
    noted = {benchmark for benchmark, _ in cells}
    known: dict[Name, tuple[dict[str, Any], Callable[[Kind, Ends], _Outcome | None]]] = {}
    records: list[Record] = []
    problems += told.problems
    for column in columns:
        about = {name: getattr(column, name) for name in _ABOUT}
        for i, (cell, value) in enumerate(zip(column.cells, column.values, strict=True)):
            why = column.impossible.get(i, "")
            if not cell[0]:
                what = {"benchmark": column.benchmark, "kind": column.kind, "workload": cell[1]}
                own = _asvs_own(value, why, column.facts[i])
                records.append(Record(target="", stage="", **(about | what | own)))
                continue
            name = (column.benchmark, cell[: 3 if cell[2] else 2])
            if value is None and not why and name not in cells and column.benchmark in noted:
                continue  # asv stores None of what was never selected, once parameters change
            known[name] = about, partial(_beside_asv, value, why)
    for name, notes in sorted(cells.items()):
        # asv's file is written after the evidence, or not at all; its own runs save all or nothing.
        if run := told.runs.get(notes[-1].run):
            known.setdefault(name, (_about(filed.machine, run, notes), _outcome))
    for (benchmark, params), (about, decide) in known.items():
        kind = journal.kind_of(benchmark)
        if kind is None or len(params) not in {2, 3} or not all(params[:2]):
            continue
        try:
            notes = cells.get((benchmark, params), [])
            outcome = decide(kind, Ends.of(notes))
        except journal.UNREADABLE as error:
            name_of_cell = f"{benchmark}({', '.join(params)})"
            why = journal.unreadable(error)
            problems.append(f"{told.path}: {name_of_cell} left out, because {why}")
            continue
        if outcome is not None:
            target, workload, *stage = params
            of: dict[str, Any] = {"target": target, "workload": workload, "stage": "".join(stage)}
            processes = frozenset(note.process for note in notes)
            if processes not in healths:
                healths[processes] = Health.of(
                    told.processes[name] for name in sorted(processes & told.processes.keys())
                )
            of |= {"health": healths[processes], "runs": _runs(runs.get((benchmark, params), ()))}
            records.append(Record(benchmark=benchmark, kind=kind, **(about | of | outcome)))
    return Loaded(tuple(records), tuple(problems))


_ABOUT = ("machine", "commit", "environment", "commit_time_s", "measured_at_s", "version")


def _about(machine: str, run: Mapping[str, Any], notes: Sequence[Note]) -> dict[str, Any]:
    commit, environment = (str(run.get(name, "")) for name in ("commit", "environment"))
    version = str(notes[-1].facts.get("version", ""))
    made_s = run.get("commit_time_s", 0.0)
    begun_s = next(note.time_s for note in notes if note.run == notes[-1].run)
    told = (machine, commit, environment, made_s, begun_s, version)
    return dict(zip(_ABOUT, told, strict=True))


def _of_runs(
    notes: Sequence[Note], runs: Mapping[str, Mapping[str, Any]]
) -> tuple[list[Note], list[tuple[Ends, bool]]]:
    """Those of the runs that count, and how each run has ended, and whether it counts; in order.

    The last one in which the cell has come to an end counts, and with it every other that has
    measured the same: whoever measures again until he likes the number has measured more, and not
    another thing. What has uncommitted changes is never the same. One that appeared while another
    was measured here counts only where that has nothing.
    """
    strange = journal.strangers(runs)
    of: dict[str, list[Note]] = {}
    for note in [note for note in notes if note.run not in strange] or notes:
        of.setdefault(note.run, []).append(note)
    ends = {run: Ends.of(some) for run, some in of.items()}
    ended = [run for run in of if ends[run].rounds or ends[run].died] or [*of][-1:]
    at = {note.run: i for i, note in enumerate(notes)}
    ended.sort(key=at.__getitem__)
    last = ended[-1]

    def what(run: str) -> tuple[Any, ...] | None:
        clean, found = runs.get(run, {}).get("clean"), ends[run]
        if clean is not True or not found.ok or found.given_up:
            return None
        if any(doubt(note.facts.get("receipt")) for note in found.ok):
            return None  # another run makes no time true that was doubted
        return found.what

    same = [run for run in ended[:-1] if what(last) and what(run) == what(last)] + [last]
    counted = [note for run in same for note in of[run]]
    return counted, [(ends[run], run in same) for run in ended]


def _runs(ends: Iterable[tuple[Ends, bool]]) -> tuple[Run, ...]:
    """What can be read of them, if there are several."""
    found = []
    for end, counted in ends:
        with contextlib.suppress(*journal.UNREADABLE):
            if end.ok and end.processes:
                found.append(Run(end.value, len(end.processes), counted))
    return tuple(found) if len(found) > 1 else ()


def _asvs_own(value: float | None, why: str, facts: Mapping[str, Any]) -> _Outcome:
    """What asv has of a benchmark that is none of ours."""
    if why:
        return _invalid(why)
    if value is None:
        return _failed(
            "asv stored a failure, and keeps no reason",
            "See what `asv run --show-stderr` of this benchmark prints.",
        )
    if math.isnan(value):
        return {"status": Status.SKIPPED, "reason": "asv stored n/a: skipped, or not selected"}
    return {"status": Status.OK, "value": value, "facts": facts}


def _beside_asv(value: float | None, why: str, kind: Kind, ends: Ends) -> _Outcome | None:
    """Put asv's number and the evidence together; None for a cell that was not run.

    `why` is what cannot be true of asv's number.

    Where the evidence has the samples or the values of the processes, it is what counts. In lines
    of schema 1 asv's number decides what became of the cell and the evidence says why: n/a is both
    "skipped" and "not selected", and only the first leaves evidence.
    """
    if value is None and not why and ends.died:
        # asv stores None for a cell if the last of its processes has failed.
        reason = "the process ended in the middle: it crashed, was killed or ran out of time"
        some = f"in {ends.died} of {ends.started} processes: " if ends.started > ends.died else ""
        remedy = "Run this cell alone with `asv run --show-stderr -b ...` to see its last words."
        return _failed(f"{some}{reason}", remedy)
    outcome = _outcome(kind, ends)
    if ends.failed or ends.processes:
        return outcome
    if why:
        return _invalid(why)
    if value is None:
        return _failed(
            "asv stored a failure and there is no evidence of the cell being started",
            "See whether `asv run --show-stderr` can build this commit and import the suites.",
        )
    if math.isnan(value):
        return outcome
    return _judged(kind, value, ends.ok[-1].facts if ends.ok else {})


def _failed(reason: str, remedy: str) -> _Outcome:
    return {"status": Status.FAILED, "reason": reason, "remedy": remedy}


def _invalid(reason: str) -> _Outcome:
    remedy = "Measure it again; the file is damaged, or was not written by asv."
    return {"status": Status.INVALID, "reason": reason, "remedy": remedy}


def _outcome(kind: Kind, ends: Ends) -> _Outcome | None:
    """What the evidence says by itself; None for a cell that was not run."""
    if ends.failed:
        outcome = {"status": Status.FAILED, **_split(ends.failed[-1].facts)}
        ended = len(ends.failed) + len(ends.ok) + len(ends.skipped)
        if ended > len(ends.failed):
            some = f"in {len(ends.failed)} of {ended} processes"
            outcome["reason"] = f"{some}: {outcome['reason']}"
        return outcome
    if ends.processes:
        stored = (*ends.processes, *(sample for samples in ends.samples_s for sample in samples))
        if why := next(filter(None, (journal.impossible(kind, each) for each in stored)), ""):
            return _invalid(why)
        return {**_judged(kind, ends.value, _summed(kind, ends)), "processes": ends.processes}
    return {"status": Status.SKIPPED, **_split(ends.skipped[-1].facts)} if ends.skipped else None


def _summed(kind: Kind, ends: Ends) -> dict[str, Any]:
    """The facts of the last process, and what all of them come to."""
    facts = {k: v for k, v in ends.ok[-1].facts.items() if k not in _OF_ONE_PROCESS}
    if digests := [note.facts["digest"] for note in ends.ok if "digest" in note.facts]:
        facts["digests"] = digests
    if kind == "accuracy":
        worst = max(ends.ok, key=lambda note: float(note.facts["value"]))
        facts["worst"] = worst.facts.get("worst", "")
    if ends.samples_s:
        facts["fastest_s"] = min(map(min, ends.samples_s))
    if receipts := [r for note in ends.ok if (r := note.facts.get("receipt"))]:
        facts["receipt"] = receipts[-1]
    if device := [s for note in ends.ok if (s := note.facts.get("device_samples_s"))]:
        facts["device_s"] = centre([statistics.median(map(_device_time, some)) for some in device])
    return facts


def _device_time(sample: object) -> float:
    if (seconds := journal.positive(sample)) is None:
        raise ValueError(f"a sample of the device is {sample!r:.80}")
    return seconds


_OF_ONE_PROCESS = frozenset({"samples_s", "device_samples_s", "number", "value", "receipt"})


def doubt(receipt: object) -> str:
    """The first of the claims that a receipt does not support, in words; "" if it supports all."""
    claims = receipt.get("claims") if isinstance(receipt, Mapping) else None
    for claim in claims if isinstance(claims, list) else ():
        if isinstance(claim, Mapping) and claim.get("verdict") == "not supported":
            return f"{claim.get('claim')}: {claim.get('reason')}"
    return ""


def _judged(kind: Kind, value: float, facts: Mapping[str, Any]) -> _Outcome:
    outcome = {"status": Status.OK, "value": value, **_split(facts)}
    if kind == "accuracy" and value > 1:
        outcome |= {
            "status": Status.WRONG,
            "reason": f"the error is {value:.3g} times its bound: {facts.get('worst', '')}",
            "remedy": "`convbench verify` tells more; the times of a wrong result mean nothing.",
        }
    if kind == "time" and (why := doubt(facts.get("receipt"))):
        outcome |= {
            "status": Status.INVALID,
            "reason": f"what was seen does not support it: {why}",
            "remedy": "`convbench audit` looks again, and closer; docs/trust.md says how.",
        }
    return outcome


_NUMBERS = frozenset({"flops", "bytes", "fastest_s", "device_s"})
_TYPES = {"versions": dict, "machine": dict, "digests": list, "receipt": dict}
"""What others rely on; a fact of another type was not written by us and is left out."""


def _split(facts: Mapping[str, Any]) -> _Outcome:
    rest = {
        name: value
        for name, value in facts.items()
        if (name not in _NUMBERS or value == 0 or journal.positive(value) is not None)
        and isinstance(value, _TYPES.get(name, object))
    }
    return {
        "reason": clip(str(rest.pop("reason", "")), _MOST_REASON),
        "remedy": clip(str(rest.pop("remedy", "")), _MOST_REASON),
        "facts": rest,
    }
