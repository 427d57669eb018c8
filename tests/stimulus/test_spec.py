"""Shapes, padding and counts against values worked out by hand and against brute force."""

import json
import tomllib
from dataclasses import FrozenInstanceError, replace
from itertools import pairwise
from math import ceil, prod

import numpy as np
import pytest
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

from convbench.errors import SpecError
from convbench.stimulus.spec import ConvSpec, PipelineSpec, PoolSpec, Window


def conv_window(size: int, taps: int, stride=1, dilation=1, padding="VALID") -> Window:
    """The height of a convolution whose width is 1."""
    if not isinstance(padding, str):
        padding = (*padding, 0, 0)
    conv = ConvSpec(k=1, r=taps, s=1, stride=(stride, 1), dilation=(dilation, 1), padding=padding)
    return PipelineSpec(1, size, 1, 1, conv=conv).conv_windows[0]


def pool_window(
    size: int, taps: int, stride=1, dilation=1, padding="VALID", *, ceil_mode=False
) -> Window:
    """The width of a pool whose height is 1."""
    if not isinstance(padding, str):
        padding = (0, 0, *padding)
    pool = PoolSpec(
        "avg", (1, taps), (1, stride), padding, dilation=(1, dilation), ceil_mode=ceil_mode
    )
    return PipelineSpec(1, 1, size, 1, pool=pool).pool_windows[1]


# -- one axis, by hand -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "taps", "stride", "dilation", "out"),
    [
        (1, 1, 1, 1, 1),
        (5, 1, 1, 1, 5),
        (5, 5, 2, 1, 1),  # the notebook's convolution
        (5, 2, 2, 1, 2),  # the notebook's pool: the fifth row is not read
        (5, 3, 2, 1, 2),
        (5, 2, 3, 1, 2),
        (4, 2, 3, 1, 1),
        (3, 1, 5, 1, 1),
        (5, 3, 1, 2, 1),
        (6, 3, 1, 2, 2),
        (10, 3, 2, 4, 1),
        (227, 11, 4, 1, 55),  # AlexNet conv1
        (299, 3, 2, 1, 149),  # Inception-v3 1a
        (700, 20, 2, 1, 341),  # DeepBench, speech
    ],
)
def test_valid(size, taps, stride, dilation, out):
    window = conv_window(size, taps, stride, dilation)
    assert (window.out, window.before, window.after) == (out, 0, 0)
    assert pool_window(size, taps, stride, dilation) == window


@pytest.mark.parametrize(
    ("size", "taps", "stride", "dilation", "out", "before", "after"),
    [
        (5, 3, 1, 1, 5, 1, 1),
        (5, 2, 1, 1, 5, 0, 1),  # the odd row goes after
        (5, 4, 1, 1, 5, 1, 2),
        (1, 4, 1, 1, 1, 1, 2),
        (1, 5, 1, 1, 1, 2, 2),
        (6, 3, 2, 1, 3, 0, 1),
        (5, 3, 2, 1, 3, 1, 1),
        (224, 7, 2, 1, 112, 2, 3),
        (224, 3, 2, 1, 112, 0, 1),
        (299, 3, 2, 1, 150, 1, 1),
        (2, 7, 3, 1, 1, 2, 3),
        (5, 3, 1, 2, 5, 2, 2),
        (8, 3, 3, 2, 3, 1, 2),
        (5, 1, 3, 1, 2, 0, 0),  # a stride beyond the filter pads nothing
        (7, 2, 4, 1, 2, 0, 0),
        (8, 2, 4, 1, 2, 0, 0),
    ],
)
def test_same(size, taps, stride, dilation, out, before, after):
    window = conv_window(size, taps, stride, dilation, "SAME")
    assert (window.out, window.before, window.after) == (out, before, after)
    assert pool_window(size, taps, stride, dilation, "SAME") == window


@pytest.mark.parametrize(
    ("size", "taps", "stride", "dilation", "out", "before", "after"),
    [
        (5, 3, 1, 1, 5, 1, 1),
        (5, 2, 1, 1, 5, 1, 0),  # the odd row goes before
        (5, 4, 1, 1, 5, 2, 1),
        (6, 3, 2, 1, 3, 1, 0),
        (224, 7, 2, 1, 112, 3, 2),
        (8, 3, 3, 2, 3, 2, 1),
        (8, 2, 4, 1, 2, 0, 0),
    ],
)
def test_same_lower_is_onnxs(size, taps, stride, dilation, out, before, after):
    window = conv_window(size, taps, stride, dilation, "SAME_LOWER")
    assert (window.out, window.before, window.after) == (out, before, after)
    assert pool_window(size, taps, stride, dilation, "SAME_LOWER") == window


@pytest.mark.parametrize(
    ("form", "kept"),
    [
        ("valid", "VALID"),
        ("same", "SAME"),
        ("Same", "SAME"),
        ("SAME_UPPER", "SAME"),
        ("same_lower", "SAME_LOWER"),
        (0, (0, 0, 0, 0)),
        (2, (2, 2, 2, 2)),
        (np.int64(2), (2, 2, 2, 2)),
        ((1, 2), (1, 1, 2, 2)),  # PyTorch's
        (((1, 2), (3, 4)), (1, 2, 3, 4)),  # JAX's
        ([[0, 0], [1, 2], [3, 4], [0, 0]], (1, 2, 3, 4)),  # TensorFlow's
        ((1, 2, 3, 4), (1, 2, 3, 4)),
        ({"onnx": [1, 2, 3, 4]}, (1, 3, 2, 4)),
    ],
)
def test_padding_in_every_form(form, kept):
    conv, pool = ConvSpec(1, 5, 5, padding=form), PoolSpec("max", 5, padding=form)
    assert conv.padding == pool.padding == kept
    assert conv == ConvSpec(1, 5, 5, padding=kept)


def test_forms_of_padding_are_those_of_toml_and_json_too():
    row = """
        n = 1
        h = 5
        w = 7
        c = 3
        conv = {k = 2, r = 3, s = 3, padding = {onnx = [1, 0, 2, 1]}}
        pool = {op = "avg", window = 2, padding = [[0, 1], [1, 0]], divisor_override = 3}
    """
    spec = PipelineSpec.from_dict(tomllib.loads(row))
    assert spec.conv.padding == (1, 2, 0, 1)
    assert spec.pool.padding == (0, 1, 1, 0)
    # What is written is one form, whatever was read.
    assert spec.to_dict()["conv"]["padding"] == [1, 2, 0, 1]
    assert PipelineSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize(
    ("size", "taps", "stride", "asked", "out", "read"),
    [
        (224, 3, 1, (1, 1), 224, (1, 1)),
        (224, 7, 2, (3, 3), 112, (3, 2)),  # ResNet conv1: no filter reads the last row
        (224, 11, 4, (2, 2), 55, (2, 1)),  # AlexNet with one tower, conv1
        (5, 5, 1, (0, 2), 3, (0, 2)),
        (5, 3, 1, (2, 0), 5, (2, 0)),
        (5, 3, 2, (0, 1), 2, (0, 0)),
        (4, 5, 1, (1, 0), 1, (1, 0)),
        (1, 3, 1, (1, 1), 1, (1, 1)),
        (7, 1, 2, (3, 3), 7, (3, 3)),  # DeepBench: some of the filters see nothing but padding
    ],
)
def test_explicit_padding(size, taps, stride, asked, out, read):
    window = conv_window(size, taps, stride, padding=asked)
    assert (window.out, (window.before, window.after)) == (out, read)


@pytest.mark.parametrize(
    ("size", "taps", "stride", "pad", "floored", "ceiled", "after"),
    [
        (5, 2, 2, 0, 2, 3, 1),
        (6, 3, 2, 0, 2, 3, 1),
        (7, 3, 2, 0, 3, 3, 0),
        (4, 2, 3, 0, 1, 2, 1),
        (5, 2, 4, 0, 1, 2, 1),
        (6, 2, 4, 0, 2, 2, 0),
        (55, 3, 2, 0, 27, 27, 0),
        (5, 1, 3, 0, 2, 2, 0),  # a third window would start beyond the input
        (5, 2, 2, 1, 3, 3, 0),  # a fourth would start in the padding after it
        (6, 3, 2, 1, 3, 4, 2),
        (112, 3, 2, 1, 56, 57, 2),  # ResNet pool1, as Caffe has it
    ],
)
def test_ceil_mode_is_pytorchs(size, taps, stride, pad, floored, ceiled, after):
    padding = (pad, pad)
    assert pool_window(size, taps, stride, padding=padding).out == floored
    window = pool_window(size, taps, stride, padding=padding, ceil_mode=True)
    assert (window.out, window.after) == (ceiled, after)


def test_ceil_mode_lets_the_only_window_overhang():
    assert pool_window(2, 3, 2, ceil_mode=True).counts(include_pad=False) == (2,)
    with pytest.raises(SpecError, match="at most the 2 there are plus 1 for ceil_mode"):
        pool_window(2, 4, 2, ceil_mode=True)


def test_same_has_nothing_left_for_ceil_mode():
    for size in range(1, 12):
        assert pool_window(size, 3, 2, padding="SAME", ceil_mode=True) == pool_window(
            size, 3, 2, padding="SAME"
        )


@pytest.mark.parametrize(
    ("window", "without", "with_padding"),
    [
        (pool_window(5, 2, 2), (2, 2), (2, 2)),
        (pool_window(5, 2, padding="SAME"), (2, 2, 2, 2, 1), (2, 2, 2, 2, 2)),
        (pool_window(4, 3, padding=(1, 1)), (2, 3, 3, 2), (3, 3, 3, 3)),
        (pool_window(4, 3, padding=(2, 0)), (1, 2, 3, 3), (3, 3, 3, 3)),
        (pool_window(7, 3, 2, 2, (2, 2)), (2, 3, 3, 2), (3, 3, 3, 3)),
        # What ceil_mode adds beyond the padding is never counted.
        (pool_window(5, 2, 2, ceil_mode=True), (2, 2, 1), (2, 2, 1)),
        (pool_window(6, 3, 2, padding=(1, 1), ceil_mode=True), (2, 3, 3, 1), (3, 3, 3, 2)),
    ],
)
def test_what_an_average_divides_by(window, without, with_padding):
    assert window.counts(include_pad=False) == without
    assert window.counts(include_pad=True) == with_padding


def test_a_divisor_is_that_of_every_window():
    pool = PoolSpec("avg", (3, 2), 1, (1, 1, 0, 1), count_include_pad=True, divisor_override=7)
    spec = PipelineSpec(1, 4, 3, 1, pool=pool)
    high, wide = spec.pool_divisors
    assert np.outer(high, wide).tolist() == [[7] * 3] * 4
    assert spec.flops == PipelineSpec(1, 4, 3, 1, pool=replace(pool, divisor_override=None)).flops


def test_extent_spans_the_dilated_taps():
    assert conv_window(9, 3, dilation=4).extent == 9


# -- whole pipelines, by hand --------------------------------------------------------------------


CONV = ConvSpec(k=4, r=3, s=5, stride=(2, 3), dilation=(1, 2), groups=2, padding=(1, 0, 2, 4))
POOL = PoolSpec("avg", window=(2, 1), stride=1)
WHOLE = PipelineSpec(2, 9, 17, 6, conv=CONV, bias=True, pool=POOL)


def test_shapes():
    assert WHOLE.input_shape == (2, 9, 17, 6)
    assert WHOLE.filter_shape == (3, 5, 3, 4)
    assert WHOLE.bias_shape == (4,)
    assert WHOLE.conv_shape == (2, 4, 5, 4)  # (9 + 1 - 3) // 2 + 1, (17 + 6 - 9) // 3 + 1
    assert WHOLE.output_shape == (2, 3, 5, 4)
    assert WHOLE.reduction == 45


def test_arithmetic():
    assert WHOLE.flops == 2 * 160 * 45 + 160 + 120 * 2
    assert PipelineSpec(1, 5, 5, 3, pool=PoolSpec("max", 2)).flops == 12 * 3
    assert PipelineSpec(1, 5, 5, 3, pool=PoolSpec("avg", 2)).flops == 12 * 4
    assert PipelineSpec(2, 3, 4, 5, bias=True).flops == 120


def test_traffic():
    assert WHOLE.bytes(4) == 4 * (2 * 9 * 17 * 6 + 3 * 5 * 3 * 4 + 4 + 2 * 3 * 5 * 4)
    assert PipelineSpec(1, 5, 5, 3, pool=PoolSpec("max", 2)).bytes(8) == 8 * (75 + 12)
    assert PipelineSpec(2, 3, 4, 5, bias=True).bytes(2) == 2 * (120 + 5 + 120)


def test_absent_stages():
    pool = PipelineSpec(1, 5, 5, 3, pool=PoolSpec("max", 2))
    assert (pool.filter_shape, pool.bias_shape, pool.reduction) == (None, None, 0)
    assert pool.conv_shape == pool.input_shape
    assert pool.output_shape == (1, 2, 2, 3)
    bias = PipelineSpec(1, 5, 5, 3, bias=True)
    assert bias.bias_shape == (3,)
    assert bias.output_shape == bias.input_shape
    with pytest.raises(ValueError, match="no convolution"):
        _ = bias.conv_windows
    with pytest.raises(ValueError, match="no pool"):
        _ = bias.pool_windows


def test_stages():
    assert WHOLE.stages() == {
        "conv": PipelineSpec(2, 9, 17, 6, conv=CONV),
        "bias": PipelineSpec(2, 4, 5, 4, bias=True),
        "pool": PipelineSpec(2, 4, 5, 4, pool=POOL),
    }


def test_an_empty_batch_is_a_batch():
    empty = WHOLE.with_batch(0)
    assert empty.output_shape == (0, 3, 5, 4)
    assert empty.flops == 0


def test_one_number_means_both_axes():
    assert ConvSpec(k=1, r=3, s=3, stride=2, dilation=3) == ConvSpec(
        k=1, r=3, s=3, stride=(2, 2), dilation=(3, 3)
    )
    assert PoolSpec("max", 3).stride == (3, 3)
    assert PoolSpec("max", (2, 3)).stride == (2, 3)


def test_lists_and_numpy_integers_are_taken():
    spec = PipelineSpec(np.int64(1), 5, 5, 3, conv=ConvSpec(6, 3, 3, padding=[1, 1, 0, 0]))
    assert type(spec.n) is int
    assert spec.conv.padding == (1, 1, 0, 0)
    assert hash(spec) == hash(
        PipelineSpec(1, 5, 5, 3, conv=ConvSpec(6, 3, 3, padding=(1, 1, 0, 0)))
    )


def test_specs_do_not_change():
    with pytest.raises(FrozenInstanceError):
        WHOLE.n = 3  # type: ignore[misc]


def test_text():
    assert str(WHOLE) == (
        "2x9x17x6 -> conv 3x5x4 stride 2x3 dilation 1x2 groups 2 pad 1,0,2,4 -> bias"
        " -> avg pool 2x1 stride 1 VALID"
    )
    pool = PoolSpec("avg", 3, 2, "SAME", dilation=2, count_include_pad=True, ceil_mode=True)
    assert str(PipelineSpec(1, 9, 9, 3, pool=pool)) == (
        "1x9x9x3 -> avg pool 3x3 stride 2 dilation 2 ceil count pad SAME"
    )
    pool = PoolSpec("avg", 3, padding="SAME_LOWER", divisor_override=4)
    assert str(PipelineSpec(1, 9, 9, 3, pool=pool)) == (
        "1x9x9x3 -> avg pool 3x3 stride 3 divisor 4 SAME_LOWER"
    )


def test_dictionaries_hold_what_differs_from_the_defaults():
    assert WHOLE.to_dict() == {
        "n": 2, "h": 9, "w": 17, "c": 6,
        "conv": {
            "k": 4, "r": 3, "s": 5, "stride": [2, 3], "dilation": [1, 2], "groups": 2,
            "padding": [1, 0, 2, 4],
        },
        "bias": True,
        "pool": {"op": "avg", "window": [2, 1], "stride": 1},
    }  # fmt: skip
    pool = PoolSpec("avg", 3, 2, "SAME", dilation=2, count_include_pad=True, ceil_mode=True)
    assert PipelineSpec(1, 9, 9, 3, pool=pool).to_dict()["pool"] == {
        "op": "avg", "window": 3, "stride": 2, "padding": "SAME", "dilation": 2,
        "count_include_pad": True, "ceil_mode": True,
    }  # fmt: skip
    pool = PoolSpec("avg", 3, padding="same_lower", divisor_override=4)
    assert PipelineSpec(1, 9, 9, 3, pool=pool).to_dict()["pool"] == {
        "op": "avg", "window": 3, "padding": "SAME_LOWER", "divisor_override": 4,
    }  # fmt: skip


# -- refusals ------------------------------------------------------------------------------------

CHOOSE = "Choose one of them."
FORMS = (
    '"VALID", "SAME", "SAME_LOWER", one number, (height, width), ((top, bottom), (left, right)),'
    ' (top, bottom, left, right) or {"onnx": (top, left, bottom, right)}'
)
FEED = "Make it smaller, pad more, or feed a larger input to this stage."
NHWC = {"n": 1, "h": 5, "w": 7, "c": 3}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PipelineSpec(-1, 5, 5, 3, bias=True),
         "input: n is -1; expected a whole number of at least 0. Correct it."),
        (lambda: PipelineSpec(1, 0, 5, 3, bias=True),
         "input: h is 0; expected a whole number of at least 1. Correct it."),
        (lambda: PipelineSpec(1, 5, 5.0, 3, bias=True),
         "input: w is 5.0; expected a whole number of at least 1. Correct it."),
        (lambda: PipelineSpec(1, 5, 5, "3", bias=True),
         "input: c is '3'; expected a whole number of at least 1. Correct it."),
        (lambda: ConvSpec(k=True, r=1, s=1),
         "conv: k is True; expected a whole number of at least 1. Correct it."),
        (lambda: ConvSpec(k=1, r=0, s=1),
         "conv: r is 0; expected a whole number of at least 1. Correct it."),
        (lambda: ConvSpec(k=1, r=1, s=None),
         "conv: s is None; expected a whole number of at least 1. Correct it."),
        (lambda: ConvSpec(k=1, r=1, s=1, groups=0),
         "conv: groups is 0; expected a whole number of at least 1. Correct it."),
        (lambda: ConvSpec(k=1, r=1, s=1, stride=(1, 0)),
         "conv: stride is 0; expected a whole number of at least 1. Correct it."),
        (lambda: ConvSpec(k=1, r=1, s=1, dilation=(1, 2, 3)),
         "conv: dilation is (1, 2, 3); expected one number or (height, width). Give one or two."),
        (lambda: ConvSpec(k=1, r=1, s=1, padding="full"),
         f"conv: padding is 'full'; expected {FORMS}. {CHOOSE}"),
        (lambda: ConvSpec(k=1, r=1, s=1, padding=(1, 1, 1)),
         f"conv: padding is (1, 1, 1); expected {FORMS}. {CHOOSE}"),
        # TensorFlow's form for NCHW: the channels are not padded here.
        (lambda: ConvSpec(k=1, r=1, s=1, padding=((0, 0), (0, 0), (1, 1), (2, 2))),
         f"conv: padding is ((0, 0), (0, 0), (1, 1), (2, 2)); expected {FORMS}. {CHOOSE}"),
        (lambda: ConvSpec(k=1, r=1, s=1, padding={"onnx": (1, 1)}),
         f"conv: padding is {{'onnx': (1, 1)}}; expected {FORMS}. {CHOOSE}"),
        (lambda: ConvSpec(k=1, r=1, s=1, padding={"onnx": (1, 1, 1, 1), "torch": 1}),
         f"conv: padding is {{'onnx': (1, 1, 1, 1), 'torch': 1}}; expected {FORMS}. {CHOOSE}"),
        (lambda: ConvSpec(k=1, r=1, s=1, padding=True),
         "conv: padding is True; expected a whole number of at least 0. Correct it."),
        (lambda: ConvSpec(k=1, r=1, s=1, padding=(0, 0, 0, -1)),
         "conv: padding is -1; expected a whole number of at least 0. Correct it."),
        (lambda: PoolSpec("mean", 2),
         "pool: op is 'mean'; expected \"max\" or \"avg\". Choose one of the two."),
        (lambda: PoolSpec("max", None),
         "pool: window is None; expected a whole number of at least 1. Correct it."),
        (lambda: PoolSpec("max", 2, stride=[2]),
         "pool: stride is [2]; expected one number or (height, width). Give one or two."),
        (lambda: PoolSpec("max", 2, padding=1.0),
         f"pool: padding is 1.0; expected {FORMS}. {CHOOSE}"),
        (lambda: PoolSpec("avg", 2, divisor_override=0),
         "pool: divisor_override is 0; expected a whole number of at least 1. Correct it."),
        (lambda: PoolSpec("max", 2, divisor_override=4),
         "pool: divisor_override is 4; expected none, since a maximum is not divided."
         " Leave it out, or pool with avg."),
        (lambda: PoolSpec("avg", 2, count_include_pad=1),
         "pool: count_include_pad is 1; expected true or false. Write one of them."),
        (lambda: PoolSpec("avg", 2, ceil_mode="yes"),
         "pool: ceil_mode is 'yes'; expected true or false. Write one of them."),
        (lambda: PipelineSpec(1, 5, 5, 3, conv={"k": 6}),
         "pipeline: conv is {'k': 6}; expected a ConvSpec or None."
         " Use PipelineSpec.from_dict to build one from a dictionary."),
        (lambda: PipelineSpec(1, 5, 5, 3, pool="max"),
         "pipeline: pool is 'max'; expected a PoolSpec or None."
         " Use PipelineSpec.from_dict to build one from a dictionary."),
        (lambda: PipelineSpec(1, 5, 5, 3, bias=1),
         "pipeline: bias is 1; expected true or false. Write one."),
        (lambda: PipelineSpec(1, 5, 5, 3),
         "pipeline: every stage is absent; expected at least one of conv, bias and pool."
         " Add the stage that is to be computed."),
        (lambda: PipelineSpec(1, 5, 5, 3, conv=ConvSpec(k=4, r=1, s=1, groups=2)),
         "conv: groups is 2; expected a divisor of the channels C = 3."
         " Choose groups among the divisors of both C = 3 and K = 4."),
        (lambda: PipelineSpec(1, 5, 5, 4, conv=ConvSpec(k=3, r=1, s=1, groups=2)),
         "conv: groups is 2; expected a divisor of the output channels K = 3."
         " Choose groups among the divisors of both C = 4 and K = 3."),
        (lambda: PipelineSpec(1, 5, 7, 3, conv=ConvSpec(k=1, r=6, s=1)),
         f"conv, height: the filter is 6; expected at most the 5 there are. {FEED}"),
        (lambda: PipelineSpec(1, 5, 7, 3, conv=ConvSpec(k=1, r=1, s=11, padding=(9, 9, 1, 2))),
         f"conv, width: the filter is 11; expected at most the 7 there are plus 1 + 2. {FEED}"),
        (lambda: PipelineSpec(1, 5, 7, 3, conv=ConvSpec(k=1, r=3, s=3, dilation=3)),
         "conv, height: the filter (dilated by 3) is 7; expected at most the 5 there are."
         f" {FEED}"),
        (lambda: PipelineSpec(1, 5, 7, 3, pool=PoolSpec("max", (2, 8))),
         f"pool, width: the window is 8; expected at most the 7 there are. {FEED}"),
        (lambda: PipelineSpec(1, 5, 7, 3, conv=ConvSpec(6, 5, 5), pool=PoolSpec("max", 2)),
         "pool after conv (which turns 5x7 into 1x3), height: the window is 2;"
         f" expected at most the 1 there are. {FEED}"),
        (lambda: PipelineSpec(1, 5, 7, 3, pool=PoolSpec("avg", 2, padding=(2, 0, 0, 0))),
         "pool, height: the padding is 2 before and 0 after;"
         " expected a window of 2 that always covers some of the 5 there are."
         " Pad by less than the window."),
        (lambda: PipelineSpec(1, 5, 7, 3, pool=PoolSpec("max", 2, 1, padding=(0, 0, 0, 2))),
         "pool, width: the padding is 0 before and 2 after;"
         " expected a window of 2 that always covers some of the 7 there are."
         " Pad by less than the window."),
        (lambda: PipelineSpec.from_dict([1, 5, 5, 3]),
         "pipeline: the value is [1, 5, 5, 3]; expected a table with n, h, w, c, conv, bias, pool."
         " Write a table."),
        (lambda: PipelineSpec.from_dict(NHWC | {"pool": "max"}),
         "pool: the value is 'max'; expected a table with op, window, stride, padding, dilation,"
         " count_include_pad, ceil_mode, divisor_override. Write a table."),
        (lambda: PipelineSpec.from_dict(NHWC | {"relu": True}),
         "pipeline: the field is relu; expected one of n, h, w, c, conv, bias, pool. Correct it."),
        (lambda: PipelineSpec.from_dict(NHWC | {"conv": {"k": 1, "r": 1, "s": 1, "pad": 1}}),
         "conv: the field is pad; expected one of k, r, s, stride, dilation, groups, padding."
         " Correct it."),
        (lambda: PipelineSpec.from_dict({"n": 1, "w": 7, "bias": True}),
         "pipeline: c, h is missing; expected a value for each. Add it."),
        (lambda: PipelineSpec.from_dict(NHWC | {"pool": {"window": 2}}),
         "pool: op is missing; expected a value for each. Add it."),
    ],
)  # fmt: skip
def test_refusals_say_what_to_do(build, message):
    with pytest.raises(SpecError) as refusal:
        build()
    assert str(refusal.value) == message


# -- properties ----------------------------------------------------------------------------------

sizes = st.integers(1, 24)
taps_ = st.integers(1, 7)
strides = st.integers(1, 5)
dilations = st.integers(1, 3)
pads = st.tuples(st.integers(0, 4), st.integers(0, 4))
quiet = settings(deadline=None)


def starts(length: int, extent: int, stride: int) -> list[int]:
    """Where windows that lie wholly inside `length` positions start."""
    return [i for i in range(0, length, stride) if i + extent <= length]


@quiet
@given(sizes, taps_, strides, dilations, pads)
def test_explicit_output_is_every_window_that_fits(size, taps, stride, dilation, padding):
    extent = range(0, taps * dilation, dilation)[-1] + 1
    expected = starts(size + sum(padding), extent, stride)
    if not expected:
        with pytest.raises(SpecError, match="expected at most"):
            conv_window(size, taps, stride, dilation, padding)
        return
    window = conv_window(size, taps, stride, dilation, padding)
    assert window.out == len(expected)
    assert window.before == padding[0]
    # The padding that is left after the input is what the last window reads.
    assert window.after == max(expected[-1] + extent - size - padding[0], 0)
    assert window.after <= padding[1]
    if padding == (0, 0):
        assert conv_window(size, taps, stride, dilation, "VALID") == window


@quiet
@given(sizes, taps_, strides, dilations)
def test_same_pads_as_little_as_it_can(size, taps, stride, dilation):
    window = conv_window(size, taps, stride, dilation, "SAME")
    assert window.out == ceil(size / stride)
    total = window.before + window.after
    assert window.after - window.before in (0, 1)
    assert len(starts(size + total, window.extent, stride)) >= window.out
    if total:
        assert len(starts(size + total - 1, window.extent, stride)) < window.out


@quiet
@given(sizes, taps_, strides, dilations)
def test_same_lower_is_same_seen_from_the_other_end(size, taps, stride, dilation):
    upper = conv_window(size, taps, stride, dilation, "SAME")
    lower = conv_window(size, taps, stride, dilation, "SAME_LOWER")
    assert (lower.before, lower.after, lower.out) == (upper.after, upper.before, upper.out)


@quiet
@given(sizes, taps_, strides, dilations, pads)
def test_ceil_mode_covers_the_input(size, taps, stride, dilation, padding):
    try:
        window = pool_window(size, taps, stride, dilation, padding, ceil_mode=True)
    except SpecError:
        reject()
    # One window, and another as long as something is not covered and it starts before the end.
    expected = 1
    while (
        (expected - 1) * stride + window.extent < size + sum(padding)
        and expected * stride < size + padding[0]
    ):  # fmt: skip
        expected += 1
    assert window.out == expected


@quiet
@given(
    sizes, taps_, strides, dilations, pads | st.sampled_from(["SAME", "SAME_LOWER"]), st.booleans()
)
def test_counts_are_those_of_the_padded_array(size, taps, stride, dilation, padding, ceil_mode):
    try:
        window = pool_window(size, taps, stride, dilation, padding, ceil_mode=ceil_mode)
    except SpecError:
        reject()
    uncounted = window.after - window.counted_after
    assert uncounted >= 0
    real = [0] * window.before + [1] * size + [0] * window.after
    padded = [1] * (len(real) - uncounted) + [0] * uncounted
    for include_pad, array in ((False, real), (True, padded)):
        assert window.counts(include_pad=include_pad) == tuple(
            sum(array[i * stride : i * stride + window.extent : dilation])
            for i in range(window.out)
        )
    assert 0 not in window.counts(include_pad=False)
    assert (window.out - 1) * stride + window.extent <= len(real)


@st.composite
def pipelines(draw) -> PipelineSpec:
    def pair(low: int, high: int):
        number = st.integers(low, high)
        return draw(number | st.tuples(number, number))

    def padding():
        number = st.integers(0, 2)
        named = st.sampled_from(["VALID", "SAME", "SAME_LOWER"])
        return draw(named | st.tuples(number, number, number, number))

    groups, conv, pool = draw(st.integers(1, 3)), None, None
    present = draw(st.sets(st.sampled_from(["conv", "bias", "pool"]), min_size=1))
    if "conv" in present:
        conv = ConvSpec(
            groups * draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 4)),
            stride=pair(1, 3), dilation=pair(1, 2), groups=groups, padding=padding(),
        )  # fmt: skip
    if "pool" in present:
        op = draw(st.sampled_from(["max", "avg"]))
        pool = PoolSpec(
            op, pair(1, 3), pair(1, 3), padding(),
            dilation=pair(1, 2), count_include_pad=draw(st.booleans()),
            ceil_mode=draw(st.booleans()),
            divisor_override=draw(st.none() | st.integers(1, 9)) if op == "avg" else None,
        )  # fmt: skip
    n, h, w = draw(st.integers(0, 3)), draw(st.integers(4, 20)), draw(st.integers(4, 20))
    c = groups * draw(st.integers(1, 3))
    try:
        return PipelineSpec(n, h, w, c, conv=conv, bias="bias" in present, pool=pool)
    except SpecError:
        reject()


@quiet
@given(pipelines())
def test_dictionaries_round_trip(pipeline):
    assert PipelineSpec.from_dict(pipeline.to_dict()) == pipeline
    assert PipelineSpec.from_dict(pipeline.to_dict()).to_dict() == pipeline.to_dict()


@quiet
@given(pipelines())
def test_stages_add_up_to_the_whole(pipeline):
    stages = list(pipeline.stages().values())
    assert sum(stage.flops for stage in stages) == pipeline.flops
    assert stages[0].input_shape == pipeline.input_shape
    assert stages[-1].output_shape == pipeline.output_shape
    for stage, following in pairwise(stages):
        assert stage.output_shape == following.input_shape
    # Fusing saves the traffic between the stages: each result written once and read once.
    between = sum(2 * prod(stage.output_shape) for stage in stages[:-1])
    assert sum(stage.bytes(1) for stage in stages) == pipeline.bytes(1) + between


@quiet
@given(pipelines())
def test_arithmetic_is_proportional_to_the_batch(pipeline):
    assume(pipeline.n)
    assert pipeline.flops == pipeline.n * pipeline.with_batch(1).flops
    assert pipeline.with_batch(pipeline.n) == pipeline
