"""What a process and all that it has started do, as /proc shows it from outside.

A helper that was started from there is found whatever became of its parents: it is a descendant, or
in the same session, or, where it has left both, it carries the mark of the environment that it was
started in; and once we have asked to `adopt`, it becomes our child when its parents are gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from threading import get_native_id

MARK = "CONVBENCH_CHILD"
"""A variable of the environment: every process that is started inherits it."""

_PROC = Path("/proc")
_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class Seen:
    """A process with all that it has started, at one moment.

    Attributes
    ----------
    cpu_s : float
        Processor time of all of them, of those that have ended, too.
    threads : int
        Of the process itself.
    helpers : dict of int to str
        The numbers and names of the other processes.
    peak_bytes, resident_bytes : int
        The most memory that the process itself has had, and what it has; 0 if that is not told.
    """

    cpu_s: float
    threads: int
    helpers: dict[int, str]
    peak_bytes: int
    resident_bytes: int


@dataclass(frozen=True, slots=True)
class Spent:
    """What the threads of a process have spent so far, all of them together; 0 if untold.

    Attributes
    ----------
    cpu_s : float
        Processor time, of the threads that have ended, too.
    waited_s : float
        Time in which a processor was wanted that others had, of the threads that are there.
    """

    cpu_s: float = 0.0
    waited_s: float = 0.0


def look(process: int, mark: str = "", known: Collection[int] = ()) -> Seen | None:
    """Look at a process and what it has started; None where the system does not show it.

    Parameters
    ----------
    process : int
    mark : str
        The value of `MARK` in its environment.
    known : collection of int
        Processes that are ours, and no helpers.
    """
    table = _table()
    if process not in table:
        return None
    helpers = _helpers(process, mark, known, table)
    ticks = os.sysconf("SC_CLK_TCK")
    cpu_s = sum(table[number].ticks for number in (process, *helpers)) / ticks
    peak, resident = (memory_bytes(process, name) for name in ("VmHWM", "VmRSS"))
    return Seen(cpu_s, table[process].threads, helpers, peak, resident)


def spent(process: int) -> Spent:
    """What a process has spent."""
    waited_s = 0.0
    with contextlib.suppress(OSError):
        for thread in (_PROC / str(process) / "task").iterdir():
            waited_s += _waited_s(thread)
    cpu_s = 0.0
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # what clock_getcpuclockid(3) gives
            cpu_s = time.clock_gettime((~process << 3) | 2)
    return Spent(cpu_s, waited_s)


def spent_here() -> Spent:
    """What this thread has spent."""
    return Spent(time.thread_time(), _waited_s(_PROC / "self" / "task" / str(get_native_id())))


def adopt() -> None:
    """Become the parent of whatever those that we start leave behind, where the system has that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end(process: int, mark: str = "", known: Collection[int] = ()) -> list[str]:
    """Kill what a process has started and left behind, and name it; not the process itself."""
    helpers = _helpers(process, mark, {*known, os.getpid()}, _table())
    for number in helpers:
        with contextlib.suppress(OSError):
            os.kill(number, signal.SIGKILL)
            os.waitpid(number, 0)  # if it is ours by adoption
    return sorted(helpers.values())


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    state: str
    parent: int
    session: int
    ticks: int
    threads: int
    started: int
    """In ticks since the machine was."""


def _table() -> dict[int, _Entry]:
    found = {}
    with contextlib.suppress(OSError):
        for folder in _PROC.iterdir():
            if not folder.name.isdecimal():
                continue
            try:
                text = (folder / "stat").read_text(errors="replace")
            except OSError:  # it has just ended, or is not ours to see
                continue
            # "1234 (name of the program) S 1 ...": only the name can hold spaces and parentheses
            name, _, rest = text.partition("(")[2].rpartition(")")
            fields = rest.split()
            ticks = sum(map(int, fields[11:15]))  # its own, and that of its children that ended
            found[int(folder.name)] = _Entry(
                name,
                fields[0],
                int(fields[1]),
                int(fields[3]),
                ticks,
                int(fields[17]),
                int(fields[19]),
            )
    return found


def _helpers(
    process: int, mark: str, known: Collection[int], table: dict[int, _Entry]
) -> dict[int, str]:
    """Whom a process has started, by number; it may be gone itself."""
    ours = table.get(os.getpid())
    since = table[process].started if process in table else 0
    found = {}
    for number, entry in table.items():
        if number == process or number in known:
            continue
        # Nobody but who left its own session can be of another than ours and our child.
        adopted = ours and entry.parent == os.getpid() and entry.session != ours.session
        if entry.state == "Z":
            if adopted:
                with contextlib.suppress(OSError):
                    os.waitpid(number, os.WNOHANG)
        elif (
            _descends(number, process, table)
            or entry.session == process
            or (adopted and entry.started >= since)
            or (mark and _marked(number, mark))
        ):
            found[number] = entry.name
    return found


def _waited_s(thread: Path) -> float:
    try:
        return int((thread / "schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def _descends(number: int, ancestor: int, table: dict[int, _Entry]) -> bool:
    for _ in range(len(table) if ancestor in table else 0):
        number = table[number].parent
        if number == ancestor:
            return True
        if number not in table:
            return False
    return False


def _marked(number: int, mark: str) -> bool:
    try:
        return f"{MARK}={mark}\0".encode() in (_PROC / str(number) / "environ").read_bytes() + b"\0"
    except OSError:
        return False


def reset_peak(process: int) -> None:
    """Let the peak of a process's memory start anew, where that can be done."""
    with contextlib.suppress(OSError):
        (_PROC / str(process) / "clear_refs").write_text("5")


def memory_bytes(process: int, name: str) -> int:
    """A line of its status; 0 where that is not told."""
    try:
        text = (_PROC / str(process) / "status").read_text(errors="replace")
    except OSError:
        return 0
    words = text.partition(f"{name}:")[2].split()
    return 1024 * int(words[0]) if words else 0
