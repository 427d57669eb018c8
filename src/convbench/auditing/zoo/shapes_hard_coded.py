"""Right for the listed size, and for no other."""

from __future__ import annotations

from typing import Any

import numpy as np

from convbench.auditing.selftest import PIPELINE
from convbench.auditing.zoo import Disguise
from convbench.backends.base import Run

WHAT = "computes only what is as wide as the listed layer"
SOURCE = "arXiv 2605.16819, 2509.14279"


class _Listed(Disguise):
    def answer(self, run: Run, x: Any) -> Any:
        y = run(x)
        listed = x.shape[1:3] == (PIPELINE.h, PIPELINE.w)
        return y if listed else np.zeros_like(y)


disguise = _Listed
