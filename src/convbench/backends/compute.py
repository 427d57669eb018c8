"""One call for people: NumPy arrays in, NumPy arrays out, on any backend."""

from __future__ import annotations

import math
import secrets
import warnings
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convbench.backends import open_backend
from convbench.backends.base import Backend, HoleKind, Run
from convbench.errors import ArrayError, BrokenContract, DeviationWarning
from convbench.machine.failures import note_success
from convbench.stimulus.arrays import (
    DATA_ORDERS,
    FILTER_ORDERS,
    Array,
    DeviceArray,
    Layout,
    Weights,
    exactly_an_array,
    turned,
)
from convbench.stimulus.formats import Fill, Format, format_of
from convbench.stimulus.inputs import Inputs, fills_of, flushed
from convbench.stimulus.spec import PipelineSpec
from convbench.stimulus.targets import Target


def run(
    pipeline: PipelineSpec,
    x: Array,
    filters: Array | None = None,
    bias: Array | None = None,
    backend: str = "numpy",
    device: str = "cpu",
    *,
    layout: str = "NHWC",
) -> Array:
    """Compute a pipeline once.

    Parameters
    ----------
    pipeline : PipelineSpec
    x : array of shape (N, H, W, C)
        Its dtype, float32 or float64, is that of the computation and of the result.
    filters : array of shape (R, S, C // groups, K), optional
    bias : array of shape (K,), optional
        Both of the dtype of `x`, and given exactly where the pipeline has the stage.
    backend : str
        A registered name, with a variant after a dot if one is wanted: ``"tensorflow.xla"``.
    device : str
        ``"cpu"``, ``"gpu:0"``, ...
    layout : str
        In which order the axes of `x` and `filters` are, where it is another, and those of the
        result: ``"NCHW"`` (with filters OIHW), ``"NCHW/HWIO"``, ``"torch"``, ``"onnx"``,
        ``"keras"``, ``"tflite"``; see :class:`convbench.stimulus.arrays.Layout`.

    Returns
    -------
    array of shape (N, P, Q, K)

    Warns
    -----
    DeviationWarning
        If the backend declares that it differs from the definition on inputs like these, and it
        does on these. Where they hold inf, nan or denormal numbers, NumPy computes the same once
        more to see that.

    Raises
    ------
    ArrayError
        If an array is missing, superfluous, or of the wrong shape or dtype; where another layout
        would fit, the message has it.
    TargetError, BackendUnavailable, Unsupported
        If that backend cannot do it here; the message says why.

    Examples
    --------
    >>> import numpy as np
    >>> from convbench import PipelineSpec, PoolSpec
    >>> x = np.arange(16.0).reshape(1, 4, 4, 1)
    >>> pipeline = PipelineSpec(1, 4, 4, 1, pool=PoolSpec("max", 2))
    >>> run(pipeline, x)[0, :, :, 0]
    array([[ 5.,  7.],
           [13., 15.]])
    >>> run(pipeline, x.reshape(1, 1, 4, 4), layout="NCHW").shape
    (1, 1, 2, 2)
    """
    x, order = np.asarray(x), Layout.parse(layout)
    inputs = checked_inputs(pipeline, x, filters, bias, format_of(x.dtype.name), order)
    opened = open_backend(Target.parse(f"{backend}@{device}"))
    output = compute(opened, pipeline, inputs).output
    _warn_of_deviations(opened, pipeline, inputs, output)
    return order.write_data(output)


def _warn_of_deviations(
    backend: Backend, pipeline: PipelineSpec, inputs: Inputs, output: Array
) -> None:
    """Say where a declared deviation shows in an output, by NumPy's, which has none."""
    holes = [hole for hole in backend.capabilities.holes if hole.kind is HoleKind.DEVIATES]
    where = (pipeline, inputs.weights.dtype, backend.variant, backend.device)
    fills = fills_of(inputs) if holes else ()
    met = {
        hole: fills_ for hole in holes if (fills_ := [f for f in fills if hole.covers(*where, f)])
    }
    if not met:
        return
    definition = open_backend(Target.parse("numpy@cpu"))
    right = compute(definition, pipeline, inputs).output
    without = compute(definition, pipeline, flushed(inputs)).output
    for hole, fills_ in met.items():
        differs = np.logical_or.reduce([_differs(f, output, right, without) for f in fills_])
        if differs.any():
            first = tuple(int(i) for i in np.argwhere(differs)[0])
            warnings.warn(
                f"{backend.name}: {np.count_nonzero(differs)} of {differs.size} results are not as"
                f" defined: at {list(first)} it is {float(output[first]):.6g}, where"
                f" {float(right[first]):.6g} is right. {hole}. numpy@cpu does it as defined.",
                DeviationWarning,
                stacklevel=3,
            )


def _differs(
    fill: Fill, output: Array, right: Array, without_denormals: Array
) -> NDArray[np.bool_]:
    """Where an output differs from the right one by more than rounding, on inputs of a fill."""
    got, right = output.astype(np.float64), right.astype(np.float64)
    with np.errstate(invalid="ignore"):
        if fill is Fill.NONFINITE:
            same = (got == right) | (np.isnan(got) & np.isnan(right))
            differs: NDArray[np.bool_] = ~same & ~(np.isfinite(got) & np.isfinite(right))
        elif fill is Fill.DENORMAL:  # flushed, if that is what it is nearer to
            differs = np.abs(got - without_denormals.astype(np.float64)) < np.abs(got - right)
        else:
            differs = got != right
    return differs


def checked_inputs(
    pipeline: PipelineSpec,
    x: Array,
    filters: Array | None,
    bias: Array | None,
    fmt: Format,
    layout: Layout,
) -> Inputs:
    """See that arrays fit a pipeline and a format.

    Raises
    ------
    ArrayError
        If one is missing, superfluous, or of the wrong shape or dtype.
    """
    dtype = np.dtype(fmt.storage)
    x = np.asarray(x)
    filters, bias = (None if array is None else np.asarray(array) for array in (filters, bias))
    if pipeline.conv is not None and layout.filter_shape(pipeline) is None:
        raise ArrayError(
            f"arrays: the layout of the filters is {layout.filters}; expected another, since that "
            "is of depthwise convolutions and this is none. Name another."
        )
    letters = ", ".join(_SIZES[axis] for axis in layout.filters)
    rule = f"Arrays are {layout.data} and filters ({letters}), unless `layout` says otherwise."
    _check(
        "x",
        x,
        layout.data_shape(pipeline.input_shape),
        dtype,
        _data_that_fits(pipeline, x, filters, layout) or rule,
    )
    _check(
        "filters",
        filters,
        layout.filter_shape(pipeline),
        dtype,
        _filters_that_fit(pipeline, filters, layout) or rule,
    )
    _check("bias", bias, pipeline.bias_shape, dtype, "It has one number for each channel.")
    if filters is not None:
        filters = layout.read_filters(filters)
    return Inputs(layout.read_data(x), Weights(fmt.name, filters, bias))


_SIZES = {"H": "R", "W": "S", "I": "C // groups", "O": "K", "C": "C", "M": "K // C"}
"""What the axes of filters are called in a pipeline."""


def _data_that_fits(pipeline: PipelineSpec, x: Array, filters: Array | None, layout: Layout) -> str:
    """What to do about an input that would fit in another order; "" if it would not."""
    for data in DATA_ORDERS:
        if data == layout.data or Layout(data).data_shape(pipeline.input_shape) != x.shape:
            continue
        usual = Layout.parse(data).filters
        orders = (usual, layout.filters, *FILTER_ORDERS)
        shape = None if filters is None else filters.shape
        fitting = (f for f in orders if Layout(data, f).filter_shape(pipeline) == shape)
        turn = turned("x", data, layout.data, x.shape)
        return f'It fits as {data}: give {turn}, or layout="{Layout(data, next(fitting, usual))}".'
    return ""


def _filters_that_fit(pipeline: PipelineSpec, filters: Array | None, layout: Layout) -> str:
    """What to do about filters that would fit in another order, or several; "" if in none."""
    shape = layout.filter_shape(pipeline)
    if filters is None or shape is None:
        return ""
    return " ".join(
        f"They fit as {order}: give {turned('filters', order, layout.filters, shape)}, or "
        f'layout="{other}".'
        for order in FILTER_ORDERS
        if order != layout.filters
        and (other := replace(layout, filters=order)).filter_shape(pipeline) == filters.shape
    )


@dataclass(frozen=True, slots=True)
class Computed:
    """The output of a pipeline, and how it was made.

    Attributes
    ----------
    output : array of shape (N, P, Q, K)
    algorithm, accumulation, scheme : str
        As :class:`Run` says.
    deviation : str
        Why the backend declares that it differs from the definition here; empty if it does not.
    later : tuple of array
        What later calls gave on the same input where it was not the same bits, each once.
    """

    output: Array
    algorithm: str
    accumulation: str | None = None
    deviation: str = ""
    later: tuple[Array, ...] = ()
    scheme: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values and the array, as they cross from a process."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


FEW_CALLS, MANY_CALLS = 2, 20
"""Calls on which the contract of a backend is held, and where they cost next to nothing."""

MANY_CALLS_FLOPS = 20_000_000
MANY_CALLS_ELEMENTS = 200_000


def compute(
    backend: Backend, pipeline: PipelineSpec, inputs: Inputs, *, poison: bool = False
) -> Computed:
    """Build, copy there, run, and copy back.

    Parameters
    ----------
    poison : bool
        Run on an input of nothing but nan first. Whatever of it is left in a workspace, a border
        or a recycled output that the second run does not write is then seen in the result. And
        hold the backend to the rest of its contract: it may change neither its input nor an
        earlier output. Where that costs little it is called on both inputs again and again, in an
        order that nobody knows: what is right at first has to stay so.

    Raises
    ------
    BrokenContract
    """
    run = backend.build(pipeline, inputs.weights)
    with np.errstate(invalid="ignore", over="ignore"):  # nan and inf are inputs like any other
        if not poison:
            return _computed(backend, run, run(backend.to_device(inputs.x)))
        given = {True: np.full_like(inputs.x, np.nan), False: inputs.x}
        untouched = {on_nan: x.copy() for on_nan, x in given.items()}
        elements = math.prod(pipeline.output_shape) + inputs.x.size
        few = pipeline.flops > MANY_CALLS_FLOPS or elements > MANY_CALLS_ELEMENTS
        more = FEW_CALLS if few else MANY_CALLS
        order = [secrets.choice((True, False)) for _ in range(more - 2)]
        first: Computed | None = None
        later: list[Array] = []
        earlier: list[tuple[DeviceArray, Array]] = []
        for on_nan in (True, *order, False):
            placed = backend.to_device(given[on_nan])
            output = run(placed)
            computed = _computed(backend, run, output)
            earlier.append((output, computed.output.copy()))
            # Where nothing was copied to a device, what was placed is the input itself.
            if not np.array_equal(backend.to_numpy(placed), untouched[on_nan], equal_nan=True):
                raise BrokenContract("the run changed its input; it has to leave it as it is")
            if on_nan:
                continue
            if first is None:
                first = replace(computed, output=computed.output.copy())
            elif not any(_same(known, computed.output) for known in (first.output, *later)):
                later.append(computed.output.copy())
        if not all(
            np.array_equal(backend.to_numpy(output), kept, equal_nan=True)
            for output, kept in earlier
        ):
            raise BrokenContract(
                "the run changed the output of an earlier call; each needs an array of its own"
            )
        if _lies_in(backend, placed, output):
            raise BrokenContract(
                "the output lies in the memory of the input; each call needs an array of its own"
            )
    assert first is not None
    return replace(first, later=(*later,))


def _same(one: Array, other: Array) -> bool:
    return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=True)


def _lies_in(backend: Backend, placed: DeviceArray, output: DeviceArray) -> bool:
    """Whether an output changes with the input, where an input can be written to at all."""
    before, kept = backend.to_numpy(placed).copy(), backend.to_numpy(output).copy()
    try:
        placed[...] = 1
    except Exception:  # of any library, whose arrays cannot be written to
        return False
    follows = not _same(kept, backend.to_numpy(output))
    placed[...] = before if isinstance(placed, np.ndarray) else backend.to_device(before)
    return follows


def _computed(backend: Backend, run: Run, output: DeviceArray) -> Computed:
    backend.synchronize()
    array = backend.to_numpy(output)
    note_success()
    output = exactly_an_array(array)
    return Computed(output, run.algorithm, run.accumulation, scheme=run.scheme)


def _check(
    what: str,
    array: Array | None,
    shape: tuple[int, ...] | None,
    dtype: np.dtype[np.generic],
    hint: str,
) -> None:
    if (array is None) != (shape is None):
        got, expected = ("missing", f"an array of shape {shape}") if shape else ("given", "none")
        raise ArrayError(
            f"arrays: {what} is {got}; expected {expected}. Give exactly the weights that the "
            "pipeline has."
        )
    if array is None:
        return
    if array.shape != shape:
        raise ArrayError(f"arrays: the shape of {what} is {array.shape}; expected {shape}. {hint}")
    if array.dtype.newbyteorder("=") != dtype:
        raise ArrayError(
            f"arrays: the dtype of {what} is {array.dtype.name}; expected {dtype.name}. Convert "
            f"it with .astype({dtype.name!r})."
        )
