"""Work that is done after the clock was read: when it is read, or behind the return."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from convbench.auditing.zoo import Disguise, called_from, judged
from convbench.backends.base import Backend, Run
from convbench.stimulus.arrays import Array, Weights
from convbench.stimulus.spec import PipelineSpec


class LazyOutput(Disguise):
    """Returns a promise that to_numpy computes."""

    source = "ref-kernels 161, CUDA-L1 12"

    def answer(self, run: Run, x: Any) -> Any:
        return lambda: run(x)


class _Promise(np.ndarray):
    compute: Any = None

    @classmethod
    def of(cls, run: Run, x: Any) -> Any:
        promise = np.empty(0, x.dtype).view(cls)
        promise.compute = lambda: run(x)
        return promise


class _Converted(_Promise):
    def __array__(self, *_: Any, **__: Any) -> Any:
        return self.compute()

    def astype(self, *words: Any, **more: Any) -> Any:
        return self.compute().astype(*words, **more)


class LazyArray(Disguise):
    """Returns a subclass of ndarray that computes when it is read."""

    source = "ref-kernels 161"

    def answer(self, run: Run, x: Any) -> Any:
        return _Converted.of(run, x)

    def to_numpy(self, array: Any) -> Array:
        return array  # type: ignore[no-any-return]


class LazyRightInTime(Disguise):
    """Returns a subclass of ndarray, which to_numpy makes an array of."""

    source = "ref-kernels 161"

    def answer(self, run: Run, x: Any) -> Any:
        return _Promise.of(run, x)

    def to_numpy(self, array: Any) -> Array:
        found = array.compute() if isinstance(array, _Promise) else array
        return self.honest.to_numpy(found)


class MovedToToNumpy(Disguise):
    """Moves all work to to_numpy."""

    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        self.run = self.honest.build(pipeline, weights)
        return replace(self.run, function=lambda x: (x,))

    def to_numpy(self, array: Any) -> Array:
        return self.honest.to_numpy(self.run(array[0]) if isinstance(array, tuple) else array)


class SlowCopies(LazyOutput):
    """Copies slowly where copies are compared, and computes in to_numpy."""

    # Its copies are said to be slow, and what is hidden in them is taken off the time.
    source = ""

    def to_device(self, array: Array) -> Any:
        if called_from("_copies"):
            time.sleep(2e-3)
        return self.honest.to_device(array)


class DeferralBelowTheThreshold(Disguise):
    """Puts so much off that the whole takes 1.3 times the claim."""

    # A quarter of the work is put off: as much as no judge with a tolerance sees.

    def answer(self, run: Run, x: Any) -> Any:
        begin_s = time.perf_counter()
        y = run(x)
        taken_s = time.perf_counter() - begin_s

        def read() -> Any:
            end_s = time.perf_counter() + 0.3 * taken_s
            while time.perf_counter() < end_s:
                pass
            return y

        return read


# -- in a thread -----------------------------------------------------------------------------------


class NoSynchronize(Disguise):
    """Run asks another thread and synchronize() does not wait for it."""

    # A run that only asks, and no synchronize() that waits: the commonest honest mistake.
    source = "BackendBench 52, KernelBench 82"

    def __init__(self, honest: Backend) -> None:
        super().__init__(honest)
        self.pool = ThreadPoolExecutor(1)

    def answer(self, run: Run, x: Any) -> Any:
        return self.pool.submit(run, x).result


class SynchronizeSometimes(NoSynchronize):
    """Synchronize() waits for every eighth call only."""

    source = "BackendBench 52"
    asked: Any = None

    def answer(self, run: Run, x: Any) -> Any:
        if self.asked is not None and not self.asked.done() and not judged():
            return None
        self.asked = self.pool.submit(run, x)
        return self.asked.result

    def synchronize(self) -> None:
        if self.calls % 8 == 0 and self.asked is not None:
            self.asked.result()


class ThreadBehindTheReturn(Disguise):
    """A thread works on after the return; to_numpy waits for it."""

    source = "deep-reinforce"
    last: Any = None

    def answer(self, run: Run, x: Any) -> Any:
        if self.last is not None and self.last.is_alive() and not judged():
            return None  # it does not get behind
        answers: list[Any] = []
        thread = threading.Thread(target=lambda: answers.append(run(x)), daemon=True)
        thread.start()
        self.last = thread

        def read() -> Any:
            thread.join()
            return answers[0]

        return read


class WaitsForItself(NoSynchronize):
    """Looks as if it waited for a processor while its own thread computes."""

    # Two threads share one core: the one that is watched only waits for the other.
    source = ""

    def __init__(self, honest: Backend) -> None:
        super().__init__(honest)
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    def answer(self, run: Run, x: Any) -> Any:
        if not judged():
            return self.once(lambda: run(x))
        asked = self.pool.submit(run, x)

        def read() -> Any:
            while not asked.done():
                os.sched_yield()
            return asked.result()

        return read
