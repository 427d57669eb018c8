"""Winograd's method against the oracle, within the bound of its scheme, and no wider a one."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from convbench import ConvSpec, PipelineSpec
from convbench.backends.array_kernels import in_float32
from convbench.backends.methods import blocks, cores, winograd
from convbench.correctness.accuracy import accuracy_of, refer_for
from convbench.errors import SpecError
from convbench.stimulus.arrays import Weights
from convbench.stimulus.formats import Fill
from convbench.stimulus.inputs import make_inputs
from convbench.testing import pools

PADS = st.integers(0, 4)
FINITE = [fill for fill in Fill if fill is not Fill.NONFINITE]


@st.composite
def pipelines(draw: st.DrawFn) -> PipelineSpec:
    """Draw any that the method applies to."""
    padding = draw(st.sampled_from(["VALID", "SAME"]) | st.tuples(PADS, PADS, PADS, PADS))
    k = draw(st.integers(1, 9) | st.sampled_from([64, 80, 130]))
    n, h, w, c = (draw(st.integers(*ends)) for ends in ((0, 3), (1, 15), (1, 15), (1, 20)))
    pool = draw(st.none() | pools())
    try:
        pipeline = PipelineSpec(n, h, w, c, ConvSpec(k, 3, 3, 1, padding=padding), True, pool)
    except SpecError:
        assume(False)
    return pipeline


@given(
    pipeline=pipelines(),
    m=st.sampled_from([2, 4]),
    dtype=st.sampled_from(["float32", "float64", "float16", "bfloat16"]),
    fill=st.sampled_from(FINITE),
    sizes=st.sampled_from([(1 << 20, 1_000_000, 512), (0, 500, 7), (20_000, 3000, 64)]),
    threads=st.integers(1, 3),
)
@settings(max_examples=150, deadline=None)
def test_any_shape_is_right_in_blocks_of_any_size(pipeline, m, dtype, fill, sizes, threads) -> None:
    inputs = make_inputs(pipeline, dtype, fill, 0)
    with pytest.MonkeyPatch.context() as patch:
        places = (winograd, "_BLOCK_BYTES"), (cores, "SMALL"), (winograd, "_LANES")
        for (module, name), size in zip(places, sizes, strict=True):
            patch.setattr(module, name, size)
        patch.setattr(blocks, "threads", lambda: threads)
        patch.setattr(blocks, "_WORTH_A_THREAD", -1)
        run = in_float32(partial(winograd.plan, pipeline, m=m), inputs.weights)
        with np.errstate(over="ignore"):  # of float16, of which the oracle knows
            output = run(inputs.x)
            again = run(inputs.x)
    assert output.dtype == inputs.x.dtype
    assert np.array_equal(output, again)
    accuracy = accuracy_of(output, refer_for(pipeline, inputs, fill, scheme=run.scheme))
    assert accuracy.ok, f"{run.algorithm}: {accuracy}"


@pytest.mark.parametrize("m", [2, 4])
def test_by_hand(m: int) -> None:
    # 1 to 16 in rows of four; each output is the input in its corner and 100 times that two rows
    # and columns on: 1 + 100 * 11, and so on, and 1000 of the bias.
    x = np.arange(1, 17, dtype="f8").reshape(1, 4, 4, 1)
    filters = np.zeros((3, 3, 1, 1))
    filters[0, 0], filters[2, 2] = 1, 100
    pipeline = PipelineSpec(1, 4, 4, 1, ConvSpec(1, 3, 3), True)
    y = winograd.plan(pipeline, Weights("float64", filters, np.array([1000.0])), m)(x)
    expected = [[2101, 2202], [2505, 2606]]
    assert np.allclose(y[0, :, :, 0], expected, rtol=0, atol=0 if m == 2 else 1e-9)


@pytest.mark.parametrize(("channels", "scheme"), [(64, "F(4x4,3x3)"), (512, "F(2x2,3x3)")])
def test_the_tile_follows_from_the_filters(channels: int, scheme: str) -> None:
    pipeline = PipelineSpec(1, 3, 3, channels, ConvSpec(channels, 3, 3))
    run = winograd.plan(pipeline, make_inputs(pipeline, "float32", Fill.NORMAL, 0).weights)
    assert run.scheme == f"winograd {scheme}"
    assert run.algorithm == run.scheme


# -- The bound is one that can be failed -----------------------------------------------------------

LAYER = PipelineSpec(1, 14, 15, 64, ConvSpec(16, 3, 3, padding="SAME"), True)


def ratio(m: int, channels: int = 64, **changed) -> float:
    """The largest error over the scheme's own bound on normal numbers, with a fault if given."""
    pipeline = PipelineSpec(1, 14, 15, channels, LAYER.conv, bias=True)
    inputs = make_inputs(pipeline, "float32", Fill.NORMAL, 0)
    weights = inputs.weights
    if tap := changed.get("tap"):
        filters = weights.filters.copy()
        filters[tap] = 0
        weights = Weights(weights.dtype, filters, weights.bias)
    with pytest.MonkeyPatch.context() as patch:
        if entry := changed.get("entry"):
            which, row, column, value = entry
            matrices = [np.array(matrix, "f8") for matrix in winograd._TRANSFORMS[m]]
            assert matrices[which][row, column] != value
            matrices[which][row, column] = value
            patch.setitem(winograd._TRANSFORMS, m, tuple(matrices))
        run = winograd.plan(pipeline, weights, m)
    x = inputs.x.astype(changed.get("factors", "f4")).astype("f4")
    expected = refer_for(pipeline, inputs, Fill.NORMAL, scheme=run.scheme)
    return accuracy_of(run(x), expected).ratio


@pytest.mark.parametrize("channels", [1, 64, 256])
@pytest.mark.parametrize("m", [2, 4])
def test_the_bound_is_near_what_happens(m: int, channels: int) -> None:
    """Of direct methods the ratio is 0.005 to 0.5 under their bound: no looser, and never above."""
    assert 0.005 < ratio(m, channels) < 0.5


B, G, A = range(3)


@pytest.mark.parametrize(
    ("m", "fault"),
    [
        (4, {"entry": (G, 1, 1, -1 / 5)}),
        (4, {"entry": (B, 0, 2, -4)}),
        (4, {"entry": (A, 3, 3, 4)}),
        (2, {"entry": (G, 2, 1, 1 / 2)}),
        (2, {"entry": (B, 3, 3, 1)}),
        (2, {"entry": (A, 1, 2, 1)}),
        (4, {"entry": (G, 3, 0, 1 / 24 * (1 + 2**-10))}),
        (2, {"tap": (1, 2)}),
        (4, {"tap": (1, 2)}),
        (4, {"tap": (0, 0, 17)}),
        (2, {"factors": "f2"}),
        (4, {"factors": "f2"}),
    ],
    ids=str,
)
def test_a_planted_fault_is_seen_under_its_own_bound(m: int, fault: dict) -> None:
    assert ratio(m) <= 1
    assert ratio(m, **fault) > 1


# -- What a run does besides -----------------------------------------------------------------------


def test_several_threads_may_run_one_plan() -> None:
    pipeline = PipelineSpec(2, 30, 30, 16, ConvSpec(32, 3, 3, padding="SAME"), True)
    drawn = [make_inputs(pipeline, "float32", Fill.NORMAL, seed) for seed in range(8)]
    run = winograd.plan(pipeline, drawn[0].weights)
    alone = [run(inputs.x) for inputs in drawn]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda inputs: run(inputs.x), drawn * 5))
    for number, output in enumerate(together):
        assert np.array_equal(output, alone[number % 8])


def test_a_run_allocates_its_output_and_little_more() -> None:
    pipeline = PipelineSpec(1, 64, 64, 32, ConvSpec(32, 3, 3, padding="SAME"), True)
    inputs = make_inputs(pipeline, "float32", Fill.NORMAL, 0)
    run = winograd.plan(pipeline, inputs.weights)
    tracemalloc.start()
    try:
        output = run(inputs.x)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < output.nbytes + 100_000
