"""What asv wants of this process, and where its results will go.

asv hardly tells a benchmark where its result goes, and not at all in an existing environment. But
it loads its plug-ins before it runs anything, and starts benchmarks with its own environment: there
``asv_plugin.py`` lets :func:`tell` say it in one variable.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from convbench.machine.git import full_hash
from convbench.results.folder import Filed, Folder, short

VARIABLE = "CONVBENCH_ASV"


@dataclass(frozen=True, slots=True)
class Asked:
    """What an `asv run` was asked for, as far as it says where its results go.

    Attributes
    ----------
    run : str
        The same for all processes that it starts.
    machine : str
        What it calls this machine.
    commit : str, optional
        What ``--set-commit-hash`` stands for; without it, asv tells each benchmark its commit.
    results_dir : str, optional
        None if it will save nothing.
    """

    run: str
    machine: str
    commit: str | None
    results_dir: str | None


def tell() -> None:
    """In asv's own process: tell those that it starts what it was asked for."""
    from asv.commands import make_argparser  # noqa: PLC0415  # there is no asv where it measures
    from asv.config import Config  # noqa: PLC0415
    from asv.machine import Machine, MachineCollection  # noqa: PLC0415
    from asv.util import UserError  # noqa: PLC0415

    words = vars(make_argparser()[0].parse_args())
    machine = words.get("machine") or Machine.get_unique_machine_name()
    with contextlib.suppress(UserError):  # asv will ask, and proposes that name
        machine = MachineCollection.load(machine)["machine"]
    commit = words.get("set_commit_hash")
    saves = "record_samples" in words and not words.get("dry_run")  # run and continuous do
    results_dir = Path(Config.load(words.get("config")).results_dir).resolve()
    asked = Asked(
        run=f"asv-{os.getpid()}-{time.time_ns()}",
        machine=machine,
        commit=commit and (full_hash(commit) or commit),
        results_dir=str(results_dir) if saves else None,
    )
    os.environ[VARIABLE] = json.dumps(asdict(asked))


def location() -> tuple[Path, str] | None:
    """The file for the results that asv will save, and which run of asv this is.

    None outside asv, or if it will save none.
    """
    if asv_mode() not in ("run", "run_server"):
        return None
    if VARIABLE in os.environ:
        told = json.loads(
            os.environ[VARIABLE]
        )  # another version of this module may have written it
        asked = Asked(*(told.get(field.name) for field in fields(Asked)))
    else:
        asked = _asked_of_asv(Path(sys.argv[2]).parent)
    commit = asked.commit or os.environ.get("ASV_COMMIT")
    if commit is None or asked.results_dir is None:
        return None
    environment = os.environ.get("ASV_ENV_NAME") or f"existing-py{sys.executable}"
    environment = re.sub(r'[<>:"/\\^|?*\x00-\x1f]', "_", environment)
    if len(environment) >= 128:  # here asv shortens the name of its file
        digest = hashlib.md5(environment.encode(), usedforsecurity=False).hexdigest()
        environment = f"env-{digest}"
    filed = Filed(asked.machine, short(commit), environment)
    return Folder(Path(asked.results_dir)).evidence_of(filed), asked.run


def asv_mode() -> str | None:
    """What asv started this process for: discover, run, run_server; None if asv did not."""
    script, mode = [*sys.argv, "", ""][:2]
    return mode if script.endswith("asv/benchmark.py") else None


# -- Where the plug-in is of before it told anything: from Linux's list of processes ---------------


def _asked_of_asv(checkout: Path) -> Asked:
    """The most important of it, read from the command line of the asv above this process."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--set-commit-hash")
    parser.add_argument("--machine", "-m", default=platform.node())
    parser.add_argument("--dry-run", "-n", action="store_true")
    found = ((run, words) for run, words in _ancestors() if {"run", "continuous"} & {*words})
    run, words = next(found, (str(os.getppid()), []))
    asked, _ = parser.parse_known_args(words)
    commit = asked.set_commit_hash and full_hash(asked.set_commit_hash, checkout)
    results = Folder.of_config(checkout / "asv.conf.json").results
    results_dir = None if asked.dry_run else str(results)
    return Asked(f"asv-{run}", asked.machine, commit, results_dir)


def _ancestors() -> Iterator[tuple[str, list[str]]]:
    """Number and start of the parent, its parent, and so on, and the words after "asv" there."""
    process = os.getppid()
    while process:
        folder = Path("/proc", str(process))
        try:
            words = (folder / "cmdline").read_text(errors="replace").split("\0")
            status = (folder / "stat").read_text(errors="replace")
        except OSError:  # not Linux, or not ours to see
            return
        # "1234 (name of the program) S 1 ...": only the name can hold spaces and parentheses
        _, parent, *more = status.rpartition(")")[2].split()
        names = [Path(word).name for word in words]
        yield f"{process}-{more[17]}", words[names.index("asv") + 1 :] if "asv" in names else []
        process = int(parent)
