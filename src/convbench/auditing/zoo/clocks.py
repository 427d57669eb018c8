"""Clocks, meters and samples that say what they should not, and a claim that does."""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np

from convbench.auditing import claimant
from convbench.auditing.zoo import Disguise
from convbench.auditing.zoo.deferred import LazyOutput
from convbench.backends import attest
from convbench.backends.base import Backend, Run
from convbench.measuring.timing import Timing, measure
from convbench.stimulus.arrays import Weights
from convbench.stimulus.spec import PipelineSpec


class SlowClock(Disguise):
    """Makes the clock that times it run at a third of its speed."""

    source = "ref-kernels 162, wafer"

    def __init__(self, honest: Backend) -> None:
        super().__init__(honest)
        clock = time.perf_counter
        defaults: Any = measure.__kwdefaults__
        defaults["timer"] = lambda: clock() / 3


class TimeReplaced(Disguise):
    """Replaces the time module, and its functions in all of convbench."""

    source = "ref-kernels 162, wafer"

    def __init__(self, honest: Backend) -> None:
        super().__init__(honest)
        names = ("perf_counter", "monotonic", "time", "process_time")
        slowed = {name: _slowed(getattr(time, name)) for name in names}
        defaults: Any = measure.__kwdefaults__
        defaults["timer"] = slowed["perf_counter"]
        for module in (m for n, m in list(sys.modules.items()) if n.startswith("convbench.")):
            for name in names:
                if vars(module).get(name) is getattr(time, name):
                    setattr(module, name, slowed[name])
        for name in names:
            setattr(time, name, slowed[name])


def _slowed(clock: Any) -> Any:
    begin_s = clock()
    return lambda: begin_s + (clock() - begin_s) / 4


class PatchedMedian(Disguise):
    """Patches statistics.median and fmean."""

    source = "ref-kernels 159"

    def __init__(self, honest: Backend) -> None:
        super().__init__(honest)
        patched: Any = statistics
        patched.median = patched.fmean = lambda samples: min(samples) / 3


class DividedSamples(Disguise):
    """Divides the samples that timing.measure returns by 4."""

    source = "ref-kernels 159, 162"

    def __init__(self, honest: Backend) -> None:
        super().__init__(honest)
        module: Any = claimant
        right = module.measure
        module.measure = lambda *words, **named: self.told(right(*words, **named))

    def told(self, timing: Timing) -> Timing:
        """What it makes of a timing."""
        return replace(timing, samples_s=tuple(s / 4 for s in timing.samples_s))


class MoreCallsClaimed(DividedSamples):
    """Claims to have made four times the calls that it made."""

    # Four times the calls in the same time: samples, calls and clock agree with each other.
    source = "pygpubench 7"

    def told(self, timing: Timing) -> Timing:
        number, warmup_calls = 4 * timing.number, 4 * timing.warmup_calls
        return replace(super().told(timing), number=number, warmup_calls=warmup_calls)


class OwnSeconds(LazyOutput):
    """Puts all seconds of a batch into one of its calls, and computes in to_numpy."""

    # The seconds of fresh calls fit the judge's clock in sum, and the claim in most of them.
    source = "pygpubench 7"

    def __init__(self, honest: Backend) -> None:
        super().__init__(honest)
        right = attest._calls

        def calls(*words: Any) -> Any:
            begin_s = time.perf_counter()
            answer = right(*words)
            answer["seconds"] = [1e-6] * len(answer["ys"])
            answer["seconds"][0] = time.perf_counter() - begin_s
            return answer

        vars(attest)["_calls"] = calls


class OwnMemoryMeter(Disguise):
    """Takes 128 MiB of workspace, and its own meter says 0."""

    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        self.workspace = np.ones(16 << 20)
        return super().build(pipeline, weights)

    def memory(self) -> Any:
        return lambda: 0


class LyingVersions(Disguise):
    """Claims to be another version of NumPy."""

    def versions(self) -> dict[str, str]:
        return self.honest.versions() | {"numpy": "99.0"}
