"""Nothing is computed before somebody copies the output to the host."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Run
from convbench.stimulus.arrays import Array, Weights
from convbench.stimulus.spec import PipelineSpec

WHAT = "moves all work to to_numpy"
SOURCE = ""


class _Moved(Disguise):
    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        self.run = self.honest.build(pipeline, weights)
        return replace(self.run, function=lambda x: (x,))

    def to_numpy(self, array: Any) -> Array:
        return self.honest.to_numpy(self.run(array[0]) if isinstance(array, tuple) else array)


disguise = _Moved
