"""(pipeline, dtype, fill, seed) -> NumPy arrays, the same bits on every machine and version.

The numbers come from ``numpy.random.RandomState``, NumPy's legacy generator: it is the only one
whose stream is frozen for good, and a result must stay comparable after NumPy is upgraded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

import numpy as np

from convbench.backends.base import Array, Weights
from convbench.numerics import Format, format_of
from convbench.spec import PipelineSpec, Shape

LARGEST_INTEGER = 8
"""Magnitude of the integer fill; products of two stay far below every limit of exactness."""

NOTEBOOK_BIAS = 0.1
NOTEBOOK_STDDEV = 0.1


class Fill(StrEnum):
    """What the arrays are filled with."""

    INTEGERS = "integers"
    """Small integers, none of them zero, whose partial sums are all exact."""
    NORMAL = "normal"
    """N(0, 1), for the input, the filters and the bias."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a pipeline is run on: the input as (N, H, W, C), and the weights."""

    x: Array
    weights: Weights


def make_inputs(pipeline: PipelineSpec, dtype: str, fill: Fill | str, seed: int) -> Inputs:
    """Draw the input and the weights of a pipeline.

    Parameters
    ----------
    pipeline : PipelineSpec
    dtype : str
        A name in :data:`convbench.numerics.FORMATS`. Reals are drawn in float64 and rounded.
    fill : Fill
    seed : int
        At least 0 and below 2**32. The input, the filters and the bias have streams of their own.
    """
    largest = exact_magnitude(pipeline, format_of(dtype)) or 1
    draw = _normal if Fill(fill) is Fill.NORMAL else partial(_integers, largest)

    def array(stream: int, shape: tuple[int, ...] | None) -> Array | None:
        if shape is None:
            return None
        return draw(np.random.RandomState([seed, stream]), shape).astype(dtype)

    x = array(0, pipeline.input_shape)
    assert x is not None
    return Inputs(x, Weights(dtype, array(1, pipeline.filter_shape), array(2, pipeline.bias_shape)))


def make_notebook_inputs(pipeline: PipelineSpec, seed: int) -> Inputs:
    """Draw what the notebook drew, as float32.

    Integers in [-10, 10), filters from a normal distribution of standard deviation 0.1 truncated
    at two deviations (TensorFlow's ``truncated_normal_initializer``), and a bias of 0.1.
    """
    x = np.random.RandomState([seed, 0]).randint(-10, 10, size=pipeline.input_shape)
    filters = bias = None
    if pipeline.filter_shape is not None:
        filters = _truncated_normal(np.random.RandomState([seed, 1]), pipeline.filter_shape)
        filters = (NOTEBOOK_STDDEV * filters).astype(np.float32)
    if pipeline.bias_shape is not None:
        bias = np.full(pipeline.bias_shape, NOTEBOOK_BIAS, dtype=np.float32)
    return Inputs(x.astype(np.float32), Weights("float32", filters, bias))


def exact_magnitude(pipeline: PipelineSpec, fmt: Format) -> int | None:
    """The largest m <= 8 with which every partial sum of integers in [-m, m] is exact.

    Whatever the order of the additions, no partial sum exceeds
    (reduction * m**2 + m) * (taps of an average pool); below 2**digits it is exact, so all direct
    methods must agree bit for bit.

    Returns
    -------
    int or None
        None if even integers of magnitude 1 can be rounded: the reduction is too long, or an
        average is divided by a number that is not a power of two.
    """
    taps = 1
    if pipeline.pool is not None and pipeline.pool.op == "avg":
        taps = math.prod(pipeline.pool.window)
        counts = (
            w.counts(include_pad=pipeline.pool.count_include_pad) for w in pipeline.pool_windows
        )
        if any(count & (count - 1) for axis in counts for count in axis):
            return None
    products = max(pipeline.reduction, 1)
    for magnitude in range(LARGEST_INTEGER, 0, -1):
        if (products * magnitude**2 + magnitude) * taps <= fmt.exact_limit:
            return magnitude
    return None


def _normal(random: np.random.RandomState, shape: tuple[int, ...]) -> Array:
    return random.standard_normal(shape)


def _integers(largest: int, random: np.random.RandomState, shape: tuple[int, ...]) -> Array:
    # -largest..largest without 0: a zero would hide a dropped tap.
    values = random.randint(-largest, largest, size=shape)
    return values + (values >= 0)


def _truncated_normal(random: np.random.RandomState, shape: Shape) -> Array:
    values = random.standard_normal(shape)
    while (outside := np.abs(values) > 2).any():
        values[outside] = random.standard_normal(int(outside.sum()))
    return values
