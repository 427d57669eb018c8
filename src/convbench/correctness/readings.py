"""Arrays and pads that were read in another order than they were meant in.

An array does not say which of its axes are the channels, nor do four numbers say which of them pad
the left. Where another order fits as well, a right output is called wrong; here the orders that
people mix up are tried, and one is named only if it makes all of the output right.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from convbench.correctness.accuracy import Reference, accuracy_of, refer
from convbench.correctness.causes import Cause
from convbench.correctness.sample import sample
from convbench.errors import SpecError
from convbench.stimulus.arrays import DATA_ORDERS, FILTER_ORDERS, Array, Layout, Weights, turned
from convbench.stimulus.formats import format_of
from convbench.stimulus.inputs import Inputs
from convbench.stimulus.spec import PipelineSpec

CHANCE = 1e-6
"""Bounds that as many unrelated outputs would keep within are no evidence for a reading."""


@dataclass(frozen=True, slots=True)
class Given:
    """An output and what it was computed from, as somebody gives them.

    Attributes
    ----------
    got, x : array
        In the order `layout.data`.
    filters : array, optional
        In the order `layout.filters`.
    bias : array of shape (K,), optional
    dtype, accumulation : str
        The formats of the numbers and of their sums.
    """

    got: Array
    pipeline: PipelineSpec
    x: Array
    filters: Array | None
    bias: Array | None
    layout: Layout
    dtype: str
    accumulation: str
    scheme: str | None = None


def reading_that_explains(given: Given, seed: int = 0) -> Cause | None:
    """Find the other reading, of the fewest changes, under which a wrong output is right.

    Parameters
    ----------
    seed : int
        Of the sample of positions that is looked at in a large output.

    Examples
    --------
    >>> import convbench
    >>> from convbench import ConvSpec
    >>> pipeline = PipelineSpec(1, 3, 3, 3, conv=ConvSpec(k=3, r=3, s=3, padding=1))
    >>> x, filters = np.sin(np.arange(27.0)), np.cos(np.arange(81.0))
    >>> x, filters = x.reshape(1, 3, 3, 3), filters.reshape(3, 3, 3, 3)
    >>> y = convbench.run(pipeline, x, filters, layout="torch")
    >>> given = Given(y, pipeline, x, filters, None, Layout(), "float64", "float64")
    >>> reading_that_explains(given).name
    'read_as_nchw_oihw'
    """
    for candidate in sorted(_candidates(given), key=lambda c: len(c.changes(given))):
        if (ratio := _explains(candidate, given, seed)) is not None:
            return candidate.reading(given, ratio)
    return None


def _explains(candidate: _Candidate, given: Given, seed: int) -> float | None:
    """Error over bound where the output is right, and hardly by chance; else None."""
    inputs, storage = candidate.inputs(given), np.dtype(format_of(given.dtype).storage)
    if inputs is None or given.got.dtype.newbyteorder("=") != storage:
        return None
    expected = refer(
        candidate.pipeline,
        inputs,
        accumulation=given.accumulation,
        positions=sample(candidate.pipeline, seed),
        scheme=given.scheme,
    )
    accuracy = accuracy_of(Layout(candidate.output).read_data(given.got), expected)
    return accuracy.ratio if accuracy.ok and _proves(expected) else None


def memory_that_explains(given: Given, seed: int = 0) -> Cause | None:
    """Find out whether an array that is not contiguous was read as if it were.

    What lies between its elements, or after them, is then taken for more of them. It can be seen as
    long as the array that it is a part of is there.
    """
    for name in ("x", "filters"):
        array = getattr(given, name)
        if array is None or (dense := _read_as_dense(array)) is None:
            continue
        changed: Any = {name: dense}
        as_given = _Candidate(given.pipeline, given.layout, given.layout.data, ())
        ratio = _explains(as_given, replace(given, **changed), seed)
        if ratio is not None:
            what = (
                f"{name} is not contiguous (its strides are {array.strides}), and was read as if it"
                f" were: np.ascontiguousarray({name})"
            )
            return Cause("misread_strides", what, ratio)
    return None


def _read_as_dense(array: Array) -> Array | None:
    """As many elements from the first on; None where these are the same, or are not all there."""
    if array.flags.c_contiguous or not array.size:
        return None
    whole = array
    while isinstance(whole.base, np.ndarray):
        whole = whole.base
    start = array.__array_interface__["data"][0]
    low, high = np.lib.array_utils.byte_bounds(whole)
    if start < low or start + array.nbytes > high:
        return None
    strides = array.itemsize * np.cumprod((1, *array.shape[:0:-1]))[::-1]
    return np.lib.stride_tricks.as_strided(array, array.shape, tuple(map(int, strides))).copy()


@dataclass(frozen=True, slots=True)
class _Candidate:
    """One reading: the pipeline that it makes, and the orders of the arrays."""

    pipeline: PipelineSpec
    layout: Layout
    output: str
    onnx: tuple[str, ...]
    """The stages whose pads are read as ONNX's."""

    def inputs(self, given: Given) -> Inputs | None:
        """The arrays in our orders, or None if they do not fit."""
        filters = given.filters
        shape = None if filters is None else filters.shape
        output_shape = Layout(self.output).data_shape(self.pipeline.output_shape)
        bias_shape = None if given.bias is None else given.bias.shape
        if (
            shape != self.layout.filter_shape(self.pipeline)
            or bias_shape != self.pipeline.bias_shape
            or given.got.shape != output_shape
        ):
            return None
        if filters is not None:
            filters = self.layout.read_filters(filters)
        x = self.layout.read_data(given.x)
        return Inputs(x, Weights(given.dtype, filters, given.bias))

    def changes(self, given: Given) -> dict[str, str]:
        """What is read in another order, and in which."""
        orders = {
            "input": (self.layout.data, given.layout.data),
            "filters": (self.layout.filters, given.layout.filters),
            "output": (self.output, given.layout.data),
        }
        changed = {what: order for what, (order, was) in orders.items() if order != was}
        return changed | {f"pads of the {stage}": "ONNX" for stage in self.onnx}

    def reading(self, given: Given, ratio: float) -> Cause:
        """Put it into words."""
        read: dict[str, list[str]] = {}
        for what, order in self.changes(given).items():
            read.setdefault(order, []).append(what)
        orders = " and ".join(f"{order} ({', '.join(whats)})" for order, whats in read.items())
        what = f"read as {orders} it is right: {', '.join(self._remedies(given))}"
        return Cause(f"read_as_{'_'.join(read).lower()}", what, ratio)

    def _remedies(self, given: Given) -> Iterator[str]:
        layout, was = self.layout, given.layout
        if layout != was and self.output == layout.data:
            yield f'layout="{layout if given.filters is not None else layout.data}"'
        else:
            if layout.data != was.data:
                yield turned("x", layout.data, was.data, given.x.shape)
            if layout.filters != was.filters:
                shape = was.filter_shape(self.pipeline)
                assert shape is not None
                yield turned("filters", layout.filters, was.filters, shape)
            if self.output != was.data:
                yield turned("output", self.output, was.data, given.got.shape)
        if self.pipeline.input_shape != given.pipeline.input_shape:
            yield "n, h, w, c = {}, {}, {}, {}".format(*self.pipeline.input_shape)
        for stage in self.onnx:
            top, bottom, left, right = getattr(self.pipeline, stage).padding
            yield f'padding={{"onnx": ({top}, {left}, {bottom}, {right})}}'


def _candidates(given: Given) -> Iterator[_Candidate]:
    """All other readings whose pipeline can be computed."""
    orders = FILTER_ORDERS if given.filters is not None else (given.layout.filters,)
    for pipeline, onnx in _with_onnx_pads(given.pipeline):
        for data, order, output in itertools.product(DATA_ORDERS, orders, DATA_ORDERS):
            layout = Layout(data, order)
            if (layout, output, onnx) == (given.layout, given.layout.data, ()):
                continue
            try:
                n, h, w, c = Layout(data).read_data(given.x).shape
                yield _Candidate(replace(pipeline, n=n, h=h, w=w, c=c), layout, output, onnx)
            except SpecError:
                continue


def _with_onnx_pads(pipeline: PipelineSpec) -> Iterator[tuple[PipelineSpec, tuple[str, ...]]]:
    """The pipeline, and with its explicit pads read as (top, left, bottom, right)."""
    stages = {name: getattr(pipeline, name) for name in ("conv", "pool")}
    turned_ = {}
    for name, stage in stages.items():
        if stage is not None and not isinstance(stage.padding, str):
            top, left, bottom, right = stage.padding
            if left != bottom:
                turned_[name] = replace(stage, padding=(top, bottom, left, right))
    for number in range(len(turned_) + 1):
        for names in itertools.combinations(turned_, number):
            try:
                yield replace(pipeline, **{name: turned_[name] for name in names}), names
            except SpecError:
                continue


def _proves(expected: Reference) -> bool:
    """Whether hardly any other output of this size would keep within the bounds."""
    finite = np.isfinite(expected.output) & np.isfinite(expected.bound)
    output, bound = expected.output[finite], expected.bound[finite]
    size = math.sqrt(float(np.mean(output**2))) if output.size else 0.0
    if not size:
        return False
    with np.errstate(divide="ignore"):
        return float(np.log(np.minimum(bound / size, 1.0)).sum()) < math.log(CHANCE)
