"""Every second answer to the judge is right: with luck those that it verifies."""

from __future__ import annotations

from typing import Any

import numpy as np

from convbench.auditing.zoo import Disguise, called_from
from convbench.backends.base import Run

WHAT = "answers every second call of the judge with zeros"
SOURCE = "llm.c 852"


class _Half(Disguise):
    zeros: Any = None

    def answer(self, run: Run, x: Any) -> Any:
        if called_from("_compute") or self.zeros is None:
            y = run(x)
            self.zeros = np.zeros_like(y)
            return y
        return run(x) if self.calls % 2 else self.zeros + np.float32(self.calls)


disguise = _Half
