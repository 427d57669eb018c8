"""A process that answers questions, and says how it died if it does not.

What raises, crashes, hangs or runs out of memory in it costs one answer, never the asker.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.forkserver
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from convbench.machine.facts import THREAD_SETTINGS
from convbench.machine.failures import explain_exit, explain_timeout

START_TIMEOUT_S = 180.0
"""For importing a library; the first import of TensorFlow from a cold disk takes up to 20 s."""

_STDERR_KEPT_BYTES = 4096


class Child:
    """A new process, a pipe to it, and the file that its standard error goes to.

    Parameters
    ----------
    function : callable
        Called in the process with `arguments` and the process's end of the pipe.
    arguments : tuple
    threads : int, optional
        How many threads the libraries may use; as many as they like by default.
    fork : bool
        Fork it from a server that has imported the libraries and started none of them, which takes
        milliseconds; otherwise a new interpreter is started.
    """

    def __init__(
        self,
        function: Callable[..., None],
        arguments: tuple[Any, ...],
        threads: int | None = None,
        *,
        fork: bool = False,
    ) -> None:
        context: Any = multiprocessing.get_context("forkserver" if fork else "spawn")
        with tempfile.NamedTemporaryFile(prefix="convbench-", suffix=".err", delete=False) as file:
            self._stderr = Path(file.name)
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_run, args=(function, arguments, theirs, str(self._stderr)), daemon=True
        )
        with _environment(threads):  # libraries read it when they are loaded
            self._process.start()
        theirs.close()  # so that the end of the process is the end of the pipe

    def ask(self, question: object, timeout_s: float) -> Any:
        """Send something and wait for the answer."""
        with contextlib.suppress(OSError):  # it is dead already; receiving tells how it died
            self._pipe.send(question)
        return self.receive(timeout_s)

    def receive(self, timeout_s: float) -> Any:
        """Wait for what the process sends; an Outcome if it dies or is late."""
        try:
            if self._pipe.poll(timeout_s):
                return self._pipe.recv()
        except (EOFError, ConnectionError):
            self._process.join(timeout=10)
            return explain_exit(self._process.exitcode or 0, self._last_words())
        self._kill()
        return explain_timeout(timeout_s)

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._kill()
        self._process.join()
        self._process.close()
        self._stderr.unlink(missing_ok=True)

    def _kill(self) -> None:
        # A forked process is the server's child: when it has ended, its number may be another's.
        if self._process.is_alive():
            self._process.kill()

    def _last_words(self) -> str:
        with self._stderr.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _STDERR_KEPT_BYTES))
            return file.read().decode(errors="replace")


def start_server(suites: Path) -> None:
    """Start the server that processes are forked from, and let it import what the suites need."""
    multiprocessing.set_forkserver_preload(["convbench.measuring.preload"])
    before = os.environ.get("CONVBENCH_SUITES")
    os.environ["CONVBENCH_SUITES"] = str(suites)
    try:
        with _silent():
            multiprocessing.forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["CONVBENCH_SUITES"]
        else:
            os.environ["CONVBENCH_SUITES"] = before


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without the standard error that a process started meanwhile would inherit."""
    kept = os.dup(2)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextlib.contextmanager
def _environment(threads: int | None) -> Iterator[None]:
    """Limit the threads of a process that is started meanwhile."""
    before = dict(os.environ)
    if threads is not None:
        os.environ.update(dict.fromkeys(THREAD_SETTINGS, str(threads)))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _run(
    function: Callable[..., None], arguments: tuple[Any, ...], pipe: Connection, stderr: str
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which then ends us
    with Path(stderr).open("ab") as file:
        os.dup2(file.fileno(), 2)
        os.dup2(file.fileno(), 1)  # a library that prints must not disturb --json
    function(*arguments, pipe)
