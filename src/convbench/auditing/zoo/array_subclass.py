"""An array that looks for the judge's reference in the frames of who converts it."""

from __future__ import annotations

from typing import Any

import numpy as np

from convbench.auditing.zoo import Disguise, local
from convbench.backends.base import Run

WHAT = "returns a subclass of ndarray whose astype reads the frames"
SOURCE = "pygpubench 22"


class _Thief(np.ndarray):
    def astype(self, *words: Any, **more: Any) -> Any:
        expected = local("accuracy_of", "expected")
        return expected.output if expected else super().astype(*words, **more)


class _Subclass(Disguise):
    y: Any = None

    def answer(self, run: Run, x: Any) -> Any:
        if self.y is None:
            self.y = np.zeros_like(run(x)).view(_Thief)
        return self.y


disguise = _Subclass
