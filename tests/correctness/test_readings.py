"""What another reading of arrays or pads explains, and what none does."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convbench
from convbench import ConvSpec, PipelineSpec, PoolSpec
from convbench.correctness.causes import Cause
from convbench.correctness.readings import Given, reading_that_explains
from convbench.stimulus.arrays import Layout

CUBE = PipelineSpec(1, 3, 3, 3, ConvSpec(3, 3, 3, padding=1), True)


def reals(*shapes, seed: int = 0, dtype: str = "float32"):
    random = np.random.default_rng(seed)
    return [None if shape is None else random.standard_normal(shape, dtype) for shape in shapes]


def explained(got, pipeline, x, filters=None, bias=None, layout="NHWC") -> Cause | None:
    dtype = x.dtype.name
    sums = "float64" if dtype == "float64" else "float32"
    given_ = Given(got, pipeline, x, filters, bias, Layout.parse(layout), dtype, sums)
    return reading_that_explains(given_)


def by_loops(x, filters, bias, data: str, order: str, output: str):
    """A convolution of 3x3 over 3x3 pixels padded by 1, on arrays of any order, by letters."""
    y = np.zeros((1, 3, 3, 3))
    for p, q, k, r, s, c in itertools.product(range(3), repeat=6):
        i, j = p + r - 1, q + s - 1
        if 0 <= i < 3 and 0 <= j < 3:
            pixel = {"N": 0, "H": i, "W": j, "C": c}
            tap = {"H": r, "W": s, "I": c, "O": k}
            at = {"N": 0, "H": p, "W": q, "C": k}
            y[tuple(at[axis] for axis in output)] += (
                float(x[tuple(pixel[axis] for axis in data)])
                * float(filters[tuple(tap[axis] for axis in order)])
            )  # fmt: skip
    bias_shape = [3 if axis == "C" else 1 for axis in output]
    return (y + bias.reshape(bias_shape)).astype("float32")


@pytest.mark.parametrize("output", ["NHWC", "NCHW"])
@pytest.mark.parametrize("order", ["HWIO", "OIHW", "OHWI", "HWOI", "IHWO"])
@pytest.mark.parametrize("data", ["NHWC", "NCHW"])
def test_every_reading_of_a_cube_is_found(data: str, order: str, output: str) -> None:
    arrays = reals((1, 3, 3, 3), (3, 3, 3, 3), (3,))
    reading = explained(by_loops(*arrays, data, order, output), CUBE, *arrays)
    if (data, order, output) == ("NHWC", "HWIO", "NHWC"):
        assert reading is None, "no other reading explains what is right as given"
        return
    assert reading is not None
    assert reading.ratio <= 1
    changed = {"NCHW"} & {data, output} | {order} - {"HWIO"}
    assert set(reading.name.removeprefix("read_as_").split("_")) == {o.lower() for o in changed}
    assert ("input" in reading.what) == (data == "NCHW")
    assert ("output" in reading.what.replace("output.", "")) == (output == "NCHW")


def test_the_sizes_may_have_been_read_in_the_wrong_order() -> None:
    """A pool takes an NCHW array of any size for NHWC."""
    (x,) = reals((2, 3, 8, 6))
    pool = PoolSpec("max", 2)
    y = convbench.run(PipelineSpec(2, 8, 6, 3, pool=pool), x, layout="NCHW")
    taken = PipelineSpec(2, 3, 8, 6, pool=pool)
    assert y.shape != taken.output_shape
    reading = explained(y, taken, x)
    assert reading is not None
    assert reading.name == "read_as_nchw"
    assert reading.what.endswith('layout="NCHW", n, h, w, c = 2, 8, 6, 3')


def test_arrays_that_were_said_to_be_nchw_may_be_nhwc() -> None:
    arrays = reals((1, 3, 3, 3), (3, 3, 3, 3), (3,))
    y = by_loops(*arrays, "NHWC", "HWIO", "NHWC")
    reading = explained(y, CUBE, *arrays, layout="torch")
    assert reading is not None
    assert reading.name == "read_as_nhwc_hwio"
    assert reading.what.endswith('it is right: layout="NHWC"')


@pytest.mark.parametrize(
    ("stage", "conv", "pool"),
    [
        ("conv", ConvSpec(4, 4, 5, padding=(1, 0, 2, 3)), None),
        ("pool", None, PoolSpec("max", 4, 1, padding=(1, 0, 2, 3))),
        # Of the same shape either way.
        ("conv", ConvSpec(4, 4, 5, (2, 2), padding=(1, 1, 2, 1)), None),
    ],
)
def test_onnxs_pads_in_a_list_are_named(stage: str, conv, pool) -> None:
    pipeline = PipelineSpec(2, 8, 9, 3, conv, pool=pool)
    arrays = reals(pipeline.input_shape, pipeline.filter_shape)
    listed = (conv or pool).padding
    # NumPy pads what ONNX says: all that begins, and then all that ends.
    pads = ((0, 0), (listed[0], listed[2]), (listed[1], listed[3]), (0, 0))
    padded = np.pad(arrays[0], pads, constant_values=0 if conv else -np.inf)
    n, h, w, c = padded.shape
    if conv:
        alone = PipelineSpec(n, h, w, c, ConvSpec(4, 4, 5, conv.stride))
    else:
        alone = PipelineSpec(n, h, w, c, pool=PoolSpec("max", 4, 1))
    got = convbench.run(alone, padded, arrays[1])
    reading = explained(got, pipeline, *arrays)
    assert reading is not None
    assert reading.name == "read_as_onnx"
    assert reading.what == (
        f'read as ONNX (pads of the {stage}) it is right: padding={{"onnx": {listed}}}'
    )
    report = convbench.check(got, pipeline, *arrays)
    assert [cause.name for cause in report.causes][:1] == ["read_as_onnx"]


def test_a_model_from_onnx_has_both() -> None:
    pads = (2, 0, 1, 1)
    pipeline = PipelineSpec(1, 5, 5, 5, ConvSpec(4, 4, 4, padding=pads))
    onnx = PipelineSpec(1, 5, 5, 5, ConvSpec(4, 4, 4, padding={"onnx": pads}))
    x, filters = reals((1, 5, 5, 5), (4, 4, 5, 4))
    # Of the same values, an output by the other orders.
    y = convbench.run(onnx, x, filters, layout="NCHW/HWIO")
    reading = explained(y, pipeline, x, filters)
    assert reading is not None
    assert reading.name == "read_as_nchw_onnx"


@given(
    st.sampled_from(["noise", "scaled", "shifted", "one element", "flipped", "zeros"]),
    st.integers(0, 1000),
    st.sampled_from(["float32", "float16"]),
)
@settings(max_examples=60, deadline=None)
def test_what_is_plainly_wrong_is_explained_by_no_reading(
    fault: str, seed: int, dtype: str
) -> None:
    x, filters, bias = (a.astype(dtype) for a in reals((1, 3, 3, 3), (3, 3, 3, 3), (3,), seed=seed))
    y = convbench.run(CUBE, x, filters, bias)
    wrong = {
        "noise": np.random.default_rng(seed).permutation(y.ravel()).reshape(y.shape),
        "scaled": y * 2,
        "shifted": np.roll(y, 1, axis=1),
        "one element": y + (np.arange(27).reshape(y.shape) == 13).astype(dtype),
        "flipped": convbench.run(CUBE, x, filters[::-1, ::-1], bias),
        "zeros": np.zeros_like(y),
    }[fault]
    assert explained(wrong.astype(dtype), CUBE, x, filters, bias) is None


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_bounds_that_admit_anything_are_no_evidence(dtype: str) -> None:
    """Long sums kept in bfloat16 may be anything: C = K, so that filters could be HWOI."""
    pipeline = PipelineSpec(1, 1, 1, 512, ConvSpec(512, 1, 1))
    x, filters = (a.astype(dtype) for a in reals((1, 1, 1, 512), (1, 1, 512, 512)))
    got = convbench.run(pipeline, x, filters)[..., ::-1].copy()
    given_ = Given(got, pipeline, x, filters, None, Layout(), dtype, "bfloat16")
    assert reading_that_explains(given_) is None


def test_an_output_of_another_dtype_is_not_looked_at() -> None:
    arrays = reals((1, 3, 3, 3), (3, 3, 3, 3), (3,))
    y = by_loops(*arrays, "NCHW", "OIHW", "NCHW")
    assert explained(y.astype("float64"), CUBE, *arrays) is None
