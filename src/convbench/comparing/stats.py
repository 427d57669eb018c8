"""Ratios of times: intervals, tests and means. Floats in, floats out.

Everything is done on natural logarithms: a ratio and its inverse are then the same distance from 1,
and noise, which is a share of a time and not so many seconds, is alike for long times and short
ones. What is counted is fresh processes and never samples: those of one process are not
independent, and to take them for it gave false alarms in 40 to 50 % of A/A comparisons.

SciPy's functions are imported where they are used: that takes a third of a second, and
``scipy.stats`` would take one.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

LEAST_DEVIATION = 1e-3
"""Standard deviation of the logarithm between processes is taken to be at least this.

Processes were never seen to agree better than within 0.4 %. Two or three that seem to do so by
chance, or because the clock or the file rounds, would prove any difference at all.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Ratios:
    """How many times as long head takes as base, one entry a cell.

    Attributes
    ----------
    log : array of float
        Natural logarithm of the ratio.
    error : array of float
        Its standard error; nan where one side has fewer than two processes.
    freedom : array of float
        The degrees of freedom of the error; nan where that is.
    """

    log: FloatArray
    error: FloatArray
    freedom: FloatArray

    @property
    def ratio(self) -> FloatArray:
        """The ratios themselves: 1.1 if head takes 10 % longer."""
        return np.asarray(np.exp(self.log), float)


def ratios(base: Sequence[Sequence[float]], head: Sequence[Sequence[float]]) -> Ratios:
    """Estimate head / base from the medians of fresh processes.

    The estimate is the ratio of the geometric means. With means m, variances v of the logarithms
    and n processes on each side, its standard error is Welch's and the degrees of freedom are
    Satterthwaite's, but no more than twice those of the smaller side::

        log = m_head - m_base,  error^2 = e_base + e_head,  e = max(v, LEAST_DEVIATION^2) / n
        freedom = min(error^4 / (e_base^2 / (n_base - 1) + e_head^2 / (n_head - 1)),
                      2 * (min(n_base, n_head) - 1))

    The limit changes nothing where both sides have as many processes. Where they do not it matters:
    with 2 against 10, equally noisy, p values below 0.001 came 13 times as often as they should,
    because two processes that agree by chance make the other ten count; with the limit, never.

    Parameters
    ----------
    base, head : sequences, of the same length, of sequences of float
        For each cell the medians of its processes: at least one, all finite and above 0. They need
        not be of the same number.

    References
    ----------
    B. L. Welch, The generalization of "Student's" problem when several different population
    variances are involved, Biometrika 34, 1947. F. E. Satterthwaite, An approximate distribution of
    estimates of variance components, Biometrics Bulletin 2, 1946.

    Examples
    --------
    >>> found = ratios([[1.00, 1.02, 0.98]], [[1.10, 1.12, 1.11]])
    >>> low, high = intervals(found, 0.95)
    >>> print(f"{found.ratio[0]:.2f} [{low[0]:.2f}, {high[0]:.2f}]")
    1.11 [1.06, 1.16]
    """
    n_base, mean_base, part_base = _moments(base)
    n_head, mean_head, part_head = _moments(head)
    total = part_base + part_head
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = total**2 / (part_base**2 / (n_base - 1) + part_head**2 / (n_head - 1))
    freedom = np.minimum(freedom, 2 * (np.minimum(n_base, n_head) - 1))
    return Ratios(mean_head - mean_base, np.sqrt(total), freedom)


TRIMMED = 8
"""Of so many pairs one is left out at each end: a burst of noise makes 1 in 20 ten times off."""


def paired(log_ratios: Sequence[Collection[float]]) -> Ratios:
    """Estimate head / base from pairs of processes that were measured side by side.

    It is the trimmed mean, with Yuen's interval: of n pairs g = n // `TRIMMED` are left out at each
    end. With s_w the standard deviation after those have been replaced by the next that is kept::

        error = max(s_w, LEAST_DEVIATION) / ((1 - 2 g / n) sqrt(n)),  freedom = n - 2 g - 1

    Without anything to trim it is Student's interval of the mean.

    Parameters
    ----------
    log_ratios : sequence of collections of float
        For each cell the logarithm of head / base in each pair: at least one.

    References
    ----------
    K. K. Yuen, The two-sample trimmed t for unequal population variances, Biometrika 61, 1974;
    R. R. Wilcox, Introduction to Robust Estimation and Hypothesis Testing, ch. 4.

    Examples
    --------
    >>> found = paired([[0.01, 0.03, 0.02]])
    >>> print(f"{found.log[0]:.3f} {found.error[0]:.4f} {found.freedom[0]:.0f}")
    0.020 0.0058 2
    """
    rows = np.full((3, len(log_ratios)), np.nan)
    for i, pairs in enumerate(log_ratios):
        values = np.sort(np.fromiter(pairs, float))
        number, out = len(values), len(values) // TRIMMED
        kept = values[out : number - out]
        rows[0, i] = kept.mean()
        if number > 1:
            deviation = max(float(winsorised(values).std(ddof=1)), LEAST_DEVIATION)
            rows[1, i] = deviation * math.sqrt(number) / len(kept)
            rows[2, i] = len(kept) - 1
    return Ratios(*rows)


def widened(found: Ratios, variance: FloatArray | float, freedom: FloatArray | float) -> Ratios:
    """Add a variance that was estimated apart, with so many degrees of freedom, to each or to all.

    The degrees of freedom of the sum are Satterthwaite's, as in :func:`ratios`.
    """
    own = found.error**2
    total = own + variance
    with np.errstate(invalid="ignore"):
        sum_of = total**2 / (own**2 / found.freedom + variance**2 / freedom)
    return Ratios(found.log, np.sqrt(total), sum_of)


def winsorised(values: FloatArray) -> FloatArray:
    """What trimming would leave out, replaced by the next that is kept."""
    out = len(values) // TRIMMED
    ordered = np.sort(values)
    return np.clip(values, ordered[out], ordered[len(values) - out - 1])


def pooled(parts: Sequence[tuple[int, Ratios]]) -> Ratios:
    """Mean of means of one entry each, over so many cells, that do not depend on each other.

    The degrees of freedom are Satterthwaite's, as in :func:`ratios`.
    """
    weights = np.array([cells for cells, _ in parts], float) / sum(cells for cells, _ in parts)
    log, error, freedom = (
        np.array([getattr(part, name)[0] for _, part in parts])
        for name in ("log", "error", "freedom")
    )
    each = (weights * error) ** 2
    total = each.sum()
    return Ratios(
        np.array([weights @ log]),
        np.array([np.sqrt(total)]),
        np.array([total**2 / (each**2 / freedom).sum()]),
    )


def _moments(groups: Sequence[Sequence[float]]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Count, mean of the logarithms, and the variance of that mean, of each group."""
    count = np.fromiter(map(len, groups), float, len(groups))
    if not groups:
        return count, count, count
    log = np.log(np.fromiter((value for group in groups for value in group), float))
    starts = np.concatenate(([0], np.cumsum(count[:-1]))).astype(int)
    mean = np.add.reduceat(log, starts) / count
    squares = np.add.reduceat((log - np.repeat(mean, count.astype(int))) ** 2, starts)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.where(count > 1, squares / (count - 1), np.nan)
    return count, mean, np.maximum(variance, LEAST_DEVIATION**2) / count


def intervals(found: Ratios, confidence: float) -> tuple[FloatArray, FloatArray]:
    """Both ends of the confidence interval of each ratio: exp(log -+ t * error), t of Student.

    Parameters
    ----------
    confidence : float
        0.95 for an interval that covers the true ratio in 95 of 100 comparisons.
    """
    half = _quantile(found.freedom, (1 - confidence) / 2) * found.error
    with np.errstate(over="ignore", under="ignore"):  # two processes can be that noisy
        return np.exp(found.log - half), np.exp(found.log + half)


def p_values(found: Ratios, minimum_effect: float) -> FloatArray:
    """How easily chance alone would show each ratio if the true effect were the minimum or less.

    It is the two-sided test of a minimum effect, twice the smaller of the two one-sided p values
    against 1 / (1 + minimum_effect) and 1 + minimum_effect. It is below 1 - confidence exactly if
    the interval of that confidence lies wholly beyond one of the two.

    References
    ----------
    K. R. Murphy and B. Myors, Testing the hypothesis that treatments have negligible effects:
    minimum-effect tests in the general linear model, J. Appl. Psychol. 84, 1999.
    """
    from scipy.special import stdtr  # noqa: PLC0415

    beyond = (np.abs(found.log) - np.log1p(minimum_effect)) / found.error
    return np.asarray(np.minimum(1.0, 2 * stdtr(found.freedom, -beyond)), float)


def benjamini_hochberg(p: FloatArray) -> FloatArray:
    """Adjust p values for how many there are, so that of what is claimed few are false.

    Claim each that is at most q, and of the claims the share that is false is at most q in
    expectation; where nothing is true, the probability of any claim is at most q. With the p values
    in order, adjusted_i = min over j >= i of p_j * m / j. It holds for independent ones, and for
    those with the positive dependence that a load on the machine makes.

    Parameters
    ----------
    p : array of float
        Those that are nan are left out of the count m, and stay nan.

    References
    ----------
    Y. Benjamini and Y. Hochberg, Controlling the false discovery rate, J. R. Stat. Soc. B 57, 1995;
    dependence: Y. Benjamini and D. Yekutieli, Ann. Stat. 29, 2001.

    Examples
    --------
    >>> benjamini_hochberg(np.array([0.01, 0.04, 0.03, np.nan])).tolist()
    [0.03, 0.04, 0.04, nan]
    """
    adjusted = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known])]
    scaled = p[order] * len(known) / np.arange(1, len(known) + 1)
    adjusted[order] = np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1])
    return adjusted


def smallest_effects(
    found: Ratios, level: float, minimum_effect: float, power: float
) -> FloatArray:
    """The slow-down that such data would have shown, with the probability `power`.

    A ratio is claimed from exp(log(1 + minimum_effect) + t_level * error) on, and a true one that
    lies t_power * error above that is claimed with that probability (Student's quantiles, as usual
    in place of those of the noncentral distribution)::

        effect = (1 + minimum_effect) * exp((t_level + t_power) * error) - 1

    Parameters
    ----------
    level : float
        The two-sided p value up to which is claimed.

    Returns
    -------
    array of float
        0.1 for a slow-down by 10 %.
    """
    t = _quantile(found.freedom, level / 2) + _quantile(found.freedom, 1 - power)
    # With two processes and many cells it is astronomical: infinity says as much.
    with np.errstate(over="ignore"):
        return np.asarray(np.expm1(np.log1p(minimum_effect) + t * found.error), float)


def powers(
    found: Ratios, level: float, minimum_effect: float, effects: Sequence[float]
) -> FloatArray:
    """With which probability such data shows each slow-down: the inverse of `smallest_effects`.

    Parameters
    ----------
    level : float
        The two-sided p value up to which is claimed.
    effects : sequence of float
        0.1 for a slow-down by 10 %.

    Returns
    -------
    array of shape (cells, effects)
    """
    from scipy.special import stdtr  # noqa: PLC0415

    above = np.log1p(effects) - math.log1p(minimum_effect)
    beyond = above / found.error[:, None] - _quantile(found.freedom, level / 2)[:, None]
    return np.asarray(stdtr(found.freedom[:, None], beyond), float)


def between_groups(
    before: Sequence[Collection[float]], after: Sequence[Collection[float]]
) -> Ratios:
    """Estimate after / before from two trimmed means that do not depend on each other.

    The means are those of :func:`paired`, over logarithms. The test is Yuen's of two samples, whose
    errors are a little larger where something is left out: with h of n values kept, by
    ``sqrt((n - 1) / n * h / (h - 1))``. The degrees of freedom are Satterthwaite's.
    """
    first, second = map(_of_two, (before, after))
    apart = Ratios(second.log - first.log, second.error, second.freedom)
    return widened(apart, first.error**2, first.freedom)


def _of_two(groups: Sequence[Collection[float]]) -> Ratios:
    found, number = paired(groups), np.array([*map(len, groups)], float)
    larger = (number - 1) / number * (found.freedom + 1) / found.freedom
    return Ratios(found.log, found.error * np.sqrt(larger), found.freedom)


def geometric_mean(base: Sequence[Sequence[float]], head: Sequence[Sequence[float]]) -> Ratios:
    """Mean over cells of the ratios of their medians: one entry.

    Cells that were measured in the same processes share what was peculiar about these, so they are
    first averaged over within each round, and then Welch's interval is that of the rounds: it holds
    whether or not the cells depend on each other. The cells are those that there are and not a
    sample of more, so the error is that of their measuring only.

    Parameters
    ----------
    base, head : sequences, of the same length, of sequences of float
        For each of at least one cell the medians of its processes, in the order in which they ran.
        Where cells have more rounds than others, these count for the mean and not for its error.
    """
    rounds = []
    for side in (base, head):
        common = min(map(len, side))
        rounds.append(np.exp(np.log([cell[:common] for cell in side]).mean(axis=0)).tolist())
    mean = ratios([rounds[0]], [rounds[1]])
    return Ratios(np.array([ratios(base, head).log.mean()]), mean.error, mean.freedom)


def _quantile(freedom: FloatArray, tail: float) -> FloatArray:
    """What Student's t exceeds with the probability `tail`."""
    from scipy.special import stdtrit  # noqa: PLC0415

    return -np.asarray(stdtrit(freedom, tail), float)
