"""A convolution that Numba compiles, as a backend of convbench.

``convbench verify --target mine@cpu`` holds it against a float64 oracle, and ``convbench bench``
measures it. Put your own kernel where ``conv`` is; `convbench.backends.base` is the whole
contract.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from convbench.backends.base import Array, Backend, Capabilities, Hole, Run, Weights
from convbench.stimulus.spec import PipelineSpec


class MyBackend(Backend):
    """Plain loops over every output, the rows of them on all cores."""

    name = "mine"
    # Modules that must be importable, and what installs them.
    requires: ClassVar = ("numba",)
    install = "pip install numba"
    # What it does not compute is declared, with the reason: it is skipped then, and not wrong.
    capabilities = Capabilities(
        devices=("cpu",),
        holes=(Hole("pools", "they are not written yet", lambda spec, _: spec.pool is not None),),
    )

    def __init__(self, device: str, variant: str = "") -> None:
        super().__init__(device, variant)
        self._numba: Any = self.library()  # imported here, and nowhere else
        self._conv = _compiled(self._numba)

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        """Which devices there are, as in ("cpu", "gpu:0")."""
        cls.library()
        return ("cpu",)

    def to_device(self, array: Array) -> Array:
        """Copy the input, (N, H, W, C), to where it is computed."""
        return np.array(array, array.dtype.newbyteorder("="), order="C")

    def to_numpy(self, array: Array) -> Array:
        """Copy the output, (N, P, Q, K), back."""
        return array

    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        """Do once, untimed, what does not depend on the input; compiling, for one."""
        self.check(pipeline, weights.dtype)  # refuses what is declared above
        conv, placed = pipeline.conv, self.place(weights)
        if conv is None:
            return Run(lambda x: x + placed.bias, "add")
        rows, columns = pipeline.conv_windows  # what padding and stride come to along H and W
        filters: Any = placed.filters  # (R, S, C // groups, K)
        bias = np.zeros(conv.k, filters.dtype) if placed.bias is None else placed.bias
        numbers = (
            (rows.out, rows.stride, rows.dilation, rows.before),
            (columns.out, columns.stride, columns.dilation, columns.before),
            conv.groups,
        )
        function = self._conv
        function(np.zeros(pipeline.input_shape, filters.dtype), filters, bias, *numbers)
        return Run(lambda x: function(x, filters, bias, *numbers), "direct loops")

    def versions(self) -> dict[str, str]:
        """What decides the result, for the evidence."""
        return {"numba": self._numba.__version__}


def _compiled(numba: Any) -> Any:
    prange = numba.prange

    def conv(x: Array, filters: Array, bias: Array, rows: Any, columns: Any, groups: int) -> Array:
        """What is timed. It leaves x alone, and gives a new array each time."""
        (p, row_stride, row_dilation, top), (q, stride, dilation, left) = rows, columns
        n, h, w, _ = x.shape
        r, s, c, k = filters.shape
        y = np.empty((n, p, q, k), x.dtype)
        for row in prange(n * p):
            for j in range(q):
                for o in range(k):
                    total, first = bias[o], o // (k // groups) * c
                    for a in range(r):
                        i = row % p * row_stride + a * row_dilation - top
                        if 0 <= i < h:
                            for b in range(s):
                                seen = j * stride + b * dilation - left
                                if 0 <= seen < w:
                                    for d in range(c):
                                        value = x[row // p, i, seen, first + d]
                                        total += value * filters[a, b, d, o]
                    y[row // p, row % p, j, o] = total
        return y

    # Kept in __pycache__: many processes measure it, and each would compile it for seconds.
    return numba.njit(parallel=True, cache=True)(conv)
