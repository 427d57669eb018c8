"""Neither an answer nor an end."""

from __future__ import annotations

import time
from typing import Any

from convbench.auditing.zoo import Disguise, judged
from convbench.backends.base import Run

WHAT = "hangs on fresh numbers"
SOURCE = ""


class _Absent(Disguise):
    y: Any = None

    def answer(self, run: Run, x: Any) -> Any:
        if judged():
            time.sleep(600)
        if self.y is None:
            self.y = run(x)
        return self.y


disguise = _Absent
