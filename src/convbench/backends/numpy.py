"""NumPy on the CPU. It is always there, and every other backend is compared with it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from convbench.backends.array_kernels import in_float32
from convbench.backends.base import Backend, Capabilities, Run
from convbench.backends.methods import METHODS, plan
from convbench.machine.facts import machine_facts
from convbench.stimulus.arrays import Array, Weights
from convbench.stimulus.spec import PipelineSpec


class NumpyBackend(Backend):
    """NumPy arrays, with NumPy's BLAS for the products; :mod:`.methods` has the algorithms."""

    name = "numpy"
    requires = ("numpy",)
    install = "pip install numpy"
    capabilities = Capabilities(
        devices=("cpu",),
        dtypes=("float64", "float32", "float16", "bfloat16"),
        variants={
            "": "the fastest of the direct methods, by a rule",
            **{name: method.what for name, method in METHODS.items()},
        },
        holes=tuple(
            replace(hole, variants=(name,))
            for name, method in METHODS.items()
            for hole in method.holes
        ),
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
        """Plan the pipeline by the method of the variant, or by the one that suits it."""
        self.check(pipeline, weights.dtype)
        return in_float32(partial(plan, pipeline, method=self.variant), self.place(weights))

    def place(self, weights: Weights) -> Weights:
        """Copy no filters that are as they should be: a plan packs them, and holds them once."""
        filters, bias = weights.filters, weights.bias
        if filters is not None:
            filters = np.asarray(filters, filters.dtype.newbyteorder("="), order="C")
        return replace(
            weights, filters=filters, bias=None if bias is None else self.to_device(bias)
        )

    def versions(self) -> dict[str, str]:
        """NumPy, its BLAS, and the settings of threads."""
        config: Any = np.show_config(mode="dicts")
        blas = config["Build Dependencies"]["blas"]
        settings = machine_facts()["thread_settings"]
        return {"numpy": np.__version__, "blas": f"{blas['name']} {blas['version']}", **settings}
