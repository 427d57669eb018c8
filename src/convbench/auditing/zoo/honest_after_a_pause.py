"""A timing has no pauses, and the judge makes one before it asks."""

from __future__ import annotations

import time
from typing import Any

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Run

WHAT = "computes only in the first 50 calls and after a pause"
SOURCE = "pygpubench 7"


class _Patient(Disguise):
    last_s = 0.0
    old: Any = None
    honest_calls = 50

    def answer(self, run: Run, x: Any) -> Any:
        now_s = time.perf_counter()
        if now_s - self.last_s > 0.05:
            self.honest_calls = 1_000 if self.calls > 100 else 2
        self.last_s = now_s
        self.honest_calls -= 1
        if self.honest_calls >= 0 or self.old is None:
            self.old = run(x)
        return self.old


disguise = _Patient
