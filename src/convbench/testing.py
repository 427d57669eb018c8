"""A conformance suite for backends, to be run by pytest in the repository of the backend.

Three lines are a whole test module::

    from convbench.testing import conformance_suite
    from my_package.convbench import MyBackend

    TestMyBackend = conformance_suite(MyBackend)

What the backend declares in its ``capabilities`` decides what is expected. What it declares to be
missing must be refused with Unsupported, what it declares to deviate may be wrong for those fills,
and everything else must be right: within the bound, and bit for bit where the sums are exact. A
declaration that no longer holds fails as stale. Random pipelines that are declared to be missing
are drawn again, and a property for which nothing else can be drawn is skipped with the reason. It
needs pytest and hypothesis, which ``pip install "convbench[testing]"`` brings.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, reject, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

from convbench.backends.base import Backend, Hole, HoleKind
from convbench.backends.compute import compute
from convbench.correctness.accuracy import Accuracy, accuracy_of, refer_for
from convbench.errors import BackendUnavailable, SpecError, Unsupported
from convbench.stimulus.arrays import Array
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
        reject()


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
    none = pytest.param(None, id="none", marks=pytest.mark.skip(reason="it declares no holes"))
    holes = [pytest.param(hole, id=hole.what) for hole in capabilities.holes] or [none]

    class Suite(_AgainstTheOracle, _Declarations, _Arrays, _Properties):
        @pytest.fixture(scope="class", params=targets)
        @classmethod
        def opened(cls, request: pytest.FixtureRequest) -> Backend:
            """Open each target; one that is not here is skipped with the reason."""
            device, variant = request.param
            try:
                return backend(device, variant)
            except BackendUnavailable as error:
                pytest.skip(str(error))

        @pytest.fixture(params=holes)
        @classmethod
        def hole(cls, request: pytest.FixtureRequest) -> Hole:
            """Each declared hole."""
            hole: Hole = request.param
            return hole

    Suite.__name__ = Suite.__qualname__ = f"Test{backend.__name__}"
    return Suite


def _property(**strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Any]:
    """Try a test on random pipelines; skip it if all of them are declared to be missing."""
    random = settings(
        max_examples=EXAMPLES,
        deadline=None,  # a slow example is not a wrong one
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )

    def decorate(test: Callable[..., None]) -> Any:
        on_examples = random(given(pipeline=pipelines(), **strategies)(test))

        @functools.wraps(on_examples)
        def on_any_example(self: object, opened: Backend) -> None:
            try:
                on_examples(self, opened=opened)
            except Unsatisfiable:
                missing = [h for h in opened.capabilities.holes if h.kind is HoleKind.MISSING]
                if not missing:
                    raise
                declared = "; ".join(map(str, missing))
                pytest.skip(f"every example is declared to be missing: {declared}")

        return on_any_example

    return decorate


class _AgainstTheOracle:
    """Right, wherever nothing else is declared. Each test takes `opened`: a backend on a device."""

    @pytest.mark.parametrize("dtype", FORMATS)
    @pytest.mark.parametrize("name", PROBES)
    def test_probe(self, opened: Backend, name: str, dtype: str) -> None:
        """A shape that nobody likes, with every fill."""
        for fill in Fill:
            _expect_right(opened, PROBES[name], dtype, fill)

    @_property(
        seed=st.integers(0, 2**32 - 1), fill=st.sampled_from(Fill), number=st.integers(0, 99)
    )
    def test_any_pipeline(
        self, opened: Backend, pipeline: PipelineSpec, seed: int, fill: Fill, number: int
    ) -> None:
        """A pipeline that nobody thought of."""
        dtypes = opened.capabilities.dtypes
        # An example is too good for what is not computed anyhow.
        dtypes = tuple(d for d in dtypes if not _missing(opened, pipeline, d)) or dtypes
        _expect_right(opened, pipeline, dtypes[number % len(dtypes)], fill, seed)


class _Declarations:
    """What the backend says of itself still holds."""

    def test_hole_is_needed(self, opened: Backend, hole: Hole) -> None:
        """What is declared is so on at least one of the probes.

        What is declared to be missing is built all the same. A hole because of which the process
        would end cannot be tried like that: deselect it, by its name.
        """
        inside = list(_in_the_hole(opened, hole))
        others = replace(
            opened.capabilities, holes=tuple(h for h in opened.capabilities.holes if h is not hole)
        )
        where = (opened.variant, opened.device)
        alone = [each for each in inside if others.missing(*each, *where) is None]
        if hole.kind is HoleKind.SLOW and inside:  # probes are small, and nothing is timed
            assert alone, f"stale: {hole}: all of it is declared to be missing, so take it out"
        elif not alone:
            pytest.skip(f"no probe is in this hole alone on {opened.device}: {hole}")
        else:
            fills = [fill for fill in Fill if not hole.fills or fill in hole.fills]
            assert any(_is_wrong(opened, hole, *each, fill) for each in alone for fill in fills), (
                f"stale: {hole}: it is right on every probe, so take it out"
            )

    def test_declared_sums_are_needed(self, opened: Backend) -> None:
        """Sums in another format widen every bound: at least one probe must need that."""
        declared = [
            (pipeline, dtype)
            for dtype in opened.capabilities.dtypes
            for pipeline in (*PROBES.values(), *SENSITIVE)
            if not _missing(opened, pipeline, dtype)
            and _sums(opened, pipeline, dtype) != format_of(dtype).accumulation
        ]
        if not declared:
            pytest.skip("it declares no sums in another format than the usual one")
        assert any(
            not _accuracy(opened, *each, fill, usual=True).ok
            for each in declared
            for fill in (Fill.NORMAL, Fill.INTEGERS)
        ), "stale: its sums in another format keep within the usual bound, so take them out"

    def test_holes_name_what_there_is(self, opened: Backend, hole: Hole) -> None:
        """A hole of a variant, device, dtype or fill that there is not is nowhere."""
        there = opened.capabilities
        assert {*hole.variants} <= {*there.variants}
        assert {*hole.devices} <= {*there.devices}
        assert {*hole.dtypes} <= {*there.dtypes}
        assert {*hole.fills} <= {*Fill}

    def test_versions_are_text(self, opened: Backend) -> None:
        """The evidence needs them."""
        versions = opened.versions()
        assert versions
        assert all(isinstance(text, str) and text for item in versions.items() for text in item)


class _Arrays:
    """What comes in, and what goes out."""

    @pytest.mark.parametrize("layout", _LAYOUTS)
    def test_layout(self, opened: Backend, layout: str) -> None:
        """The values count, and not how they lie in memory."""
        pipeline = _first_computed(opened, [replace(SENSITIVE[i], pool=None) for i in (1, 0)])
        plain = make_inputs(pipeline, _exact(opened), Fill.INTEGERS, 3)
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
        pipeline = _first_computed(opened, [SENSITIVE[number]])
        inputs = make_inputs(pipeline, _exact(opened), Fill.NORMAL, 0)
        run = opened.build(pipeline, inputs.weights)
        x = opened.to_device(inputs.x)
        first = run(x)
        kept = np.array(opened.to_numpy(first))
        run(opened.to_device(-2 * inputs.x))
        assert np.array_equal(opened.to_numpy(first), kept), "a second call changed the output"
        assert np.array_equal(opened.to_numpy(run(x)), kept), "the run changed its input"
        assert run.algorithm, "a run has to say what computes it"


class _Properties:
    """What holds whatever the numbers are, and needs no oracle. Integers are exact."""

    @_property(seed=st.integers(0, 1000))
    def test_linear(self, opened: Backend, pipeline: PipelineSpec, seed: int) -> None:
        """Without a bias and a pool, f(a + 3 b) = f(a) + 3 f(b)."""
        assume(pipeline.conv is not None)
        pipeline = replace(pipeline, bias=False, pool=None)
        a, b = _integers(opened, pipeline, seed), _integers(opened, pipeline, seed + 1)
        b = replace(a, x=b.x)
        both = replace(a, x=a.x + 3 * b.x)
        expected = _output(opened, pipeline, a) + 3 * _output(opened, pipeline, b)
        assert np.array_equal(_output(opened, pipeline, both), expected)

    @_property(seed=st.integers(0, 1000))
    def test_batch_permuted(self, opened: Backend, pipeline: PipelineSpec, seed: int) -> None:
        """The images do not know of each other."""
        inputs = _integers(opened, pipeline, seed)
        reversed_ = replace(inputs, x=inputs.x[::-1].copy())
        expected = _output(opened, pipeline, inputs)[::-1]
        assert np.array_equal(_output(opened, pipeline, reversed_), expected)

    @_property(seed=st.integers(0, 1000), axis=st.sampled_from([1, 2]))
    def test_shifted_by_one_stride(
        self, opened: Backend, pipeline: PipelineSpec, seed: int, axis: int
    ) -> None:
        """Without padding, an input that is shifted by one stride shifts the output by one."""
        if pipeline.conv is None:
            reject()
        conv = replace(pipeline.conv, padding="VALID")
        try:
            pipeline = replace(pipeline, conv=conv, pool=None)
        except SpecError:
            reject()
        inputs = _integers(opened, pipeline, seed)
        shifted = replace(inputs, x=np.roll(inputs.x, -conv.stride[axis - 1], axis))
        before = np.moveaxis(_output(opened, pipeline, inputs), axis, 0)
        after = np.moveaxis(_output(opened, pipeline, shifted), axis, 0)
        # The last window may read what was rolled in from the other side.
        assert np.array_equal(after[:-1], before[1:])

    @pytest.mark.parametrize("groups", [1, 2])
    def test_one_hot_gives_the_flipped_filter(self, opened: Backend, groups: int) -> None:
        """A single 1 in the input is answered by every tap that sees it."""
        conv = ConvSpec(4, 3, 5, groups=groups, padding=(2, 2, 4, 4))
        pipeline = _first_computed(opened, [PipelineSpec(1, 1, 1, 6, conv)])
        inputs = make_inputs(pipeline, _exact(opened), Fill.INTEGERS, 0)
        filters = inputs.weights.filters
        assert filters is not None
        depth = 6 // groups
        for channel in range(6):
            x = np.zeros_like(inputs.x)
            x[..., channel] = 1
            got = _output(opened, pipeline, replace(inputs, x=x))[0]
            group = slice(channel // depth * 4 // groups, (channel // depth + 1) * 4 // groups)
            expected = np.zeros((3, 5, 4), x.dtype)
            expected[..., group] = filters[::-1, ::-1, channel % depth, group]
            assert np.array_equal(got, expected)

    @_property(seed=st.integers(0, 1000))
    def test_groups_are_split_and_concatenated(
        self, opened: Backend, pipeline: PipelineSpec, seed: int
    ) -> None:
        """A grouped convolution is one convolution a group, side by side."""
        if pipeline.conv is None or pipeline.conv.groups == 1:
            reject()
        conv, groups = pipeline.conv, pipeline.conv.groups
        pipeline = replace(pipeline, bias=False, pool=None)
        inputs = _integers(opened, pipeline, seed)
        weights = inputs.weights
        assert weights.filters is not None
        depth, each = pipeline.c // groups, conv.k // groups
        alone = replace(pipeline, c=depth, conv=replace(conv, k=each, groups=1))
        _assume_computed(opened, alone)
        parts = []
        for group in range(groups):
            filters = weights.filters[..., group * each : (group + 1) * each].copy()
            x = inputs.x[..., group * depth : (group + 1) * depth].copy()
            parts.append(_output(opened, alone, Inputs(x, replace(weights, filters=filters))))
        assert np.array_equal(_output(opened, pipeline, inputs), np.concatenate(parts, axis=3))

    @_property(seed=st.integers(0, 1000))
    def test_pool_commutes_with_a_monotone_map(
        self, opened: Backend, pipeline: PipelineSpec, seed: int
    ) -> None:
        """max(2 x + 1) = 2 max(x) + 1."""
        assume(pipeline.pool is not None and pipeline.pool.op == "max")
        n, h, w, c = pipeline.conv_shape
        pipeline = PipelineSpec(n, h, w, c, pool=pipeline.pool)
        inputs = _integers(opened, pipeline, seed)
        mapped = replace(inputs, x=2 * inputs.x + 1)
        expected = 2 * _output(opened, pipeline, inputs) + 1
        assert np.array_equal(_output(opened, pipeline, mapped), expected)


# -- what is declared ------------------------------------------------------------------------------


def _missing(opened: Backend, pipeline: PipelineSpec, dtype: str) -> str | None:
    return opened.capabilities.missing(pipeline, dtype, opened.variant, opened.device)


def _exact(opened: Backend) -> str:
    """A format in which the properties hold bit for bit: sums of small integers fit into it."""
    found = [dtype for dtype in ("float32", "float64") if dtype in opened.capabilities.dtypes]
    if not found:
        pytest.skip("it computes neither float32 nor float64")
    return found[0]


def _assume_computed(opened: Backend, pipeline: PipelineSpec) -> None:
    """Draw another example if this one is declared to be missing."""
    assume(_missing(opened, pipeline, _exact(opened)) is None)


def _integers(opened: Backend, pipeline: PipelineSpec, seed: int) -> Inputs:
    """Draw the inputs of an example, if it is one that the backend computes."""
    _assume_computed(opened, pipeline)
    return make_inputs(pipeline, _exact(opened), Fill.INTEGERS, seed)


def _first_computed(opened: Backend, candidates: Sequence[PipelineSpec]) -> PipelineSpec:
    """The first that is not declared to be missing; skip the test if all of them are."""
    reasons = {pipeline: _missing(opened, pipeline, _exact(opened)) for pipeline in candidates}
    for pipeline, reason in reasons.items():
        if reason is None:
            return pipeline
    pytest.skip("; ".join(dict.fromkeys(filter(None, reasons.values()))))


def _in_the_hole(opened: Backend, hole: Hole) -> Iterator[tuple[PipelineSpec, str]]:
    """Each probe and dtype by which a hole can be judged here."""
    where = (opened.variant, opened.device, next(iter(hole.fills), ""))
    if hole.kind is HoleKind.SLOW:
        hole = replace(hole, above_flops=-1.0)
    for dtype in opened.capabilities.dtypes:
        if hole.kind is HoleKind.MISSING and format_of(dtype).storage != dtype:
            # A way to multiply, and none to store: what plain float32 gives is right in TF32 too,
            # so that a right result does not show that there is such a way.
            continue
        for pipeline in (*PROBES.values(), *SENSITIVE):
            if hole.covers(pipeline, dtype, *where):
                yield pipeline, dtype


def _is_wrong(opened: Backend, hole: Hole, pipeline: PipelineSpec, dtype: str, fill: Fill) -> bool:
    """Whether a result is wrong, or cannot be had, if nobody asks what is declared."""
    try:
        with mock.patch.object(opened, "check"):
            return not _accuracy(opened, pipeline, dtype, fill).ok
    except Exception:
        if hole.kind is not HoleKind.MISSING:
            raise
        return True


def _sums(opened: Backend, pipeline: PipelineSpec, dtype: str) -> str:
    """The format in which a run says that it adds."""
    run = opened.build(pipeline, make_inputs(pipeline, dtype, Fill.NORMAL, 0).weights)
    return run.accumulation or format_of(dtype).accumulation


# -- computing -------------------------------------------------------------------------------------


def _output(backend: Backend, pipeline: PipelineSpec, inputs: Inputs) -> Array:
    return compute(backend, pipeline, inputs).output


def _accuracy(
    backend: Backend,
    pipeline: PipelineSpec,
    dtype: str,
    fill: Fill,
    seed: int = 0,
    *,
    usual: bool = False,
) -> Accuracy:
    """Compute one cell, after a run on nan, and hold it against the oracle.

    What a later call gives is held against it, too. `usual` is the bound of the format, whatever
    the backend declares of its sums.
    """
    inputs = make_inputs(pipeline, dtype, fill, seed)
    before = inputs.x.tobytes()
    computed = compute(backend, pipeline, inputs, poison=True)
    assert inputs.x.tobytes() == before, "the input was modified"
    assert computed.output.dtype == np.dtype(format_of(dtype).storage)
    accumulation = None if usual else computed.accumulation
    expected = refer_for(pipeline, inputs, fill, accumulation)
    outputs = (computed.output, computed.second)
    found = [accuracy_of(output, expected) for output in outputs if output is not None]
    return max(found, key=lambda accuracy: accuracy.ratio)


def _expect_right(
    backend: Backend, pipeline: PipelineSpec, dtype: str, fill: Fill, seed: int = 0
) -> None:
    if _missing(backend, pipeline, dtype) is not None:
        with pytest.raises(Unsupported):
            backend.build(pipeline, make_inputs(pipeline, dtype, fill, seed).weights)
        return
    accuracy = _accuracy(backend, pipeline, dtype, fill, seed)
    where = (backend.variant, backend.device, fill)
    if backend.capabilities.hole(HoleKind.DEVIATES, pipeline, dtype, *where) is not None:
        return  # test_hole_is_needed asks whether it is ever wrong
    assert accuracy.ok, f"{pipeline} {dtype} {fill}: error / bound {accuracy.ratio} {accuracy}"
