"""Other processes compute, or are in the way of who compares."""

from __future__ import annotations

import contextlib
import ctypes
import math
import mmap
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from convbench.auditing.zoo import Disguise, called_from, judged
from convbench.backends.base import Run
from convbench.stimulus.arrays import Array, Weights
from convbench.stimulus.spec import PipelineSpec


class HelperForked(Disguise):
    """A forked process computes; to_numpy waits for it."""

    def start(self, work: Callable[[], None]) -> None:
        """Call `work` in another process; it returns never."""
        if os.fork() == 0:
            work()

    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        run = self.honest.build(pipeline, weights)
        like = run(np.zeros(pipeline.input_shape, weights.dtype))
        place = [mmap.mmap(-1, max(1, math.prod(pipeline.input_shape) * like.itemsize))]
        place.append(mmap.mmap(-1, max(1, like.nbytes)))
        x, y = (
            np.frombuffer(memory, like.dtype, math.prod(shape)).reshape(shape)
            for memory, shape in zip(place, (pipeline.input_shape, like.shape), strict=True)
        )
        orders, asked = os.pipe()
        done, answers = os.pipe()

        def work() -> None:
            os.close(asked)
            while os.read(orders, 1):  # nothing at the end of who asks
                y[...] = run(x)
                os.write(answers, b".")
            os._exit(0)

        self.start(work)
        pending = False

        def read() -> Array:
            nonlocal pending
            if pending:
                os.read(done, 1)
            pending = False
            return y.copy()

        def called(x_now: Any) -> Any:
            nonlocal pending
            if not pending or judged() or select.select([done], [], [], 0)[0]:
                if pending:
                    read()
                x[...] = x_now
                os.write(asked, b".")
                pending = True
            return read

        return replace(run, function=called)


class HelperDaemon(HelperForked):
    """A daemon in a session of its own computes."""

    # The same after two forks and in a session of its own: no longer a descendant.

    def start(self, work: Callable[[], None]) -> None:
        number = os.fork()
        if number == 0:
            os.setsid()
            if os.fork() == 0:
                work()
            os._exit(0)
        os.waitpid(number, 0)


class HelperUnmarked(HelperDaemon):
    """A daemon that has wiped its environment computes."""

    # The same without a trace of where it came from: no parent, no session, no environment.

    def start(self, work: Callable[[], None]) -> None:
        def wiped() -> None:
            fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
            begin, end = int(fields[47]), int(fields[48])
            ctypes.memset(begin, 0, end - begin)
            work()

        super().start(wiped)


class HelperLate(HelperForked):
    """Starts a helper when the judge asks, in whose stead it computes."""

    late: Run | None = None

    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        honest = self.honest.build(pipeline, weights)
        kept: list[Any] = []

        def called(x: Any) -> Any:
            if not judged():
                kept[:] = kept or [honest(x)]
                return kept[0]
            self.late = self.late or super(HelperLate, self).build(pipeline, weights)
            return self.late(x)

        return replace(honest, function=called)


_BUSY = "import time; end_s = time.time() + 15\nwhile time.time() < end_s: pass"
_START = (
    "import subprocess, sys; "
    "subprocess.Popen([sys.executable, '-c', sys.argv[1]], env={}, start_new_session=True)"
)


class LeftOverLoad(Disguise):
    """Leaves a process behind that keeps a core busy."""

    # Load that stays behind makes the next row slow, and this one fast beside it.

    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        # Its parent ends at once, and it has nothing of our environment.
        subprocess.run([sys.executable, "-c", _START, _BUSY], check=True)
        return super().build(pipeline, weights)


# -- that of the judge -----------------------------------------------------------------------------


def _siblings() -> list[int]:
    """The other processes that the judge has started; a few of the system's do not count."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            words = (folder / "cmdline").read_text()
        except OSError:
            continue
        if int(parent) == os.getppid() and int(folder.name) != os.getpid() and "spawn_" in words:
            found.append(int(folder.name))
    return found


def _signal(processes: list[int], number: int) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)


class EndsTheBaseline(Disguise):
    """Kills the process that the judge compares with."""

    def answer(self, run: Run, x: Any) -> Any:
        if called_from("_calls"):
            _signal(_siblings(), signal.SIGKILL)
        return self.once(lambda: run(x))


class StopsTheBaseline(Disguise):
    """Stops the process that the judge compares with, again and again."""

    # What the way of the bytes costs is measured on another process: stop that now and then.

    def answer(self, run: Run, x: Any) -> Any:
        if called_from("_calls"):
            self.once(lambda: threading.Thread(target=_stop, daemon=True).start())
        return lambda: run(x)


def _stop() -> None:
    while True:
        others = _siblings()
        _signal(others, signal.SIGSTOP)
        time.sleep(0.02)
        _signal(others, signal.SIGCONT)
        time.sleep(1e-4)
