"""A conformance suite for backends, to be run by pytest in the repository of the backend.

Three lines are a whole test module::

    from convbench.testing import conformance_suite
    from my_package.convbench import MyBackend

    TestMyBackend = conformance_suite(MyBackend)

What the backend declares in its ``capabilities`` decides what is expected. A declared hole must be
refused with Unsupported; a declared deviation (a hole with `fills`) may be wrong for those fills,
and must be on at least one probe, or it is stale and fails. Everything else must be right: within
the bound, and bit for bit where the sums are exact. It needs pytest and hypothesis, which
``pip install "convbench[testing]"`` brings.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from convbench.backends.base import Backend
from convbench.backends.compute import compute
from convbench.correctness.accuracy import Accuracy, compare, refer_for
from convbench.errors import BackendUnavailable, SpecError, Unsupported
from convbench.stimulus.arrays import Array, Weights
from convbench.stimulus.formats import FORMATS, Fill, format_of
from convbench.stimulus.inputs import Inputs, make_inputs
from convbench.stimulus.probes import PROBES, SENSITIVE
from convbench.stimulus.spec import ConvSpec, PipelineSpec, PoolSpec

EXAMPLES = int(os.environ.get("CONVBENCH_EXAMPLES", "50"))
"""Random pipelines per test and target; ``make fuzz`` asks for 2000."""

_pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
_dilations = st.tuples(st.integers(1, 3), st.integers(1, 2))


def _paddings(largest: int) -> st.SearchStrategy[Any]:
    pad = st.integers(0, largest)
    return st.sampled_from(["VALID", "SAME"]) | st.tuples(pad, pad, pad, pad)


@st.composite
def convs(draw: st.DrawFn) -> tuple[int, ConvSpec]:
    """Draw (input channels, convolution): dense, grouped, or depthwise with a multiplier."""
    groups = draw(st.integers(1, 4))
    channels = groups * draw(st.integers(1, 3))
    filters = groups * draw(st.integers(1, 3))
    taps = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    conv = ConvSpec(filters, *taps, draw(_pairs), draw(_dilations), groups, draw(_paddings(4)))
    return channels, conv


pools = st.builds(
    PoolSpec,
    op=st.sampled_from(["max", "avg"]),
    window=_pairs,
    stride=_pairs,
    padding=_paddings(2),
    dilation=_dilations,
    count_include_pad=st.booleans(),
    ceil_mode=st.booleans(),
)


@st.composite
def pipelines(draw: st.DrawFn) -> PipelineSpec:
    """Draw any pipeline that can be computed, with a batch of 0 to 3 and up to 11x13 pixels."""
    channels, conv = draw(convs() | st.tuples(st.integers(1, 5), st.none()))
    bias = draw(st.booleans())
    pool = draw(st.none() | pools)
    n, h, w = draw(st.integers(0, 3)), draw(st.integers(1, 11)), draw(st.integers(1, 13))
    try:
        return PipelineSpec(n, h, w, channels, conv, bias, pool)
    except SpecError:
        assume(False)
        raise


def layouts(x: Array) -> dict[str, Array]:
    """The same values, laid out in every way that a caller may come with."""
    wide = np.zeros((*x.shape[:3], 2 * x.shape[3]), x.dtype)
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


_LAYOUTS = tuple(layouts(np.zeros((1, 1, 1, 1))))


def conformance_suite(
    backend: type[Backend],
    devices: Sequence[str] | None = None,
    variants: Sequence[str] | None = None,
) -> type:
    """Make a test class for a backend.

    Parameters
    ----------
    backend : subclass of Backend
    devices : sequence of str, optional
        ``cpu``, ``gpu:0``, ...; by default the first of each kind in its capabilities. One that
        is not present is skipped with the reason, and the tests of a GPU have the mark ``gpu``.
    variants : sequence of str, optional
        By default all of its capabilities.

    Returns
    -------
    type
        To be assigned to a name that pytest collects: ``TestMyBackend``.
    """
    capabilities = backend.capabilities
    if devices is None:
        devices = [d if d == "cpu" else f"{d}:0" for d in capabilities.devices]
    targets = [
        pytest.param(
            (device, variant), id=f"{backend.name}{'.' * bool(variant)}{variant}@{device}",
            marks=[pytest.mark.gpu] if device.startswith("gpu") else [],
        )
        for device in devices
        for variant in (capabilities.variants if variants is None else variants)
    ]  # fmt: skip

    class Suite(_Conformance):
        @pytest.fixture(scope="class", params=targets)
        @classmethod
        def opened(cls, request: pytest.FixtureRequest) -> Backend:
            """Open each target; one that is not here is skipped with the reason."""
            device, variant = request.param
            try:
                return backend(device, variant)
            except BackendUnavailable as error:
                pytest.skip(str(error))

    Suite.__name__ = Suite.__qualname__ = f"Test{backend.__name__}"
    return Suite


_random = settings(
    max_examples=EXAMPLES,
    deadline=None,  # a slow example is not a wrong one
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


class _Conformance:
    """The tests. Every one takes `opened`: a backend on a device."""

    # -- against the oracle ---------------------------------------------------------------------

    @pytest.mark.parametrize("dtype", FORMATS)
    @pytest.mark.parametrize("name", PROBES)
    def test_probe(self, opened: Backend, name: str, dtype: str) -> None:
        """A shape that nobody likes, with every fill."""
        for fill in Fill:
            _expect_right(opened, PROBES[name], dtype, fill)

    @given(
        pipeline=pipelines(),
        seed=st.integers(0, 2**32 - 1),
        fill=st.sampled_from(Fill),
        number=st.integers(0, 99),
    )
    @_random
    def test_any_pipeline(
        self, opened: Backend, pipeline: PipelineSpec, seed: int, fill: Fill, number: int
    ) -> None:
        """A pipeline that nobody thought of."""
        where = (opened.variant, opened.device)
        dtypes = [  # an example is too good for what is not computed anyhow
            dtype
            for dtype in opened.capabilities.dtypes
            if opened.capabilities.missing(pipeline, dtype, *where) is None
        ] or opened.capabilities.dtypes
        _expect_right(opened, pipeline, dtypes[number % len(dtypes)], fill, seed)

    def test_no_declared_deviation_is_stale(self, opened: Backend) -> None:
        """What is declared to be wrong is wrong on at least one of the probes."""
        probes = (*PROBES.values(), *SENSITIVE)
        for hole in opened.capabilities.holes:
            kind = opened.device.partition(":")[0]
            elsewhere = (hole.devices and kind not in hole.devices) or (
                hole.variants and opened.variant not in hole.variants
            )
            if not hole.fills or elsewhere:
                continue
            wrong = any(
                not _accuracy(opened, pipeline, dtype, Fill(fill)).ok
                for dtype in (hole.dtypes or opened.capabilities.dtypes)
                for fill in hole.fills
                for pipeline in probes
                if hole.applies(pipeline, dtype)
            )
            assert wrong, f"stale: {hole}: it is right on every probe, so take it out"

    # -- arrays ---------------------------------------------------------------------------------

    @pytest.mark.parametrize("layout", _LAYOUTS)
    def test_layout(self, opened: Backend, layout: str) -> None:
        """The values count, and not how they lie in memory."""
        pipeline = replace(SENSITIVE[1], pool=None)
        plain = make_inputs(pipeline, "float32", Fill.INTEGERS, 3)
        assert plain.weights.filters is not None
        odd = Inputs(
            layouts(plain.x)[layout],
            replace(plain.weights, filters=layouts(plain.weights.filters)[layout]),
        )
        before = odd.x.copy()
        assert np.array_equal(_output(opened, pipeline, odd), _output(opened, pipeline, plain)), (
            f"another layout ({layout}) gives another result"
        )
        assert np.array_equal(odd.x, before), "the input was modified"

    @pytest.mark.parametrize("number", range(len(SENSITIVE)))
    def test_every_call_returns_an_array_of_its_own(self, opened: Backend, number: int) -> None:
        """A later call does not change an earlier output, nor the input."""
        pipeline = SENSITIVE[number]
        inputs = make_inputs(pipeline, "float32", Fill.NORMAL, 0)
        run = opened.build(pipeline, inputs.weights)
        x = opened.to_device(inputs.x)
        first = run(x)
        kept = np.array(opened.to_numpy(first))
        run(opened.to_device(-2 * inputs.x))
        assert np.array_equal(opened.to_numpy(first), kept), "a second call changed the output"
        assert np.array_equal(opened.to_numpy(run(x)), kept), "the run changed its input"
        assert run.algorithm, "a run has to say what computes it"

    def test_versions_are_text(self, opened: Backend) -> None:
        """The evidence needs them."""
        versions = opened.versions()
        assert versions
        assert all(isinstance(text, str) and text for item in versions.items() for text in item)

    # -- properties that need no oracle -----------------------------------------------------------

    @given(pipeline=pipelines(), seed=st.integers(0, 1000))
    @_random
    def test_linear(self, opened: Backend, pipeline: PipelineSpec, seed: int) -> None:
        """Without a bias and a pool, f(a + 3 b) = f(a) + 3 f(b), exactly with integers."""
        assume(pipeline.conv is not None)
        pipeline = replace(pipeline, bias=False, pool=None)
        a = make_inputs(pipeline, "float32", Fill.INTEGERS, seed)
        b = replace(a, x=make_inputs(pipeline, "float32", Fill.INTEGERS, seed + 1).x)
        both = replace(a, x=a.x + 3 * b.x)
        expected = _output(opened, pipeline, a) + 3 * _output(opened, pipeline, b)
        assert np.array_equal(_output(opened, pipeline, both), expected)

    @given(pipeline=pipelines(), seed=st.integers(0, 1000))
    @_random
    def test_batch_permuted(self, opened: Backend, pipeline: PipelineSpec, seed: int) -> None:
        """The images do not know of each other."""
        inputs = make_inputs(pipeline, "float32", Fill.INTEGERS, seed)
        reversed_ = replace(inputs, x=inputs.x[::-1].copy())
        expected = _output(opened, pipeline, inputs)[::-1]
        assert np.array_equal(_output(opened, pipeline, reversed_), expected)

    @given(pipeline=pipelines(), seed=st.integers(0, 1000), axis=st.sampled_from([1, 2]))
    @_random
    def test_shifted_by_one_stride(
        self, opened: Backend, pipeline: PipelineSpec, seed: int, axis: int
    ) -> None:
        """Without padding, an input that is shifted by one stride shifts the output by one."""
        assume(pipeline.conv is not None)
        assert pipeline.conv is not None
        conv = replace(pipeline.conv, padding="VALID")
        try:
            pipeline = replace(pipeline, conv=conv, pool=None)
        except SpecError:
            assume(False)
        inputs = make_inputs(pipeline, "float32", Fill.INTEGERS, seed)
        shifted = replace(inputs, x=np.roll(inputs.x, -conv.stride[axis - 1], axis))
        before = np.moveaxis(_output(opened, pipeline, inputs), axis, 0)
        after = np.moveaxis(_output(opened, pipeline, shifted), axis, 0)
        # The last window may read what was rolled in from the other side.
        assert np.array_equal(after[:-1], before[1:])

    @pytest.mark.parametrize("groups", [1, 2])
    def test_one_hot_gives_the_flipped_filter(self, opened: Backend, groups: int) -> None:
        """A single 1 in the input is answered by every tap that sees it."""
        conv = ConvSpec(4, 3, 5, groups=groups, padding=(2, 2, 4, 4))
        pipeline = PipelineSpec(1, 1, 1, 6, conv)
        filters = make_inputs(pipeline, "float32", Fill.INTEGERS, 0).weights.filters
        assert filters is not None
        depth = 6 // groups
        for channel in range(6):
            x = np.zeros((1, 1, 1, 6), "float32")
            x[..., channel] = 1
            got = _output(opened, pipeline, Inputs(x, Weights("float32", filters)))[0]
            group = slice(channel // depth * 4 // groups, (channel // depth + 1) * 4 // groups)
            expected = np.zeros((3, 5, 4), "float32")
            expected[..., group] = filters[::-1, ::-1, channel % depth, group]
            assert np.array_equal(got, expected)

    @given(pipeline=pipelines(), seed=st.integers(0, 1000))
    @_random
    def test_groups_are_split_and_concatenated(
        self, opened: Backend, pipeline: PipelineSpec, seed: int
    ) -> None:
        """A grouped convolution is one convolution a group, side by side."""
        assume(pipeline.conv is not None and pipeline.conv.groups > 1)
        assert pipeline.conv is not None
        conv, groups = pipeline.conv, pipeline.conv.groups
        pipeline = replace(pipeline, bias=False, pool=None)
        inputs = make_inputs(pipeline, "float32", Fill.INTEGERS, seed)
        assert inputs.weights.filters is not None
        depth, each = pipeline.c // groups, conv.k // groups
        alone = replace(pipeline, c=depth, conv=replace(conv, k=each, groups=1))
        parts = []
        for group in range(groups):
            filters = inputs.weights.filters[..., group * each : (group + 1) * each].copy()
            x = inputs.x[..., group * depth : (group + 1) * depth].copy()
            parts.append(_output(opened, alone, Inputs(x, Weights("float32", filters))))
        assert np.array_equal(_output(opened, pipeline, inputs), np.concatenate(parts, axis=3))

    @given(pipeline=pipelines(), seed=st.integers(0, 1000))
    @_random
    def test_pool_commutes_with_a_monotone_map(
        self, opened: Backend, pipeline: PipelineSpec, seed: int
    ) -> None:
        """pool(2 x + 1) = 2 pool(x) + 1 where nothing is padded, exactly for a maximum."""
        assume(pipeline.pool is not None and pipeline.pool.op == "max")
        n, h, w, c = pipeline.conv_shape
        pipeline = PipelineSpec(n, h, w, c, pool=pipeline.pool)
        inputs = make_inputs(pipeline, "float32", Fill.INTEGERS, seed)
        mapped = replace(inputs, x=2 * inputs.x + 1)
        expected = 2 * _output(opened, pipeline, inputs) + 1
        assert np.array_equal(_output(opened, pipeline, mapped), expected)


def _output(backend: Backend, pipeline: PipelineSpec, inputs: Inputs) -> Array:
    try:
        return compute(backend, pipeline, inputs).output
    except Unsupported as hole:
        pytest.skip(str(hole))


def _accuracy(
    backend: Backend, pipeline: PipelineSpec, dtype: str, fill: Fill, seed: int = 0
) -> Accuracy:
    """Compute one cell, after a run on nan, and hold it against the oracle."""
    inputs = make_inputs(pipeline, dtype, fill, seed)
    before = inputs.x.tobytes()
    computed = compute(backend, pipeline, inputs, poison=True)
    assert inputs.x.tobytes() == before, "the input was modified"
    assert computed.output.dtype == np.dtype(format_of(dtype).storage)
    return compare(computed.output, refer_for(pipeline, inputs, fill, computed.accumulation))


def _expect_right(
    backend: Backend, pipeline: PipelineSpec, dtype: str, fill: Fill, seed: int = 0
) -> None:
    where = (backend.variant, backend.device)
    missing = backend.capabilities.missing(pipeline, dtype, *where)
    if missing is not None:
        with pytest.raises(Unsupported):
            backend.build(pipeline, make_inputs(pipeline, dtype, fill, seed).weights)
        return
    accuracy = _accuracy(backend, pipeline, dtype, fill, seed)
    if backend.capabilities.deviation(pipeline, dtype, fill, *where) is not None:
        return  # test_no_declared_deviation_is_stale asks whether it is ever wrong
    assert accuracy.ok, f"{pipeline} {dtype} {fill}: error / bound {accuracy.ratio} {accuracy}"
