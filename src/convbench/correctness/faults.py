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
from typing import Any

import numpy as np

from convbench.errors import SpecError
from convbench.stimulus.arrays import Array, Weights
from convbench.stimulus.formats import format_of
from convbench.stimulus.inputs import Inputs
from convbench.stimulus.spec import ConvSpec, PipelineSpec, PoolSpec, Window

Compute = Callable[[PipelineSpec, Inputs], Array]
Plant = Callable[[Compute, PipelineSpec, Inputs], Array | None]


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to be wrong.

    Attributes
    ----------
    name : str
    what : str
        In words, as the cause of a wrong output.
    plant : callable
        ``(compute, pipeline, inputs) -> output``, or None where the pipeline has no room for it.
    """

    name: str
    what: str
    plant: Plant

    def apply(self, compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
        """Compute with the fault: an output of the right shape, or None if it cannot be planted."""
        try:
            output = self.plant(compute, pipeline, inputs)
        except SpecError:  # the changed pipeline cannot be computed
            return None
        return None if output is None else _fit(output, pipeline.output_shape)


FAULTS: dict[str, Fault] = {}


def _fault(what: str) -> Callable[[Plant], Plant]:
    """Register a function as the fault of its name."""

    def register(plant: Plant) -> Plant:
        name = plant.__name__.strip("_")
        FAULTS[name] = Fault(name, what, plant)
        return plant

    return register


# -- weights ---------------------------------------------------------------------------------------


@_fault("one tap of the filters is dropped")
def _dropped_tap(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    def drop(filters: Array) -> Array:
        filters[-1, -1] = 0
        return filters

    return _with_filters(compute, pipeline, inputs, drop)


@_fault("the last input channel is dropped (the tail of a vector loop)")
def _dropped_channel(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    def drop(filters: Array) -> Array:
        filters[:, :, -1] = 0
        return filters

    return _with_filters(compute, pipeline, inputs, drop)


@_fault("one tap of the filters is 1.001 times what it should be")
def _tap_off_by_a_thousandth(
    compute: Compute, pipeline: PipelineSpec, inputs: Inputs
) -> Array | None:
    def scale(filters: Array) -> Array:
        if (digits := format_of(inputs.weights.dtype).factor_digits) < 11:
            filters[0, 0] *= 1 + 2.0 ** (1 - digits)  # the next number, where 1.001 is rounded to 1
        else:
            filters[0, 0] = filters[0, 0] * 1.001
        return filters

    return _with_filters(compute, pipeline, inputs, scale)


@_fault("the filters are flipped (a true convolution instead of a correlation)")
def _flipped_filters(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    return _with_filters(compute, pipeline, inputs, lambda f: f[::-1, ::-1])


@_fault("height and width of the filters are transposed")
def _transposed_filters(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    return _with_filters(
        compute, pipeline, inputs, lambda f: f.transpose(1, 0, 2, 3).reshape(f.shape)
    )


@_fault("input and output channels of the filters are mixed up (OI read as IO)")
def _filter_channels_mixed_up(
    compute: Compute, pipeline: PipelineSpec, inputs: Inputs
) -> Array | None:
    return _with_filters(
        compute, pipeline, inputs, lambda f: f.transpose(0, 1, 3, 2).reshape(f.shape)
    )


@_fault("the sign of one output channel is flipped")
def _flipped_sign(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    output = compute(pipeline, inputs).copy()
    output[..., -1] *= -1
    return output


@_fault("the bias is missing")
def _missing_bias(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    return _with_bias(compute, pipeline, inputs, np.zeros_like)


@_fault("the bias is added twice")
def _doubled_bias(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    return _with_bias(compute, pipeline, inputs, lambda b: b + b)


@_fault("the bias of another channel is added")
def _shifted_bias(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    return _with_bias(compute, pipeline, inputs, lambda b: np.roll(b, 1))


@_fault("the bias is added along the width instead of the channels")
def _bias_along_width(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    bias = inputs.weights.bias
    if bias is None or pipeline.pool is not None or pipeline.conv is None:
        return None
    plain = compute(replace(pipeline, bias=False), _reweigh(inputs, bias=None))
    wrong: Array = plain + np.resize(bias, plain.shape[2])[:, np.newaxis]
    return wrong


# -- where the windows lie -------------------------------------------------------------------------


@_fault("the padding of the convolution is shifted by one row")
def _shifted_pad(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    return _with_conv_padding(compute, pipeline, inputs, lambda w: (w.before + 1, w.after), 0)


@_fault("the padding of the convolution is shifted by one column")
def _shifted_pad_across(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    return _with_conv_padding(compute, pipeline, inputs, lambda w: (w.before + 1, w.after), 1)


@_fault("the odd row of SAME padding is put before instead of after")
def _wrong_same_side(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    return _with_conv_padding(compute, pipeline, inputs, lambda w: (w.after, w.before), 0, 1)


@_fault("the padding of the convolution is ignored")
def _ignored_pad(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    return _with_conv_padding(compute, pipeline, inputs, lambda w: (0, 0), 0, 1)  # noqa: ARG005


@_fault("the input is cropped or shifted by one row")
def _shifted_input(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    return compute(pipeline, _with_x(inputs, lambda x: np.roll(x, 1, axis=1)))


@_fault("the strides of height and width are swapped")
def _swapped_strides(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    return _with_conv(compute, pipeline, inputs, lambda c: replace(c, stride=c.stride[::-1]))


@_fault("the stride is ignored")
def _ignored_stride(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    return _with_conv(compute, pipeline, inputs, lambda c: replace(c, stride=(1, 1)))


@_fault("the dilation is ignored")
def _ignored_dilation(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    return _with_conv(compute, pipeline, inputs, lambda c: replace(c, dilation=(1, 1)))


@_fault("the dilations of height and width are swapped")
def _swapped_dilations(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    return _with_conv(compute, pipeline, inputs, lambda c: replace(c, dilation=c.dilation[::-1]))


@_fault("the input channels of the groups are mixed up (interleaved instead of blocked)")
def _mixed_up_groups(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    if pipeline.conv is None or pipeline.conv.groups == 1:
        return None
    groups = pipeline.conv.groups

    def mix(x: Array) -> Array:
        blocked = x.reshape(*x.shape[:3], groups, -1)
        depth = blocked.shape[4]
        if depth == 1:
            return np.roll(x, 1, axis=3)
        return blocked.swapaxes(3, 4).reshape(x.shape)

    return compute(pipeline, _with_x(inputs, mix))


# -- pooling ---------------------------------------------------------------------------------------


@_fault("the pool's windows are off by one row")
def _pool_off_by_one(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    return _pool_shifted(compute, pipeline, inputs, axis=0)


@_fault("the pool's windows are off by one column")
def _pool_off_by_one_across(
    compute: Compute, pipeline: PipelineSpec, inputs: Inputs
) -> Array | None:
    return _pool_shifted(compute, pipeline, inputs, axis=1)


@_fault("the pool's window is one row too short")
def _short_pool(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    return _with_pool(
        compute, pipeline, inputs, lambda p: replace(p, window=(p.window[0] - 1, p.window[1]))
    )


@_fault("the average is divided by the full window, padding included")
def _average_over_padding(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    return _average_counting(compute, pipeline, inputs, count_include_pad=True)


@_fault("the average does not count padding that it should")
def _average_without_padding(
    compute: Compute, pipeline: PipelineSpec, inputs: Inputs
) -> Array | None:
    return _average_counting(compute, pipeline, inputs, count_include_pad=False)


@_fault("the max pool pads with 0 instead of -inf")
def _max_pool_pads_with_zero(
    compute: Compute, pipeline: PipelineSpec, inputs: Inputs
) -> Array | None:
    pool = pipeline.pool
    if pool is None or pool.op != "max":
        return None
    rows, columns = pipeline.pool_windows
    pads = ((rows.before, rows.after), (columns.before, columns.after))
    before = _before_the_pool(compute, pipeline, inputs)
    padded = np.pad(before, ((0, 0), *pads, (0, 0)))
    alone = replace(pool, padding="VALID", ceil_mode=False)
    return _pool_alone(compute, alone, inputs, padded)


@_fault("a nan is swallowed by the max pool")
def _swallowed_nan(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    pool = pipeline.pool
    if pool is None or pool.op != "max":
        return None
    before = _before_the_pool(compute, pipeline, inputs)
    clean = np.where(np.isnan(before), -np.inf, before).astype(before.dtype)
    return _pool_alone(compute, pool, inputs, clean)


# -- layout and memory -----------------------------------------------------------------------------


@_fault("NHWC memory is read as NCHW")
def _mixed_up_layout(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    def misread(x: Array) -> Array:
        n, h, w, c = x.shape
        return x.reshape(n, c, h, w).transpose(0, 2, 3, 1)

    return compute(pipeline, _with_x(inputs, misread))


@_fault("the output is NCHW memory read as NHWC")
def _mixed_up_output(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    output = compute(pipeline, inputs)
    return output.transpose(0, 3, 1, 2).reshape(output.shape)


@_fault("height and width of the input are transposed")
def _transposed_input(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    return compute(pipeline, _with_x(inputs, lambda x: x.transpose(0, 2, 1, 3).reshape(x.shape)))


@_fault("an array that is not contiguous is read as if it were (Fortran order)")
def _misread_strides(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    return compute(pipeline, _with_x(inputs, lambda x: x.ravel(order="F").reshape(x.shape)))


@_fault("every image is computed from image 0")
def _repeated_image(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    return compute(pipeline, _with_x(inputs, lambda x: np.broadcast_to(x[:1], x.shape).copy()))


@_fault("the images come out in another order")
def _reversed_images(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    return compute(pipeline, inputs)[::-1]


@_fault("the output is that of the call before")
def _stale_output(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    return compute(pipeline, _with_x(inputs, lambda x: np.flip(x, axis=(1, 2))))


@_fault("the last rows of the output are not written, and hold what was there")
def _stale_row(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    output = compute(pipeline, inputs).copy()
    output[:, -1] = compute(pipeline, _with_x(inputs, lambda x: np.flip(x, axis=(1, 2))))[:, -1]
    return output


@_fault("the last row of the output is missing")
def _missing_row(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    output = compute(pipeline, inputs).copy()
    output[:, -1] = 0
    return output


@_fault("the last column of the output is missing")
def _missing_column(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    output = compute(pipeline, inputs).copy()
    output[:, :, -1] = 0
    return output


# -- precision -------------------------------------------------------------------------------------


@_fault("the factors were rounded to TF32 (11 bits) before they were multiplied")
def _tf32_factors(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    return _with_rounded_factors(compute, pipeline, inputs, digits=11)


@_fault("the factors were rounded to bfloat16 (8 bits) before they were multiplied")
def _bfloat16_factors(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    return _with_rounded_factors(compute, pipeline, inputs, digits=8)


@_fault("the sums were kept in float16")
def _float16_accumulation(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    return _with_short_sums(compute, pipeline, inputs, np.dtype("float16"))


@_fault("the sums were kept in bfloat16")
def _bfloat16_accumulation(
    compute: Compute, pipeline: PipelineSpec, inputs: Inputs
) -> Array | None:
    return _with_short_sums(compute, pipeline, inputs, np.dtype("bfloat16"))


@_fault("the output was rounded to float16 on the way")
def _float16_output(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    if format_of(inputs.weights.dtype).digits <= 11:
        return None
    output = compute(pipeline, inputs)
    with np.errstate(over="ignore"):
        return output.astype("float16").astype(output.dtype)


@_fault("numbers below the smallest normal one are flushed to zero")
def _flushed_denormals(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array | None:
    tiny = format_of(inputs.weights.dtype).tiny

    def flush(array: Array) -> Array:
        return np.where(np.abs(array) < tiny, 0, array).astype(array.dtype)

    return flush(compute(pipeline, _with_x(inputs, flush)))


# -- what they share -------------------------------------------------------------------------------


def _with_x(inputs: Inputs, change: Callable[[Array], Array]) -> Inputs:
    return replace(inputs, x=np.ascontiguousarray(change(inputs.x)))


def _pool_alone(compute: Compute, pool: PoolSpec, inputs: Inputs, x: Array) -> Array:
    n, h, w, c = x.shape
    return compute(PipelineSpec(n, h, w, c, pool=pool), Inputs(x, Weights(inputs.weights.dtype)))


def _reweigh(inputs: Inputs, **changed: Any) -> Inputs:
    return replace(inputs, weights=replace(inputs.weights, **changed))


def _with_filters(
    compute: Compute, pipeline: PipelineSpec, inputs: Inputs, change: Callable[[Array], Array]
) -> Array | None:
    if inputs.weights.filters is None:
        return None
    changed = np.ascontiguousarray(change(inputs.weights.filters.copy()))
    return compute(pipeline, _reweigh(inputs, filters=changed))


def _with_bias(
    compute: Compute, pipeline: PipelineSpec, inputs: Inputs, change: Callable[[Array], Array]
) -> Array | None:
    if inputs.weights.bias is None:
        return None
    return compute(pipeline, _reweigh(inputs, bias=change(inputs.weights.bias)))


def _with_conv(
    compute: Compute,
    pipeline: PipelineSpec,
    inputs: Inputs,
    change: Callable[[ConvSpec], ConvSpec],
) -> Array | None:
    """Another convolution under the same padding; the pool then sees the right shape."""
    if pipeline.conv is None or (changed := change(pipeline.conv)) == pipeline.conv:
        return None
    rows, columns = pipeline.conv_windows
    if isinstance(changed.padding, str):
        pads = (rows.before, rows.after, columns.before, columns.after)
        changed = replace(changed, padding=pads)
    return _in_two(compute, pipeline, inputs, changed)


def _with_conv_padding(
    compute: Compute,
    pipeline: PipelineSpec,
    inputs: Inputs,
    change: Callable[[Window], tuple[int, int]],
    *axes: int,
) -> Array | None:
    if pipeline.conv is None:
        return None
    pads = [(window.before, window.after) for window in pipeline.conv_windows]
    changed = [
        change(window) if axis in axes else pads[axis]
        for axis, window in enumerate(pipeline.conv_windows)
    ]
    if changed == pads:
        return None
    (top, bottom), (left, right) = changed
    conv = replace(pipeline.conv, padding=(top, bottom, left, right))
    return _in_two(compute, pipeline, inputs, conv)


def _in_two(compute: Compute, pipeline: PipelineSpec, inputs: Inputs, conv: ConvSpec) -> Array:
    """A changed convolution, cropped to the shape that it should have, and then the pool."""
    alone = compute(replace(pipeline, conv=conv, pool=None), inputs)
    fitted = _fit(alone, pipeline.conv_shape)
    if pipeline.pool is None:
        return fitted
    return _pool_alone(compute, pipeline.pool, inputs, fitted)


def _with_pool(
    compute: Compute,
    pipeline: PipelineSpec,
    inputs: Inputs,
    change: Callable[[PoolSpec], PoolSpec],
) -> Array | None:
    if pipeline.pool is None:
        return None
    return compute(replace(pipeline, pool=change(pipeline.pool)), inputs)


def _pool_shifted(
    compute: Compute, pipeline: PipelineSpec, inputs: Inputs, axis: int
) -> Array | None:
    if pipeline.pool is None:
        return None
    before = _before_the_pool(compute, pipeline, inputs)
    shifted = np.roll(before, 1, axis=1 + axis)
    return _pool_alone(compute, pipeline.pool, inputs, shifted)


def _average_counting(
    compute: Compute, pipeline: PipelineSpec, inputs: Inputs, *, count_include_pad: bool
) -> Array | None:
    pool = pipeline.pool
    if pool is None or pool.op != "avg" or pool.count_include_pad == count_include_pad:
        return None
    changed = replace(pool, count_include_pad=count_include_pad)
    return compute(replace(pipeline, pool=changed), inputs)


def _before_the_pool(compute: Compute, pipeline: PipelineSpec, inputs: Inputs) -> Array:
    if pipeline.conv is None and not pipeline.bias:
        return inputs.x
    return compute(replace(pipeline, pool=None), inputs)


def _with_rounded_factors(
    compute: Compute, pipeline: PipelineSpec, inputs: Inputs, digits: int
) -> Array | None:
    fmt = format_of(inputs.weights.dtype)
    if inputs.weights.filters is None or fmt.factor_digits <= digits:
        return None

    def rounded(array: Array) -> Array:
        return round_to(array, digits).astype(array.dtype)

    changed = _with_x(inputs, rounded)
    return compute(pipeline, _reweigh(changed, filters=rounded(inputs.weights.filters)))


def round_to(array: Array, digits: int) -> Array:
    """Round to nearest with so many bits of the significand, in float64."""
    significand, exponent = np.frexp(array.astype(np.float64))
    rounded: Array = np.ldexp(np.rint(significand * 2.0**digits), exponent - digits)
    return rounded


def _with_short_sums(
    compute: Compute, pipeline: PipelineSpec, inputs: Inputs, dtype: np.dtype[Any]
) -> Array | None:
    """Add the taps of the filters one after the other, rounding each sum."""
    filters = inputs.weights.filters
    if filters is None or pipeline.reduction == 1 or inputs.weights.dtype == dtype.name:
        return None
    conv = replace(pipeline, bias=False, pool=None)
    total = np.zeros(conv.output_shape, dtype)
    for r, s in np.ndindex(filters.shape[:2]):
        for c in range(min(filters.shape[2], 4)):  # the channels in four parts
            one = np.zeros_like(filters)
            one[r, s, c::4] = filters[r, s, c::4]
            with np.errstate(over="ignore"):
                part = compute(conv, _reweigh(inputs, filters=one, bias=None))
                total = (total.astype(part.dtype) + part).astype(dtype)
    y = total.astype(inputs.x.dtype)
    if not pipeline.bias and pipeline.pool is None:
        return y
    n, h, w, c = y.shape
    rest = PipelineSpec(n, h, w, c, bias=pipeline.bias, pool=pipeline.pool)
    return compute(rest, Inputs(y, replace(inputs.weights, filters=None)))


def _fit(output: Array, shape: tuple[int, ...]) -> Array:
    """Crop or pad with zeros at the end of every axis."""
    if output.shape == shape:
        return output
    fitted = np.zeros(shape, output.dtype)
    common = tuple(slice(min(a, b)) for a, b in zip(output.shape, shape, strict=True))
    fitted[common] = output[common]
    return fitted
