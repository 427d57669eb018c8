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

The backend computes in a process of its own, one a target. Everything is judged in pytest's, which
reads nothing but bytes and plain values from there. What crashes or hangs fails the one test, and
the next has a new process. A process imports the class by its name, so that it has to stand at the
top level of a module on ``sys.path``.

To be given the class, pytest's process has to import its module. Where not even that is to be
trusted, name the place of the class instead::

    TestMyBackend = conformance_suite("my_package.convbench:MyBackend")

Whether a backend leaves its input and its earlier outputs alone can be seen in its process only, by
code of ours that it could replace: that finds mistakes, and no intentions.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import methodcaller
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, reject, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

from convbench.backends import find_class, open_class
from convbench.backends.base import Backend, Capabilities, Hole, HoleKind
from convbench.backends.compute import Computed
from convbench.correctness.accuracy import Accuracy, accuracy_of, is_exact, refer_for
from convbench.correctness.worker import Task, Worker, applies, built, declared
from convbench.errors import SpecError, Unavailability
from convbench.machine.failures import explain_at_length
from convbench.stimulus.arrays import Array, layouts
from convbench.stimulus.formats import FORMATS, Fill, format_of
from convbench.stimulus.inputs import Inputs, make_inputs
from convbench.stimulus.probes import PROBES, SENSITIVE
from convbench.stimulus.spec import ConvSpec, PipelineSpec, PoolOp, PoolSpec
from convbench.stimulus.targets import Target, kind_of
from convbench.words.status import Outcome, Status

EXAMPLES = int(os.environ.get("CONVBENCH_EXAMPLES", "50"))
"""Random pipelines per test and target; ``make fuzz`` asks for 2000."""

_pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
_dilations = st.tuples(st.integers(1, 3), st.integers(1, 2))


def _paddings(largest: int) -> st.SearchStrategy[Any]:
    pad = st.integers(0, largest)
    return st.sampled_from(["VALID", "SAME", "SAME_LOWER"]) | st.tuples(pad, pad, pad, pad)


@st.composite
def convs(draw: st.DrawFn) -> tuple[int, ConvSpec]:
    """Draw (input channels, convolution): dense, grouped, or depthwise with a multiplier."""
    groups = draw(st.integers(1, 4))
    channels = groups * draw(st.integers(1, 3))
    filters = groups * draw(st.integers(1, 3))
    taps = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    conv = ConvSpec(filters, *taps, draw(_pairs), draw(_dilations), groups, draw(_paddings(4)))
    return channels, conv


@st.composite
def pools(draw: st.DrawFn) -> PoolSpec:
    """Draw any pool, some averages with a divisor of their own."""
    op: PoolOp = draw(st.sampled_from(get_args(PoolOp)))
    return PoolSpec(
        op,
        window=draw(_pairs),
        stride=draw(_pairs),
        padding=draw(_paddings(2)),
        dilation=draw(_dilations),
        count_include_pad=draw(st.booleans()),
        ceil_mode=draw(st.booleans()),
        divisor_override=draw(st.none() | st.integers(1, 9)) if op == "avg" else None,
    )


@st.composite
def pipelines(draw: st.DrawFn) -> PipelineSpec:
    """Draw any pipeline that can be computed, with a batch of 0 to 3 and up to 11x13 pixels."""
    channels, conv = draw(convs() | st.tuples(st.integers(1, 5), st.none()))
    bias = draw(st.booleans())
    pool = draw(st.none() | pools())
    n, h, w = draw(st.integers(0, 3)), draw(st.integers(1, 11)), draw(st.integers(1, 13))
    try:
        return PipelineSpec(n, h, w, channels, conv, bias, pool)
    except SpecError:
        reject()


_LAYOUTS = tuple(layouts(np.zeros((1, 1, 1, 1))))


class Lost(BaseException):
    """The process of a backend ended during a test.

    It is no Exception, so that hypothesis looks for no smaller example: each would cost a process.
    """


class Opened:
    """A backend in a process of its own, and what it declares.

    Parameters
    ----------
    worker : Worker
        That of the process.
    there : mapping
        What :func:`convbench.correctness.worker.declared` says of the backend.
    """

    def __init__(self, worker: Worker, there: Mapping[str, Any]) -> None:
        self._worker = worker
        self.variant = worker.target.variant
        self.device = worker.target.device
        self.rounding: str | None = None
        """See :func:`_rounding`; None until somebody has asked."""
        self.capabilities = Capabilities(
            tuple(there["devices"]),
            tuple(there["dtypes"]),
            there["variants"],
            tuple(self._hole(number, hole) for number, hole in enumerate(there["holes"])),
        )

    def _hole(self, number: int, facts: Mapping[str, Any]) -> Hole:
        """A hole whose function is called in the process."""

        def asked(pipeline: PipelineSpec, dtype: str) -> bool:
            return self.ask(partial(applies, number, pipeline, dtype)) is True

        plain: dict[str, Any] = {k: tuple(v) if type(v) is list else v for k, v in facts.items()}
        return Hole(**plain | {"applies": asked, "kind": HoleKind(facts["kind"])})

    def ask(self, question: Callable[[Backend], object]) -> Any:
        """Have a function called with the backend; what goes wrong there is a failure here."""
        return _answered(self._worker.ask(question))

    def compute(self, task: Task) -> Computed:
        """Compute; likewise."""
        what = f"{task.pipeline} {task.inputs.weights.dtype}: "
        computed: Computed = _answered(self._worker.compute(task), what)
        return computed


def _answered(answer: Any, what: str = "") -> Any:
    """What a process answered, if that is not why it could not."""
    __tracebackhide__ = True
    if not isinstance(answer, Outcome):
        return answer
    said = f"{what}{answer.reason} {answer.remedy}".rstrip()
    raise Lost(said) if answer.process_lost else AssertionError(said)


def conformance_suite(
    backend: type[Backend] | str,
    devices: Sequence[str] | None = None,
    variants: Sequence[str] | None = None,
    timeout_s: float = 120.0,
) -> type:
    """Make a test class for a backend.

    Parameters
    ----------
    backend : subclass of Backend, or str
        At the top level of a module that any process can import; or its place,
        ``package.module:Class``, and this process does not import it.
    devices : sequence of str, optional
        ``cpu``, ``gpu:0``, ...; by default the first of each kind in its capabilities. One that
        is not present is skipped with the reason, and the tests of a GPU have the mark ``gpu``.
    variants : sequence of str, optional
        By default all of its capabilities.
    timeout_s : float
        An answer of the backend's process that takes longer is a failure.

    Returns
    -------
    type
        To be assigned to a name that pytest collects: ``TestMyBackend``.
    """
    if isinstance(backend, str):
        place = backend
        with Worker(Target(place, "", ""), timeout_s, opening=find_class) as worker:
            there = _answered(worker.ask(declared))
    else:
        place, there = f"{backend.__module__}:{backend.__qualname__}", declared(backend)
    named = devices or [d if d == "cpu" else f"{d}:0" for d in there["devices"]]
    targets = [
        pytest.param(
            Target(place, variant, device), id=str(Target(there["name"], variant, device)),
            marks=[pytest.mark.gpu] if kind_of(device) == "gpu" else [],
        )
        for device in named
        for variant in (there["variants"] if variants is None else variants)
    ]  # fmt: skip
    none = pytest.param(None, id="none", marks=pytest.mark.skip(reason="it declares no holes"))
    holes = [pytest.param(i, id=hole["what"]) for i, hole in enumerate(there["holes"])] or [none]
    absent: dict[str, Outcome] = {}
    """Devices that are not here: no other variant needs a process to say so."""

    class Suite(_AgainstTheOracle, _Declarations, _Arrays, _Properties):
        @pytest.fixture(scope="class", params=targets)
        @classmethod
        def opened(cls, request: pytest.FixtureRequest) -> Iterator[Opened]:
            """Open each target; one that is not here is skipped with the reason."""
            target: Target = request.param
            known = absent.get(target.device)
            with Worker(
                target, timeout_s, known, opening=open_class, explaining=explain_at_length
            ) as worker:
                absence = worker.start()
                if absence is not None and absence.status is Status.SKIPPED:
                    if absence.reason.startswith(Unavailability.NO_DEVICE):
                        absent[target.device] = absence
                    elif absence.reason.startswith(Unavailability.NOT_INSTALLED):
                        absent.update(dict.fromkeys(named, absence))
                    pytest.skip(f"{absence.reason}. {absence.remedy}")
                _answered(absence)
                yield Opened(worker, there)

        @pytest.fixture(params=holes)
        @classmethod
        def hole(cls, request: pytest.FixtureRequest, opened: Opened) -> Hole:
            """Each declared hole."""
            hole: Hole = opened.capabilities.holes[request.param]
            return hole

    Suite.__name__ = Suite.__qualname__ = f"Test{place.rpartition(':')[2]}"
    return Suite


def _property(
    *, bit_for_bit: bool = True, **strategies: st.SearchStrategy[Any]
) -> Callable[[Callable[..., None]], Any]:
    """Try a test on random pipelines; skip it if all of them are declared to be missing.

    What holds `bit_for_bit` is skipped, too, where the scheme of every run rounds integers.
    """
    random = settings(
        max_examples=EXAMPLES,
        deadline=None,  # a slow example is not a wrong one
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )

    def decorate(test: Callable[..., None]) -> Any:
        on_examples = random(given(pipeline=pipelines(), **strategies)(test))

        @functools.wraps(on_examples)
        def on_any_example(self: object, opened: Opened) -> None:
            if bit_for_bit and (scheme := _rounding(opened)):
                pytest.skip(f"integers are rounded by {scheme}, by which it computes everything")
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
    def test_probe(self, opened: Opened, name: str, dtype: str) -> None:
        """A shape that nobody likes, with every fill."""
        for fill in Fill:
            _expect_right(opened, PROBES[name], dtype, fill)

    @_property(
        bit_for_bit=False,
        seed=st.integers(0, 2**32 - 1),
        fill=st.sampled_from(Fill),
        number=st.integers(0, 99),
    )
    def test_any_pipeline(
        self, opened: Opened, pipeline: PipelineSpec, seed: int, fill: Fill, number: int
    ) -> None:
        """A pipeline that nobody thought of."""
        dtypes = opened.capabilities.dtypes
        # An example is too good for what is not computed anyhow.
        dtypes = tuple(d for d in dtypes if not _missing(opened, pipeline, d)) or dtypes
        _expect_right(opened, pipeline, dtypes[number % len(dtypes)], fill, seed)


class _Declarations:
    """What the backend says of itself still holds."""

    def test_hole_is_needed(self, opened: Opened, hole: Hole) -> None:
        """What is declared is so on at least one of the probes.

        What is declared to be missing is tried all the same. Where the process ends or hangs, it
        cannot be had.
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

    def test_declared_sums_are_needed(self, opened: Opened) -> None:
        """Sums in another format, or of a scheme, widen every bound: a probe must need that."""
        declared = [
            (pipeline, dtype)
            for dtype in opened.capabilities.dtypes
            for pipeline in (*PROBES.values(), *SENSITIVE)
            if not _missing(opened, pipeline, dtype) and not _is_usual(opened, pipeline, dtype)
        ]
        if not declared:
            pytest.skip("it declares no sums but those of the definition in the usual format")
        assert any(
            not _accuracy(opened, *each, fill, usual=True).ok
            for each in declared
            for fill in (Fill.NORMAL, Fill.INTEGERS, Fill.DENORMAL)
        ), "stale: its sums keep within the usual bound, so take their declaration out"

    def test_holes_name_what_there_is(self, opened: Opened, hole: Hole) -> None:
        """A hole of a variant, device, dtype or fill that there is not is nowhere."""
        there = opened.capabilities
        assert {*hole.variants} <= {*there.variants}
        assert {*hole.devices} <= {*there.devices}
        assert {*hole.dtypes} <= {*there.dtypes}
        assert {*hole.fills} <= {*Fill}

    def test_versions_are_text(self, opened: Opened) -> None:
        """The evidence needs them."""
        versions = opened.ask(methodcaller("versions"))
        assert versions
        assert all(isinstance(text, str) and text for item in versions.items() for text in item)


class _Arrays:
    """What comes in, and what goes out."""

    @pytest.mark.parametrize("layout", _LAYOUTS)
    def test_layout(self, opened: Opened, layout: str) -> None:
        """The values count, and not how they lie in memory."""
        pipeline = _first_computed(opened, [replace(SENSITIVE[i], pool=None) for i in (1, 0)])
        inputs = make_inputs(pipeline, _exact(opened), Fill.INTEGERS, 3)
        odd = opened.compute(Task(pipeline, inputs, layout=layout)).output
        assert np.array_equal(odd, _output(opened, pipeline, inputs)), (
            f"another layout ({layout}) gives another result"
        )

    @pytest.mark.parametrize("number", range(len(SENSITIVE)))
    def test_every_call_returns_an_array_of_its_own(self, opened: Opened, number: int) -> None:
        """A later call does not change an earlier output, nor the input."""
        pipeline = _first_computed(opened, [SENSITIVE[number]])
        inputs = make_inputs(pipeline, _exact(opened), Fill.NORMAL, 0)
        computed = opened.compute(Task(pipeline, inputs))
        assert not computed.later, "a later call on the same input gave another output"
        assert computed.algorithm, "a run has to say what computes it"


class _Properties:
    """What holds whatever the numbers are, and needs no oracle. Integers are exact."""

    @_property(seed=st.integers(0, 1000))
    def test_linear(self, opened: Opened, pipeline: PipelineSpec, seed: int) -> None:
        """Without a bias and a pool, f(a + 3 b) = f(a) + 3 f(b)."""
        assume(pipeline.conv is not None)
        pipeline = replace(pipeline, bias=False, pool=None)
        a, b = _integers(opened, pipeline, seed), _integers(opened, pipeline, seed + 1)
        b = replace(a, x=b.x)
        both = replace(a, x=a.x + 3 * b.x)
        expected = _output(opened, pipeline, a) + 3 * _output(opened, pipeline, b)
        assert np.array_equal(_output(opened, pipeline, both), expected)

    @_property(seed=st.integers(0, 1000))
    def test_batch_permuted(self, opened: Opened, pipeline: PipelineSpec, seed: int) -> None:
        """The images do not know of each other."""
        inputs = _integers(opened, pipeline, seed)
        reversed_ = replace(inputs, x=inputs.x[::-1].copy())
        expected = _output(opened, pipeline, inputs)[::-1]
        assert np.array_equal(_output(opened, pipeline, reversed_), expected)

    @_property(seed=st.integers(0, 1000), axis=st.sampled_from([1, 2]))
    def test_shifted_by_one_stride(
        self, opened: Opened, pipeline: PipelineSpec, seed: int, axis: int
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
    def test_one_hot_gives_the_flipped_filter(self, opened: Opened, groups: int) -> None:
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
        self, opened: Opened, pipeline: PipelineSpec, seed: int
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
        self, opened: Opened, pipeline: PipelineSpec, seed: int
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


def _missing(opened: Opened, pipeline: PipelineSpec, dtype: str) -> str | None:
    return opened.capabilities.missing(pipeline, dtype, opened.variant, opened.device)


def _exact(opened: Opened) -> str:
    """A format in which the properties hold bit for bit: sums of small integers fit into it."""
    found = [dtype for dtype in ("float32", "float64") if dtype in opened.capabilities.dtypes]
    if not found:
        pytest.skip("it computes neither float32 nor float64")
    return found[0]


def _assume_computed(opened: Opened, pipeline: PipelineSpec) -> None:
    """Draw another example if this one is declared to be missing."""
    assume(_missing(opened, pipeline, _exact(opened)) is None)


def _integers(opened: Opened, pipeline: PipelineSpec, seed: int) -> Inputs:
    """Draw the inputs of an example, if it is one that the backend computes."""
    _assume_computed(opened, pipeline)
    return make_inputs(pipeline, _exact(opened), Fill.INTEGERS, seed)


def _first_computed(opened: Opened, candidates: Sequence[PipelineSpec]) -> PipelineSpec:
    """The first that is not declared to be missing; skip the test if all of them are."""
    reasons = {pipeline: _missing(opened, pipeline, _exact(opened)) for pipeline in candidates}
    for pipeline, reason in reasons.items():
        if reason is None:
            return pipeline
    pytest.skip("; ".join(dict.fromkeys(filter(None, reasons.values()))))


def _in_the_hole(opened: Opened, hole: Hole) -> Iterator[tuple[PipelineSpec, str]]:
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


def _is_wrong(opened: Opened, hole: Hole, pipeline: PipelineSpec, dtype: str, fill: Fill) -> bool:
    """Whether a result is wrong, or cannot be had, if nobody asks what is declared."""
    inputs = make_inputs(pipeline, dtype, fill, 0)
    try:
        computed = opened.compute(Task(pipeline, inputs, undeclared=True))
        return not _held(computed, pipeline, inputs, fill).ok
    except (Exception, Lost):
        if hole.kind is not HoleKind.MISSING:
            raise
        return True


def _is_usual(opened: Opened, pipeline: PipelineSpec, dtype: str) -> bool:
    """Whether a run says that it computes the definition's sums, in the usual format."""
    weights = make_inputs(pipeline, dtype, Fill.NORMAL, 0).weights
    said = opened.ask(partial(built, pipeline, weights))
    return not said["scheme"] and said["accumulation"] in {None, format_of(dtype).accumulation}


def _rounding(opened: Opened) -> str:
    """The scheme that rounds integers and computes each probe that is not refused, if one does."""
    if opened.rounding is None:
        dtype, schemes = _exact(opened), set()
        for pipeline in (*SENSITIVE, *PROBES.values()):
            if _missing(opened, pipeline, dtype) is None:
                weights = make_inputs(pipeline, dtype, Fill.INTEGERS, 0).weights
                said = opened.ask(partial(built, pipeline, weights))
                how = said["accumulation"], said["scheme"]
                exact = not said["scheme"] or is_exact(pipeline, dtype, Fill.INTEGERS, *how)
                schemes.add("" if exact else said["scheme"])
                if exact:
                    break
        opened.rounding = "" if "" in schemes else ", ".join(sorted(schemes))
    return opened.rounding


# -- computing -------------------------------------------------------------------------------------


def _output(opened: Opened, pipeline: PipelineSpec, inputs: Inputs) -> Array:
    """The output on integers; another example if the scheme of the run rounds those."""
    computed = opened.compute(Task(pipeline, inputs, poison=False))
    dtype = inputs.weights.dtype
    how = computed.accumulation, computed.scheme
    if computed.scheme and not is_exact(pipeline, dtype, Fill.INTEGERS, *how):
        reject()
    return computed.output


def _accuracy(
    opened: Opened,
    pipeline: PipelineSpec,
    dtype: str,
    fill: Fill,
    seed: int = 0,
    *,
    usual: bool = False,
) -> Accuracy:
    """Compute one cell, after a run on nan, and hold it against the oracle."""
    inputs = make_inputs(pipeline, dtype, fill, seed)
    computed = opened.compute(Task(pipeline, inputs))
    return _held(computed, pipeline, inputs, fill, usual=usual)


def _held(
    computed: Computed, pipeline: PipelineSpec, inputs: Inputs, fill: Fill, *, usual: bool = False
) -> Accuracy:
    """Hold an output against the oracle, and what a later call gave.

    `usual` is the bound of the format, whatever the backend declares of its sums.
    """
    outputs = (computed.output, *computed.later)
    storage = np.dtype(format_of(inputs.weights.dtype).storage)
    assert {output.dtype for output in outputs} == {storage}
    how: dict[str, Any] = {}
    if not usual:
        how = {"accumulation": computed.accumulation, "scheme": computed.scheme}
    expected = refer_for(pipeline, inputs, fill, **how)
    found = [accuracy_of(output, expected) for output in outputs]
    return max(found, key=lambda accuracy: accuracy.ratio)


def _expect_right(
    opened: Opened, pipeline: PipelineSpec, dtype: str, fill: Fill, seed: int = 0
) -> None:
    if _missing(opened, pipeline, dtype) is not None:
        weights = make_inputs(pipeline, dtype, fill, seed).weights
        assert opened.ask(partial(built, pipeline, weights))["refused"] is not None, (
            f"{pipeline} {dtype} is declared to be missing: build has to raise Unsupported"
        )
        return
    accuracy = _accuracy(opened, pipeline, dtype, fill, seed)
    where = (opened.variant, opened.device, fill)
    if opened.capabilities.hole(HoleKind.DEVIATES, pipeline, dtype, *where) is not None:
        return  # test_hole_is_needed asks whether it is ever wrong
    assert accuracy.ok, f"{pipeline} {dtype} {fill}: error / bound {accuracy.ratio} {accuracy}"
