"""The values of every series over all commits, as one array: what the report's history needs.

:mod:`.records` makes a record of every cell, with all that is known of it. Over a thousand
commits that is too much to hold and to make; here only asv's numbers are read, a column at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convbench.results.folder import Folder, read_asv
from convbench.results.journal import Kind


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


def load(results_dir: Path | str) -> History:
    """Read the numbers of asv's folder of results; what cannot be read is a problem.

    The time that it takes and the memory that it needs grow with the number of values.
    """
    folder = Folder(Path(results_dir))
    made_s: dict[str, float] = {}
    columns: dict[tuple[Any, ...], list[tuple[str, NDArray[np.float64]]]] = {}
    problems: list[str] = folder.unread()
    for filed in folder.files():
        found, unread = read_asv(folder.results_of(filed))
        problems += unread
        for column in found:
            made_s[column.commit] = column.commit_time_s
            if all(value is None for value in column.values):
                continue
            place = column.machine, column.environment
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
