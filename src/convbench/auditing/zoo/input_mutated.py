"""The input becomes one whose answer is known: only the first call has to work."""

from __future__ import annotations

from typing import Any

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Run

WHAT = "sets its input to zero, for which it knows the answer"
SOURCE = "KernelBench 82"


class _Mutated(Disguise):
    known: Any = None

    def answer(self, run: Run, x: Any) -> Any:
        if self.known is not None and x.flat[0] == 0 and x.flat[-1] == 0:
            return self.known
        y = run(x)
        x[...] = 0
        if self.known is None:
            self.known = run(x)
        return y


disguise = _Mutated
