"""The same without a trace of where it came from: no parent, no session, no environment."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

from convbench.auditing.zoo import Elsewhere

WHAT = "a daemon that has wiped its environment computes"
SOURCE = ""


class _Helper(Elsewhere):
    def start(self, work: Any) -> None:
        number = os.fork()
        if number == 0:
            os.setsid()
            if os.fork() == 0:
                fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
                begin, end = int(fields[47]), int(fields[48])
                ctypes.memset(begin, 0, end - begin)
                work()
            os._exit(0)
        os.waitpid(number, 0)


disguise = _Helper
