"""How long a call takes: warm-up, calls per sample, samples, and which clock.

One process is one draw: samples taken here are not independent of each other, so their spread says
how quiet the process was and not how well the time is known. That takes several processes
(:mod:`convbench.measuring.bench`).
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from convbench.backends.gauges import DeviceTimer

WALL_HOT = "wall time of run + synchronize, caches hot"
WALL_COLD = "wall time of run + synchronize, caches cold"
"""What a sample is. Samples of two methods are not comparable."""

MIN_SAMPLE_S = 1e-3
"""A sample lasts at least this: some 10000 times what reading the clock costs."""

SAMPLES = 25
"""About so many samples share a budget: a sample lasts longer where more would fit."""

AGREEMENT = 0.05
"""Warm-up ends when two batches in a row differ by no more than this fraction."""

MIN_SAMPLES = 5

PATIENCE_S = 10.0
"""Not even `MIN_SAMPLES` are waited for beyond this."""


@dataclass(frozen=True, slots=True)
class Timing:
    """What was measured.

    Attributes
    ----------
    samples_s : tuple of float
        Seconds per call, in the order in which they were taken.
    number : int
        Calls per sample; each sample is their mean.
    method : str
        What was timed; see `WALL_HOT`.
    device_samples_s : tuple of float
        The same calls by the device's own events, where it has any.
    spent_s : float
        How long the warm-up and the samples took together.
    """

    samples_s: tuple[float, ...]
    number: int
    warmup_calls: int
    method: str
    device_samples_s: tuple[float, ...]
    spent_s: float


def measure(
    run: Callable[[Any], object],
    x: object,
    synchronize: Callable[[], None],
    *,
    budget_s: float,
    timer: Callable[[], float] = perf_counter,
    device_timer: DeviceTimer | None = None,
    flush: Callable[[], object] | None = None,
) -> Timing:
    """Time ``run(x)`` followed by ``synchronize()``.

    The first call is on its own: it compiles and allocates. After it the calls of a batch are
    doubled until the batch lasts long enough; warm-up is over when two such batches in a row agree
    within `AGREEMENT`, or when the batches have used the budget. A sample is one more batch, and
    samples are taken until they have used the budget too: about `SAMPLES`, and at least
    `MIN_SAMPLES` unless that would take more than `PATIENCE_S`.

    Parameters
    ----------
    synchronize : callable
        Returns when everything that was asked for is done.
    budget_s : float
        Seconds for the warm-up after the first call, and again for the samples.
    timer : callable
        Returns seconds.
    device_timer : DeviceTimer, optional
        Times the same calls on the device; the wall clock is read around it.
    flush : callable
        Empties the caches. It is called, untimed, before every single call, and a sample is then
        one call.
    """

    def batch_s(calls: int) -> tuple[float, float]:
        if flush is not None:
            flush()
        if device_timer is not None:
            device_timer.start()
        start = timer()
        for _ in range(calls):
            run(x)
            synchronize()
        elapsed_s = timer() - start
        return elapsed_s, elapsed_s if device_timer is None else device_timer.stop_s()

    begin = timer()
    batch_s(1)
    warmup_calls = 1
    number = 1
    sample_s = max(MIN_SAMPLE_S, budget_s / SAMPLES)
    spent_s = 0.0
    previous_s = None
    while spent_s < budget_s:
        elapsed_s, _ = batch_s(number)
        warmup_calls += number
        spent_s += elapsed_s
        if flush is None and elapsed_s < sample_s:
            number *= 2
        elif previous_s is not None and abs(elapsed_s - previous_s) <= AGREEMENT * previous_s:
            break
        else:
            previous_s = elapsed_s

    samples_s: list[float] = []
    device_samples_s: list[float] = []
    spent_s = 0.0
    while (
        not samples_s
        or (spent_s < budget_s and (flush is None or len(samples_s) < 4 * SAMPLES))
        or (spent_s < PATIENCE_S and len(samples_s) < MIN_SAMPLES)
    ):
        elapsed_s, device_s = batch_s(number)
        samples_s.append(elapsed_s / number)
        device_samples_s.append(device_s / number)
        spent_s += elapsed_s
    return Timing(
        tuple(samples_s),
        number,
        warmup_calls,
        WALL_HOT if flush is None else WALL_COLD,
        () if device_timer is None else tuple(device_samples_s),
        timer() - begin,
    )


@dataclass(frozen=True, slots=True)
class Overhead:
    """What the measuring itself costs, and the finest that the clock can tell apart.

    Attributes
    ----------
    resolution_s : float
        The smallest step between two readings of the clock.
    clock_s : float
        What reading the clock costs.
    call_s : float
        What a call of nothing seems to take: every sample is longer by this much.
    """

    resolution_s: float
    clock_s: float
    call_s: float


def overhead() -> Overhead:
    """Measure the clock and the loop of :func:`measure` around a call that does nothing."""
    times = [perf_counter() for _ in range(10_000)]
    steps = [later - earlier for earlier, later in itertools.pairwise(times)]
    nothing = measure(lambda x: x, None, lambda: None, budget_s=0.02)
    return Overhead(
        resolution_s=min((step for step in steps if step > 0), default=0.0),
        clock_s=statistics.median(steps),
        call_s=statistics.median(nothing.samples_s),
    )
