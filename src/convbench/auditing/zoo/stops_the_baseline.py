"""What the way of the bytes costs is measured on another process: stop that once in a while."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import Any

from convbench.auditing.zoo import Disguise, called_from, siblings
from convbench.backends.base import Run

WHAT = "stops the process that the judge compares with, again and again"
SOURCE = ""


class _Stops(Disguise):
    started = False

    def answer(self, run: Run, x: Any) -> Any:
        if called_from("_calls") and not self.started:
            self.started = True
            threading.Thread(target=_stop, daemon=True).start()
        return lambda: run(x)


def _stop() -> None:
    while True:
        others = siblings()
        for to_do in (signal.SIGSTOP, signal.SIGCONT):
            for number in others:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, to_do)
            time.sleep(0.02 if to_do == signal.SIGSTOP else 1e-4)


disguise = _Stops
