"""The same after two forks and in a session of its own: no longer a descendant."""

from __future__ import annotations

import os
from typing import Any

from convbench.auditing.zoo import Elsewhere

WHAT = "a daemon in a session of its own computes"
SOURCE = ""


class _Helper(Elsewhere):
    def start(self, work: Any) -> None:
        number = os.fork()
        if number == 0:
            os.setsid()
            if os.fork() == 0:
                work()
            os._exit(0)
        os.waitpid(number, 0)


disguise = _Helper
