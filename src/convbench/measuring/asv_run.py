"""What asv wants of this process, and where its results will go."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

_FOLDER = Path(".asv", "evidence")


@cache
def run_of_asv() -> str:
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
