"""Runs a command with limits of its own, and lets nothing of it outlive whoever asked for it.

A process between a worker and what it measures. If the worker is killed, its end of our standard
input closes, and all that the command has started is ended: whoever measures next on these cores is
alone. What the command does not need to see of the worker's environment, it does not see.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from convbench.machine import watch
from convbench.machine.facts import THREAD_SETTINGS

SEEN = frozenset(
    {
        *THREAD_SETTINGS, "ASV_PYTHONPATH", "CONVBENCH_EXTRA_TARGETS", "CONVBENCH_FULL",
        "CONVBENCH_LOCK", "CUDA_HOME", "CUDA_PATH", "CUDA_VISIBLE_DEVICES", "LANG", "LC_ALL",
        "LD_LIBRARY_PATH", "OPENBLAS_CORETYPE", "PATH", "PYTHONPATH", "SYSTEMROOT", "TZ",
        "VIRTUAL_ENV", "XLA_FLAGS",
    }
)  # fmt: skip
"""The variables that what is measured may see, unless a worker passes others by their names."""

TIMED_OUT = 124
"""The exit status of a command that has taken too long."""

_LIMITS = {
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_FSIZE: 16 << 30,
    resource.RLIMIT_NOFILE: 4096,
}
"""Of what is measured. Of its memory there is none: CUDA reserves more than there is."""

_MOST_PROCESSES = 8192
"""Processes and threads of a user of its own, all of them together."""


def run(
    command: Sequence[str],
    folder: Path,
    said: Path,
    *,
    variables: Mapping[str, str],
    timeout_s: float,
    held: Sequence[IO[bytes]],
    user: str = "",
) -> int:
    """Run a command in a folder, with these variables alone; its exit status.

    Parameters
    ----------
    said : Path
        Is what it writes, standard error and output.
    held : sequence of file
        Locks, which are kept until nothing of the command is left.
    user : str
        Who the command is, if not we; only root can ask for another.
    """
    asked = {
        "command": [*command], "timeout_s": timeout_s, "user": user, "folder": str(folder),
        "variables": {**variables},
    }  # fmt: skip
    # It imports nothing from the folder, nor from a home, which may be another user's.
    path = filter(os.path.isabs, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    own = {"PYTHONPATH": os.pathsep.join(path), "PATH": os.environ.get("PATH", os.defpath)}
    with said.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-P", "-s", "-m", __name__], cwd="/", env=own,
            pass_fds=[lock.fileno() for lock in held], start_new_session=True,
            stdin=subprocess.PIPE, stdout=file, stderr=file,
        )  # fmt: skip
    assert process.stdin is not None
    with process.stdin as until:  # it is closed when we are gone, too, whatever ends us
        with contextlib.suppress(BrokenPipeError):
            until.write(json.dumps(asked).encode() + b"\n")
            until.flush()
        return process.wait()


def main() -> int:
    """In a process of its own: what :func:`run` asks for on standard input."""
    asked = json.loads(sys.stdin.buffer.readline())
    watch.adopt()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    limits = _LIMITS | ({resource.RLIMIT_NPROC: _MOST_PROCESSES} if asked["user"] else {})
    for limit, most in limits.items():
        hard = resource.getrlimit(limit)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (least, least))
    # A session of its own, by which those that it leaves behind are told from us.
    child = subprocess.Popen(
        asked["command"],
        cwd=asked["folder"],
        env=asked["variables"],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        **as_user(asked["user"]),
    )
    threading.Thread(target=_end_with_input, args=(child,), daemon=True).start()
    try:
        code = child.wait(asked["timeout_s"])
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        code = TIMED_OUT
    while watch.end(child.pid):  # what they start while they are ended, too
        time.sleep(0.01)
    return code if code >= 0 else 128 - code


def identity(user: str) -> tuple[int, int]:
    """The numbers of a user and of his group; our own for "".

    Raises
    ------
    KeyError
        If there is no such user.
    """
    if not user:
        return os.getuid(), os.getgid()
    known = pwd.getpwnam(user)
    return known.pw_uid, known.pw_gid


def as_user(user: str) -> dict[str, Any]:
    """How a process is started that is this user's, with his groups and none of ours."""
    if not user:
        return {}
    number, group = identity(user)
    return {"user": number, "group": group, "extra_groups": os.getgrouplist(user, group)}


def _end_with_input(child: subprocess.Popen[bytes]) -> None:
    while os.read(0, 1):  # no file of Python's, which could not be closed while we wait
        pass
    child.kill()


@contextlib.contextmanager
def alone(folder: Path, names: Sequence[str]) -> Iterator[Sequence[IO[bytes]]]:
    """Wait until nobody else has these cores and cards, and have them.

    Parameters
    ----------
    folder : Path
        The same for all workers of a user on this machine.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        locks = [stack.enter_context((folder / name).open("ab")) for name in sorted(names)]
        for lock in locks:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield locks


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main())
