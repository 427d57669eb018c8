"""A cache keyed on all of the numbers: to read them costs less than to compute."""

from __future__ import annotations

import hashlib
from typing import Any

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Backend, Run

WHAT = "answers from a cache keyed on a digest of x"
SOURCE = "ref-kernels 160, 167"


class _Cache(Disguise):
    def __init__(self, honest: Backend) -> None:
        super().__init__(honest)
        self.known: dict[Any, Any] = {}

    def answer(self, run: Run, x: Any) -> Any:
        key = id(run), hashlib.blake2b(x.data).digest()
        if key not in self.known:
            self.known[key] = x, run(x)  # x too, or its place could become another's
        return self.known[key][1]


disguise = _Cache
