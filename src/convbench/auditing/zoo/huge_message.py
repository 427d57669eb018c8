"""More bytes are announced than there are."""

from __future__ import annotations

import os
import struct
from typing import Any

from convbench.auditing.zoo import Disguise, called_from, pipe
from convbench.backends.base import Run

WHAT = "announces 2^60 bytes on the judge's pipe"
SOURCE = ""


class _Huge(Disguise):
    def answer(self, run: Run, x: Any) -> Any:
        if called_from("_calls"):
            number = pipe()._channel._pipe.fileno()
            os.write(number, struct.pack("!QQ", 100, 1 << 60))
        return run(x)


disguise = _Huge
