"""The oracle against hand-computed cases and SciPy; the bound against planted faults."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st

from convbench import ConvSpec, PipelineSpec, PoolSpec
from convbench.correctness import oracle
from convbench.correctness.accuracy import Reference, accuracy_of, is_exact, refer, refer_for
from convbench.errors import ArrayError
from convbench.stimulus.arrays import Weights
from convbench.stimulus.formats import FORMATS, Fill
from convbench.stimulus.inputs import Inputs, make_inputs
from convbench.stimulus.workloads import BUILT_IN, load, select


def test_convolution_by_hand() -> None:
    # 3x3 input 1..9, 2x2 filter, SAME at stride 2: the odd row and column go after.
    x = np.arange(1.0, 10.0).reshape(1, 3, 3, 1)
    filters = np.array([[1.0, 10.0], [100.0, 1000.0]]).reshape(2, 2, 1, 1)
    spec = PipelineSpec(1, 3, 3, 1, ConvSpec(1, 2, 2, (2, 2), padding="SAME"))
    y = oracle.convolve(spec, x, filters)
    assert y[0, :, :, 0].tolist() == [[1 + 20 + 400 + 5000, 3 + 600], [7 + 80, 9]]


def test_same_lower_by_hand() -> None:
    # The same as above, but the odd row and column go before.
    x = np.arange(1.0, 10.0).reshape(1, 3, 3, 1)
    filters = np.array([[1.0, 10.0], [100.0, 1000.0]]).reshape(2, 2, 1, 1)
    spec = PipelineSpec(1, 3, 3, 1, ConvSpec(1, 2, 2, (2, 2), padding="SAME_LOWER"))
    y = oracle.convolve(spec, x, filters)
    assert y[0, :, :, 0].tolist() == [[1000, 200 + 3000], [40 + 7000, 5 + 60 + 800 + 9000]]


def test_groups_by_hand() -> None:
    # Two groups: the first output channel sees channels 0 and 1, the second 2 and 3.
    x = np.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 1, 4)
    filters = np.array([[10.0, 1000.0], [100.0, 10000.0]]).reshape(1, 1, 2, 2)
    spec = PipelineSpec(1, 1, 1, 4, ConvSpec(2, 1, 1, groups=2))
    y = oracle.convolve(spec, x, filters)
    assert y.ravel().tolist() == [1 * 10 + 2 * 100, 3 * 1000 + 4 * 10000]


def test_pools_by_hand() -> None:
    x = np.array([[-1.0, -2.0, -3.0], [-4.0, -5.0, -6.0], [-7.0, -8.0, -9.0]])[None, :, :, None]

    def pool(function, **options) -> list:
        spec = PipelineSpec(1, 3, 3, 1, pool=PoolSpec(window=2, stride=2, **options))
        return function(spec, x)[0, :, :, 0].tolist()

    # Padding must not win a maximum of negative numbers, nor count in an average unless asked to.
    assert pool(oracle.max_pool, op="max", padding="SAME") == [[-1, -3], [-7, -9]]
    assert pool(oracle.avg_pool, op="avg", padding="SAME") == [[-3, -4.5], [-7.5, -9]]
    counted = pool(oracle.avg_pool, op="avg", padding=(0, 1, 0, 1), count_include_pad=True)
    assert counted == [[-3, -2.25], [-3.75, -2.25]]
    # Rounding up adds a row and a column that no average ever counts.
    ceiled = pool(oracle.avg_pool, op="avg", ceil_mode=True, count_include_pad=True)
    assert ceiled == [[-3, -4.5], [-7.5, -9]]
    # The odd row and column before; and a divisor that does not ask what a window covers.
    assert pool(oracle.max_pool, op="max", padding="SAME_LOWER") == [[-1, -2], [-4, -5]]
    assert pool(oracle.avg_pool, op="avg", padding="SAME_LOWER") == [[-1, -2.5], [-5.5, -7]]
    divided = pool(oracle.avg_pool, op="avg", padding="SAME", divisor_override=2)
    assert divided == [[-6, -4.5], [-7.5, -4.5]]


@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    taps=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    mode=st.sampled_from(["valid", "same", "full"]),
    seed=st.integers(0, 1000),
)
def test_convolution_agrees_with_scipy(size, taps, mode, seed) -> None:
    if mode == "valid" and (taps[0] > size[0] or taps[1] > size[1]):
        return
    padding = {
        "valid": "VALID",
        # SciPy's "same" keeps the centre of "full"; the odd row goes where TensorFlow puts it
        # for odd filters only.
        "same": tuple(p for t in taps for p in ((t - 1) - (t - 1) // 2, (t - 1) // 2)),
        "full": tuple(p for t in taps for p in (t - 1, t - 1)),
    }[mode]
    random = np.random.RandomState(seed)
    x, filters = random.standard_normal((2, *size, 3)), random.standard_normal((*taps, 3, 2))
    y = oracle.convolve(PipelineSpec(2, *size, 3, ConvSpec(2, *taps, padding=padding)), x, filters)
    for n in range(2):
        for k in range(2):
            expected = sum(
                scipy.signal.correlate(
                    np.pad(x[n, :, :, c], [(t - 1, t - 1) for t in taps]) if mode != "valid"
                    else x[n, :, :, c], filters[:, :, c, k], "valid", "direct",
                )
                for c in range(3)
            )  # fmt: skip
            if mode == "same":
                (top, _, left, _) = padding
                first, second = taps[0] - 1 - top, taps[1] - 1 - left
                expected = expected[first : first + size[0], second : second + size[1]]
            assert np.allclose(y[n, :, :, k], expected, rtol=1e-12, atol=1e-12)


PIPELINE = PipelineSpec(2, 9, 8, 6, ConvSpec(10, 3, 3, padding="SAME"), True, PoolSpec("max", 2))


def test_the_bound_of_one_product() -> None:
    spec = PipelineSpec(1, 1, 1, 1, ConvSpec(1, 1, 1))
    given_ = Inputs(
        np.full((1, 1, 1, 1), 3.0, "f4"), Weights("float32", np.full((1, 1, 1, 1), 2, "f4"))
    )
    bound = refer(spec, given_).bound.item()
    assert bound == pytest.approx((2 + 1) * 2.0**-24 * 6, rel=1e-12)


def test_the_bound_grows_with_the_root_of_the_reduction() -> None:
    def bound(depth: int) -> float:
        spec = PipelineSpec(1, 1, 1, depth, ConvSpec(1, 1, 1))
        ones = Inputs(
            np.ones((1, 1, 1, depth), "f4"), Weights("float32", np.ones((1, 1, depth, 1), "f4"))
        )
        return refer(spec, ones).bound.item() / depth / 2.0**-24

    assert bound(1) == pytest.approx(3)
    assert bound(100) == pytest.approx(21)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("fill", [Fill.INTEGERS, Fill.NORMAL])
def test_a_bias_that_is_left_out_is_seen_in_16_bits(dtype, fill) -> None:
    """What is stored is rounded as it is, and not as the sum of the magnitudes of 1728 terms."""
    spec = PipelineSpec(1, 5, 5, 192, ConvSpec(8, 3, 3), True)
    inputs = make_inputs(spec, dtype, fill, 0)
    exact, storage = inputs.in_float64(), np.dtype(FORMATS[dtype].storage)
    alone = oracle.convolve(spec, exact.x, exact.weights.filters).astype("f4")
    bias = exact.weights.bias.astype("f4")
    expected = refer_for(spec, inputs, fill)
    for right in (alone + bias, alone.astype(storage).astype("f4") + bias):
        assert accuracy_of(right.astype(storage), expected).ok
    for wrong in (alone, alone + np.roll(bias, 1)):
        assert accuracy_of(wrong.astype(storage), expected).ratio > 10


def test_sums_that_are_declared_to_be_shorter_may_be_inexact_in_integers() -> None:
    spec = PipelineSpec(1, 5, 5, 192, ConvSpec(8, 3, 3), True)
    assert is_exact(spec, "float32", Fill.INTEGERS)
    assert is_exact(spec, "float32", Fill.INTEGERS, "float64")
    assert not is_exact(spec, "float32", Fill.INTEGERS, "float16")
    assert is_exact(replace(spec, c=2), "float32", Fill.INTEGERS, "float16")  # 18 * 64 + 8


def test_each_tap_of_an_average_may_underflow() -> None:
    """As where it is computed as a convolution with quarters."""
    spec = PipelineSpec(1, 4, 4, 3, pool=PoolSpec("avg", 2))
    inputs = make_inputs(spec, "float32", Fill.DENORMAL, 0)
    quarters = (inputs.x / np.float32(4)).astype("f4")
    y = sum(quarters[:, i::2, j::2] for i in (0, 1) for j in (0, 1))
    assert accuracy_of(y, refer_for(spec, inputs, Fill.DENORMAL)).ok
    assert not accuracy_of(0 * y, refer_for(spec, inputs, Fill.DENORMAL)).ok


@pytest.mark.parametrize("row", list(select(load(BUILT_IN), "smoke", {})), ids=lambda row: row.name)
def test_what_is_not_finite_tells_whose_it_is(row) -> None:
    """Not nearly all that is expected is nan, and a pool sees one."""
    inputs = make_inputs(row.pipeline, "float32", Fill.NONFINITE, 0)
    y = refer_for(row.pipeline, inputs, Fill.NONFINITE).output
    assert not np.isfinite(y).all()
    assert np.isnan(y).mean() < 0.7
    if row.pipeline.conv is None:
        assert np.isnan(y).any()
        assert np.isinf(y).any()
    expected = refer_for(row.pipeline, inputs, Fill.NONFINITE)
    if np.isnan(y).any():
        for wrong in (
            np.full_like(y, np.nan),
            np.nan_to_num(y, nan=0.0, posinf=np.inf, neginf=-np.inf),
        ):
            assert not accuracy_of(wrong.astype("f4"), expected).ok


def test_a_maximum_near_zero_keeps_the_bound_of_its_sums() -> None:
    # 1 - 1 is nothing, and yet a sum of two products of magnitude 1.
    terms = Weights("float32", np.array([1, -1], "f4").reshape(1, 1, 2, 1))
    inputs = Inputs(np.ones((1, 1, 1, 2), "f4"), terms)
    alone = PipelineSpec(1, 1, 1, 2, ConvSpec(1, 1, 1))
    pooled = PipelineSpec(1, 1, 1, 2, ConvSpec(1, 1, 1), pool=PoolSpec("max", 1))
    bound = refer(pooled, inputs).bound.item()
    assert bound == refer(alone, inputs).bound.item() > 2.0**-22


def test_integers_leave_no_room() -> None:
    inputs = make_inputs(PIPELINE, "float32", Fill.INTEGERS, 0)
    assert is_exact(PIPELINE, "float32", Fill.INTEGERS)
    expected = refer(PIPELINE, inputs, exact=True)
    assert accuracy_of(expected.output.astype("f4"), expected).ratio == 0
    off = expected.output.astype("f4")
    off[1, 2, 3, 4] = np.nextafter(off[1, 2, 3, 4], np.float32(np.inf))
    worst = accuracy_of(off, expected)
    assert worst.ratio == math.inf
    assert worst.index == (1, 2, 3, 4)
    assert not worst.ok


@pytest.mark.parametrize("fault", [1e-3, -1e-3])
def test_one_tap_off_by_a_thousandth_is_seen_in_4608_terms(fault: float) -> None:
    """Only the integers see it: it is below what float32 may lose in so long a sum."""
    spec = PipelineSpec(1, 6, 6, 512, ConvSpec(8, 3, 3))
    assert spec.reduction == 4608
    seen = {}
    for fill in (Fill.INTEGERS, Fill.NORMAL):
        inputs = make_inputs(spec, "float32", fill, 0)
        filters = inputs.weights.filters.astype("f8")
        filters[1, 2, 7] *= 1 + fault
        faulty = oracle.convolve(spec, inputs.x.astype("f8"), filters).astype("f4")
        expected = refer(spec, inputs, exact=is_exact(spec, "float32", fill))
        seen[fill] = not accuracy_of(faulty, expected).ok
    assert seen == {Fill.INTEGERS: True, Fill.NORMAL: False}


def test_half_precision_sums_are_seen() -> None:
    inputs = make_inputs(PIPELINE, "float32", Fill.NORMAL, 0)
    expected = refer(PIPELINE, inputs)
    rounded = expected.output.astype("f2").astype("f4")
    assert accuracy_of(expected.output.astype("f4"), expected).ok
    assert not accuracy_of(rounded, expected).ok


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_wrong(value: float) -> None:
    expected = refer(PIPELINE, make_inputs(PIPELINE, "float32", Fill.NORMAL, 0))
    got = expected.output.astype("f4")
    got[0, 1, 1, 3] = value
    assert accuracy_of(got, expected).ratio == math.inf
    assert accuracy_of(got, expected).index == (0, 1, 1, 3)


def test_where_the_oracle_is_not_finite_so_must_the_result_be() -> None:
    output = np.array([np.nan, np.inf, -np.inf, 1.0]).reshape(1, 1, 1, 4)
    expected = Reference(output, np.full_like(output, 0.5), output.shape)
    assert accuracy_of(output, expected).ratio == 0
    for index, value in enumerate([1.0, -np.inf, 0.0, np.inf]):
        got = output.copy()
        got[..., index] = value
        assert not accuracy_of(got, expected).ok


def test_shapes() -> None:
    expected = refer(PIPELINE, make_inputs(PIPELINE, "float32", Fill.NORMAL, 0))
    with pytest.raises(ArrayError, match=r"output: the shape is .*; expected \(2, 4, 4, 10\)"):
        accuracy_of(expected.output[:1], expected)
    empty = PIPELINE.with_batch(0)
    nothing = refer(empty, make_inputs(empty, "float32", Fill.NORMAL, 0))
    assert accuracy_of(nothing.output, nothing).ok
    assert str(accuracy_of(nothing.output, nothing)) == "the output is empty"
