"""All clocks of the process run slower, whoever has imported them."""

from __future__ import annotations

import sys
import time
from typing import Any

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Backend
from convbench.measuring.timing import measure

WHAT = "replaces the time module, and its functions in all of convbench"
SOURCE = "ref-kernels 162, wafer"


class _Replaced(Disguise):
    def __init__(self, honest: Backend) -> None:
        super().__init__(honest)
        names = ("perf_counter", "monotonic", "time", "process_time")
        slowed = {name: _slowed(getattr(time, name)) for name in names}
        defaults: Any = measure.__kwdefaults__
        defaults["timer"] = slowed["perf_counter"]
        for module in (m for n, m in list(sys.modules.items()) if n.startswith("convbench.")):
            for name in names:
                if vars(module).get(name) is getattr(time, name):
                    setattr(module, name, slowed[name])
        for name in names:
            setattr(time, name, slowed[name])


def _slowed(clock: Any) -> Any:
    begin_s = clock()
    return lambda: begin_s + (clock() - begin_s) / 4


disguise = _Replaced
