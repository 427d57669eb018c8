"""Right for as many calls as a check makes, and the old output from then on."""

from __future__ import annotations

from typing import Any

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Run

WHAT = "returns the old output after 20 calls"
SOURCE = "llm.c 852, pygpubench 7"


class _Stale(Disguise):
    old: Any = None

    def answer(self, run: Run, x: Any) -> Any:
        if self.calls < 20:
            self.old = run(x)
        return self.old


disguise = _Stale
