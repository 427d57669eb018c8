"""Half of the calls do the work for all."""

from __future__ import annotations

from typing import Any

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Run

WHAT = "computes every second call only"
SOURCE = ""


class _Second(Disguise):
    old: Any = None

    def answer(self, run: Run, x: Any) -> Any:
        if self.calls % 2 or self.old is None:
            self.old = run(x)
        return self.old


disguise = _Second
