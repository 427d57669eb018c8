"""Children of the watch: commands in processes of their own, where the code under test runs.

They have a few variables of our environment and no more, a home that goes with them, limits, and a
session of their own, all of which ends when they do, or when the watch does.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from convbench.machine import watch
from convbench.results.journal import content
from convbench.watching import confine
from convbench.words.text import clean, clip

PASSED = frozenset({
    "PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV",
    "PYTHONPATH", "ASV_PYTHONPATH", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_HOME",
    "CUDA_PATH", "NVIDIA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS", "CONVBENCH_LOCK", "CONVBENCH_FULL", "CONVBENCH_EXTRA_TARGETS",
})  # fmt: skip
"""What a child has of our environment."""

_LOOK_S, _GRACE_S = 0.2, 20.0


class Stopped(Exception):
    """Somebody wants the watch to end."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child has ended.

    Attributes
    ----------
    code : int
        Its exit status; negative, the signal that it was killed by.
    printed : Path
        The file with what it printed.
    why : str
        The last line on its standard error, or that it was late.
    """

    code: int
    printed: Path
    why: str
    elapsed_s: float

    def text(self) -> bytes:
        """What it printed; nothing where that is no file any more, or too large."""
        with contextlib.suppress(OSError, ValueError):
            return content(self.printed)
        return b""


def allowed(environment: Mapping[str, str]) -> dict[str, str]:
    """What a child may have of an environment."""
    return {name: value for name, value in environment.items() if name in PASSED}


def run(
    command: Sequence[str],
    folder: Path,
    log: Path,
    limit_s: float,
    stopping: Callable[[], object],
    environment: Mapping[str, str],
) -> Ended:
    """Run a command to its end, or to its limit.

    Parameters
    ----------
    log : Path
        What it prints goes to this name with ``.out``, its standard error to ``.err``.
    stopping : callable
        Says whether somebody wants the watch to end.

    Raises
    ------
    Stopped
        When that is so, and the child has ended.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    printed, said = log.with_name(f"{log.name}.out"), log.with_name(f"{log.name}.err")
    mark = uuid.uuid4().hex
    begun_s = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="convbench-home-", ignore_cleanup_errors=True) as home,
        printed.open("wb") as out,
        said.open("wb") as err,
    ):
        with contextlib.suppress(OSError):  # the machine keeps the name that asv knows it by
            shutil.copy(Path("~/.asv-machine.json").expanduser(), home)
        process = subprocess.Popen(
            [sys.executable, "-I", confine.__file__, str(os.getpid()), *command],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True,
            env={"HOME": home, **environment, watch.MARK: mark},
        )  # fmt: skip
        stop = late = False
        try:
            while process.poll() is None and not (stop or late):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK_S)
                stop, late = bool(stopping()), time.monotonic() - begun_s > limit_s
            if stop or late:
                _end(process)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            watch.end(process.pid, mark)
    if stop:
        raise Stopped
    elapsed_s = time.monotonic() - begun_s
    why = f"it was ended after {elapsed_s:.0f} s" if late else _last_line(said)
    return Ended(process.returncode, printed, why, elapsed_s)


def _end(process: subprocess.Popen[bytes]) -> None:
    """As Ctrl-C does, so that it keeps what it has."""
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_S)


def _last_line(path: Path) -> str:
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
        lines = file.read().decode(errors="replace").strip().splitlines()
        return clip(clean(lines[-1])) if lines else ""
    return ""
