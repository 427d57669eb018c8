"""Whoever compares with nan finds no difference that is too large."""

from __future__ import annotations

from typing import Any

import numpy as np

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Run

WHAT = "returns nan"
SOURCE = "pygpubench 7"


class _Nan(Disguise):
    y: Any = None

    def answer(self, run: Run, x: Any) -> Any:
        if self.y is None:
            self.y = np.full_like(run(x), np.nan)
        return self.y


disguise = _Nan
