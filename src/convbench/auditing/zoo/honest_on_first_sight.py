"""An input that repeats is that of a timing."""

from __future__ import annotations

from typing import Any

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Backend, Run

WHAT = "computes only what it has not seen before"
SOURCE = "pygpubench 7"


class _Sight(Disguise):
    def __init__(self, honest: Backend) -> None:
        super().__init__(honest)
        self.seen: set[bytes] = set()

    def answer(self, run: Run, x: Any) -> Any:
        key = x[0, 0, 0].tobytes() + bytes(str(x.shape), "ascii")
        if key not in self.seen:
            self.seen.add(key)
            self.y = run(x)
        return self.y


disguise = _Sight
