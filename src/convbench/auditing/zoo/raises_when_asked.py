"""An excuse instead of an answer."""

from __future__ import annotations

from typing import Any

from convbench.auditing.zoo import Disguise, judged
from convbench.backends.base import Run

WHAT = "raises on fresh numbers"
SOURCE = ""


class _Absent(Disguise):
    y: Any = None

    def answer(self, run: Run, x: Any) -> Any:
        if judged():
            raise MemoryError("try again with a smaller input")
        if self.y is None:
            self.y = run(x)
        return self.y


disguise = _Absent
