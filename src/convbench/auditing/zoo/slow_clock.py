"""The clock of the timing runs at a third of its speed."""

from __future__ import annotations

import time
from typing import Any

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Backend
from convbench.measuring.timing import measure

WHAT = "makes the clock that times it run at a third of its speed"
SOURCE = "ref-kernels 162, wafer"


class _Slow(Disguise):
    def __init__(self, honest: Backend) -> None:
        super().__init__(honest)
        clock = time.perf_counter
        defaults: Any = measure.__kwdefaults__
        defaults["timer"] = lambda: clock() / 3


disguise = _Slow
