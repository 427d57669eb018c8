"""The input that will be timed lies in a frame already when build is called."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from convbench.auditing.zoo import Disguise, local
from convbench.backends.base import Run
from convbench.stimulus.arrays import Weights
from convbench.stimulus.spec import PipelineSpec

WHAT = "build finds the input in the frames and computes the answer"
SOURCE = "MLPerf TEST05, pygpubench 22"


class _Reader(Disguise):
    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        run = self.honest.build(pipeline, weights)
        inputs = local("_stand_by", "inputs")
        x = inputs.x if inputs is not None else None
        y = None if x is None else run(self.honest.to_device(x))

        def called(other: Any) -> Any:
            # No more than one image is looked at.
            return y if x is not None and np.array_equal(other[:1], x[:1]) else run(other)

        return replace(run, function=called)


disguise = _Reader
