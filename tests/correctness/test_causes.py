"""What people report, tried on `check`: the right cause, or none; never a false one."""

from __future__ import annotations

import json

import ml_dtypes  # teaches NumPy the name "bfloat16"
import numpy as np
import pytest

import convbench
from convbench import ConvSpec, PipelineSpec, PoolSpec, check
from convbench.correctness.causes import named, parts
from convbench.stimulus.formats import Fill
from convbench.stimulus.inputs import make_inputs
from convbench.stimulus.probes import PROBES, SENSITIVE


def reals(*shape: int, seed: int = 0, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def names(report: convbench.correctness.check.Report) -> list[str]:
    assert not report.ok
    return [cause.name for cause in report.causes]


# -- the format of the output ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "large"), [("float16", 6e4), ("bfloat16", 3e38), ("float32", 3e38)]
)
def test_what_is_too_large_for_the_format_is_infinite(dtype: str, large: float) -> None:
    """pytorch#153700, AMDMIGraphX#850, chainer#7681."""
    pipeline = PipelineSpec(1, 2, 2, 1, conv=ConvSpec(k=1, r=1, s=2))
    x, filters = np.full((1, 2, 2, 1), large, dtype), np.ones((1, 2, 1, 1), dtype)
    right, largest = (
        np.full((1, 2, 1, 1), value, dtype) for value in (np.inf, ml_dtypes.finfo(dtype).max)
    )
    report = check(right, pipeline, x, filters)
    assert report.ok
    assert report.overflowing == 2
    assert names(check(largest, pipeline, x, filters)) == ["saturated_output"]
    assert not check(-right, pipeline, x, filters).ok
    assert not check(np.full_like(right, np.nan), pipeline, x, filters).ok


def test_near_the_limit_both_are_right() -> None:
    """65519 rounds to 65504, and 65520 to inf: within the bound of the sum either may come out."""
    pipeline = PipelineSpec(1, 1, 2, 1, conv=ConvSpec(k=1, r=1, s=2))
    x = np.float16([65504, 15]).reshape(1, 1, 2, 1)
    filters = np.ones((1, 2, 1, 1), "f2")
    for right in (65504, np.inf):
        assert check(np.full((1, 1, 1, 1), right, "f2"), pipeline, x, filters).ok
    assert not check(np.full((1, 1, 1, 1), 60000, "f2"), pipeline, x, filters).ok


def test_a_window_with_minus_infinity_is_judged_by_what_is_largest() -> None:
    x = np.float32([[-np.inf, 3]]).reshape(1, 1, 2, 1)
    pipeline = PipelineSpec(1, 1, 2, 1, pool=PoolSpec("max", (1, 2)))
    assert check(np.float32([3]).reshape(1, 1, 1, 1), pipeline, x).ok
    assert not check(np.float32([4]).reshape(1, 1, 1, 1), pipeline, x).ok


# -- no cause is better than a false one -----------------------------------------------------------


def test_garbage_has_no_cause_however_long_the_sums() -> None:
    x, filters = reals(1, 7, 7, 2048), reals(1, 1, 2048, 8, seed=1)
    pipeline = PipelineSpec(1, 7, 7, 2048, conv=ConvSpec(k=8, r=1, s=1))
    right = convbench.run(pipeline, x, filters)
    assert names(check(right[..., ::-1], pipeline, x, filters)) == []
    assert names(check(reals(*right.shape, seed=2) * 45, pipeline, x, filters)) == []


def test_noise_beside_large_numbers_is_not_tf32() -> None:
    """tensorflow#24196: every factor is exact in TF32, so that it cannot be."""
    chance = np.random.default_rng(0)
    x = chance.integers(-8, 9, (1, 8, 8, 4)).astype("f4")
    x[0, 3, 3, 0] = 2.0**20
    filters = chance.integers(-4, 5, (3, 3, 4, 2)).astype("f4")
    pipeline = PipelineSpec(1, 8, 8, 4, conv=ConvSpec(k=2, r=3, s=3))
    right = convbench.run(pipeline, x, filters)
    noisy = right + (chance.standard_normal(right.shape) * 0.05).astype("f4")
    assert names(check(noisy, pipeline, x, filters)) == []


def test_one_wrong_number_is_not_a_part_that_was_not_written() -> None:
    x, filters = reals(1, 6, 6, 2), reals(3, 3, 2, 2, seed=1)
    pipeline = PipelineSpec(1, 6, 6, 2, conv=ConvSpec(k=2, r=3, s=3))
    wrong = convbench.run(pipeline, x, filters)
    wrong[0, 1, 1, 1] += 1
    report = check(wrong, pipeline, x, filters)
    assert names(report) == []
    assert report.place == "output channel 1 of 2 of column 1 of 4 of row 1 of 4"


# -- causes ----------------------------------------------------------------------------------------


def test_an_average_that_was_added_in_16_bits() -> None:
    """candle#3719, cubek#639, MIOpen#2109: ones add up to 2048 in float16, 256 in bfloat16."""
    pipeline = PipelineSpec(1, 64, 64, 1, pool=PoolSpec("avg", 64))
    for dtype, mean in (("float16", 2048 / 4096), ("bfloat16", 256 / 4096)):
        x = np.ones((1, 64, 64, 1), dtype)
        causes = names(check(np.full((1, 1, 1, 1), mean, dtype), pipeline, x))
        assert causes == [f"{dtype}_accumulation"]


def test_the_divisor_of_an_average_in_ceil_mode() -> None:
    """onnxruntime#16203, pytorch#57178: the last window has six elements, and was divided by 7."""
    x = np.float32([2.0903, 4.6493, 1.632, -3.2051, 4.6975, 4.7296, 3.3653, -1.5815, -2.3832])
    x = x.reshape(1, 1, 9, 1)
    pool = PoolSpec(
        "avg", (1, 7), stride=(1, 3), padding=(0, 0, 3, 3), count_include_pad=True, ceil_mode=True
    )
    pipeline = PipelineSpec(1, 1, 9, 1, pool=pool)
    wrong = convbench.run(pipeline, x)
    wrong[0, 0, 3, 0] *= 6 / 7
    assert names(check(wrong, pipeline, x)) == ["average_over_full_window"]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_max_pool_that_passes_over_nan(dtype: str) -> None:
    """tensorflow#2501, pytorch#7645: a window of nothing but nan gives the lowest number."""
    x = reals(1, 4, 4, 2, dtype=dtype)
    x[0, :2, :2, 0] = np.nan
    x[0, 2, 2, 1] = np.nan
    pipeline = PipelineSpec(1, 4, 4, 2, pool=PoolSpec("max", 2))
    for low in (-np.inf, np.finfo(dtype).min):
        wrong = convbench.run(pipeline, np.where(np.isnan(x), low, x).astype(dtype))
        assert names(check(wrong, pipeline, x)) == ["swallowed_nan"]


def test_the_dilation_is_ignored() -> None:
    """tensorflow#56498, ncnn#315: SAME is worked out without it, or the shape is another."""
    x, filters = reals(1, 8, 8, 1), reals(3, 3, 1, 1, seed=1)

    def spec(dilation: int, padding: str) -> PipelineSpec:
        return PipelineSpec(1, 8, 8, 1, conv=ConvSpec(1, 3, 3, 1, dilation, padding=padding))

    same = check(convbench.run(spec(1, "SAME"), x, filters), spec(2, "SAME"), x, filters)
    assert names(same)[0] == "ignored_dilation_in_same"
    valid = check(convbench.run(spec(1, "VALID"), x, filters), spec(2, "VALID"), x, filters)
    assert valid.reason == "the shape is (1, 6, 6, 1); expected (1, 4, 4, 1)"
    assert names(valid)[0] == "ignored_dilation"


def test_a_shape_says_what_would_give_it() -> None:
    x, filters = reals(1, 8, 8, 2), reals(3, 3, 2, 3, seed=1)
    pipeline = PipelineSpec(1, 8, 8, 2, conv=ConvSpec(3, 3, 3, padding="SAME"))
    report = check(reals(1, 6, 6, 3, seed=2), pipeline, x, filters)
    assert names(report) == []
    assert "would be so if the padding of the convolution is ignored" in report.reason
    assert check(reals(1, 5, 5, 3), pipeline, x, filters).reason.endswith("expected (1, 8, 8, 3)")


@pytest.mark.parametrize("op", ["max", "avg"])
def test_a_pool_that_pads_both_sides_alike(op: str) -> None:
    """tensornets#25, MIPVerify.jl#23, tensorflow-onnx#1028."""
    x = reals(1, 6, 6, 1)

    def spec(padding: object) -> PipelineSpec:
        return PipelineSpec(1, 6, 6, 1, pool=PoolSpec(op, 3, stride=2, padding=padding))

    causes = names(check(convbench.run(spec((1, 1, 1, 1)), x), spec("SAME"), x))
    assert "symmetric_pool_pad" in causes


def test_layouts_memory_and_groups() -> None:
    """candle#3405, pytorch#180984, #19912, #1246."""
    x, filters = reals(3, 4, 4, 4), reals(3, 3, 2, 4, seed=1)
    pipeline = PipelineSpec(3, 4, 4, 4, conv=ConvSpec(4, 3, 3, groups=2, padding=(1, 1, 1, 1)))
    right = convbench.run(pipeline, x, filters)

    def causes(wrong: np.ndarray) -> list[str]:
        return names(check(wrong, pipeline, x, filters))

    channels_first = convbench.run(pipeline, x.transpose(0, 3, 1, 2).copy(), filters)
    assert causes(channels_first) == ["mixed_up_layout"]
    assert "transposed_output" in causes(right.transpose(0, 2, 1, 3))
    missing = right.copy()
    missing[..., 2:] = 0
    assert causes(missing)[0] == "missing_group"
    first = np.concatenate([x[..., :2], x[..., :2]], axis=-1)
    assert causes(convbench.run(pipeline, first, filters)) == ["input_of_another_group"]


@pytest.mark.parametrize("which", ["sliced", "strided", "transposed", "filters"])
def test_an_array_that_is_a_part_of_another_was_read_as_if_it_were_dense(which: str) -> None:
    whole = reals(2, 9, 9, 8)
    x = {
        "sliced": whole[:1, 1:7, :6, :4],
        "strided": whole[:1, :6, :6, ::2],
        "transposed": whole[:1, :6, :6, :4].transpose(0, 2, 1, 3),
        "filters": np.ascontiguousarray(whole[:1, :6, :6, :4]),
    }[which]
    filters = reals(3, 3, 4, 5, seed=1)[..., :3]
    pipeline = PipelineSpec(1, 6, 6, 4, conv=ConvSpec(3, 3, 3))

    def dense(array: np.ndarray, owner: np.ndarray) -> np.ndarray:
        """As a kernel reads it that is given a pointer and a shape."""
        start = (array.__array_interface__["data"][0] - owner.__array_interface__["data"][0]) // 4
        return owner.reshape(-1)[start : start + array.size].reshape(array.shape)

    if which == "filters":
        wrong = convbench.run(pipeline, x, dense(filters, filters.base))
    else:
        wrong = convbench.run(pipeline, dense(x, whole), np.ascontiguousarray(filters))
        filters = np.ascontiguousarray(filters)
    report = check(wrong, pipeline, x, filters)
    assert names(report) == ["misread_strides"]
    assert "np.ascontiguousarray" in report.causes[0].what
    right = convbench.run(pipeline, np.ascontiguousarray(x), np.ascontiguousarray(filters))
    assert check(right, pipeline, x, filters).ok
    assert names(check(right[:, ::-1], pipeline, x, filters)) == []


def test_where_it_is_wrong() -> None:
    x, filters = reals(3, 4, 4, 4), reals(3, 3, 4, 2, seed=1)
    pipeline = PipelineSpec(3, 4, 4, 4, conv=ConvSpec(2, 3, 3, padding=(1, 1, 1, 1)))
    right = convbench.run(pipeline, x, filters)
    flipped = convbench.run(pipeline, x, filters[::-1, ::-1].copy())
    wrong = right.copy()
    wrong[1] = flipped[1]
    report = check(wrong, pipeline, x, filters)
    assert report.place == "image 1 of 3"
    assert names(report) == ["flipped_filters"]
    assert report.causes[0].what.endswith("(in image 1 of 3 alone)")
    for value in (0.0, np.nan):
        wrong = right.copy()
        wrong.reshape(-1)[50:] = value
        report = check(wrong, pipeline, x, filters)
        assert names(report) == ["missing_part"]
        assert report.place == "everything from [1, 2, 1, 0] on, as it lies in memory,"
    wrong = right.copy()
    wrong[:, 1, :, 1] += 1
    assert check(wrong, pipeline, x, filters).place == "output channel 1 of 2 of row 1 of 4"


def test_factors_that_were_cut_off_to_tf32() -> None:
    """triton#4574, intel-xpu-backend-for-triton#3729: the low 13 bits are gone, not rounded."""
    x, filters = reals(1, 6, 6, 8), reals(3, 3, 8, 4, seed=1)
    pipeline = PipelineSpec(1, 6, 6, 8, conv=ConvSpec(4, 3, 3))

    def cut(array: np.ndarray) -> np.ndarray:
        return (array.view("u4") & np.uint32(0xFFFFE000)).view("f4")

    wrong = convbench.run(pipeline, cut(x), cut(filters))
    assert names(check(wrong, pipeline, x, filters)) == ["truncated_tf32_factors"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_all_of_it_in_16_bits(dtype: str) -> None:
    """What an autocast does: inputs, filters and output are numbers of 16 bits."""
    x, filters = reals(2, 6, 6, 8), reals(3, 3, 8, 4, seed=1)
    pipeline = PipelineSpec(2, 6, 6, 8, conv=ConvSpec(4, 3, 3))
    wrong = convbench.run(pipeline, x.astype(dtype), filters.astype(dtype)).astype("f4")
    assert names(check(wrong, pipeline, x, filters)) == [f"computed_in_{dtype}"]
    stored = convbench.run(pipeline, x, filters).astype(dtype).astype("f4")
    assert names(check(stored, pipeline, x, filters)) == [f"{dtype}_output"]


def test_sums_in_float16_of_data_in_float16() -> None:
    """Added one after the other, channel by channel: an order that no fault tries."""
    x, filters = reals(2, 6, 6, 16, dtype="f2"), reals(3, 3, 16, 4, seed=1, dtype="f2")
    pipeline = PipelineSpec(2, 6, 6, 16, conv=ConvSpec(4, 3, 3))
    total = np.zeros(pipeline.output_shape, "f2")
    for c in range(16):
        for r, s in np.ndindex(3, 3):
            part = x[:, r : r + 4, s : s + 4, c, np.newaxis].astype("f4") * filters[r, s, c]
            total = (total + part).astype("f2")
    assert names(check(total, pipeline, x, filters)) == ["float16_accumulation"]


@pytest.mark.parametrize("dtype", ["float64", "float16"])
@pytest.mark.parametrize("fill", Fill)
def test_whatever_is_sent_is_judged(dtype: str, fill: Fill) -> None:
    """Warnings are errors here: nothing may overflow or divide by zero on the way to a report."""
    chance = np.random.default_rng(0)
    for pipeline in (*SENSITIVE, PROBES["1x1 input"], PROBES["bias and pool"]):
        inputs = make_inputs(pipeline, dtype, fill, 1)
        n, p, q, k = pipeline.output_shape
        outputs = [np.zeros((n, p, q, k)), np.full((n, p, q, k), np.nan)]
        outputs += [chance.standard_normal(shape) for shape in ((n, p, q, k), (n, p + 1, q, k))]
        outputs += [np.copysign(np.inf, outputs[2])]
        for output in outputs:
            weights = inputs.weights
            report = check(output.astype(dtype), pipeline, inputs.x, weights.filters, weights.bias)
            assert report.ok <= (fill is Fill.DENORMAL)  # of which zero is a right result
            assert json.loads(json.dumps(report.to_dict()))["ok"] is report.ok


# -- places ----------------------------------------------------------------------------------------


def test_places_have_names() -> None:
    chosen = np.zeros(8, bool)
    chosen[[0, 1, 2, 5]] = True
    assert named("image", chosen) == "images 0 to 2 and 5 of 8"
    chosen[:] = False
    chosen[3] = True
    assert named("row", chosen) == "row 3 of 8"
    chosen[:] = False
    chosen[1::2] = True
    assert named("column", chosen) == "every second column from 1 on"
    wrong = np.zeros((2, 3, 3, 2), bool)
    wrong[0, 2, 2, 1] = wrong[1] = True
    (name, part), *_ = parts(wrong)
    assert name == "everything from [0, 2, 2, 1] on, as it lies in memory,"
    assert part.sum() == 19
