"""One image is computed, and stands for all of the batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Run
from convbench.stimulus.arrays import Weights
from convbench.stimulus.spec import PipelineSpec

WHAT = "computes the first image only and repeats it"
SOURCE = ""


class _Smaller(Disguise):
    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        run = self.honest.build(replace(pipeline, n=1), weights)
        return replace(run, function=lambda x: np.repeat(run(x[:1]), pipeline.n, axis=0))


disguise = _Smaller
