"""A promise for an output: who never reads it never waits."""

from __future__ import annotations

from typing import Any

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Run

WHAT = "returns a promise that to_numpy computes"
SOURCE = "ref-kernels 161, CUDA-L1 12"


class _Lazy(Disguise):
    def answer(self, run: Run, x: Any) -> Any:
        return lambda: run(x)


disguise = _Lazy
