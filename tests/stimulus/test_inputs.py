"""The fills: exactly reproducible, never vacuous."""

from __future__ import annotations

import hashlib

import ml_dtypes
import numpy as np
import pytest

from convbench import ConvSpec, PipelineSpec, PoolSpec
from convbench.errors import ArrayError
from convbench.stimulus.formats import FLOAT32, FLOAT64, FORMATS, Fill, format_of
from convbench.stimulus.inputs import exact_magnitude, fills_of, flushed, make_inputs

PIPELINE = PipelineSpec(2, 7, 5, 3, ConvSpec(6, 3, 2), True, PoolSpec("avg", 2))


DIGESTS = {
    Fill.INTEGERS: "09290a975a6867b8",
    Fill.NORMAL: "e5bf9350e4179892",
    Fill.ADVERSARIAL: "5d6c14150d055420",
    Fill.DENORMAL: "4ac27959636f4983",
    Fill.NONFINITE: "70ca160270f84436",
}


@pytest.mark.parametrize("fill", Fill)
def test_the_bits_are_frozen(fill: Fill) -> None:
    """Results of different years are compared: these digests may never change.

    That of `nonfinite` did once, before any release: nearly all that was expected was nan.
    """
    inputs = make_inputs(PIPELINE, "float32", fill, 42)
    digest = hashlib.sha256()
    for array in (inputs.x, inputs.weights.filters, inputs.weights.bias):
        digest.update(array.tobytes())
    assert digest.hexdigest()[:16] == DIGESTS[fill]


def test_integers_are_small_and_never_zero() -> None:
    inputs = make_inputs(PIPELINE, "float32", Fill.INTEGERS, 0)
    for array in (inputs.x, inputs.weights.filters, inputs.weights.bias):
        assert np.array_equal(array, np.rint(array))
        assert (array != 0).all()
        assert np.abs(array).max() <= 8
    assert len(np.unique(inputs.x)) == 16


def test_the_streams_are_independent() -> None:
    spec = PipelineSpec(1, 3, 3, 1, ConvSpec(1, 3, 3), True)
    inputs = make_inputs(spec, "float64", Fill.NORMAL, 0)
    assert not np.array_equal(inputs.x.ravel(), inputs.weights.filters.ravel())
    again = make_inputs(spec, "float64", Fill.NORMAL, 1)
    assert not np.array_equal(inputs.x, again.x)


def test_exact_magnitude() -> None:
    def magnitude(reduction: int, **pool) -> int | None:
        spec = PipelineSpec(
            1, 4, 4, reduction, ConvSpec(1, 1, 1), True, PoolSpec(**pool) if pool else None
        )
        return exact_magnitude(spec, FLOAT32)

    # reduction * m**2 + m <= 2**24
    assert magnitude(1) == 8
    assert magnitude(262143) == 8
    assert magnitude(262144) == 7
    assert magnitude(2**24 - 1) == 1
    assert magnitude(2**24) is None
    # An average adds its taps before it divides, and only powers of two divide exactly.
    assert magnitude(100000, op="avg", window=2) == 6
    assert magnitude(100000, op="max", window=2) == 8
    assert magnitude(1, op="avg", window=3) is None
    assert magnitude(1, op="avg", window=2, stride=1, padding="SAME") == 8  # counts 4, 2 and 1
    assert exact_magnitude(PipelineSpec(1, 1, 1, 2**24, ConvSpec(1, 1, 1)), FLOAT64) == 8


def test_formats() -> None:
    for fmt in FORMATS.values():
        info = ml_dtypes.finfo(fmt.storage)
        assert fmt.unit_roundoff == float(info.eps) / 2
        assert fmt.tiny == float(info.smallest_normal)
        assert fmt.smallest == float(info.smallest_subnormal)
        exact = np.array(fmt.exact_limit, dtype=fmt.storage)
        one = exact.dtype.type(1)
        assert exact + one == exact
        assert exact - one != exact
    with pytest.raises(ArrayError, match="the dtype is int8; expected one of float64, float32"):
        format_of("int8")


def test_the_formats_that_round_factors() -> None:
    assert FORMATS["tf32"].factor_digits == 11
    assert all(f.factor_digits == f.digits for f in FORMATS.values() if f.name != "tf32")


def test_adversarial_inputs_are_what_they_say() -> None:
    spec = PipelineSpec(2, 19, 17, 8, ConvSpec(6, 3, 3), True)
    inputs = make_inputs(spec, "float32", Fill.ADVERSARIAL, 0)
    size = np.abs(inputs.x)
    assert (size == 1e6).any()
    assert ((size > 0) & (size < FLOAT32.tiny)).any()
    assert ((inputs.x == 0) & np.signbit(inputs.x)).any()
    assert np.isfinite(inputs.x).all()
    assert np.abs(inputs.weights.filters.sum(axis=(0, 1, 2))).max() < 1e-4
    half = make_inputs(spec, "float16", Fill.ADVERSARIAL, 0)
    assert np.isfinite(half.x).all()


@pytest.mark.parametrize("dtype", FORMATS)
def test_denormal_inputs_are_below_every_normal_number(dtype: str) -> None:
    x = make_inputs(PIPELINE, dtype, Fill.DENORMAL, 0).x.astype("f8")
    assert (x != 0).all()
    assert (np.abs(x) < FORMATS[dtype].tiny).all()
    assert np.array_equal(x / FORMATS[dtype].smallest, np.rint(x / FORMATS[dtype].smallest))


def test_nonfinite_inputs_have_all_three() -> None:
    spec = PipelineSpec(2, 19, 17, 8, ConvSpec(6, 3, 3))
    inputs = make_inputs(spec, "float32", Fill.NONFINITE, 0)
    assert {"inf", "-inf", "nan"} <= set(map(str, np.unique(inputs.x)))
    assert 0.9 < np.isfinite(inputs.x).mean() < 1
    assert np.isfinite(inputs.weights.filters).all()
    tiny = make_inputs(PipelineSpec(1, 1, 1, 1, ConvSpec(1, 1, 1)), "float32", Fill.NONFINITE, 0)
    assert not np.isfinite(tiny.x).any(), "one element at least"


@pytest.mark.parametrize("dtype", FORMATS)
def test_in_float64_the_numbers_are_the_same(dtype: str) -> None:
    inputs = make_inputs(PIPELINE, dtype, Fill.ADVERSARIAL, 0)
    exact = inputs.in_float64()
    assert exact.weights.dtype == dtype
    for array, given in (
        (exact.x, inputs.x),
        (exact.weights.filters, inputs.weights.filters),
        (exact.weights.bias, inputs.weights.bias),
    ):
        assert array.dtype == np.float64
        assert np.array_equal(array.astype(given.dtype), given)
    alone = make_inputs(PIPELINE.stages()["pool"], dtype, Fill.NORMAL, 0).in_float64()
    assert (alone.weights.filters, alone.weights.bias) == (None, None)


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("fill", Fill)
def test_a_fill_is_known_by_its_numbers(fill: Fill, dtype: str) -> None:
    inputs = make_inputs(PIPELINE, dtype, fill, 0)
    found = fills_of(inputs)
    assert fill in found
    assert (Fill.NONFINITE in found) == (fill is Fill.NONFINITE)
    assert (Fill.DENORMAL in found) == (fill in {Fill.DENORMAL, Fill.ADVERSARIAL})
    assert (Fill.INTEGERS in found) == (fill not in {Fill.NORMAL, Fill.ADVERSARIAL})


@pytest.mark.parametrize("dtype", FORMATS)
def test_what_is_flushed_has_no_denormal_numbers_and_all_the_others(dtype: str) -> None:
    inputs = make_inputs(PIPELINE, dtype, Fill.ADVERSARIAL, 0)
    tiny, x, left = FORMATS[dtype].tiny, inputs.x.astype("f8"), flushed(inputs).x
    assert left.dtype == inputs.x.dtype
    denormal = np.abs(x) < tiny
    assert (x[denormal] != 0).any()
    assert (left[denormal] == 0).all()
    assert np.array_equal(left[~denormal], inputs.x[~denormal])


def test_integers_stay_exact_over_a_divisor_that_is_a_power_of_two() -> None:
    def largest(divisor: int, fmt: str) -> int | None:
        pool = PoolSpec("avg", (3, 1), divisor_override=divisor)
        return exact_magnitude(PipelineSpec(1, 6, 6, 1, pool=pool), FORMATS[fmt])

    assert largest(3, "float32") is None
    assert largest(1, "float32") == largest(4, "float32") == 8
    # The quotient itself has to be a number of the format.
    assert largest(2**11, "float16") == 8
    assert largest(2**12, "float16") is None
