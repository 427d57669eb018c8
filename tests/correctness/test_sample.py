"""A sample of an output is held to the same rule as the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convbench import ConvSpec, PipelineSpec, PoolSpec
from convbench.correctness.accuracy import accuracy_of, refer_for
from convbench.correctness.sample import sample
from convbench.stimulus.formats import Fill
from convbench.stimulus.inputs import make_inputs
from convbench.testing import pipelines

LARGE = PipelineSpec(
    4, 40, 38, 8, ConvSpec(16, 3, 3, padding="SAME"), True, PoolSpec("max", (3, 2), (2, 2), "SAME")
)


@given(
    pipeline=pipelines(),
    fill=st.sampled_from(Fill),
    seed=st.integers(0, 1000),
)
@settings(max_examples=300)
def test_at_a_position_it_is_what_it_is_in_the_whole(pipeline, fill, seed) -> None:
    inputs = make_inputs(pipeline.with_batch(max(pipeline.n, 1)), "float32", fill, seed)
    pipeline = pipeline.with_batch(max(pipeline.n, 1))
    random = np.random.RandomState(seed)
    positions = tuple(random.randint(0, size, 12) for size in pipeline.output_shape[:3])
    whole = refer_for(pipeline, inputs, fill)
    part = refer_for(pipeline, inputs, fill, positions=positions)
    scale = max(1.0, float(np.abs(np.nan_to_num(whole.output, posinf=0, neginf=0)).max()))
    for got, expected in ((part.output, whole.output), (part.bound, whole.bound)):
        np.testing.assert_allclose(got[:, 0, 0], expected[positions], rtol=1e-9, atol=1e-13 * scale)


def test_a_sample_has_the_corners_and_edges() -> None:
    n, p, q, _ = LARGE.output_shape
    positions = sample(LARGE, 0, flops=2e6)
    assert positions is not None
    chosen = set(zip(*(axis.tolist() for axis in positions), strict=True))
    assert {(i, j, k) for i in (0, n - 1) for j in (0, p - 1) for k in (0, q - 1)} <= chosen
    assert len(chosen) == len(positions[0]) >= 256
    for axis, size in ((1, p), (2, q)):
        for edge in (0, size - 1):
            assert sum(position[axis] == edge for position in chosen) > 20
    assert {position[0] for position in chosen} == set(range(n))
    assert all((a == b).all() for a, b in zip(positions, sample(LARGE, 0, 2e6), strict=True))
    assert sample(LARGE, 0) is None, "an output that costs little is checked whole"


def test_an_error_at_a_sampled_position_is_named_by_its_place_in_the_whole() -> None:
    inputs = make_inputs(LARGE, "float32", Fill.NORMAL, 0)
    positions = sample(LARGE, 0, flops=2e6)
    expected = refer_for(LARGE, inputs, Fill.NORMAL, positions=positions)
    right = refer_for(LARGE, inputs, Fill.NORMAL).output.astype("f4")
    assert accuracy_of(right, expected).ok
    where = (*(int(axis[7]) for axis in positions), 5)
    right[where] += 1
    worst = accuracy_of(right, expected)
    assert worst.index == where
    assert (worst.wrong, worst.of) == (1, len(positions[0]) * 16)


def test_the_chance_of_missing_a_fault_is_what_is_said() -> None:
    """A fault in 3 % of the positions is missed no more often than (1 - 0.03)**samples."""
    n, p, q, _ = LARGE.output_shape
    random = np.random.RandomState(0)
    missed = 0
    for seed in range(400):
        positions = sample(LARGE, seed, flops=1)
        faulty = random.random_sample((n, p, q)) < 0.01
        missed += not faulty[positions].any()
    expected = 400 * 0.99 ** len(positions[0])
    assert missed <= expected + 4 * np.sqrt(expected)


@pytest.mark.parametrize("n", [0, 1])
def test_small_batches(n: int) -> None:
    assert sample(LARGE.with_batch(n), 0) is None
