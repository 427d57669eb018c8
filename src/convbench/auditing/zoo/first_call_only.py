"""The first call computes, the others copy."""

from __future__ import annotations

from typing import Any

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Run

WHAT = "computes the first call only"
SOURCE = "Sakana"


class _First(Disguise):
    first: Any = None

    def answer(self, run: Run, x: Any) -> Any:
        if self.first is None:
            self.first = run(x)
        return self.first.copy()


disguise = _First
