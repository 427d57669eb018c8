"""It finds the pipe and makes the claim itself, before the timing has begun."""

from __future__ import annotations

import time
from typing import Any

from convbench.auditing.zoo import Disguise, called_from, pipe
from convbench.backends.base import Run

WHAT = "sends a claim of its own to the judge"
SOURCE = "pygpubench 7, 15"


class _Forger(Disguise):
    sent = False

    def answer(self, run: Run, x: Any) -> Any:
        if called_from("measure") and not self.sent:
            self.sent = True
            time_s: Any = 1e-5
            claim = {"hot_s": time_s, "mean_s": time_s, "calls": 20_000, "spent_s": 0.2}
            time.sleep(0.2)  # as long as a timing takes
            pipe().send(claim)
        return run(x)


disguise = _Forger
