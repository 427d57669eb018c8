"""The bound of a scheme is for those who save multiplications, and not for their digits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Run
from convbench.stimulus.arrays import Weights
from convbench.stimulus.spec import PipelineSpec

WHAT = "declares Winograd's F(4x4,3x3), and computes directly on an input of 11 bits"
SOURCE = ""


class _Scheme(Disguise):
    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        run = self.honest.build(pipeline, weights)
        scheme = "winograd F(4x4,3x3)"
        return replace(run, function=lambda x: self.answer(run, x), scheme=scheme)

    def answer(self, run: Run, x: Any) -> Any:
        return run(x.astype(np.float16).astype(x.dtype))


disguise = _Scheme
