"""What asv does not store about a cell: why there is no result, and how there came to be one.

asv keeps a number, or n/a, or "failed". The rest is appended to a file beside its results, one line
of JSON for each thing that happened, in a file of the same name as asv's::

    .asv/results/<machine>/<commit>-<environment>.json
    .asv/evidence/<machine>/<commit>-<environment>.jsonl

A run measures every cell in several processes. A process says once what it is (versions, machine,
load); a cell in it says that it has started, and then that it is ok, skipped or failed. One that
has started and says no more has taken its process with it. docs/evidence.md documents the lines.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from convbench import environment

SCHEMA = 2
READABLE = (1, 2)
"""Schema 1 had no kinds, no runs and no processes: one line a cell, with its versions."""

UNREADABLE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""What reading a file that is damaged, or not ours, may raise."""

KINDS = ("run", "process", "cell")
STATUSES = ("started", "ok", "skipped", "failed")

_FOLDER = Path(".asv", "evidence")


@dataclass(frozen=True, slots=True)
class Note:
    """One line about a cell.

    Attributes
    ----------
    time_s : float
        Seconds since 1970.
    benchmark : str
        As asv calls it: ``bench_pipeline.Smoke.track_time``.
    params : tuple of str
        The target, the workload and, where there is one, the stage.
    status : str
        One of `STATUSES`.
    facts : mapping of str to JSON values
        ``reason`` and ``remedy`` of a cell without a result; ``algorithm``, ``method``, ``flops``,
        ``samples_s`` and the like of one that is ok; and what its process has said of itself.
    run, process : str
        Which run of the suites, and which process of it; empty in schema 1.
    round : int
        Which of the run's rounds; 0 where asv runs them, which does not tell.
    """

    time_s: float
    benchmark: str
    params: tuple[str, ...]
    status: str
    facts: Mapping[str, Any]
    run: str = ""
    process: str = ""
    round: int = 0


@dataclass(frozen=True, slots=True)
class Journal:
    """What a file says.

    Attributes
    ----------
    path : Path
    notes : list of Note
        In the order of the lines.
    runs : mapping of str to mapping
        What each run that was orchestrated by :mod:`convbench.bench` has said of itself, by its id.
    processes : mapping of str to mapping
        What each process has said of itself, by its id.
    problems : list of str
        The lines that could not be read, each with its place and why.
    """

    path: Path
    notes: list[Note] = field(default_factory=list)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    processes: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Place:
    """Where this process writes its lines, as part of what, and how it was started.

    Attributes
    ----------
    launch : str
        "fork" or "exec" by :mod:`convbench.bench`; by asv, the mode that it calls it.
    """

    path: Path
    run: str
    round: int = 0
    launch: str = ""


_place: Place | None = None
_told: dict[tuple[Path, str], dict[str, Any]] = {}
"""What this process, by its id, has said of itself already in a file."""


def use(place: Place) -> None:
    """Write to this place from now on, instead of where asv's command line points to."""
    global _place  # noqa: PLW0603  # a process belongs to one run, and is told once
    _place = place


def write(benchmark: str, params: Sequence[str], status: str, **facts: Any) -> None:
    """Append a line for the run that this process belongs to; nothing if there is none.

    A disk that cannot be written to costs the evidence, with a warning, and never the measurement.
    """
    place = _where()
    if place is None:
        return
    me = f"{os.getpid()}-{_process_id(os.getpid())}"
    if (place.path, me) not in _told:
        _told.clear()  # those of the process that this one was forked from
        launch = place.launch or asv_mode()
        describe(place, me, launch=launch, before=environment.moment(), machine=_machine_facts())
    if (versions := facts.pop("versions", None)) is not None:
        describe(place, me, versions=versions)
    if status != "started" and place is not _place:  # asv's processes have one cell each
        describe(place, me, after=environment.moment())
    append(
        place.path,
        "cell",
        run=place.run, process=me, round=place.round,
        benchmark=benchmark, params=list(params), status=status, **facts,
    )  # fmt: skip


def finish() -> None:
    """Say, as the last thing, how the machine is at the end of this process."""
    for path, process in [*_told]:
        if _place is not None and path == _place.path:
            describe(_place, process, after=environment.moment())


def describe(place: Place, process: str, **facts: Any) -> None:
    """Append what is new in what a process says of itself."""
    told = _told.setdefault((place.path, process), {})
    if new := {name: value for name, value in facts.items() if told.get(name) != value}:
        told.update(new)
        append(place.path, "process", run=place.run, process=process, **new)


def append(path: Path, kind: str, **content: Any) -> None:
    """Append one line, whole or not at all as far as a reader is concerned."""
    line = json.dumps(
        {"schema": SCHEMA, "kind": kind, "time_s": round(time.time(), 3), **content}, default=str
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as file:
            # Two runs can meet here. Both append a line with one write, and a lock for file systems
            # on which that is not enough. The newline comes first: it ends a line that was torn.
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(f"\n{line}".encode())
    except OSError as error:
        warnings.warn(f"no evidence could be written: {error}", RuntimeWarning, stacklevel=2)


def read(path: Path) -> Journal:
    """Read the lines of a file; what cannot be read is a problem, and the rest is read."""
    journal = Journal(path)
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return journal
    except OSError as error:
        journal.problems.append(f"{path}: left out, because {unreadable(error)}")
        return journal
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            _take(journal, json.loads(line))
        except UNREADABLE as error:
            journal.problems.append(f"{path}, line {number}: left out, because {unreadable(error)}")
    return journal


def _take(journal: Journal, entry: Any) -> None:
    if not isinstance(entry, dict):
        raise TypeError("it is not an object")
    facts = dict(entry)
    if (schema := facts.pop("schema")) not in READABLE:
        readable = " and ".join(map(str, READABLE))
        raise ValueError(f"its schema is {schema!r} and this version reads {readable}")
    kind = facts.pop("kind", "cell" if schema == 1 else None)
    time_s = float(facts.pop("time_s"))
    match kind:
        case "run":
            run = journal.runs.setdefault(str(facts.pop("run")), {"begun_s": time_s})
            run.update(facts, time_s=time_s)
        case "process":
            del facts["run"]
            journal.processes.setdefault(str(facts.pop("process")), {}).update(facts)
        case "cell":
            journal.notes.append(_note(journal, time_s, facts))
        case _:
            raise ValueError(f"its kind is {kind!r}, none of {', '.join(KINDS)}")


def _note(journal: Journal, time_s: float, facts: dict[str, Any]) -> Note:
    params, process = facts.pop("params"), str(facts.pop("process", ""))
    # Lines of a process come before those of its cells, so that no copy is needed but this one.
    known = {
        name: value
        for name, value in journal.processes.get(process, {}).items()
        if name in {"versions", "machine", "launch"}
    }
    note = Note(
        time_s=time_s,
        benchmark=str(facts.pop("benchmark")),
        params=tuple(map(str, params)),
        status=str(facts.pop("status")),
        run=str(facts.pop("run", "")),
        process=process,
        round=int(facts.pop("round", 0)),
        facts={**known, **facts},
    )
    if note.status not in STATUSES:
        raise ValueError(f"its status is {note.status!r}, none of {', '.join(STATUSES)}")
    return note


def unreadable(error: Exception) -> str:
    """Why a stored file or line cannot be read, in words."""
    match error:
        case KeyError():
            return f"it has no {error}"
        case OSError():
            return f"it cannot be read: {error.strerror}"
        case RecursionError():
            return "it is nested too deeply"
        case _:
            return str(error)


@cache
def _process_id(pid: int) -> str:  # noqa: ARG001  # a fork has another pid, and gets another id
    return uuid.uuid4().hex[:8]


@cache
def _machine_facts() -> dict[str, Any]:
    facts = environment.machine_facts()
    if environment.has_nvidia_driver() and (cards := environment.gpus()):
        what = ("name", "driver", "memory_total_mib")
        facts["gpus"] = [{k: card[k] for k in what if k in card} for card in cards]
    return facts


def _where() -> Place | None:
    """The place that was given, or the one that follows from asv's command line."""
    if _place is not None:
        return _place
    path = location()
    return None if path is None else Place(path, _run_of_asv())


@cache
def _run_of_asv() -> str:
    """The same for all processes that one `asv run` starts: what asv's own process is."""
    for process, words in _ancestors():
        if _verb(words) is not None:
            return f"asv-{process}-{_started(process)}"
    return f"asv-{os.getppid()}"


def _started(process: int) -> str:
    """When a process was started, in the kernel's ticks."""
    try:
        status = Path("/proc", str(process), "stat").read_text(errors="replace")
    except OSError:
        return ""
    return status.rpartition(")")[2].split()[19]


# -- Where ----------------------------------------------------------------------------------------


@cache
def location() -> Path | None:
    """The file for the results that asv will save; None outside asv, or if it will save none.

    asv hardly tells a benchmark where its result goes, and not at all in an existing environment.
    So this follows the rules of asv 0.6.6. The checkout is the folder above the suites, whose path
    is an argument. The environment and the commit are in variables; with ``-E existing:PYTHON
    --set-commit-hash HASH`` they are the interpreter's path and a word on the command line of the
    asv above this process. Only Linux shows that line; elsewhere, export ``ASV_COMMIT``.
    """
    if asv_mode() not in ("run", "run_server"):
        return None
    repository = Path(sys.argv[2]).parent
    asked = _asked_of_asv()
    commit = os.environ.get("ASV_COMMIT")
    if asked.set_commit_hash is not None:
        commit = _full_hash(repository, asked.set_commit_hash)
    if commit is None or asked.dry_run:
        return None
    environment = os.environ.get("ASV_ENV_NAME") or f"existing-py{sys.executable}"
    environment = re.sub(r'[<>:"/\\^|?*\x00-\x1f]', "_", environment)
    if len(environment) >= 128:  # here asv shortens the name of its file
        digest = hashlib.md5(environment.encode(), usedforsecurity=False).hexdigest()
        environment = f"env-{digest}"
    return repository / _FOLDER / _machine(asked.machine) / f"{commit[:8]}-{environment}.jsonl"


def asv_mode() -> str | None:
    """What asv started this process for: discover, run, run_server; None if asv did not."""
    script, mode = [*sys.argv, "", ""][:2]
    return mode if script.endswith("asv/benchmark.py") else None


def _asked_of_asv() -> argparse.Namespace:
    """Read those arguments of the ``asv run`` above this process that say what it will save."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--set-commit-hash")
    parser.add_argument("--machine", "-m")
    parser.add_argument("--dry-run", "-n", action="store_true")
    for _, words in _ancestors():
        if (verb := _verb(words)) is not None:
            return parser.parse_known_args(words[verb + 1 :])[0]
    return parser.parse_args([])


def _verb(words: Sequence[str]) -> int | None:
    """Where in a command line asv is told to measure; None if it is not asv's."""
    names = [Path(word).name for word in words]
    for verb in ("run", "continuous"):
        if verb in names and "asv" in names[: names.index(verb)]:
            return names.index(verb)
    return None


def _ancestors() -> Iterator[tuple[int, list[str]]]:
    """Numbers and command lines of the parent, its parent, and so on."""
    process = os.getppid()
    while process:
        folder = Path("/proc", str(process))
        try:
            command = (folder / "cmdline").read_text(errors="replace")
            status = (folder / "stat").read_text(errors="replace")
        except OSError:  # not Linux, or not ours to see
            return
        yield process, command.split("\0")
        # "1234 (name of the program) S 1 ...": only the name can hold spaces and parentheses
        process = int(status.rpartition(")")[2].split()[1])


def _full_hash(repository: Path, name: str) -> str | None:
    """The commit that a name stands for, as asv will resolve it."""
    found = subprocess.run(
        ["git", "-C", str(repository), "rev-parse", "--verify", f"{name}^{{commit}}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return found.stdout.strip() or None


def _machine(asked: str | None) -> str:
    """The name that asv gives this machine: its rule, on its file."""
    name = asked or platform.node()
    try:
        known = json.loads((Path.home() / ".asv-machine.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return name
    known.pop("version", None)
    if name not in known and name == platform.node() and len(known) == 1:
        name = next(iter(known))
    return str(known.get(name, {}).get("machine", name))
