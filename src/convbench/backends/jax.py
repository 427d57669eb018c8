"""JAX, compiled by XLA.

Only the CPU's side of it has run: the same operations have on an NVIDIA GPU (reports/gpu.md).
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from convbench.backends.base import Backend, Capabilities, Hole, HoleKind, Run
from convbench.errors import Unsupported
from convbench.stimulus.arrays import Array, DeviceArray, Weights
from convbench.stimulus.formats import format_of
from convbench.stimulus.spec import PipelineSpec, Windows

Stage = tuple[str, Callable[[Any, Any, Any], Any]]
"""A name, and what computes it of (x, filters, bias)."""

# Variables that change what is computed, or how.
_SETTINGS = (
    "XLA_FLAGS",
    "NVIDIA_TF32_OVERRIDE",
    "TF_ENABLE_WINOGRAD_NONFUSED",
    "TF_ENABLE_FFT_TILING_FORWARD",
)

_GPU_FLUSH_BYTES = 256 << 20
"""More than twice the L2 cache of any card so far; JAX does not tell how large it is."""


class JaxBackend(Backend):
    """The operations of ``jax.lax`` in one compiled function, with the weights as its arguments.

    Float32 means IEEE float32, and TF32 has to be asked for. On a card XLA is held to operations
    that give the same bits every time.
    """

    name = "jax"
    requires = ("jax",)
    install = 'pip install "convbench[jax]"'
    # Or one process takes the whole card.
    environment: ClassVar = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    capabilities = Capabilities(
        devices=("cpu", "gpu"),
        dtypes=("float64", "float32", "tf32", "float16", "bfloat16"),
        variants={"": "compiled by XLA: jax.jit"},
        holes=(
            Hole(
                "tf32 on a CPU",
                "it is an arithmetic of NVIDIA's tensor cores",
                dtypes=("tf32",),
                devices=("cpu",),
            ),
            Hole(
                "denormal numbers",
                "XLA's threads flush them to zero; those of float16 it computes as normal float32",
                kind=HoleKind.DEVIATES,
                devices=("cpu",),
                dtypes=("float64", "float32", "bfloat16"),
                fills=("denormal",),
            ),
            Hole(
                "nan and inf in a depthwise convolution of float64",
                "XLA computes it as a dense one with zeros, and 0 * inf is nan in every channel",
                lambda pipeline, _: (
                    pipeline.conv is not None and 1 < pipeline.conv.groups == pipeline.c
                ),
                kind=HoleKind.DEVIATES,
                devices=("cpu",),
                dtypes=("float64",),
                fills=("nonfinite",),
            ),
        ),
    )

    def __init__(self, device: str, variant: str = "") -> None:
        super().__init__(device, variant)
        self._jax: Any = self.library()
        self._jax.config.update("jax_enable_x64", True)  # or float64 silently becomes float32
        kind, _, index = device.partition(":")
        self._device = self._jax.devices(kind)[int(index or 0)]

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        """The CPU, and every GPU that JAX sees."""
        jax: Any = cls.library()
        try:
            gpus = len(jax.devices("gpu"))
        except RuntimeError:  # this JAX has no backend for them, or it found none
            gpus = 0
        return ("cpu", *(f"gpu:{i}" for i in range(gpus)))

    def to_device(self, array: Array) -> DeviceArray:
        """Copy to the device, in native byte order and C order."""
        native = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
        return self._jax.device_put(native, self._device)

    def to_numpy(self, array: DeviceArray) -> Array:
        """Copy to NumPy, waiting for it."""
        return np.asarray(array)

    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        """Compile the pipeline for its shapes."""
        self.check(pipeline, weights.dtype)
        placed = self.place(weights)
        names, stages = zip(*_stages(self._jax, pipeline, weights.dtype), strict=True)

        def compute(x: Any, filters: Any, bias: Any) -> Any:
            for stage in stages:
                x = stage(x, filters, bias)
            return x

        options = {} if self.device == "cpu" else {"xla_gpu_exclude_nondeterministic_ops": True}
        function = self._jax.jit(compute, compiler_options=options)
        filters, bias = placed.filters, placed.bias
        zeros = np.zeros(pipeline.input_shape, format_of(weights.dtype).storage)
        function(self.to_device(zeros), filters, bias)
        # JAX returns before the result is there, on the CPU too, and cannot wait for a device.
        return Run(
            lambda x: function(x, filters, bias).block_until_ready(), "XLA: " + " + ".join(names)
        )

    def flusher(self) -> Callable[[], object]:
        """Write more than the caches hold."""
        if self.device == "cpu":
            return super().flusher()
        buffer = self.to_device(np.zeros(_GPU_FLUSH_BYTES // 4, "float32"))
        write = self._jax.jit(lambda x: x + 1)
        return lambda: write(buffer).block_until_ready()

    def gemm(self, n: int) -> Callable[[DeviceArray], DeviceArray]:
        """Multiply by a matrix of n x n, in IEEE float32."""
        right = self.to_device(np.ones((n, n), "float32"))
        product = self._jax.jit(
            lambda left, right: self._jax.lax.dot(left, right, precision=_precision("float32"))
        )
        return lambda left: product(left, right).block_until_ready()

    def copier(self, size_bytes: int) -> Callable[[DeviceArray], object]:
        """Copy within the device's memory."""
        if self.device == "cpu":
            return super().copier(size_bytes)
        return lambda x: x.copy().block_until_ready()

    def memory(self) -> Callable[[], int]:
        """On the CPU, as for any process."""
        if self.device != "cpu":
            raise Unsupported("JAX's peak of the memory of a card is that of the whole process")
        return super().memory()

    def versions(self) -> dict[str, str]:
        """JAX, the libraries under it, and the settings that decide the result."""
        versions = {
            **super().versions(),
            "jax": self._jax.__version__,
            "jaxlib": str(importlib.import_module("jaxlib").__version__),
            **{name: value for name in _SETTINGS if (value := os.environ.get(name))},
        }
        if self.device != "cpu":
            versions["cuda"] = str(self._device.client.platform_version)
        return versions


def _precision(dtype: str) -> str:
    """What XLA may make of the factors: by default TF32 of float32, on a card that has it."""
    return "highest" if dtype == "float32" else "default"


def _stages(jax: Any, pipeline: PipelineSpec, dtype: str) -> list[Stage]:
    """Choose an operation for every stage that is present, in their order."""
    stages: list[Stage] = []
    if pipeline.conv is not None:
        stages.append(_conv(jax, pipeline, dtype))
    if pipeline.bias:
        stages.append(("add", lambda x, _, bias: x + bias))
    if pipeline.pool is not None:
        stages.append(_pool(jax, pipeline, dtype))
    return stages


def _conv(jax: Any, pipeline: PipelineSpec, dtype: str) -> Stage:
    conv = pipeline.conv
    assert conv is not None
    convolve = functools.partial(
        jax.lax.conv_general_dilated,
        window_strides=conv.stride,
        padding=_padding(pipeline.conv_windows),
        rhs_dilation=conv.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=conv.groups,
        precision=_precision(dtype),
    )
    return "conv_general_dilated", lambda x, filters, _: convolve(x, filters)


def _pool(jax: Any, pipeline: PipelineSpec, dtype: str) -> Stage:
    lax, pool = jax.lax, pipeline.pool
    assert pool is not None
    reduce = functools.partial(
        lax.reduce_window,
        window_dimensions=(1, *pool.window, 1),
        window_strides=(1, *pool.stride, 1),
        padding=[(0, 0), *_padding(pipeline.pool_windows), (0, 0)],
        window_dilation=(1, *pool.dilation, 1),
    )
    if pool.op == "max":
        lowest = np.array(-np.inf, format_of(dtype).storage)

        def greater(a: Any, b: Any) -> Any:  # XLA's own maximum loses nan where it is vectorized
            return lax.select(lax.bitwise_or(lax.ne(a, a), lax.gt(a, b)), a, b)

        return "max over windows", lambda x, *_: reduce(x, lowest, greater)
    # A sum is not rounded to 16 bits before it is divided.
    wide = "float64" if dtype == "float64" else "float32"
    divisors = np.multiply.outer(*pipeline.pool_divisors)[:, :, np.newaxis].astype(wide)

    def average(x: Any, *_: Any) -> Any:
        total = reduce(x.astype(wide), np.zeros((), wide), lax.add)
        return (total / divisors).astype(x.dtype)

    return "mean over windows", average


def _padding(windows: Windows) -> list[tuple[int, int]]:
    return [(window.before, window.after) for window in windows]
