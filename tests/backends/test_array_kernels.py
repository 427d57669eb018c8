"""The kernels that CuPy computes with, cut into blocks of every size, on NumPy arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convbench import ConvSpec, PipelineSpec
from convbench.backends import array_kernels
from convbench.correctness.accuracy import accuracy_of, refer_for
from convbench.stimulus.formats import Fill
from convbench.stimulus.inputs import make_inputs
from convbench.testing import pipelines


@given(
    pipeline=pipelines(),
    fill=st.sampled_from(Fill),
    block_bytes=st.sampled_from([0, 500, 3000, 1 << 28]),
    fewest=st.sampled_from([1, 20]),
)
@settings(max_examples=300)
def test_blocks_change_nothing(pipeline, fill, block_bytes, fewest) -> None:
    inputs = make_inputs(pipeline, "float32", fill, 0)
    with pytest.MonkeyPatch.context() as patch:
        # With the real minimum, shapes as small as these are one block whatever the size asked for.
        patch.setattr(array_kernels, "_FEWEST_GEMM_ROWS", fewest)
        run = array_kernels.build(np, pipeline, inputs.weights, block_bytes)
    with np.errstate(invalid="ignore"):
        output = run(inputs.x)
    accuracy = accuracy_of(output, refer_for(pipeline, inputs, fill))
    assert accuracy.ok, f"{run.algorithm}: {accuracy}"


@pytest.mark.parametrize(
    ("conv", "algorithm"),
    [
        (ConvSpec(6, 1, 1), "1x1 GEMM"),
        (ConvSpec(6, 1, 1, 2), "1x1 GEMM"),
        (ConvSpec(6, 1, 1, padding=(1, 0, 0, 0)), "im2col"),
        (ConvSpec(6, 3, 3), "im2col"),
        (ConvSpec(6, 3, 3, groups=3), "depthwise tap sum"),
        (ConvSpec(6, 1, 1, groups=3), "depthwise tap sum"),
    ],
)
def test_the_algorithm_is_named(conv: ConvSpec, algorithm: str) -> None:
    pipeline = PipelineSpec(1, 5, 6, 3, conv)
    weights = make_inputs(pipeline, "float32", Fill.NORMAL, 0).weights
    assert array_kernels.build(np, pipeline, weights, 1 << 20).algorithm == algorithm


@given(n=st.integers(0, 5), p=st.integers(1, 9), rows=st.integers(-1, 30))
def test_blocks_cover_every_row_once(n: int, p: int, rows: int) -> None:
    covered = np.zeros((n, p), int)
    for n0, n1, p0, p1 in array_kernels.blocks(n, p, rows):
        assert n1 - n0 == 1 or (p0, p1) == (0, p), "a block must be contiguous"
        assert (n1 - n0) * (p1 - p0) <= max(rows, 1)
        covered[n0:n1, p0:p1] += 1
    assert (covered == 1).all()
