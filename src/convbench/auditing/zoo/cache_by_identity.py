"""A cache keyed on the identity of the input: the same array again costs nothing."""

from __future__ import annotations

from typing import Any

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Backend, Run

WHAT = "answers from a cache keyed on id(x)"
SOURCE = "kernelbot 501, flashinfer-bench 413"


class _Cache(Disguise):
    def __init__(self, honest: Backend) -> None:
        super().__init__(honest)
        self.known: dict[Any, Any] = {}

    def answer(self, run: Run, x: Any) -> Any:
        key = id(run), id(x)
        if key not in self.known:
            self.known[key] = x, run(x)  # x too, or its place could become another's
        return self.known[key][1]


disguise = _Cache
