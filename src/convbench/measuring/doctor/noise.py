"""What fresh processes of the same code say of the noise: A/A comparisons."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from convbench.measuring.doctor.evidence import CELLS, CONFIDENCE, GROUP, POWER, Draw, Noise

FloatArray = NDArray[np.float64]


def half_range(values: Sequence[float]) -> float:
    """Half the distance between the quartiles.

    Examples
    --------
    >>> half_range([1.0, 2.0, 3.0, 4.0, 5.0])
    1.0
    """
    low, high = np.quantile(values, [0.25, 0.75])
    return float(high - low) / 2


def robust_deviation(values: FloatArray) -> float:
    """Standard deviation from the median distance to the median, as outliers leave it alone.

    The factor 1.4826 makes it that of a normal distribution (P. J. Rousseeuw and C. Croux,
    Alternatives to the Median Absolute Deviation, J. Am. Stat. Assoc. 88, 1993).
    """
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def resample(logs: FloatArray, times: int = 4000) -> tuple[FloatArray, FloatArray]:
    """Split the processes at random into two groups, again and again: A/A comparisons.

    Drawn without replacement, so that the variance of a difference is that of two new groups, no
    matter how many processes there are. The order in time is lost: this is what processes show that
    alternate. Where all of one side come first, a machine that drifts adds to it.

    Parameters
    ----------
    logs : array of float
        Logarithm of each process's median, at least ``2 * GROUP``.

    Returns
    -------
    difference, error : arrays of float of shape (times,)
        Difference of the means of the two groups, and the standard error that the two show.
    """
    random = np.random.default_rng(0)
    order = random.permuted(np.tile(np.arange(len(logs)), (times, 1)), axis=1)
    first, second = logs[order[:, :GROUP]], logs[order[:, GROUP : 2 * GROUP]]
    variance = first.var(axis=1, ddof=1) + second.var(axis=1, ddof=1)
    return second.mean(axis=1) - first.mean(axis=1), np.sqrt(variance / GROUP)


def smallest_effect(difference: FloatArray, error: FloatArray) -> float:
    """The smallest slow-down that comparisons with this noise find, with probability `POWER`.

    A slow-down is claimed where the difference exceeds t standard errors, and t is what identical
    code exceeds in 1 - `CONFIDENCE` of the comparisons: Student's quantile, but taken from the
    comparisons that :func:`resample` draws. 0.1 is a slow-down by 10 %.
    """
    error = np.maximum(error, 1e-9)
    claimed_from = np.quantile(np.abs(difference) / error, CONFIDENCE) * error
    return float(np.expm1(np.quantile(claimed_from - difference, POWER)))


def summarise(draws: Sequence[Draw]) -> Iterator[Noise]:
    """Sum up the draws of each cell with each number of threads."""
    for threads in dict.fromkeys(draw.threads for draw in draws):
        alike = [draw for draw in draws if draw.threads == threads]
        for workload in CELLS:
            logs = np.log([draw.medians_s[workload] for draw in alike])
            beyond_5 = beyond_10 = effect = math.nan
            if len(alike) >= 2 * GROUP:
                difference, error = resample(logs)
                beyond_5, beyond_10 = (
                    float(np.mean(np.abs(difference) > math.log1p(share))) for share in (0.05, 0.10)
                )
                effect = smallest_effect(difference, error)
            median = np.median(logs)
            yield Noise(
                workload,
                threads,
                len(alike),
                median_s=float(np.exp(median)),
                within=statistics.median(draw.spreads[workload] for draw in alike),
                between=robust_deviation(logs),
                fastest=float(np.expm1(logs.min() - median)),
                slowest=float(np.expm1(logs.max() - median)),
                beyond_5=beyond_5,
                beyond_10=beyond_10,
                effect=effect,
            )
