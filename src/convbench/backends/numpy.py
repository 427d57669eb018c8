"""NumPy on the CPU. It is always there, and every other backend is compared with it."""

from __future__ import annotations

from typing import Any

import numpy as np

from convbench.backends import array_kernels
from convbench.backends.base import Backend, Capabilities, Run
from convbench.machine.facts import machine_facts
from convbench.stimulus.arrays import Array, Weights
from convbench.stimulus.spec import PipelineSpec

_BLOCK_BYTES = 1 << 20
"""About what one core's second-level cache holds."""


class NumpyBackend(Backend):
    """The array-generic kernels on NumPy arrays, with NumPy's BLAS for the products."""

    name = "numpy"
    requires = ("numpy",)
    install = "pip install numpy"
    capabilities = Capabilities(
        devices=("cpu",),
        dtypes=("float64", "float32", "float16", "bfloat16"),
        variants={"": "im2col, 1x1 and depthwise kernels on NumPy's BLAS"},
    )

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        """Only the CPU."""
        return ("cpu",)

    def to_device(self, array: Array) -> Array:
        """Copy into native byte order and C order."""
        return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")

    def to_numpy(self, array: Array) -> Array:
        """Nothing to copy."""
        return array

    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        """Plan the pipeline; see :mod:`convbench.backends.array_kernels`."""
        self.check(pipeline, weights.dtype)
        return array_kernels.build(np, pipeline, self.place(weights), _BLOCK_BYTES)

    def versions(self) -> dict[str, str]:
        """NumPy, its BLAS, and the settings of threads."""
        config: Any = np.show_config(mode="dicts")
        blas = config["Build Dependencies"]["blas"]
        settings = machine_facts()["thread_settings"]
        return {"numpy": np.__version__, "blas": f"{blas['name']} {blas['version']}", **settings}
