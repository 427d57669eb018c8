"""A process that answers questions, and says how it died if it does not.

What raises, crashes, hangs or runs out of memory in it costs one answer, never the asker; and what
it answers is plain values and bytes, which cannot do anything to who reads them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import multiprocessing
import multiprocessing.forkserver
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from convbench.errors import InputError
from convbench.machine import watch
from convbench.machine.facts import THREAD_SETTINGS
from convbench.machine.failures import explain_exit, explain_timeout
from convbench.machine.interrupts import uninterrupted
from convbench.machine.wire import MOST_ARRAY_BYTES, Channel, Late, Malformed
from convbench.words.status import Outcome

START_TIMEOUT_S = 180.0
"""For importing a library; the first import of TensorFlow from a cold disk takes up to 20 s."""

_STDERR_KEPT_BYTES = 4096

_living: set[int] = set()
"""The processes that are ours, and nobody's helpers."""

_counting = threading.RLock()
"""Held while one is started, until it is among them, and while helpers are looked for: or another
thread would take it for one. The environment is every thread's, too."""


def require_posix() -> None:
    """Refuse a system whose processes cannot be forked, or waited for by their pipes.

    Raises
    ------
    InputError
        On Windows, where there is no ``fcntl`` either.
    """
    if importlib.util.find_spec("fcntl") is None:
        raise InputError(
            f"convbench: the system is {sys.platform}; expected Linux or macOS: what this starts "
            "are processes as POSIX has them. Run it there, on Windows in WSL; docs/platforms.md "
            "says what works where."
        )


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
        require_posix()
        context: Any = multiprocessing.get_context("forkserver" if fork else "spawn")
        with tempfile.NamedTemporaryFile(prefix="convbench-", suffix=".err", delete=False) as file:
            self._stderr = Path(file.name)
        self._asked = 0
        self._mark = uuid.uuid4().hex
        ours, theirs = context.Pipe()
        self._channel = Channel(ours)
        self._worked = False
        self._process = context.Process(
            target=_run, args=(function, arguments, theirs, str(self._stderr)), daemon=True
        )
        # A server that is importing still may take long to answer, and Ctrl-C must not wait for it.
        starting = contextlib.nullcontext() if fork else uninterrupted()
        # Libraries read these when they are loaded.
        limits = {} if threads is None else dict.fromkeys(THREAD_SETTINGS, str(threads))
        if not fork:
            limits[watch.MARK] = self._mark
            resource_tracker.ensure_running()  # or it would bear the mark, and end with this child
        try:
            with starting, _counting, _environment(limits):
                self._process.start()
                _living.add(self.pid)
        except BaseException:
            self.close()
            raise
        finally:
            theirs.close()  # so that the end of the process is the end of the pipe

    def ask(self, question: object, timeout_s: float, most_bytes: int = MOST_ARRAY_BYTES) -> Any:
        """Send something and wait for the answer, which is never that to an earlier question.

        Parameters
        ----------
        question : object
            It is pickled.
        most_bytes : int
            What the arrays of the answer may amount to.

        Returns
        -------
        plain values and arrays, or an Outcome: of the process, or because it died, was late or
        sent what cannot be read
        """
        self.tell(question, timeout_s)
        return self.receive(timeout_s, most_bytes)

    def tell(self, question: object, timeout_s: float = 60.0) -> None:
        """Send something that has no answer; what is received next is to it all the same."""
        self._asked += 1
        with contextlib.suppress(OSError):  # it is dead already; receiving tells how it died
            self._send(question, timeout_s)

    def _send(self, question: object, timeout_s: float) -> None:
        self._channel.send_object((self._asked, question), timeout_s)

    def receive(self, timeout_s: float, most_bytes: int = MOST_ARRAY_BYTES) -> Any:
        """Wait for what the process sends."""
        end_s = time.monotonic() + timeout_s
        try:
            while True:
                message = self._channel.receive(max(0.0, end_s - time.monotonic()), most_bytes)
                if message["to"] == self._asked:  # and not one that nobody waits for any more
                    answer = _restored(message["answer"])
                    self._worked |= self._asked > 0 and not isinstance(answer, Outcome)
                    return answer
        except (Malformed, TypeError, ValueError, LookupError) as error:
            return self._lost(Outcome.malformed(error))
        except Late:
            return self._lost(explain_timeout(timeout_s))
        except (EOFError, OSError):
            self._process.join(timeout=10)
            code, said = self._process.exitcode or 0, _tail(self._stderr)
            return explain_exit(code, said, worked=self._worked)

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid or 0

    def look(self) -> watch.Seen | None:
        """What it and all that it has started do; None where the system does not show it."""
        with _counting:
            return watch.look(self.pid, self._mark, _living)

    def go_on(self) -> None:
        """Let it go on, whoever has stopped it."""
        if self._process.is_alive():
            os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """End the process, and what it has left running."""
        with uninterrupted():
            self._channel.close()
            if self._process.pid is not None:  # it was started
                pid = self._process.pid
                with _counting:
                    watch.end(pid, self._mark, _living)
                self.kill()
                self._process.join()
                with _counting:
                    watch.end(pid, self._mark, _living)  # and what it has started meanwhile
                    _living.discard(pid)
            self._process.close()
            self._stderr.unlink(missing_ok=True)

    def _lost(self, outcome: Outcome) -> Outcome:
        self.kill()
        return outcome

    def kill(self) -> None:
        """End the process itself; who waits for its answer is told so."""
        # A forked process is the server's child: when it has ended, its number may be another's.
        if self._process.is_alive():
            self._process.kill()


class Questions:
    """The end of the pipe that the process has.

    What it sends carries the number of the question that it received last; 0 before the first.
    """

    def __init__(self, pipe: Connection) -> None:
        self._channel = Channel(pipe)
        self._number = 0

    def recv(self) -> Any:
        """Wait for a question; EOFError if there will be none."""
        self._number, question = self._channel.receive_object()
        return question

    def send(self, answer: object) -> None:
        """Answer it: with plain values, arrays, or an Outcome.

        Raises
        ------
        Malformed
            If it is anything else; nothing has been sent then.
        """
        if isinstance(answer, Outcome):
            answer = {"outcome": answer.to_dict()}
        self._channel.send({"to": self._number, "answer": answer})


class Template:
    """A process of any interpreter from which others are forked: it has imported, and run nothing.

    :func:`start_server` forks processes of our own code; what this one runs may be that of another
    commit, in another environment.

    Parameters
    ----------
    command : sequence of str
        What starts it; the number of the socket of its orders is appended. It obeys as
        :mod:`convbench.gate.side` does.
    variables : mapping of str to str
        Of its environment, beside ours.
    """

    ORDER, ANSWER = struct.Struct("!cq"), struct.Struct("!q")
    """What is asked of it: F, with two descriptors, for a fork, or W and the number of one of its
    processes, for what became of that; and what it says: the number; or how that ended as `wait`
    tells it, and -1 as long as it lives."""

    def __init__(self, command: Sequence[str], variables: Mapping[str, str]) -> None:
        watch.adopt()  # what was forked from it, when it ends first
        self._socket, theirs = socket.socketpair()
        self._asked_by = threading.Lock()
        self._closed = False
        with tempfile.NamedTemporaryFile(prefix="convbench-", suffix=".err", delete=False) as file:
            self._stderr = Path(file.name)
            try:
                with theirs, uninterrupted(), _counting:
                    self._process = subprocess.Popen(  # an interpreter that was chosen
                        [*command, str(theirs.fileno())],
                        env=os.environ | variables, pass_fds=[theirs.fileno()],
                        stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
                    )  # fmt: skip
                    _living.add(self._process.pid)
            except KeyboardInterrupt:
                if "_process" in vars(self):  # it was started, and nobody has it
                    self.close()
                raise

    def fork(self) -> Child:
        """Fork a process.

        Raises
        ------
        ChildProcessError
            If the template has ended; the message says how.
        """
        return _Forked(self)

    def order(self, kind: bytes, number: int = 0, descriptors: Sequence[int] = ()) -> int:
        """Have it fork, or say what became of a process of its own."""
        with self._asked_by:  # or one thread would take the answer to another
            if self._closed:
                raise ChildProcessError("the template has been ended")
            try:
                self._socket.settimeout(START_TIMEOUT_S)
                socket.send_fds(self._socket, [self.ORDER.pack(kind, number)], descriptors)
                text = self._socket.recv(self.ANSWER.size, socket.MSG_WAITALL)
                answer: int = self.ANSWER.unpack(text)[0]
            except TimeoutError as error:
                self._give_up()
                raise ChildProcessError(explain_timeout(START_TIMEOUT_S).reason) from error
            except (OSError, struct.error) as error:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(10)
                how = explain_exit(self._process.returncode or 0, _tail(self._stderr))
                raise ChildProcessError(how.reason) from error
            except BaseException:  # Ctrl-C
                self._give_up()
                raise
        return answer

    def _give_up(self) -> None:
        """Order nothing more: the answer to the last one would be taken for that to the next."""
        self._closed = True
        self._process.kill()

    def close(self) -> None:
        """End it; what was forked from it goes on."""
        self._process.kill()  # before anything: another thread may wait for it to import
        with uninterrupted(), self._asked_by:
            self._closed = True
            self._socket.close()
            self._process.wait()
            _living.discard(self._process.pid)
            self._stderr.unlink(missing_ok=True)


class _Fork:
    """What :class:`Child` needs of a process, of one that is the child of a template."""

    def __init__(self, template: Template, number: int) -> None:
        self.pid = number
        self.exitcode: int | None = None
        self._template = template

    def is_alive(self) -> bool:
        return self.exitcode is None

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def join(self, timeout: float | None = None) -> None:
        end_s = math.inf if timeout is None else time.monotonic() + timeout
        while self.exitcode is None and time.monotonic() < end_s:
            if (status := self._status()) >= 0:
                self.exitcode = os.waitstatus_to_exitcode(status)
            else:
                time.sleep(0.001)  # who waits for one process must not keep the template busy

    def _status(self) -> int:
        """How it ended; -1 while it lives."""
        with contextlib.suppress(ChildProcessError):
            return self._template.order(b"W", self.pid)
        try:  # the template is gone, and the process has become ours
            number, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:  # nobody tells, where the system has no adoption
            return signal.SIGKILL
        return status if number else -1

    def close(self) -> None:
        pass


class _Forked(Child):
    """A child that was forked from a template; it is asked in plain values, too."""

    def __init__(self, template: Template) -> None:
        ours, theirs = multiprocessing.Pipe()
        with tempfile.NamedTemporaryFile(prefix="convbench-", suffix=".err", delete=False) as file:
            self._stderr = Path(file.name)
            self._asked, self._worked = 0, False
            self._mark = ""  # that of its environment is the template's
            self._channel = Channel(ours)
            try:
                number = template.order(b"F", descriptors=[theirs.fileno(), file.fileno()])
                if number <= 0:  # 0 would be all of our own group, to who ends it
                    raise ChildProcessError(f"the template has forked no process: {number}")
            except BaseException:
                self._channel.close()
                self._stderr.unlink(missing_ok=True)
                raise
            finally:
                theirs.close()
        self._process = _Fork(template, number)
        _living.add(number)

    def _send(self, question: object, timeout_s: float) -> None:
        # Its convbench may be another, and know none of the classes of ours.
        self._channel.send({"number": self._asked, "question": question}, timeout_s)


def _tail(file: Path) -> str:
    """What a process has said last."""
    with file.open("rb") as text:
        text.seek(max(0, text.seek(0, os.SEEK_END) - _STDERR_KEPT_BYTES))
        return text.read().decode(errors="replace")


def start_server(preload: str, variables: Mapping[str, str]) -> None:
    """Start the server that processes are forked from.

    Parameters
    ----------
    preload : str
        The module that it imports, and with it what the processes will need.
    variables : mapping of str to str
        Of the environment, for that module.
    """
    require_posix()
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
    with _counting:
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
    if hasattr(os, "setsid"):  # what it starts stays in its session, and is found there
        with contextlib.suppress(PermissionError):
            os.setsid()
    with Path(stderr).open("ab") as file:
        os.dup2(file.fileno(), 2)
        os.dup2(file.fileno(), 1)  # a library that prints must not disturb --json
    function(*arguments, Questions(pipe))


def _restored(answer: Any) -> Any:
    match answer:
        case {"outcome": dict(plain)} if len(answer) == 1:
            return Outcome.from_dict(plain)
    return answer
