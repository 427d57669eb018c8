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
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from convbench.machine.facts import THREAD_SETTINGS
from convbench.machine.failures import explain_exit, explain_timeout
from convbench.machine.interrupts import uninterrupted

START_TIMEOUT_S = 180.0
"""For importing a library; the first import of TensorFlow from a cold disk takes up to 20 s."""

_STDERR_KEPT_BYTES = 4096


class Child:
    """A new process, a pipe to it, and the file that its standard error goes to.

    Parameters
    ----------
    function : callable
        Called in the process with `arguments` and its :class:`Questions`.
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
        self._asked = 0
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_run, args=(function, arguments, theirs, str(self._stderr)), daemon=True
        )
        # A server that is importing still may take long to answer, and Ctrl-C must not wait for it.
        starting = contextlib.nullcontext() if fork else uninterrupted()
        # Libraries read these when they are loaded.
        limits = {} if threads is None else dict.fromkeys(THREAD_SETTINGS, str(threads))
        try:
            with _environment(limits), starting:
                self._process.start()
        except BaseException:
            self.close()
            raise
        finally:
            theirs.close()  # so that the end of the process is the end of the pipe

    def ask(self, question: object, timeout_s: float) -> Any:
        """Send something and wait for the answer, which is never that to an earlier question."""
        self._asked += 1
        with contextlib.suppress(OSError):  # it is dead already; receiving tells how it died
            self._pipe.send((self._asked, question))
        return self.receive(timeout_s)

    def receive(self, timeout_s: float) -> Any:
        """Wait for what the process sends; an Outcome if it dies or is late."""
        end_s = time.monotonic() + timeout_s
        try:
            while self._pipe.poll(max(0.0, end_s - time.monotonic())):
                question, answer = self._pipe.recv()
                if question == self._asked:  # and not one that nobody waits for any more
                    return answer
        except (EOFError, OSError):
            self._process.join(timeout=10)
            return explain_exit(self._process.exitcode or 0, self._last_words())
        self._kill()
        return explain_timeout(timeout_s)

    def close(self) -> None:
        """End the process."""
        with uninterrupted():
            self._pipe.close()
            if self._process.pid is not None:  # it was started
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


class Questions:
    """The end of the pipe that the process has.

    What it sends carries the number of the question that it received last; 0 before the first.
    """

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._number = 0

    def recv(self) -> Any:
        """Wait for a question; EOFError if there will be none."""
        self._number, question = self._pipe.recv()
        return question

    def send(self, answer: object) -> None:
        """Answer it."""
        self._pipe.send((self._number, answer))


def start_server(preload: str, variables: Mapping[str, str]) -> None:
    """Start the server that processes are forked from.

    Parameters
    ----------
    preload : str
        The module that it imports, and with it what the processes will need.
    variables : mapping of str to str
        Of the environment, for that module.
    """
    multiprocessing.set_forkserver_preload([preload])
    with _environment(variables), _silent(), uninterrupted():
        multiprocessing.forkserver.ensure_running()


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
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """With these variables for a process that is started meanwhile."""
    before = dict(os.environ)
    os.environ.update(variables)
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
    function(*arguments, Questions(pipe))
