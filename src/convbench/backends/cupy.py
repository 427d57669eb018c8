"""CuPy on an NVIDIA GPU. Not yet run on a GPU: only its arithmetic is tested, through NumPy."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

from convbench.backends import array_kernels
from convbench.backends.base import Array, Backend, Capabilities, DeviceArray, Run, Weights
from convbench.errors import BackendUnavailable, Unavailability
from convbench.numerics import format_of
from convbench.spec import PipelineSpec

_BLOCK_BYTES = 256 << 20
"""A workspace that fills the card with work, and still leaves room on a small one."""


class CupyBackend(Backend):
    """The array-generic kernels on CuPy arrays, with cuBLAS for the products."""

    name = "cupy"
    requires = ("cupy",)
    install = 'pip install "convbench[cupy]"'
    capabilities = Capabilities(
        devices=("gpu",),
        dtypes=("float64", "float32", "tf32", "float16"),
        variants={"": "im2col, 1x1 and depthwise kernels on cuBLAS"},
    )

    def __init__(self, device: str, variant: str = "") -> None:
        super().__init__(device, variant)
        self._cupy: Any = self.library()
        self._device = self._cupy.cuda.Device(int(device.partition(":")[2] or 0))
        self._device.use()

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        """Every GPU that the CUDA runtime counts."""
        cupy: Any = cls.library()
        try:
            count = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise BackendUnavailable(
                Unavailability.NO_DEVICE,
                f"CUDA counts no GPU ({error})",
                _remedy(
                    cupy.cuda.runtime.driverGetVersion(), cupy.cuda.runtime.runtimeGetVersion()
                ),
            ) from error
        if count == 0:
            raise BackendUnavailable(
                Unavailability.NO_DEVICE,
                "CUDA counts 0 GPUs",
                "If the machine has one, see whether CUDA_VISIBLE_DEVICES hides it.",
            )
        return tuple(f"gpu:{i}" for i in range(count))

    def to_device(self, array: Array) -> DeviceArray:
        """Copy to the card in C order."""
        return self._cupy.asarray(array.astype(array.dtype.newbyteorder("="), order="C"))

    def to_numpy(self, array: DeviceArray) -> Array:
        """Copy from the card, waiting for it."""
        result: Array = self._cupy.asnumpy(array)
        return result

    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        """Plan the pipeline; see :mod:`convbench.backends.array_kernels`."""
        self.check(pipeline, weights.dtype)
        tf32 = weights.dtype == "tf32"
        placed = replace(self.place(weights), dtype=format_of(weights.dtype).storage)
        run = array_kernels.build(self._cupy, pipeline, placed, _BLOCK_BYTES)
        # CuPy has no public setting but the variable CUPY_TF32, which is read once.
        linalg = importlib.import_module("cupy._core._routines_linalg")
        compute_type = linalg.COMPUTE_TYPE_TF32 if tf32 else linalg.COMPUTE_TYPE_DEFAULT

        def function(x: DeviceArray) -> DeviceArray:
            linalg.set_compute_type("float32", compute_type)
            return run(x)

        return replace(run, function=function)

    def synchronize(self) -> None:
        """Wait for everything on the device, whatever stream it is on."""
        self._device.synchronize()

    def versions(self) -> dict[str, str]:
        """CuPy, the CUDA that it was built for, and the driver."""
        runtime = self._cupy.cuda.runtime
        return {
            **super().versions(),
            "cupy": self._cupy.__version__,
            "cuda": _version(runtime.runtimeGetVersion()),
            "driver": _version(runtime.driverGetVersion()),
        }


def _remedy(driver: int, runtime: int) -> str:
    """Say what to do when CUDA refuses to count its devices. Versions as CUDA gives them."""
    if driver == 0:
        return (
            "There is no NVIDIA driver: install one, or, in a container, start it with the GPU"
            " (--gpus all)."
        )
    if driver < runtime:
        return (
            f"The driver supports CUDA {_version(driver)} and CuPy needs {_version(runtime)}:"
            " upgrade the driver."
        )
    return "See whether `nvidia-smi` finds the card and CUDA_VISIBLE_DEVICES does not hide it."


def _version(number: int) -> str:
    """12090 -> "12.9"."""
    return f"{number // 1000}.{number % 1000 // 10}"
