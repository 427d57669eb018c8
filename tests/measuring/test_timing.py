"""The sampling loop, on a clock that only the timed call moves."""

from __future__ import annotations

import itertools
import statistics
import time

import pytest

from convbench.measuring import timing
from convbench.measuring.timing import measure


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
    wanted_s = 0.1 / timing.SAMPLES
    assert wanted_s <= result.number * duration_s < 2 * wanted_s


def test_a_slow_call_is_a_sample_by_itself():
    assert steady(0.02).measure(0.1).number == 1


@pytest.mark.parametrize("budget_s", [0.05, 0.5])
def test_samples_use_the_budget(budget_s):
    result = steady(1e-4).measure(budget_s)
    sampled_s = result.number * sum(result.samples_s)
    assert budget_s <= sampled_s < budget_s * (1 + 2 / timing.SAMPLES)
    assert timing.SAMPLES / 2 <= len(result.samples_s) <= timing.SAMPLES


def test_no_sample_is_too_short_for_the_clock():
    result = steady(1e-7).measure(1e-3)
    assert timing.MIN_SAMPLE_S <= result.number * 1e-7 < 2 * timing.MIN_SAMPLE_S


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
    assert 0.1 / timing.SAMPLES <= result.number * 1e-6 < 0.2 / timing.SAMPLES
    assert max(result.samples_s) < 2e-6


def test_warm_up_lasts_while_batches_disagree():
    # 20 %, 15 %, 10 % and so on faster from call to call, and then steady
    cooling = [0.02, 0.016, 0.0136, 0.01224, 0.012, 0.012]
    clock = Clock(itertools.chain([1.0], cooling, itertools.repeat(0.012)))
    result = clock.measure(0.25)
    assert result.warmup_calls == 1 + 5  # 0.01224 and 0.012 agree within 5 %
    assert result.samples_s[0] == pytest.approx(0.012)


def test_warm_up_ends_with_the_budget_if_batches_never_agree():
    clock = Clock(itertools.cycle([0.02, 0.04]))
    result = clock.measure(0.3)
    assert result.warmup_calls == 1 + 10
    assert statistics.mean(result.samples_s) == pytest.approx(0.03, rel=0.05)


def test_an_exception_of_the_call_is_not_hidden():
    def fail(x):
        raise RuntimeError("Blas SGEMM launch failed")

    with pytest.raises(RuntimeError, match="Blas SGEMM"):
        measure(fail, "x", lambda: None, budget_s=0.1)


# -- Other clocks and cold caches -----------------------------------------------------------------


class Device:
    """A device whose kernels take 3 us of every call's 10 us, by events that it keeps itself."""

    def __init__(self, clock):
        self.clock = clock
        self.started = None

    def start(self):
        self.started = self.clock.calls

    def stop_s(self):
        return (self.clock.calls - self.started) * 3e-6


def test_wall_time_and_device_time_of_the_same_calls():
    clock = steady(1e-5)
    result = measure(
        clock.run, "x", clock.synchronize, budget_s=0.1,
        timer=lambda: clock.now_s, device_timer=Device(clock),
    )  # fmt: skip
    assert result.samples_s == pytest.approx([1e-5] * len(result.samples_s))
    assert result.device_samples_s == pytest.approx([3e-6] * len(result.samples_s))


def test_cold_caches_are_emptied_before_every_call_and_outside_of_the_clock():
    clock = steady(1e-5)
    flushed = []

    def flush():
        flushed.append(clock.calls)
        clock.now_s += 0.5  # not to be seen in any sample

    result = measure(
        clock.run, "x", clock.synchronize, budget_s=0.01, timer=lambda: clock.now_s, flush=flush
    )
    assert flushed == list(range(clock.calls))
    assert result.number == 1
    assert result.samples_s == pytest.approx([1e-5] * len(result.samples_s))
    assert result.method == timing.WALL_COLD
    assert steady(1e-5).measure(0.01).method == timing.WALL_HOT


def test_a_known_duration_on_the_real_clock():
    def spin(x):
        end = time.perf_counter() + 2e-3
        while time.perf_counter() < end:
            pass

    result = measure(spin, None, lambda: None, budget_s=0.05)
    assert min(result.samples_s) >= 2e-3  # a busy machine can only make it longer
    assert result.spent_s >= result.number * sum(result.samples_s)


def test_the_real_overhead_is_positive():
    found = timing.overhead()
    assert found.resolution_s > 0
    assert found.clock_s > 0
    assert found.call_s > 0
