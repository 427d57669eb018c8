"""Every method on its own against the oracle, all in one process, with blocks of every size."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from convbench import ConvSpec, PipelineSpec, PoolSpec
from convbench.backends import methods
from convbench.backends.base import HoleKind
from convbench.backends.methods import (
    METHODS,
    blocks,
    cores,
    gemm,
    im2col,
    kn2row,
    strips,
    taprows,
    taps,
    without_conv,
)
from convbench.backends.numpy import NumpyBackend
from convbench.correctness.accuracy import accuracy_of, refer_for
from convbench.errors import Unsupported
from convbench.stimulus.arrays import Weights
from convbench.stimulus.formats import Fill
from convbench.stimulus.inputs import make_inputs
from convbench.stimulus.probes import PROBES, SENSITIVE
from convbench.stimulus.workloads import load, select
from convbench.testing import pipelines

ROWS = load()
DIRECT = [method for method in METHODS if method != "winograd"]  # which has a bound of its own
CHOICES = ("", *DIRECT)

MIDDLE = {
    "panels of 64": PipelineSpec(1, 9, 11, 70, ConvSpec(128, 3, 3, padding=1), True),
    "panels of 48": PipelineSpec(2, 13, 9, 17, ConvSpec(96, 3, 2, 2, padding="SAME"), True),
    "no panels": PipelineSpec(1, 12, 10, 20, ConvSpec(67, 2, 3, padding=(0, 1, 2, 0))),
    "a window too long for a small product": PipelineSpec(
        1, 7, 8, 300, ConvSpec(64, 3, 3, padding=1), True, PoolSpec("max", 2)
    ),
    "groups": PipelineSpec(
        2, 11, 13, 24, ConvSpec(32, 3, 5, groups=2, padding=2), True, PoolSpec("max", 3, 2)
    ),
    "pools that overlap": PipelineSpec(
        1, 75, 9, 3, ConvSpec(16, 5, 3, padding=2), True, PoolSpec("avg", (5, 3), (2, 1), 1)
    ),
    "one channel, many columns": PipelineSpec(1, 40, 300, 1, ConvSpec(16, 3, 3, (1, 2)), True),
    "1x1 over the whole of a batch": PipelineSpec(5, 9, 7, 33, ConvSpec(48, 1, 1), True),
    "1x1 with strides": PipelineSpec(2, 9, 7, 33, ConvSpec(48, 1, 1, (2, 3)), True),
    "the filter is the image": PipelineSpec(4, 6, 5, 30, ConvSpec(50, 6, 5), True),
    "depthwise": PipelineSpec(2, 33, 31, 40, ConvSpec(80, 3, 3, (2, 1), 1, 40, 1), True),
    "depthwise, dilated": PipelineSpec(1, 23, 41, 12, ConvSpec(12, 3, 4, 2, (2, 3), 12, "SAME")),
}


@pytest.fixture(params=[True, False], ids=["small products", "large products"])
def kernels(request, monkeypatch) -> bool:
    """Both kinds of BLAS, whichever is here: each way has to be right on either."""
    monkeypatch.setattr(cores, "small_products", lambda: request.param)
    return request.param


def check(pipeline: PipelineSpec, dtype: str, fill: Fill, method: str, seed: int = 0) -> None:
    inputs = make_inputs(pipeline, dtype, fill, seed)
    run = methods.plan(pipeline, inputs.weights, method)
    with np.errstate(invalid="ignore", over="ignore"):
        run(np.full_like(inputs.x, np.nan))  # nothing of it may be left in a workspace
        output = run(inputs.x)
    assert output.dtype == dtype
    accuracy = accuracy_of(output, refer_for(pipeline, inputs, fill))
    assert accuracy.ok, f"{run.algorithm}: {accuracy}"


def refused(pipeline: PipelineSpec, method: str) -> bool:
    holes = METHODS[method].holes if method else ()
    return any(hole.applies(pipeline, "float32") for hole in holes if hole.kind is HoleKind.MISSING)


@pytest.mark.parametrize("method", CHOICES)
def test_probes(method: str, kernels: bool) -> None:
    """Nothing but numbers of the window gets into an output: the fills have inf and nan."""
    seen = 0
    for pipeline in (*PROBES.values(), *SENSITIVE):
        if refused(pipeline, method):
            continue
        seen += 1
        for fill in Fill:
            check(pipeline, "float32", fill, method)
        check(pipeline, "float64", Fill.NORMAL, method)
    assert seen > 3


@pytest.mark.parametrize(
    ("name", "method"),
    [(n, method) for n in MIDDLE for method in CHOICES if not refused(MIDDLE[n], method)],
)
def test_larger_than_a_block_or_a_panel(name: str, method: str, kernels: bool) -> None:
    for fill in (Fill.INTEGERS, Fill.NORMAL, Fill.NONFINITE):
        check(MIDDLE[name], "float32", fill, method)


SIZES = {
    cores: {"SMALL": (1, 200, 10**6)},
    blocks: {"_SUMS": (0, 1 << 18), "_WORTH_A_THREAD": (-1, 1 << 21), "_LONG": (1, 7, 2048)},
    gemm: {"_TINY": (0, 1 << 16), "_BLOCK_BYTES": (0, 300), "_FEWEST": (0, 12), "_MOST": (1, 9)},
    im2col: {"_BLOCK_BYTES": (0, 500, 1 << 20), "_PADDED_ROWS": (1, 32), "_FEWEST_ROWS": (1, 20)},
    kn2row: {"_BLOCK_BYTES": (0, 500, 1 << 20), "_FEWEST": (0,), "_MOST": (1, 256)},
    strips: {"_STRIP_BYTES": (0, 500, 1 << 20), "_ROWS": (1, 3), "_FEWEST": (0,), "_MOST": (1, 5)},
    taprows: {"_BLOCK_BYTES": (0, 500, 1 << 20)},
    taps: {"_BLOCK_BYTES": (0, 500), "_TAPS_BYTES": (0, 200), "_MOST_ROWS": (1, 14)},
    without_conv: {"_BLOCK_BYTES": (0, 500, 1 << 20), "_TINY": (-1, 1 << 12)},
}


@given(
    pipeline=pipelines(),
    fill=st.sampled_from(Fill),
    method=st.sampled_from(CHOICES),
    draw=st.data(),
)
@settings(max_examples=200)
def test_blocks_change_nothing(pipeline, fill, method, draw) -> None:
    assume(not refused(pipeline, method))
    with pytest.MonkeyPatch.context() as patch:
        for module, names in SIZES.items():
            for name, values in names.items():
                patch.setattr(module, name, draw.draw(st.sampled_from(values), label=name))
        patch.setattr(cores, "small_products", lambda: draw.draw(st.booleans(), label="small"))
        patch.setattr(blocks, "threads", lambda: draw.draw(st.integers(1, 3), label="threads"))
        check(pipeline, "float32", fill, method)


@pytest.mark.parametrize("method", METHODS)
def test_a_forced_method_refuses_what_it_declares(method: str) -> None:
    backend = NumpyBackend("cpu", method)
    for pipeline in (*PROBES.values(), *MIDDLE.values()):
        weights = make_inputs(pipeline, "float32", Fill.NORMAL, 0).weights
        if refused(pipeline, method):
            with pytest.raises(Unsupported):
                backend.build(pipeline, weights)
        else:
            assert backend.build(pipeline, weights).algorithm


def test_the_rule_takes_each_method_for_some_standard_row(monkeypatch) -> None:
    """What is verified as the default is then each of them."""
    taken = set()
    for small in (True, False):
        monkeypatch.setattr(cores, "small_products", lambda small=small: small)
        taken |= {
            methods.choose(row.pipeline)
            for row in select(ROWS, "standard")
            if row.pipeline.conv is not None
        }
    assert taken == set(DIRECT)


@pytest.mark.parametrize("small", [True, False])
def test_the_rule_takes_no_method_that_refuses(small: bool, monkeypatch) -> None:
    monkeypatch.setattr(cores, "small_products", lambda: small)
    pipelines = [row.pipeline for row in ROWS]
    for pipeline in (*pipelines, *PROBES.values(), *MIDDLE.values()):
        if pipeline.conv is not None:
            assert not refused(pipeline, methods.choose(pipeline))


def test_an_infinite_bias_after_a_max_pool() -> None:
    """A maximum of 0 and -inf, and then inf more, would be inf; each of them first is nan."""
    pipeline = PipelineSpec(1, 2, 2, 1, ConvSpec(2, 1, 1), True, PoolSpec("max", 2))
    x = np.array([[0, -np.inf], [1, 2]], "float32").reshape(1, 2, 2, 1)
    for method in ("", "im2col", "strips"):
        weights = make_inputs(pipeline, "float32", Fill.INTEGERS, 0).weights
        weights.filters[...] = 1
        weights.bias[...] = np.inf, 3
        with np.errstate(invalid="ignore"):
            y = methods.plan(pipeline, weights, method)(x)
        np.testing.assert_array_equal(y.ravel(), [np.nan, 5])


@pytest.mark.parametrize(
    ("name", "method"),
    [(n, method) for n in PROBES for method in CHOICES if not refused(PROBES[n], method)],
)
def test_a_plan_keeps_nothing_of_the_weights_it_was_given(name: str, method: str) -> None:
    for small in (True, False):
        inputs = make_inputs(PROBES[name], "float32", Fill.INTEGERS, 0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cores, "small_products", lambda small=small: small)
            run = NumpyBackend("cpu", method).build(PROBES[name], inputs.weights)
        before = run(inputs.x)
        for array in (inputs.weights.filters, inputs.weights.bias):
            if array is not None:
                array[...] = 77
        np.testing.assert_array_equal(run(inputs.x), before)


# -- threads and memory ----------------------------------------------------------------------------


@pytest.mark.parametrize("inner", [1, 3])
@pytest.mark.parametrize("method", DIRECT)
def test_a_plan_may_run_in_several_threads_at_once(method: str, inner: int, monkeypatch) -> None:
    """Each call on an input of its own, and with integers each answer is known to the bit."""
    monkeypatch.setattr(blocks, "threads", lambda: inner)
    monkeypatch.setattr(blocks, "_WORTH_A_THREAD", -1)
    groups = 12 if method == "taps" else 1
    taps = 1 if method == "gemm" else 3
    conv = ConvSpec(24, taps, taps, groups=groups, padding=taps // 2)
    pipeline = PipelineSpec(2, 30, 31, 12, conv, True, PoolSpec("max", 3, 2))
    inputs = [make_inputs(pipeline, "float32", Fill.INTEGERS, seed) for seed in range(4)]
    weights = inputs[0].weights
    run = methods.plan(pipeline, weights, method)
    alone = [methods.plan(pipeline, weights, "im2col")(each.x) for each in inputs]
    start = threading.Barrier(len(inputs))

    def several(number: int) -> bool:
        start.wait()
        return all(np.array_equal(run(inputs[number].x), alone[number]) for _ in range(20))

    with ThreadPoolExecutor(len(inputs)) as pool:
        assert all(pool.map(several, range(len(inputs))))


LIMIT_BYTES = 32 << 20


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start(1)
    yield
    tracemalloc.stop()


def test_workspaces_of_every_row_are_small(kernels: bool, traced: None) -> None:
    """Beyond input, output and weights a plan holds at most 32 MB, whatever the layer."""
    for row in select(ROWS, "full"):
        pipeline = row.pipeline
        filters = 0 if pipeline.filter_shape is None else int(np.prod(pipeline.filter_shape))
        shapes = (pipeline.filter_shape, pipeline.bias_shape)
        arrays = (None if shape is None else np.zeros(shape, "float32") for shape in shapes)
        weights = Weights("float32", *arrays)
        before = tracemalloc.get_traced_memory()[0]
        run = methods.plan(pipeline, weights)
        held = tracemalloc.get_traced_memory()[0] - before
        assert held <= 4 * filters + LIMIT_BYTES, f"{row.name}: {held >> 20} MiB: {run.algorithm}"
