"""Ways to look faster or more right than one is: data for the judge, as faults are for the checks.

Each file here is one mechanism that somebody was caught with or that we have thought of: a line on
what it does, where it was seen, and what dresses an honest backend up. `convbench audit
--self-test` plants each into the process that is audited, and prints which of them were seen, and
by what. Whoever fools the judge with another gets a file here: CONTRIBUTING.md says how.

All are harmless: they write nowhere but into files without a name, what they start ends by itself
or with the process that is audited, and they stop or end no process but those of the same audit.
"""

from __future__ import annotations

import gc
import importlib
import math
import mmap
import os
import pkgutil
import select
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from convbench.backends import open_backend
from convbench.backends.base import Backend, Run
from convbench.machine.child import Questions
from convbench.stimulus.arrays import Array, Weights
from convbench.stimulus.spec import PipelineSpec
from convbench.stimulus.targets import Target


@dataclass(frozen=True, slots=True)
class Adversary:
    """One mechanism.

    Attributes
    ----------
    name : str
        Of its file.
    what : str
        What it does, in a line.
    source : str
        Where it was seen; "" if we have thought of it.
    disguise : callable
        Makes of an honest backend one that cheats, in the process that it is planted into.
    """

    name: str
    what: str
    source: str
    disguise: Callable[[Backend], Any]


class Disguise:
    """An honest backend, of which a subclass changes what it likes; most change one call."""

    def __init__(self, honest: Backend) -> None:
        self.honest = honest
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.honest, name)

    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        """Build the honest run, and let `answer` stand before it."""
        run = self.honest.build(pipeline, weights)

        def called(x: Any) -> Any:
            self.calls += 1
            return self.answer(run, x)

        return replace(run, function=called)

    def answer(self, run: Run, x: Any) -> Any:
        """What a call returns: an array, or something to be called for it by who reads it."""
        return run(x)

    def to_numpy(self, array: Any) -> Array:
        """Compute what was put off until now."""
        return self.honest.to_numpy(array() if callable(array) else array)


class Elsewhere(Disguise):
    """Computes in a process that `start` starts; to_numpy waits for it."""

    def start(self, work: Callable[[], None]) -> None:
        """Call `work` in another process; it returns never."""
        raise NotImplementedError

    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        """Start a process that has the honest run."""
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


def called_from(*names: str) -> bool:
    """Whether a function of such a name waits for this to return."""
    frame = sys._getframe(1)  # which is what adversaries do
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_name in names:
            return True
    return False


def judged() -> bool:
    """Whether the judge has asked for this, and not the timing."""
    return called_from("attest", "_compute")


def local(function: str, name: str) -> Any:
    """A variable of a function that waits for this to return; None if none of that name does."""
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != function:
        frame = frame.f_back
    return frame and frame.f_locals.get(name)


def pipe() -> Questions:
    """The end of the pipe to the judge, found where the interpreter keeps everything."""
    return next(found for found in gc.get_objects() if isinstance(found, Questions))


def siblings() -> list[int]:
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


def adversaries() -> dict[str, Adversary]:
    """All of them, by name; none of their code has run yet but what defines it."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        loaded = importlib.import_module(f"{__name__}.{module.name}")
        found[module.name] = Adversary(module.name, loaded.WHAT, loaded.SOURCE, loaded.disguise)
    return found


def plant(name: str, target: Target) -> Backend:
    """Open a backend and dress it up as an adversary."""
    module = importlib.import_module(f"{__name__}.{name}")
    disguised: Backend = module.disguise(open_backend(target))
    return disguised
