"""What is known of schemes that save multiplications: by hand, and against the definition."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convbench import ConvSpec, PipelineSpec, PoolSpec
from convbench.backends.compute import Computed
from convbench.correctness import oracle
from convbench.correctness.accuracy import is_exact, refer, refer_for
from convbench.correctness.check import check
from convbench.correctness.sample import Positions
from convbench.correctness.schemes import SCHEMES, scheme_of
from convbench.correctness.verify import Check, Plan, exit_code, verify
from convbench.correctness.verify_text import render
from convbench.errors import ArrayError
from convbench.stimulus.arrays import Weights
from convbench.stimulus.formats import FORMATS, Fill
from convbench.stimulus.inputs import Inputs, make_inputs
from convbench.stimulus.targets import Target
from convbench.stimulus.workloads import Workload
from convbench.words.status import Status

from ..terminal import drawn

F2, F4 = SCHEMES
PIPELINE = PipelineSpec(
    2, 11, 9, 5, ConvSpec(7, 3, 3, padding=(2, 1, 0, 3)), True, PoolSpec("max", 3, 2, (1, 0, 1, 1))
)


def test_what_they_save_by_hand() -> None:
    """2 x 2 outputs of 9 products each from 16 of points, and 4 x 4 from 36."""
    assert [scheme.saves for scheme in SCHEMES.values()] == [4 * 9 / 16, 16 * 9 / 36]


@pytest.mark.parametrize("name", SCHEMES)
def test_the_transforms_give_a_convolution(name: str) -> None:
    b, g, a = SCHEMES[name].transforms
    random = np.random.RandomState(0)
    d, w = random.standard_normal(len(b)), random.standard_normal(3)
    expected = np.correlate(d, w, "valid")
    assert expected.shape == (SCHEMES[name].m,)
    assert np.allclose(a @ ((g @ w) * (b @ d)), expected, rtol=1e-12, atol=1e-12)


def test_the_deviation_of_a_tile_of_ones_by_hand() -> None:
    # F(2x2,3x3) on 4x4 ones with a filter of ones. |B^T| has two entries a row, so |V| is 4 at all
    # points; |G| gives 1, 3/2, 3/2, 1 along an axis, of which an output takes one 1 and both 3/2:
    # the squares of |U| |V| add up to 16 (1 + 9/4 + 9/4)^2 = 484. B^T itself gives 2 at the second
    # row and column alone, so that M is 9 there and zero elsewhere.
    pipeline = PipelineSpec(1, 4, 4, 1, ConvSpec(1, 3, 3))
    ones = Inputs(np.ones((1, 4, 4, 1)), Weights("float64", np.ones((3, 3, 1, 1))))
    found = SCHEMES[F2].deviations(pipeline, ones, None, least=0.0, coarser=0.0)
    variance = (1 + 3 * (2**2 + 3**2 + 1)) * 484 + 3**2 * 9**2
    assert np.allclose(found[0, :, :, 0], math.sqrt(variance), rtol=1e-14)
    # Two factors of 11 bits, where the sums have 24: 2^13 times as coarse.
    coarse = SCHEMES[F2].deviations(pipeline, ones, None, least=0.0, coarser=2.0**13)
    assert np.allclose(coarse[0, :, :, 0], math.sqrt(variance + 2 * 2**26 * 484), rtol=1e-14)


@pytest.mark.parametrize("name", SCHEMES)
def test_the_bound_adds_one_store(name: str) -> None:
    pipeline = replace(PIPELINE, pool=None)
    inputs = make_inputs(pipeline, "float32", Fill.NORMAL, 0)
    fmt = FORMATS["float32"]
    u, tiny = fmt.unit_roundoff, fmt.tiny
    exact = inputs.in_float64()
    of_scheme = SCHEMES[name].deviations(pipeline, exact, None, tiny, 0.0)
    of_store = oracle.conv_and_bias(pipeline, exact.each(np.abs))
    found = refer(pipeline, inputs, scheme=name, confidence=3.0)
    assert np.allclose(found.bound, 3 * u * of_scheme + u * of_store + tiny, rtol=1e-12)


@pytest.mark.parametrize("pool", [None, PIPELINE.pool])
@pytest.mark.parametrize("name", SCHEMES)
def test_some_positions_have_the_bounds_of_the_whole(name: str, pool: PoolSpec | None) -> None:
    pipeline = replace(PIPELINE, pool=pool)
    inputs = make_inputs(pipeline, "float32", Fill.ADVERSARIAL, 0)
    whole = refer_for(pipeline, inputs, Fill.ADVERSARIAL, scheme=name)
    n, p, q, _ = pipeline.output_shape
    positions: Positions = tuple(each.ravel() for each in np.indices((n, p, q)))
    some = refer_for(pipeline, inputs, Fill.ADVERSARIAL, None, positions, name)
    assert np.allclose(some.bound[:, 0, 0], whole.bound[positions], rtol=1e-12)


@given(power=st.integers(-1000, 900), name=st.sampled_from(list(SCHEMES)))
@settings(max_examples=20, deadline=None)
def test_numbers_near_the_ends_of_float64_are_judged_alike(power: int, name: str) -> None:
    pipeline = replace(PIPELINE, pool=None)
    exact = make_inputs(pipeline, "float64", Fill.NORMAL, 0)
    scaled = replace(exact, x=exact.x * 2.0**power)
    found = SCHEMES[name].deviations(pipeline, scaled, None, 0.0, 0.0)
    usual = SCHEMES[name].deviations(pipeline, exact, None, 0.0, 0.0)
    assert np.allclose(found * 2.0**-power, usual, rtol=1e-9)


def test_which_integers_are_exact() -> None:
    def exact(channels: int, name: str | None, fill: Fill = Fill.INTEGERS) -> bool:
        return is_exact(
            PipelineSpec(1, 4, 4, channels, ConvSpec(1, 3, 3)), "float32", fill, None, name
        )

    assert exact(2000, None)
    # 64 C 8^2 in quarters stays below 2^24 up to 1023 channels, and with 1024 it is 2^24.
    assert exact(1023, F2)
    assert not exact(1024, F2)
    assert not exact(1, F4)  # which divides by 6
    assert not exact(1, F2, Fill.DENORMAL)  # of whose smallest there is no quarter


@pytest.mark.parametrize(
    ("scheme", "pipeline", "why"),
    [
        ("winograd F(9x9,3x3)", PIPELINE, "expected one of winograd F"),
        (F4, replace(PIPELINE, conv=ConvSpec(7, 3, 3, 2)), "cannot be computed so"),
        (F4, PipelineSpec(1, 4, 4, 1, bias=True), "cannot be computed so"),
    ],
)
def test_a_scheme_that_cannot_be_is_refused(scheme, pipeline, why) -> None:
    with pytest.raises(ArrayError, match=why):
        scheme_of(scheme, pipeline)


@pytest.mark.parametrize("name", SCHEMES)
def test_check_judges_somebody_elses_output_by_a_scheme(name: str) -> None:
    pipeline = PipelineSpec(1, 12, 13, 6, ConvSpec(5, 3, 3, padding="SAME"), True)
    inputs = make_inputs(pipeline, "float32", Fill.NORMAL, 0)
    w, bias = inputs.weights.filters, inputs.weights.bias
    found = check(tiled(name, pipeline, inputs), pipeline, inputs.x, w, bias, scheme=name)
    assert found.ok
    assert 0.005 < found.accuracy.ratio < 0.5
    assert found.arithmetic == f"float32, added in float32, by {name}"
    flipped = tiled(
        name, pipeline, replace(inputs, weights=replace(inputs.weights, filters=w[::-1, ::-1]))
    )
    found = check(flipped, pipeline, inputs.x, w, bias, scheme=name)
    assert [cause.name for cause in found.causes] == ["flipped_filters"]
    with pytest.raises(ArrayError, match="the scheme is"):
        check(flipped, pipeline, inputs.x, w, bias, scheme="winograd")


def tiled(name: str, pipeline: PipelineSpec, inputs: Inputs) -> np.ndarray:
    """Winograd's method in float32, a tile after the other."""
    b, g, a = (matrix.astype("f4") for matrix in SCHEMES[name].transforms)
    m, side = len(a), len(b)
    n, p, q, k = pipeline.conv_shape
    u = np.einsum("ir,js,rsck->ijck", g, g, inputs.weights.filters, optimize=True)
    padded = np.pad(inputs.x, ((0, 0), (1, side), (1, side), (0, 0)))
    y = np.empty((n, p + m, q + m, k), "f4")
    for row in range(0, p, m):
        for column in range(0, q, m):
            d = padded[:, row : row + side, column : column + side]
            v = np.einsum("ip,jq,npqc->nijc", b, b, d, optimize=True)
            sums = np.einsum("nijc,ijck->nijk", v, u)
            tile = np.einsum("ri,sj,nijk->nrsk", a, a, sums, optimize=True)
            y[:, row : row + m, column : column + m] = tile
    return y[:, :p, :q] + inputs.weights.bias


# -- What verify makes of it -----------------------------------------------------------------------

ROW = Workload("a.b", PIPELINE, "smoke", "here")


def checks(scheme: str | None, change=lambda y: y, fills=(Fill.INTEGERS,)) -> list[Check]:
    """Of somebody who returns the oracle's output, rounded and changed, and names a scheme."""

    class Somebody:
        def __init__(self, *_: object) -> None: ...

        def __enter__(self):
            return self

        def __exit__(self, *_: object) -> None: ...

        def compute(self, task) -> Computed:
            y = oracle.compute(task.pipeline, task.inputs).astype("f4")
            return Computed(change(y), "a kernel", scheme=scheme)

    plan = Plan([ROW], {Target("mine", "", "cpu"): None}, ("float32",), fills)
    return list(verify(plan, Somebody))


def test_verify_judges_by_the_scheme_that_is_declared_and_says_so() -> None:
    def off(y):
        return y * np.float32(1 + 2**-23)

    (direct,) = checks(None, off)
    (exact,) = checks(F2, off)
    (rounded,) = checks(F4, off)
    assert (direct.status, direct.exact) == (Status.WRONG, True)
    assert (exact.status, exact.exact) == (Status.WRONG, True)
    assert (rounded.status, rounded.exact) == (Status.OK, False)
    assert rounded.scheme == F4
    assert rounded.declared == f"{F4}, own bound: by the usual bound it is inf"
    both = checks(F4, off, (Fill.INTEGERS, Fill.NORMAL))
    assert f"a.b float32 integers: {F4}, own bound" in drawn(render(both))
    assert exit_code(both) == 0
    assert exit_code(both, strict=True) == 2
    (wrong,) = checks(F4, lambda y: y + np.float32(0.01))
    assert wrong.status is Status.WRONG


def test_a_scheme_that_is_not_known_fails_its_cell() -> None:
    (check,) = checks("winograd F(9x9,3x3)")
    assert check.status is Status.FAILED
    assert "the scheme is 'winograd F(9x9,3x3)'" in check.reason
