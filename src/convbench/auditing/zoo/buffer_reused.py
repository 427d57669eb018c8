"""One buffer for all outputs saves an allocation, and changes what was returned before."""

from __future__ import annotations

from typing import Any

import numpy as np

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Run

WHAT = "writes every output into the same buffer"
SOURCE = ""


class _Reused(Disguise):
    buffer: Any = None

    def answer(self, run: Run, x: Any) -> Any:
        y = run(x)
        if self.buffer is None or self.buffer.shape != y.shape:
            self.buffer = y
        np.copyto(self.buffer, y)
        return self.buffer


disguise = _Reused
