"""The fills: exactly reproducible, never vacuous."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from convbench import ConvSpec, PipelineSpec, PoolSpec
from convbench.errors import ArrayError
from convbench.inputs import Fill, exact_magnitude, make_inputs, make_notebook_inputs
from convbench.notebook import PIPELINES
from convbench.numerics import FLOAT32, FLOAT64, FORMATS, format_of

PIPELINE = PipelineSpec(2, 7, 5, 3, ConvSpec(6, 3, 2), True, PoolSpec("avg", 2))


@pytest.mark.parametrize("fill", Fill)
def test_the_bits_are_frozen(fill: Fill) -> None:
    """Results of different years are compared: these digests may never change."""
    inputs = make_inputs(PIPELINE, "float32", fill, 42)
    digest = hashlib.sha256()
    for array in (inputs.x, inputs.weights.filters, inputs.weights.bias):
        digest.update(array.tobytes())
    assert (
        digest.hexdigest()[:16]
        == {
            Fill.INTEGERS: "09290a975a6867b8",
            Fill.NORMAL: "e5bf9350e4179892",
        }[fill]
    )


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


def test_the_notebook() -> None:
    conv = make_notebook_inputs(PIPELINES["convolution + bias"], 7)
    assert conv.x.min() >= -10
    assert conv.x.max() <= 9
    assert np.array_equal(conv.x, np.rint(conv.x))
    filters = conv.weights.filters
    assert filters.shape == (5, 5, 3, 6)
    assert np.abs(filters).max() <= np.float32(0.2)
    # A normal distribution truncated at two deviations has 0.8796 of the deviation.
    assert filters.std() == pytest.approx(0.088, rel=0.1)
    assert (conv.weights.bias == np.float32(0.1)).all()
    pool = make_notebook_inputs(PIPELINES["max pool"], 7)
    assert np.array_equal(pool.x, conv.x)
    assert pool.weights.filters is None


def test_formats() -> None:
    for fmt in FORMATS.values():
        info = np.finfo(fmt.name)
        assert fmt.unit_roundoff == info.eps / 2
        assert fmt.itemsize == np.dtype(fmt.name).itemsize
        exact = np.array(fmt.exact_limit, dtype=fmt.name)
        assert exact + exact.dtype.type(1) == exact
        assert exact - exact.dtype.type(1) != exact
    with pytest.raises(ArrayError, match="the dtype is int8; expected one of float32, float64"):
        format_of("int8")
