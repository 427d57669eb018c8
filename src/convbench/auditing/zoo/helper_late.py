"""A helper that is started only when nobody counts the processes any more."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from convbench.auditing.zoo import Elsewhere, judged
from convbench.backends.base import Run
from convbench.stimulus.arrays import Weights
from convbench.stimulus.spec import PipelineSpec

WHAT = "starts a helper when the judge asks, in whose stead it computes"
SOURCE = ""


class _Late(Elsewhere):
    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        honest = self.honest.build(pipeline, weights)
        kept: list[Any] = []

        def called(x: Any) -> Any:
            if not judged():
                kept[:] = kept or [honest(x)]
                return kept[0]
            self.late = getattr(self, "late", None) or super(_Late, self).build(pipeline, weights)
            return self.late(x)

        return replace(honest, function=called)

    def start(self, work: Any) -> None:
        if os.fork() == 0:
            work()


disguise = _Late
