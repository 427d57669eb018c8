"""Every target that is present computes every pipeline, within the bound and bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from convbench import ConvSpec, PipelineSpec, PoolSpec, Unsupported
from convbench.accuracy import compare, is_exact, refer
from convbench.backends.base import Backend, Weights
from convbench.inputs import Fill, Inputs, make_inputs
from convbench.numerics import FORMATS
from convbench.running import compute
from convbench.workloads import load, select

from ..specs import pipelines

ROWS = load(Path(__file__).parents[2] / "benchmarks" / "workloads.toml")

NOBODY_LIKES = {
    "1x1 input": PipelineSpec(1, 1, 1, 3, ConvSpec(5, 1, 1), True),
    "1x1 input, SAME": PipelineSpec(2, 1, 1, 3, ConvSpec(5, 3, 2, padding="SAME")),
    "filter as large as the input": PipelineSpec(2, 7, 5, 3, ConvSpec(4, 7, 5), True),
    "filter larger before padding": PipelineSpec(
        1, 2, 3, 2, ConvSpec(3, 5, 4, padding=(2, 1, 1, 2))
    ),
    "stride over filter": PipelineSpec(2, 11, 13, 3, ConvSpec(4, 2, 1, (3, 5)), True),
    "dilation with stride": PipelineSpec(2, 13, 11, 3, ConvSpec(4, 3, 2, (2, 3), (2, 3)), True),
    "dilation, SAME": PipelineSpec(1, 7, 9, 2, ConvSpec(3, 3, 3, (1, 1), (3, 2), 1, "SAME")),
    "one channel": PipelineSpec(3, 7, 5, 1, ConvSpec(1, 3, 2, (2, 1), (1, 1), 1, "SAME"), True),
    "primes": PipelineSpec(3, 11, 7, 5, ConvSpec(13, 3, 5, (2, 3), (1, 1), 1, (1, 2, 3, 1)), True),
    "one row": PipelineSpec(2, 1, 9, 3, ConvSpec(4, 1, 3, (1, 2)), True, PoolSpec("max", (1, 2))),
    "one column": PipelineSpec(2, 9, 1, 3, ConvSpec(4, 3, 1, (2, 1)), True),
    "one filter a group": PipelineSpec(2, 6, 5, 6, ConvSpec(3, 3, 2, groups=3), True),
    "groups": PipelineSpec(2, 6, 7, 6, ConvSpec(9, 2, 3, (2, 1), (1, 2), 3, "SAME"), True),
    "depthwise": PipelineSpec(2, 7, 8, 5, ConvSpec(5, 3, 2, (2, 1), (1, 1), 5, "SAME"), True),
    "depthwise, multiplier": PipelineSpec(1, 7, 8, 3, ConvSpec(6, 3, 3, (1, 2), (2, 1), 3), True),
    "depthwise, dilated": PipelineSpec(1, 9, 8, 3, ConvSpec(3, 3, 2, (1, 1), (2, 3), 3, "SAME")),
    "zero batch": PipelineSpec(0, 5, 5, 3, ConvSpec(6, 3, 3), True, PoolSpec("avg", 2)),
    "zero batch, 1x1": PipelineSpec(0, 5, 5, 3, ConvSpec(6, 1, 1)),
    "zero batch, depthwise": PipelineSpec(0, 5, 5, 3, ConvSpec(3, 3, 3, groups=3)),
    "1x1 with padding": PipelineSpec(1, 3, 4, 2, ConvSpec(3, 1, 1, padding=(1, 0, 2, 1)), True),
    "1x1 with stride": PipelineSpec(2, 7, 6, 3, ConvSpec(4, 1, 1, (3, 2)), True),
    "windows over the edge": PipelineSpec(1, 5, 7, 3, pool=PoolSpec("max", 3, 2, (1, 1, 2, 2))),
    "average over the edge": PipelineSpec(1, 5, 7, 3, pool=PoolSpec("avg", 3, 2, "SAME")),
    "average counts the edge": PipelineSpec(
        1, 5, 7, 3, pool=PoolSpec("avg", 3, 2, (1, 1, 2, 2), count_include_pad=True)
    ),
    "ceil mode": PipelineSpec(1, 6, 8, 3, pool=PoolSpec("avg", 3, 2, (1, 1, 0, 1), 1, True, True)),
    "dilated pool": PipelineSpec(1, 9, 8, 3, pool=PoolSpec("max", (2, 3), (1, 2), "SAME", (3, 2))),
    "1x1 pool": PipelineSpec(1, 4, 5, 3, pool=PoolSpec("max", 1, 2)),
    "bias alone": PipelineSpec(2, 3, 4, 5, bias=True),
    "bias and pool": PipelineSpec(2, 4, 6, 5, bias=True, pool=PoolSpec("avg", 2)),
}


def check(backend: Backend, pipeline: PipelineSpec, dtype: str, fill: Fill, seed: int = 0) -> None:
    """Compute one cell and hold it against the oracle."""
    inputs = make_inputs(pipeline, dtype, fill, seed)
    before = inputs.x.copy()
    try:
        got = compute(backend, pipeline, inputs).output
    except Unsupported as hole:
        pytest.skip(str(hole))
    exact = is_exact(pipeline, dtype, fill)
    accuracy = compare(got, refer(pipeline, inputs, exact=exact))
    assert accuracy.ok, f"{pipeline} {dtype} {fill}: {accuracy.ratio} {accuracy}"
    assert got.dtype == dtype
    assert np.array_equal(inputs.x, before), "the input was modified"


@pytest.mark.parametrize("fill", Fill)
@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("name", NOBODY_LIKES)
def test_shapes_that_nobody_likes(backend: Backend, name: str, dtype: str, fill: Fill) -> None:
    check(backend, NOBODY_LIKES[name], dtype, fill)


@pytest.mark.parametrize("row", select(ROWS, "smoke"), ids=lambda row: row.name)
def test_smoke_workloads(backend: Backend, row) -> None:
    for dtype in FORMATS:
        for fill in Fill:
            check(backend, row.pipeline, dtype, fill)


@given(pipeline=pipelines(), seed=st.integers(0, 2**32 - 1), fill=st.sampled_from(Fill))
@example(pipeline=NOBODY_LIKES["groups"], seed=1, fill=Fill.INTEGERS)
@settings(max_examples=60)
def test_any_pipeline(backend: Backend, pipeline: PipelineSpec, seed: int, fill: Fill) -> None:
    check(backend, pipeline, "float32", fill, seed)


@pytest.mark.parametrize("row", select(ROWS, "standard"), ids=lambda row: row.name)
def test_integers_give_the_same_bits_on_every_standard_row(backend: Backend, row) -> None:
    """With exact sums, equal to the oracle bit for bit is equal to each other bit for bit."""
    if not is_exact(row.pipeline, "float32", Fill.INTEGERS):
        pytest.skip("an average over a number that is not a power of two is rounded")
    check(backend, row.pipeline, "float32", Fill.INTEGERS)


def layouts(x: np.ndarray) -> dict[str, np.ndarray]:
    """The same values, laid out in every way that a caller may come with."""
    wide = np.empty((*x.shape[:3], 2 * x.shape[3]), x.dtype)
    wide[..., ::2] = x
    read_only = x.copy()
    read_only.flags.writeable = False
    return {
        "strided": wide[..., ::2],
        "reversed": np.ascontiguousarray(x[:, ::-1, ::-1])[:, ::-1, ::-1],
        "Fortran": np.asfortranarray(x),
        "NCHW underneath": np.ascontiguousarray(x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1),
        "read-only": read_only,
        "big-endian": x.astype(x.dtype.newbyteorder(">")),
    }


@pytest.mark.parametrize(
    "layout", ["strided", "reversed", "Fortran", "NCHW underneath", "read-only", "big-endian"]
)
def test_layouts(backend: Backend, layout: str) -> None:
    pipeline = PipelineSpec(
        2, 7, 6, 4, ConvSpec(6, 3, 2, (2, 1), groups=2), True, PoolSpec("max", 2, 1)
    )
    plain = make_inputs(pipeline, "float32", Fill.INTEGERS, 3)
    assert plain.weights.filters is not None
    odd = Inputs(
        layouts(plain.x)[layout],
        Weights("float32", layouts(plain.weights.filters)[layout], plain.weights.bias),
    )
    before = odd.x.copy()
    got = compute(backend, pipeline, odd).output
    assert np.array_equal(got, compute(backend, pipeline, plain).output)
    assert np.array_equal(odd.x, before)


def test_every_call_returns_an_array_of_its_own(backend: Backend) -> None:
    for pipeline in NOBODY_LIKES.values():
        inputs = make_inputs(pipeline, "float32", Fill.NORMAL, 0)
        try:
            run = backend.build(pipeline, inputs.weights)
        except Unsupported:
            continue
        first = run(backend.to_device(inputs.x))
        kept = np.array(backend.to_numpy(first))
        run(backend.to_device(-2 * inputs.x))
        assert np.array_equal(backend.to_numpy(first), kept), pipeline
        assert run.algorithm


def test_versions_are_text(backend: Backend) -> None:
    versions = backend.versions()
    assert versions
    assert all(isinstance(v, str) and v for item in versions.items() for v in item)
