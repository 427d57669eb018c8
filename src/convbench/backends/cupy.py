"""CuPy on an NVIDIA GPU: cuDNN's graphs, products on cuBLAS, and a CUDA kernel of our own.

reports/gpu.md says what was run on which card. Without one, all of this module is tested on NumPy's
arrays, the kernel by a C++ compiler, and cuDNN's part on a stand-in (tests/backends/test_cupy.py).
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import math
import os
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

from convbench.backends import array_kernels
from convbench.backends.base import Backend, Capabilities, Hole, HoleKind, Run
from convbench.backends.cuda_kernels import Kernels
from convbench.backends.cudnn import Cudnn
from convbench.errors import BackendUnavailable, Unavailability, Unsupported
from convbench.stimulus.arrays import Array, DeviceArray, Weights
from convbench.stimulus.formats import format_of
from convbench.stimulus.spec import PipelineSpec

if TYPE_CHECKING:
    from convbench.backends.gauges import DeviceTimer

_BLOCK_BYTES = 256 << 20
"""A workspace that fills the card with work, and still leaves room on a small one."""

_TINY_FLOPS = 1 << 23
_TINY_FLOPS_OF_ONE = 1 << 11
"""Up to so much in all, and for one output, a single launch of our kernel is taken to be fastest
without timing anything else: a launch costs 8 us, in which a card computes more than that."""

_MOST_FLOPS_OF_LOOPS = 1e9
"""Our kernel does 0.3 to 3 TFLOP/s: above this it is never the fastest (H200, reports/gpu.md)."""

_AS_FAST = 1.2
"""Who takes no longer than this is as fast. With 1.05 two processes often chose differently, and
what differs from one to the next cannot be compared (H200, reports/gpu.md)."""

_CALLS_TIMED = 10

_deviates = functools.partial(Hole, kind=HoleKind.DEVIATES, devices=("gpu",))


class CupyBackend(Backend):
    """CuPy arrays, and the fastest right way that there is for each pipeline.

    A tiny pipeline is computed by one launch of our own kernel. Otherwise a convolution and its
    bias are a graph of cuDNN's where that is installed and has an engine for it, else our kernel if
    it is depthwise, else products on cuBLAS. A pool is our kernel. A variant forces how
    convolutions are computed.
    """

    name = "cupy"
    requires = ("cupy",)
    install = 'pip install "convbench[cupy]"'
    capabilities = Capabilities(
        devices=("gpu",),
        dtypes=("float64", "float32", "tf32", "float16", "bfloat16"),
        variants={
            "": "cuDNN where cudnn-frontend is installed, else as below; in one launch if tiny",
            "cudnn": "convolution and bias as one graph of cuDNN's",
            "im2col": "NumPy's methods: im2col and 1x1 products on cuBLAS, depthwise tap by tap",
            "direct": "all of the pipeline in one launch of our CUDA kernel",
        },
        holes=(
            Hole(
                "tf32",
                "it is an arithmetic of tensor cores, which our kernel does not use",
                variants=("direct",),
                dtypes=("tf32",),
            ),
            _deviates(
                "denormal numbers in TF32",
                "cuDNN and cuBLAS take them for zeros where they narrow the factors",
                lambda pipeline, _: pipeline.conv is not None,
                dtypes=("tf32",),
                fills=("denormal",),
            ),
            _deviates(
                "nan and inf in groups of TF32",
                "cuDNN computes them as a dense convolution with zeros, and 0 * inf is nan in the"
                " other groups",
                lambda pipeline, _: pipeline.conv is not None and pipeline.conv.groups > 1,
                variants=("", "cudnn"),
                dtypes=("tf32",),
                fills=("nonfinite",),
            ),
            _deviates(
                "denormal numbers in a depthwise convolution",
                "it is computed tap by tap by CuPy's own kernels, which flush them to zero",
                lambda pipeline, _: pipeline.depthwise,
                variants=("im2col",),
                dtypes=("float32", "bfloat16"),
                fills=("denormal",),
            ),
        ),
    )

    def __init__(self, device: str, variant: str = "") -> None:
        super().__init__(device, variant)
        self._cupy: Any = self.library()
        self._device = self._cupy.cuda.Device(int(device.partition(":")[2] or 0))
        self._device.use()
        self._kernels = Kernels(self._cupy)
        self._set_tf32 = _tf32_switch()
        self._cudnn: Cudnn | None = None
        if variant in {"", "cudnn"}:
            try:
                self._cudnn = Cudnn(self._cupy, self._device.id)
            except BackendUnavailable as error:
                # A cuDNN that is broken is not passed over: that would only be seen as slow.
                if variant == "cudnn" or error.kind is not Unavailability.NOT_INSTALLED:
                    raise

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        """Every GPU that the CUDA runtime counts."""
        library: Any = cls.library()
        runtime = library.cuda.runtime
        try:
            count = runtime.getDeviceCount()
        except runtime.CUDARuntimeError as error:
            raise BackendUnavailable(
                Unavailability.NO_DEVICE,
                f"CUDA counts no GPU ({error})",
                _remedy(runtime.driverGetVersion(), runtime.runtimeGetVersion()),
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
        """Plan the pipeline in each way that may be the fastest, and keep the one that is."""
        self.check(pipeline, weights.dtype)
        if pipeline.n == 0:
            shape, storage = pipeline.output_shape, format_of(weights.dtype).storage
            return Run(lambda _: self._cupy.empty(shape, storage), "empty batch")
        placed = self.place(weights)
        one_launch = self.variant == "direct" or (self.variant == "" and _tiny(pipeline, placed))
        if pipeline.conv is None or one_launch:
            return self._kernels.build(pipeline, placed)
        return self._fastest(self._candidates(pipeline, placed), pipeline, placed)

    def _candidates(self, pipeline: PipelineSpec, weights: Weights) -> list[Run]:
        """All ways that the variant allows; where several are as fast, the first one is taken."""
        runs = self._convs(replace(pipeline, pool=None), weights)
        if pipeline.pool is not None:
            alone = PipelineSpec(*pipeline.conv_shape, pool=pipeline.pool)
            pool = self._kernels.build(alone, Weights(weights.dtype))
            runs = [_then(conv, pool) for conv in runs]
        loops = pipeline.depthwise or _flops_of_loops(pipeline) <= _MOST_FLOPS_OF_LOOPS
        if self.variant == "" and weights.dtype != "tf32" and loops:
            runs.append(self._kernels.build(pipeline, weights))
        return runs

    def _convs(self, pipeline: PipelineSpec, weights: Weights) -> list[Run]:
        """Plan a convolution and its bias on cuDNN and on cuBLAS, as far as the variant allows."""
        if self.variant == "im2col":
            return [self._products(pipeline, weights)]
        runs: list[Run] = []
        # float64 has no fast engine in cuDNN; cuBLAS has tensor cores for it.
        if self._cudnn is not None and (self.variant == "cudnn" or weights.dtype != "float64"):
            try:
                runs += self._cudnn.candidates(pipeline, weights, self._adder(pipeline, weights))
            except Unsupported:
                if self.variant == "cudnn":
                    raise
        if self.variant == "" and not pipeline.depthwise:
            try:
                runs.append(self._products(pipeline, weights))
            except Unsupported:
                if not runs:
                    raise
        return runs

    def _fastest(self, candidates: list[Run], pipeline: PipelineSpec, weights: Weights) -> Run:
        """The first that takes hardly longer than the fastest, as whoever calls it sees it.

        That includes what a call costs the host: 60 to 130 us for cuDNN through its frontend, where
        a launch of our kernel is 8 us (H200, reports/gpu.md).
        """
        if len(candidates) == 1:
            return candidates[0]
        x = self._cupy.ones(pipeline.input_shape, format_of(weights.dtype).storage)
        times_s = [self._time_s(run, x) for run in candidates]
        return next(
            run
            for run, time_s in zip(candidates, times_s, strict=True)
            if time_s <= _AS_FAST * min(times_s)
        )

    def _time_s(self, run: Run, x: DeviceArray) -> float:
        """The best of some calls, after one that loads what it needs."""
        run(x)
        self.synchronize()
        times_s = []
        for _ in range(_CALLS_TIMED):
            begin_s = perf_counter()
            run(x)
            self.synchronize()
            times_s.append(perf_counter() - begin_s)
        return min(times_s)

    def _adder(self, pipeline: PipelineSpec, weights: Weights) -> Callable[[DeviceArray], None]:
        """What adds the bias, if there is one, by our kernel: CuPy's own flush denormal numbers."""
        if not pipeline.bias:
            return lambda _: None
        return self._kernels.adder(pipeline.conv_shape, weights)

    def _products(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        """Plan a convolution as matrix products; see :mod:`convbench.backends.array_kernels`."""
        stored = replace(weights, dtype=format_of(weights.dtype).storage)
        plan = functools.partial(self._wide_products, pipeline, tf32=weights.dtype == "tf32")
        return array_kernels.in_float32(plan, stored)

    def _wide_products(self, pipeline: PipelineSpec, weights: Weights, *, tf32: bool) -> Run:
        bare = replace(pipeline, bias=False), replace(weights, bias=None)
        products = array_kernels.build(self._cupy, *bare, _BLOCK_BYTES)
        add_bias, set_tf32 = self._adder(pipeline, weights), self._set_tf32
        by_default = os.environ.get("CUPY_TF32", "0") not in {"", "0"}
        if set_tf32 is None and weights.dtype == "float32" and tf32 != by_default:
            raise Unsupported(
                "this CuPy has no switch for TF32 where it is looked for: set CUPY_TF32="
                f"{int(tf32)}, which decides for the whole process"
            )

        def function(x: DeviceArray) -> DeviceArray:
            if set_tf32 is not None:
                set_tf32(tf32)
            y = products(x)
            add_bias(y)
            return y

        return replace(products, function=function)

    def capture(self, run: Run, x: DeviceArray) -> Callable[[], DeviceArray]:
        """Record the launches of ``run(x)`` as a CUDA graph; see :class:`.gauges.Gauges`.

        Raises
        ------
        Unsupported
            If the run calls cuBLAS, which CuPy does not allow while it records.
        """
        cuda = self._cupy.cuda
        # What the run allocates belongs to the graph: nobody else may get it from the pool.
        pool = cuda.MemoryPool()
        stream = cuda.Stream(non_blocking=True)
        self.synchronize()
        with stream, cuda.using_allocator(pool.malloc):
            run(x)  # whatever is compiled and allocated once
            stream.synchronize()
            stream.begin_capture()
            try:
                y = run(x)
            except NotImplementedError as error:
                with contextlib.suppress(Exception):  # it only ends the recording
                    stream.end_capture()
                raise Unsupported(f"{run.algorithm} cannot be recorded: {error}") from error
            graph = stream.end_capture()
        held = (pool, run, x, y)

        def replay() -> DeviceArray:
            graph.launch()  # on the current stream, which the events are on too
            return held[-1]

        return replay

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
            **({"cudnn": "not used"} if self._cudnn is None else self._cudnn.versions()),
        }


def _tf32_switch() -> Callable[[bool], None] | None:
    """CuPy's switch for the products of float32, or None if this CuPy has none that is known.

    It is private: all that is public is the variable CUPY_TF32, which is read once.
    """
    try:
        linalg: Any = importlib.import_module("cupy._core._routines_linalg")
        set_type, types = linalg.set_compute_type, (
            linalg.COMPUTE_TYPE_DEFAULT, linalg.COMPUTE_TYPE_TF32,
        )  # fmt: skip
    except (ImportError, AttributeError):
        return None
    return lambda tf32: set_type("float32", types[tf32])


def _then(conv: Run, pool: Run) -> Run:
    return Run(lambda x: pool(conv(x)), f"{conv.algorithm}; {pool.algorithm}")


def _flops_of_loops(pipeline: PipelineSpec) -> int:
    """What our kernel computes: what windows of a pool share, it computes again."""
    return math.prod(pipeline.output_shape) * (pipeline.window_flops // pipeline.conv_shape[3])


def _tiny(pipeline: PipelineSpec, weights: Weights) -> bool:
    """Whether a single launch costs more than computing all of it by plain loops."""
    of_one = pipeline.window_flops // pipeline.conv_shape[3]
    few = of_one <= _TINY_FLOPS_OF_ONE and _flops_of_loops(pipeline) <= _TINY_FLOPS
    return weights.dtype != "tf32" and few


class _Events:
    """A pair of CUDA events; see :class:`convbench.backends.gauges.DeviceTimer`."""

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
