"""CuPy on an NVIDIA GPU. Not yet run on a GPU: only its arithmetic is tested, through NumPy."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from convbench.backends import array_kernels
from convbench.backends.base import Array, Backend, Capabilities, DeviceArray, Run, Weights
from convbench.errors import BackendUnavailable, Unavailability
from convbench.numerics import format_of
from convbench.spec import PipelineSpec

if TYPE_CHECKING:
    from convbench.timing import DeviceTimer

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

    def device_timer(self) -> DeviceTimer:
        """CUDA events on the current stream."""
        return _Events(self._cupy)

    def flusher(self) -> Callable[[], object]:
        """Write more than the L2 cache holds."""
        buffer = self._cupy.zeros(2 * self._device.attributes["L2CacheSize"], "uint8")
        return lambda: buffer.fill(1)

    def gemm(self, n: int) -> Callable[[DeviceArray], DeviceArray]:
        """Multiply by a matrix of n x n, with cuBLAS in IEEE float32."""
        right, out = self._cupy.ones((n, n), "float32"), self._cupy.empty((n, n), "float32")
        return lambda left: self._cupy.matmul(left, right, out=out)

    def copier(self, size_bytes: int) -> Callable[[DeviceArray], object]:
        """Copy within the card's memory."""
        out = self._cupy.empty(size_bytes // 4, "float32")
        return lambda x: self._cupy.copyto(out, x)

    def memory(self) -> Callable[[], int]:
        """What CuPy's pool has taken from the card: it gives nothing back by itself."""
        pool = self._cupy.get_default_memory_pool()
        pool.free_all_blocks()
        before = pool.total_bytes()
        return lambda: int(pool.total_bytes() - before)

    def versions(self) -> dict[str, str]:
        """CuPy, the CUDA that it was built for, and the driver."""
        runtime = self._cupy.cuda.runtime
        return {
            **super().versions(),
            "cupy": self._cupy.__version__,
            "cuda": _version(runtime.runtimeGetVersion()),
            "driver": _version(runtime.driverGetVersion()),
        }


class _Events:
    """A pair of CUDA events; see :class:`convbench.timing.DeviceTimer`."""

    def __init__(self, cupy: Any) -> None:
        self._cuda = cupy.cuda
        self._start, self._stop = cupy.cuda.Event(), cupy.cuda.Event()

    def start(self) -> None:
        self._start.record()

    def stop_s(self) -> float:
        self._stop.record()
        self._stop.synchronize()
        return float(self._cuda.get_elapsed_time(self._start, self._stop)) / 1e3


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
