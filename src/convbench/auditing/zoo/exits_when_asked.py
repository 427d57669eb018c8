"""Gone before it has to stand by its claim."""

from __future__ import annotations

import os
from typing import Any

from convbench.auditing.zoo import Disguise, judged
from convbench.backends.base import Run

WHAT = "ends its process when it is asked for fresh numbers"
SOURCE = ""


class _Absent(Disguise):
    y: Any = None

    def answer(self, run: Run, x: Any) -> Any:
        if judged():
            os._exit(0)
        if self.y is None:
            self.y = run(x)
        return self.y


disguise = _Absent
