r"""From what cause is an output wrong? Each known fault is a suspect, and has to explain all of it.

A false cause is worse than none. So a fault is named only if

- what is wrong is what the fault gives, within the bound that correct arithmetic has *with* the
  fault, and what is right is as it gives it, too: in all that was computed, or in all of the images
  or output channels in which anything is wrong;
- that could hardly be chance. An element that is off by e and is explained within b is explained
  by one in e / b of all numbers of its size; over the wrong elements that has to multiply to one in
  exp(`EVIDENCE`). A bound that is as wide as the results' own spread is no evidence at all.

Where a fault rounds, its outputs need more than a bound:

- What was stored in a shorter format is on the grid of that format, each of its elements.
- Sums that are kept in a shorter format err in an order that nobody knows. Either their errors are
  those of an order that was tried (the correlation over the elements is above `ALIKE`), or the
  format is that of the data and they are as large as a random walk of roundings makes them:
  after i of n terms of variance V / n and mean y / n, the sum has the mean square
  i V / n + (i y / n)^2, of which rounding takes a third of the unit roundoff squared, so that

  .. math:: \sigma^2 = u^2 n (V / 2 + y^2 / 3) / 3

  (Higham and Mary's model, see :mod:`convbench.correctness.accuracy`, with the variance in place of
  the bound.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from convbench.correctness import oracle
from convbench.correctness.accuracy import Accuracy, Reference, refer, relative_bound, stored
from convbench.correctness.faults import FAULTS, Fault, rounded_to
from convbench.correctness.oracle import Float64
from convbench.stimulus.arrays import Array
from convbench.stimulus.formats import FORMATS, format_of
from convbench.stimulus.inputs import Inputs
from convbench.stimulus.spec import PipelineSpec

Mask = NDArray[np.bool_]

SUSPECT_FLOPS = 200_000_000
"""The causes are looked for in a part of the output that costs the oracle about so much."""

_MOST_FLOPS = 1_000_000_000
"""And of an image that costs more, in some of its output channels."""

EVIDENCE = 5.3
"""Of a cause: chance would explain as much in one of exp(5.3) = 200 cases."""

_MOST_EVIDENCE = 14.0
"""Of one element, which may be wrong by anything."""

_EVIDENCE_OF_NONFINITE = 2.0

ALIKE = 0.8
"""From this correlation on, two sets of errors have the same source."""

_FEWEST_ERRORS = 12
"""Statistics of fewer say nothing."""

_FEWEST_SAME = 2
"""So many equal elements are no accident."""

_WALK = 0.3, 1.0
"""Times sigma, the errors of sums in a shorter format: fewer roundings make less."""

_FAR = 100.0
"""Times the largest bound, an output is too far off to be looked at closely."""

_REACH = 6.0
"""And no element is farther off than so many times sigma."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Something that would explain a wrong output.

    Attributes
    ----------
    name : str
        A name in :data:`convbench.correctness.faults.FAULTS`; or ``read_as_`` and orders of axes,
        as in ``read_as_nchw_oihw``.
    what : str
        In words, and where, if it is not everywhere; or what to write instead.
    ratio : float
        Error over bound, if that is what was computed: at most 1.
    """

    name: str
    what: str
    ratio: float


def causes_of(
    got: Array,
    pipeline: PipelineSpec,
    inputs: Inputs,
    accumulation: str,
    worst: Accuracy,
    scheme: str | None = None,
) -> list[Cause]:
    """Compare a wrong output with what each known fault would give.

    Parameters
    ----------
    got : array of shape (N, P, Q, K)
    worst : Accuracy
        What is looked at is around it, where the whole is large.
    scheme : str, optional
        As of :func:`.accuracy.refer`. What a fault gives is taken to be as far off by it as what is
        right is.

    Returns
    -------
    list of Cause
        Those that explain it, in the order of :data:`convbench.correctness.faults.FAULTS`: several
        faults can give the same output.
    """
    part, inputs, got = _part(pipeline, inputs, got, worst)
    suspicion = _Suspicion.of(got, part, inputs, accumulation, scheme, whole=part == pipeline)
    found = [cause for name in FAULTS if (cause := suspicion.explained_by(name)) is not None]
    if found or suspicion.systematic:
        return found
    for name in FAULTS:
        if (cause := suspicion.walked(name)) is not None:
            return [cause]
    return []


def causes_of_shape(
    got: Array, pipeline: PipelineSpec, inputs: Inputs, accumulation: str
) -> tuple[list[Cause], list[str]]:
    """Compare an output of another shape with what each fault gives that has this shape.

    Returns
    -------
    causes : list of Cause
    of_shape : list of str
        What would give the shape, whatever the numbers are.
    """
    exact = inputs.in_float64()
    causes, of_shape = [], []
    for name, fault in FAULTS.items():
        alike = 0
        for output, size in _outputs(
            fault, pipeline, exact, lambda output: output.shape == got.shape, fitted=False
        ):
            alike += 1
            expected = _expected(output, size, pipeline, inputs, accumulation)
            ratios = expected.ratios(got.astype(np.float64))
            spread = np.abs(expected.output - np.median(expected.output))
            if ratios.max() <= 1 and _evidence(spread, expected.bound) >= EVIDENCE:
                causes.append(Cause(name, fault.what, float(ratios.max())))
                break
        if alike:
            of_shape.append(fault.what)
    return causes, of_shape


@dataclass(frozen=True, slots=True)
class _Suspicion:
    """An output, or a part of it, and what it should be."""

    pipeline: PipelineSpec
    inputs: Inputs
    accumulation: str
    scheme: str | None
    values: Float64
    right: Reference
    wrong: Mask
    regions: tuple[tuple[str, Mask], ...]
    """Where a fault may be at work: everywhere, or in all that has something wrong in it."""

    @classmethod
    def of(
        cls,
        got: Array,
        pipeline: PipelineSpec,
        inputs: Inputs,
        accumulation: str,
        scheme: str | None,
        *,
        whole: bool,
    ) -> _Suspicion:
        right = refer(pipeline, inputs, accumulation=accumulation, scheme=scheme)
        values = got.astype(np.float64)
        wrong = right.ratios(values) > 1
        everywhere = np.ones((1, 1, 1, 1), bool)
        images: Mask = np.any(wrong, axis=(1, 2, 3), keepdims=True)
        channels: Mask = np.any(wrong, axis=(0, 1, 2), keepdims=True)
        which = [
            named(axis, chosen) if whole else f"some of the {axis}s"
            for axis, chosen in (("image", images), ("output channel", channels))
        ]
        regions = (
            ("", everywhere),
            (f" (in {which[0]} alone)", images),
            (f" (in {which[1]} alone)", channels),
        )
        exact = inputs.in_float64()  # once, and not for each fault
        return cls(pipeline, exact, accumulation, scheme, values, right, wrong, regions)

    @property
    def error(self) -> Float64:
        """How far each element is off."""
        with np.errstate(invalid="ignore"):
            return self.values - self.right.output

    @property
    def deviation(self) -> Float64:
        """How far each element is off; where nan or inf should be, how large it is instead."""
        error, should_be = np.abs(self.error), np.isfinite(self.right.output)
        return np.where(np.isfinite(self.values) & ~should_be, np.abs(self.values), error)

    def explained_by(self, name: str) -> Cause | None:
        """Whether a fault gives this, in one of its forms."""
        fault = FAULTS[name]
        if name == "missing_part":
            return self._missing()
        rounding = fault.grid or fault.sums
        for output, size in _outputs(
            fault,
            self.pipeline,
            self.inputs,
            lambda output: bool(rounding) or self._is_near(output),
        ):
            expected = _expected(output, size, self.pipeline, self.inputs, self.accumulation)
            if self.scheme:
                np.maximum(expected.bound, self.right.bound, out=expected.bound)
            same = output == self.right.output  # of which the fault may have cut the magnitude
            expected.bound[same] = self.right.bound[same]
            if fault.grid:
                cause = self._on_grid(name, expected)
            elif fault.sums:
                cause = self._alike(name, expected)
            else:
                cause = self._fits(name, expected)
            if cause is not None:
                return cause
        return None

    def _is_near(self, output: Float64) -> bool:
        """Whether what is wrong could be this: cheaper than to work out how near it has to be."""
        # Where nothing is rounded the fault may round.
        rounded = format_of(self.inputs.weights.dtype).unit_roundoff * np.abs(self.values)
        bound = np.maximum(self.right.bound, rounded)
        most = float(bound[np.isfinite(bound)].max(initial=0.0))
        with np.errstate(invalid="ignore"):
            far = np.abs(output - self.values)[self.wrong] > _FAR * most
        return not far.any()

    def _fits(self, name: str, expected: Reference) -> Cause | None:
        ratios = expected.ratios(self.values)
        fits = ratios <= 1
        if not fits[self.wrong].all():
            return None
        for where, region in self.regions:
            if not (fits | ~region).all():
                continue
            if _evidence(self.deviation[self.wrong], expected.bound[self.wrong]) < EVIDENCE:
                return None
            ratio = float(np.where(region, ratios, 0).max())
            return Cause(name, FAULTS[name].what + where, ratio)
        return None

    def _on_grid(self, name: str, expected: Reference) -> Cause | None:
        """Whether all results are what was stored in a shorter format, and near enough for it."""
        grid = FAULTS[name].grid
        if not np.array_equal(rounded_to(self.values, grid), self.values, equal_nan=True):
            return None
        fmt = FORMATS[grid]
        step = 2 * fmt.unit_roundoff * np.abs(expected.output) + fmt.smallest
        stored = replace(expected, bound=expected.bound + step, overflow=fmt.overflow)
        ratios = stored.ratios(self.values)
        if ratios.max() > 1 or np.count_nonzero(self.values) < 2:
            return None
        return Cause(name, FAULTS[name].what, float(ratios.max()))

    def _alike(self, name: str, expected: Reference) -> Cause | None:
        """Whether the errors are those of sums that were added in an order that was tried."""
        exact = self._fits(name, expected)
        if exact is not None:
            return exact
        with np.errstate(invalid="ignore"):
            error, likely = self.error.ravel(), (expected.output - self.right.output).ravel()
        finite = np.isfinite(error) & np.isfinite(likely)
        error, likely = error[finite], likely[finite]
        if error.size < _FEWEST_ERRORS or error.size < finite.size or not likely.any():
            return None
        if _correlation(error, likely) < ALIKE or self._is_offset(error):
            return None
        left, whole = (float(np.mean(e**2)) for e in (error - likely, error))
        return (
            None if left > (1 - ALIKE**2) * whole else Cause(name, FAULTS[name].what, left / whole)
        )

    @property
    def systematic(self) -> bool:
        """Whether the errors all have one sign, or follow the result: rounding does neither."""
        error, result = self.error.ravel(), self.right.output.ravel()
        finite = np.isfinite(error) & np.isfinite(result)
        error, result = error[finite], result[finite]
        if error.size < _FEWEST_ERRORS or not error.any():
            return True
        return self._is_offset(error) or abs(_correlation(error, result)) > ALIKE

    @staticmethod
    def _is_offset(error: Float64) -> bool:
        return abs(float(error.mean())) > ALIKE * math.sqrt(float(np.mean(error**2)))

    def walked(self, name: str) -> Cause | None:
        """Whether the errors are as large as those of sums in the format of the data."""
        fmt = format_of(self.inputs.weights.dtype)
        sums = FAULTS[name].sums
        if sums != fmt.storage or FORMATS[sums].digits >= FORMATS[self.accumulation].digits:
            return None
        sigma = _walk(self.pipeline, self.inputs, FORMATS[sums].unit_roundoff)
        error = self.error
        if not np.isfinite(error).all() or not (sigma > 0).all():
            return None
        spread = float(np.std(self.right.output))
        if _REACH * float(np.median(sigma)) > spread / 2:  # it would explain anything
            return None
        ratios = np.abs(error) / (_REACH * sigma + self.right.bound)
        size = math.sqrt(float(np.mean((error / sigma) ** 2)))
        if ratios.max() > 1 or not _WALK[0] <= size <= _WALK[1]:
            return None
        return Cause(name, FAULTS[name].what, float(ratios.max()))

    def _missing(self) -> Cause | None:
        """Whether all that is wrong is the same number, in a part that has nothing else."""
        value = self.values[self.wrong].flat[0]
        same = np.isnan(self.values) if np.isnan(value) else self.values == value
        expected = np.unique(self.right.output[self.wrong])
        if not same[self.wrong].all() or expected.size < _FEWEST_SAME:  # or they should be equal
            return None
        for where, part in parts(self.wrong):
            if same[part].all():
                what = f"{where} is not written: it holds {value:g}"
                return Cause("missing_part", what, 0.0)
        return None


# -- What a fault gives, and how near one has to come ----------------------------------------------


def _outputs(
    fault: Fault,
    pipeline: PipelineSpec,
    exact: Inputs,
    likely: Callable[[Float64], bool],
    *,
    fitted: bool = True,
) -> Iterator[tuple[Float64, Float64]]:
    """What each form gives that seems likely, in float64, and what it makes of the magnitudes."""
    for form in fault.forms:
        one = replace(fault, forms=(form,))
        with np.errstate(all="ignore"):
            output = next(one.outputs(oracle.compute, pipeline, exact, fitted=fitted))
            if output is None or not likely(output := output.astype(np.float64)):
                continue
            size = next(one.outputs(_magnitudes, pipeline, exact, fitted=fitted))
            if size is not None and size.shape == output.shape:
                yield output, np.abs(size.astype(np.float64))


def _magnitudes(pipeline: PipelineSpec, inputs: Inputs) -> Float64:
    return oracle.compute(pipeline, inputs.each(np.abs))


def _expected(
    output: Float64, size: Float64, pipeline: PipelineSpec, inputs: Inputs, accumulation: str
) -> Reference:
    """What a fault gives, with the bound of correct arithmetic around it.

    The magnitudes go the way of the numbers: what the fault makes of them is the S of its output.
    """
    fmt = format_of(inputs.weights.dtype)
    bound = np.full_like(size, fmt.tiny)
    with np.errstate(invalid="ignore", over="ignore"):
        if pipeline.conv is not None or pipeline.bias:
            stores = (pipeline.conv is not None) + pipeline.bias
            bound += relative_bound(fmt, accumulation, max(pipeline.reduction, 1)) * size
            bound = stored(bound, fmt, accumulation, size, *[output] * stores)
        if pipeline.pool is not None:  # the fault may have made it an average
            summed = replace(fmt, factor_digits=fmt.digits)  # of which no factor is rounded
            taps = math.prod(pipeline.pool.window)
            bound += (relative_bound(summed, accumulation, taps) + fmt.unit_roundoff) * size
    bound[~np.isfinite(bound)] = 0.0  # what is not finite is so exactly
    return Reference(output, bound, output.shape, overflow=fmt.overflow)


def _evidence(error: Float64, bound: Float64) -> float:
    """How much it tells that errors are explained within bounds: see the head of this module."""
    finite = np.isfinite(error)
    with np.errstate(divide="ignore", over="ignore"):
        each = np.log(error[finite] / bound[finite])
    each = np.clip(each, 0.0, _MOST_EVIDENCE)
    return float(each.sum()) + _EVIDENCE_OF_NONFINITE * int(np.count_nonzero(~finite))


def _walk(pipeline: PipelineSpec, inputs: Inputs, u: float) -> Float64:
    """Sigma of every element, where sums are kept in a format of unit roundoff u."""

    def sigma(terms: int, variance: Float64, total: Float64) -> Float64:
        return u * np.sqrt(terms * (variance / 2 + total**2 / 3) / 3)

    exact = inputs.in_float64()
    y = oracle.conv_and_bias(pipeline, exact)
    known = np.zeros_like(y)
    if pipeline.conv is not None:
        squares = oracle.conv_and_bias(pipeline, exact.each(np.square))
        known = sigma(pipeline.reduction, squares, y)
    if pipeline.pool is None:
        return known
    if pipeline.pool.op == "max":
        return oracle.max_pool(pipeline, known)
    taps = math.prod(pipeline.pool.window)
    mean, squares = oracle.avg_pool(pipeline, y), oracle.avg_pool(pipeline, y**2)
    return np.hypot(oracle.avg_pool(pipeline, known), sigma(taps, squares / taps, mean))


def _correlation(one: Float64, other: Float64) -> float:
    if not (one.std() and other.std()):
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


# -- Where it is wrong -----------------------------------------------------------------------------

_AXES = ("image", "row", "column", "output channel")


def place(got: Array, right: Reference) -> str:
    """Say which part of an output is wrong, if it is a part; "" if it is all over it.

    Parameters
    ----------
    got : array of shape (N, P, Q, K)
    right : Reference
        Of all of it, or of a sample, of which one part or another says nothing.
    """
    wrong = right.ratios(right.looked_at(got)) > 1
    if right.positions is not None:
        whole = np.zeros(right.shape, bool)
        seen = np.zeros(right.shape, bool)
        whole[right.positions], seen[right.positions] = wrong[:, 0, 0], True
        wrong = whole
        parted = [(name, part) for name, part in _slabs(wrong) if wrong[part & seen].all()]
        return next((name for name, part in parted if not part[seen].all()), "")
    return next((name for name, part in parts(wrong) if name != "everywhere"), "")


def parts(wrong: Mask) -> Iterator[tuple[str, Mask]]:
    """Regular parts of an array that have all that is wrong in them, the smallest first."""
    flat = np.flatnonzero(wrong)
    slabs = list(_slabs(wrong))
    tail = np.zeros(wrong.size, bool)
    tail[flat[0] :] = True
    index = np.unravel_index(int(flat[0]), wrong.shape)
    at = ", ".join(str(int(i)) for i in index)
    if flat[-1] == wrong.size - 1 and flat[0]:
        slabs.append(
            (f"everything from [{at}] on, as it lies in memory,", tail.reshape(wrong.shape))
        )
    yield from sorted(slabs, key=lambda each: int(each[1].sum()))


def _slabs(wrong: Mask) -> Iterator[tuple[str, Mask]]:
    """The product of the images, rows, columns and channels that have something wrong in them."""
    part = np.ones(wrong.shape, bool)
    names = []
    for axis, name in enumerate(_AXES):
        others = tuple(i for i in range(4) if i != axis)
        has: Mask = np.any(wrong, axis=others, keepdims=True)
        part &= has
        if not has.all():
            names.append(named(name, has))
    yield (" of ".join(names[::-1]) if names else "everywhere"), part


def named(axis: str, chosen: Mask) -> str:
    """Name indices of an axis, as in "images 0 to 2 and 5 of 8"."""
    indices = np.flatnonzero(chosen)
    runs = np.split(indices, np.flatnonzero(np.diff(indices) > 1) + 1)
    if len(runs) > _MOST_RUNS:
        steps = np.unique(np.diff(indices))
        if len(steps) == 1:
            return f"every {_ordinal(int(steps[0]))} {axis} from {indices[0]} on"
        return f"{len(indices)} of {chosen.size} {axis}s"
    spans = [f"{run[0]}" if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs]
    plural = "s" if len(indices) > 1 else ""
    return f"{axis}{plural} {' and '.join(spans)} of {chosen.size}"


_MOST_RUNS = 3


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")


def _part(
    pipeline: PipelineSpec, inputs: Inputs, got: Array, worst: Accuracy
) -> tuple[PipelineSpec, Inputs, Array]:
    """Cut out some images and output channels around the worst element, if the whole is large."""
    assert worst.index is not None
    image, channel = worst.index[0], worst.index[3]
    weights = inputs.weights
    each = max(pipeline.flops // max(pipeline.n, 1), 1)
    images = max(1, min(pipeline.n, SUSPECT_FLOPS // each))
    first = min(image, pipeline.n - images)
    keep = slice(first, first + images)
    pipeline = pipeline.with_batch(images)
    x, got = inputs.x[keep], got[keep]
    conv = pipeline.conv
    large = pipeline.flops > max(_MOST_FLOPS, SUSPECT_FLOPS)
    if large and conv is not None and weights.filters is not None and conv.groups == 1:
        number = max(2, math.ceil(conv.k * _MOST_FLOPS / pipeline.flops))
        start = max(0, min(channel, conv.k - number))
        chosen = slice(start, start + number)
        pipeline = replace(pipeline, conv=replace(conv, k=min(number, conv.k)))
        weights = replace(
            weights,
            filters=weights.filters[..., chosen],
            bias=None if weights.bias is None else weights.bias[chosen],
        )
        got = got[..., chosen]
    return pipeline, Inputs(x, weights), got
