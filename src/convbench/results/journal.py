"""The file beside asv's results that says why there is none, and how there came to be one.

asv keeps a number, or n/a, or "failed". The rest is appended here, one line of JSON for each thing
that happened, in a file of the same name as asv's::

    .asv/results/<machine>/<commit>-<environment>.json
    .asv/evidence/<machine>/<commit>-<environment>.jsonl

A run measures every cell in several processes. A process says once what it is (versions, machine,
load); a cell in it says that it has started, and then that it is ok, skipped or failed. One that
has started and says no more has taken its process with it. docs/evidence.md documents the lines.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import stat
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Literal, Self

from convbench.errors import InputError

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

MOST_BYTES = 1 << 25
"""Of a file of JSON, or of a line of it; some hundred times the largest of ours."""

MOST_JOURNAL_BYTES = 1 << 28

Kind = Literal["time", "accuracy", "memory", "number"]
KINDS: dict[str, Kind] = {
    "track_time": "time",
    "track_error_over_bound": "accuracy",
    "track_peak_bytes": "memory",
}
"""What the benchmarks of the suites measure, by the last part of their names."""

LINES = ("run", "process", "cell")
STATUSES = ("started", "ok", "skipped", "failed")

FIELDS = frozenset(
    {"schema", "kind", "time_s", "run", "process", "round", "benchmark", "params", "status"}
)
"""What every line about a cell has; the rest of it are facts."""


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
    """What a file says: the notes in the order of the lines, and which lines could not be read.

    Attributes
    ----------
    runs, processes : mapping of str to mapping
        What each run of `convbench bench` and each process has said of itself, by its id.
    """

    path: Path
    notes: list[Note] = field(default_factory=list)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    processes: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def append(path: Path, kind: str, /, **content: Any) -> bytes:
    """Append one line, whole or not at all as far as a reader is concerned.

    Returns
    -------
    bytes
        The line; empty, with a warning, if it could not be written.
    """
    made = line(kind, content)
    try:
        _append(path, [made])
    except OSError as error:
        warnings.warn(f"no evidence could be written: {error}", RuntimeWarning, stacklevel=2)
        return b""
    return made


def append_all(path: Path, lines: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    """Append lines of these kinds and contents with one write, all of them or an error.

    Raises
    ------
    InputError
        If they cannot be written there.
    """
    try:
        _append(path, [line(kind, content) for kind, content in lines])
    except OSError as error:
        raise InputError(
            f"{path}: the evidence is not writable ({error.strerror}); expected a place to append"
            " to. See to the disk and the permissions."
        ) from error


def line(kind: str, content: Mapping[str, Any]) -> bytes:
    """A line, as it is written now."""
    entry = {"schema": SCHEMA, "kind": kind, "time_s": round(time.time(), 3), **content}
    return json.dumps(entry, default=str).encode()


def _append(path: Path, lines: Iterable[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path) as file:
        extend(file, lines)


def extend(file: IO[bytes], lines: Iterable[bytes]) -> None:
    """Append lines to a file that is locked; all of them or, with an OSError, none."""
    left = memoryview(b"".join(b"\n" + line for line in lines))
    end = file.seek(0, os.SEEK_END)
    try:
        while left:  # on a full disk the first write is cut short, and the next one fails
            left = left[file.write(left) :]
    except OSError:
        file.truncate(end)
        raise


@contextlib.contextmanager
def locked(path: Path) -> Iterator[IO[bytes]]:
    """Have a file of evidence to oneself, to append to it or to write asv's file beside it."""
    with path.open("ab", buffering=0) as file:
        _lock(file)
        yield file


def _lock(file: IO[bytes]) -> None:
    # Two runs can meet here. Both append with one write, and a lock for file systems on which that
    # is not enough. The newline comes first: it ends a line that was torn.
    with contextlib.suppress(ImportError):  # elsewhere than on Unix
        import fcntl  # noqa: PLC0415

        fcntl.flock(file, fcntl.LOCK_EX)


class Ledger:
    """What one run writes into a file, and what was there before: the rest is somebody else's.

    Whoever can open the file can write into it, a backend's process, too. While a run is on, its
    own lines are those that it has written here; afterwards the file is in the hands of whoever
    may write it.

    Parameters
    ----------
    path : Path
    run : str
        Its id.

    Attributes
    ----------
    strangers : set of str
        Runs whose lines appeared in the meantime. Another `convbench bench` may have written them.
    problems : list of str
        What was changed by somebody else in lines that are nobody else's to write.
    """

    def __init__(self, path: Path, run: str) -> None:
        self.path = path
        self.strangers: set[str] = set()
        self.problems: list[str] = []
        self._known = Counter(_lines(path))
        told = read(path)
        ended = {name for name, facts in told.runs.items() if facts.get("state") == "finished"}
        self._closed = {run, *ended}
        self._ours: set[str] = set()

    def append(self, kind: str, /, **content: Any) -> None:
        """Append a line and remember it."""
        if line := append(self.path, kind, **content):
            self._known[line] += 1
            self._ours.add(str(content.get("process")))

    def settle(self) -> bool:
        """Take out what others wrote as this run or one that had ended, and put back what is gone.

        Returns
        -------
        bool
            Whether there are strangers that were not known before.
        """
        met = len(self.strangers)
        left = self._known.copy()
        out, start = 0, 0
        try:
            with self.path.open("r+b", buffering=0) as file:
                _lock(file)
                for line in file.read().split(b"\n"):
                    if left[line] > 0:
                        left[line] -= 1
                        start += len(line) + 1
                        continue
                    run, process = _whose(line)
                    if run in self._closed or process in self._ours:
                        # A reader passes over blanks, and nothing has to move for them.
                        file.seek(start)
                        file.write(b" " * len(line))
                        out += 1
                    elif run is not None:
                        self.strangers.add(run)
                    start += len(line) + 1
                gone = b"".join(b"\n" + line for line in left.elements() if line.strip())
                file.seek(0, os.SEEK_END)
                file.write(gone)
        except FileNotFoundError:
            if not self._known:
                return False
            gone = b"\n".join(self._known.elements())
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_bytes(gone)
        except OSError as error:
            self.problems.append(f"{self.path}: not looked through, because {unreadable(error)}")
            return False
        if out:
            self.problems.append(f"{self.path}: {out} lines taken out, which somebody else wrote")
        if gone:
            number = gone.strip().count(b"\n") + 1
            self.problems.append(f"{self.path}: {number} lines put back, which somebody took out")
        return len(self.strangers) > met


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().split(b"\n")
    except OSError:
        return []


def _whose(line: bytes) -> tuple[str | None, str | None]:
    """The run, "" in schema 1, and the process that a line is of; None if it cannot be read."""
    try:
        told = json.loads(line)
        return str(told.get("run", "")), str(told.get("process", ""))
    except UNREADABLE:
        return None, None


def content(path: Path, most: int = MOST_BYTES) -> bytes:
    """What a file holds: a pipe is not waited for, and one that is too large is not taken in.

    Raises
    ------
    OSError, ValueError
        With the reason.
    """
    known = path.stat()
    if not stat.S_ISREG(known.st_mode):
        raise ValueError("it is no file")
    if known.st_size > most:
        raise ValueError(f"it is larger than {most >> 20} MiB")
    return path.read_bytes()


def read(path: Path) -> Journal:
    """Read the lines of a file; what cannot be read is a problem, and the rest is read."""
    try:
        return parse(path, content(path, MOST_JOURNAL_BYTES).split(b"\n"))
    except FileNotFoundError:
        return Journal(path)
    except UNREADABLE as error:
        return Journal(path, problems=[f"{path}: left out, because {unreadable(error)}"])


def parse(path: Path, lines: Iterable[bytes]) -> Journal:
    """Read lines, wherever they come from; `path` is what problems name."""
    journal = Journal(path)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            if len(line) > MOST_BYTES:
                raise ValueError(f"it is longer than {MOST_BYTES >> 20} MiB")
            _take(journal, json.loads(line))
        except UNREADABLE as error:
            journal.problems.append(f"{path}, line {number}: left out, because {unreadable(error)}")
    return journal


def _take(journal: Journal, entry: Any) -> None:
    facts = dict(table(entry, "it"))
    if (schema := facts.pop("schema")) not in READABLE:
        readable = " and ".join(map(str, READABLE))
        raise ValueError(f"its schema is {schema!r} and this version reads {readable}")
    kind = facts.pop("kind", "cell" if schema == 1 else None)
    time_s = number(facts.pop("time_s"), "time_s")
    match kind:
        case "run":
            if "commit_time_s" in facts:
                facts["commit_time_s"] = number(facts["commit_time_s"], "commit_time_s")
            run = journal.runs.setdefault(str(facts.pop("run")), {"begun_s": time_s})
            run.update(facts, time_s=time_s)
        case "process":
            del facts["run"]
            journal.processes.setdefault(str(facts.pop("process")), {}).update(facts)
        case "cell":
            journal.notes.append(_note(journal, time_s, facts))
        case _:
            raise ValueError(f"its kind is {kind!r}, none of {', '.join(LINES)}")


def _note(journal: Journal, time_s: float, facts: dict[str, Any]) -> Note:
    params, process = listed(facts.pop("params"), "params"), str(facts.pop("process", ""))
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
        round=int(number(facts.pop("round", 0), "round")),
        facts={**known, **facts},
    )
    if note.status not in STATUSES:
        raise ValueError(f"its status is {note.status!r}, none of {', '.join(STATUSES)}")
    return note


def strangers(runs: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The runs that another has met in its file while it measured, and has not written itself.

    A run that was begun earlier has the word.
    """
    found: set[str] = set()
    for run, facts in runs.items():
        named = facts.get("strangers")
        if run not in found and isinstance(named, list):
            found |= {str(other) for other in named if other != run}
    return found


def kind_of(benchmark: str) -> Kind | None:
    """What a benchmark of ours measures; None of another suite's."""
    return KINDS.get(benchmark.rpartition(".")[2])


# -- What the notes amount to ----------------------------------------------------------------------

Name = tuple[str, tuple[str, ...]]
"""Of a cell: its benchmark and its parameters."""


def by_cell(notes: Iterable[Note]) -> dict[Name, list[Note]]:
    """The notes of each cell, in the order of the lines."""
    cells: dict[Name, list[Note]] = {}
    for note in notes:
        cells.setdefault((note.benchmark, note.params), []).append(note)
    return cells


@dataclass(frozen=True)
class Ends:
    """What the notes of a cell in one run, or in several, amount to.

    Attributes
    ----------
    ok, failed, skipped : tuple of Note
        How each round ended, or each process where the rounds are asv's. A cell whose process was
        killed together with the run that started it has no end; in a run that was continued it has
        one from another process.
    started : int
        In how many processes the cell was begun.
    died : int
        How many of asv's processes have started it and said no more. `convbench bench` notes how
        each of its own ended.
    """

    ok: tuple[Note, ...] = ()
    failed: tuple[Note, ...] = ()
    skipped: tuple[Note, ...] = ()
    started: int = 0
    died: int = 0

    @classmethod
    def of(cls, notes: Sequence[Note]) -> Self:
        """Sum them up."""
        ends: dict[tuple[str, int, str], Note] = {}
        last: dict[str, str] = {}
        for note in notes:
            last[note.process] = note.status
            if note.status != "started":
                ends[note.run, note.round, "" if note.round else note.process] = note
        ours = any(note.round for note in notes)
        ok, failed, skipped = (
            tuple(note for note in ends.values() if note.status == status)
            for status in ("ok", "failed", "skipped")
        )
        died = 0 if ours else [*last.values()].count("started")
        return cls(ok, failed, skipped, len(last), died)

    @property
    def rounds(self) -> set[int]:
        """Those that have an end."""
        return {note.round for note in (*self.ok, *self.failed, *self.skipped)}

    @property
    def given_up(self) -> int:
        """The last round in which it failed or was skipped, after which it is not tried; else 0."""
        return max((note.round for note in (*self.failed, *self.skipped)), default=0)

    @cached_property
    def samples_s(self) -> tuple[tuple[float, ...], ...]:
        """Of a time: the samples of each process; none in lines of schema 1."""
        return tuple(
            tuple(number(sample, "a sample", finite=False) for sample in note.facts["samples_s"])
            for note in self.ok if "samples_s" in note.facts
        )  # fmt: skip

    @cached_property
    def processes(self) -> tuple[float, ...]:
        """One number a process: the median of its samples, or its value; none in schema 1."""
        if self.samples_s:
            return tuple(map(statistics.median, self.samples_s))
        return tuple(
            number(note.facts["value"], "value", finite=False)
            for note in self.ok if "value" in note.facts
        )  # fmt: skip

    @property
    def what(self) -> tuple[Any, ...]:
        """What was measured: with another version, method or library it is another thing."""
        return tuple(self.ok[-1].facts.get(name) for name in ("version", "method", "versions"))

    @property
    def value(self) -> float:
        """The one number for all processes: their centre, and of errors the worst."""
        if kind_of(self.ok[0].benchmark) == "accuracy":
            return max(self.processes)
        return centre(self.processes)


def centre(numbers: Sequence[float]) -> float:
    """The geometric mean, which is what ratios are made of; the median where one is not positive.

    Examples
    --------
    >>> round(centre([1.0, 4.0]), 12), centre([0.0, 1.0, 5.0])
    (2.0, 1.0)
    """
    if len(set(numbers)) == 1:
        return numbers[0]
    if all(0 < number < math.inf for number in numbers):
        return math.exp(math.fsum(map(math.log, numbers)) / len(numbers))
    return statistics.median(numbers)


def number(value: Any, name: str, *, finite: bool = True) -> float:
    """What a file has for a number, if it is one: neither a text nor a truth value.

    Raises
    ------
    OverflowError, TypeError, ValueError
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is {value!r:.80}, which is no number")
    if finite and not math.isfinite(value):
        raise ValueError(f"{name} is {value!r:.80}, which is no finite number")
    return float(value)


def finite(value: Any) -> float | None:
    """A finite number; None of all else."""
    with contextlib.suppress(OverflowError, TypeError, ValueError):
        return number(value, "")
    return None


def positive(value: Any) -> float | None:
    """A number above 0, as times and amounts are; None of all else."""
    found = finite(value)
    return found if found is not None and found > 0 else None


def table(value: Any, name: str) -> dict[str, Any]:
    """What a file has for an object of JSON, if it is one; else TypeError."""
    if not isinstance(value, dict):
        raise TypeError(f"{name} is not an object")
    return value


def listed(value: Any, name: str) -> list[Any]:
    """Likewise a list."""
    if not isinstance(value, list):
        raise TypeError(f"{name} is not a list")
    return value


_LEAST_S, _MOST_S = 1e-15, 1e9
_MOST_SIZE = 1e18
"""Light gets through no atom in less, nobody waits thirty years, and no memory is so large."""


def impossible(kind: Kind, value: float) -> str:
    """Why a number cannot be what it is stored as, in words; "" if it can.

    Examples
    --------
    >>> impossible("time", -1.0), impossible("memory", 0.0)
    ('the file says -1 s, which is no time', '')
    """
    match kind:
        case "time":
            can_be, what = _LEAST_S < value < _MOST_S, " s, which is no time"
        case "memory":
            can_be, what = 0 <= value < _MOST_SIZE, " B, which is no size"
        case "accuracy":
            can_be, what = value >= 0, ", which is no error over its bound"
        case _:
            can_be, what = math.isfinite(value), ", which is no number"
    return "" if can_be else f"the file says {value:g}{what}"


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
