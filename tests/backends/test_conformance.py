"""Our own backends pass the suite that everybody's must, and every standard row bit for bit."""

from __future__ import annotations

import pytest

from convbench.backends.base import Backend
from convbench.backends.compute import compute
from convbench.backends.cupy import CupyBackend
from convbench.backends.jax import JaxBackend
from convbench.backends.numpy import NumpyBackend
from convbench.backends.tensorflow import TensorFlowBackend
from convbench.backends.torch import TorchBackend
from convbench.correctness.accuracy import accuracy_of, is_exact, refer_for
from convbench.stimulus.formats import Fill
from convbench.stimulus.inputs import make_inputs
from convbench.stimulus.workloads import load, select
from convbench.testing import conformance_suite

# The variants of NumPy force its methods; tests/backends/methods holds each that is direct against
# the oracle, all in one process.
TestNumpy = conformance_suite(NumpyBackend, variants=("", "winograd"))
TestTensorFlow = conformance_suite(TensorFlowBackend)
TestCupy = conformance_suite(CupyBackend)
# To compile takes seconds for each pipeline: tests/backends/test_torch.py tries a few. On a Mac,
# `pytest --convbench convbench.backends.torch:TorchBackend` has its GPU, and every variant.
TestTorch = conformance_suite(TorchBackend, ("cpu", "gpu:0"), ("", "contiguous"))
TestJax = conformance_suite(JaxBackend)

ROWS = load()


@pytest.mark.parametrize("row", select(ROWS, "standard"), ids=lambda row: row.name)
def test_integers_give_the_same_bits_on_every_standard_row(backend: Backend, row) -> None:
    """With exact sums, equal to the oracle bit for bit is equal to each other bit for bit."""
    if not is_exact(row.pipeline, "float32", Fill.INTEGERS):
        pytest.skip("an average over a number that is not a power of two is rounded")
    inputs = make_inputs(row.pipeline, "float32", Fill.INTEGERS, 0)
    got = compute(backend, row.pipeline, inputs, poison=True).output
    accuracy = accuracy_of(got, refer_for(row.pipeline, inputs, Fill.INTEGERS))
    assert accuracy.ratio == 0, str(accuracy)
