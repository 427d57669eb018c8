"""The values of every series over all commits, as one array: what the report's history needs.

:mod:`.records` makes a record of every cell, with all that is known of it. Over a thousand
commits that is too much to hold and to make; here only asv's numbers are read, a column at a time.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convbench.results import machines
from convbench.results.folder import Folder, read_asv
from convbench.results.journal import Kind
from convbench.results.records import Place, suite_of


@dataclass(frozen=True, slots=True, order=True)
class Series:
    """What is measured again with every commit: a cell on a machine, in an environment.

    Attributes
    ----------
    benchmark, version : str
        As asv calls them. Numbers of two versions are not comparable, so they are two series.
    """

    machine: str
    environment: str
    benchmark: str
    version: str
    kind: Kind
    target: str
    workload: str
    stage: str = ""

    @property
    def suite(self) -> str:
        """As that of a record."""
        return suite_of(self.benchmark, self.target)

    @property
    def name(self) -> str:
        """The workload, and what of it."""
        if not self.target:
            return self.workload
        plain = self.suite in {"pipeline", "stages"} or self.workload.startswith(self.suite)
        return " ".join(
            filter(None, (self.workload, self.stage, "" if plain else f"({self.suite})"))
        )


@dataclass(frozen=True, slots=True)
class History:
    """All of them.

    Attributes
    ----------
    commits : tuple of str
        Full hashes, the oldest first.
    times_s : array of shape (commits,)
        When each was made, in seconds since 1970.
    values : array of shape (series, commits)
        nan where there is no number: not measured, skipped or failed.
    """

    commits: tuple[str, ...]
    times_s: NDArray[np.float64]
    series: tuple[Series, ...]
    values: NDArray[np.float64]
    problems: tuple[str, ...] = ()

    def errors(self) -> NDArray[np.float64]:
        """Error over bound of what each series is of, as `values`; nan where it was not checked."""

        def of(series: Series) -> tuple[str, ...]:
            return series.machine, series.environment, series.target, series.workload

        checks = [i for i, series in enumerate(self.series) if series.kind == "accuracy"]
        found: dict[tuple[str, ...], NDArray[np.float64]] = {}
        for i in checks:
            name = of(self.series[i])
            found[name] = np.fmax(found[name], self.values[i]) if name in found else self.values[i]
        nothing = np.full(len(self.commits), np.nan)
        rows = [found.get(of(series), nothing) for series in self.series]
        return np.array(rows).reshape(self.values.shape)


def load(results_dir: Path | str) -> History:
    """Read the numbers of asv's folder of results; what cannot be read is a problem.

    The time that it takes and the memory that it needs grow with the number of values.
    """
    folder = Folder(Path(results_dir))
    made_s: dict[str, float] = {}
    columns: dict[tuple[Any, ...], list[tuple[str, NDArray[np.float64]]]] = {}
    problems: list[str] = folder.unread()
    called = machines.names(folder)
    for filed in folder.files():
        found, unread = read_asv(folder.results_of(filed))
        problems += unread
        for column in found:
            made_s[column.commit] = column.commit_time_s
            if all(value is None for value in column.values):
                continue
            place = called.get(column.machine, column.machine), column.environment
            key = (*place, column.benchmark, column.version, column.kind, column.cells)
            values = np.array(column.values, dtype=float)  # None, a failure, becomes nan
            columns.setdefault(key, []).append((column.commit, values))
    commits = sorted(made_s, key=lambda commit: (made_s[commit], commit))
    at = {commit: i for i, commit in enumerate(commits)}
    rows: dict[Series, NDArray[np.float64]] = {}
    for (*about, cells), of_commits in columns.items():
        block = np.full((len(cells), len(commits)), np.nan)
        for commit, values in of_commits:
            block[:, at[commit]] = values
        for params, row in zip(cells, block, strict=True):
            cell = Series(*about, *params)
            # A parameter was added to a suite: the same series stands in two lists of cells.
            rows[cell] = np.where(np.isnan(row), rows[cell], row) if cell in rows else row
    measured = {cell: row for cell, row in rows.items() if not np.isnan(row).all()}
    series = tuple(sorted(measured))
    values = np.array([measured[cell] for cell in series]).reshape(len(series), len(commits))
    times_s = np.array([made_s[commit] for commit in commits])
    return History(tuple(commits), times_s, series, values, tuple(problems))


LEAST_COMMITS = 8
"""Of fewer nobody knows whether they rise."""

MOST_COMMITS = 200
"""The newest: all pairs of them are looked at."""

DRIFT_LEVEL = 0.01
"""How often a history of nothing but noise may be said to rise, all series together."""


@dataclass(frozen=True, slots=True)
class Drift:
    """A series that has risen in small steps.

    Attributes
    ----------
    ratio : float
        So many times as long it has got: by Theil and Sen's slope, over all of the commits.
    since : str
        The first of them.
    commits : int
        How many steps there were.
    """

    series: Series
    ratio: float
    since: str
    commits: int


def drifts(past: History, commits: Collection[str], place: Place, least: float) -> list[Drift]:
    """Which series have risen by more than a share in steps too small to be seen, largest first.

    Mann and Kendall's test asks whether more pairs of commits have risen than have fallen, whatever
    the noise is like; its level is `DRIFT_LEVEL`, divided by the number of series. What a single
    step explains better, with the sum of absolute deviations, is a step and no drift.

    Parameters
    ----------
    commits : collection of str
        Which of them count: those that the head was made from, and it.
    place : (str, str)
        Machine and environment.
    least : float
        0.05 for 5 %.

    References
    ----------
    H. B. Mann, Nonparametric tests against trend, Econometrica 13, 1945; P. K. Sen, Estimates of
    the regression coefficient based on Kendall's tau, J. Am. Stat. Assoc. 63, 1968.
    """
    wanted = [i for i, commit in enumerate(past.commits) if commit in commits][-MOST_COMMITS:]
    lines = []
    right = np.where(past.errors() > 1, np.nan, past.values)  # the time of a wrong result is none
    for series, values in zip(past.series, right[:, wanted], strict=True):
        if (series.machine, series.environment) == place and series.kind != "accuracy":
            (known,) = np.nonzero((values > 0) & (values < math.inf))
            if len(known) >= LEAST_COMMITS:
                lines.append((series, known, np.log(values[known])))
    found = []
    for series, known, log in lines:
        if rises(log) * len(lines) > DRIFT_LEVEL:
            continue
        places = np.arange(len(log))
        first, last = np.triu_indices(len(log), 1)
        slope = float(np.median((log[last] - log[first]) / (last - first)))
        line = slope * places
        off_line = _deviation(log - line)
        off_step = min(_deviation(log[:i]) + _deviation(log[i:]) for i in range(1, len(log)))
        rise = slope * (len(log) - 1)
        if rise > math.log1p(least) and off_line < off_step:
            since = past.commits[wanted[known[0]]]
            found.append(Drift(series, math.exp(rise), since, len(log) - 1))
    return sorted(found, key=lambda drift: -drift.ratio)


def rises(values: NDArray[np.float64]) -> float:
    """How easily chance alone makes as many pairs rise: Mann and Kendall's p value, one-sided.

    By the normal distribution with a correction for continuity, and without one for ties: both
    make it larger. In the far tail it is larger than the exact one.
    """
    number = len(values)
    first, last = np.triu_indices(number, 1)
    score = float(np.sign(values[last] - values[first]).sum())
    deviation = math.sqrt(number * (number - 1) * (2 * number + 5) / 18)
    return 0.5 * math.erfc((score - 1) / deviation / math.sqrt(2)) if score > 0 else 1.0


def _deviation(values: NDArray[np.float64]) -> float:
    return float(np.abs(values - np.median(values)).sum())
