"""The output of the input before: right in a loop over one input."""

from __future__ import annotations

from typing import Any

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Run

WHAT = "returns the output of the previous input"
SOURCE = "llm.c 852"


class _Previous(Disguise):
    old: Any = None

    def answer(self, run: Run, x: Any) -> Any:
        old, self.old = self.old, run(x)
        return self.old if old is None or old.shape != self.old.shape else old


disguise = _Previous
