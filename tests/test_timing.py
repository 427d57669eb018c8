"""The sampling loop, on a clock that only the timed call moves."""

from __future__ import annotations

import itertools
import statistics

import pytest

from convbench import timing
from convbench.timing import measure


class Clock:
    """Time that passes in calls alone, each as long as the next of `durations_s`."""

    def __init__(self, durations_s):
        self.now_s = 0.0
        self.calls = 0
        self.synchronized = 0
        self._durations_s = iter(durations_s)

    def run(self, x):
        self.calls += 1
        self.now_s += next(self._durations_s)
        return x

    def synchronize(self):
        self.synchronized += 1

    def measure(self, budget_s):
        return measure(self.run, "x", self.synchronize, budget_s=budget_s, timer=lambda: self.now_s)


def steady(duration_s):
    return Clock(itertools.repeat(duration_s))


@pytest.mark.parametrize("duration_s", [1e-7, 3e-6, 1e-4, 0.02])
def test_a_known_duration_is_found(duration_s):
    result = steady(duration_s).measure(0.1)
    assert result.samples_s == pytest.approx([duration_s] * len(result.samples_s))


@pytest.mark.parametrize("duration_s", [1e-7, 3e-6, 1e-4])
def test_a_sample_is_long_enough_for_the_clock_and_not_longer(duration_s):
    result = steady(duration_s).measure(0.1)
    assert timing.MIN_SAMPLE_S <= result.number * duration_s < 2 * timing.MIN_SAMPLE_S


def test_a_slow_call_is_a_sample_by_itself():
    assert steady(0.02).measure(0.1).number == 1


@pytest.mark.parametrize("budget_s", [0.05, 0.5])
def test_samples_use_the_budget(budget_s):
    result = steady(1e-4).measure(budget_s)
    sampled_s = result.number * sum(result.samples_s)
    assert budget_s <= sampled_s < budget_s + 2 * timing.MIN_SAMPLE_S


def test_samples_have_a_cap():
    assert len(steady(1e-3).measure(60.0).samples_s) == timing.MAX_SAMPLES


def test_a_budget_that_is_too_small_still_gives_the_least_number_of_samples():
    assert len(steady(0.3).measure(0.1).samples_s) == timing.MIN_SAMPLES


@pytest.mark.parametrize(("duration_s", "samples"), [(3.0, 4), (60.0, 1)])
def test_calls_that_take_seconds_are_sampled_less_often(duration_s, samples):
    assert len(steady(duration_s).measure(0.1).samples_s) == samples


def test_every_call_is_counted_and_synchronized():
    clock = steady(3e-4)
    result = clock.measure(0.1)
    assert clock.calls == result.warmup_calls + result.number * len(result.samples_s)
    assert clock.synchronized == clock.calls


def test_time_spent_in_synchronize_is_timed():
    clock = steady(0.0)

    def wait():
        clock.now_s += 0.02

    result = measure(clock.run, "x", wait, budget_s=0.1, timer=lambda: clock.now_s)
    assert statistics.median(result.samples_s) == pytest.approx(0.02)


def test_the_first_call_may_compile_for_long_without_using_up_the_warm_up():
    clock = Clock(itertools.chain([5.0], itertools.repeat(1e-6)))
    result = clock.measure(0.1)
    assert result.number == 1024
    assert max(result.samples_s) < 2e-6


def test_warm_up_lasts_while_batches_disagree():
    # 20 %, 15 %, 10 % and so on faster from call to call, and then steady
    cooling = [0.02, 0.016, 0.0136, 0.01224, 0.012, 0.012]
    clock = Clock(itertools.chain([1.0], cooling, itertools.repeat(0.012)))
    result = clock.measure(10.0)
    assert result.warmup_calls == 1 + 5  # 0.01224 and 0.012 agree within 5 %
    assert result.samples_s[0] == pytest.approx(0.012)


def test_warm_up_ends_with_the_budget_if_batches_never_agree():
    clock = Clock(itertools.cycle([0.01, 0.02]))
    result = clock.measure(0.3)
    assert result.warmup_calls == 1 + 20
    assert statistics.mean(result.samples_s) == pytest.approx(0.015, rel=0.05)


def test_an_exception_of_the_call_is_not_hidden():
    def fail(x):
        raise RuntimeError("Blas SGEMM launch failed")

    with pytest.raises(RuntimeError, match="Blas SGEMM"):
        measure(fail, "x", lambda: None, budget_s=0.1)
