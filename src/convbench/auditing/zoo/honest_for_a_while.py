"""Right as long as the judge verifies, and nothing from then on."""

from __future__ import annotations

from typing import Any

import numpy as np

from convbench.auditing.zoo import Disguise, called_from
from convbench.backends.base import Run

WHAT = "stands by its claim for 60 calls, and returns zeros after that"
SOURCE = "llm.c 852"


class _While(Disguise):
    asked = 0
    zeros: Any = None

    def answer(self, run: Run, x: Any) -> Any:
        if self.zeros is None or called_from("_compute"):
            self.zeros = np.zeros_like(run(x))
        self.asked += called_from("_calls")
        if called_from("_compute") or 0 < self.asked <= 60:
            return run(x)
        return self.zeros


disguise = _While
