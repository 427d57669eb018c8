"""CuPy's backend, as far as it goes without a GPU: on stand-ins for CuPy, CUDA and cuDNN.

tests/stand_in.py says what that shows and what it does not.
"""

from __future__ import annotations

import importlib
import sys
import types

import numpy as np
import pytest

from convbench.backends.base import Run
from convbench.backends.compute import compute
from convbench.backends.cudnn import _BARRED, Cudnn, Plan, _is_true
from convbench.backends.cupy import CupyBackend, _remedy
from convbench.errors import BackendUnavailable, Unavailability, Unsupported
from convbench.stimulus.formats import Fill
from convbench.stimulus.inputs import make_inputs
from convbench.stimulus.spec import ConvSpec, PipelineSpec, PoolSpec
from convbench.testing import conformance_suite

from .. import stand_in
from ..stand_in import LAUNCHED, StandIn

# The others are what these two choose from; each probe is tiny, so that "" is "direct" there.
TestOnStandIns = pytest.mark.skipif(
    stand_in.compiler() is None, reason="there is no C++ compiler here (c++, g++ or clang++)"
)(conformance_suite(StandIn, devices=("cpu",), variants=("", "cudnn")))

TINY = PipelineSpec(1, 5, 5, 3, ConvSpec(6, 3, 3), True, PoolSpec("max", 2))
DENSE = PipelineSpec(2, 20, 20, 40, ConvSpec(64, 3, 3, padding="SAME"), True)
POOLED = PipelineSpec(2, 20, 20, 40, ConvSpec(64, 3, 3), True, PoolSpec("avg", 2))
POINTWISE = PipelineSpec(2, 30, 30, 64, ConvSpec(256, 1, 1))
DEPTHWISE = PipelineSpec(2, 100, 100, 64, ConvSpec(64, 3, 3, groups=64))
LARGE = PipelineSpec(1, 14, 14, 512, ConvSpec(1024, 3, 3))
DILATED = PipelineSpec(2, 20, 20, 40, ConvSpec(64, 3, 3, dilation=4))


@pytest.fixture(autouse=True)
def _all_as_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first candidate is taken: what the stand-ins take says nothing of a card."""
    monkeypatch.setattr(CupyBackend, "_time_s", lambda *_: 1.0)


@pytest.fixture
def without_cudnn(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if cudnn-frontend were not installed."""
    monkeypatch.setattr(StandIn, "present", stand_in.modules(cudnn=None))


@pytest.mark.parametrize(
    ("variant", "pipeline", "dtype", "algorithm"),
    [
        ("", TINY, "float32", "direct conv + bias + max pool"),
        ("", TINY, "tf32", "cuDNN eng1; direct max pool"),
        ("", DENSE, "float32", "cuDNN eng1"),
        ("", DENSE, "bfloat16", "cuDNN eng1"),
        ("", DENSE, "float64", "im2col"),
        ("", POOLED, "float16", "cuDNN eng1; direct avg pool"),
        ("", POINTWISE, "float32", "cuDNN eng1"),
        ("", DEPTHWISE, "float32", "cuDNN eng1"),
        ("", DILATED, "float32", "im2col"),
        ("", DENSE.stages()["bias"], "float32", "direct bias"),
        ("cudnn", DENSE, "float64", "cuDNN eng1"),
        ("im2col", POOLED, "tf32", "im2col; direct avg pool"),
        ("im2col", POINTWISE, "float16", "1x1 GEMM in float32"),
        ("direct", POOLED, "bfloat16", "direct conv + bias + avg pool"),
        ("direct", DENSE.with_batch(0), "float32", "empty batch"),
    ],
    ids=str,
)
def test_what_is_chosen(variant: str, pipeline: PipelineSpec, dtype: str, algorithm: str) -> None:
    weights = make_inputs(pipeline, dtype, Fill.NORMAL, 0).weights
    assert StandIn("cpu", variant).build(pipeline, weights).algorithm == algorithm


@pytest.mark.usefixtures("without_cudnn")
@pytest.mark.parametrize(
    ("pipeline", "algorithm"),
    [(DENSE, "im2col"), (POINTWISE, "1x1 GEMM"), (DEPTHWISE, "direct conv"),
     (TINY, "direct conv + bias + max pool")],
    ids=str,
)  # fmt: skip
def test_what_is_chosen_without_cudnn(pipeline: PipelineSpec, algorithm: str) -> None:
    opened = StandIn("cpu")
    weights = make_inputs(pipeline, "float32", Fill.NORMAL, 0).weights
    assert opened.build(pipeline, weights).algorithm == algorithm
    assert opened.versions()["cudnn"] == "not used"


@pytest.mark.usefixtures("without_cudnn")
def test_the_variant_that_needs_cudnn_says_so() -> None:
    with pytest.raises(BackendUnavailable, match="no module named cudnn") as caught:
        StandIn("cpu", "cudnn")
    assert caught.value.kind is Unavailability.NOT_INSTALLED
    assert "cupy-gpu" in caught.value.remedy


def test_a_broken_cudnn_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def create_handle() -> None:
        raise RuntimeError("cudnnHandle Create failed cudaGetDeviceCount(&count) != cudaSuccess")

    broken = stand_in.modules(cudnn=stand_in.cudnn(create_handle=create_handle))
    monkeypatch.setattr(StandIn, "present", broken)
    with pytest.raises(BackendUnavailable, match="gives no handle: RuntimeError: cudnnHandle"):
        StandIn("cpu")


def test_a_cudnn_that_lacks_a_module_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name}.graph", name="looseversion")

    monkeypatch.setattr("convbench.backends.cudnn.importlib.import_module", broken)
    with pytest.raises(BackendUnavailable, match="`import cudnn` raised"):
        Cudnn(None, 0)


def test_a_device_has_one_handle(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    counted = stand_in.cudnn(create_handle=lambda: made.append("handle") or "handle")
    monkeypatch.setattr(StandIn, "present", stand_in.modules(cudnn=counted))
    StandIn("cpu")
    StandIn("cpu", "cudnn")
    assert made == ["handle"]


def test_versions() -> None:
    versions = StandIn("cpu").versions()
    assert versions["cudnn"] == "9.28.0"
    assert versions["cudnn_frontend"] == "stand-in"


def test_cudnn_says_what_it_has_no_engine_for() -> None:
    weights = make_inputs(DILATED, "float32", Fill.NORMAL, 0).weights
    with pytest.raises(Unsupported, match="no engine for this dilation"):
        StandIn("cpu", "cudnn").build(DILATED, weights)


def test_no_engine_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand_in._Graph, "count", 1)
    weights = make_inputs(DENSE, "float32", Fill.NORMAL, 0).weights
    with pytest.raises(Unsupported, match="that is a direct method and takes a workspace"):
        StandIn("cpu", "cudnn").build(DENSE, weights)


def test_what_may_round_more_is_barred(monkeypatch: pytest.MonkeyPatch) -> None:
    barred = {}
    for dtype in ("float32", "tf32"):
        monkeypatch.setattr(
            stand_in._Graph,
            "deselect_numeric_notes",
            lambda graph, notes, dtype=dtype: barred.update({dtype: notes}),
        )
        opened = StandIn("cpu", "cudnn")
        monkeypatch.setattr(stand_in._Graph, "build_plan_at_index", lambda graph, index: None)
        opened.build(DENSE, make_inputs(DENSE, dtype, Fill.NORMAL, 0).weights)
    assert set(barred["float32"]) - set(barred["tf32"]) == {"TENSOR_CORE"}
    assert {"WINOGRAD", "FFT", "DOWN_CONVERT_INPUTS"} <= set(barred["tf32"])


def _take(monkeypatch: pytest.MonkeyPatch, times_s: dict[str, float]) -> list[str]:
    """Let each candidate take a time; those that are not named take 10. What was timed."""
    timed: list[str] = []

    def time_s(_: CupyBackend, run: Run, x: object) -> float:
        timed.append(run.algorithm)
        return times_s.get(run.algorithm, 10.0)

    monkeypatch.setattr(CupyBackend, "_time_s", time_s)
    return timed


@pytest.mark.parametrize(
    ("pipeline", "dtype", "candidates"),
    [
        (DENSE, "float32", ["cuDNN eng1", "cuDNN eng1 + bias", "im2col", "direct conv + bias"]),
        (DENSE, "tf32", ["cuDNN eng1", "im2col"]),
        (POOLED, "float16", ["cuDNN eng1; direct avg pool", "im2col in float32; direct avg pool",
                             "direct conv + bias + avg pool"]),
        (DEPTHWISE, "bfloat16", ["cuDNN eng1", "direct conv"]),
        (LARGE, "float32", ["cuDNN eng1", "cuDNN eng2", "im2col"]),
        (DILATED, "float32", ["im2col", "direct conv"]),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_timed(
    monkeypatch: pytest.MonkeyPatch, pipeline: PipelineSpec, dtype: str, candidates: list[str]
) -> None:
    timed = _take(monkeypatch, {})
    weights = make_inputs(pipeline, dtype, Fill.NORMAL, 0).weights
    assert StandIn("cpu").build(pipeline, weights).algorithm == candidates[0]
    assert timed == candidates


GROUPED = PipelineSpec(2, 20, 20, 40, ConvSpec(64, 3, 3, groups=4))


@pytest.mark.parametrize(
    ("name", "pipeline", "dtype", "true"),
    [
        ("eng32_k2=2_k6=0_k13=2", DENSE, "float16", False),
        ("eng33_k2=2_k6=0_k13=2", DENSE, "tf32", True),
        ("eng41_k2=6_k16=0", DENSE, "float16", True),
        ("eng10_k2=4", GROUPED, "bfloat16", False),
        ("eng10_k2=4", DENSE, "bfloat16", True),
        ("eng45_k2=7", DENSE, "bfloat16", False),
        ("eng45_k2=7", DENSE, "float16", True),
        ("eng5", GROUPED, "float32", True),
    ],
)
def test_engines_that_deviate_are_barred(
    name: str, pipeline: PipelineSpec, dtype: str, *, true: bool
) -> None:
    """As reports/cudnn.md has it."""
    assert _is_true(Plan(None, 0, name, 0), pipeline, dtype) is true


@pytest.mark.parametrize("fastest", ["cuDNN eng1", "cuDNN eng1 + bias", "im2col",
                                     "direct conv + bias"])  # fmt: skip
def test_the_fastest_is_taken_and_is_right(monkeypatch: pytest.MonkeyPatch, fastest: str) -> None:
    _take(monkeypatch, {fastest: 1.0})
    inputs = make_inputs(DENSE, "float32", Fill.INTEGERS, 0)
    computed = compute(StandIn("cpu"), DENSE, inputs)
    assert computed.algorithm == fastest
    fused = compute(StandIn("cpu", "direct"), DENSE, inputs).output
    assert np.array_equal(computed.output, fused)


def test_the_first_is_taken_where_another_is_hardly_faster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _take(monkeypatch, {"cuDNN eng1": 1.04, "direct conv + bias": 1.0})
    weights = make_inputs(DENSE, "float32", Fill.NORMAL, 0).weights
    assert StandIn("cpu").build(DENSE, weights).algorithm == "cuDNN eng1"


@pytest.mark.parametrize(
    ("variant", "pipeline", "launches"),
    [("", TINY, ["pipeline_float32"]), ("cudnn", DENSE, ["eng1"]),
     ("cudnn", POOLED, ["eng1", "pipeline_float32"])],
    ids=str,
)  # fmt: skip
def test_what_is_launched_and_recorded(variant, pipeline, launches) -> None:
    opened = StandIn("cpu", variant)
    inputs = make_inputs(pipeline, "float32", Fill.INTEGERS, 0)
    run, x = opened.build(pipeline, inputs.weights), opened.to_device(inputs.x)
    LAUNCHED.clear()
    expected = run(x)
    assert launches == LAUNCHED
    replay = opened.capture(run, x)
    LAUNCHED.clear()
    assert np.array_equal(replay(), expected)
    assert LAUNCHED == ["graph"]
    assert replay() is replay()


def test_what_calls_cublas_cannot_be_recorded() -> None:
    opened = StandIn("cpu", "im2col")
    inputs = make_inputs(POINTWISE, "float32", Fill.NORMAL, 0)
    run = opened.build(POINTWISE, inputs.weights)
    with pytest.raises(Unsupported, match="1x1 GEMM cannot be recorded: calling cuBLAS"):
        opened.capture(run, opened.to_device(inputs.x))
    assert not stand_in._Stream.recording, "the recording was not ended"


@pytest.mark.parametrize("lost", ["the module", "a name of it"])
def test_without_the_switch_for_tf32_the_variable_decides(
    monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """The switch is private, and an upgrade of CuPy may take it away."""
    linalg = None if lost == "the module" else types.SimpleNamespace(COMPUTE_TYPE_DEFAULT="default")
    present = stand_in.modules(**{"cupy._core._routines_linalg": linalg})
    monkeypatch.setattr(StandIn, "present", present)
    opened = StandIn("cpu", "im2col")
    weights = {
        dtype: make_inputs(POINTWISE, dtype, Fill.NORMAL, 0).weights
        for dtype in ("float64", "float32", "tf32")
    }
    for setting, computed, refused in (("0", "float32", "tf32"), ("1", "tf32", "float32")):
        monkeypatch.setenv("CUPY_TF32", setting)
        for dtype in (computed, "float64"):
            assert opened.build(POINTWISE, weights[dtype]).algorithm == "1x1 GEMM"
        with pytest.raises(Unsupported, match=f"set CUPY_TF32={1 - int(setting)}"):
            opened.build(POINTWISE, weights[refused])


def test_the_stand_in_for_cupy_has_no_names_of_its_own() -> None:
    cupy = pytest.importorskip("cupy")
    linalg = importlib.import_module("cupy._core._routines_linalg")
    present = stand_in.modules()
    for theirs, ours in (
        (cupy.cuda, present["cupy"].cuda),
        (cupy.cuda.runtime, present["cupy"].cuda.runtime),
        (linalg, present["cupy._core._routines_linalg"]),
    ):
        assert [name for name in vars(ours) if not hasattr(theirs, name)] == []
    names = [name for name in vars(stand_in._Stream) if not name.startswith("_")]
    # CuPy's streams get theirs when they are made.
    assert {"ptr", "recording"} == {name for name in names if not hasattr(cupy.cuda.Stream, name)}
    assert all(hasattr(cupy, name) for name in ("RawModule", "asnumpy", "get_default_memory_pool"))


def test_the_stand_in_for_cudnn_has_no_names_of_its_own() -> None:
    cudnn = pytest.importorskip("cudnn", reason="nvidia-cudnn-frontend is not installed")
    assert all(hasattr(cudnn, name) for name in vars(stand_in.cudnn()))
    methods = {name for name in vars(stand_in._Graph) if not name.startswith("_")} - {"count"}
    assert all(hasattr(cudnn.pygraph, name) for name in methods)
    assert all(hasattr(cudnn.numerical_note, name) for name in _BARRED)


def test_importing_the_module_loads_no_library() -> None:
    assert "cudnn" not in sys.modules


@pytest.mark.gpu
@pytest.mark.parametrize("variant", CupyBackend.capabilities.variants)
@pytest.mark.parametrize("pipeline", [TINY, DENSE, POOLED], ids=str)
def test_a_replay_gives_the_same_bits(variant: str, pipeline: PipelineSpec) -> None:
    try:
        opened = CupyBackend("gpu:0", variant)
    except BackendUnavailable as error:
        pytest.skip(str(error))
    inputs = make_inputs(pipeline, "float32", Fill.INTEGERS, 0)
    expected = compute(opened, pipeline, inputs).output
    run, x = opened.build(pipeline, inputs.weights), opened.to_device(inputs.x)
    try:
        replay = opened.capture(run, x)
    except Unsupported as reason:
        pytest.skip(str(reason))
    y = replay()
    y.fill(0)
    replay()
    opened.synchronize()
    assert np.array_equal(opened.to_numpy(y), expected)


def absence() -> BackendUnavailable | None:
    try:
        CupyBackend.devices()
    except BackendUnavailable as error:
        return error
    return None


def test_without_a_gpu_it_says_why() -> None:
    found = absence()
    if found is None or found.kind is not Unavailability.NO_DEVICE:
        pytest.skip(f"only where CuPy is installed and there is no GPU: {found or 'there is one'}")
    assert "cuda" in found.reason.lower()
    assert found.remedy


@pytest.mark.parametrize(
    ("driver", "runtime", "words"),
    [
        (0, 12090, "There is no NVIDIA driver"),
        (12020, 12090, "supports CUDA 12.2 and CuPy needs 12.9: upgrade the driver"),
        (12090, 12090, "CUDA_VISIBLE_DEVICES"),
        (13000, 12090, "CUDA_VISIBLE_DEVICES"),
    ],
)
def test_what_to_do(driver: int, runtime: int, words: str) -> None:
    assert words in _remedy(driver, runtime)
