r"""How far a correct result may lie from the oracle, and how far a result does lie.

For a sum of n products whose factors are rounded with unit roundoff :math:`u_{in}` (zero where they
are used as they are stored), and added with :math:`u_{acc}`, that is stored with :math:`u_{out}`,

.. math:: |sum - ref| \le E = (2 u_{in} + \lambda \sqrt{n}\, u_{acc})\, S + slack,
          \qquad S = |x| * |w| + |b|

          |got - ref| \le E + u_{out} (|ref| + E)

where the factor :math:`\lambda \sqrt{n}` is the probabilistic error bound of Higham and Mary, "A
New Approach to Probabilistic Rounding Error Analysis", SIAM J. Sci. Comput. 41(5), 2019, with
lambda = 2. The sum before the bias may be stored, too, which adds another such term; and where what
is stored is no coarser than the sums, the last term is :math:`u_{out} S`. Relative error is the
wrong measure: where the terms cancel, a correct float32 result shows a relative error of 0.1. The
page docs/accuracy.md derives the bound and says what it cannot see.

A max pool takes the largest bound of its window, since max(a) and max(b) differ by no more than the
largest difference; by itself it is bitwise. An average takes the mean of the bounds, and rounds
once per addition and once for the division.

The expected value is rounded to the format of the output: from :attr:`.formats.Format.overflow` on,
infinity is what is right.

With integers whose partial sums are all exact (:func:`convbench.stimulus.inputs.exact_magnitude`)
the bound is zero: every direct method must agree bit for bit.

A scheme that saves multiplications has another sum than S, and other numbers are exact in it: see
:mod:`convbench.correctness.schemes`.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convbench.correctness import oracle
from convbench.correctness.oracle import Float64
from convbench.correctness.sample import Positions
from convbench.correctness.schemes import scheme_of
from convbench.errors import ArrayError
from convbench.stimulus.arrays import Array
from convbench.stimulus.formats import FORMATS, Fill, Format, format_of
from convbench.stimulus.inputs import Inputs, exact_magnitude, largest_sum
from convbench.stimulus.spec import PipelineSpec

LAMBDA = 2.0
"""How many times the root of n the rounding errors of a sum may amount to."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The oracle's output and, per element, how far a correct result may lie from it.

    Attributes
    ----------
    output, bound : array of shape (N, P, Q, K), or (samples, 1, 1, K)
    shape : tuple of int
        Shape of the whole output.
    sees : array of bool that broadcasts to the output
        Which results are of some input, and not of padding alone.
    positions : tuple of array, optional
        Where the samples lie; None if `output` is the whole.
    overflow : float
        From this magnitude on a number is infinite in the format of the output.
    """

    output: Float64
    bound: Float64
    shape: tuple[int, ...]
    positions: Positions | None = None
    sees: NDArray[np.bool_] = field(default_factory=lambda: np.ones((1, 1, 1, 1), bool))
    overflow: float = math.inf

    @property
    def overflowing(self) -> int:
        """How many of the expected results are finite, and beyond what the format can hold."""
        return int(
            np.count_nonzero(np.isfinite(self.output) & (np.abs(self.output) >= self.overflow))
        )

    def looked_at(self, got: Array) -> Float64:
        """Those elements of an output that are looked at, in float64."""
        if self.positions is not None:
            got = got[self.positions][:, np.newaxis, np.newaxis]
        return got.astype(np.float64)

    def ratios(self, values: Float64) -> Float64:
        """Error over bound of each element that is looked at; inf where no bound could help."""
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            error = np.abs(values - self.output)
            # Equal infinities give nan - nan, and so do two nans, of which one is expected.
            right = (values == self.output) | (np.isnan(values) & np.isnan(self.output))
            # Infinite is what has to be, or within the bound may be, rounded to infinity.
            of_sign = np.isinf(values) & (np.sign(values) == np.sign(self.output))
            right |= of_sign & (np.abs(self.output) + self.bound >= self.overflow)
            ratio = np.where(right, 0.0, error / self.bound)
        ratio[np.isnan(ratio)] = math.inf
        return ratio

    @property
    def zeros(self) -> float:
        """Share of zeros among the expected results that see some input: many prove little."""
        if not self.output.size:
            return 0.0
        of_input = self.output[np.broadcast_to(self.sees, self.output.shape)]
        return float(np.mean(of_input == 0)) if of_input.size else 1.0


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
    wrong : int
        How many of the elements that were looked at are not within their bounds.
    of : int
        How many were looked at.
    """

    ratio: float
    index: tuple[int, ...] | None = None
    got: float = math.nan
    expected: float = math.nan
    bound: float = math.nan
    wrong: int = 0
    of: int = 0

    @property
    def ok(self) -> bool:
        """Whether every element is within its bound."""
        return self.ratio <= 1

    def to_dict(self) -> dict[str, Any] | None:
        """Plain values of the worst element, for JSON; None without one."""
        if self.index is None:
            return None
        return {
            "index": list(self.index),
            "got": self.got,
            "expected": self.expected,
            "bound": self.bound,
            "wrong_elements": self.wrong,
            "elements": self.of,
        }

    def __str__(self) -> str:
        if self.index is None:
            return "the output is empty"
        expected = f"{self.expected!r} +- {self.bound:.3g}"
        return f"at {list(self.index)} got {self.got!r}, expected {expected}"


def relative_bound(fmt: Format, accumulation: str, terms: int, confidence: float = LAMBDA) -> float:
    """How far a sum of products may be off, over S, before it is stored: see the head."""
    added = confidence * math.sqrt(terms) * FORMATS[accumulation].unit_roundoff
    return 2 * _factor_roundoff(fmt) + added


def stored(
    bound: Float64, fmt: Format, accumulation: str, magnitude: Float64, *results: Float64
) -> Float64:
    """The bound of results that are stored one after the other, each made of the last one.

    Parameters
    ----------
    bound : array
        How far the first of them may be off before it is stored.
    magnitude : array
        S, which no result is larger than. Where what is stored is no coarser than the sums, all of
        them are stored once with that: another store is one addition more, which the root covers.
    """
    u_out = fmt.unit_roundoff
    if u_out <= FORMATS[accumulation].unit_roundoff:
        return bound + u_out * magnitude
    for result in results:
        bound = bound + u_out * (np.abs(result) + bound)
    return bound


def _factor_roundoff(fmt: Format) -> float:
    """Unit roundoff of the factors, if they are rounded before they are multiplied; else 0."""
    return 2.0**-fmt.factor_digits if fmt.factor_digits < fmt.digits else 0.0


def refer(
    pipeline: PipelineSpec,
    inputs: Inputs,
    *,
    exact: bool = False,
    strict: bool = False,
    accumulation: str | None = None,
    positions: Positions | None = None,
    confidence: float = LAMBDA,
    scheme: str | None = None,
) -> Reference:
    """Compute the oracle's output and the bound of every element.

    Parameters
    ----------
    exact : bool
        The bound is zero: only for inputs whose partial sums are exact.
    strict : bool
        Do not allow a result below the smallest normal number to be flushed to zero.
    accumulation : str, optional
        The format in which products are added, where it is not the usual one.
    positions : tuple of array, optional
        Only these elements; see :func:`sample`.
    confidence : float
        The factor lambda before the root of n.
    scheme : str, optional
        A name in :data:`.schemes.SCHEMES`, where the products are not those of the definition.

    Raises
    ------
    ArrayError
        If there is no such scheme, or it does not compute such a pipeline.
    """
    known = None if scheme is None else scheme_of(scheme, pipeline)
    fmt = format_of(inputs.weights.dtype)
    sees = _sees(pipeline, positions)
    if exact:  # nobody asks how large the terms were
        y = oracle.compute(pipeline, inputs, positions)
        bound = np.zeros_like(y)
        return Reference(y, bound, pipeline.output_shape, positions, sees, fmt.overflow)
    added_in = accumulation or fmt.accumulation
    u_acc, u_out = format_of(added_in).unit_roundoff, fmt.unit_roundoff
    # A device may flush a result below the smallest normal number to zero.
    slack = fmt.smallest if strict else fmt.tiny

    inputs = inputs.in_float64()
    with np.errstate(invalid="ignore", over="ignore"):  # nan - nan and 0 * inf are results here
        y = oracle.conv_and_bias(pipeline, inputs, positions)
        magnitude = oracle.conv_and_bias(pipeline, inputs.each(np.abs), positions)
        bound = np.zeros_like(y)
        if pipeline.conv is not None or pipeline.bias:
            terms = 0 if known else max(pipeline.reduction, 1)
            bound = relative_bound(fmt, added_in, terms, confidence) * magnitude + slack
            if known:
                # What it has transformed is stored on the way, and may be as large as S.
                stores = 1 if u_out <= u_acc else (pipeline.conv is not None) + pipeline.bias
                bound += stores * u_out * magnitude
            else:
                bias = inputs.weights.bias
                before = [] if pipeline.conv is None or bias is None else [y - bias]
                bound = stored(bound, fmt, added_in, magnitude, *before, y)
        if known:
            # A result that underflows is off by half the smallest number, u times the tiny one.
            least = FORMATS[added_in].tiny
            coarser = _factor_roundoff(fmt) / u_acc
            bound += (
                confidence * u_acc * known.deviations(pipeline, inputs, positions, least, coarser)
            )
        if pipeline.pool is not None:
            if pipeline.pool.op == "max":
                bound[~np.isfinite(y)] = 0.0  # -inf loses, whatever the bound of that would be
                y = oracle.max_pool(pipeline, y, positions)
                bound = oracle.max_pool(pipeline, bound, positions)
                if not strict:
                    bound = np.where(np.abs(y) < slack, np.maximum(bound, slack), bound)
            else:
                taps = math.prod(pipeline.pool.window)
                magnitude = oracle.avg_pool(pipeline, np.abs(y), positions)
                y = oracle.avg_pool(pipeline, y, positions)
                bound = oracle.avg_pool(pipeline, bound, positions)
                added = relative_bound(fmt, added_in, taps, confidence) + u_out
                bound = bound + added * magnitude + slack
                if strict:  # taps that are scaled before they are added may underflow, each
                    bound = bound + taps * fmt.smallest / 2
    return Reference(y, bound, pipeline.output_shape, positions, sees, fmt.overflow)


def _sees(pipeline: PipelineSpec, positions: Positions | None) -> NDArray[np.bool_]:
    """Which results are of some input: a window may lie in the padding, and give zero rightly."""
    if pipeline.conv is None or pipeline.bias:
        return np.ones((1, 1, 1, 1), bool)
    rows, columns = (
        np.array(window.counts(include_pad=False)) > 0 for window in pipeline.conv_windows
    )
    if pipeline.pool is not None:
        rows, columns = (
            np.array([seen[[i for i in taps if 0 <= i < seen.size]].any() for taps in window.reads])
            for seen, window in zip((rows, columns), pipeline.pool_windows, strict=True)
        )
    if positions is None:
        return (rows[:, np.newaxis] & columns)[np.newaxis, :, :, np.newaxis]
    return (rows[positions[1]] & columns[positions[2]])[:, np.newaxis, np.newaxis, np.newaxis]


def accuracy_of(got: Array, expected: Reference) -> Accuracy:
    """Find the worst element of an output.

    Raises
    ------
    ArrayError
        If the shape is not the oracle's.
    """
    if got.shape != expected.shape:
        raise ArrayError(
            f"output: the shape is {got.shape}; expected {expected.shape}. A stage is missing or "
            "its padding or stride is wrong."
        )
    if got.size == 0:
        return Accuracy(0.0)
    values = expected.looked_at(got)
    ratio = expected.ratios(values)
    worst = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    index = tuple(int(i) for i in worst)
    where = index
    if expected.positions is not None:
        where = (*(int(axis[index[0]]) for axis in expected.positions), index[3])
    return Accuracy(
        ratio=float(ratio[index]),
        index=where,
        got=float(values[index]),
        expected=_stored(float(expected.output[index]), expected.overflow),
        bound=float(expected.bound[index]),
        wrong=int(np.count_nonzero(ratio > 1)),
        of=ratio.size,
    )


def _stored(value: float, overflow: float) -> float:
    return math.copysign(math.inf, value) if abs(value) >= overflow else value


def refer_for(
    pipeline: PipelineSpec,
    inputs: Inputs,
    fill: Fill,
    accumulation: str | None = None,
    positions: Positions | None = None,
    scheme: str | None = None,
) -> Reference:
    """Compute the reference with the rules that belong to a fill; see :func:`refer`."""
    confidence = LAMBDA
    if fill is Fill.ADVERSARIAL:
        # One term can dominate a sum, and then every addition after it rounds as much as it can:
        # with so many elements, some come further than twice the root. Hoeffding's inequality gives
        # the factor that all of them together exceed once in a million runs.
        confidence = math.sqrt(2 * math.log(2e6 * max(math.prod(pipeline.conv_shape), 1)))
    return refer(
        pipeline,
        inputs,
        exact=is_exact(pipeline, inputs.weights.dtype, fill, accumulation, scheme),
        strict=fill is Fill.DENORMAL,
        accumulation=accumulation,
        positions=positions,
        confidence=confidence,
        scheme=scheme,
    )


def is_exact(
    pipeline: PipelineSpec,
    dtype: str,
    fill: Fill | str,
    accumulation: str | None = None,
    scheme: str | None = None,
) -> bool:
    """Whether inputs of this fill leave no room for rounding, to a scheme or a direct method."""
    fill, fmt = Fill(fill), format_of(dtype)
    if fill in {Fill.NORMAL, Fill.ADVERSARIAL}:
        return False
    if fill is Fill.DENORMAL and pipeline.pool is not None and pipeline.pool.op == "avg":
        return False  # not even a half of the smallest number exists
    largest = exact_magnitude(pipeline, fmt)
    if largest is None:
        return False
    if scheme is None:
        limit = FORMATS[accumulation or fmt.accumulation].exact_limit
        return largest_sum(pipeline, largest) <= limit
    if fill is Fill.DENORMAL:
        return False  # the filters are transformed to fractions
    digits = FORMATS[accumulation or fmt.accumulation].digits
    return scheme_of(scheme, pipeline).is_exact(pipeline, largest, digits)


def digest(output: Array) -> str:
    """A name for the very bits of an output: equal if and only if shape, dtype and bits are."""
    plain = np.ascontiguousarray(output, dtype=output.dtype.newbyteorder("<"))
    text = hashlib.sha256(f"{plain.shape} {plain.dtype.name} ".encode())
    text.update(plain.view(np.uint8).data if plain.size else b"")
    return text.hexdigest()[:16]
