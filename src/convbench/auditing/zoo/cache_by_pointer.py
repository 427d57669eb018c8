"""A cache keyed on where the numbers lie: a copy of the array object is no way around it."""

from __future__ import annotations

from typing import Any

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Backend, Run

WHAT = "answers from a cache keyed on the address of the numbers"
SOURCE = "kernelbot 501"


class _Cache(Disguise):
    def __init__(self, honest: Backend) -> None:
        super().__init__(honest)
        self.known: dict[Any, Any] = {}

    def answer(self, run: Run, x: Any) -> Any:
        key = id(run), x.ctypes.data
        if key not in self.known:
            self.known[key] = x, run(x)  # x too, or its place could become another's
        return self.known[key][1]


disguise = _Cache
