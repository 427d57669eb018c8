"""Sums of 8 bits, declared: no excuse where float32 was asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Run
from convbench.stimulus.arrays import Weights
from convbench.stimulus.spec import PipelineSpec

WHAT = "keeps its sums in bfloat16 and declares it"
SOURCE = ""


class _Sums(Disguise):
    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        run = self.honest.build(pipeline, weights)
        return replace(run, function=lambda x: self.answer(run, x), accumulation="bfloat16")

    def answer(self, run: Run, x: Any) -> Any:
        y = run(x)
        return y.astype(np.dtype(ml_dtypes.bfloat16)).astype(y.dtype)


disguise = _Sums
