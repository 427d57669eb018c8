"""A cache keyed on a few of the numbers: right as long as those tell the inputs apart."""

from __future__ import annotations

from typing import Any

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Backend, Run

WHAT = "answers from a cache keyed on a few elements of x"
SOURCE = "ref-kernels 160, 167"


class _Cache(Disguise):
    def __init__(self, honest: Backend) -> None:
        super().__init__(honest)
        self.known: dict[Any, Any] = {}

    def answer(self, run: Run, x: Any) -> Any:
        key = id(run), x.reshape(-1)[:: max(1, x.size // 8)].tobytes()
        if key not in self.known:
            self.known[key] = x, run(x)  # x too, or its place could become another's
        return self.known[key][1]


disguise = _Cache
