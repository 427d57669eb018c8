"""Answers for the seeds that everybody uses, made while nobody looks at the clock."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Run
from convbench.stimulus.arrays import Weights
from convbench.stimulus.inputs import make_inputs
from convbench.stimulus.spec import PipelineSpec

WHAT = "build computes the answers for the usual seeds"
SOURCE = "MLPerf TEST05"


class _Guessed(Disguise):
    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        run = self.honest.build(pipeline, weights)
        guessed = [make_inputs(pipeline, weights.dtype, "normal", seed).x for seed in range(4)]
        self.known = {x.tobytes(): run(x) for x in guessed}
        return replace(run, function=lambda x: self.answer(run, x))

    def answer(self, run: Run, x: Any) -> Any:
        y = self.known.get(x.tobytes())
        return run(x) if y is None else y


disguise = _Guessed
