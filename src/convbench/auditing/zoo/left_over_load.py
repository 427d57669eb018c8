"""Load that stays behind makes the next row slow, and this one fast beside it."""

from __future__ import annotations

import subprocess
import sys

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Run
from convbench.stimulus.arrays import Weights
from convbench.stimulus.spec import PipelineSpec

WHAT = "leaves a process behind that keeps a core busy"
SOURCE = ""

_BUSY = "import time; end_s = time.time() + 15\nwhile time.time() < end_s: pass"
_START = (
    "import subprocess, sys; "
    "subprocess.Popen([sys.executable, '-c', sys.argv[1]], env={}, start_new_session=True)"
)


class _Load(Disguise):
    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        # Its parent ends at once, and it has nothing of our environment.
        subprocess.run([sys.executable, "-c", _START, _BUSY], check=True)
        return super().build(pipeline, weights)


disguise = _Load
