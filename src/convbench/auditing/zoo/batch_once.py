"""All inputs of a batch are found in the frames, computed at once, and handed out one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from convbench.auditing.zoo import Disguise, local
from convbench.backends.base import Backend, Run
from convbench.stimulus.arrays import Weights
from convbench.stimulus.spec import PipelineSpec

WHAT = "computes the whole batch that it finds in the frames of its caller"
SOURCE = "ref-kernels 104, kernelboard 224"


class _Batch(Disguise):
    def __init__(self, honest: Backend) -> None:
        super().__init__(honest)
        self.known: dict[bytes, Any] = {}

    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        self.pipeline, self.weights = pipeline, weights
        self.runs: dict[int, Run] = {}
        return super().build(pipeline, weights)

    def answer(self, run: Run, x: Any) -> Any:
        key = x.tobytes()[:256]
        if key in self.known:
            return self.known.pop(key)
        xs = local("_calls", "xs")
        if not xs or len(xs) == 1:  # in the timing it is always the same
            self.kept = getattr(self, "kept", None) or (x, run(x))
            return self.kept[1] if self.kept[0] is x else run(x)
        if len(xs) not in self.runs:
            large = replace(self.pipeline, n=self.pipeline.n * len(xs))
            self.runs[len(xs)] = self.honest.build(large, self.weights)
        ys = np.split(self.runs[len(xs)](np.concatenate(xs)), len(xs))
        self.known = dict(zip([other.tobytes()[:256] for other in xs], ys, strict=True))
        return np.ascontiguousarray(self.known.pop(key))


disguise = _Batch
