"""Judge somebody's output: right within what its arithmetic allows, or wrong, and from what cause.

The output may come from anywhere: a kernel of one's own, a GPU, an exported model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from convbench.backends.compute import checked_inputs
from convbench.correctness import oracle
from convbench.correctness.accuracy import Accuracy, Reference, accuracy_of, refer
from convbench.correctness.faults import FAULTS
from convbench.correctness.sample import Positions, sample
from convbench.errors import ArrayError
from convbench.stimulus.arrays import Array
from convbench.stimulus.formats import FORMATS, Format, Precision, format_of
from convbench.stimulus.inputs import Inputs
from convbench.stimulus.spec import PipelineSpec
from convbench.words.table import remark, stacked

if TYPE_CHECKING:
    from rich.console import RenderableType

SUSPECT_FLOPS = 200_000_000
"""The causes are looked for in a part of the output that costs the oracle about so much."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Something that would explain a wrong output.

    Attributes
    ----------
    name : str
        A name in :data:`convbench.correctness.faults.FAULTS`.
    ratio : float
        Error over bound, if that is what was computed: at most 1.
    """

    name: str
    what: str
    ratio: float


@dataclass(frozen=True, slots=True)
class Report:
    """What there is to say about an output.

    Attributes
    ----------
    reason : str
        Why it is wrong; empty if it is right.
    accuracy : Accuracy, optional
        The worst element; None if the shape or the dtype is wrong already.
    relative : float
        The largest relative error, which says little: see `worst_relative`.
    worst_relative : float
        What was expected where the relative error is largest.
    causes : tuple of Cause
        Those that fit, the likeliest first; several faults can give the same output.
    sampled : int
        How many positions were looked at; 0 for all.
    arithmetic : str
        What was assumed: the bound depends on it.
    """

    ok: bool
    reason: str
    accuracy: Accuracy | None
    arithmetic: str
    relative: float = 0.0
    worst_relative: float = 0.0
    causes: tuple[Cause, ...] = ()
    sampled: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        worst = self.accuracy
        return {
            "ok": self.ok,
            "reason": self.reason,
            "arithmetic": self.arithmetic,
            "error_over_bound": None if worst is None else worst.ratio,
            "worst": None if worst is None else worst.to_dict(),
            "largest_relative_error": self.relative,
            "expected_there": self.worst_relative,
            "sampled_positions": self.sampled or None,
            "causes": [{"name": c.name, "what": c.what, "ratio": c.ratio} for c in self.causes],
        }  # fmt: skip


def check(
    got: Array,
    pipeline: PipelineSpec,
    x: Array,
    filters: Array | None = None,
    bias: Array | None = None,
    *,
    dtype: str | None = None,
    precision: Precision = "ieee",
    accumulation: str | None = None,
    seed: int = 0,
) -> Report:
    """Say whether an output is right within what its arithmetic allows.

    Parameters
    ----------
    got : array of shape (N, P, Q, K)
        The output in question.
    pipeline : PipelineSpec
    x, filters, bias : array
        What it was computed from: (N, H, W, C), (R, S, C // groups, K) and (K,).
    dtype : str, optional
        The format that it was computed in; that of `x` by default.
    precision : "ieee" or "tf32"
        ``tf32`` if the factors of float32 products may have been rounded to 11 bits.
    accumulation : str, optional
        The format in which products were added, where it is not the usual one: float32 for
        16-bit formats, else the format itself.
    seed : int
        Of the sample of positions that is looked at in a large output.

    Raises
    ------
    ArrayError
        If the inputs do not fit the pipeline, or the format is unknown.

    Examples
    --------
    >>> import convbench
    >>> import numpy as np
    >>> from convbench import ConvSpec, PipelineSpec
    >>> pipeline = PipelineSpec(1, 5, 5, 3, conv=ConvSpec(k=2, r=3, s=3))
    >>> x = np.arange(75, dtype="float32").reshape(1, 5, 5, 3)
    >>> filters = np.arange(54, dtype="float32").reshape(3, 3, 3, 2)
    >>> flipped = convbench.run(pipeline, x, filters[::-1, ::-1])
    >>> report = check(flipped, pipeline, x, filters)
    >>> report.ok, report.causes[0].name
    (False, 'flipped_filters')
    """
    fmt = _format(dtype or np.asarray(x).dtype.name, precision)
    got = np.asarray(got)
    inputs = checked_inputs(pipeline, x, filters, bias, fmt)
    if accumulation is not None:
        format_of(accumulation)
    added = accumulation or fmt.accumulation
    arithmetic = f"{fmt.name}, added in {added}"
    if got.shape != pipeline.output_shape:
        reason = f"the shape is {got.shape}; expected {pipeline.output_shape}"
        return Report(False, reason, None, arithmetic)
    if got.dtype.newbyteorder("=") != np.dtype(fmt.storage):
        reason = f"the dtype is {got.dtype.name}; expected {fmt.storage}"
        return Report(False, reason, None, arithmetic)
    positions = sample(pipeline, seed)
    expected = refer(pipeline, inputs, accumulation=added, positions=positions)
    accuracy = accuracy_of(got, expected)
    relative, there = _relative(got, expected)
    reason = ""
    causes: tuple[Cause, ...] = ()
    if not accuracy.ok:
        reason = f"{accuracy.wrong} of {accuracy.of} elements are wrong; the worst is {accuracy}"
        causes = tuple(_causes(got, pipeline, inputs, added, positions, accuracy))
    sampled = 0 if positions is None else len(positions[0])
    return Report(accuracy.ok, reason, accuracy, arithmetic, relative, there, causes, sampled)


def render(report: Report) -> RenderableType:
    """Put a report into words."""
    assumed = f"as {report.arithmetic}"
    if report.accuracy is None:
        return stacked(remark("WRONG", f"{assumed}: {report.reason}", (), "bold red"))
    ratio = f"error / bound is {report.accuracy.ratio:.3g}"
    if report.ok:
        where = f"{assumed}: {ratio} at most, {report.accuracy}"
        return stacked(remark("right", where, _notes(report), "green"))
    causes = [f"fits: {c.what} (error / bound would be {c.ratio:.3g})" for c in report.causes]
    said = (*(causes or ["none of the known causes fits"]), *_notes(report))
    return stacked(remark("WRONG", f"{assumed}: {ratio}, {report.reason}", said, "bold red"))


def _notes(report: Report) -> Iterator[str]:
    assert report.accuracy is not None
    if not report.ok and report.accuracy.ratio <= _NEAR:
        yield (
            "That is near the bound: rounding can do it where a few terms are far larger than the"
            " rest of their sums."
        )
    if report.relative > 1e-3:
        yield (
            f"The largest relative error is {report.relative:.3g}, where"
            f" {report.worst_relative:.3g} was expected: near zero it says nothing, and it is not"
            " what is judged here."
        )
    if report.sampled:
        yield f"{report.sampled} positions were looked at, corners and edges too."


def _format(dtype: str, precision: str) -> Format:
    if precision not in get_args(Precision):
        raise ArrayError(
            f"check: the precision is {precision!r}; expected ieee or tf32. Leave it out for ieee."
        )
    if precision == "tf32":
        if dtype not in {"float32", "tf32"}:
            raise ArrayError(
                f"check: the precision is tf32; expected ieee for {dtype}. TF32 is a way of "
                "float32."
            )
        return FORMATS["tf32"]
    return format_of(dtype)


def _relative(got: Array, expected: Reference) -> tuple[float, float]:
    values = got.astype(np.float64)
    if expected.positions is not None:
        values = values[expected.positions][:, np.newaxis, np.newaxis]
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = np.abs(values - expected.output) / np.abs(expected.output)
    relative[~np.isfinite(relative)] = 0.0
    if not relative.size:
        return 0.0, 0.0
    worst = int(np.argmax(relative))
    return float(relative.flat[worst]), float(expected.output.flat[worst])


# See `refer_for`: the bound for sums that one term dominates is about so many times wider.
_NEAR = 4.0

_FEWEST_ERRORS, _SYSTEMATIC = 30, 0.9

# Looser arithmetic than was claimed, the tightest first: the fault, and the format of the factors
# or of the sums.
_LOOSER = (
    ("tf32_factors", "tf32", None),
    ("float16_accumulation", None, "float16"),
    ("bfloat16_accumulation", None, "bfloat16"),
)


def _causes(
    got: Array,
    pipeline: PipelineSpec,
    inputs: Inputs,
    accumulation: str,
    positions: Positions | None,
    worst: Accuracy,
) -> Iterator[Cause]:
    """Compare with what each known fault would give, and then with looser bounds."""
    part, part_inputs, part_got = _part(pipeline, inputs, got, worst)
    exact = part_inputs.in_float64()
    right = refer(part, part_inputs, accumulation=accumulation)
    bound = np.full_like(right.bound, right.bound.max())  # the fault has moved the elements
    found = set()
    for name, fault in FAULTS.items():
        with np.errstate(all="ignore"):
            output = fault.apply(oracle.compute, part, exact)
        # A fault that leaves this output as it should be explains nothing.
        if output is None or accuracy_of(output, right).ok:
            continue
        suspect = replace(right, output=output.astype(np.float64), bound=bound)
        if (fits := accuracy_of(part_got, suspect)).ok:
            found.add(name)
            yield Cause(name, fault.what, fits.ratio)
    if _is_systematic(part_got, right):
        return
    dtype = inputs.weights.dtype
    for name, factors, added in _LOOSER:
        if factors is not None and dtype != "float32":
            continue
        if added is not None and FORMATS[added].digits >= FORMATS[accumulation].digits:
            continue
        loose = replace(inputs, weights=replace(inputs.weights, dtype=factors or dtype))
        expected = refer(pipeline, loose, accumulation=added or accumulation, positions=positions)
        if (fits := accuracy_of(got, expected)).ok:
            if name not in found:
                yield Cause(name, FAULTS[name].what, fits.ratio)
            return


def _is_systematic(got: Array, right: Reference) -> bool:
    """Whether the errors all have one sign, or follow the result: rounding does neither."""
    error = (got.astype(np.float64) - right.output).ravel()
    result = right.output.ravel()
    finite = np.isfinite(error) & np.isfinite(result)
    error, result = error[finite], result[finite]
    if error.size < _FEWEST_ERRORS or not error.any():
        return False
    root_mean_square = math.sqrt(float(np.mean(error**2)))
    if abs(float(error.mean())) > _SYSTEMATIC * root_mean_square:
        return True
    return bool(result.std() and abs(np.corrcoef(error, result)[0, 1]) > _SYSTEMATIC)


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
    conv, large = pipeline.conv, pipeline.flops > SUSPECT_FLOPS
    if large and conv is not None and weights.filters is not None and conv.groups == 1:
        number = max(2, math.ceil(conv.k * SUSPECT_FLOPS / pipeline.flops))
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
