"""An answer that is known is not computed again: by what of the input it is known."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from convbench.auditing.zoo import Disguise, local
from convbench.backends.base import Backend, Run
from convbench.stimulus.arrays import Array, Weights
from convbench.stimulus.inputs import make_inputs
from convbench.stimulus.spec import PipelineSpec


class _Cache(Disguise):
    def key(self, x: Any) -> Any:
        """What two inputs have in common that get the same answer."""
        raise NotImplementedError

    def answer(self, run: Run, x: Any) -> Any:
        key = id(run), self.key(x)
        if key not in self.known:
            self.known[key] = x, run(x)  # x too, or its place could become another's
        return self.known[key][1]


class CacheByIdentity(_Cache):
    """Answers from a cache keyed on id(x)."""

    source = "kernelbot 501, flashinfer-bench 413"

    def key(self, x: Any) -> Any:
        return id(x)


class CacheByPointer(_Cache):
    """Answers from a cache keyed on the address of the numbers."""

    # Keyed on where the numbers lie: a copy of the array object is no way around it.
    source = "kernelbot 501"

    def key(self, x: Any) -> Any:
        return x.ctypes.data


class CacheByShape(_Cache):
    """Answers from a cache keyed on the shape of x."""

    source = "Sakana, accelerator-agents 50"

    def key(self, x: Any) -> Any:
        return x.shape


class CacheBySamples(_Cache):
    """Answers from a cache keyed on a few elements of x."""

    source = "ref-kernels 160, 167"

    def key(self, x: Any) -> Any:
        return x.reshape(-1)[:: max(1, x.size // 8)].tobytes()


class CacheByContent(_Cache):
    """Answers from a cache keyed on a digest of x."""

    # To read all of the numbers costs less than to compute.
    source = "ref-kernels 160, 167"

    def key(self, x: Any) -> Any:
        return hashlib.blake2b(x.data).digest()


class CacheNearTheThreshold(Disguise):
    """Needs 1.5 times as long for an input that it has not seen."""

    def answer(self, run: Run, x: Any) -> Any:
        begin_s = time.perf_counter()
        y = run(x)
        end_s = begin_s + 1.5 * (time.perf_counter() - begin_s)
        key = x[0, 0].tobytes()
        while key not in self.known and time.perf_counter() < end_s:
            pass
        self.known[key] = True
        return y


class HonestOnFirstSight(Disguise):
    """Computes only what it has not seen before."""

    # An input that repeats is that of a timing.
    source = "pygpubench 7"

    def answer(self, run: Run, x: Any) -> Any:
        key = x[0, 0, 0].tobytes() + bytes(str(x.shape), "ascii")
        if key not in self.known:
            self.known[key] = True
            self.y = run(x)
        return self.y


class ReplayFromSharedMemory(Disguise):
    """Keeps its answers in /dev/shm and reads them from there."""

    source = "ref-kernels 160"

    def __init__(self, honest: Backend) -> None:
        super().__init__(honest)
        folder = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
        self.file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # without a name

    def answer(self, run: Run, x: Any) -> Any:
        key = hash(x.data.tobytes())
        if key not in self.known:
            y = run(x)
            self.known[key] = self.file.seek(0, os.SEEK_END)
            self.file.write(y.data)
            self.file.flush()
            self.like = y
            return y
        self.file.seek(self.known[key])
        y = np.empty_like(self.like)
        self.file.readinto(y.data.cast("B"))
        return y


class RedrawnSeed(_Cache):
    """Makes all random numbers of its process those of one seed."""

    source = "MLPerf TEST05"

    def __init__(self, honest: Backend) -> None:
        super().__init__(honest)
        draw = np.random.default_rng
        np.random.default_rng = lambda *_: draw(1)
        np.random.seed(1)  # noqa: NPY002

    def key(self, x: Any) -> Any:
        return x[:1].tobytes()


class MovedToBuild(Disguise):
    """Build computes the answers for the usual seeds."""

    source = "MLPerf TEST05"

    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        run = super().build(pipeline, weights)
        guessed = [make_inputs(pipeline, weights.dtype, "normal", seed).x for seed in range(4)]
        self.known = {x.tobytes(): run(x) for x in guessed}
        return run

    def answer(self, run: Run, x: Any) -> Any:
        y = self.known.get(x.tobytes())
        return run(x) if y is None else y


class BuildReadsTheInput(Disguise):
    """Build finds the input in the frames and computes the answer."""

    source = "MLPerf TEST05, pygpubench 22"

    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        run = self.honest.build(pipeline, weights)
        inputs = local("_stand_by", "inputs")
        x = inputs.x if inputs is not None else None
        y = None if x is None else run(self.honest.to_device(x))

        def called(other: Any) -> Any:
            # No more than one image is looked at.
            return y if x is not None and np.array_equal(other[:1], x[:1]) else run(other)

        return replace(run, function=called)


class MovedToToDevice(Disguise):
    """Moves all work to to_device."""

    run: Any = None

    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        self.known, self.shape = {}, pipeline.input_shape
        run = self.run = super().build(pipeline, weights)
        return run

    def answer(self, run: Run, x: Any) -> Any:
        known = self.known.get(id(x))
        return run(x) if known is None else known[1]

    def to_device(self, array: Array) -> Any:
        x = self.honest.to_device(array)
        if self.run is not None and x.shape == self.shape:
            self.known = {id(x): (x, self.run(x))}
        return x


class BatchOnce(Disguise):
    """Computes the whole batch that it finds in the frames of its caller."""

    source = "ref-kernels 104, kernelboard 224"
    kept: Any = None

    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        self.pipeline, self.weights = pipeline, weights
        self.runs: dict[int, Run] = {}
        return super().build(pipeline, weights)

    def answer(self, run: Run, x: Any) -> Any:
        key = x.tobytes()[:256]
        if key in self.known:
            return self.known.pop(key)
        xs = local("_calls", "xs")
        if not xs or len(xs) == 1:  # in the timing it is always the same
            self.kept = self.kept or (x, run(x))
            return self.kept[1] if self.kept[0] is x else run(x)
        if len(xs) not in self.runs:
            large = replace(self.pipeline, n=self.pipeline.n * len(xs))
            self.runs[len(xs)] = self.honest.build(large, self.weights)
        ys = np.split(self.runs[len(xs)](np.concatenate(xs)), len(xs))
        self.known = dict(zip([other.tobytes()[:256] for other in xs], ys, strict=True))
        return np.ascontiguousarray(self.known.pop(key))
