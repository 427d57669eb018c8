"""Its copies are said to be slow, and what is hidden in them is taken off the time."""

from __future__ import annotations

import time
from typing import Any

from convbench.auditing.zoo import Disguise, called_from
from convbench.backends.base import Run
from convbench.stimulus.arrays import Array

WHAT = "copies slowly where copies are compared, and computes in to_numpy"
SOURCE = ""


class _Slow(Disguise):
    def answer(self, run: Run, x: Any) -> Any:
        return lambda: run(x)

    def to_device(self, array: Array) -> Any:
        if called_from("_copies"):
            time.sleep(2e-3)
        return self.honest.to_device(array)


disguise = _Slow
