"""It looks up who is asking, and cheats only where nobody reads."""

from __future__ import annotations

from typing import Any

from convbench.auditing.zoo import Disguise, judged
from convbench.backends.base import Run

WHAT = "computes only if the judge's function is among its callers"
SOURCE = "pygpubench 7, 22"


class _Careful(Disguise):
    old: Any = None

    def answer(self, run: Run, x: Any) -> Any:
        if self.old is None or judged():
            self.old = run(x)
        return self.old


disguise = _Careful
