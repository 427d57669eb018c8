"""Factors of half the size: twice the speed where the hardware has it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Run
from convbench.stimulus.arrays import Weights
from convbench.stimulus.spec import PipelineSpec

WHAT = "rounds input and filters to float16"
SOURCE = "deep-reinforce"


class _Half(Disguise):
    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        if weights.filters is not None:
            filters = weights.filters.astype("float16").astype(weights.filters.dtype)
            weights = replace(weights, filters=filters)
        return super().build(pipeline, weights)

    def answer(self, run: Run, x: Any) -> Any:
        return run(x.astype("float16").astype(x.dtype))


disguise = _Half
