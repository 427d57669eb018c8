"""Intervals and tests of ratios: against SciPy, against numbers by hand, and in the long run."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from convbench.comparing import stats
from convbench.comparing.stats import (
    LEAST_DEVIATION,
    TRIMMED,
    benjamini_hochberg,
    between_groups,
    geometric_mean,
    intervals,
    p_values,
    paired,
    powers,
    ratios,
    smallest_effects,
)

TIME = st.floats(1e-7, 1e3)
TIMES = st.lists(TIME, min_size=2, max_size=8)


def draw(rng, cells, processes, spread, factor=1.0, heavy=False):
    """Process medians: log-normal, or with the tails of Student's t with 3 degrees."""
    shape = (cells, processes)
    noise = rng.standard_t(3, shape) / math.sqrt(3) if heavy else rng.standard_normal(shape)
    return (factor * 1e-3 * np.exp(spread * noise)).tolist()


def claimed(base, head, minimum_effect=0.005, q=0.05):
    """Which cells of one comparison are claimed to have changed."""
    return benjamini_hochberg(p_values(ratios(base, head), minimum_effect)) <= q


@pytest.fixture
def figure(capsys, request):
    """Print a line that is seen without -s."""

    def show(text):
        with capsys.disabled():
            request.config.get_terminal_writer().line(f"\n{text}")

    return show


# -- One comparison --------------------------------------------------------------------------------


def test_by_hand():
    # Logarithms 0, 0.2 and 0.3, 0.5: means 0.1 and 0.4, variances 0.02, so 0.01 + 0.01 in all.
    found = ratios([[1.0, math.exp(0.2)]], [[math.exp(0.3), math.exp(0.5)]])
    assert found.log[0] == pytest.approx(0.3)
    assert found.error[0] == pytest.approx(math.sqrt(0.02))
    assert found.freedom[0] == pytest.approx(2.0)
    low, high = intervals(found, 0.95)
    assert low[0] == pytest.approx(math.exp(0.3 - 4.302653 * math.sqrt(0.02)))
    assert high[0] == pytest.approx(math.exp(0.3 + 4.302653 * math.sqrt(0.02)))


@pytest.mark.parametrize("processes", [2, 3, 5, 20])
def test_it_is_welchs_test_on_logarithms(processes):
    rng = np.random.default_rng(processes)
    base = draw(rng, 50, processes, 0.5)  # far above the least deviation
    head = draw(rng, 50, processes, 1.5, 1.05)
    found = ratios(base, head)
    expected = scipy.stats.ttest_ind(np.log(head), np.log(base), axis=1, equal_var=False)
    np.testing.assert_allclose(found.freedom, expected.df, rtol=1e-4)
    np.testing.assert_allclose(p_values(found, 0.0), expected.pvalue, rtol=1e-4)
    for confidence in (0.5, 0.9, 0.95):
        low, high = intervals(found, confidence)
        span = expected.confidence_interval(confidence)
        np.testing.assert_allclose(np.log(low), span.low, rtol=1e-4)
        np.testing.assert_allclose(np.log(high), span.high, rtol=1e-4)


def test_unequal_numbers_of_processes_have_no_more_freedom_than_twice_the_smaller():
    rng = np.random.default_rng(1)
    base, head = draw(rng, 200, 3, 0.03), draw(rng, 200, 9, 0.03)
    found = ratios(base, head)
    expected = scipy.stats.ttest_ind(np.log(head), np.log(base), axis=1, equal_var=False)
    np.testing.assert_allclose(found.freedom, np.minimum(expected.df, 4))
    np.testing.assert_allclose(found.log / found.error, expected.statistic)


def test_cells_may_differ_in_their_numbers_of_processes():
    base, head = [[1.0, 1.1], [2.0, 2.1, 2.2], [3.0]], [[1.0, 1.2, 1.3], [2.0, 2.3], [3.0, 3.3]]
    together = ratios(base, head)
    for i in range(3):
        alone = ratios([base[i]], [head[i]])
        for name in ("log", "error", "freedom"):
            np.testing.assert_allclose(getattr(alone, name)[0], getattr(together, name)[i])


def test_one_process_has_a_ratio_and_no_interval():
    found = ratios([[1.0], [1.0, 1.1]], [[1.5, 1.6], [1.5]])
    assert found.ratio[0] == pytest.approx(math.sqrt(1.5 * 1.6))
    for nothing in (found.error, found.freedom, *intervals(found, 0.95), p_values(found, 0.005)):
        assert np.isnan(nothing).all()
    assert np.isnan(smallest_effects(found, 0.05, 0.005, 0.8)).all()


def test_processes_that_agree_to_the_last_digit_do_not_prove_anything():
    found = ratios([[1.0, 1.0]], [[1.006, 1.006]])
    assert found.error[0] == pytest.approx(LEAST_DEVIATION)
    assert p_values(found, 0.005)[0] > 0.1


def test_no_cells_at_all():
    found = ratios([], [])
    assert found.log.shape == (0,)
    assert benjamini_hochberg(p_values(found, 0.005)).shape == (0,)
    assert intervals(found, 0.95)[0].shape == (0,)


@given(TIMES, TIMES, st.sampled_from([0.0, 0.005, 0.05]))
def test_exchanging_the_sides_inverts_the_ratio_and_keeps_the_p_value(base, head, effect):
    there, back = ratios([base], [head]), ratios([head], [base])
    low, high = intervals(there, 0.95)
    low_back, high_back = intervals(back, 0.95)
    np.testing.assert_allclose(there.log, -back.log, atol=1e-12)
    np.testing.assert_allclose(np.log(low), -np.log(high_back), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(np.log(high), -np.log(low_back), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(p_values(there, effect), p_values(back, effect), rtol=1e-6)


@given(TIMES, TIMES, st.floats(1e-3, 1e3))
def test_the_unit_of_time_does_not_matter(base, head, unit):
    plain = ratios([base], [head])
    scaled = ratios([[unit * t for t in base]], [[unit * t for t in head]])
    np.testing.assert_allclose(plain.log, scaled.log, atol=1e-9)
    np.testing.assert_allclose(plain.error, scaled.error, rtol=1e-6, atol=1e-9)


@given(TIMES, TIMES)
def test_what_is_claimed_lies_beyond_the_minimum_effect_with_its_interval(base, head):
    found = ratios([base], [head])
    low, high = intervals(found, 0.95)
    p = p_values(found, 0.005)[0]
    beyond = low[0] > 1.005 or high[0] < 1 / 1.005
    assert beyond == (p < 0.05) or p == pytest.approx(0.05)


# -- Many comparisons ------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_benjamini_hochberg_is_scipys(p):
    np.testing.assert_allclose(
        benjamini_hochberg(np.array(p)), scipy.stats.false_discovery_control(p), atol=1e-15
    )


def test_cells_without_a_p_value_do_not_count():
    adjusted = benjamini_hochberg(np.array([np.nan, 0.01, np.nan, 0.02]))
    np.testing.assert_allclose(adjusted, [np.nan, 0.02, np.nan, 0.02])


def test_the_geometric_mean_by_hand():
    base, head = [[1.0, 1.0], [4.0, 4.0]], [[1.0, 1.21], [4.0, 4.0]]
    mean = geometric_mean(base, head)
    # Rounds of head are 2 and 2.2, those of base are 2; the ratios are 1.1 and 1.
    assert mean.ratio[0] == pytest.approx(math.sqrt(1.1))
    rounds = ratios([[2.0, 2.0]], [[2.0, 2.2]])
    assert mean.error[0] == pytest.approx(rounds.error[0])
    assert mean.freedom[0] == pytest.approx(rounds.freedom[0])


@given(TIMES, TIMES)
def test_the_geometric_mean_of_one_cell_is_its_ratio(base, head):
    mean, alone = geometric_mean([base], [head]), ratios([base], [head])
    for name in ("log", "error", "freedom"):
        np.testing.assert_allclose(getattr(mean, name), getattr(alone, name), rtol=1e-6, atol=1e-9)


def test_the_geometric_mean_of_cells_with_unlike_numbers_of_rounds_uses_all_of_them():
    base, head = [[1.0, 1.0], [1.0, 1.0, 1.0]], [[1.0, 1.1], [2.0, 2.0, 2.6]]
    mean = geometric_mean(base, head)
    assert mean.log[0] == pytest.approx(ratios(base, head).log.mean())
    assert mean.freedom[0] <= 2
    nothing = geometric_mean([[1.0], [1.0, 2.0]], [[2.0], [2.0, 4.0]])
    assert nothing.ratio[0] == pytest.approx(2.0)
    assert np.isnan(nothing.error[0])


# -- In the long run -------------------------------------------------------------------------------


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize("processes", [(2, 2), (3, 3), (5, 5), (10, 10), (2, 10), (3, 8), (5, 10)])
def test_equal_code_is_called_different_less_often_than_promised(processes, heavy, figure):
    rng = np.random.default_rng([*processes, heavy])
    cells = 40_000
    base, head = (draw(rng, cells, n, 0.03, heavy=heavy) for n in processes)
    p = p_values(ratios(base, head), 0.005)
    alarms = {level: float((p < level).mean()) for level in (0.05, 0.01, 0.001)}
    tails = "t(3)" if heavy else "normal"
    shares = ", ".join(f"{share:.2%} at {level:g}" for level, share in alarms.items())
    figure(f"A/A, {processes[0]} and {processes[1]} processes, {tails}: {shares}")
    for level, share in alarms.items():
        assert share <= level


@pytest.mark.parametrize("shared", [0.0, 0.03])
def test_a_comparison_of_equal_code_claims_anything_less_often_than_promised(shared, figure):
    rng = np.random.default_rng(7)
    comparisons, cells = 2_000, 36
    # Some cells are ten times as noisy as others, and all of a process may be slow together.
    spread = np.tile(np.geomspace(0.005, 0.05, cells), comparisons)[:, None]
    sides = [
        np.array(draw(rng, comparisons * cells, 5, spread))
        * np.repeat(np.exp(shared * rng.standard_normal((comparisons, 5))), cells, axis=0)
        for _ in range(2)
    ]
    p = p_values(ratios(*(side.tolist() for side in sides)), 0.005)
    any_claim = np.mean([(benjamini_hochberg(row) <= 0.05).any() for row in p.reshape(-1, cells)])
    kind = "shared" if shared else "fresh"
    figure(f"A/A comparisons of {cells} cells, {kind} processes: {any_claim:.1%} claim anything")
    assert any_claim <= 0.05


@pytest.mark.parametrize(
    ("spread", "processes", "least"),
    [(0.01, 5, 1.0), (0.02, 5, 0.95), (0.03, 5, 0.5), (0.03, 10, 0.99)],
)
def test_a_planted_slow_down_is_found(spread, processes, least, figure):
    rng = np.random.default_rng(11)
    comparisons, cells, planted = 200, 36, 4
    factor = np.where(np.arange(cells) < planted, 1.10, 1.0)[:, None]
    found, false = [], []
    for _ in range(comparisons):
        slower = claimed(
            draw(rng, cells, processes, spread), draw(rng, cells, processes, spread, factor)
        )
        found.append(slower[:planted].mean())
        false.append(slower[planted:].sum() / max(slower.sum(), 1))
    figure(
        f"+10 % in {planted} of {cells} cells, {processes} processes a side, {spread:.0%} apart:"
        f" {np.mean(found):.1%} found; of what was claimed, {np.mean(false):.1%} is false"
    )
    assert np.mean(found) >= least
    assert np.mean(false) <= 0.05


def test_intervals_cover_the_truth_as_often_as_promised(figure):
    rng = np.random.default_rng(3)
    found = ratios(draw(rng, 40_000, 5, 0.02), draw(rng, 40_000, 5, 0.04, 1.07))
    low, high = intervals(found, 0.95)
    covered = float(((low <= 1.07) & (high >= 1.07)).mean())
    figure(f"95 % intervals that hold the true ratio: {covered:.1%}")
    assert 0.945 <= covered <= 0.97


@pytest.mark.parametrize("shared", [0.0, 0.03])
def test_the_interval_of_the_geometric_mean_covers_the_truth(shared, figure):
    """Also where all cells of a process are slow together, as they are if it runs them all."""
    rng = np.random.default_rng(5)
    factors = np.array([0.9, 1.0, 1.1, 1.3])
    truth, hits, repeats = float(np.exp(np.log(factors).mean())), 0, 2_000
    for _ in range(repeats):
        together = np.exp(shared * rng.standard_normal((2, 1, 5)))
        base = (draw(rng, 4, 5, 0.03) * together[0]).tolist()
        head = (draw(rng, 4, 5, 0.03, factors[:, None]) * together[1]).tolist()
        low, high = intervals(geometric_mean(base, head), 0.95)
        hits += bool(low[0] <= truth <= high[0])
    kind = "of shared" if shared else "of fresh"
    figure(
        f"95 % intervals of geometric means {kind} processes: {hits / repeats:.1%} hold the truth"
    )
    assert 0.94 <= hits / repeats <= 0.98


def test_the_smallest_effect_is_found_about_as_often_as_it_says(figure):
    rng = np.random.default_rng(13)
    cells = 20_000
    seen = smallest_effects(
        ratios(draw(rng, cells, 6, 0.03), draw(rng, cells, 6, 0.03)), 0.05, 0.005, 0.8
    )
    effect = float(np.median(seen))
    planted = ratios(draw(rng, cells, 6, 0.03), draw(rng, cells, 6, 0.03, 1 + effect))
    power = float((p_values(planted, 0.005) <= 0.05).mean())
    figure(f"of slow-downs by the smallest effect, {effect:.1%}, found: {power:.1%}")
    assert 0.7 <= power <= 0.85


def test_the_power_of_the_smallest_effect_is_what_was_asked_for():
    found = paired([[0.01, 0.03, 0.02, 0.05], [0.1, -0.2, 0.15], [0.1]])
    for power in (0.5, 0.8, 0.95):
        seen = smallest_effects(found, 0.01, 0.005, power)[:2].tolist()
        each = powers(found, 0.01, 0.005, seen)
        assert np.diag(each[:2]) == pytest.approx([power] * 2)
    assert np.isnan(each[2]).all()  # of one pair nobody knows


def test_slow_downs_are_shown_about_as_often_as_the_power_says(figure):
    rng = np.random.default_rng(5)
    effects = (0.01, 0.02, 0.03)
    noise = rng.normal(0, 0.02, (4000, 12))
    said = powers(paired(noise), 0.05, 0.005, effects).mean(axis=0)
    for effect, power in zip(effects, said, strict=True):
        planted = paired(noise + np.log1p(effect))
        found = float(((p_values(planted, 0.005) <= 0.05) & (planted.log > 0)).mean())
        figure(f"of slow-downs by {effect:.0%} of 12 pairs found: {found:.1%}, said: {power:.1%}")
        assert found == pytest.approx(power, abs=0.06)


@pytest.mark.parametrize("sizes", [(5, 7), (16, 9), (24, 40)])
def test_two_groups_are_compared_as_yuen_does(sizes):
    rng = np.random.default_rng(sizes[0])
    before, after = (rng.normal(i / 50, 0.02, size) for i, size in enumerate(sizes))
    found = between_groups([before.tolist()], [after.tolist()])
    # SciPy leaves out a share, and we one of eight.
    theirs = scipy.stats.ttest_ind(after, before, equal_var=False, trim=1 / TRIMMED)
    low, high = np.log(intervals(found, 0.95))
    expected = theirs.confidence_interval(0.95)
    assert (low[0], high[0]) == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_importing_it_loads_no_scipy():
    code = "import sys, convbench.comparing.stats; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not {"scipy", "pandas", "rich", "tensorflow", "cupy"} & set(done.stdout.split())


def test_deciding_does_not_load_the_slow_part_of_scipy():
    code = (
        "import sys; from convbench.comparing.stats import *\n"
        "p_values(ratios([[1., 2.]], [[1., 2.]]), 0.1)\n"
        "print('scipy.stats' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"
    assert stats.LEAST_DEVIATION < 0.005
