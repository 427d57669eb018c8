"""Deciding while pairs of processes come in: what has been seen of a cell, and when it is enough.

A pair is one fresh process of either side, alternated on one core; what counts of it is one number,
the logarithm of head / base. Pairs are independent of each other, samples within them are not, so
that the t interval over pairs is what is known.

Looking again and again at an interval that holds once is how false alarms are made. So each cell
has an error of `ERROR` to spend in all of its looks together, and the share of the budget that has
gone by says how much of it: by Lan and DeMets' function, in its form that is like Pocock's,

    spent(t) = ERROR * ln(1 + (e - 1) t)

A look between t1 and t2 takes an interval of the level spent(t2) - spent(t1); each takes `GROWTH`
times the pairs of the one before, and the last is when the budget is spent. That the errors of
the looks are added up, as if no two of them could go together, makes this hold whatever the noise
is like and whenever we look, at the price of intervals that are a little too long.

What such an interval shows to be slower or faster is not said yet: the cell is *flagged*, and
measured again in fresh pairs, as many as it should take. They have to show it by themselves, at up
to `FRESH_LOOKS` looks, since what was flagged tends to be smaller than it seemed. What decides over
all cells, in the order of Benjamini and Hochberg, is the p value of both stages together, as Bauer
and Koehne combine those of independent stages: with the product c, p = c (1 - ln c). That of the
first stage is the error with which this look would just have flagged it.

References
----------
K. K. G. Lan and D. L. DeMets, Discrete sequential boundaries for clinical trials, Biometrika 70,
1983; the same, Changing frequency of interim analysis in sequential monitoring, Biometrics 45, 1989
(time gone by in place of information). P. Bauer and K. Koehne, Evaluation of experiments with
adaptive interim analyses, Biometrics 50, 1994. S. J. Pocock, Group sequential methods in the design
and analysis of clinical trials, Biometrika 64, 1977.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from convbench.comparing import stats
from convbench.comparing.comparison import Rule

ERROR = 0.01
"""What a cell's looks may get wrong together: a flag without a cause, or a false "equivalent"."""

LEAST_PAIRS = 4
"""Before the first look: of fewer, nobody knows how far they differ."""

GROWTH = 1.4
"""So many times the pairs make the next look: more of them would each have less to spend."""

LEAST_FRESH, MOST_FRESH = 3, 40
"""Fresh pairs for a cell that was flagged."""

CONFIRMING_LEVEL = 0.05
"""Of the p value of the fresh pairs alone, on the side of the flag, for all looks at them."""

CONFIRMING_POWER = 0.95
"""With which they show an effect that is as large as it seemed."""

FRESH_LOOKS = 3
MORE_FRESH = 1.5
"""So many times the pairs for the next look at them."""


def spent(share: float) -> float:
    """Of the error, what may have been spent when this share of the budget has gone by.

    Examples
    --------
    >>> [round(spent(share), 5) for share in (0, 0.1, 0.5, 1)]
    [0.0, 0.00159, 0.0062, 0.01]
    """
    return ERROR * math.log1p((math.e - 1) * min(max(share, 0.0), 1.0))


class State(StrEnum):
    """How far a cell has come."""

    OPEN = "open"
    FLAGGED = "flagged"
    """It has seemed to differ; what comes in now is fresh."""
    DIFFERENT = "different"
    """The fresh pairs say so too, as far as one cell can tell."""
    EQUIVALENT = "equivalent"


@dataclass(slots=True)
class Monitor:
    """The pairs of one cell, and what follows from them.

    Attributes
    ----------
    rule : Rule
        What is the same, and what is never claimed.
    cells : int
        How many are decided on together.
    decides : bool
        False where the pairs are only collected, for another monitor to decide on.
    first, fresh : dict of int to float
        By the number of the pair, the logarithm of head / base: until the cell was flagged, and
        since.
    needed : int
        Fresh pairs until the next look at them.
    p_value : float
        How easily chance alone would show both stages, for all looks at them; 1 unless the fresh
        pairs show it by themselves.
    """

    rule: Rule
    cells: int
    decides: bool = True
    first: dict[int, float] = field(default_factory=dict)
    fresh: dict[int, float] = field(default_factory=dict)
    state: State = State.OPEN
    needed: int = 0
    p_value: float = 1.0
    _looks: int = 0
    _flags: int = 0
    _flagged_p: float = 1.0
    _next: int = LEAST_PAIRS
    _spent: float = 0.0
    _interval: tuple[float, float] | None = None
    _up: bool = False

    @property
    def open(self) -> bool:
        """Whether more pairs could change what is known."""
        return self.state in {State.OPEN, State.FLAGGED}

    @property
    def counted(self) -> dict[int, float]:
        """All pairs."""
        return self.first | self.fresh

    def add(self, pair: int, log_ratio: float, share: float) -> None:
        """Take in a pair, and look.

        Parameters
        ----------
        pair : int
            Its number: cells that were measured in the same processes share it.
        share : float
            Of the budget, what has gone by.
        """
        self.extend({pair: log_ratio}, share)

    def extend(self, pairs: Mapping[int, float], share: float) -> None:
        """Take in pairs that have come together, and look once, at all of them."""
        if self.state is State.FLAGGED:
            self.fresh |= pairs
            if len(self.fresh) >= self.needed:
                self._confirm()
        elif self.state is State.OPEN:
            self.first |= pairs
            if self.decides and len(self.first) >= self._next:
                self._look(share)

    def finish(self) -> None:
        """Look once more, for all that is left to spend: there will be no more pairs."""
        if self.decides and self.state is State.OPEN and len(self.first) >= LEAST_PAIRS:
            self._look(1.0)
        elif self.state is State.FLAGGED and len(self.fresh) >= LEAST_FRESH:
            self._confirm(last=True)

    def _look(self, share: float) -> None:
        level = spent(share) - self._spent
        if level <= 0:
            return
        self._spent += level
        self._next = math.ceil(GROWTH * len(self.first))
        low, high = self._interval = _interval(self.first, level)
        if self._same(low, high):
            self.state = State.EQUIVALENT
            return
        least = math.log1p(self.rule.minimum_effect)
        if low > least or high < -least:
            self.state, self._up = State.FLAGGED, low > least
            self._flags += 1
            self._flagged_p = self._flags * self._p_value(self.first) * ERROR / level
            self.needed = self._enough(least)

    def _enough(self, least: float) -> int:
        """How many fresh pairs should show by themselves what has been seen."""
        mean, error, _ = _known(self.first)
        deviation = error * math.sqrt(len(self.first))
        for number in range(LEAST_FRESH, MOST_FRESH):
            reach = _t(number - 1, CONFIRMING_LEVEL / FRESH_LOOKS)
            reach += _t(number - 1, 1 - CONFIRMING_POWER)
            if abs(mean) - least >= reach * deviation / math.sqrt(number):
                return number
        return MOST_FRESH

    def _confirm(self, *, last: bool = False) -> None:
        """Look at the fresh pairs."""
        self._looks += 1
        last = last or self._looks == FRESH_LOOKS
        if (_known(self.fresh)[0] > 0) == self._up:
            p = FRESH_LOOKS * self._p_value(self.fresh) / 2  # on the one side
            if p <= CONFIRMING_LEVEL:
                product = min(1.0, self._flagged_p * p)
                self.p_value = min(self.p_value, product * (1 - math.log(max(product, 1e-300))))
        level = 1 - self.rule.confidence
        if self.p_value <= level / self.cells or (last and self.p_value <= level):
            self.state = State.DIFFERENT
        elif last:  # whatever it was has gone: the fresh pairs are as good as the others
            self.first |= self.fresh
            self.fresh, self.p_value, self._looks = {}, 1.0, 0
            self.state = State.OPEN
        else:
            self.needed = math.ceil(MORE_FRESH * self.needed)

    def _p_value(self, pairs: Mapping[int, float]) -> float:
        return float(stats.p_values(_ratios(pairs), self.rule.minimum_effect)[0])

    def _same(self, low: float, high: float) -> bool:
        delta = math.log1p(self.rule.delta)
        return -delta < low and high < delta

    @property
    def estimate(self) -> tuple[float, float | None, float | None]:
        """Head / base with the interval that the state rests on; None without one."""
        counted = self.counted
        ratio = math.exp(_known(counted)[0])
        if self.p_value <= 1 - self.rule.confidence:
            ends: tuple[float, float] | None = _interval(counted, 1 - self.rule.confidence)
        elif self.state is State.EQUIVALENT:
            ends = self._interval
        else:
            ends = _interval(counted, ERROR) if len(counted) > 1 else None
        if ends is None:
            return ratio, None, None
        return ratio, math.exp(ends[0]), math.exp(ends[1])

    @property
    def smallest_effect(self) -> float | None:
        """The slow-down that as many pairs would have flagged, with the power of the rule."""
        if len(self.counted) < 2:
            return None
        found = _ratios(self.counted)
        rule = self.rule
        return float(stats.smallest_effects(found, ERROR, rule.minimum_effect, rule.power)[0])

    def pairs_to_go(self) -> int:
        """About so many more pairs until it is decided, if it goes on as it did."""
        if not self.open:
            return 0
        if self.state is State.FLAGGED:
            return max(1, self.needed - len(self.fresh))
        number = len(self.first)
        if number < LEAST_PAIRS:
            return LEAST_PAIRS - number
        mean, error, _ = _known(self.first)
        deviation = error * math.sqrt(number)
        delta, least = math.log1p(self.rule.delta), math.log1p(self.rule.minimum_effect)
        room = max(delta - abs(mean), abs(mean) - least, 0.1 * delta)
        level = max(ERROR / 4, 1e-4)
        wanted = next(
            (n for n in range(number, 10_000) if _t(n - 1, level / 2) * deviation / n**0.5 <= room),
            10_000,
        )
        return max(1, wanted - number)


def adjusted_p_values(monitors: Sequence[Monitor]) -> list[float]:
    """The p values, for how many cells there are; up to 1 - confidence a difference is claimed."""
    p = np.array([monitor.p_value for monitor in monitors], float)
    return [float(adjusted) for adjusted in stats.benjamini_hochberg(p)]


def geometric_mean(
    cells: Sequence[Mapping[int, float]], confidence: float
) -> tuple[float, float | None, float | None]:
    """Mean of head / base over cells, with its interval; see :func:`clustered`."""
    mean = clustered(cells)
    low, high = stats.intervals(mean, confidence)
    known = not math.isnan(low[0])
    return float(mean.ratio[0]), *((float(low[0]), float(high[0])) if known else (None, None))


def clustered(cells: Sequence[Mapping[Any, float]]) -> stats.Ratios:
    """Mean of head / base over cells: one entry.

    Cells that share a pair share what was peculiar about its processes, so that its residuals are
    added up before they are squared (the sandwich of Liang and Zeger, with one cluster a pair)::

        mean = sum_c mean_c / C,  error^2 = n / (n - 1) sum_p (sum_c (d_cp - mean_c) / (n_c C))^2

    The pairs of each cell are winsorised before: :func:`convbench.comparing.stats.winsorised`.

    Parameters
    ----------
    cells : sequence of mapping of any to float
        By what names the pair, the logarithms of each of at least one cell.

    References
    ----------
    K.-Y. Liang and S. L. Zeger, Longitudinal data analysis using generalized linear models,
    Biometrika 73, 1986.
    """
    cells = [
        dict(zip(cell, stats.winsorised(np.array([*cell.values()])).tolist(), strict=True))
        for cell in cells
    ]
    means = [sum(cell.values()) / len(cell) for cell in cells]
    mean = np.array([sum(means) / len(means)])
    clusters: dict[Any, float] = {}
    for cell, middle in zip(cells, means, strict=True):
        for pair, value in cell.items():
            part = (value - middle) / (len(cell) * len(cells))
            clusters[pair] = clusters.get(pair, 0.0) + part
    number = len(clusters)
    if number < 2:
        return stats.Ratios(mean, np.array([math.nan]), np.array([math.nan]))
    variance = number / (number - 1) * sum(part**2 for part in clusters.values())
    error = math.sqrt(max(variance, stats.LEAST_DEVIATION**2 / number))
    return stats.Ratios(mean, np.array([error]), np.array([number - 1.0]))


def _known(pairs: Mapping[int, float]) -> tuple[float, float, float]:
    """The logarithm of head / base, its standard error, and the degrees of freedom of that."""
    found = _ratios(pairs)
    return float(found.log[0]), float(found.error[0]), float(found.freedom[0])


def _ratios(pairs: Mapping[int, float]) -> stats.Ratios:
    return stats.paired([pairs.values()])


def _interval(pairs: Mapping[int, float], level: float) -> tuple[float, float]:
    mean, error, freedom = _known(pairs)
    half = _t(freedom, level / 2) * error
    return mean - half, mean + half


def _t(freedom: float, tail: float) -> float:
    """What Student's t exceeds with the probability `tail`."""
    from scipy.special import stdtrit  # noqa: PLC0415  # as in stats

    return -float(stdtrit(freedom, tail))
