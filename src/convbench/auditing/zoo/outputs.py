"""Another output than that which was asked for: nearly right, old, or nothing at all."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, ClassVar

import ml_dtypes
import numpy as np

from convbench.auditing.selftest import PIPELINE
from convbench.auditing.zoo import Disguise, called_from
from convbench.backends.base import Run
from convbench.stimulus.arrays import Weights
from convbench.stimulus.spec import PipelineSpec


class Zeros(Disguise):
    """Returns zeros."""

    source = "RAJAPerf 170, cubek 611"

    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        run = super().build(pipeline, weights)
        return replace(run, function=lambda x: np.zeros(pipeline.output_shape, x.dtype))


class NotANumber(Disguise):
    """Returns nan."""

    # Whoever compares with nan finds no difference that is too large.
    source = "pygpubench 7"

    def answer(self, run: Run, x: Any) -> Any:
        return self.once(lambda: np.full_like(run(x), np.nan))


class ConstantOutput(Disguise):
    """Returns the mean output."""

    # With inputs of mean zero the mean output is not far off.
    source = "accelerator-agents 50"

    def answer(self, run: Run, x: Any) -> Any:
        def mean() -> Any:
            y = run(x)
            y[...] = y.mean(axis=(0, 1, 2))
            return y

        return self.once(mean)


class Sleeps(Disguise):
    """Sleeps instead of working."""

    def answer(self, run: Run, x: Any) -> Any:
        y = self.once(lambda: np.zeros_like(run(x)))
        time.sleep(1e-4)
        return y.copy()


# -- old ones --------------------------------------------------------------------------------------


class FirstCallOnly(Disguise):
    """Computes the first call only."""

    source = "Sakana"

    def answer(self, run: Run, x: Any) -> Any:
        return self.once(lambda: run(x)).copy()


class EverySecondCall(Disguise):
    """Computes every second call only."""

    old: Any = None

    def answer(self, run: Run, x: Any) -> Any:
        if self.calls % 2 or self.old is None:
            self.old = run(x)
        return self.old


class PreviousOutput(Disguise):
    """Returns the output of the previous input."""

    # The output of the input before: right in a loop over one input.
    source = "llm.c 852"
    old: Any = None

    def answer(self, run: Run, x: Any) -> Any:
        old, self.old = self.old, run(x)
        return self.old if old is None or old.shape != self.old.shape else old


class StaleAfterSomeCalls(Disguise):
    """Returns the old output after 20 calls."""

    # Right for as many calls as a check makes, and the old output from then on.
    source = "llm.c 852, pygpubench 7"
    old: Any = None

    def answer(self, run: Run, x: Any) -> Any:
        if self.calls < 20:
            self.old = run(x)
        return self.old


class HonestForAWhile(Disguise):
    """Stands by its claim for 60 calls, and returns zeros after that."""

    source = "llm.c 852"
    asked = 0
    zeros: Any = None

    def answer(self, run: Run, x: Any) -> Any:
        if self.zeros is None or called_from("_compute"):
            self.zeros = np.zeros_like(run(x))
        self.asked += called_from("_calls")
        if called_from("_compute") or 0 < self.asked <= 60:
            return run(x)
        return self.zeros


class HonestHalfOfTheTime(Disguise):
    """Answers every second call of the judge with zeros."""

    # Every second answer to the judge is right: with luck those that it verifies.
    source = "llm.c 852"
    zeros: Any = None

    def answer(self, run: Run, x: Any) -> Any:
        if called_from("_compute") or self.zeros is None:
            y = run(x)
            self.zeros = np.zeros_like(y)
            return y
        return run(x) if self.calls % 2 else self.zeros + np.float32(self.calls)


class CopiesOfOneOutput(Disguise):
    """Computes one input of eight and changes its output a little for the others."""

    source = "ref-kernels 104"
    y: Any = None

    def answer(self, run: Run, x: Any) -> Any:
        if self.y is None or self.calls % 8 == 0:
            self.y = run(x)
        return self.y + np.float32(self.calls % 8)


class BufferReused(Disguise):
    """Writes every output into the same buffer."""

    # One buffer for all outputs saves an allocation, and changes what was returned before.
    buffer: Any = None

    def answer(self, run: Run, x: Any) -> Any:
        y = run(x)
        if self.buffer is None or self.buffer.shape != y.shape:
            self.buffer = y
        np.copyto(self.buffer, y)
        return self.buffer


class UnwrittenRows(Disguise):
    """Leaves the last row of the last image unwritten."""

    source = "wafer 104x"
    old: Any = None

    def answer(self, run: Run, x: Any) -> Any:
        y = run(x)
        if self.old is not None and self.old.shape == y.shape:
            y[-1, -1] = self.old[-1, -1]  # what a workspace that is used again would hold
        self.old = y
        return y


class InputMutated(Disguise):
    """Sets its input to zero, for which it knows the answer."""

    # The input becomes one whose answer is known: only the first call has to work.
    source = "KernelBench 82"
    zeros: Any = None

    def answer(self, run: Run, x: Any) -> Any:
        if self.zeros is not None and x.flat[0] == 0 and x.flat[-1] == 0:
            return self.zeros
        y = run(x)
        x[...] = 0
        self.zeros = self.once(lambda: run(x))
        return y


# -- less work -------------------------------------------------------------------------------------


class SmallerProblem(Disguise):
    """Computes the first image only and repeats it."""

    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        run = self.honest.build(replace(pipeline, n=1), weights)
        return replace(run, function=lambda x: np.repeat(run(x[:1]), pipeline.n, axis=0))


class FewerChannels(Disguise):
    """Leaves out an eighth of the input channels."""

    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        c = pipeline.c - pipeline.c // 8
        if weights.filters is None or c == pipeline.c:
            return self.honest.build(pipeline, weights)
        fewer = replace(weights, filters=weights.filters[:, :, :c])
        run = self.honest.build(replace(pipeline, c=c), fewer)
        return replace(run, function=lambda x: run(x[..., :c]))


class ShapesHardCoded(Disguise):
    """Computes only what is as wide as the listed layer."""

    source = "arXiv 2605.16819, 2509.14279"

    def answer(self, run: Run, x: Any) -> Any:
        y = run(x)
        listed = x.shape[1:3] == (PIPELINE.h, PIPELINE.w)
        return y if listed else np.zeros_like(y)


# -- fewer digits ----------------------------------------------------------------------------------


class Bfloat16Sums(Disguise):
    """Keeps its sums in bfloat16 without saying so."""

    source = "kernelbench.com/blog/hard"

    def answer(self, run: Run, x: Any) -> Any:
        y = run(x)
        return y.astype(np.dtype(ml_dtypes.bfloat16)).astype(y.dtype)


class Bfloat16Declared(Bfloat16Sums):
    """Keeps its sums in bfloat16 and declares it."""

    # Sums of 8 bits, declared: no excuse where float32 was asked for.
    source = ""
    declares: ClassVar = {"accumulation": "bfloat16"}


class LooseAccumulation(Disguise):
    """Declares sums in float16, and is off by 2 in a thousand."""

    # A declaration that is looser than what it computes in makes errors look small.
    declares: ClassVar = {"accumulation": "float16"}

    def answer(self, run: Run, x: Any) -> Any:
        return run(x) * np.float32(1.002)


class LooseScheme(Disguise):
    """Declares Winograd's F(4x4,3x3), and computes directly on an input of 11 bits."""

    # The bound of a scheme is for those who save multiplications, and not for their digits.
    declares: ClassVar = {"scheme": "winograd F(4x4,3x3)"}

    def answer(self, run: Run, x: Any) -> Any:
        return run(x.astype(np.float16).astype(x.dtype))


class Float16Factors(Disguise):
    """Rounds input and filters to float16."""

    source = "deep-reinforce"

    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        if weights.filters is not None:
            filters = weights.filters.astype("float16").astype(weights.filters.dtype)
            weights = replace(weights, filters=filters)
        return super().build(pipeline, weights)

    def answer(self, run: Run, x: Any) -> Any:
        return run(x.astype("float16").astype(x.dtype))
