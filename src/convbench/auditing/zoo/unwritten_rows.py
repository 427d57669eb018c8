"""The last row is whatever the memory held."""

from __future__ import annotations

from typing import Any

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Run

WHAT = "leaves the last row of the last image unwritten"
SOURCE = "wafer 104x"


class _Unwritten(Disguise):
    old: Any = None

    def answer(self, run: Run, x: Any) -> Any:
        y = run(x)
        if self.old is not None and self.old.shape == y.shape:
            y[-1, -1] = self.old[-1, -1]  # what a workspace that is used again would hold
        self.old = y
        return y


disguise = _Unwritten
