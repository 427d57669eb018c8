"""Everything that is commonly wrong with a convolution, as data.

A fault says what a broken implementation would return, by way of a correct one: it changes the
pipeline, the inputs or the output of a `compute` that it is given. With a backend's `compute` it is
planted into that backend, to see whether the checks catch it (``convbench verify --self-test``).
With the oracle's it is a suspect: what somebody's wrong output is compared with, to name the cause
(``convbench check``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from convbench.errors import SpecError
from convbench.stimulus.arrays import Array, Weights
from convbench.stimulus.formats import format_of
from convbench.stimulus.inputs import Inputs
from convbench.stimulus.spec import ConvSpec, Pads, PipelineSpec, PoolSpec

Compute = Callable[[PipelineSpec, Inputs], Array]


@dataclass(frozen=True, slots=True)
class Correct:
    """A correct implementation and what it is given: what a fault is planted into."""

    compute: Compute
    pipeline: PipelineSpec
    inputs: Inputs

    @property
    def weights(self) -> Weights:
        """Those of the inputs."""
        return self.inputs.weights

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


Plant = Callable[[Correct], Array | None]
Change = Callable[[Array], Array]


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to be wrong.

    Attributes
    ----------
    what : str
        In words, as the cause of a wrong output.
    plant : callable
        ``(correct) -> output``, or None where the pipeline has no room for it.
    """

    what: str
    plant: Plant

    def apply(self, compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
        """Compute with the fault: an output of the right shape, or None if it cannot be planted."""
        try:
            output = self.plant(Correct(compute, pipeline, inputs))
        except SpecError:  # the changed pipeline cannot be computed
            return None
        return None if output is None else _fit(output, pipeline.output_shape)


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
    def plant(correct: Correct) -> Array | None:
        if (array := getattr(correct.weights, name)) is None:
            return None
        changed: Any = {name: np.ascontiguousarray(change(array))}
        return correct.output(**changed)

    return plant


_filters, _bias = partial(_weights, "filters"), partial(_weights, "bias")


def _conv(change: Callable[[ConvSpec], ConvSpec]) -> Plant:
    """The padding stays, in numbers; the output is cropped to what the pool expects."""

    def plant(correct: Correct) -> Array | None:
        pipeline = correct.pipeline
        if pipeline.conv is None:
            return None
        rows, columns = pipeline.conv_windows
        pads = (rows.before, rows.after, columns.before, columns.after)
        conv = replace(pipeline.conv, padding=pads)
        if (changed := change(conv)) == conv:
            return None
        alone = correct.output(replace(pipeline, conv=changed, pool=None))
        fitted = _fit(alone, pipeline.conv_shape)
        return fitted if pipeline.pool is None else correct.pooled(fitted, pipeline.pool)

    return plant


def _padding(change: Callable[[int, int, int, int], Pads]) -> Plant:
    return _conv(lambda conv: replace(conv, padding=change(*conv.padding)))


def _pool(change: Callable[[PoolSpec], PoolSpec]) -> Plant:
    def plant(correct: Correct) -> Array | None:
        pool = correct.pipeline.pool
        if pool is None or (changed := change(pool)) == pool:
            return None
        return correct.output(replace(correct.pipeline, pool=changed))

    return plant


def _pool_input(change: Change, *ops: str) -> Plant:
    def plant(correct: Correct) -> Array | None:
        pool = correct.pipeline.pool
        if pool is None or pool.op not in ops:
            return None
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


# -- what takes more than one change ---------------------------------------------------------------


def _tap_off_by_a_thousandth(correct: Correct) -> Array | None:
    digits = format_of(correct.weights.dtype).factor_digits
    # The next number, where 1.001 is rounded to 1.
    factor = 1 + 2.0 ** (1 - digits) if digits < 11 else 1.001
    return _filters(_at(np.s_[0, 0], lambda f: f * factor))(correct)


def _bias_along_width(correct: Correct) -> Array | None:
    pipeline, bias = correct.pipeline, correct.weights.bias
    if bias is None or pipeline.pool is not None or pipeline.conv is None:
        return None
    plain = correct.output(replace(pipeline, bias=False), bias=None)
    wrong: Array = plain + np.resize(bias, plain.shape[2])[:, np.newaxis]
    return wrong


def _mixed_up_groups(correct: Correct) -> Array | None:
    if correct.pipeline.conv is None or (groups := correct.pipeline.conv.groups) == 1:
        return None

    def mix(x: Array) -> Array:
        blocked = x.reshape(*x.shape[:3], groups, -1)
        if blocked.shape[4] == 1:
            return np.roll(x, 1, axis=3)
        return blocked.swapaxes(3, 4).reshape(x.shape)

    return correct.output(x=mix(correct.inputs.x))


def _count_pad(*, counted: bool) -> Plant:
    return _pool(lambda p: replace(p, count_include_pad=counted) if p.op == "avg" else p)


def _max_pool_pads_with_zero(correct: Correct) -> Array | None:
    pool = correct.pipeline.pool
    if pool is None or pool.op != "max":
        return None
    pads = [(window.before, window.after) for window in correct.pipeline.pool_windows]
    padded = np.pad(correct.before_the_pool(), ((0, 0), *pads, (0, 0)))
    return correct.pooled(padded, replace(pool, padding="VALID", ceil_mode=False))


def _misread_as_nchw(x: Array) -> Array:
    n, h, w, c = x.shape
    return x.reshape(n, c, h, w).transpose(0, 2, 3, 1)


def _stale_output(correct: Correct) -> Array:
    return correct.output(x=np.flip(correct.inputs.x, axis=(1, 2)))


def _stale_row(correct: Correct) -> Array:
    output = correct.output().copy()
    output[:, -1] = _stale_output(correct)[:, -1]
    return output


def _rounded_factors(digits: int) -> Plant:
    def rounded(array: Array) -> Array:
        return _round_to(array, digits).astype(array.dtype)

    def plant(correct: Correct) -> Array | None:
        filters = correct.weights.filters
        if filters is None or format_of(correct.weights.dtype).factor_digits <= digits:
            return None
        return correct.output(x=rounded(correct.inputs.x), filters=rounded(filters))

    return plant


def _round_to(array: Array, digits: int) -> Array:
    """Round to nearest with so many bits of the significand, in float64."""
    significand, exponent = np.frexp(array.astype(np.float64))
    rounded: Array = np.ldexp(np.rint(significand * 2.0**digits), exponent - digits)
    return rounded


def _short_sums(dtype: str) -> Plant:
    """Add the taps of the filters one after the other, rounding each sum."""

    def plant(correct: Correct) -> Array | None:
        pipeline, weights = correct.pipeline, correct.weights
        filters = weights.filters
        if filters is None or pipeline.reduction == 1 or weights.dtype == dtype:
            return None
        conv = replace(pipeline, bias=False, pool=None)
        total = np.zeros(conv.output_shape, dtype)
        for r, s in np.ndindex(filters.shape[:2]):
            for c in range(min(filters.shape[2], 4)):  # the channels in four parts
                one = np.zeros_like(filters)
                one[r, s, c::4] = filters[r, s, c::4]
                with np.errstate(over="ignore"):
                    part = correct.output(conv, filters=one, bias=None)
                    total = (total.astype(part.dtype) + part).astype(dtype)
        y = total.astype(correct.inputs.x.dtype)
        if not pipeline.bias and pipeline.pool is None:
            return y
        rest = PipelineSpec(*y.shape, bias=pipeline.bias, pool=pipeline.pool)
        return correct.output(rest, y, filters=None)

    return plant


def _float16_output(correct: Correct) -> Array | None:
    if format_of(correct.weights.dtype).digits <= 11:
        return None
    output = correct.output()
    with np.errstate(over="ignore"):
        return output.astype("float16").astype(output.dtype)


def _flushed_denormals(correct: Correct) -> Array:
    tiny = format_of(correct.weights.dtype).tiny

    def flush(array: Array) -> Array:
        return np.where(np.abs(array) < tiny, 0, array).astype(array.dtype)

    return flush(correct.output(x=flush(correct.inputs.x)))


FAULTS = {
    # -- weights
    "dropped_tap": Fault(
        "one tap of the filters is dropped", _filters(_at(np.s_[-1, -1], np.zeros_like))
    ),
    "dropped_channel": Fault(
        "the last input channel is dropped (the tail of a vector loop)",
        _filters(_at(np.s_[:, :, -1], np.zeros_like)),
    ),
    "tap_off_by_a_thousandth": Fault(
        "one tap of the filters is 1.001 times what it should be", _tap_off_by_a_thousandth
    ),
    "flipped_filters": Fault(
        "the filters are flipped (a true convolution instead of a correlation)",
        _filters(lambda f: f[::-1, ::-1]),
    ),
    "transposed_filters": Fault(
        "height and width of the filters are transposed",
        _filters(lambda f: f.transpose(1, 0, 2, 3).reshape(f.shape)),
    ),
    "filter_channels_mixed_up": Fault(
        "input and output channels of the filters are mixed up (OI read as IO)",
        _filters(lambda f: f.transpose(0, 1, 3, 2).reshape(f.shape)),
    ),
    "flipped_sign": Fault(
        "the sign of one output channel is flipped", _output(_at(np.s_[..., -1], lambda y: y * -1))
    ),
    "missing_bias": Fault("the bias is missing", _bias(np.zeros_like)),
    "doubled_bias": Fault("the bias is added twice", _bias(lambda b: b + b)),
    "shifted_bias": Fault("the bias of another channel is added", _bias(lambda b: np.roll(b, 1))),
    "bias_along_width": Fault(
        "the bias is added along the width instead of the channels", _bias_along_width
    ),
    # -- where the windows lie
    "shifted_pad": Fault(
        "the padding of the convolution is shifted by one row",
        _padding(lambda top, bottom, left, right: (top + 1, bottom, left, right)),
    ),
    "shifted_pad_across": Fault(
        "the padding of the convolution is shifted by one column",
        _padding(lambda top, bottom, left, right: (top, bottom, left + 1, right)),
    ),
    "wrong_same_side": Fault(
        "the odd row of SAME padding is put before instead of after",
        _padding(lambda top, bottom, left, right: (bottom, top, right, left)),
    ),
    "ignored_pad": Fault(
        "the padding of the convolution is ignored", _padding(lambda *_: (0, 0, 0, 0))
    ),
    "shifted_input": Fault(
        "the input is cropped or shifted by one row", _x(lambda x: np.roll(x, 1, axis=1))
    ),
    "swapped_strides": Fault(
        "the strides of height and width are swapped",
        _conv(lambda c: replace(c, stride=c.stride[::-1])),
    ),
    "ignored_stride": Fault("the stride is ignored", _conv(lambda c: replace(c, stride=(1, 1)))),
    "ignored_dilation": Fault(
        "the dilation is ignored", _conv(lambda c: replace(c, dilation=(1, 1)))
    ),
    "swapped_dilations": Fault(
        "the dilations of height and width are swapped",
        _conv(lambda c: replace(c, dilation=c.dilation[::-1])),
    ),
    "mixed_up_groups": Fault(
        "the input channels of the groups are mixed up (interleaved instead of blocked)",
        _mixed_up_groups,
    ),
    # -- pooling
    "pool_off_by_one": Fault(
        "the pool's windows are off by one row",
        _pool_input(lambda y: np.roll(y, 1, axis=1), "max", "avg"),
    ),
    "pool_off_by_one_across": Fault(
        "the pool's windows are off by one column",
        _pool_input(lambda y: np.roll(y, 1, axis=2), "max", "avg"),
    ),
    "short_pool": Fault(
        "the pool's window is one row too short",
        _pool(lambda p: replace(p, window=(p.window[0] - 1, p.window[1]))),
    ),
    "average_over_padding": Fault(
        "the average is divided by the full window, padding included", _count_pad(counted=True)
    ),
    "average_without_padding": Fault(
        "the average does not count padding that it should", _count_pad(counted=False)
    ),
    "max_pool_pads_with_zero": Fault(
        "the max pool pads with 0 instead of -inf", _max_pool_pads_with_zero
    ),
    "swallowed_nan": Fault(
        "a nan is swallowed by the max pool",
        _pool_input(lambda y: np.where(np.isnan(y), -np.inf, y).astype(y.dtype), "max"),
    ),
    # -- layout and memory
    "mixed_up_layout": Fault("NHWC memory is read as NCHW", _x(_misread_as_nchw)),
    "mixed_up_output": Fault(
        "the output is NCHW memory read as NHWC",
        _output(lambda y: y.transpose(0, 3, 1, 2).reshape(y.shape)),
    ),
    "transposed_input": Fault(
        "height and width of the input are transposed",
        _x(lambda x: x.transpose(0, 2, 1, 3).reshape(x.shape)),
    ),
    "misread_strides": Fault(
        "an array that is not contiguous is read as if it were (Fortran order)",
        _x(lambda x: x.ravel(order="F").reshape(x.shape)),
    ),
    "repeated_image": Fault(
        "every image is computed from image 0", _x(lambda x: np.broadcast_to(x[:1], x.shape).copy())
    ),
    "reversed_images": Fault("the images come out in another order", _output(lambda y: y[::-1])),
    "stale_output": Fault("the output is that of the call before", _stale_output),
    "stale_row": Fault(
        "the last rows of the output are not written, and hold what was there", _stale_row
    ),
    "missing_row": Fault(
        "the last row of the output is missing", _output(_at(np.s_[:, -1], np.zeros_like))
    ),
    "missing_column": Fault(
        "the last column of the output is missing", _output(_at(np.s_[:, :, -1], np.zeros_like))
    ),
    # -- precision
    "tf32_factors": Fault(
        "the factors were rounded to TF32 (11 bits) before they were multiplied",
        _rounded_factors(digits=11),
    ),
    "bfloat16_factors": Fault(
        "the factors were rounded to bfloat16 (8 bits) before they were multiplied",
        _rounded_factors(digits=8),
    ),
    "float16_accumulation": Fault("the sums were kept in float16", _short_sums("float16")),
    "bfloat16_accumulation": Fault("the sums were kept in bfloat16", _short_sums("bfloat16")),
    "float16_output": Fault("the output was rounded to float16 on the way", _float16_output),
    "flushed_denormals": Fault(
        "numbers below the smallest normal one are flushed to zero", _flushed_denormals
    ),
}
