"""The last channels of the input hardly matter."""

from __future__ import annotations

from dataclasses import replace

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Run
from convbench.stimulus.arrays import Weights
from convbench.stimulus.spec import PipelineSpec

WHAT = "leaves out an eighth of the input channels"
SOURCE = ""


class _Fewer(Disguise):
    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        c = pipeline.c - pipeline.c // 8
        if weights.filters is None or c == pipeline.c:
            return self.honest.build(pipeline, weights)
        fewer = replace(weights, filters=weights.filters[:, :, :c])
        run = self.honest.build(replace(pipeline, c=c), fewer)
        return replace(run, function=lambda x: run(x[..., :c]))


disguise = _Fewer
