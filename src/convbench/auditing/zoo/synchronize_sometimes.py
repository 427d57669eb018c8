"""A synchronize() that waits once in a while, as one on the wrong stream may."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from convbench.auditing.zoo import Disguise, judged
from convbench.backends.base import Backend, Run

WHAT = "synchronize() waits for every eighth call only"
SOURCE = "BackendBench 52"


class _Sometimes(Disguise):
    def __init__(self, honest: Backend) -> None:
        super().__init__(honest)
        self.pool = ThreadPoolExecutor(1)
        self.asked: Any = None

    def answer(self, run: Run, x: Any) -> Any:
        if self.asked is not None and not self.asked.done() and not judged():
            return None
        self.asked = self.pool.submit(run, x)
        return self.asked.result

    def synchronize(self) -> None:
        if self.calls % 8 == 0 and self.asked is not None:
            self.asked.result()


disguise = _Sometimes
