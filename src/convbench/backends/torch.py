"""PyTorch, operation by operation in either memory format, or compiled by Inductor.

A tensor of the device is PyTorch's: of shape (N, C, H, W), and in memory NHWC (channels_last)
unless the variant says otherwise. It is turned outside of the clock, where it is copied.

Only the CPU's side of it has run: the same operations have on an NVIDIA GPU (reports/gpu.md), and
nothing has on Apple's GPUs (mps).
"""

from __future__ import annotations

import functools
import math
import os
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from convbench.backends.base import Backend, Capabilities, Hole, HoleKind, Run
from convbench.backends.gauges import DeviceTimer
from convbench.errors import Unsupported
from convbench.stimulus.arrays import Array, DeviceArray, Weights
from convbench.stimulus.formats import format_of
from convbench.stimulus.spec import PipelineSpec, Windows

Function = Callable[[Any], Any]
Stage = tuple[str, Function]

# Variables that change what is computed, or how.
_SETTINGS = ("ONEDNN_DEFAULT_FPMATH_MODE", "NVIDIA_TF32_OVERRIDE", "TORCH_CUDNN_V8_API_DISABLED")

_GPU_FLUSH_BYTES = 256 << 20
"""More than twice the L2 cache of any card so far."""

_short_on_cpu = functools.partial(
    Hole,
    applies=lambda pipeline, _: pipeline.conv is not None,
    kind=HoleKind.DEVIATES,
    devices=("cpu",),
    dtypes=("bfloat16",),
)


class TorchBackend(Backend):
    """The operations of ``torch.nn.functional``, without gradients.

    Float32 means IEEE float32, and TF32 has to be asked for. cuDNN is held to algorithms that give
    the same bits every time.
    """

    name = "torch"
    requires = ("torch",)
    install = 'pip install "convbench[torch]"'
    capabilities = Capabilities(
        devices=("cpu", "gpu", "mps"),
        dtypes=("float64", "float32", "tf32", "float16", "bfloat16"),
        variants={
            "": "operation by operation, NHWC in memory (channels_last)",
            "contiguous": "operation by operation, NCHW in memory",
            "compile": "compiled by torch.compile, NHWC in memory",
        },
        holes=(
            Hole(
                "tf32 without an NVIDIA GPU",
                "it is an arithmetic of NVIDIA's tensor cores",
                dtypes=("tf32",),
                devices=("cpu", "mps"),
            ),
            Hole(
                "float64 on Apple's GPUs",
                "Metal has no such numbers",
                dtypes=("float64",),
                devices=("mps",),
            ),
            _short_on_cpu(
                "denormal numbers in a bfloat16 convolution",
                "oneDNN takes them for zeros",
                fills=("denormal",),
            ),
            _short_on_cpu(
                "inf in a bfloat16 convolution",
                "oneDNN multiplies a window's neighbours by zero, and 0 * inf is nan",
                fills=("nonfinite",),
            ),
        ),
    )

    def __init__(self, device: str, variant: str = "") -> None:
        super().__init__(device, variant)
        torch: Any = self.library()
        self._torch = torch
        self._device = torch.device(device.replace("gpu", "cuda"))
        contiguous = variant == "contiguous"
        self._format = torch.contiguous_format if contiguous else torch.channels_last
        torch.backends.mkldnn.conv.fp32_precision = "ieee"
        torch.backends.mkldnn.matmul.fp32_precision = "ieee"
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)
            torch.backends.cuda.matmul.fp32_precision = "ieee"
            torch.backends.cudnn.deterministic = True

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        """The CPU, and every GPU that PyTorch sees, of NVIDIA or AMD and of Apple."""
        torch: Any = cls.library()
        apple = ("mps:0",) if torch.backends.mps.is_available() else ()
        return ("cpu", *(f"gpu:{i}" for i in range(torch.cuda.device_count())), *apple)

    def to_device(self, array: Array) -> DeviceArray:
        """Copy to the device; (N, H, W, C) becomes a tensor of shape (N, C, H, W)."""
        native = np.require(array, array.dtype.newbyteorder("="), ["C", "W"])
        # Inference tensors: what is computed of them passes by all that gradients need, in every
        # thread and for nobody else.
        with self._torch.inference_mode():
            if native.dtype.name == "bfloat16":  # which PyTorch does not know of NumPy
                tensor = self._torch.from_numpy(native.view("int16")).view(self._torch.bfloat16)
            else:
                tensor = self._torch.from_numpy(native)
            if native.ndim != 4:
                return tensor.to(self._device, copy=True)
            # The format has to be said: one channel alone lies in either as it is.
            tensor = tensor.permute(0, 3, 1, 2)
            return tensor.to(self._device, copy=True, memory_format=self._format)

    def to_numpy(self, array: DeviceArray) -> Array:
        """Copy to NumPy, (N, K, P, Q) into (N, P, Q, K), waiting for it."""
        tensor: Any = array.permute(0, 2, 3, 1) if array.ndim == 4 else array
        tensor = tensor.contiguous().cpu()
        if tensor.dtype == self._torch.bfloat16:
            short: Array = tensor.view(self._torch.int16).numpy().view("bfloat16")
            return short
        result: Array = tensor.numpy()
        return result

    def place(self, weights: Weights) -> Weights:
        """Copy weights to the device, filters as (K, C // groups, R, S) in the memory format."""
        filters = weights.filters
        if filters is not None:
            filters = filters.transpose(3, 0, 1, 2)
        return replace(weights, filters=filters).each(self.to_device)

    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        """Put the pipeline into PyTorch's operations, and compile it where that is asked for."""
        self.check(pipeline, weights.dtype)
        torch, placed = self._torch, self.place(weights)
        stages: list[Stage] = []
        if pipeline.conv is not None:
            stages.append(_conv(torch, pipeline, placed))
        elif pipeline.bias:
            bias: Any = placed.bias
            offset = bias[:, None, None]
            stages.append(("add", lambda x: x + offset))
        if pipeline.pool is not None:
            if pipeline.pool.op == "max":
                stages.append(_max_pool(torch, pipeline))
            else:
                stages.append(self._avg_pool(pipeline, weights.dtype))
        names, functions = zip(*stages, strict=True)
        function: Function = functions[0] if len(functions) == 1 else _chain(functions)
        compiler = ""
        if self.variant == "compile":
            compiler, function = "Inductor: ", self._compile(function)
            compiled_on = np.zeros(pipeline.input_shape, format_of(weights.dtype).storage)
            function(self.to_device(compiled_on))
        return Run(self._with_precision(function, weights.dtype), compiler + " + ".join(names))

    def synchronize(self) -> None:
        """Wait for the GPU. On the CPU every call returns when its result is there."""
        if self.device != "cpu":
            getattr(self._torch, self._device.type).synchronize()

    def device_timer(self) -> DeviceTimer | None:
        """CUDA events on the current stream."""
        return _Events(self._torch) if self._device.type == "cuda" else None

    def flusher(self) -> Callable[[], object]:
        """Write more than the caches hold."""
        if self.device == "cpu":
            return super().flusher()
        buffer = self._torch.zeros(_GPU_FLUSH_BYTES // 4, device=self._device)
        return lambda: buffer.fill_(1.0)

    def gemm(self, n: int) -> Callable[[DeviceArray], DeviceArray]:
        """Multiply by a matrix of n x n, in IEEE float32."""
        right = self.to_device(np.ones((n, n), "float32"))
        return lambda left: self._torch.matmul(left, right)

    def copier(self, size_bytes: int) -> Callable[[DeviceArray], object]:
        """Copy within the device's memory."""
        # None of inference, which nobody may write to.
        out = self._torch.empty(size_bytes // 4, device=self._device)
        copy: Callable[[DeviceArray], object] = out.copy_
        return copy

    def memory(self) -> Callable[[], int]:
        """What PyTorch's allocator has handed out on a card; on the CPU, as for any process."""
        if self.device == "cpu":
            return super().memory()
        if self._device.type != "cuda":
            raise Unsupported("PyTorch keeps no peak of the memory of Apple's GPUs")
        cuda = self._torch.cuda
        cuda.reset_peak_memory_stats(self._device)
        before = cuda.memory_allocated(self._device)
        return lambda: int(cuda.max_memory_allocated(self._device) - before)

    def versions(self) -> dict[str, str]:
        """PyTorch, the libraries under it, and the settings that decide the result."""
        torch = self._torch
        onednn = re.search(r"MKL-DNN v([\w.]+)|oneDNN v([\w.]+)", torch.__config__.show())
        versions = {
            **super().versions(),
            "torch": str(torch.__version__),
            "onednn": next(filter(None, onednn.groups()), "") if onednn else "none",
            "threads": str(torch.get_num_threads()),
            **{name: value for name in _SETTINGS if (value := os.environ.get(name))},
        }
        if self._device.type == "cuda":
            versions["cuda"] = str(torch.version.cuda or torch.version.hip)
            versions["cudnn"] = str(torch.backends.cudnn.version())
        return versions

    def _avg_pool(self, pipeline: PipelineSpec, dtype: str) -> Stage:
        """avg_pool2d has no dilation, and no divisors that follow padding which is not its own."""
        pool, windows = pipeline.pool, pipeline.pool_windows
        assert pool is not None
        functional = self._torch.nn.functional
        rows, columns = pipeline.pool_divisors
        name, pad, padding = _pad(self._torch, windows, 0.0, at_most_half=True)
        mean = functools.partial(
            functional.avg_pool2d, kernel_size=pool.window, stride=pool.stride, padding=padding
        )
        if pool.dilation == (1, 1):
            if len({*rows}) == len({*columns}) == 1:
                divisor = rows[0] * columns[0]
                uniform = functools.partial(mean, divisor_override=divisor)
                return f"{name}avg_pool2d", _after(pad, uniform)
            if pad is None and not pool.count_include_pad:
                return "avg_pool2d", functools.partial(mean, count_include_pad=False)
            name += "avg_pool2d of divisor 1"
            summed = _after(pad, functools.partial(mean, divisor_override=1))
        else:
            explicit, name = _explicit(windows), "pad + sum of taps"
            summed = _after(lambda x: functional.pad(x, explicit), _sum_of_taps(windows))
        # A sum is not rounded to 16 bits before it is divided.
        wide = "float64" if dtype == "float64" else "float32"
        kind = getattr(self._torch, wide)
        divisors = self.to_device(np.outer(rows, columns).astype(wide))

        def compute(x: DeviceArray) -> DeviceArray:
            return (summed(x.to(kind)) / divisors).to(x.dtype)

        return name, compute

    def _compile(self, function: Function) -> Function:
        """Compile for these shapes alone; what cannot be compiled as a whole is an error."""

        def compute(x: DeviceArray) -> DeviceArray:
            return function(x)

        # PyTorch keeps what it has compiled by the code object, and gives up at the ninth.
        compute.__code__ = compute.__code__.replace()
        compiled: Function = self._torch.compile(compute, dynamic=False, fullgraph=True)
        return compiled

    def _with_precision(self, function: Function, dtype: str) -> Function:
        """Say before each call on a card what float32 means: one switch for the whole process."""
        if self._device.type != "cuda" or format_of(dtype).storage != "float32":
            return function
        conv = self._torch.backends.cudnn.conv
        precision = "tf32" if dtype == "tf32" else "ieee"

        def precise(x: DeviceArray) -> DeviceArray:
            conv.fp32_precision = precision
            return function(x)

        return precise


def _chain(functions: tuple[Function, ...]) -> Function:
    def compute(x: DeviceArray) -> DeviceArray:
        for function in functions:
            x = function(x)
        return x

    return compute


def _conv(torch: Any, pipeline: PipelineSpec, weights: Weights) -> Stage:
    """The convolution and its bias."""
    conv = pipeline.conv
    assert conv is not None
    name, pad, padding = _pad(torch, pipeline.conv_windows, 0.0)
    convolve = functools.partial(
        torch.nn.functional.conv2d,
        weight=weights.filters,
        bias=weights.bias,
        stride=conv.stride,
        padding=padding,
        dilation=conv.dilation,
        groups=conv.groups,
    )
    return f"{name}conv2d", _after(pad, convolve)


def _max_pool(torch: Any, pipeline: PipelineSpec) -> Stage:
    pool = pipeline.pool
    assert pool is not None
    name, pad, padding = _pad(torch, pipeline.pool_windows, -math.inf, at_most_half=True)
    largest = functools.partial(
        torch.nn.functional.max_pool2d,
        kernel_size=pool.window,
        stride=pool.stride,
        padding=padding,
        dilation=pool.dilation,
    )
    return f"{name}max_pool2d", _after(pad, largest)


def _sum_of_taps(windows: Windows) -> Function:
    """Add the taps of every window, first over the height and then over the width."""

    def compute(x: DeviceArray) -> DeviceArray:
        for axis, window in enumerate(windows, start=2):
            length = (window.out - 1) * window.stride + 1
            taps = [
                x[(slice(None),) * axis + (slice(start, start + length, window.stride),)]
                for start in range(0, window.extent, window.dilation)
            ]
            x = functools.reduce(lambda a, b: a + b, taps)
        return x

    return compute


# -- padding ---------------------------------------------------------------------------------------


def _pad(
    torch: Any, windows: Windows, value: float, *, at_most_half: bool = False
) -> tuple[str, Function | None, tuple[int, int]]:
    """The name and the function of what pads, if the operation cannot by itself; and its padding.

    An operation pads both sides alike; where that makes no other window, the last one reads less of
    it. A pool pads by `at_most_half` of its taps, whatever its dilation.
    """
    if all(
        (w.size + 2 * w.before - w.extent) // w.stride + 1 == w.out
        and (not at_most_half or w.before <= w.taps // 2)
        for w in windows
    ):
        rows, columns = windows
        return "", None, (rows.before, columns.before)
    explicit = _explicit(windows)
    return "pad + ", lambda x: torch.nn.functional.pad(x, explicit, value=value), (0, 0)


def _explicit(windows: Windows) -> tuple[int, ...]:
    """Padding in the order of torch.nn.functional.pad: the last axis first."""
    return tuple(pads for w in reversed(windows) for pads in (w.before, w.after))


def _after(pad: Function | None, function: Function) -> Function:
    if pad is None:
        return function
    return lambda x: function(pad(x))


class _Events:
    """A pair of CUDA events; see :class:`convbench.backends.gauges.DeviceTimer`."""

    def __init__(self, torch: Any) -> None:
        self._start, self._stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def start(self) -> None:
        self._start.record()

    def stop_s(self) -> float:
        self._stop.record()
        self._stop.synchronize()
        return float(self._start.elapsed_time(self._stop)) / 1e3
