"""What asv does not store about a cell: why there is no result, and how there came to be one.

asv keeps a number, or n/a, or "failed". The rest is appended to a file beside its results, one line
of JSON for each thing that happened, in a file of the same name as asv's::

    .asv/results/<machine>/<commit>-<environment>.json
    .asv/evidence/<machine>/<commit>-<environment>.jsonl

A cell writes that it has started, and then that it is ok, skipped or failed. One that has started
and says no more has taken its process with it.
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
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

SCHEMA = 1
STATUSES = ("started", "ok", "skipped", "failed")

_FOLDER = Path(".asv", "evidence")


@dataclass(frozen=True, slots=True)
class Note:
    """One line.

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
        ``reason`` and ``remedy`` of a cell without a result; ``algorithm``, ``versions``,
        ``method``, ``flops`` and the like of one that is ok.
    """

    time_s: float
    benchmark: str
    params: tuple[str, ...]
    status: str
    facts: Mapping[str, Any]


def write(benchmark: str, params: Sequence[str], status: str, **facts: object) -> None:
    """Append a line for the run of asv that this process belongs to; nothing if there is none.

    A disk that cannot be written to costs the evidence, with a warning, and never the measurement.
    """
    path = location()
    if path is None:
        return
    line = json.dumps(
        {
            "schema": SCHEMA,
            "time_s": round(time.time(), 3),
            "benchmark": benchmark,
            "params": list(params),
            "status": status,
            **facts,
        },
        default=str,
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


def read(path: Path) -> tuple[list[Note], list[str]]:
    """Read the lines of a file, in order.

    Returns
    -------
    notes : list of Note
    problems : list of str
        The lines that could not be read, each with its place and why.
    """
    notes: list[Note] = []
    problems: list[str] = []
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], []
    except OSError as error:
        return [], [f"{path}: left out, because {unreadable(error)}"]
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            notes.append(_note(json.loads(line)))
        except (ValueError, TypeError, KeyError) as error:
            problems.append(f"{path}, line {number}: left out, because {unreadable(error)}")
    return notes, problems


def _note(entry: Any) -> Note:
    if not isinstance(entry, dict):
        raise TypeError("it is not an object")
    facts = dict(entry)
    if (schema := facts.pop("schema")) != SCHEMA:
        raise ValueError(f"its schema is {schema!r} and this version reads {SCHEMA}")
    params = facts.pop("params")
    note = Note(
        time_s=float(facts.pop("time_s")),
        benchmark=str(facts.pop("benchmark")),
        params=tuple(map(str, params)),
        status=str(facts.pop("status")),
        facts=facts,
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
        case _:
            return str(error)


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
    for words in _ancestors():
        names = [Path(word).name for word in words]
        for verb in ("run", "continuous"):
            if verb in names and "asv" in names[: names.index(verb)]:
                return parser.parse_known_args(words[names.index(verb) + 1 :])[0]
    return parser.parse_args([])


def _ancestors() -> Iterator[list[str]]:
    """Command lines of the parent, its parent, and so on."""
    process = os.getppid()
    while process:
        folder = Path("/proc", str(process))
        try:
            command = (folder / "cmdline").read_text(errors="replace")
            status = (folder / "stat").read_text(errors="replace")
        except OSError:  # not Linux, or not ours to see
            return
        yield command.split("\0")
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
