"""A convolution on NumPy, as a backend of convbench.

``convbench verify --target mine@cpu`` holds it against a float64 oracle, and ``convbench bench``
measures it. Put your own kernel where ``run`` is; `convbench.backends.base` is the whole contract.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from convbench.backends.base import Array, Backend, Capabilities, Hole, Run, Weights
from convbench.stimulus.spec import PipelineSpec


class MyBackend(Backend):
    """Tap by tap: each tap of the filter is a matrix product over the channels."""

    name = "mine"
    # Modules that must be importable, and what installs them.
    requires: ClassVar = ("numpy",)
    install = "pip install numpy"
    # What it does not compute is declared, with the reason: it is skipped then, and not wrong.
    capabilities = Capabilities(
        devices=("cpu",),
        holes=(
            Hole("pools", "they are not written yet", lambda spec, _: spec.pool is not None),
            Hole(
                "groups",
                "they are not written yet",
                lambda spec, _: spec.conv is not None and spec.conv.groups > 1,
            ),
        ),
    )

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        """Which devices there are, as in ("cpu", "gpu:0")."""
        return ("cpu",)

    def to_device(self, array: Array) -> Array:
        """Copy the input, (N, H, W, C), to where it is computed."""
        return np.array(array, array.dtype.newbyteorder("="), order="C")

    def to_numpy(self, array: Array) -> Array:
        """Copy the output, (N, P, Q, K), back."""
        return array

    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        """Do once, untimed, what does not depend on the input."""
        self.check(pipeline, weights.dtype)  # refuses what is declared above
        conv, shape = pipeline.conv, pipeline.output_shape
        placed = self.place(weights)  # filters (R, S, C, K) and bias (K,), or None
        if conv is None:
            return Run(lambda x: x + placed.bias, "add")
        filters: Any = placed.filters
        rows, columns = pipeline.conv_windows  # what padding and stride come to along H and W
        pads = ((0, 0), (rows.before, rows.after), (columns.before, columns.after), (0, 0))

        def run(x: Array) -> Array:
            """What is timed. It leaves x alone, and gives a new array each time."""
            x = np.pad(x, pads)
            y = np.zeros(shape, x.dtype)
            for r in range(conv.r):
                top = r * rows.dilation
                for s in range(conv.s):
                    left = s * columns.dilation
                    seen = x[
                        :,
                        top : top + (rows.out - 1) * rows.stride + 1 : rows.stride,
                        left : left + (columns.out - 1) * columns.stride + 1 : columns.stride,
                    ]
                    y += seen @ filters[r, s]
            return y if placed.bias is None else y + placed.bias

        return Run(run, "tap by tap")

    def versions(self) -> dict[str, str]:
        """What decides the result, for the evidence."""
        return {"numpy": np.__version__}
