"""What is PyTorch's own: padding by its operations, and what is compiled."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from convbench.backends.compute import compute
from convbench.backends.torch import TorchBackend, _pad
from convbench.correctness.accuracy import accuracy_of, refer_for
from convbench.stimulus.formats import Fill
from convbench.stimulus.inputs import make_inputs
from convbench.stimulus.spec import ConvSpec, PipelineSpec, PoolSpec


@pytest.mark.parametrize(
    ("padding", "stride", "own"),
    [
        ((3, 3, 3, 3), 2, (3, 3)),  # ResNet's first: the last window reads 2 of the 3
        ("SAME", 1, (3, 3)),
        ("SAME", 2, None),  # 2 before and 3 after
        ((3, 0, 3, 0), 1, None),
    ],
)
def test_it_pads_by_itself_where_it_can(padding: object, stride: int, own: object) -> None:
    """A copy into a padded image would be timed with it."""
    called: list[object] = []
    pad = SimpleNamespace(pad=lambda x, pads, value: called.append(pads) or x)
    conv = ConvSpec(k=2, r=7, s=7, stride=stride, padding=padding)
    windows = PipelineSpec(1, 224, 224, 3, conv=conv).conv_windows
    _, function, of_the_operation = _pad(
        SimpleNamespace(nn=SimpleNamespace(functional=pad)), windows, 0.0
    )
    assert of_the_operation == (own or (0, 0))
    assert (function is None) is (own is not None)
    if function is not None:
        function(None)
        rows, columns = windows
        assert called == [(columns.before, columns.after, rows.before, rows.after)]


def test_a_pool_pads_by_at_most_half_of_its_taps() -> None:
    """Of a dilated one, PyTorch does not count the distance between them."""
    for padding, dilation, own in ((1, 2, True), (2, 2, False), (2, 1, False)):
        pool = PoolSpec("max", 3, padding=padding, dilation=dilation)
        windows = PipelineSpec(1, 9, 9, 3, pool=pool).pool_windows
        _, function, _ = _pad(None, windows, 0.0, at_most_half=True)
        assert (function is None) is own


def test_what_is_compiled_is_right() -> None:
    """More shapes than PyTorch compiles of one function: each is compiled for itself."""
    pytest.importorskip("torch", reason="`make peers` installs it")
    backend = TorchBackend("cpu", "compile")
    pool = PoolSpec("max", 2, padding=(0, 1, 1, 0))
    conv = ConvSpec(k=4, r=3, s=2, stride=(2, 1), padding=(1, 0, 2, 1), groups=2)
    for width in range(5, 15):
        pipeline = PipelineSpec(2, 7, width, 6, conv, bias=True, pool=pool if width == 5 else None)
        inputs = make_inputs(pipeline, "float32", Fill.INTEGERS, 1)
        computed = compute(backend, pipeline, inputs, poison=True)
        assert computed.algorithm.startswith("Inductor: ")
        assert accuracy_of(computed.output, refer_for(pipeline, inputs, Fill.INTEGERS)).ratio == 0


def test_its_gauges_compute() -> None:
    pytest.importorskip("torch", reason="`make peers` installs it")
    backend = TorchBackend("cpu")
    x = backend.to_device(np.arange(64, dtype="float32"))
    copied: object = backend.copier(256)(x)
    assert backend.to_numpy(copied).tolist() == [*range(64)]
    square = backend.to_device(np.full((8, 8), 2, "float32"))
    assert backend.to_numpy(backend.gemm(8)(square)).tolist() == [[16] * 8] * 8


def test_nothing_is_left_to_gradients_and_nobody_else_is_touched() -> None:
    torch = pytest.importorskip("torch", reason="`make peers` installs it")
    backend = TorchBackend("cpu")
    pipeline = PipelineSpec(1, 5, 5, 3, conv=ConvSpec(k=6, r=5, s=5), bias=True)
    inputs = make_inputs(pipeline, "float32", Fill.NORMAL, 1)
    x = backend.to_device(inputs.x)
    assert x.is_inference()
    assert not backend.build(pipeline, inputs.weights)(x).requires_grad
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
