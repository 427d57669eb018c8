"""A time that is smaller than no other, and larger than none."""

from __future__ import annotations

import time
from typing import Any

from convbench.auditing.zoo import Disguise, called_from, pipe
from convbench.backends.base import Run

WHAT = "claims a time of nan"
SOURCE = ""


class _Forger(Disguise):
    sent = False

    def answer(self, run: Run, x: Any) -> Any:
        if called_from("measure") and not self.sent:
            self.sent = True
            time_s: Any = float("nan")
            claim = {"hot_s": time_s, "mean_s": time_s, "calls": 20_000, "spent_s": 0.2}
            time.sleep(0.2)  # as long as a timing takes
            pipe().send(claim)
        return run(x)


disguise = _Forger
