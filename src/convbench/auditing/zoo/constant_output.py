"""With inputs of mean zero the mean output is not far off."""

from __future__ import annotations

from typing import Any

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Run

WHAT = "returns the mean output"
SOURCE = "accelerator-agents 50"


class _Constant(Disguise):
    mean: Any = None

    def answer(self, run: Run, x: Any) -> Any:
        if self.mean is None:
            self.mean = run(x)
            self.mean[...] = self.mean.mean(axis=(0, 1, 2))
        return self.mean


disguise = _Constant
