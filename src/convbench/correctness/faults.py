"""Everything that is commonly wrong with a convolution, as data.

A fault says what a broken implementation would return, by way of a correct one: it changes the
pipeline, the inputs or the output of a `compute` that it is given. With a backend's `compute` it is
planted into that backend, to see whether the checks catch it (``convbench verify --self-test``).
With the oracle's it is a suspect: what somebody's wrong output is compared with, to name the cause
(``convbench check``).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from convbench.correctness import oracle
from convbench.errors import SpecError
from convbench.stimulus.arrays import Array, Weights
from convbench.stimulus.formats import FORMATS, format_of
from convbench.stimulus.inputs import Inputs
from convbench.stimulus.spec import ConvSpec, Padding, Pads, PipelineSpec, PoolSpec, Windows

Compute = Callable[[PipelineSpec, Inputs], Array]


class NoRoom(Exception):
    """The pipeline has no room for a fault."""


@dataclass(frozen=True, slots=True)
class Correct:
    """A correct implementation and what it is given: what a fault is planted into.

    Attributes
    ----------
    fitted : bool
        What a stage gives is cropped, or padded with zeros, to what the next one expects; else the
        whole pipeline follows the fault, and its output may have another shape.
    """

    compute: Compute
    pipeline: PipelineSpec
    inputs: Inputs
    fitted: bool = True

    @property
    def weights(self) -> Weights:
        """Those of the inputs."""
        return self.inputs.weights

    @property
    def conv(self) -> ConvSpec:
        """Its convolution; NoRoom without one."""
        if self.pipeline.conv is None:
            raise NoRoom
        return self.pipeline.conv

    def pool(self, *ops: str) -> PoolSpec:
        """Its pool, if it is one of these; else NoRoom."""
        pool = self.pipeline.pool
        if pool is None or (ops and pool.op not in ops):
            raise NoRoom
        return pool

    def output(self, pipeline: PipelineSpec | None = None, x: Any = None, **weights: Any) -> Array:
        """What it computes; of another pipeline, or with another input, filters or bias."""
        x = np.ascontiguousarray(self.inputs.x if x is None else x)
        inputs = Inputs(x, replace(self.weights, **weights))
        return self.compute(pipeline or self.pipeline, inputs)

    def before_the_pool(self) -> Array:
        """The output of the convolution and the bias, as far as they are present."""
        if self.pipeline.conv is None and not self.pipeline.bias:
            return self.inputs.x
        return self.output(replace(self.pipeline, pool=None))

    def pooled(self, x: Array, pool: PoolSpec) -> Array:
        """What it computes of a pool alone."""
        n, h, w, c = x.shape
        weights = Weights(self.weights.dtype)
        return self.compute(PipelineSpec(n, h, w, c, pool=pool), Inputs(x, weights))

    def rest(self, y: Array, *, bias: bool) -> Array:
        """What it computes of the output of its convolution, from the bias or from the pool on."""
        pool = self.pipeline.pool
        if not bias and pool is None:
            return y
        n, h, w, c = y.shape
        weights = replace(self.weights, filters=None, bias=self.weights.bias if bias else None)
        return self.compute(PipelineSpec(n, h, w, c, bias=bias, pool=pool), Inputs(y, weights))


Plant = Callable[[Correct], Array]
Change = Callable[[Array], Array]


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to be wrong.

    Attributes
    ----------
    what : str
        In words, as the cause of a wrong output.
    forms : tuple of callable
        ``(correct) -> output``, or NoRoom. That of the first is planted into backends.
    grid : str
        The format that all results are numbers of, if the fault is to have stored them in it.
    sums : str
        The format that sums are kept in, if that is the fault: in which order is not known then.
    """

    what: str
    forms: tuple[Plant, ...]
    grid: str = ""
    sums: str = ""

    def outputs(
        self, compute: Compute, pipeline: PipelineSpec, inputs: Inputs, *, fitted: bool = True
    ) -> Iterator[Array | None]:
        """Compute with each form of the fault; None where the pipeline has no room for it.

        Parameters
        ----------
        fitted : bool
            The outputs have the right shape; else that which the fault gives them.
        """
        for form in self.forms:
            try:
                output = form(Correct(compute, pipeline, inputs, fitted))
            except (NoRoom, SpecError):  # or the changed pipeline cannot be computed
                yield None
            else:
                yield _fit(output, pipeline.output_shape) if fitted else output

    def apply(self, compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
        """Compute with the first form that there is room for; None if there is none."""
        outputs = self.outputs(compute, pipeline, inputs)
        return next((output for output in outputs if output is not None), None)


def _fit(output: Array, shape: tuple[int, ...]) -> Array:
    """Crop or pad with zeros at the end of every axis."""
    if output.shape == shape:
        return output
    fitted = np.zeros(shape, output.dtype)
    common = tuple(slice(min(a, b)) for a, b in zip(output.shape, shape, strict=True))
    fitted[common] = output[common]
    return fitted


# -- all is right but for one change --------------------------------------------------------------


def _x(change: Change) -> Plant:
    return lambda correct: correct.output(x=change(correct.inputs.x))


def _weights(name: str, change: Change) -> Plant:
    def plant(correct: Correct) -> Array:
        if (array := getattr(correct.weights, name)) is None:
            raise NoRoom
        changed: Any = {name: np.ascontiguousarray(change(array))}
        return correct.output(**changed)

    return plant


_filters, _bias = partial(_weights, "filters"), partial(_weights, "bias")


def _conv(change: Callable[[ConvSpec], ConvSpec], *, anew: bool = False) -> Plant:
    """Change the convolution.

    Parameters
    ----------
    anew : bool
        SAME padding is worked out again for what has been changed; else it stays, in numbers.
    """

    def plant(correct: Correct) -> Array:
        pipeline, conv = correct.pipeline, correct.conv
        if anew and isinstance(conv.padding, tuple):  # which is the same as in numbers
            raise NoRoom
        changed = _changed(conv, change, pipeline.conv_windows, anew=anew)
        if not correct.fitted:
            return correct.output(replace(pipeline, conv=changed))
        alone = correct.output(replace(pipeline, conv=changed, pool=None))
        return correct.rest(_fit(alone, pipeline.conv_shape), bias=False)

    return plant


def _changed(spec: Any, change: Callable[[Any], Any], windows: Windows, *, anew: bool) -> Any:
    if not anew:
        spec = replace(spec, padding=_pads(windows))
    if (changed := change(spec)) == spec:
        raise NoRoom
    return changed


def _pads(windows: Windows) -> Pads:
    rows, columns = windows
    return rows.before, rows.after, columns.before, columns.after


def _padding(change: Callable[[int, int, int, int], Padding]) -> Plant:
    return _conv(lambda conv: replace(conv, padding=change(*conv.padding)))


def _dilated_more(conv: ConvSpec, by: int) -> ConvSpec:
    rows, columns = conv.dilation
    return replace(conv, dilation=(rows + by, columns + by))


def _symmetric(spec: ConvSpec | PoolSpec) -> Any:
    """With half of the window on either side, as libraries pad that know one number an axis."""
    up, left = (
        dilation * (taps - 1) // 2
        for dilation, taps in zip(spec.dilation, spec.window, strict=True)
    )
    return replace(spec, padding=(up, up, left, left))


def _pool(change: Callable[[PoolSpec], PoolSpec], *, anew: bool = True) -> Plant:
    """Change the pool; see :func:`_conv`."""

    def plant(correct: Correct) -> Array:
        pool = correct.pool()
        if not anew and isinstance(pool.padding, tuple):
            raise NoRoom
        changed = _changed(pool, change, correct.pipeline.pool_windows, anew=anew)
        return correct.output(replace(correct.pipeline, pool=changed))

    return plant


def _convs(change: Callable[[ConvSpec], ConvSpec]) -> tuple[Plant, Plant]:
    """Both ways; of explicit padding they are one."""
    return _conv(change), _conv(change, anew=True)


def _pools(change: Callable[[PoolSpec], PoolSpec]) -> tuple[Plant, Plant]:
    """Likewise."""
    return _pool(change), _pool(change, anew=False)


def _pool_input(change: Change, *ops: str) -> Plant:
    def plant(correct: Correct) -> Array:
        pool = correct.pool(*ops)
        return correct.pooled(change(correct.before_the_pool()), pool)

    return plant


def _output(change: Change) -> Plant:
    return lambda correct: change(correct.output())


def _at(where: Any, change: Change) -> Change:
    """Change a part of an array."""

    def changed(array: Array) -> Array:
        array = array.copy()
        array[where] = change(array[where])
        return array

    return changed


def _shift(axis: int, by: int, mode: str) -> Change:
    """Shift an array; what comes in is what went out (wrap), zero, or what was at the edge."""

    def shifted(array: Array) -> Array:
        if mode == "wrap":
            return np.roll(array, by, axis=axis)
        pads = [(0, 0)] * array.ndim
        pads[axis] = (max(by, 0), max(-by, 0))
        padded = np.pad(array, pads, mode=mode)  # type: ignore[call-overload]
        kept = slice(0, array.shape[axis]) if by > 0 else slice(-by, None)
        part: Array = padded[tuple(kept if i == axis else slice(None) for i in range(array.ndim))]
        return part

    return shifted


def _shifts(plant: Callable[[Change], Plant], axis: int) -> tuple[Plant, ...]:
    """Shifted by one either way, whatever comes in."""
    return tuple(
        plant(_shift(axis, by, mode)) for by in (1, -1) for mode in ("wrap", "constant", "edge")
    )


# -- what takes more than one change ---------------------------------------------------------------


def _dropped_tap(correct: Correct, which: int) -> Array:
    conv = correct.conv
    if which >= conv.r * conv.s:
        raise NoRoom
    return _filters(_at(divmod(conv.r * conv.s - 1 - which, conv.s), np.zeros_like))(correct)


def _tap_off_by_a_thousandth(correct: Correct) -> Array:
    digits = format_of(correct.weights.dtype).factor_digits
    # The next number, where 1.001 is rounded to 1.
    factor = 1 + 2.0 ** (1 - digits) if digits < 11 else 1.001
    return _filters(_at(np.s_[0, 0], lambda f: f * factor))(correct)


def _bias_along_width(correct: Correct) -> Array:
    pipeline, bias = correct.pipeline, correct.weights.bias
    if bias is None or pipeline.pool is not None or pipeline.conv is None:
        raise NoRoom
    plain = correct.output(replace(pipeline, bias=False), bias=None)
    wrong: Array = plain + np.resize(bias, plain.shape[2])[:, np.newaxis]
    return wrong


def _groups(change: Callable[[Array], Array]) -> Plant:
    """Change which channels of the input a group is given: an array (..., groups, C // groups)."""

    def plant(correct: Correct) -> Array:
        if (groups := correct.conv.groups) == 1:
            raise NoRoom
        x = correct.inputs.x
        blocked = x.reshape(*x.shape[:3], groups, -1)
        return correct.output(x=change(blocked).reshape(x.shape))

    return plant


def _interleaved(blocked: Array) -> Array:
    if blocked.shape[-1] == 1:  # there is nothing to interleave
        return np.roll(blocked, 1, axis=-2)
    return blocked.swapaxes(-1, -2)


def _missing_group(correct: Correct, which: int) -> Array:
    conv = correct.conv
    if conv.groups == 1 or which >= conv.groups:
        raise NoRoom
    size = conv.k // conv.groups
    first = which % conv.groups * size
    return _filters(_at(np.s_[..., first : first + size], np.zeros_like))(correct)


def _mixed_up_multiplier(correct: Correct) -> Array:
    conv = correct.conv
    if conv.groups in {1, conv.k}:
        raise NoRoom

    def mix(array: Array) -> Array:
        blocked = array.reshape(*array.shape[:-1], conv.groups, -1)
        return blocked.swapaxes(-1, -2).reshape(array.shape)

    return _filters(mix)(correct)


def _padded_with(mode: str) -> Plant:
    """What the convolution pads with is not zero."""

    def plant(correct: Correct) -> Array:
        pipeline, conv = correct.pipeline, replace(correct.conv, padding="VALID")
        pads = [(window.before, window.after) for window in pipeline.conv_windows]
        sizes = pipeline.h, pipeline.w
        if not any(map(any, pads)) or (
            mode == "reflect"
            and any(max(pad) >= size for pad, size in zip(pads, sizes, strict=True))
        ):
            raise NoRoom
        x = np.pad(correct.inputs.x, ((0, 0), *pads, (0, 0)), mode=mode)  # type: ignore[call-overload]
        return correct.output(replace(pipeline, h=x.shape[1], w=x.shape[2], conv=conv), x)

    return plant


def _swapped_sides(padding: Padding) -> Padding:
    assert isinstance(padding, tuple)
    top, bottom, left, right = padding
    return bottom, top, right, left


def _of_the_other_kind(pool: PoolSpec) -> PoolSpec:
    if pool.op == "avg":
        return replace(pool, op="max", count_include_pad=False)
    return replace(pool, op="avg")


def _count_pad(*, counted: bool) -> Plant:
    return _pool(lambda p: replace(p, count_include_pad=counted) if p.op == "avg" else p)


def _counts(pool: PoolSpec, windows: Windows) -> Array:
    """How many taps of each window count in its average, as (P, Q, 1)."""
    rows, columns = (window.counts(include_pad=pool.count_include_pad) for window in windows)
    return np.outer(rows, columns)[:, :, np.newaxis]


def _divided(*, by_all: bool) -> Plant:
    """Averages are divided by all taps instead of those that count; or not at all."""

    def plant(correct: Correct) -> Array:
        pool = correct.pool("avg")
        counts = _counts(pool, correct.pipeline.pool_windows)
        taps = math.prod(pool.window) if by_all else 1
        output = correct.output()
        wrong: Array = (output * (counts / taps)).astype(output.dtype)
        return wrong

    return plant


def _max_pool_pads_with_zero(correct: Correct) -> Array:
    pool = correct.pool("max")
    pads = [(window.before, window.after) for window in correct.pipeline.pool_windows]
    padded = np.pad(correct.before_the_pool(), ((0, 0), *pads, (0, 0)))
    return correct.pooled(padded, replace(pool, padding="VALID", ceil_mode=False))


def _swallowed(instead: float) -> Plant:
    """The max pool takes a nan for something else, as far as the format goes."""

    def plant(correct: Correct) -> Array:
        largest = format_of(correct.weights.dtype).largest
        low = instead if math.isinf(instead) else max(instead, -largest)
        return _pool_input(lambda y: np.where(np.isnan(y), low, y).astype(y.dtype), "max")(correct)

    return plant


def _without_the_pool(correct: Correct) -> Array:
    correct.pool()
    return correct.before_the_pool()


def _as_nhwc(array: Array) -> Array:
    """NCHW memory, read as NHWC."""
    return array.transpose(0, 3, 1, 2).reshape(array.shape)


def _as_nchw(array: Array) -> Array:
    """NHWC memory, read as NCHW."""
    n, h, w, c = array.shape
    return array.reshape(n, c, h, w).transpose(0, 2, 3, 1)


def _in_order(*axes: int) -> tuple[Plant, Plant]:
    """Filters of another order of axes read as HWIO, and the other way round."""

    def other_as_hwio(filters: Array) -> Array:
        return filters.transpose(axes).reshape(filters.shape)

    def hwio_as_other(filters: Array) -> Array:
        shape = [filters.shape[axis] for axis in axes]
        return filters.reshape(shape).transpose(np.argsort(axes))

    return _filters(other_as_hwio), _filters(hwio_as_other)


def _transposed(array: Array) -> Array:
    return array.transpose(0, 2, 1, 3).reshape(array.shape)


def _not_written(what: Callable[[Array], Array]) -> Plant:
    """The second half of the output, as it lies in memory, holds something else."""

    def plant(correct: Correct) -> Array:
        right = correct.output()
        output = right.copy()
        half = (right.size + 1) // 2
        output.reshape(-1)[half:] = what(right).reshape(-1)[half:]
        return output

    return plant


def _stale_output(correct: Correct) -> Array:
    return correct.output(x=np.flip(correct.inputs.x, axis=(1, 2)))


def _stale_row(correct: Correct) -> Array:
    output = correct.output().copy()
    output[:, -1] = _stale_output(correct)[:, -1]
    return output


def _rounded_factors(into: str, *, nearest: bool = True, filters_alone: bool = False) -> Plant:
    def rounded(array: Array) -> Array:
        return rounded_to(array, into, nearest=nearest).astype(array.dtype)

    def plant(correct: Correct) -> Array:
        filters, digits = correct.weights.filters, FORMATS[into].factor_digits
        if filters is None or format_of(correct.weights.dtype).factor_digits <= digits:
            raise NoRoom
        x = correct.inputs.x if filters_alone else rounded(correct.inputs.x)
        return correct.output(x=x, filters=rounded(filters))

    return plant


def rounded_to(array: Array, name: str, *, nearest: bool = True) -> Array:
    """Round to the significand and the range of a format, in float64; or cut off what is too much.

    TF32 has the range of float32 and the significand of float16.
    """
    fmt = FORMATS[name]
    digits = fmt.factor_digits
    with np.errstate(invalid="ignore", over="ignore"):
        significand, exponent = np.frexp(array.astype(np.float64))
        # Below the smallest normal number the steps no longer become smaller.
        lost = np.maximum(np.frexp(fmt.tiny)[1] - exponent, 0)
        scaled = significand * 2.0 ** (digits - lost)
        whole = np.rint(scaled) if nearest else np.trunc(scaled)
        rounded: Array = np.ldexp(whole, exponent - digits + lost)
        beyond = np.abs(rounded) > fmt.largest
        return np.where(
            beyond & np.isfinite(array) & nearest, np.copysign(np.inf, rounded), rounded
        )


def _short_sums(dtype: str) -> Plant:
    """Add the taps of the filters one after the other, rounding each sum."""

    def plant(correct: Correct) -> Array:
        pipeline, weights = correct.pipeline, correct.weights
        filters = weights.filters
        if filters is None or pipeline.reduction == 1 or not _is_shorter(dtype, weights.dtype):
            raise NoRoom
        conv = replace(pipeline, bias=False, pool=None)
        total = np.zeros(conv.output_shape, dtype)
        for r, s in np.ndindex(filters.shape[:2]):
            for c in range(min(filters.shape[2], 4)):  # the channels in four parts
                one = np.zeros_like(filters)
                one[r, s, c::4] = filters[r, s, c::4]
                with np.errstate(over="ignore"):
                    part = correct.output(conv, filters=one, bias=None)
                    total = (total.astype(part.dtype) + part).astype(dtype)
        return correct.rest(total.astype(correct.inputs.x.dtype), bias=pipeline.bias)

    return plant


def _short_averages(dtype: str, *, divided_first: bool = False) -> Plant:
    """Add the elements of an average one after the other, rounding each sum."""

    def plant(correct: Correct) -> Array:
        pool = correct.pool("avg")
        if not _is_shorter(dtype, correct.weights.dtype):
            raise NoRoom
        y = correct.before_the_pool()
        n, h, w, c = y.shape
        pipeline = PipelineSpec(n, h, w, c, pool=pool)
        windows = pipeline.pool_windows
        counts = _counts(pool, windows)
        total = np.zeros(pipeline.output_shape, dtype)
        for part in oracle.taps(oracle.pad(y, windows, 0.0), windows):
            with np.errstate(over="ignore", invalid="ignore"):
                one = (part / counts if divided_first else part).astype(dtype)
                total = (total.astype(np.float64) + one.astype(np.float64)).astype(dtype)
        wrong = total.astype(np.float64) / (1 if divided_first else counts)
        return wrong.astype(y.dtype)

    return plant


def _is_shorter(dtype: str, than: str) -> bool:
    return FORMATS[dtype].digits < FORMATS[format_of(than).accumulation].digits


def _stored_in(dtype: str, correct: Correct) -> Change:
    """Round to a format; NoRoom where the numbers are no longer than that."""
    if format_of(correct.weights.dtype).digits <= FORMATS[dtype].digits:
        raise NoRoom

    def stored(output: Array) -> Array:
        return rounded_to(output, dtype).astype(output.dtype)

    return stored


def _stored(dtype: str) -> Plant:
    def plant(correct: Correct) -> Array:
        return _stored_in(dtype, correct)(correct.output())

    return plant


def _computed_in(dtype: str) -> Plant:
    """Factors, bias and output are all numbers of a shorter format; sums are not."""

    def plant(correct: Correct) -> Array:
        change = _stored_in(dtype, correct)
        weights = correct.weights.each(change)
        if weights.filters is None and weights.bias is None:
            raise NoRoom  # a pool alone is the same as if its output had been rounded
        x = change(correct.inputs.x)
        return change(correct.output(x=x, filters=weights.filters, bias=weights.bias))

    return plant


def _stored_between(dtype: str) -> Plant:
    """What the convolution gives is stored in a format before the rest is computed."""

    def plant(correct: Correct) -> Array:
        pipeline = correct.pipeline
        if pipeline.conv is None or not (pipeline.bias or pipeline.pool):
            raise NoRoom
        alone = correct.output(replace(pipeline, bias=False, pool=None), bias=None)
        beyond = np.abs(alone.astype(np.float64)) >= FORMATS[dtype].overflow
        if not np.any(np.isfinite(alone) & beyond):
            raise NoRoom
        y = np.where(beyond, np.copysign(np.inf, alone), alone)
        return correct.rest(y.astype(alone.dtype), bias=pipeline.bias)

    return plant


def _overflowed_on_the_way(correct: Correct) -> Array:
    return _stored_between(format_of(correct.weights.dtype).storage)(correct)


def _saturated(correct: Correct) -> Array:
    largest = format_of(correct.weights.dtype).largest
    output = correct.output()
    beyond = np.abs(output) > largest
    return np.where(beyond, np.copysign(largest, output), output).astype(output.dtype)


def _flushed_denormals(correct: Correct) -> Array:
    tiny = format_of(correct.weights.dtype).tiny

    def flush(array: Array) -> Array:
        return np.where(np.abs(array) < tiny, 0, array).astype(array.dtype)

    return flush(correct.output(x=flush(correct.inputs.x)))


_MOST_TAPS, _MOST_GROUPS = 25, 32
"""A tap or a group that is missing is looked for among so many."""


def _fault(what: str, *forms: Plant, grid: str = "", sums: str = "") -> Fault:
    return Fault(what, forms, grid, sums)


def _sums_in(dtype: str) -> Fault:
    averages = _short_averages(dtype), _short_averages(dtype, divided_first=True)
    forms = _short_sums(dtype), *averages[: 1 if dtype == "float32" else 2]
    return _fault(f"the sums were kept in {dtype}", *forms, sums=dtype)


_SHORTER = ("float16", "bfloat16", "float32")

FAULTS = {
    # -- weights
    "dropped_tap": _fault(
        "one tap of the filters is dropped",
        *(partial(_dropped_tap, which=which) for which in range(_MOST_TAPS)),
    ),
    "dropped_channel": _fault(
        "the last input channel is dropped (the tail of a vector loop)",
        _filters(_at(np.s_[:, :, -1], np.zeros_like)),
    ),
    "tap_off_by_a_thousandth": _fault(
        "one tap of the filters is 1.001 times what it should be", _tap_off_by_a_thousandth
    ),
    "flipped_filters": _fault(
        "the filters are flipped (a true convolution instead of a correlation)",
        _filters(lambda f: f[::-1, ::-1]),
    ),
    "transposed_filters": _fault(
        "height and width of the filters are transposed",
        _filters(lambda f: f.transpose(1, 0, 2, 3).reshape(f.shape)),
    ),
    "filter_channels_mixed_up": _fault(
        "input and output channels of the filters are mixed up (OI read as IO)",
        *_in_order(0, 1, 3, 2),
    ),
    "mixed_up_filters": _fault(
        "the filters' memory is OIHW, or OHWI, and is read as HWIO, or the other way round",
        *_in_order(3, 2, 0, 1),
        *_in_order(3, 0, 1, 2),
    ),
    "mixed_up_multiplier": _fault(
        "the filters of the groups are mixed up (interleaved instead of blocked)",
        _mixed_up_multiplier,
    ),
    "flipped_sign": _fault(
        "the sign of one output channel is flipped", _output(_at(np.s_[..., -1], lambda y: y * -1))
    ),
    "missing_bias": _fault("the bias is missing", _bias(np.zeros_like)),
    "doubled_bias": _fault("the bias is added twice", _bias(lambda b: b + b)),
    "negated_bias": _fault("the bias is subtracted", _bias(lambda b: b * -1)),
    "shifted_bias": _fault(
        "the bias of another channel is added",
        _bias(lambda b: np.roll(b, 1)),
        _bias(lambda b: np.roll(b, -1)),
        _bias(lambda b: np.full_like(b, b[0])),
    ),
    "bias_along_width": _fault(
        "the bias is added along the width instead of the channels", _bias_along_width
    ),
    # -- where the windows lie
    "shifted_pad": _fault(
        "the padding of the convolution is shifted by one row",
        _padding(lambda top, bottom, left, right: (top + 1, bottom, left, right)),
    ),
    "shifted_pad_across": _fault(
        "the padding of the convolution is shifted by one column",
        _padding(lambda top, bottom, left, right: (top, bottom, left + 1, right)),
    ),
    "wrong_same_side": _fault(
        "the odd row of SAME padding is put before instead of after",
        _padding(lambda top, bottom, left, right: (bottom, top, right, left)),
    ),
    "symmetric_pad": _fault(
        "the convolution is padded alike on both sides, with half of its window, instead of SAME",
        _conv(lambda conv: _symmetric(conv) if conv.padding == "SAME" else conv, anew=True),
    ),
    "ignored_pad": _fault(
        "the padding of the convolution is ignored", _padding(lambda *_: (0, 0, 0, 0))
    ),
    "unasked_pad": _fault(
        "the convolution is padded as SAME, unasked",
        _padding(lambda *_: "SAME"),
    ),
    "pads_in_another_order": _fault(
        "the padding is read in another order: (top, left, bottom, right), (left, right, top,"
        " bottom)",
        _padding(lambda top, bottom, left, right: (top, left, bottom, right)),
        _padding(lambda top, bottom, left, right: (left, right, top, bottom)),
    ),
    "padding_is_not_zero": _fault(
        "the convolution pads with what is at the edge, or opposite, instead of zero",
        *map(_padded_with, ("edge", "reflect", "wrap")),
    ),
    "shifted_input": _fault(
        "the input is cropped or shifted by one row",
        *_shifts(_x, axis=1),
    ),
    "shifted_input_across": _fault(
        "the input is cropped or shifted by one column",
        *_shifts(_x, axis=2),
    ),
    "swapped_strides": _fault(
        "the strides of height and width are swapped",
        *_convs(lambda c: replace(c, stride=c.stride[::-1])),
    ),
    "ignored_stride": _fault(
        "the stride is ignored",
        *_convs(lambda c: replace(c, stride=(1, 1))),
    ),
    "ignored_dilation": _fault(
        "the dilation is ignored", _conv(lambda c: replace(c, dilation=(1, 1)))
    ),
    "ignored_dilation_in_same": _fault(
        "the dilation is ignored, and SAME is worked out without it",
        _conv(lambda c: replace(c, dilation=(1, 1)), anew=True),
    ),
    "dilation_off_by_one": _fault(
        "the dilation is taken for the number of zeros between taps, or is one too small",
        *_convs(lambda conv: _dilated_more(conv, 1)),
        *_convs(lambda conv: _dilated_more(conv, -1)),
    ),
    "swapped_dilations": _fault(
        "the dilations of height and width are swapped",
        *_convs(lambda c: replace(c, dilation=c.dilation[::-1])),
    ),
    "mixed_up_groups": _fault(
        "the input channels of the groups are mixed up (interleaved instead of blocked)",
        _groups(_interleaved),
    ),
    "input_of_another_group": _fault(
        "a group of the convolution is given the input of another",
        _groups(lambda x: np.broadcast_to(x[..., :1, :], x.shape)),
        _groups(lambda x: np.roll(x, 1, axis=-2)),
        _groups(lambda x: np.roll(x, -1, axis=-2)),
        _groups(lambda x: x[..., ::-1, :]),
    ),
    "missing_group": _fault(
        "a group of the convolution is missing",
        *(partial(_missing_group, which=which) for which in range(-1, _MOST_GROUPS)),
    ),
    # -- pooling
    "pool_off_by_one": _fault(
        "the pool's windows are off by one row",
        *_shifts(lambda change: _pool_input(change, "max", "avg"), axis=1),
    ),
    "pool_off_by_one_across": _fault(
        "the pool's windows are off by one column",
        *_shifts(lambda change: _pool_input(change, "max", "avg"), axis=2),
    ),
    "short_pool": _fault(
        "the pool's window is one row too short",
        _pool(lambda p: replace(p, window=(p.window[0] - 1, p.window[1]))),
    ),
    "swapped_pool_window": _fault(
        "height and width of the pool's window are swapped",
        *_pools(lambda p: replace(p, window=p.window[::-1])),
    ),
    "swapped_pool_strides": _fault(
        "the strides of the pool are swapped",
        *_pools(lambda p: replace(p, stride=p.stride[::-1])),
    ),
    "pool_stride_is_window": _fault(
        "the pool steps by its window instead of its stride",
        *_pools(lambda p: replace(p, stride=p.window)),
    ),
    "ignored_pool_stride": _fault(
        "the stride of the pool is ignored",
        *_pools(lambda p: replace(p, stride=(1, 1))),
    ),
    "ignored_pool_dilation": _fault(
        "the dilation of the pool is ignored",
        *_pools(lambda p: replace(p, dilation=(1, 1))),
    ),
    "wrong_pool_same_side": _fault(
        "the odd row of the pool's SAME padding is put before instead of after",
        _pool(lambda p: replace(p, padding=_swapped_sides(p.padding)), anew=False),
    ),
    "symmetric_pool_pad": _fault(
        "the pool is padded alike on both sides, with half of its window, instead of SAME",
        _pool(lambda p: _symmetric(p) if p.padding == "SAME" else p),
    ),
    "ignored_pool_pad": _fault(
        "the padding of the pool is ignored", _pool(lambda p: replace(p, padding=(0, 0, 0, 0)))
    ),
    "swapped_ceil_mode": _fault(
        "the pool rounds its size down instead of up, or up instead of down",
        _pool(lambda p: replace(p, ceil_mode=not p.ceil_mode)),
    ),
    "wrong_pool": _fault(
        "the pool takes the average instead of the largest, or the largest instead of the average",
        _pool(_of_the_other_kind),
    ),
    "missing_pool": _fault("the pool is missing", _without_the_pool),
    "average_over_padding": _fault(
        "the average is divided by the full window, padding included", _count_pad(counted=True)
    ),
    "average_without_padding": _fault(
        "the average does not count padding that it should", _count_pad(counted=False)
    ),
    "average_over_full_window": _fault(
        "the average is divided by the full window where that reaches beyond the padding, too"
        " (ceil_mode)",
        _divided(by_all=True),
    ),
    "average_not_divided": _fault(
        "the average is not divided: it is the sum",
        _divided(by_all=False),
    ),
    "max_pool_pads_with_zero": _fault(
        "the max pool pads with 0 instead of -inf", _max_pool_pads_with_zero
    ),
    "swallowed_nan": _fault(
        "a nan is swallowed by the max pool",
        *map(_swallowed, (-math.inf, -sys.float_info.max, 0.0)),
    ),
    # -- layout and memory
    "mixed_up_layout": _fault(
        "NHWC memory is read as NCHW, or NCHW memory as NHWC", _x(_as_nchw), _x(_as_nhwc)
    ),
    "mixed_up_output": _fault(
        "the output is NCHW memory read as NHWC, or the other way round",
        _output(_as_nhwc),
        _output(_as_nchw),
    ),
    "transposed_input": _fault(
        "height and width of the input are transposed",
        _x(_transposed),
        _x(lambda x: x.reshape(x.shape[0], x.shape[2], x.shape[1], -1).transpose(0, 2, 1, 3)),
    ),
    "transposed_output": _fault(
        "height and width of the output are transposed",
        _output(_transposed),
        _output(lambda y: y.reshape(y.shape[0], y.shape[2], y.shape[1], -1).transpose(0, 2, 1, 3)),
    ),
    "misread_strides": _fault(
        "an array that is not contiguous is read as if it were (Fortran order)",
        _x(lambda x: x.ravel(order="F").reshape(x.shape)),
        _x(lambda x: x.ravel().reshape(x.shape, order="F")),
        _filters(lambda f: f.ravel(order="F").reshape(f.shape)),
    ),
    "repeated_image": _fault(
        "every image is computed from image 0", _x(lambda x: np.broadcast_to(x[:1], x.shape).copy())
    ),
    "reversed_images": _fault("the images come out in another order", _output(lambda y: y[::-1])),
    "stale_output": _fault("the output is that of the call before", _stale_output),
    "stale_row": _fault(
        "the last rows of the output are not written, and hold what was there", _stale_row
    ),
    "missing_row": _fault(
        "the last row of the output is missing", _output(_at(np.s_[:, -1], np.zeros_like))
    ),
    "missing_column": _fault(
        "the last column of the output is missing", _output(_at(np.s_[:, :, -1], np.zeros_like))
    ),
    "missing_part": _fault("a part of the output is not written", _not_written(np.zeros_like)),
    # -- precision
    "tf32_factors": _fault(
        "the factors were rounded to TF32 (11 bits) before they were multiplied",
        _rounded_factors("tf32"),
    ),
    "truncated_tf32_factors": _fault(
        "the factors were cut off to TF32 (11 bits), not rounded, before they were multiplied",
        _rounded_factors("tf32", nearest=False),
    ),
    "float16_factors": _fault(
        "the factors were rounded to float16 before they were multiplied",
        _rounded_factors("float16"),
        _rounded_factors("float16", filters_alone=True),
    ),
    "bfloat16_factors": _fault(
        "the factors were rounded to bfloat16 (8 bits) before they were multiplied",
        _rounded_factors("bfloat16"),
        _rounded_factors("bfloat16", filters_alone=True),
        _rounded_factors("bfloat16", nearest=False),
    ),
    "float32_factors": _fault(
        "the factors were rounded to float32 before they were multiplied",
        _rounded_factors("float32"),
    ),
    **{f"{dtype}_accumulation": _sums_in(dtype) for dtype in _SHORTER},
    **{
        f"{dtype}_output": _fault(
            f"the output was rounded to {dtype} on the way", _stored(dtype), grid=dtype
        )
        for dtype in _SHORTER
    },
    **{
        f"computed_in_{dtype}": _fault(
            f"all was computed in {dtype}, inputs and output", _computed_in(dtype), grid=dtype
        )
        for dtype in _SHORTER
    },
    "overflowed_on_the_way": _fault(
        "the output of the convolution alone was stored, and is too large for its format",
        _overflowed_on_the_way,
        _stored_between("float16"),
    ),
    "saturated_output": _fault(
        "what is too large for the format is its largest number instead of inf", _saturated
    ),
    "flushed_denormals": _fault(
        "numbers below the smallest normal one are flushed to zero", _flushed_denormals
    ),
    "clipped_output": _fault(
        "an activation that nobody asked for was applied (ReLU: what is negative became 0)",
        _output(lambda y: np.where(y < 0, 0, y).astype(y.dtype)),
        _output(lambda y: np.where(y < 0, 0, np.minimum(y, 6)).astype(y.dtype)),
    ),
}
