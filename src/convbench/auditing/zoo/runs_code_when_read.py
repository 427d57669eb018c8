"""An output that runs code in whoever unpickles it."""

from __future__ import annotations

from typing import Any

import numpy as np

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Run

WHAT = "returns an object whose __reduce__ runs code in the judge"
SOURCE = "pygpubench 7, 15"


class _Loaded(np.ndarray):
    def __reduce__(self) -> Any:
        return exec, ("import convbench; convbench.taken_over = True",)


class _Reduce(Disguise):
    y: Any = None

    def answer(self, run: Run, x: Any) -> Any:
        if self.y is None:
            self.y = np.zeros_like(run(x)).view(_Loaded)
        return self.y


disguise = _Reduce
