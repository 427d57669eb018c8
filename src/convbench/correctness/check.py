"""Judge somebody's output: right within what its arithmetic allows, or wrong, and from what cause.

The output may come from anywhere: a kernel of one's own, a GPU, an exported model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from convbench.backends.compute import checked_inputs
from convbench.correctness.accuracy import Accuracy, Reference, accuracy_of, refer
from convbench.correctness.causes import Cause, causes_of, causes_of_shape, place
from convbench.correctness.readings import Given, memory_that_explains, reading_that_explains
from convbench.correctness.sample import sample
from convbench.correctness.schemes import scheme_of
from convbench.errors import ArrayError
from convbench.stimulus.arrays import Array, Layout
from convbench.stimulus.formats import FORMATS, Format, Precision, format_of
from convbench.stimulus.inputs import Inputs
from convbench.stimulus.spec import PipelineSpec
from convbench.words.table import remark, stacked

if TYPE_CHECKING:
    from rich.console import RenderableType


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
    place : str
        Where it is wrong, if that is a part of it, as in "image 1 of 2".
    overflowing : int
        How many of the expected values are infinite in the format of the output.
    sampled : int
        How many positions were looked at; 0 for all.
    arithmetic : str
        What was assumed: the bound depends on it.
    in_order : bool
        It is right, and beyond the bound of rounding errors that are independent: adding the terms
        one after the other comes as far, as with a constant image, where they all are equal.
    """

    ok: bool
    reason: str
    accuracy: Accuracy | None
    arithmetic: str
    relative: float = 0.0
    worst_relative: float = 0.0
    causes: tuple[Cause, ...] = ()
    sampled: int = 0
    place: str = ""
    overflowing: int = 0
    in_order: bool = False

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
            "place": self.place or None,
            "beyond_the_range": self.overflowing,
            "in_order": self.in_order,
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
    layout: str = "NHWC",
    scheme: str | None = None,
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
    layout : str
        In which order the axes of the arrays are, where it is another; see
        :func:`convbench.run`. The element that a report names is (n, p, q, k) all the same.
    scheme : str, optional
        How multiplications were saved, as in "winograd F(4x4,3x3)": a name in
        :data:`convbench.correctness.schemes.SCHEMES`, whose bound it is judged by.

    Raises
    ------
    ArrayError
        If the inputs do not fit the pipeline, or the format, the layout or the scheme is unknown.

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
    got, order = np.asarray(got), Layout.parse(layout)
    inputs = checked_inputs(pipeline, x, filters, bias, fmt, order)
    if accumulation is not None:
        format_of(accumulation)
    added = accumulation or fmt.accumulation
    arithmetic = f"{fmt.name}, added in {added}"
    if scheme is not None:
        arithmetic += f", by {scheme_of(scheme, pipeline)}"
    filters, bias = (None if array is None else np.asarray(array) for array in (filters, bias))
    given = Given(got, pipeline, np.asarray(x), filters, bias, order, fmt.name, added, scheme)
    if got.shape != (shape := order.data_shape(pipeline.output_shape)):
        reason = f"the shape is {got.shape}; expected {shape}"
        found = _readings(given, seed)
        of_format = got.dtype.newbyteorder("=") == np.dtype(fmt.storage)
        if of_format and got.size and got.ndim == len(shape):
            more, of_shape = causes_of_shape(order.read_data(got), pipeline, inputs, added)
            found += tuple(more)
            if not found and of_shape:
                reason += f"; the shape would be so if {'; or if '.join(of_shape[:_MOST_NAMED])}"
        return Report(False, reason, None, arithmetic, causes=found)
    got = order.read_data(got)
    if got.dtype.newbyteorder("=") != np.dtype(fmt.storage):
        reason = f"the dtype is {got.dtype.name}; expected {fmt.storage}"
        return Report(False, reason, None, arithmetic)
    positions = sample(pipeline, seed)
    expected = refer(pipeline, inputs, accumulation=added, positions=positions, scheme=scheme)
    accuracy = accuracy_of(got, expected)
    relative, there = _relative(got, expected)
    reason = ""
    where = ""
    causes: tuple[Cause, ...] = ()
    in_order = (
        not accuracy.ok and scheme is None and _in_order(got, expected, pipeline, inputs, added)
    )
    if not (accuracy.ok or in_order):
        reason = f"{accuracy.wrong} of {accuracy.of} elements are wrong; the worst is {accuracy}"
        if order.data != "NHWC":
            reason += " (n, p, q, k)"
        where = place(got, expected)
        causes = _readings(given, seed)
        known = {cause.name for cause in causes}
        more = causes_of(got, pipeline, inputs, added, accuracy, scheme)
        causes += tuple(cause for cause in more if cause.name not in known)
    return Report(
        accuracy.ok or in_order, reason, accuracy, arithmetic, relative, there, causes,
        sampled=0 if positions is None else len(positions[0]),
        place=where,
        overflowing=expected.overflowing,
        in_order=in_order,
    )  # fmt: skip


def _in_order(
    got: Array, expected: Reference, pipeline: PipelineSpec, inputs: Inputs, added: str
) -> bool:
    """Whether errors beyond the bound are as large as those of sums in the order of the terms.

    The bound takes rounding errors for independent. Those of equal terms are not: all are of one
    sign, and grow with n and not with its root. So the worst and some others of the elements that
    are beyond it are added up here, one term after the other, and may be twice as far off.
    """
    fmt = format_of(inputs.weights.dtype)
    filters, bias = inputs.weights.filters, inputs.weights.bias
    one_by_one = np.dtype(FORMATS[added].storage)
    if filters is None or pipeline.pool is not None or fmt.factor_digits < fmt.digits:
        return False
    values = expected.looked_at(got)
    ratio = expected.ratios(values)
    wrong = np.argsort(-ratio, axis=None)[: np.count_nonzero(ratio > 1)]
    some = np.unique(np.concatenate([wrong[:_ADDED_UP], wrong[:: 1 + len(wrong) // _ADDED_UP]]))
    rows, columns = ([*window.reads] for window in pipeline.conv_windows)
    depth, each = filters.shape[2], pipeline.conv_shape[3] // (pipeline.c // filters.shape[2])
    for at in zip(*np.unravel_index(some, ratio.shape), strict=True):
        n, p, q, k = at
        if expected.positions is not None:
            n, p, q = (axis[n] for axis in expected.positions)
        group = slice(k // each * depth, (k // each + 1) * depth)
        terms = [
            inputs.x[n, i, j, group].astype(one_by_one) * filters[r, s, :, k].astype(one_by_one)
            for r, i in enumerate(rows[p]) for s, j in enumerate(columns[q])
            if 0 <= i < pipeline.h and 0 <= j < pipeline.w
        ]  # fmt: skip
        if bias is not None:
            terms.append(bias[k : k + 1].astype(one_by_one))
        with np.errstate(all="ignore"):
            total = float(np.cumsum(np.concatenate(terms))[-1]) if terms else 0.0
            may = expected.bound[at] + 2 * abs(total - expected.output[at])
        if not abs(values[at] - expected.output[at]) <= may < math.inf:
            return False
    return True


def render(report: Report) -> RenderableType:
    """Put a report into words."""
    assumed = f"as {report.arithmetic}"
    causes = [f"fits: {c.what} (error / bound would be {c.ratio:.3g})" for c in report.causes]
    if report.accuracy is None:
        return stacked(remark("WRONG", f"{assumed}: {report.reason}", causes, "bold red"))
    ratio = f"error / bound is {report.accuracy.ratio:.3g}"
    if report.ok:
        where = f"{assumed}: {ratio} at most, {report.accuracy}"
        return stacked(remark("right", where, _notes(report), "green"))
    said = (*(causes or ["none of the known causes fits"]), *_notes(report))
    return stacked(remark("WRONG", f"{assumed}: {ratio}, {report.reason}", said, "bold red"))


def _notes(report: Report) -> Iterator[str]:
    assert report.accuracy is not None
    if report.place:
        yield f"It is wrong in {report.place} only."
    if report.overflowing:
        yield (
            f"{report.overflowing} of the results are beyond the largest number of the format,"
            f" {FORMATS[report.arithmetic.partition(',')[0]].largest:g}: there inf is right."
        )
    if report.in_order:
        yield (
            "That is beyond the bound of independent rounding errors. Here they are not: adding"
            " these terms one after the other comes as far. Random numbers tell more."
        )
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


def _readings(given: Given, seed: int) -> tuple[Cause, ...]:
    """The readings of the arrays or of the pads under which the output is right."""
    readings = memory_that_explains(given, seed), reading_that_explains(given, seed)
    return tuple(reading for reading in readings if reading is not None)


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
    values = expected.looked_at(got)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        relative = np.abs(values - expected.output) / np.abs(expected.output)
    relative[~np.isfinite(relative)] = 0.0
    if not relative.size:
        return 0.0, 0.0
    worst = int(np.argmax(relative))
    return float(relative.flat[worst]), float(expected.output.flat[worst])


# See `refer_for`: the bound for sums that one term dominates is about so many times wider.
_ADDED_UP = 50
"""So many of the worst, and of the others."""

_NEAR = 4.0

_MOST_NAMED = 3
