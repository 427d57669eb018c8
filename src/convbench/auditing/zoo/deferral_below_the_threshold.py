"""A quarter of the work is put off: as much as no judge with a tolerance sees."""

from __future__ import annotations

import time
from typing import Any

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Run

WHAT = "puts so much off that the whole takes 1.3 times the claim"
SOURCE = ""


class _Below(Disguise):
    def answer(self, run: Run, x: Any) -> Any:
        begin_s = time.perf_counter()
        y = run(x)
        taken_s = time.perf_counter() - begin_s

        def read() -> Any:
            end_s = time.perf_counter() + 0.3 * taken_s
            while time.perf_counter() < end_s:
                pass
            return y

        return read


disguise = _Below
