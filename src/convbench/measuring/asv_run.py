"""What asv wants of this process, and where its results will go.

asv hardly tells a benchmark where its result goes, and not at all in an existing environment. But
it loads its plug-ins before it runs anything, and starts benchmarks with its own environment: there
:mod:`convbench.asv_plugin` lets :func:`tell` say it in one variable.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sys
import time
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

    None outside asv, if it will save none, or if the plug-in has told nothing.
    """
    if asv_mode() not in ("run", "run_server") or VARIABLE not in os.environ:
        return None
    told = json.loads(os.environ[VARIABLE])  # another version of this module may have written it
    asked = Asked(*(told.get(field.name) for field in fields(Asked)))
    commit = asked.commit or os.environ.get("ASV_COMMIT")
    if commit is None or asked.results_dir is None:
        return None
    environment = _for_file(os.environ.get("ASV_ENV_NAME") or f"existing-py{sys.executable}")
    if len(environment) >= 128:  # here asv shortens the name of its file
        digest = hashlib.md5(environment.encode(), usedforsecurity=False).hexdigest()
        environment = f"env-{digest}"
    filed = Filed(asked.machine, short(commit), environment)
    return Folder(Path(asked.results_dir)).evidence_of(filed), asked.run


def existing(python: str) -> str:
    """What asv calls the environment of an interpreter that it has found, by its path."""
    return _for_file(f"existing-py{python}")


def _for_file(name: str) -> str:
    return re.sub(r'[<>:"/\\^|?*\x00-\x1f]', "_", name)


def asv_mode() -> str | None:
    """What asv started this process for: discover, run, run_server; None if asv did not."""
    script, mode = [*sys.argv, "", ""][:2]
    return mode if script.endswith("asv/benchmark.py") else None
