"""A run that only asks, and a synchronize() that does not wait: the commonest honest mistake."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Backend, Run

WHAT = "run asks another thread and synchronize() does not wait for it"
SOURCE = "BackendBench 52, KernelBench 82"


class _NoSynchronize(Disguise):
    def __init__(self, honest: Backend) -> None:
        super().__init__(honest)
        self.pool = ThreadPoolExecutor(1)

    def answer(self, run: Run, x: Any) -> Any:
        return self.pool.submit(run, x).result


disguise = _NoSynchronize
