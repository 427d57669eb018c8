"""Two threads share one core: the one that is watched only waits for the other."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from convbench.auditing.zoo import Disguise, called_from
from convbench.backends.base import Backend, Run

WHAT = "looks as if it waited for a processor while its own thread computes"
SOURCE = ""


class _Waits(Disguise):
    kept: Any = None

    def __init__(self, honest: Backend) -> None:
        super().__init__(honest)
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        self.pool = ThreadPoolExecutor(1)

    def answer(self, run: Run, x: Any) -> Any:
        if not called_from("attest", "_compute"):
            if self.kept is None:
                self.kept = run(x)
            return self.kept
        asked = self.pool.submit(run, x)

        def read() -> Any:
            while not asked.done():
                os.sched_yield()
            return asked.result()

        return read


disguise = _Waits
