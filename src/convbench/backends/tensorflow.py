"""TensorFlow, as a traced graph, operation by operation, or compiled by XLA.

What TensorFlow 2.21 does differently from the definition, found by running it on a CPU:

- A max pool passes over a NaN, except over dilated windows, for which TensorFlow has no operation:
  there it is propagated, by XLA not always. Without XLA the maximum of nothing but -inf is the
  lowest finite number.
- oneDNN's float32 convolution gives an empty batch the shape of its input, so an empty batch is
  not computed by it.
- XLA multiplies by the reciprocal where an average is divided: it may differ in the last digits.
- In 16-bit formats a dense convolution adds in float32, but a depthwise one and an average add in
  the format itself, and oneDNN's bfloat16 has faults of its own (see `_short_fails`): on a CPU all
  of these are computed in float32, and rounded once.

The GPU side is not yet run on a GPU.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from convbench.backends.base import Backend, Capabilities, Hole, HoleKind, Run
from convbench.stimulus.arrays import Array, DeviceArray, Weights
from convbench.stimulus.formats import format_of
from convbench.stimulus.spec import PipelineSpec, PoolSpec, Window, Windows, present

Function = Callable[[Any], Any]
Stage = tuple[str, Function]
Pads = list[tuple[int, int]]
Padding = str | Pads

# Further variables that change what is computed, or how.
_SETTINGS = (
    "TF_ENABLE_WINOGRAD_NONFUSED",
    "TF_ENABLE_FFT_TILING_FORWARD",
    "TF_SET_ONEDNN_FPMATH_MODE",
    "TF_CUDNN_USE_AUTOTUNE",
    "NVIDIA_TF32_OVERRIDE",
    "TF_XLA_FLAGS",
    "XLA_FLAGS",
)

_GPU_FLUSH_BYTES = 256 << 20
"""More than twice the L2 cache of any card so far; TensorFlow does not tell how large it is."""

# The GPU has not been asked yet.
_on_cpu = functools.partial(Hole, devices=("cpu",))
_nonfinite = functools.partial(_on_cpu, kind=HoleKind.DEVIATES, fills=("nonfinite",))


class TensorFlowBackend(Backend):
    """The operations of ``tf.nn``, with the weights as constants of the device.

    Float32 means IEEE float32, and TF32 has to be asked for. Soft placement is off, so that what
    the device cannot run is an error and not a silent run on the CPU.
    """

    name = "tensorflow"
    requires = ("tensorflow",)
    install = 'pip install "convbench[tensorflow]"'
    environment: ClassVar = {
        # Errors only. It cannot silence what is said about oneDNN and CUDA while they load.
        "TF_CPP_MIN_LOG_LEVEL": "2",
        # Keep cuDNN to direct methods: Winograd and FFT have another error law.
        "TF_ENABLE_WINOGRAD_NONFUSED": "0",
        "TF_ENABLE_FFT_TILING_FORWARD": "0",
    }
    capabilities = Capabilities(
        devices=("cpu", "gpu"),
        dtypes=("float64", "float32", "tf32", "float16", "bfloat16"),
        variants={
            "": "a graph: the concrete function of a tf.function",
            "eager": "operation by operation",
            "xla": "the graph compiled by XLA",
        },
        holes=(
            _on_cpu(
                "tf32 on a CPU", "it is an arithmetic of NVIDIA's tensor cores", dtypes=("tf32",)
            ),
            _on_cpu(
                "denormal numbers",
                "TensorFlow's threads flush them to zero, and Python has no setting for it",
                kind=HoleKind.DEVIATES,
                fills=("denormal",),
            ),
            _nonfinite(
                "nan and -inf in a max pool",
                "tf.nn.max_pool2d passes over nan, and gives the lowest finite number for -inf",
                lambda pipeline, _: _has_max_pool(pipeline, dilated=False),
                variants=("", "eager"),
            ),
            _nonfinite(
                "nan in a max pool",
                "XLA's maximum passes over it",
                lambda pipeline, _: _has_max_pool(pipeline),
                variants=("xla",),
            ),
            _nonfinite(
                "nan and inf in a depthwise convolution of float64",
                "XLA computes it as a dense one with zeros, and 0 * inf is nan in every channel",
                lambda pipeline, _: pipeline.depthwise,
                variants=("xla",),
                dtypes=("float64",),
            ),
            _nonfinite(
                "inf in a bfloat16 convolution",
                "oneDNN multiplies a window's neighbours by zero, and 0 * inf is nan",
                lambda pipeline, _: pipeline.conv is not None,
                variants=("", "eager"),
                dtypes=("bfloat16",),
            ),
            _on_cpu(
                "float64 convolutions above 0.3 GFLOP",
                "XLA computes them with plain loops, many times slower than the graph",
                lambda pipeline, _: pipeline.conv is not None,
                variants=("xla",),
                dtypes=("float64",),
                kind=HoleKind.SLOW,
                above_flops=3e8,
            ),
        ),
    )

    def __init__(self, device: str, variant: str = "") -> None:
        super().__init__(device, variant)
        tf: Any = self.library()
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
        tf.config.experimental.enable_tensor_float_32_execution(False)
        tf.config.set_soft_device_placement(False)
        kind, _, index = device.partition(":")
        self._tf = tf
        self._logical_device = f"{kind.upper()}:{index or 0}"

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        """The CPU, and every GPU that TensorFlow sees."""
        tf: Any = cls.library()
        gpus = tf.config.list_physical_devices("GPU")
        return ("cpu", *(f"gpu:{i}" for i in range(len(gpus))))

    def to_device(self, array: Array) -> DeviceArray:
        """Copy to the device, in native byte order and C order."""
        with self._tf.device(self._logical_device):
            return self._tf.constant(
                np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
            )

    def to_numpy(self, array: DeviceArray) -> Array:
        """Copy to NumPy, waiting for it."""
        result: Array = array.numpy()
        return result

    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        """Trace and compile the pipeline, and run it once to see where it runs.

        Raises
        ------
        RuntimeError
            If the output is on another device.
        """
        self.check(pipeline, weights.dtype)
        tf32 = weights.dtype == "tf32"
        weights = replace(weights, dtype=format_of(weights.dtype).storage)
        with self._tf.device(self._logical_device):
            names, stages = zip(*self._stages(pipeline, weights), strict=True)
            function = self._on_device(self._compile(pipeline, weights.dtype, stages), tf32=tf32)
            y = function(self._tf.zeros(pipeline.input_shape, weights.dtype))
        if not y.device.endswith(f"/device:{self._logical_device}"):
            raise RuntimeError(
                f"tensorflow: the output is on {y.device}; expected {self._logical_device}."
                " Choose the device that computes it."
            )
        compiler = "XLA: " if self.variant == "xla" else ""
        return Run(function, compiler + " + ".join(names))

    def synchronize(self) -> None:
        """Wait for the GPU. On the CPU every call returns when its result is there."""
        if self.device != "cpu":
            # tf.test.experimental.sync_devices() does the same to every device of the machine.
            with self._tf.device(self._logical_device):
                self._tf.raw_ops.SyncDevice()

    def flusher(self) -> Callable[[], object]:
        """Write more than the caches hold."""
        if self.device == "cpu":
            return super().flusher()
        with self._tf.device(self._logical_device):
            buffer = self._tf.Variable(self._tf.zeros(_GPU_FLUSH_BYTES // 4, "float32"))
        return lambda: buffer.assign_add(buffer)

    def gemm(self, n: int) -> Callable[[DeviceArray], DeviceArray]:
        """Multiply by a matrix of n x n, in a graph."""
        right = self.to_device(np.ones((n, n), "float32"))
        product = self._tf.function(lambda left: self._tf.linalg.matmul(left, right))
        return self._on_device(product, tf32=False)

    def copier(self, size_bytes: int) -> Callable[[DeviceArray], object]:
        """Copy within the device's memory."""
        if self.device == "cpu":
            return super().copier(size_bytes)
        with self._tf.device(self._logical_device):
            out = self._tf.Variable(self._tf.zeros(size_bytes // 4, "float32"))
        assign: Callable[[DeviceArray], object] = out.assign
        return assign

    def memory(self) -> Callable[[], int]:
        """What TensorFlow's allocator has handed out on a card; on the CPU, as for any process."""
        if self.device == "cpu":
            return super().memory()
        memory = self._tf.config.experimental
        memory.reset_memory_stats(self._logical_device)
        before = memory.get_memory_info(self._logical_device)["current"]
        return lambda: int(memory.get_memory_info(self._logical_device)["peak"] - before)

    def versions(self) -> dict[str, str]:
        """TensorFlow, the libraries under it, and the settings that decide the result."""
        threads = self._tf.config.threading
        versions = {
            **super().versions(),
            "tensorflow": self._tf.__version__,
            "onednn": _onednn(),
            "tf32": _switch(self._tf.config.experimental.tensor_float_32_execution_enabled()),
            "inter_op_threads": str(threads.get_inter_op_parallelism_threads() or "automatic"),
            "intra_op_threads": str(threads.get_intra_op_parallelism_threads() or "automatic"),
            **{name: value for name in _SETTINGS if (value := os.environ.get(name))},
        }
        if self.device != "cpu":
            build = self._tf.sysconfig.get_build_info()
            versions["cuda"] = str(build["cuda_version"])
            versions["cudnn"] = str(build["cudnn_version"])
        return versions

    def _stages(self, pipeline: PipelineSpec, weights: Weights) -> list[Stage]:
        """Choose an operation for every stage that is present, in their order."""
        if pipeline.n == 0:
            shape = pipeline.output_shape
            return [("empty batch", lambda x: self._tf.reshape(x, shape))]
        placed = self.place(weights)
        onednn = self._uses_onednn(weights.dtype)
        short = weights.dtype in {"float16", "bfloat16"} and self.device == "cpu"
        stages: list[Stage] = []
        if pipeline.conv is not None:
            if short and _short_fails(pipeline):
                filters = self._tf.cast(placed.filters, "float32")
                conv = _conv(self._tf, pipeline, filters, onednn=self._uses_onednn("float32"))
                stages.append(_in_float32(self._tf, weights.dtype, conv))
            else:
                stages.append(_conv(self._tf, pipeline, placed.filters, onednn=onednn))
        if pipeline.bias:
            stages.append(_bias(self._tf, pipeline, placed.bias, onednn=onednn))
        if (pool := pipeline.pool) is not None:
            if pool.op == "max":
                xla = self.variant == "xla"
                stages.append(_max_pool(self._tf, pool, pipeline.pool_windows, xla=xla))
            elif short:
                average = _avg_pool(self._tf, pool, pipeline, "float32")
                stages.append(_in_float32(self._tf, weights.dtype, average))
            else:
                stages.append(_avg_pool(self._tf, pool, pipeline, weights.dtype))
        return stages

    def _uses_onednn(self, dtype: str) -> bool:
        eligible = self.device == "cpu" and self.variant != "xla"
        return eligible and dtype == "float32" and _onednn() == "on"

    def _compile(self, pipeline: PipelineSpec, dtype: str, stages: Sequence[Function]) -> Function:
        """Make one function of the stages."""

        def compute(x: DeviceArray) -> DeviceArray:
            for stage in stages:
                x = stage(x)
            return x

        if self.variant == "eager":
            return compute
        concrete = self._tf.function(
            compute,
            input_signature=[self._tf.TensorSpec(pipeline.input_shape, dtype)],
            autograph=False,
            jit_compile=self.variant == "xla",
        ).get_concrete_function()
        # Calling `concrete` itself binds the arguments to the signature first, for 25 us and more.
        # What does not is private, and another TensorFlow may lack it.
        call = getattr(getattr(concrete, "inference_fn", None), "call_preflattened", None)
        if call is None:
            public: Function = concrete
            return public
        captured = concrete.captured_inputs
        return lambda x: call([x, *captured])

    def _on_device(self, function: Function, *, tf32: bool) -> Function:
        """Run a function under the device; where there is no other, the scope only costs 8 us."""
        if len(self.devices()) == 1:
            return function
        set_tf32 = self._tf.config.experimental.enable_tensor_float_32_execution

        def scoped(x: DeviceArray) -> DeviceArray:
            set_tf32(tf32)  # one switch for the whole process, read when a kernel is launched
            with self._tf.device(self._logical_device):
                return function(x)

        return scoped


def _has_max_pool(pipeline: PipelineSpec, *, dilated: bool = True) -> bool:
    """Whether there is one; without `dilated`, one that tf.nn.max_pool2d computes."""
    pool = pipeline.pool
    return pool is not None and pool.op == "max" and (dilated or pool.dilation == (1, 1))


def _in_float32(tf: Any, dtype: str, stage: Stage) -> Stage:
    name, function = stage
    return f"{name} in float32", lambda x: tf.cast(function(tf.cast(x, "float32")), dtype)


# -- convolution and bias --------------------------------------------------------------------------


def _conv(tf: Any, pipeline: PipelineSpec, filters: DeviceArray, *, onednn: bool) -> Stage:
    conv = present(pipeline.conv)
    rows, columns = pipeline.conv_windows
    padding = _padding((rows, columns))

    # Grouped, tf.nn.conv2d is depthwise too, but up to 18 times slower where it is not oneDNN's.
    # tf.nn.depthwise_conv2d has no unequal strides, and for dilation moves pixels into the batch.
    plain = conv.dilation == (1, 1) and conv.stride[0] == conv.stride[1]
    if pipeline.depthwise and plain and not onednn:
        depthwise = tf.reshape(filters, (conv.r, conv.s, pipeline.c, conv.k // pipeline.c))
        strides = (1, *conv.stride, 1)
        separate = functools.partial(tf.nn.depthwise_conv2d, filter=depthwise, strides=strides)
        return "tf.nn.depthwise_conv2d", lambda x: separate(x, padding=padding)

    def convolve(x: DeviceArray, padding: Padding) -> DeviceArray:
        return tf.nn.conv2d(x, filters, conv.stride, padding, dilations=conv.dilation)

    if onednn and pipeline.c == 1 and columns.out == 1 < columns.stride:
        # oneDNN 3.7 is wrong here from the second image on, unless there is another column.
        wider = _explicit((rows, replace(columns, after=columns.after + columns.stride)))
        return "tf.nn.conv2d of two columns", lambda x: convolve(x, wider)[:, :, :1]
    # TensorFlow takes the number of groups from the shapes.
    name = "tf.nn.conv2d" if conv.groups == 1 else f"tf.nn.conv2d in {conv.groups} groups"
    return name, lambda x: convolve(x, padding)


def _bias(tf: Any, pipeline: PipelineSpec, bias: DeviceArray, *, onednn: bool) -> Stage:
    if pipeline.conv is not None and _fusing_fails(pipeline, onednn=onednn):
        negated = -bias
        return "tf.subtract", lambda x: tf.subtract(x, negated)
    return "tf.nn.bias_add", lambda x: tf.nn.bias_add(x, bias)


def _fusing_fails(pipeline: PipelineSpec, *, onednn: bool) -> bool:
    """Whether the one kernel that a graph makes of a convolution and its bias is broken.

    oneDNN's ends the process by a segmentation fault where a window lies in the padding entirely;
    the other has no groups. A subtraction is not recognised as a bias and so not fused.
    """
    conv = present(pipeline.conv)
    return _sees_padding_only(pipeline) or (conv.groups > 1 and not onednn)


def _short_fails(pipeline: PipelineSpec) -> bool:
    """Whether the CPU's 16-bit convolution is broken, or adds in 16 bits.

    oneDNN's bfloat16 ends the process by a segmentation fault where a window lies in the padding
    entirely, and is wrong for some outputs of one column; depthwise ones add in 16 bits.
    """
    one_column = pipeline.conv_windows[1].out == 1
    return present(pipeline.conv).groups > 1 or one_column or _sees_padding_only(pipeline)


def _sees_padding_only(pipeline: PipelineSpec) -> bool:
    """Whether a window of the convolution lies in the padding entirely."""
    return any(max(w.before, w.after) >= w.extent for w in pipeline.conv_windows)


# -- pooling ---------------------------------------------------------------------------------------


def _max_pool(tf: Any, pool: PoolSpec, windows: Windows, *, xla: bool) -> Stage:
    padding = _padding(windows)
    pad = _pad(tf, windows, -np.inf)
    largest = functools.partial(tf.nn.max_pool2d, ksize=pool.window, strides=pool.stride)
    if pool.dilation != (1, 1):
        return "tf.maximum over taps", lambda x: _over_taps(tf.maximum, pad(x), windows)
    if xla and not isinstance(padding, str):  # XLA "does not support [...] explicit padding"
        return "tf.pad + tf.nn.max_pool2d", lambda x: largest(pad(x), padding="VALID")
    return "tf.nn.max_pool2d", lambda x: largest(x, padding=padding)


def _avg_pool(tf: Any, pool: PoolSpec, pipeline: PipelineSpec, dtype: str) -> Stage:
    """tf.nn.avg_pool2d pads only for SAME, never counts its padding, and has no divisor."""
    windows = pipeline.pool_windows
    padding = _padding(windows)
    pad = _pad(tf, windows, 0)
    mean = functools.partial(tf.nn.avg_pool2d, ksize=pool.window, strides=pool.stride)
    rows, columns = pipeline.pool_divisors
    if pool.dilation == (1, 1):
        if {*rows} == {pool.window[0]} and {*columns} == {pool.window[1]}:
            name = "tf.nn.avg_pool2d" if padding == "VALID" else "tf.pad + tf.nn.avg_pool2d"
            return name, lambda x: mean(pad(x), padding="VALID")
        if padding == "SAME" and not pool.count_include_pad and pool.divisor_override is None:
            return "tf.nn.avg_pool2d", lambda x: mean(x, padding="SAME")
    divisors = tf.constant(np.outer(rows, columns)[:, :, np.newaxis], dtype)
    return "tf.add over taps", lambda x: _over_taps(tf.add, pad(x), windows) / divisors


def _over_taps(combine: Callable[[Any, Any], Any], x: DeviceArray, windows: Windows) -> DeviceArray:
    """Combine the taps of every window, first over the height and then over the width."""
    for axis, window in enumerate(windows, start=1):
        length = (window.out - 1) * window.stride + 1
        starts = range(0, window.extent, window.dilation)
        taps = (
            x[(slice(None),) * axis + (slice(start, start + length, window.stride),)]
            for start in starts
        )
        x = functools.reduce(combine, taps)
    return x


# -- padding ---------------------------------------------------------------------------------------


def _padding(windows: Windows) -> Padding:
    """Describe the padding in TensorFlow's words: by name wherever a name means the same."""
    if not any(window.before or window.after for window in windows):
        return "VALID"
    if all(map(_is_same, windows)):
        return "SAME"
    return _explicit(windows)


def _is_same(window: Window) -> bool:
    everywhere = window.out == -(-window.size // window.stride)
    return everywhere and window.before == (window.before + window.after) // 2


def _explicit(windows: Windows) -> Pads:
    return [(0, 0), *((window.before, window.after) for window in windows), (0, 0)]


def _pad(tf: Any, windows: Windows, value: float) -> Function:
    if _padding(windows) == "VALID":
        return lambda x: x
    return lambda x: tf.pad(x, _explicit(windows), constant_values=value)


# -- evidence --------------------------------------------------------------------------------------


def _onednn() -> str:
    """Whether oneDNN computes on the CPU. TensorFlow tells it only to its own tests."""
    try:
        port = importlib.import_module("tensorflow.python.util._pywrap_util_port")
        return _switch(port.IsMklEnabled())
    except (ImportError, AttributeError):
        return "unknown"


def _switch(on: bool) -> str:
    return "on" if on else "off"
