"""TensorFlow against hand-computed cases, SciPy, and the definition written as a loop."""

from __future__ import annotations

import functools
import gc
import itertools
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import correlate2d

from convbench.backends import compute as computing
from convbench.backends.tensorflow import TensorFlowBackend
from convbench.correctness import accuracy
from convbench.errors import BackendUnavailable, TargetError, Unavailability, Unsupported
from convbench.stimulus.arrays import Weights
from convbench.stimulus.inputs import make_inputs
from convbench.stimulus.spec import ConvSpec, PipelineSpec, PoolSpec
from convbench.testing import pipelines

ROOT = Path(__file__).parents[2]
VARIANTS = tuple(TensorFlowBackend.capabilities.variants)


@functools.cache
def open_cpu(variant=""):
    try:
        return TensorFlowBackend("cpu", variant)
    except BackendUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(params=VARIANTS, ids=lambda variant: variant or "graph")
def backend(request):
    return open_cpu(request.param)


@pytest.fixture
def tf():
    open_cpu()
    return sys.modules["tensorflow"]


def in_a_new_process(code, **environment):
    """Run a script in a new interpreter; its standard output."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def compute(backend, pipeline, x, filters=None, bias=None):
    run = backend.build(pipeline, Weights(x.dtype.name, filters, bias))
    y = backend.to_numpy(run(backend.to_device(x)))
    assert y.dtype == x.dtype
    return y


def integers(pipeline, dtype="float32", seed=0):
    """Small integers without a zero, which would hide a dropped tap."""
    random = np.random.default_rng(seed)
    return tuple(
        None if shape is None else random.choice([-3, -2, -1, 1, 2, 3], shape).astype(dtype)
        for shape in (pipeline.input_shape, pipeline.filter_shape, pipeline.bias_shape)
    )


def define(pipeline, x, filters, bias):
    """The pipeline by its definition: one window at a time, in float64."""
    y = x.astype(np.float64)
    if pipeline.conv is not None:
        conv, (rows, columns) = pipeline.conv, pipeline.conv_windows
        depth, width = pipeline.c // conv.groups, conv.k // conv.groups
        out = np.zeros(pipeline.conv_shape)
        for p, q in itertools.product(range(rows.out), range(columns.out)):
            for i, j, r, s in inside(rows, columns, p, q):
                for g in range(conv.groups):
                    k = slice(g * width, (g + 1) * width)
                    out[:, p, q, k] += y[:, i, j, g * depth : (g + 1) * depth] @ filters[r, s, :, k]
        y = out
    if pipeline.bias:
        y = y + bias
    if pipeline.pool is not None:
        pool, (rows, columns) = pipeline.pool, pipeline.pool_windows
        out = np.zeros(pipeline.output_shape)
        heights, widths = (w.counts(include_pad=pool.count_include_pad) for w in (rows, columns))
        for p, q in itertools.product(range(rows.out), range(columns.out)):
            taps = [y[:, i, j] for i, j, _, _ in inside(rows, columns, p, q)]
            mean = np.sum(taps, axis=0) / (pool.divisor_override or heights[p] * widths[q])
            out[:, p, q] = np.max(taps, axis=0) if pool.op == "max" else mean
        y = out
    return y


def inside(rows, columns, p, q):
    """The taps (row, column, r, s) of one window that lie in the input."""
    for r, s in itertools.product(range(rows.taps), range(columns.taps)):
        i = p * rows.stride + r * rows.dilation - rows.before
        j = q * columns.stride + s * columns.dilation - columns.before
        if 0 <= i < rows.size and 0 <= j < columns.size:
            yield i, j, r, s


# -- by hand ---------------------------------------------------------------------------------------


def image(rows):
    return np.array(rows, dtype=np.float32)[None, :, :, None]


def test_valid_convolution_does_not_flip_the_filter(backend):
    x = image([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    filters = np.array([[1, 10], [100, 1000]], dtype=np.float32)[:, :, None, None]
    y = compute(backend, PipelineSpec(1, 3, 3, 1, ConvSpec(1, 2, 2)), x, filters)
    assert y[0, :, :, 0].tolist() == [[5421, 6532], [8754, 9865]]


def test_same_puts_the_odd_row_after(backend):
    x = image([[1, 2], [3, 4]])
    filters = np.ones((2, 2, 1, 1), np.float32)
    y = compute(backend, PipelineSpec(1, 2, 2, 1, ConvSpec(1, 2, 2, padding="SAME")), x, filters)
    assert y[0, :, :, 0].tolist() == [[10, 6], [7, 4]]


def test_same_lower_puts_it_before(backend):
    x = image([[1, 2], [3, 4]])
    filters = np.ones((2, 2, 1, 1), np.float32)
    conv = ConvSpec(1, 2, 2, padding="SAME_LOWER")
    y = compute(backend, PipelineSpec(1, 2, 2, 1, conv), x, filters)
    assert y[0, :, :, 0].tolist() == [[1, 3], [4, 10]]
    pool = PoolSpec("max", 2, stride=1, padding="SAME_LOWER")
    y = compute(backend, PipelineSpec(1, 2, 2, 1, pool=pool), -x)
    assert y[0, :, :, 0].tolist() == [[-1, -1], [-1, -1]]


def test_bias_alone_goes_by_channel(backend):
    x, bias = np.full((2, 1, 2, 3), 10, np.float32), np.array([1, 2, 3], np.float32)
    y = compute(backend, PipelineSpec(2, 1, 2, 3, bias=True), x, bias=bias)
    assert (y == [11, 12, 13]).all()


@pytest.mark.parametrize("padding", ["SAME", (1, 1, 1, 1)])
def test_max_pool_pads_with_less_than_any_number(backend, padding):
    pool = PoolSpec("max", 3, stride=1, padding=padding)
    y = compute(backend, PipelineSpec(1, 2, 2, 1, pool=pool), image([[-4, -3], [-2, -5]]))
    assert (y == -2).all()


@pytest.mark.parametrize(
    ("pool", "expected"),
    [
        (PoolSpec("avg", 2, padding="SAME"), [3, 4.5, 7.5, 9]),
        (PoolSpec("avg", 2, padding="SAME", count_include_pad=True), [3, 2.25, 3.75, 2.25]),
        (PoolSpec("avg", 2, padding=(1, 0, 1, 0)), [1, 2.5, 5.5, 7]),
        (PoolSpec("avg", 2, padding=(1, 0, 1, 0), count_include_pad=True), [0.25, 1.25, 2.75, 7]),
        # What ceil_mode adds is never counted.
        (PoolSpec("avg", 2, ceil_mode=True, count_include_pad=True), [3, 4.5, 7.5, 9]),
        (
            PoolSpec("avg", (4, 3), 2, (1, 1, 0, 0), count_include_pad=True, ceil_mode=True),
            [45 / 12, 39 / 9],
        ),
        (PoolSpec("avg", 2, stride=1, dilation=2), [5]),
        (PoolSpec("avg", 2, padding="SAME_LOWER"), [1, 2.5, 5.5, 7]),
        (PoolSpec("avg", 2, padding="SAME", divisor_override=3), [4, 3, 5, 3]),
        (PoolSpec("avg", 2, stride=1, divisor_override=4), [3, 4, 6, 7]),
        (PoolSpec("avg", (3, 1), stride=1, divisor_override=3), [4, 5, 6]),
        (PoolSpec("avg", 2, stride=1, dilation=2, divisor_override=5), [4]),
    ],
)
def test_average_divides_by_what_counts(backend, pool, expected):
    x = image([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    y = compute(backend, PipelineSpec(1, 3, 3, 1, pool=pool), x)
    np.testing.assert_allclose(y.ravel(), expected, rtol=1e-6)


def test_agrees_with_scipy(backend):
    random = np.random.default_rng(0)
    x, filters = random.standard_normal((2, 9, 7, 3)), random.standard_normal((4, 2, 3, 5))
    expected = np.zeros((2, 6, 6, 5))
    for n, c, k in np.ndindex(2, 3, 5):
        expected[n, :, :, k] += correlate2d(x[n, :, :, c], filters[:, :, c, k], mode="valid")
    y = compute(backend, PipelineSpec(2, 9, 7, 3, ConvSpec(5, 4, 2)), x, filters)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-13)


# -- the whole space of specifications -------------------------------------------------------------


@pytest.mark.parametrize(("variant", "examples"), [("", 200), ("eager", 200), ("xla", 60)])
def test_equals_the_definition(variant, examples):
    backend = open_cpu(variant)

    @settings(max_examples=examples, derandomize=True)
    @given(pipelines(), st.sampled_from(["float32", "float64"]))
    def check(pipeline, dtype):
        arrays = integers(pipeline, dtype)
        y = compute(backend, pipeline, *arrays)
        expected = define(pipeline, *arrays).astype(dtype)
        if variant == "xla" and pipeline.pool is not None and pipeline.pool.op == "avg":
            # XLA multiplies by the reciprocal of the count: a rounding more.
            np.testing.assert_allclose(y, expected, rtol=4 * np.finfo(dtype).eps, atol=0)
        else:
            np.testing.assert_array_equal(y, expected)

    check()


# Where some kernel of TensorFlow is wrong, refuses, or ends the process.
DIFFICULT = {
    "empty batch": PipelineSpec(0, 9, 7, 3, ConvSpec(4, 3, 2), True, PoolSpec("max", 2)),
    "filter over the input": PipelineSpec(2, 2, 3, 2, ConvSpec(3, 5, 7, padding="SAME")),
    "dilated and strided": PipelineSpec(2, 11, 9, 4, ConvSpec(6, 3, 2, (2, 3), (3, 2), 2, "SAME")),
    "depthwise, padded": PipelineSpec(2, 6, 5, 3, ConvSpec(6, 3, 2, 2, 1, 3, (0, 2, 1, 1)), True),
    "depthwise, unequal strides": PipelineSpec(2, 9, 8, 3, ConvSpec(3, 3, 3, (2, 1), 1, 3), True),
    "grouped": PipelineSpec(2, 6, 5, 4, ConvSpec(6, 3, 3, groups=2, padding="SAME"), True),
    "all padding": PipelineSpec(1, 6, 1, 1, ConvSpec(1, 2, 1, 2, padding=(9, 2, 1, 7)), True),
    "one column": PipelineSpec(2, 11, 7, 1, ConvSpec(1, 3, 5, (1, 3)), True),
    "max pool, padded": PipelineSpec(2, 6, 5, 3, pool=PoolSpec("max", 3, 2, (1, 0, 2, 1))),
}


@pytest.mark.parametrize("pipeline", DIFFICULT.values(), ids=DIFFICULT)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_difficult_shapes(backend, pipeline, dtype):
    arrays = integers(pipeline, dtype)
    np.testing.assert_array_equal(compute(backend, pipeline, *arrays), define(pipeline, *arrays))


def test_difficult_shapes_without_onednn():
    open_cpu()
    code = """
        import runpy
        import numpy as np
        tests = runpy.run_module("tests.backends.test_tensorflow")
        for variant in ("", "eager"):
            backend = tests["open_cpu"](variant)
            assert backend.versions()["onednn"] == "off"
            for pipeline in tests["DIFFICULT"].values():
                arrays = tests["integers"](pipeline)
                y = tests["compute"](backend, pipeline, *arrays)
                expected = tests["define"](pipeline, *arrays)
                np.testing.assert_array_equal(y, expected, str(pipeline))
        print("right")
    """
    assert in_a_new_process(code, TF_ENABLE_ONEDNN_OPTS="0") == "right"


@pytest.mark.parametrize(
    ("conv", "algorithm"),
    [
        (ConvSpec(4, 3, 3), "tf.nn.conv2d"),
        (ConvSpec(4, 3, 3, groups=2), "tf.nn.conv2d in 2 groups"),
        (ConvSpec(4, 3, 3, groups=4), "tf.nn.depthwise_conv2d"),
        (ConvSpec(4, 3, 3, groups=4, dilation=2), "tf.nn.conv2d in 4 groups"),
    ],
)
def test_tells_what_computes(conv, algorithm):
    pipeline = PipelineSpec(1, 7, 7, 4, conv, pool=PoolSpec("max", 2, dilation=2))
    weights = Weights("float64", integers(pipeline, "float64")[1])
    run = open_cpu("xla").build(pipeline, weights)
    assert run.algorithm == f"XLA: {algorithm} + tf.maximum over taps"


def test_max_pool_and_nan_are_as_the_module_says():
    x = image([[np.nan, 1], [-np.inf, -np.inf]])
    pool = PipelineSpec(1, 2, 2, 1, pool=PoolSpec("max", (1, 2)))
    lowest = np.finfo(np.float32).min
    assert compute(open_cpu(), pool, x).ravel().tolist() == [1, lowest]
    assert compute(open_cpu("xla"), pool, x).ravel().tolist() == [1, -np.inf]


# -- arrays ----------------------------------------------------------------------------------------


def test_shares_no_memory_with_numpy(backend):
    array = np.ones((64, 64), np.float32)
    on_device = backend.to_device(array)
    array[:] = 2
    copy = backend.to_numpy(on_device)
    copy[:] = 3
    assert (backend.to_numpy(on_device) == 1).all()


def test_a_run_computes_anew_and_leaves_its_input_alone(backend):
    pipeline = PipelineSpec(1, 4, 4, 1, ConvSpec(1, 1, 1), True, PoolSpec("max", 1))
    x, filters, bias = integers(pipeline)
    weights = Weights("float32", filters.copy(), bias.copy())
    run = backend.build(pipeline, weights)
    weights.filters[:] = weights.bias[:] = 99
    gc.collect()
    inputs = [backend.to_device(x), backend.to_device(-x), backend.to_device(x)]
    outputs = [run(x) for x in inputs]
    backend.synchronize()
    for sign, given_x, y in zip((1, -1, 1), inputs, outputs, strict=True):
        np.testing.assert_array_equal(backend.to_numpy(given_x), sign * x)
        expected = define(pipeline, sign * x, filters, bias)
        np.testing.assert_array_equal(backend.to_numpy(y), expected)


def test_refuses_tf32_on_a_cpu():
    pipeline = PipelineSpec(1, 3, 3, 1, ConvSpec(1, 2, 2))
    inputs = make_inputs(pipeline, "tf32", "normal", 0)
    with pytest.raises(Unsupported, match="tensor cores"):
        open_cpu().build(pipeline, inputs.weights)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    ("pipeline", "cast"),
    [
        (PipelineSpec(1, 6, 6, 3, ConvSpec(4, 3, 3)), False),
        (PipelineSpec(1, 6, 6, 4, ConvSpec(4, 3, 3, groups=4)), True),
        (PipelineSpec(1, 6, 3, 3, ConvSpec(4, 3, 3)), True),  # one column
        # Ends the process in oneDNN's bfloat16: a window that sees nothing but padding.
        (PipelineSpec(1, 8, 5, 2, ConvSpec(2, 2, 2, 2, 2, padding=(4, 3, 1, 3))), True),
        (PipelineSpec(1, 6, 6, 3, pool=PoolSpec("avg", 2)), True),
    ],
)
def test_16_bits_are_computed_in_float32_where_its_own_would_be_wrong(pipeline, cast, dtype):
    inputs = make_inputs(pipeline, dtype, "normal", 0)
    computed = computing.compute(open_cpu(), pipeline, inputs)
    assert ("in float32" in computed.algorithm) == cast
    assert computed.output.dtype == dtype
    assert accuracy.accuracy_of(computed.output, accuracy.refer(pipeline, inputs)).ok


# -- devices ---------------------------------------------------------------------------------------


def test_importing_the_module_imports_no_tensorflow():
    code = "import sys, convbench.backends.tensorflow; print('tensorflow' in sys.modules)"
    assert in_a_new_process(code) == "False"


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    monkeypatch.delenv("TF_ENABLE_WINOGRAD_NONFUSED", raising=False)
    TensorFlowBackend.library()
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
    assert os.environ["TF_ENABLE_WINOGRAD_NONFUSED"] == "0"


def test_without_tensorflow_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(BackendUnavailable) as caught:
        TensorFlowBackend.devices()
    assert caught.value.kind is Unavailability.NOT_INSTALLED
    assert 'pip install "convbench[tensorflow]"' in caught.value.remedy


def test_unknown_devices_and_variants(tf):
    assert TensorFlowBackend.devices()[0] == "cpu"
    with pytest.raises(BackendUnavailable, match="no gpu:99 here"):
        TensorFlowBackend("gpu:99")
    with pytest.raises(TargetError, match="eager, xla"):
        TensorFlowBackend("cpu", "lazy")


def test_nothing_falls_back_to_another_device(tf):
    assert not tf.config.get_soft_device_placement()
    with pytest.raises(tf.errors.InvalidArgumentError), tf.device("GPU:99"):
        tf.zeros(3) + 1


def test_float32_is_not_tf32(tf):
    assert not tf.config.experimental.tensor_float_32_execution_enabled()


def test_runs_on_its_device_or_says_where_it_ran():
    open_cpu()
    code = """
        import numpy as np
        import tensorflow as tf
        from convbench.stimulus.arrays import Weights
        from convbench.backends.tensorflow import TensorFlowBackend
        from convbench.stimulus.spec import PipelineSpec

        (cpu,) = tf.config.list_physical_devices("CPU")
        two = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, two)

        class SecondCpu(TensorFlowBackend):
            @classmethod
            def devices(cls):
                return ("cpu", "cpu:1")

        class Elsewhere(SecondCpu):
            def _compile(self, pipeline, dtype, stages):
                def compute(x):
                    with tf.device("CPU:0"):
                        return tf.identity(x)
                return compute

        pipeline = PipelineSpec(1, 2, 2, 1, bias=True)
        weights = Weights("float32", bias=np.ones(1, np.float32))
        for variant in ("", "eager"):
            backend = SecondCpu("cpu:1", variant)
            run = backend.build(pipeline, weights)
            print(run(backend.to_device(np.ones((1, 2, 2, 1), np.float32))).device[-5:])
            backend.synchronize()
        try:
            Elsewhere("cpu:1").build(pipeline, weights)
        except RuntimeError as error:
            print(error)
    """
    first, second, error = in_a_new_process(code).splitlines()
    assert first == second == "CPU:1"
    assert "device:CPU:0; expected CPU:1" in error


@pytest.fixture
def on_a_gpu(monkeypatch):
    """TensorFlow with two GPUs, as a mock: an empty batch is computed wherever it is said to be."""
    fake = mock.MagicMock()
    fake.config.list_physical_devices.side_effect = {"GPU": ["first", "second"]}.__getitem__
    monkeypatch.setattr(TensorFlowBackend, "library", classmethod(lambda _: fake))
    return fake


def test_no_gpu_is_taken_whole(on_a_gpu):
    assert TensorFlowBackend.devices() == ("cpu", "gpu:0", "gpu:1")
    TensorFlowBackend("gpu:1")
    # On every card, since TensorFlow starts all that it sees; and before anything has started them.
    grown = on_a_gpu.config.experimental.set_memory_growth.call_args_list
    assert grown == [mock.call("first", True), mock.call("second", True)]
    on_a_gpu.config.experimental.enable_tensor_float_32_execution.assert_called_once_with(False)
    on_a_gpu.config.set_soft_device_placement.assert_called_once_with(False)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_graph_that_fell_back_to_the_cpu_is_an_error(on_a_gpu, variant):
    empty = PipelineSpec(0, 2, 2, 1, bias=True)
    weights = Weights("float32", bias=np.ones(1, np.float32))
    y = on_a_gpu.reshape.return_value
    call = on_a_gpu.function.return_value.get_concrete_function.return_value.inference_fn
    call.call_preflattened.return_value = y
    y.device = "/job:localhost/replica:0/task:0/device:GPU:1"
    assert TensorFlowBackend("gpu:1", variant).build(empty, weights).algorithm
    y.device = "/job:localhost/replica:0/task:0/device:CPU:0"
    with pytest.raises(RuntimeError, match=r"output is on .*CPU:0; expected GPU:1"):
        TensorFlowBackend("gpu:1", variant).build(empty, weights)


@pytest.mark.parametrize("variant", ["", "xla"])
def test_without_the_shortest_way_to_call_a_graph_there_is_another(tf, monkeypatch, variant):
    """TensorFlow's is private, and an upgrade may take it away."""
    concrete = tf.function(lambda: tf.constant(0.0)).get_concrete_function()
    assert concrete.inference_fn.call_preflattened, "the shortest way is not taken any more"
    pipeline = PipelineSpec(2, 6, 6, 3, ConvSpec(4, 3, 3), True)
    inputs = make_inputs(pipeline, "float32", "integers", 0)
    shortest = computing.compute(TensorFlowBackend("cpu", variant), pipeline, inputs)
    monkeypatch.delattr(type(concrete), "inference_fn")
    run = TensorFlowBackend("cpu", variant).build(pipeline, inputs.weights)
    assert run.algorithm == shortest.algorithm
    assert np.array_equal(run(tf.constant(inputs.x)), shortest.output)


def test_versions_name_what_decides_the_result(backend, tf, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_some_flag")
    versions = backend.versions()
    assert versions["tensorflow"] == tf.__version__
    assert versions["tf32"] == "off"
    assert versions["onednn"] in {"on", "off"}
    assert versions["XLA_FLAGS"] == "--xla_some_flag"
    assert versions["intra_op_threads"]
