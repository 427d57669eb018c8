"""The centre of the samples is what their smallest would be on a better day."""

from __future__ import annotations

import statistics
from typing import Any

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Backend

WHAT = "patches statistics.median and fmean"
SOURCE = "ref-kernels 159"


class _Patched(Disguise):
    def __init__(self, honest: Backend) -> None:
        super().__init__(honest)
        patched: Any = statistics
        patched.median = patched.fmean = lambda samples: min(samples) / 3


disguise = _Patched
