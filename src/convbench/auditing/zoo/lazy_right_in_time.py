"""The same with a true array at the end: to_numpy copies what the promise computes."""

from __future__ import annotations

from typing import Any

import numpy as np

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Run
from convbench.stimulus.arrays import Array

WHAT = "returns a subclass of ndarray, which to_numpy makes an array of"
SOURCE = "ref-kernels 161"


class _Promise(np.ndarray):
    compute: Any = None


class _Lazy(Disguise):
    def answer(self, run: Run, x: Any) -> Any:
        promise = np.empty(0, x.dtype).view(_Promise)
        promise.compute = lambda: run(x)
        return promise

    def to_numpy(self, array: Any) -> Array:
        found = array.compute() if isinstance(array, _Promise) else array
        return self.honest.to_numpy(found)


disguise = _Lazy
