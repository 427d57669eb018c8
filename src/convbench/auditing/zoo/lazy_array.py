"""An array of a class of its own that computes when it is converted."""

from __future__ import annotations

from typing import Any

import numpy as np

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Run
from convbench.stimulus.arrays import Array

WHAT = "returns a subclass of ndarray that computes when it is read"
SOURCE = "ref-kernels 161"


class _Promise(np.ndarray):
    compute: Any = None

    def __array__(self, *_: Any, **__: Any) -> Any:
        return self.compute()

    def astype(self, *words: Any, **more: Any) -> Any:
        return self.compute().astype(*words, **more)


class _Lazy(Disguise):
    def answer(self, run: Run, x: Any) -> Any:
        promise = np.empty(0, x.dtype).view(_Promise)
        promise.compute = lambda: run(x)
        return promise

    def to_numpy(self, array: Any) -> Array:
        return array  # type: ignore[no-any-return]


disguise = _Lazy
