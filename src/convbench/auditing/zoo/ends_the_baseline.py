"""Without a process to compare with there is no comparison."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Any

from convbench.auditing.zoo import Disguise, called_from, siblings
from convbench.backends.base import Run

WHAT = "kills the process that the judge compares with"
SOURCE = ""


class _Ends(Disguise):
    y: Any = None

    def answer(self, run: Run, x: Any) -> Any:
        if called_from("_calls"):
            for number in siblings():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
        if self.y is None:
            self.y = run(x)
        return self.y


disguise = _Ends
