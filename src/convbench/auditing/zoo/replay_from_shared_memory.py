"""Answers kept in memory that outlives the process, where the system has it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Backend, Run

WHAT = "keeps its answers in /dev/shm and reads them from there"
SOURCE = "ref-kernels 160"


class _Replay(Disguise):
    def __init__(self, honest: Backend) -> None:
        super().__init__(honest)
        folder = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
        self.file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # without a name
        self.known: dict[int, int] = {}

    def answer(self, run: Run, x: Any) -> Any:
        key = hash(x.data.tobytes())
        if key not in self.known:
            y = run(x)
            self.known[key] = self.file.seek(0, os.SEEK_END)
            self.file.write(y.data)
            self.file.flush()
            self.like = y
            return y
        self.file.seek(self.known[key])
        y = np.empty_like(self.like)
        self.file.readinto(y.data.cast("B"))
        return y


disguise = _Replay
