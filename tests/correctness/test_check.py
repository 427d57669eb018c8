"""Other people's outputs: what is said about right ones, wrong ones, and why they are wrong."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import convbench
from convbench import ConvSpec, PipelineSpec, PoolSpec
from convbench.backends import open_backend
from convbench.backends.base import Backend
from convbench.backends.compute import compute
from convbench.correctness import oracle
from convbench.correctness.check import _notes, check
from convbench.correctness.faults import FAULTS
from convbench.errors import ArrayError
from convbench.stimulus.arrays import Weights
from convbench.stimulus.formats import FORMATS, Fill
from convbench.stimulus.inputs import Inputs, make_inputs
from convbench.stimulus.probes import PROBES, SENSITIVE
from convbench.stimulus.targets import Target

PIPELINE = SENSITIVE[0]


@pytest.fixture(scope="module")
def numpy_backend() -> Backend:
    return open_backend(Target.parse("numpy@cpu"))


def given(pipeline: PipelineSpec, dtype: str = "float32", fill: Fill = Fill.NORMAL):
    inputs = make_inputs(pipeline, dtype, fill, 0)
    return inputs.x, inputs.weights.filters, inputs.weights.bias


def test_a_right_output() -> None:
    x, filters, bias = given(PIPELINE)
    report = convbench.check(convbench.run(PIPELINE, x, filters, bias), PIPELINE, x, filters, bias)
    assert report.ok
    assert report.causes == ()
    assert 0 < report.accuracy.ratio < 1


@pytest.mark.parametrize("name", FAULTS)
def test_the_cause_is_named(name: str, numpy_backend: Backend) -> None:
    """For each fault, in one format, on one pipeline at least: studies/causes.py has them all."""

    def rightly(pipeline, inputs):
        with np.errstate(over="ignore"):
            return compute(numpy_backend, pipeline, inputs).output

    pipelines = (*SENSITIVE, *(PROBES[name] for name in ("dilated pool", "ceil mode")))
    for dtype, fill, pipeline in itertools.product(
        ("float64", "bfloat16"), (Fill.NORMAL, Fill.NONFINITE, Fill.DENORMAL), pipelines
    ):
        x, filters, bias = given(pipeline, dtype, fill)
        if name in {"overflowed_on_the_way", "saturated_output"}:
            with np.errstate(over="ignore"):
                x = (x.astype("float64") * FORMATS[dtype].largest / 8).astype(dtype)
        inputs = Inputs(x, Weights(dtype, filters, bias))
        output = FAULTS[name].apply(rightly, pipeline, inputs)
        if output is None:
            continue
        report = convbench.check(output, pipeline, x, filters, bias)
        if not report.ok and name in [cause.name for cause in report.causes]:
            return
    # Flushing is no error of an arithmetic that may flush.
    assert name == "flushed_denormals"


def test_a_large_relative_error_near_zero_is_not_an_error() -> None:
    """The bug reports say "relative error 959" where terms cancel."""
    pipeline = PipelineSpec(1, 8, 8, 256, ConvSpec(64, 3, 3), True)
    x, filters, bias = given(pipeline)
    report = convbench.check(convbench.run(pipeline, x, filters, bias), pipeline, x, filters, bias)
    assert report.ok
    assert report.relative > 1e-3
    assert abs(report.worst_relative) < 0.1


def test_tf32_is_wrong_as_float32_and_right_as_tf32(numpy_backend: Backend) -> None:
    inputs = make_inputs(PIPELINE, "float32", Fill.NORMAL, 0)
    output = FAULTS["tf32_factors"].apply(
        lambda p, i: compute(numpy_backend, p, i).output, PIPELINE, inputs
    )
    arrays = (inputs.x, inputs.weights.filters, inputs.weights.bias)
    strict = convbench.check(output, PIPELINE, *arrays)
    assert not strict.ok
    assert strict.causes[0].name == "tf32_factors"
    assert convbench.check(output, PIPELINE, *arrays, precision="tf32").ok


def test_sums_in_float16_are_right_only_if_one_says_so(numpy_backend: Backend) -> None:
    inputs = make_inputs(PIPELINE, "float16", Fill.NORMAL, 0)
    output = FAULTS["bfloat16_accumulation"].apply(
        lambda p, i: compute(numpy_backend, p, i).output, PIPELINE, inputs
    )
    arrays = (inputs.x, inputs.weights.filters, inputs.weights.bias)
    assert not convbench.check(output, PIPELINE, *arrays).ok
    assert convbench.check(output, PIPELINE, *arrays, accumulation="bfloat16").ok


def test_a_large_output_is_sampled_and_its_cause_found_in_a_part(numpy_backend: Backend) -> None:
    pipeline = PipelineSpec(6, 56, 56, 128, ConvSpec(160, 3, 3, padding="SAME"), True)
    x, filters, bias = given(pipeline)
    wrong = convbench.run(pipeline, x, filters[::-1, ::-1].copy(), bias)
    report = convbench.check(wrong, pipeline, x, filters, bias)
    assert report.sampled > 0
    assert "flipped_filters" in [cause.name for cause in report.causes]
    assert convbench.check(convbench.run(pipeline, x, filters, bias), pipeline, x, filters, bias).ok


def test_shapes_dtypes_and_words_that_do_not_fit() -> None:
    x, filters, bias = given(PIPELINE)
    y = convbench.run(PIPELINE, x, filters, bias)
    report = convbench.check(y[:1], PIPELINE, x, filters, bias)
    assert not report.ok
    assert report.reason == f"the shape is {y[:1].shape}; expected {y.shape}"
    assert (
        "the dtype is float64" in convbench.check(y.astype("f8"), PIPELINE, x, filters, bias).reason
    )
    with pytest.raises(ArrayError, match="bias is missing"):
        convbench.check(y, PIPELINE, x, filters)
    with pytest.raises(ArrayError, match="the precision is 'fp8'"):
        convbench.check(y, PIPELINE, x, filters, bias, precision="fp8")
    with pytest.raises(ArrayError, match="TF32 is a way of float32"):
        convbench.check(y, PIPELINE, x, filters, bias, dtype="float64", precision="tf32")
    with pytest.raises(ArrayError, match="the dtype is int4"):
        convbench.check(y, PIPELINE, x, filters, bias, dtype="int4")
    with pytest.raises(ArrayError, match="the dtype is float8"):
        convbench.check(y, PIPELINE, x, filters, bias, accumulation="float8")


def test_another_layout_is_checked_in_its_own_order() -> None:
    x, filters, bias = given(PIPELINE)
    y = convbench.run(PIPELINE, x, filters, bias)
    arrays = (x.transpose(0, 3, 1, 2), filters.transpose(3, 2, 0, 1), bias)
    report = convbench.check(y.transpose(0, 3, 1, 2), PIPELINE, *arrays, layout="torch")
    assert report == convbench.check(y, PIPELINE, x, filters, bias)
    wrong = y.copy()
    wrong[1, 2, 3, 4] += 1
    report = convbench.check(wrong.transpose(0, 3, 1, 2), PIPELINE, *arrays, layout="torch")
    assert report.accuracy.index == (1, 2, 3, 4)
    assert report.reason.endswith("(n, p, q, k)")
    # The output alone in NHWC: of another shape, and said to be.
    report = convbench.check(y, PIPELINE, *arrays, layout="torch")
    assert report.reason == "the shape is (2, 9, 4, 6); expected (2, 6, 9, 4)"
    assert [cause.name for cause in report.causes] == ["read_as_nhwc"]
    assert "output.transpose(0, 3, 1, 2)" in report.causes[0].what
    with pytest.raises(ArrayError, match="the layout is 'NCWH'"):
        convbench.check(y, PIPELINE, x, filters, bias, layout="NCWH")


def test_a_layout_that_fits_by_chance_is_named_first() -> None:
    pipeline = PipelineSpec(1, 3, 3, 3, ConvSpec(3, 3, 3, padding=1), True)
    x, filters, bias = given(pipeline)
    y = convbench.run(pipeline, x, filters, bias, layout="torch")
    report = convbench.check(y, pipeline, x, filters, bias)
    assert not report.ok
    assert report.causes[0].name == "read_as_nchw_oihw"
    assert report.causes[0].what == (
        'read as NCHW (input, output) and OIHW (filters) it is right: layout="NCHW"'
    )
    assert convbench.check(y, pipeline, x, filters, bias, layout="NCHW").ok


# -- equal terms --


def constant(n: int, k: int = 4, value: float = 0.1):
    """Terms that all are equal, and their sum in the order in which they lie."""
    pipeline = PipelineSpec(1, 3, 3, n, ConvSpec(k, 1, 1), True)
    x, filters = np.full((1, 3, 3, n), value, "f4"), np.full((1, 1, n, k), 0.01, "f4")
    bias = np.full(k, 0.5, "f4")
    terms = np.full(n, np.float32(value) * np.float32(0.01), "f4")
    total = np.cumsum(np.append(terms, np.float32(0.5)), dtype="f4")[-1]
    return np.full((1, 3, 3, k), total, "f4"), pipeline, x, filters, bias


@pytest.mark.parametrize("n", [512, 4608, 50_000])
def test_a_constant_image_is_right_in_whatever_order_it_is_added(n: int) -> None:
    y, *given = constant(n)
    report = check(y, *given)
    assert (report.ok, report.in_order, report.causes) == (True, True, ())
    assert report.accuracy.ratio > 1
    assert any("one after the other" in note for note in _notes(report))


def test_what_is_wrong_of_a_constant_image_is_wrong() -> None:
    y, pipeline, x, filters, bias = constant(4608)
    for wrong in (y * np.float32(1.001), y - bias, y.astype("f2").astype("f4")):
        assert not check(wrong, pipeline, x, filters, bias).ok
    y[0, 2, 1, 3] += 0.01  # one among others that come close
    assert not check(y, pipeline, x, filters, bias).ok


def test_factors_that_were_rounded_are_no_order() -> None:
    ordinary = PipelineSpec(1, 4, 4, 512, ConvSpec(8, 3, 3))
    inputs = make_inputs(ordinary, "float32", Fill.NORMAL, 0)
    short = inputs.in_float64().each(lambda a: a.astype("f2").astype("f8"))
    y = oracle.compute(ordinary, short).astype("f4")
    report = check(y, ordinary, inputs.x, inputs.weights.filters)
    assert (report.ok, report.in_order) == (False, False)


# -- the command -----------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Write a pipeline and its arrays, as somebody would bring them."""
    pipeline = PipelineSpec(1, 7, 6, 3, ConvSpec(4, 3, 2, (1, 2)), True, PoolSpec("max", 2, 1))
    (tmp_path / "spec.toml").write_text(
        "bias = true\n[conv]\nk = 4\nr = 3\ns = 2\nstride = [1, 2]\n"
        '[pool]\nop = "max"\nwindow = 2\nstride = 1\n'
    )
    x, filters, bias = given(pipeline)
    output = convbench.run(pipeline, x, filters, bias)
    for name, array in (("x", x), ("w", filters), ("b", bias), ("y", output)):
        np.save(tmp_path / f"{name}.npy", array)
    np.save(tmp_path / "wrong.npy", convbench.run(pipeline, x, filters, 2 * bias))
    return tmp_path


def command(folder: Path, output: str = "y.npy", *more: str, pipeline: str = "spec.toml"):
    return subprocess.run(
        [
            sys.executable, "-m", "convbench", "check", "--pipeline", pipeline, "--input", "x.npy",
            "--filters", "w.npy", "--bias", "b.npy", "--output", output, *more,
        ],
        capture_output=True, text=True, cwd=folder, check=False,
    )  # fmt: skip


def test_the_command(files: Path) -> None:
    right = command(files)
    assert right.returncode == 0, right.stderr
    assert right.stdout.startswith("right as float32, added in float32: error / bound is 0.")
    wrong = command(files, "wrong.npy")
    assert wrong.returncode == 2
    assert "WRONG as float32" in wrong.stdout
    assert "fits: the bias is added twice" in wrong.stdout
    data = json.loads(command(files, "wrong.npy", "--json").stdout)
    assert data["ok"] is False
    assert data["causes"][0]["name"] == "doubled_bias"


def test_the_command_on_files_that_are_no_array(files: Path) -> None:
    np.savez(files / "several.npz", y=np.load(files / "y.npy"))
    whole = (files / "several.npz").read_bytes()
    (files / "half.npz").write_bytes(whole[: len(whole) // 2])
    for name, said in (("several.npz", "it is an archive of y"), ("half.npz", "unreadable")):
        done = command(files, name)
        assert (done.returncode, done.stdout) == (4, "")
        assert said in done.stderr
    np.save(files / "x.npy", np.load(files / "x.npy")[0])
    done = command(files)
    assert done.returncode == 4
    assert "expected 4 axes" in done.stderr


def test_the_command_on_nchw(files: Path) -> None:
    x, y = (np.load(files / f"{name}.npy").transpose(0, 3, 1, 2) for name in "xy")
    np.save(files / "x.npy", x)
    np.save(files / "y.npy", y)
    refused = command(files)
    assert refused.returncode == 4
    assert "arrays: the layout is NHWC; expected NCHW/HWIO, in which they fit" in refused.stderr
    right = command(files, "y.npy", "--layout", "channels_first")
    assert right.returncode == 0, right.stderr
    assert command(files, "y.npy", "--layout", "NCHW/HWIO").returncode == 0
    unknown = command(files, "y.npy", "--layout", "theano")
    assert unknown.returncode == 4
    assert "the layout is 'theano'; expected NHWC or NCHW" in unknown.stderr


def test_the_command_on_bfloat16(files: Path) -> None:
    pipeline = PipelineSpec(1, 5, 5, 2, pool=PoolSpec("max", 2))
    (files / "spec.json").write_text(json.dumps({"pool": pipeline.to_dict()["pool"]}))
    x = given(pipeline, "bfloat16")[0]
    np.save(files / "x.npy", x)
    np.save(files / "y.npy", x[:, :4, :4].reshape(1, 2, 2, 2, 2, 2).max(axis=(2, 4)))
    assert x.dtype == ml_dtypes.bfloat16
    done = subprocess.run(
        [
            sys.executable, "-m", "convbench", "check", "--pipeline", "spec.json",
            "--input", "x.npy", "--output", "y.npy",
        ],
        capture_output=True, text=True, cwd=files, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "right as bfloat16, added in float32" in done.stdout


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("y.npy", b"\x93NUMPY\x01\x00v\x00{'descr'", "y.npy: the file is unreadable"),
        ("y.npy", b"not an array at all", "y.npy: the file is unreadable"),
        ("y.npy", b"", "y.npy"),
        ("spec.toml", b"[conv\n", "spec.toml: the file is unreadable"),
        ("spec.toml", b"\xff\xfe", "spec.toml"),
        ("spec.toml", b"stride = 2\n", "the field is stride"),
    ],
)
def test_damaged_files_are_named(files: Path, name: str, content: bytes, words: str) -> None:
    (files / name).write_bytes(content)
    done = command(files)
    assert done.returncode == 4
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_pickle_is_not_run(files: Path) -> None:
    np.save(files / "y.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    done = command(files)
    assert done.returncode == 4
    assert "arrays of objects" in done.stderr
    assert command(files, "nowhere.npy").returncode == 4


@pytest.mark.parametrize("change", [lambda y: y + 1, lambda y: y * np.float32(1.01)])
def test_what_no_rounding_does_is_not_put_down_to_rounding(change) -> None:
    pipeline = PipelineSpec(1, 16, 16, 8, ConvSpec(8, 3, 3))
    inputs = make_inputs(pipeline, "float32", "normal", 0)
    assert inputs.weights.filters is not None
    right = convbench.run(pipeline, inputs.x, inputs.weights.filters)
    report = convbench.check(change(right), pipeline, inputs.x, inputs.weights.filters)
    assert not report.ok
    assert not [cause for cause in report.causes if "accumulation" in cause.name]
