r"""How far a correct result may lie from the oracle, and how far a result does lie.

For a sum of n products that is accumulated with unit roundoff :math:`u_{acc}` and rounded once to
the format of the output,

.. math:: |got - ref| \le (2 \sqrt{n}\, u_{acc} + u_{out})\, S + tiny,
          \qquad S = |x| * |w| + |b|

where the factor :math:`\sqrt{n}` is the probabilistic error bound of Higham and Mary, "A New
Approach to Probabilistic Rounding Error Analysis", SIAM J. Sci. Comput. 41(5), 2019, with
lambda = 2. Relative error is the wrong measure: where the terms cancel, a correct float32
result shows a relative error of 0.1.

A max pool takes the largest bound of its window, since max(a) and max(b) differ by no more than the
largest difference; by itself it is bitwise. An average takes the mean of the bounds, and rounds
once per addition and once for the division.

With integers whose partial sums are all exact (:func:`convbench.inputs.exact_magnitude`) the bound
is zero: every direct method must agree bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from convbench import reference
from convbench.backends.base import Array, Weights
from convbench.errors import ArrayError
from convbench.inputs import Fill, Inputs, exact_magnitude
from convbench.numerics import Format, format_of
from convbench.reference import Float64
from convbench.spec import PipelineSpec


@dataclass(frozen=True, slots=True)
class Reference:
    """The oracle's output and, per element, how far a correct result may lie from it."""

    output: Float64
    bound: Float64


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The element that is worst, by error over bound.

    Attributes
    ----------
    ratio : float
        Error over bound: at most 1 is right. 0 without an error; inf where the bound is zero, or
        where a number is not finite and should be, or the other way round.
    index : tuple of int, optional
        (n, p, q, k) of that element; None if the output is empty.
    got, expected, bound : float
    """

    ratio: float
    index: tuple[int, ...] | None = None
    got: float = math.nan
    expected: float = math.nan
    bound: float = math.nan

    @property
    def ok(self) -> bool:
        """Whether every element is within its bound."""
        return self.ratio <= 1

    def __str__(self) -> str:
        if self.index is None:
            return "the output is empty"
        expected = f"{self.expected!r} +- {self.bound:.3g}"
        return f"at {list(self.index)} got {self.got!r}, expected {expected}"


def refer(pipeline: PipelineSpec, inputs: Inputs, *, exact: bool = False) -> Reference:
    """Compute the oracle's output and the bound of every element.

    Parameters
    ----------
    exact : bool
        The bound is zero: only for inputs whose partial sums are exact.
    """
    fmt = format_of(inputs.weights.dtype)
    y = inputs.x.astype(np.float64)
    bound = np.zeros_like(y)
    if pipeline.conv is not None or pipeline.bias:
        y, magnitude = _conv_and_bias(pipeline, y, inputs.weights)
        bound = _bound(magnitude, max(pipeline.reduction, 1), fmt)
    if pipeline.pool is not None:
        if pipeline.pool.op == "max":
            y = reference.max_pool(pipeline, y)
            bound = reference.max_pool(pipeline, bound)
        else:
            magnitude = reference.avg_pool(pipeline, np.abs(y))
            y = reference.avg_pool(pipeline, y)
            taps = math.prod(pipeline.pool.window)
            bound = reference.avg_pool(pipeline, bound) + _bound(magnitude, taps, fmt)
    return Reference(y, np.zeros_like(bound) if exact else bound)


def compare(got: Array, expected: Reference) -> Accuracy:
    """Find the worst element of an output.

    Raises
    ------
    ArrayError
        If the shape is not the oracle's.
    """
    if got.shape != expected.output.shape:
        raise ArrayError.of(
            "output", "the shape", got.shape, f"{expected.output.shape}",
            "A stage is missing or its padding or stride is wrong.",
        )  # fmt: skip
    if got.size == 0:
        return Accuracy(0.0)
    values = got.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.abs(values - expected.output)
        # Equal infinities give nan - nan; so do two nans, which are right where one is expected.
        same = (values == expected.output) | (np.isnan(values) & np.isnan(expected.output))
        ratio = np.where(same, 0.0, error / expected.bound)
    ratio[np.isnan(ratio)] = math.inf
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(ratio)), ratio.shape))
    return Accuracy(
        ratio=float(ratio[index]),
        index=index,
        got=float(values[index]),
        expected=float(expected.output[index]),
        bound=float(expected.bound[index]),
    )


def is_exact(pipeline: PipelineSpec, dtype: str, fill: Fill | str) -> bool:
    """Whether inputs of this fill leave no room for rounding."""
    return Fill(fill) is Fill.INTEGERS and exact_magnitude(pipeline, format_of(dtype)) is not None


def _conv_and_bias(pipeline: PipelineSpec, x: Float64, weights: Weights) -> tuple[Float64, Float64]:
    """Output and magnitude sum of the convolution and the bias."""
    y, magnitude = x, np.abs(x)
    if weights.filters is not None:
        filters = weights.filters.astype(np.float64)
        y = reference.convolve(pipeline, x, filters)
        magnitude = reference.convolve(pipeline, magnitude, np.abs(filters))
    if weights.bias is not None:
        bias = weights.bias.astype(np.float64)
        y, magnitude = y + bias, magnitude + np.abs(bias)
    return y, magnitude


def _bound(magnitude: Float64, terms: int, fmt: Format) -> Float64:
    # The smallest normal number covers results that a device flushes to zero.
    tiny = float(np.finfo(fmt.name).tiny)
    return (2 * math.sqrt(terms) * fmt.unit_roundoff + fmt.unit_roundoff) * magnitude + tiny
