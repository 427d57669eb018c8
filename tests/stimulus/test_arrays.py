"""In which order the axes of somebody's arrays are, element by element."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from convbench import ConvSpec, PipelineSpec, PoolSpec
from convbench.errors import ArrayError
from convbench.stimulus.arrays import DATA_ORDERS, FILTER_ORDERS, Layout, turned

DENSE = PipelineSpec(2, 7, 6, 4, ConvSpec(10, 3, 5, groups=2))
DEPTHWISE = PipelineSpec(2, 7, 6, 4, ConvSpec(12, 3, 5, groups=4))


@pytest.mark.parametrize(
    ("text", "data", "filters"),
    [
        ("NHWC", "NHWC", "HWIO"),
        ("nchw", "NCHW", "OIHW"),
        ("NCHW/HWIO", "NCHW", "HWIO"),
        ("NHWC/ohwi", "NHWC", "OHWI"),
        ("OIHW", "NHWC", "OIHW"),
        ("torch", "NCHW", "OIHW"),
        ("PyTorch", "NCHW", "OIHW"),
        ("onnx", "NCHW", "OIHW"),
        ("keras", "NHWC", "HWIO"),
        ("tensorflow", "NHWC", "HWIO"),
        ("tflite", "NHWC", "OHWI"),
        ("channels_first", "NCHW", "HWIO"),
        ("channels_last", "NHWC", "HWIO"),
    ],
)
def test_layouts_by_name(text, data, filters) -> None:
    layout = Layout.parse(text)
    assert (layout.data, layout.filters) == (data, filters)
    assert Layout.parse(str(layout)) == layout


@pytest.mark.parametrize("text", ["", "NCWH", "/OIHW", "NCHW/OIWH", "OIHW/NCHW", "theano"])
def test_other_words_are_refused(text) -> None:
    with pytest.raises(ArrayError, match="expected NHWC or NCHW, followed by / and one of HWIO"):
        Layout.parse(text)


@pytest.mark.parametrize("data", DATA_ORDERS)
def test_data_is_read_and_written_element_by_element(data) -> None:
    layout, shape = Layout(data), {"N": 2, "H": 3, "W": 4, "C": 5}
    given = np.arange(120).reshape([shape[axis] for axis in data])
    assert layout.data_shape((2, 3, 4, 5)) == given.shape
    read = layout.read_data(given)
    assert read.shape == (2, 3, 4, 5)
    for n, h, w, c in np.ndindex(read.shape):
        at = {"N": n, "H": h, "W": w, "C": c}
        assert read[n, h, w, c] == given[tuple(at[axis] for axis in data)]
    assert (layout.write_data(read) == given).all()
    assert (eval(turned("given", data, "NHWC", read.shape)) == read).all()
    assert (eval(turned("read", "NHWC", data, given.shape)) == given).all()


@pytest.mark.parametrize("filters", FILTER_ORDERS)
@pytest.mark.parametrize("pipeline", [DENSE, DEPTHWISE], ids=["dense", "depthwise"])
def test_filters_are_read_element_by_element(pipeline, filters) -> None:
    layout = Layout("NHWC", filters)
    shape = layout.filter_shape(pipeline)
    if shape is None:
        assert (filters, pipeline) == ("HWCM", DENSE)
        return
    given = np.arange(np.prod(shape)).reshape(shape)
    read = layout.read_filters(given)
    assert read.shape == pipeline.filter_shape
    for r, s, i, o in np.ndindex(read.shape):
        # TensorFlow: output channel c * M + m of a depthwise convolution is of input channel c.
        c, m = divmod(o, pipeline.conv.k // pipeline.c)
        at = {"H": r, "W": s, "I": i, "O": o, "C": c, "M": m}
        assert read[r, s, i, o] == given[tuple(at[axis] for axis in filters)]


@pytest.mark.parametrize(("given", "wanted"), [*itertools.permutations(FILTER_ORDERS, 2)])
def test_the_expression_turns_filters_from_any_order_into_any(given, wanted) -> None:
    here, there = Layout("NHWC", given), Layout("NHWC", wanted)
    filters = np.arange(180).reshape(here.filter_shape(DEPTHWISE))
    out = eval(turned("filters", given, wanted, there.filter_shape(DEPTHWISE)))
    assert (there.read_filters(out) == here.read_filters(filters)).all()


def test_without_a_convolution_there_are_no_filters() -> None:
    pool = PipelineSpec(1, 4, 4, 3, pool=PoolSpec("max", 2))
    assert {Layout("NHWC", filters).filter_shape(pool) for filters in FILTER_ORDERS} == {None}
