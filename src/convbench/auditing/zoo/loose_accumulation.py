"""A declaration that is looser than what it computes in makes errors look small."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Run
from convbench.stimulus.arrays import Weights
from convbench.stimulus.spec import PipelineSpec

WHAT = "declares sums in float16, and is off by 2 in a thousand"
SOURCE = ""


class _Sums(Disguise):
    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        run = self.honest.build(pipeline, weights)
        return replace(run, function=lambda x: self.answer(run, x), accumulation="float16")

    def answer(self, run: Run, x: Any) -> Any:
        y = run(x)
        return y * np.float32(1.002)


disguise = _Sums
