"""(pipeline, dtype, fill, seed) -> NumPy arrays, the same bits on every machine and version.

The numbers come from ``numpy.random.RandomState``, NumPy's legacy generator: it is the only one
whose stream is frozen for good, and a result must stay comparable after NumPy is upgraded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import ml_dtypes  # noqa: F401  # teaches NumPy the name "bfloat16"
import numpy as np
import numpy.random  # or the first use imports it, and swallows a Ctrl-C meanwhile

from convbench.stimulus.arrays import Array, Weights
from convbench.stimulus.formats import FORMATS, Fill, Format, format_of
from convbench.stimulus.spec import PipelineSpec

LARGEST_INTEGER = 8
"""Magnitude of the integer fill; products of two stay far below every limit of exactness."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a pipeline is run on: the input as (N, H, W, C), and the weights."""

    x: Array
    weights: Weights

    def in_float64(self) -> Inputs:
        """The same numbers as float64, for the oracle; the format that they came in stays named."""
        return self.each(lambda array: array.astype(np.float64, copy=False))

    def each(self, change: Callable[[Array], Array]) -> Inputs:
        """Change the input and the weights that there are."""
        return Inputs(change(self.x), self.weights.each(change))


def make_inputs(pipeline: PipelineSpec, dtype: str, fill: Fill | str, seed: int) -> Inputs:
    """Draw the input and the weights of a pipeline.

    Parameters
    ----------
    dtype : str
        A name in :data:`.formats.FORMATS`. Reals are drawn in float64 and rounded.
    seed : int
        At least 0 and below 2**32. The input, the filters and the bias have streams of their own.
    """
    fmt = format_of(dtype)
    shapes = (pipeline.input_shape, pipeline.filter_shape, pipeline.bias_shape)
    streams = [np.random.RandomState([seed, stream]) for stream in range(len(shapes))]
    largest = exact_magnitude(pipeline, fmt) or 1

    def draw(which: int) -> Array | None:
        shape, random = shapes[which], streams[which]
        if shape is None:
            return None
        if Fill(fill) in {Fill.NORMAL, Fill.ADVERSARIAL}:
            return random.standard_normal(shape)
        return _integers(random, shape, largest)

    x, filters, bias = draw(0), draw(1), draw(2)
    assert x is not None
    match Fill(fill):
        case Fill.ADVERSARIAL:
            x = _harden(streams[0], x, fmt)
            if filters is not None:  # over each output channel they add up to nothing
                filters -= filters.mean(axis=(0, 1, 2))
        case Fill.DENORMAL:
            x = x * fmt.smallest  # products with integers stay multiples of the smallest number
            bias = None if bias is None else bias * fmt.smallest
        case Fill.NONFINITE:
            taps = 1 if pipeline.pool is None else math.prod(pipeline.pool.window)
            x = _spoil(streams[0], x, max(pipeline.reduction, 1) * taps)
    return Inputs(x, Weights(dtype, filters, bias)).each(lambda array: array.astype(fmt.storage))


def fills_of(inputs: Inputs) -> tuple[Fill, ...]:
    """What arrays from anywhere are like: each fill whose kind of numbers they hold.

    Reals may be as hard as `Fill.ADVERSARIAL` or not; nothing in them tells it.

    Examples
    --------
    >>> fills_of(Inputs(np.float32([[[[1.0, np.nan, 1e-40]]]]), Weights("float32")))
    (<Fill.NONFINITE: 'nonfinite'>, <Fill.DENORMAL: 'denormal'>, <Fill.INTEGERS: 'integers'>)
    """
    weights = inputs.weights
    arrays = [array for array in (inputs.x, weights.filters, weights.bias) if array is not None]
    tiny = format_of(weights.dtype).tiny
    finite = [array[np.isfinite(array)] for array in arrays]
    normal = [array[np.abs(array) >= tiny] for array in finite]
    fills = []
    if any(some.size < array.size for some, array in zip(finite, arrays, strict=True)):
        fills.append(Fill.NONFINITE)
    if any(np.count_nonzero(some) > sure.size for some, sure in zip(finite, normal, strict=True)):
        fills.append(Fill.DENORMAL)
    if all((np.rint(array) == array).all() for array in normal):
        return (*fills, Fill.INTEGERS)
    return (*fills, Fill.NORMAL, Fill.ADVERSARIAL)


def flushed(inputs: Inputs) -> Inputs:
    """The same numbers with zeros for the denormal ones."""
    tiny = format_of(inputs.weights.dtype).tiny
    return inputs.each(lambda array: np.where(np.abs(array) < tiny, 0, array).astype(array.dtype))


def exact_magnitude(pipeline: PipelineSpec, fmt: Format) -> int | None:
    """The largest m <= 8 with which every partial sum of integers in [-m, m] is exact.

    Whatever the order of the additions, no partial sum exceeds
    (reduction * m**2 + m) * (taps of an average pool); below 2**digits it is exact, so all direct
    methods must agree bit for bit. It must fit the stored format too, since a method may store
    what one stage gives before the next.

    Returns
    -------
    int or None
        None if even integers of magnitude 1 can be rounded: the reduction is too long, or an
        average is divided by a number that is not a power of two.
    """
    limit = min(fmt.exact_limit, FORMATS[fmt.accumulation].exact_limit)
    if pipeline.pool is not None and pipeline.pool.op == "avg":
        divisors = {divisor for axis in pipeline.pool_divisors for divisor in axis}
        # A quotient of a larger one may be too small to be stored.
        if any(divisor & (divisor - 1) or divisor > limit for divisor in divisors):
            return None
    fitting = (m for m in range(LARGEST_INTEGER, 0, -1) if largest_sum(pipeline, m) <= limit)
    return next(fitting, None)


def largest_sum(pipeline: PipelineSpec, magnitude: int) -> int:
    """What no partial sum of integers in [-magnitude, magnitude] exceeds, in whatever order."""
    pool = pipeline.pool
    taps = math.prod(pool.window) if pool is not None and pool.op == "avg" else 1
    return (max(pipeline.reduction, 1) * magnitude**2 + magnitude) * taps


def _integers(random: np.random.RandomState, shape: tuple[int, ...], largest: int) -> Array:
    # -largest..largest without 0: a zero would hide a dropped tap.
    values = random.randint(-largest, largest, size=shape)
    return (values + (values >= 0)).astype(np.float64)


def _harden(random: np.random.RandomState, x: Array, fmt: Format) -> Array:
    """Turn reals into what arithmetic finds hard: see `Fill.ADVERSARIAL`."""
    outlier = 1e6 if fmt.tiny < 1e-30 else 1e2  # float16 ends at 65504
    x = x + outlier**0.5 * (random.random_sample((*x.shape[:3], 1)) < 0.5)
    x = _sprinkle(random, x, (outlier, -outlier), share=0.01)
    return _sprinkle(random, x, (fmt.smallest, -3 * fmt.smallest, -0.0), share=0.1)


def _spoil(random: np.random.RandomState, x: Array, seen: int) -> Array:
    """Put inf, -inf and nan among numbers: about one in the `seen` of which a result is made.

    With more, most results would be nan, and nothing would tell one that saw a nan of its own from
    one that saw another's. Where a result sees nearly all, there is one infinity alone, of which
    each filter makes one of its own sign.
    """
    values = (np.inf, -np.inf, np.nan)
    if x.size < max(3, 2 * seen):
        return _sprinkle(random, x, values[:2], share=0.0)
    x = _sprinkle(random, x, values, share=min(0.02, 1 / seen))
    for place, value in enumerate(random.permutation(values)):  # there is room for one of each
        low, high = (i * x.size // len(values) for i in (place, place + 1))
        x.flat[random.randint(low, high)] = value
    return x


def _sprinkle(
    random: np.random.RandomState, x: Array, values: tuple[float, ...], share: float
) -> Array:
    """Replace a share of the elements, and at least one if there is any, by one of the values."""
    chosen = random.random_sample(x.shape) < share
    if chosen.size:
        chosen.flat[random.randint(chosen.size)] = True
    return np.where(chosen, random.choice(values, size=x.shape), x)
