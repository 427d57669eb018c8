"""A meter of its own says that there is nothing to see."""

from __future__ import annotations

from typing import Any

import numpy as np

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Run
from convbench.stimulus.arrays import Weights
from convbench.stimulus.spec import PipelineSpec

WHAT = "takes 128 MiB of workspace, and its own meter says 0"
SOURCE = ""


class _Meter(Disguise):
    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        self.workspace = np.ones(16 << 20)
        return super().build(pipeline, weights)

    def memory(self) -> Any:
        return lambda: 0


disguise = _Meter
