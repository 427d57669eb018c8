"""The one call for people, and the package as it is imported."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import convbench
from convbench import ConvSpec, PipelineSpec, PoolSpec
from convbench.errors import ArrayError, BackendUnavailable, TargetError

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
        ((X, FILTERS.transpose(), BIAS), r"filters \(R, S, C // groups, K\)"),
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
