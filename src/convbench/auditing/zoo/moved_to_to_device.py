"""The input is the answer already when it is on the device."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Run
from convbench.stimulus.arrays import Array, Weights
from convbench.stimulus.spec import PipelineSpec

WHAT = "moves all work to to_device"
SOURCE = ""


class _Moved(Disguise):
    run: Any = None

    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        run = self.honest.build(pipeline, weights)
        self.known: dict[int, Any] = {}
        self.run, self.shape = run, pipeline.input_shape
        return replace(run, function=lambda x: self.answer(run, x))

    def answer(self, run: Run, x: Any) -> Any:
        known = self.known.get(id(x))
        return run(x) if known is None else known[1]

    def to_device(self, array: Array) -> Any:
        x = self.honest.to_device(array)
        if self.run is not None and x.shape == self.shape:
            self.known = {id(x): (x, self.run(x))}
        return x


disguise = _Moved
