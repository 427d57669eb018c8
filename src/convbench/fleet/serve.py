"""Dask's own scheduler and workers, started as ours: on this machine, with what it has."""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from convbench.errors import InputError
from convbench.fleet import guard, worker
from convbench.fleet.client import Security, missing
from convbench.fleet.slots import FOLDER, PASSED, USER, shares

_SHORT = {"DASK_DISTRIBUTED__ADMIN__LOW_LEVEL_LOG_LENGTH": "10"}
"""Of what it has told each worker Dask keeps the last thousand messages, with a unit in each."""

_NO_PAGES = ("--no-dashboard", "--dashboard-address", "127.0.0.1:0")


def scheduler(host: str, port: int, security: Security, *, insecure: bool) -> int:
    """Run a scheduler until it is told to end; its exit status.

    Raises
    ------
    InputError
        If everybody could reach it, and it would ask nobody for a certificate.
    """
    if not (security or insecure or _is_loopback(host)):
        raise InputError(
            f"fleet scheduler: --host is {host!r}, without TLS; expected a loopback address, or"
            " certificates: who reaches a scheduler runs what he likes on its workers. Give"
            " --tls-ca-file, --tls-cert and --tls-key, or --insecure where nobody else is."
        )
    words = ("dask_scheduler", "--host", host, "--port", str(port), "--no-jupyter", *_NO_PAGES)
    return _run([(*words, *security.words())], [{}], [frozenset()])


def workers(
    address: str, security: Security, folder: Path | None, passed: Sequence[str],
    cores_each: int | None, user: str,
) -> int:  # fmt: skip
    """Run the workers of this machine, each with its cores and its card, until all have ended.

    Raises
    ------
    InputError
        If what is measured cannot be run as that user.
    """
    if user and not security:
        raise InputError(
            f"fleet worker: --user is {user!r}, without TLS; expected certificates: without them"
            " that user, too, can have the worker run what he likes. Give --tls-ca-file, --tls-cert"
            " and --tls-key, which he cannot read."
        )
    variables = {PASSED: " ".join(passed), USER: user}
    variables |= {FOLDER: str(folder.resolve())} if folder else {}
    if user:
        _try(user, Path(variables.get(FOLDER) or worker.folder()))
    words = (
        "dask_worker", address, "--nworkers", "1", "--nthreads", "1", "--memory-limit", "0",
        "--preload", "convbench.fleet.slots", *_NO_PAGES, *security.words(),
        *_near(address),
    )  # fmt: skip
    mine = shares(cores_each)
    return _run([words] * len(mine), [variables | own for _, own in mine], [c for c, _ in mine])


def _try(user: str, folder: Path) -> None:
    """See whether he can run this Python and reach the folder, so that not each unit fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [sys.executable, "-P", "-c", _REACH, str(folder)], capture_output=True, text=True,
            errors="replace", check=False, cwd="/", **guard.as_user(user),
        )  # fmt: skip
        why = done.stderr.strip().rpartition("\n")[2] if done.returncode else ""
    except KeyError:
        why = "there is no such user"
    except (OSError, subprocess.SubprocessError) as error:
        why = str(error)
    if why:
        raise InputError(
            f"fleet worker: --user is {user!r}, who cannot run {sys.executable} in {folder}"
            f" ({why}); expected a user that root can become, and folders that he can enter. Start"
            " it as root, with a --folder outside of root's home; or run the worker as that user."
        )


_REACH = "import os, sys, convbench; os.chdir(sys.argv[1])"


def _near(address: str) -> tuple[str, ...]:
    """The workers of a scheduler on loopback listen there alone, and not on every interface."""
    host = address.rpartition("://")[2].rpartition(":")[0].strip("[]")
    return ("--host", "127.0.0.1") if _is_loopback(host) else ()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _run(
    commands: Sequence[Sequence[str]],
    variables: Sequence[dict[str, str]],
    cores: Sequence[frozenset[int]],
) -> int:
    """Run Dask's own commands beside each other, each on its cores; the worst exit status."""
    try:
        import distributed.cli  # noqa: F401, PLC0415  # or they would all say so
    except ImportError as error:
        raise missing(error) from error
    all_cores = os.sched_getaffinity(0)
    started = []
    try:
        for (program, *words), own, some in zip(commands, variables, cores, strict=True):
            os.sched_setaffinity(0, some or all_cores)  # which what is started inherits
            command = [sys.executable, "-m", f"distributed.cli.{program}", *words]
            started.append(subprocess.Popen(command, env=_SHORT | os.environ | own))
        return max(process.wait() for process in started)
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait()
