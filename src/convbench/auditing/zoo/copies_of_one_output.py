"""One fresh input of a batch is computed, the others get its output with a little noise."""

from __future__ import annotations

from typing import Any

import numpy as np

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Run

WHAT = "computes one input of eight and changes its output a little for the others"
SOURCE = "ref-kernels 104"


class _One(Disguise):
    y: Any = None

    def answer(self, run: Run, x: Any) -> Any:
        if self.y is None or self.calls % 8 == 0:
            self.y = run(x)
        return self.y + np.float32(self.calls % 8)


disguise = _One
