"""The one call for people, and the package as it is imported."""

from __future__ import annotations

import itertools
import secrets
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import convbench
from convbench import ConvSpec, DeviationWarning, PipelineSpec, PoolSpec
from convbench.backends import compute as computing
from convbench.backends.base import Hole, HoleKind
from convbench.backends.compute import compute
from convbench.backends.numpy import NumpyBackend
from convbench.correctness.accuracy import accuracy_of, refer_for
from convbench.errors import ArrayError, BackendUnavailable, BrokenContract, TargetError
from convbench.stimulus.formats import Fill
from convbench.stimulus.inputs import make_inputs

SPEC = PipelineSpec(1, 5, 5, 3, ConvSpec(6, 5, 5, 2), True)
X = np.ones((1, 5, 5, 3), "f4")
FILTERS = np.full((5, 5, 3, 6), 0.5, "f4")
BIAS = np.arange(6, dtype="f4")


@pytest.mark.parametrize("name", ["numpy", "tensorflow", "tensorflow.eager", "tensorflow.xla"])
def test_numpy_in_numpy_out(name: str) -> None:
    try:
        y = convbench.run(SPEC, X, FILTERS, BIAS, backend=name)
    except BackendUnavailable as error:
        pytest.skip(str(error))
    assert type(y) is np.ndarray
    assert y.dtype == "f4"
    assert y.tolist() == [[[[37.5 + k for k in range(6)]]]]


def test_stages_may_be_absent() -> None:
    x = np.arange(16.0).reshape(1, 4, 4, 1)
    assert convbench.run(PipelineSpec(1, 4, 4, 1, bias=True), x, bias=np.ones(1))[0, 0, 0, 0] == 1
    pooled = convbench.run(PipelineSpec(1, 4, 4, 1, pool=PoolSpec("avg", 2)), x)
    assert pooled.ravel().tolist() == [2.5, 4.5, 10.5, 12.5]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ((X, None, BIAS), r"filters is missing; expected an array of shape \(5, 5, 3, 6\)"),
        ((X, FILTERS), r"bias is missing"),
        ((X[0], FILTERS, BIAS), r"the shape of x is \(5, 5, 3\); expected \(1, 5, 5, 3\)"),
        ((X, FILTERS[1:], BIAS), r"filters \(R, S, C // groups, K\)"),
        ((X, FILTERS.astype("f8"), BIAS), r"the dtype of filters is float64; expected float32"),
        ((X.astype(int), FILTERS, BIAS), r"the dtype is int64"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arrays, message: str) -> None:
    with pytest.raises(ArrayError, match=message):
        convbench.run(SPEC, *arrays)


def test_weights_that_nothing_uses_are_refused() -> None:
    with pytest.raises(ArrayError, match="filters is given; expected none"):
        convbench.run(PipelineSpec(1, 5, 5, 3, pool=PoolSpec("max", 2)), X, FILTERS)


# -- layouts ---------------------------------------------------------------------------------------

GROUPED = PipelineSpec(2, 6, 5, 4, ConvSpec(8, 3, 2, (2, 1), groups=4, padding=1), True)


@pytest.mark.parametrize("layout", ["NCHW", "NCHW/HWIO", "tflite", "NHWC/HWCM", "NCHW/IHWO"])
def test_another_layout_gives_the_same_numbers(layout: str) -> None:
    """Transposed by einsum, which knows axes by their letters."""
    inputs = make_inputs(GROUPED, "float32", Fill.INTEGERS, 0)
    x, filters, bias = inputs.x, inputs.weights.filters, inputs.weights.bias
    data, _, order = layout.replace("tflite", "NHWC/OHWI").partition("/")
    turned_x = np.einsum(f"NHWC->{data}", x)
    if order == "HWCM":
        turned_filters = filters.reshape(3, 2, 4, 2)
    else:
        turned_filters = np.einsum(f"HWIO->{order or 'OIHW'}", filters)
    y = convbench.run(GROUPED, turned_x, turned_filters, bias, layout=layout)
    expected = np.einsum(f"NHWC->{data}", convbench.run(GROUPED, x, filters, bias))
    np.testing.assert_array_equal(y, expected)


SMALL = PipelineSpec(1, 5, 6, 3, ConvSpec(4, 3, 2))
SMALL_X, SMALL_FILTERS = np.ones((1, 5, 6, 3), "f4"), np.ones((3, 2, 3, 4), "f4")


@pytest.mark.parametrize(
    ("x", "filters", "layout", "message"),
    [
        (SMALL_X.transpose(0, 3, 1, 2), SMALL_FILTERS.transpose(3, 2, 0, 1), "NHWC",
         "arrays: the shape of x is (1, 3, 5, 6); expected (1, 5, 6, 3). It fits as NCHW: give"
         ' x.transpose(0, 2, 3, 1), or layout="NCHW".'),
        (SMALL_X.transpose(0, 3, 1, 2), SMALL_FILTERS, "NHWC",
         "arrays: the shape of x is (1, 3, 5, 6); expected (1, 5, 6, 3). It fits as NCHW: give"
         ' x.transpose(0, 2, 3, 1), or layout="NCHW/HWIO".'),
        (SMALL_X, SMALL_FILTERS.transpose(3, 2, 0, 1), "NCHW",
         "arrays: the shape of x is (1, 5, 6, 3); expected (1, 3, 5, 6). It fits as NHWC: give"
         ' x.transpose(0, 3, 1, 2), or layout="NHWC/OIHW".'),
        (SMALL_X, SMALL_FILTERS.transpose(3, 2, 0, 1), "NHWC",
         "arrays: the shape of filters is (4, 3, 3, 2); expected (3, 2, 3, 4). They fit as OIHW:"
         ' give filters.transpose(2, 3, 1, 0), or layout="NHWC/OIHW".'),
        (SMALL_X, SMALL_FILTERS.transpose(3, 0, 1, 2), "NHWC",
         "arrays: the shape of filters is (4, 3, 2, 3); expected (3, 2, 3, 4). They fit as OHWI:"
         ' give filters.transpose(1, 2, 3, 0), or layout="NHWC/OHWI".'),
        (SMALL_X[..., :2], SMALL_FILTERS, "NHWC",
         "arrays: the shape of x is (1, 5, 6, 2); expected (1, 5, 6, 3). Arrays are NHWC and"
         " filters (R, S, C // groups, K), unless `layout` says otherwise."),
        (SMALL_X.transpose(0, 3, 1, 2), SMALL_FILTERS[0], "NCHW",
         "arrays: the shape of filters is (2, 3, 4); expected (4, 3, 3, 2). Arrays are NCHW and"
         " filters (K, C // groups, R, S), unless `layout` says otherwise."),
    ],
)  # fmt: skip
def test_what_would_fit_is_in_the_message(x, filters, layout, message) -> None:
    with pytest.raises(ArrayError) as refusal:
        convbench.run(SMALL, x, filters, layout=layout)
    assert str(refusal.value) == message


def test_every_order_that_fits_is_in_the_message() -> None:
    square = PipelineSpec(1, 6, 7, 5, ConvSpec(3, 3, 3))
    with pytest.raises(ArrayError) as refusal:
        convbench.run(square, np.ones((1, 6, 7, 5), "f4"), np.ones((3, 3, 3, 5), "f4"))
    assert "OHWI: give filters.transpose(1, 2, 3, 0), or" in str(refusal.value)
    assert "HWOI: give filters.transpose(0, 1, 3, 2), or" in str(refusal.value)


def test_filters_of_depthwise_layers_are_none_of_a_dense_one() -> None:
    with pytest.raises(ArrayError, match="the layout of the filters is HWCM; expected another"):
        convbench.run(SMALL, SMALL_X, SMALL_FILTERS, layout="HWCM")


def test_filters_of_a_depthwise_layer_of_keras_are_known() -> None:
    message = r'give filters.reshape\(3, 2, 1, 8\), or layout="NHWC/HWCM"'
    x = np.ones((2, 6, 5, 4), "f4")
    with pytest.raises(ArrayError, match=message):
        convbench.run(GROUPED, x, np.ones((3, 2, 4, 2), "f4"), np.ones(8, "f4"))


# -- deviations ------------------------------------------------------------------------------------


def pooled(x, backend: str, op: str = "max"):
    n, h, w, c = x.shape
    try:
        return convbench.run(PipelineSpec(n, h, w, c, pool=PoolSpec(op, 2)), x, backend=backend)
    except BackendUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("backend", ["tensorflow", "tensorflow.xla"])
def test_a_nan_that_is_swallowed_is_told(backend: str) -> None:
    x = np.arange(32, dtype="f4").reshape(1, 4, 4, 2)
    x[0, 1, 2, 1] = np.nan
    with pytest.warns(DeviationWarning) as told:
        y = pooled(x, backend)
    assert np.isfinite(y).all()
    (warning,) = told
    assert warning.filename == __file__
    assert str(warning.message).startswith(
        "tensorflow: 1 of 8 results are not as defined: at [0, 0, 1, 1] it is 15, where nan is"
        " right. nan"
    )


@pytest.mark.parametrize("backend", ["tensorflow", "tensorflow.xla", "numpy"])
def test_what_does_not_deviate_is_not_told(backend: str) -> None:
    """Warnings are errors here. None of these is swallowed by any of them."""
    x = np.arange(50, dtype="f4").reshape(1, 5, 5, 2)
    pooled(x, backend)
    x[0, 1, 2, 1], x[0, 0, 0, 0] = np.inf, -np.inf
    assert pooled(x, backend)[0, 0, 1, 1] == np.inf
    x[0, 4, 4, 0] = np.nan  # no window reads the last row
    pooled(x, backend)
    x[0, 0, 1, 0] = np.nan
    assert np.isnan(pooled(x, backend, "avg")).sum() == 1
    if backend == "numpy":
        pooled(x, backend)


def test_denormal_numbers_that_are_flushed_are_told() -> None:
    pipeline = PipelineSpec(1, 2, 2, 1, ConvSpec(1, 1, 1))
    filters = np.full((1, 1, 1, 1), 2, "f4")
    x = np.float32([1e-40, 3.0, -1.0, 0.5]).reshape(1, 2, 2, 1)
    try:
        with pytest.warns(DeviationWarning, match="1 of 4 results .*denormal numbers: TensorFlow"):
            convbench.run(pipeline, x, filters, backend="tensorflow")
    except BackendUnavailable as error:
        pytest.skip(str(error))
    # Beside ordinary numbers they do not show.
    wide = PipelineSpec(1, 2, 2, 1, ConvSpec(1, 2, 2))
    convbench.run(wide, x, np.ones((2, 2, 1, 1), "f4"), backend="tensorflow")


def test_a_deviation_on_all_numbers_is_told_once(monkeypatch) -> None:
    class Rough(NumpyBackend):
        capabilities = replace(
            NumpyBackend.capabilities,
            holes=(Hole("everything", "it halves", kind=HoleKind.DEVIATES),),
        )

        def build(self, pipeline, weights):
            run = super().build(pipeline, weights)
            return replace(run, function=lambda x: run(x) / 2)

    opening = computing.open_backend
    monkeypatch.setattr(
        computing, "open_backend",
        lambda target: Rough("cpu") if target.backend == "rough" else opening(target),
    )  # fmt: skip
    with pytest.warns(DeviationWarning, match="at .* it is 18.75, where 37.5 is right") as told:
        convbench.run(SPEC, X, FILTERS, BIAS, backend="rough")
    assert len(told) == 1


@pytest.mark.parametrize(
    ("backend", "device", "message"),
    [
        ("numpie", "cpu", "the backend is 'numpie'; expected one of .*numpy"),
        ("numpy.fast", "cpu", "the variant is 'fast'"),
        ("NumPy!", "cpu", "the name is 'NumPy!@cpu'"),
    ],
)
def test_targets_that_nobody_answers_to(backend: str, device: str, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        convbench.run(SPEC, X, FILTERS, BIAS, backend=backend, device=device)


def test_a_device_that_is_not_here() -> None:
    with pytest.raises(BackendUnavailable, match="numpy has no gpu:0 here, only cpu"):
        convbench.run(SPEC, X, FILTERS, BIAS, device="gpu:0")


def test_finding_the_backends_imports_no_array_library_but_numpy() -> None:
    code = (
        "import sys\nfrom convbench.backends import backend_class, registered\n"
        "for name in registered(): backend_class(name).capabilities\n"
        "print([m for m in ('tensorflow','cupy','torch','jax') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_no_such_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'walk'"):
        convbench.walk  # noqa: B018


class Late(NumpyBackend):
    """Right for some calls, and wrong after them, or now and then."""

    wrong_from = 3
    every = 1

    def build(self, pipeline, weights):
        run = super().build(pipeline, weights)
        calls = itertools.count(1)

        def late(x):
            y, call = run(x), next(calls)
            return y + 1 if call >= self.wrong_from and call % self.every == 0 else y

        return replace(run, function=late)


@pytest.mark.parametrize(("wrong_from", "every"), [(3, 1), (12, 1), (2, 2), (1, 3)])
def test_what_is_right_at_first_has_to_stay_so(monkeypatch, wrong_from, every):
    monkeypatch.setattr(Late, "wrong_from", wrong_from)
    monkeypatch.setattr(Late, "every", every)
    pipeline = PipelineSpec(1, 5, 5, 3, ConvSpec(4, 3, 3))
    inputs = make_inputs(pipeline, "float32", Fill.INTEGERS, 1)
    expected = refer_for(pipeline, inputs, Fill.INTEGERS)
    computed = compute(Late("cpu"), pipeline, inputs, poison=True)
    outputs = (computed.output, *computed.later)
    assert max(accuracy_of(output, expected).ratio for output in outputs) > 1


class Mixed(NumpyBackend):
    """Its calls differ in their bits, as sums in no order do, and one of them is wrong."""

    def build(self, pipeline, weights):
        run = super().build(pipeline, weights)
        calls = itertools.count(1)

        def mixed(x):
            y, call = run(x), next(calls)
            y = y * (1 + call * np.finfo(y.dtype).eps).astype(y.dtype)
            return y + 100 if call == 4 else y

        return replace(run, function=mixed)


def test_a_wrong_call_is_not_forgotten_for_a_right_one_after_it(monkeypatch):
    monkeypatch.setattr(secrets, "choice", lambda _: False)
    pipeline = PipelineSpec(1, 5, 5, 3, ConvSpec(4, 3, 3))
    inputs = make_inputs(pipeline, "float32", Fill.NORMAL, 1)
    computed = compute(Mixed("cpu"), pipeline, inputs, poison=True)
    wrong = [np.abs(y - computed.output).max() > 99 for y in computed.later]
    assert sum(wrong) == 1
    assert not wrong[-1]


class Widening(NumpyBackend):
    """The same numbers in another dtype, from the second call on."""

    def build(self, pipeline, weights):
        run = super().build(pipeline, weights)
        calls = itertools.count(1)
        return replace(
            run, function=lambda x: run(x) if next(calls) < 3 else run(x).astype("float64")
        )


def test_another_dtype_is_another_output():
    pipeline = PipelineSpec(1, 5, 5, 3, ConvSpec(4, 3, 3))
    inputs = make_inputs(pipeline, "float32", Fill.INTEGERS, 1)
    computed = compute(Widening("cpu"), pipeline, inputs, poison=True)
    assert "float64" in {y.dtype.name for y in (computed.output, *computed.later)}


class View(NumpyBackend):
    """A 1 x 1 pool is a slice, which costs nothing, and changes with its input."""

    def build(self, pipeline, weights):
        run = super().build(pipeline, weights)
        return replace(run, function=lambda x: x[:, ::2, ::2])


def test_an_output_may_not_lie_in_the_input():
    pipeline = PipelineSpec(1, 5, 5, 3, pool=PoolSpec("max", 1, 2))
    inputs = make_inputs(pipeline, "float32", Fill.INTEGERS, 1)
    kept = inputs.x.copy()
    with pytest.raises(BrokenContract, match="lies in the memory of the input"):
        compute(View("cpu"), pipeline, inputs, poison=True)
    assert np.array_equal(inputs.x, kept)


def test_a_backend_that_stays_right_has_one_output():
    pipeline = PipelineSpec(1, 5, 5, 3, ConvSpec(4, 3, 3))
    inputs = make_inputs(pipeline, "float32", Fill.NORMAL, 1)
    assert compute(NumpyBackend("cpu"), pipeline, inputs, poison=True).later == ()


def test_an_input_that_was_not_copied_may_not_be_changed_either():
    class InPlace(NumpyBackend):
        def to_device(self, array):
            return array

        def build(self, pipeline, weights):
            run = super().build(pipeline, weights)

            def in_place(x):
                y = run(x)
                x[...] = 0
                return y

            return replace(run, function=in_place)

    pipeline = PipelineSpec(1, 5, 5, 3, ConvSpec(4, 3, 3))
    inputs = make_inputs(pipeline, "float32", Fill.NORMAL, 1)
    with pytest.raises(BrokenContract, match="changed its input"):
        compute(InPlace("cpu"), pipeline, inputs, poison=True)


def test_a_class_of_its_own_is_no_array():
    class Mine(np.ndarray):
        pass

    class Subclass(NumpyBackend):
        def to_numpy(self, array):
            return super().to_numpy(array).view(Mine)

    pipeline = PipelineSpec(1, 5, 5, 3, ConvSpec(4, 3, 3))
    inputs = make_inputs(pipeline, "float32", Fill.NORMAL, 1)
    with pytest.raises(BrokenContract, match="to_numpy returned Mine"):
        compute(Subclass("cpu"), pipeline, inputs)
