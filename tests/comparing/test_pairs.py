"""Decisions while pairs come in: what they cost in false alarms, and what they find."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from convbench.comparing import pairs
from convbench.comparing.comparison import Rule
from convbench.comparing.pairs import LEAST_PAIRS, Monitor, State, adjusted_p_values
from convbench.comparing.stats import winsorised

RULE = Rule(delta=0.02)
LEAST = math.log1p(RULE.minimum_effect)


def fed(values, rule=RULE, cells=1, budget=40, *, ended=True):
    """A cell that was given these pairs, as long as it wanted any."""
    monitor = Monitor(rule, cells)
    for number, value in enumerate(values):
        if not monitor.open or number >= budget:
            break
        monitor.add(number, float(value), (number + 1) / budget)
    if ended:
        monitor.finish()
    return monitor


def test_all_of_the_error_is_spent_when_the_budget_is():
    assert pairs.spent(0) == 0
    assert pairs.spent(1) == pytest.approx(pairs.ERROR)
    assert pairs.spent(7) == pairs.spent(1)


@given(st.floats(0, 1), st.floats(0, 1))
def test_what_is_spent_only_grows(one, other):
    assert (pairs.spent(one) <= pairs.spent(other)) == (one <= other) or one == pytest.approx(other)


def test_nothing_is_said_of_few_pairs():
    assert fed([0.5] * (LEAST_PAIRS - 1)).state is State.OPEN


def test_equal_pairs_are_equivalent_and_different_ones_are_claimed():
    chance = np.random.default_rng(1)
    assert fed(chance.normal(0, 0.002, 40)).state is State.EQUIVALENT
    slower = fed(chance.normal(0.1, 0.002, 40))
    assert slower.state is State.DIFFERENT
    assert adjusted_p_values([slower]) == [slower.p_value]
    ratio, low, high = slower.estimate
    assert 1.09 < low < ratio < high < 1.12


def test_what_fresh_pairs_do_not_show_is_not_claimed():
    """The first pairs are slower by 10 %, those after the flag by nothing."""
    monitor = Monitor(RULE, 1)
    chance = np.random.default_rng(2)
    number = 0
    while monitor.state is not State.FLAGGED:
        monitor.add(number, chance.normal(0.1, 0.003), 0.2)
        number += 1
    while monitor.state is State.FLAGGED:
        monitor.add(number, chance.normal(0, 0.003), 0.4)
        number += 1
    assert monitor.state is State.OPEN
    assert adjusted_p_values([monitor]) == [1.0]
    assert len(monitor.counted) == number


def test_fresh_pairs_of_the_other_sign_do_not_confirm():
    monitor = Monitor(RULE, 1)
    for number in range(200):
        monitor.add(number, (0.1 if not monitor.fresh and monitor.state is State.OPEN else -0.1)
                    + 1e-3 * (-1) ** number, number / 200)  # fmt: skip
        if monitor.fresh:
            assert monitor.p_value == 1.0
        if number > 60:
            break


@pytest.mark.parametrize("deviation", [0.003, 0.01])
@pytest.mark.parametrize("shape", ["normal", "heavy", "skewed"])
def test_few_equal_cells_are_flagged_and_none_is_claimed(deviation, shape):
    """In 2000 cells of noise; what is flagged must be within the error, up to chance."""
    chance = np.random.default_rng(3)
    draw = {
        "normal": lambda n: chance.normal(0, 1, n),
        "heavy": lambda n: chance.standard_t(3, n) / 3**0.5,
        "skewed": lambda n: chance.exponential(1, n) - 1,
    }[shape]
    flagged = claimed = 0
    for _ in range(2000):
        monitor = Monitor(RULE, 36)
        was_flagged = False
        for number, value in enumerate(deviation * draw(40)):
            if not monitor.open:
                break
            monitor.add(number, value, (number + 1) / 40)
            was_flagged |= monitor.state is State.FLAGGED
        monitor.finish()
        was_flagged |= monitor.state is State.FLAGGED
        flagged += was_flagged
        claimed += monitor.p_value <= 0.05
    assert flagged <= scipy_stats.binom.isf(1e-4, 2000, pairs.ERROR)
    assert claimed <= 1


@pytest.mark.parametrize("sign", [1, -1])
def test_a_cell_on_the_edge_is_seldom_equivalent(sign):
    chance = np.random.default_rng(4)
    edge = sign * math.log1p(RULE.delta)
    same = sum(fed(chance.normal(edge, 0.006, 40)).state is State.EQUIVALENT for _ in range(2000))
    assert same <= scipy_stats.binom.isf(1e-4, 2000, pairs.ERROR)


def test_of_many_cells_that_differ_a_little_the_order_of_benjamini_and_hochberg_decides():
    chance = np.random.default_rng(5)
    found = [fed(chance.normal(0.03, 0.008, 60), cells=20, budget=60) for _ in range(20)]
    p = adjusted_p_values(found)
    raw = np.array([monitor.p_value for monitor in found])
    assert p == pytest.approx(scipy_stats.false_discovery_control(raw).tolist())


@given(
    st.lists(st.floats(-0.2, 0.2), min_size=2, max_size=30).filter(
        lambda values: np.std(winsorised(np.array(values))) > 0.002
    )
)
def test_the_interval_of_what_is_open_is_that_of_the_trimmed_mean(values):
    """As SciPy has it; it trims shares, of which one that is a little more is meant."""
    monitor = Monitor(RULE, 1, first=dict(enumerate(values)))
    ratio, low, high = monitor.estimate
    share = len(values) // 8 / len(values) + 1e-9
    expected = scipy_stats.mstats.trimmed_mean_ci(values, (share, share), alpha=pairs.ERROR)
    assert math.log(ratio) == pytest.approx(scipy_stats.trim_mean(values, share))
    assert (math.log(low), math.log(high)) == pytest.approx(tuple(expected))


def test_one_pair_that_is_far_off_does_not_decide():
    chance = np.random.default_rng(8)
    values = chance.normal(0, 0.005, 24)
    values[3] = 0.6
    assert fed(values, budget=24).state is State.EQUIVALENT


def test_pairs_to_go_leads_to_a_decision():
    chance = np.random.default_rng(6)
    values = chance.normal(0, 0.02, 400)
    monitor = fed(values[:10], budget=400, ended=False)
    assert monitor.open
    more = monitor.pairs_to_go()
    assert 10 < more < 390
    for number in range(10, 10 + 3 * more):
        if monitor.open:
            monitor.add(number, values[number], (number + 1) / 400)
    assert monitor.state is State.EQUIVALENT


def test_the_mean_over_cells_that_share_all_pairs_is_that_of_the_means_of_the_pairs():
    chance = np.random.default_rng(7)
    values = chance.normal(0.05, 0.02, (6, 12)) + chance.normal(0, 0.05, 12)
    ratio, low, high = pairs.geometric_mean([dict(enumerate(cell)) for cell in values], 0.95)
    by_pair = np.array([winsorised(cell) for cell in values]).mean(axis=0)
    expected = scipy_stats.t.interval(0.95, 11, by_pair.mean(), scipy_stats.sem(by_pair))
    assert math.log(ratio) == pytest.approx(by_pair.mean())
    assert (math.log(low), math.log(high)) == pytest.approx(expected)


def test_the_mean_of_one_pair_has_no_interval():
    assert pairs.geometric_mean([{1: 0.1}, {1: 0.3}], 0.95) == (
        pytest.approx(math.exp(0.2)),
        None,
        None,
    )
