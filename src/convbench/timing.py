"""How long a call takes: warm-up, calls per sample, samples.

One process is one draw: samples taken here are not independent of each other, so their spread says
how quiet the process was and not how well the time is known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

METHOD = "wall time of run + synchronize, caches hot"
"""What a sample is. Samples of two methods are not comparable."""

MIN_SAMPLE_S = 1e-3
"""A sample lasts at least this: some 10000 times what reading the clock costs."""

AGREEMENT = 0.05
"""Warm-up ends when two batches in a row differ by no more than this fraction."""

MIN_SAMPLES = 5
MAX_SAMPLES = 500

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
    warmup_calls : int
        Calls made before the first sample.
    method : str
        What was timed; see `METHOD`.
    """

    samples_s: tuple[float, ...]
    number: int
    warmup_calls: int
    method: str = METHOD


def measure(
    run: Callable[[Any], object],
    x: object,
    synchronize: Callable[[], None],
    *,
    budget_s: float,
    timer: Callable[[], float] = perf_counter,
) -> Timing:
    """Time ``run(x)`` followed by ``synchronize()``.

    The first call is on its own: it compiles and allocates. After it the calls of a batch are
    doubled until the batch lasts `MIN_SAMPLE_S`; warm-up is over when two such batches in a row
    agree within `AGREEMENT`, or when the batches have used the budget. A sample is one more batch,
    and samples are taken until they have used the budget too. There are at least `MIN_SAMPLES`,
    unless that would take more than `PATIENCE_S`, and at most `MAX_SAMPLES`.

    Parameters
    ----------
    run : callable
    x : array of the device
    synchronize : callable
        Returns when everything that was asked for is done.
    budget_s : float
        Seconds for the warm-up after the first call, and again for the samples.
    timer : callable
        Returns seconds.
    """

    def batch_s(calls: int) -> float:
        start = timer()
        for _ in range(calls):
            run(x)
            synchronize()
        return timer() - start

    batch_s(1)
    warmup_calls = 1
    number = 1
    spent_s = 0.0
    previous_s = None
    while spent_s < budget_s:
        elapsed_s = batch_s(number)
        warmup_calls += number
        spent_s += elapsed_s
        if elapsed_s < MIN_SAMPLE_S:
            number *= 2
        elif previous_s is not None and abs(elapsed_s - previous_s) <= AGREEMENT * previous_s:
            break
        else:
            previous_s = elapsed_s

    samples_s: list[float] = []
    spent_s = 0.0
    while (
        not samples_s
        or (spent_s < budget_s and len(samples_s) < MAX_SAMPLES)
        or (spent_s < PATIENCE_S and len(samples_s) < MIN_SAMPLES)
    ):
        elapsed_s = batch_s(number)
        samples_s.append(elapsed_s / number)
        spent_s += elapsed_s
    return Timing(tuple(samples_s), number, warmup_calls)
