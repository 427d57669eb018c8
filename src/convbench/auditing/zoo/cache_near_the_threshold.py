"""What is computed before makes the same input 1.5 times as fast."""

from __future__ import annotations

import time
from typing import Any

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Backend, Run

WHAT = "needs 1.5 times as long for an input that it has not seen"
SOURCE = ""


class _Near(Disguise):
    def __init__(self, honest: Backend) -> None:
        super().__init__(honest)
        self.seen: set[bytes] = set()

    def answer(self, run: Run, x: Any) -> Any:
        begin_s = time.perf_counter()
        y = run(x)
        end_s = begin_s + 1.5 * (time.perf_counter() - begin_s)
        key = x[0, 0].tobytes()
        while key not in self.seen and time.perf_counter() < end_s:
            pass
        self.seen.add(key)
        return y


disguise = _Near
