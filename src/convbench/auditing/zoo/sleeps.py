"""A call that takes its time and does nothing."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Run

WHAT = "sleeps instead of working"
SOURCE = ""


class _Sleeps(Disguise):
    y: Any = None

    def answer(self, run: Run, x: Any) -> Any:
        if self.y is None:
            self.y = np.zeros_like(run(x))
        time.sleep(1e-4)
        return self.y.copy()


disguise = _Sleeps
