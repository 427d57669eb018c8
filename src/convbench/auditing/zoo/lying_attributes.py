"""Something that has the shape and the dtype of an output, and no numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from convbench.auditing.zoo import Disguise
from convbench.backends.base import Run
from convbench.stimulus.arrays import Array

WHAT = "returns an object with the right shape and dtype"
SOURCE = ""


class _Shell:
    def __init__(self, y: Any) -> None:
        self.shape, self.dtype, self.size, self.ndim = y.shape, y.dtype, y.size, y.ndim

    def __array__(self, *_: Any, **__: Any) -> Any:
        return np.zeros(self.shape, self.dtype)


class _Lying(Disguise):
    y: Any = None

    def answer(self, run: Run, x: Any) -> Any:
        if self.y is None:
            self.y = _Shell(run(x))
        return self.y

    def to_numpy(self, array: Any) -> Array:
        return array  # type: ignore[no-any-return]


disguise = _Lying
