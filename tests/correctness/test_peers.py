"""The oracle against libraries that no backend uses: SciPy, and PyTorch where it is installed."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from convbench import ConvSpec, PipelineSpec, PoolSpec, SpecError
from convbench.correctness import oracle
from convbench.stimulus.formats import Fill
from convbench.stimulus.inputs import Inputs, make_inputs
from convbench.testing import pipelines


def inputs_of(pipeline: PipelineSpec, seed: int) -> Inputs:
    return make_inputs(pipeline, "float64", Fill.NORMAL, seed)


@given(
    size=st.tuples(st.integers(3, 12), st.integers(3, 12)),
    window=st.integers(1, 3),
    op=st.sampled_from(["max", "avg"]),
    seed=st.integers(0, 100),
)
def test_pools_of_stride_one_are_those_of_scipy(size, window, op, seed) -> None:
    pipeline = PipelineSpec(2, *size, 3, pool=PoolSpec(op, window, 1))
    x = inputs_of(pipeline, seed).x
    footprint = (1, window, window, 1)
    if op == "max":
        expected = scipy.ndimage.maximum_filter(x, footprint)
        got = oracle.max_pool(pipeline, x)
    else:
        expected = scipy.ndimage.uniform_filter(x, footprint)
        got = oracle.avg_pool(pipeline, x)
    # SciPy's window lies around its element; those that stay inside are ours.
    rows, columns = (slice(window // 2, window // 2 + n) for n in pipeline.output_shape[1:3])
    np.testing.assert_allclose(got, expected[:, rows, columns], rtol=1e-12, atol=1e-12)


def onnx_axis(size: int, taps: int, stride: int, auto_pad: str) -> list[list[int | None]]:
    """Which element each tap of each window reads along an axis, as ONNX's auto_pad says.

    None for padding. As many windows as `size / stride`, rounded up, of which the padding makes
    the last one fit; the odd element of the padding at the start (LOWER) or at the end (UPPER).
    """
    windows = math.ceil(size / stride)
    padding = max(0, (windows - 1) * stride + taps - size)
    start = math.ceil(padding / 2) if auto_pad == "SAME_LOWER" else math.floor(padding / 2)
    elements = [None] * start + list(range(size)) + [None] * (padding - start)
    return [[elements[i * stride + tap] for tap in range(taps)] for i in range(windows)]


axes = st.tuples(st.integers(1, 7), st.integers(1, 4), st.integers(1, 3))


@given(axes, axes, st.sampled_from(["SAME_UPPER", "SAME_LOWER"]), st.integers(0, 100))
def test_a_convolution_is_that_of_onnx_written_as_loops(down, across, auto_pad, seed) -> None:
    (h, r, stride_h), (w, s, stride_w) = down, across
    conv = ConvSpec(2, r, s, (stride_h, stride_w), padding=auto_pad)
    inputs = inputs_of(pipeline := PipelineSpec(1, h, w, 3, conv), seed)
    rows, columns = onnx_axis(*down, auto_pad), onnx_axis(*across, auto_pad)
    expected = np.zeros((1, len(rows), len(columns), 2))
    for p, q, i, j in itertools.product(range(len(rows)), range(len(columns)), range(r), range(s)):
        row, column = rows[p][i], columns[q][j]
        if row is not None and column is not None:
            for c, k in np.ndindex(3, 2):
                tap = inputs.weights.filters[i, j, c, k]
                expected[0, p, q, k] += inputs.x[0, row, column, c] * tap
    np.testing.assert_allclose(oracle.compute(pipeline, inputs), expected, rtol=1e-12, atol=1e-12)


@given(
    axes, axes, st.sampled_from(["SAME_UPPER", "SAME_LOWER"]), st.none() | st.integers(1, 20),
    st.sampled_from(["max", "avg"]), st.integers(0, 100),
)  # fmt: skip
def test_a_pool_is_that_of_onnx_written_as_loops(down, across, auto_pad, divisor, op, seed) -> None:
    """With PyTorch's divisor_override, which ONNX lacks."""
    divisor = divisor if op == "avg" else None
    pool = PoolSpec(op, (down[1], across[1]), (down[2], across[2]), auto_pad,
                    divisor_override=divisor)  # fmt: skip
    inputs = inputs_of(pipeline := PipelineSpec(1, down[0], across[0], 2, pool=pool), seed)
    rows, columns = onnx_axis(*down, auto_pad), onnx_axis(*across, auto_pad)
    expected = np.zeros((1, len(rows), len(columns), 2))
    for p, q, c in np.ndindex(len(rows), len(columns), 2):
        seen = [
            inputs.x[0, row, column, c]
            for row, column in itertools.product(rows[p], columns[q])
            if row is not None and column is not None
        ]
        expected[0, p, q, c] = max(seen) if op == "max" else sum(seen) / (divisor or len(seen))
    np.testing.assert_allclose(oracle.compute(pipeline, inputs), expected, rtol=1e-12, atol=1e-12)


@given(pipeline=pipelines(), seed=st.integers(0, 1000))
@settings(max_examples=300)
def test_every_stage_is_that_of_pytorch(pipeline: PipelineSpec, seed: int) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: it is only a peer here")
    functional = torch.nn.functional
    inputs = inputs_of(pipeline, seed)
    x, filters, bias = inputs.x, inputs.weights.filters, inputs.weights.bias
    expected = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    if (conv := pipeline.conv) is not None:
        rows, columns = pipeline.conv_windows
        # Given explicitly: PyTorch's "same" has no strides, and pads both sides by one number.
        pads = (columns.before, columns.after, rows.before, rows.after)
        expected = functional.conv2d(
            functional.pad(expected, pads),
            torch.from_numpy(np.ascontiguousarray(filters.transpose(3, 2, 0, 1))),
            stride=conv.stride, dilation=conv.dilation, groups=conv.groups,
        )  # fmt: skip
    if bias is not None:
        expected = expected + torch.from_numpy(bias)[:, None, None]
    if (pool := pipeline.pool) is not None:
        expected = torch_pool(functional, expected, pipeline, pool)
    got = oracle.compute(pipeline, inputs)
    assert tuple(expected.shape) == tuple(np.array(pipeline.output_shape)[[0, 3, 1, 2]])
    np.testing.assert_allclose(got.transpose(0, 3, 1, 2), expected.numpy(), rtol=1e-10, atol=1e-10)


def torch_pool(functional, x, pipeline: PipelineSpec, pool: PoolSpec):
    """PyTorch's own padding and ceil mode where it has them: symmetric, at most half a window."""
    given_ = pool.padding if isinstance(pool.padding, tuple) else (0, 0, 0, 0)
    symmetric = given_[0] == given_[1] and given_[2] == given_[3]
    small = 2 * given_[0] <= pool.window[0] and 2 * given_[2] <= pool.window[1]
    assume(pool.padding in {"VALID", given_} and symmetric and small)
    pads = (given_[0], given_[2])
    if pool.op == "max":
        return functional.max_pool2d(
            x, pool.window, pool.stride, pads, pool.dilation, ceil_mode=pool.ceil_mode
        )
    assume(pool.dilation == (1, 1))
    return functional.avg_pool2d(
        x, pool.window, pool.stride, pads, pool.ceil_mode, pool.count_include_pad,
        pool.divisor_override,
    )  # fmt: skip


def test_a_pool_that_pytorch_refuses_is_refused() -> None:
    with pytest.raises(SpecError, match="Pad by less"):
        PipelineSpec(1, 4, 4, 1, pool=PoolSpec("max", 2, 2, (2, 2, 2, 2)))
