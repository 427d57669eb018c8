"""The values of every series over all commits, as one array: what the report's history needs.

:mod:`.records` makes a record of every cell, with all that is known of it. Over a thousand
commits that is too much to hold and to make; here only asv's numbers are read, a column at a time.
"""

from __future__ import annotations

import ast
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convbench.results.journal import UNREADABLE, unreadable
from convbench.results.records import ASV_VERSION, KINDS, Kind


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
    series : tuple of Series
    values : array of shape (series, commits)
        nan where there is no number: not measured, skipped or failed.
    problems : tuple of str
        What could not be read, named with the reason.
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
    made_s: dict[str, float] = {}
    columns: dict[tuple[Series, ...], list[tuple[str, NDArray[np.float64]]]] = {}
    known: dict[tuple[str, ...], tuple[Series, ...]] = {}
    problems: list[str] = []
    for path in sorted(Path(results_dir).glob("*/*.json")):
        if path.name == "machine.json":
            continue
        try:
            commit, time_s, found = _read(path, known)
        except UNREADABLE as error:
            problems.append(f"{path}: left out, because {unreadable(error)}")
            continue
        made_s[commit] = time_s
        for cells, values in found:
            columns.setdefault(cells, []).append((commit, values))
    commits = sorted(made_s, key=lambda commit: (made_s[commit], commit))
    place = {commit: i for i, commit in enumerate(commits)}
    rows: dict[Series, NDArray[np.float64]] = {}
    for cells, of_commits in columns.items():
        # A parameter was added to a suite: the same series stands in two lists of cells.
        block = np.full((len(cells), len(commits)), np.nan)
        for commit, values in of_commits:
            block[:, place[commit]] = values
        for cell, row in zip(cells, block, strict=True):
            rows[cell] = np.where(np.isnan(row), rows[cell], row) if cell in rows else row
    measured = {cell: row for cell, row in rows.items() if not np.isnan(row).all()}
    series = tuple(sorted(measured))
    values = np.array([measured[cell] for cell in series]).reshape(len(series), len(commits))
    times_s = np.array([made_s[commit] for commit in commits])
    return History(tuple(commits), times_s, series, values, tuple(problems))


_Found = list[tuple[tuple[Series, ...], NDArray[np.float64]]]


def _read(
    path: Path, known: dict[tuple[str, ...], tuple[Series, ...]]
) -> tuple[str, float, _Found]:
    """Read one file: its commit, when that was made, and the numbers of each benchmark."""
    file = json.loads(path.read_bytes())
    if file["version"] != ASV_VERSION:
        raise ValueError(f"its version is {file['version']!r}, not {ASV_VERSION}")
    where = (str(file["params"]["machine"]), str(file["env_name"]))
    found = []
    for benchmark, values in dict(file["results"]).items():
        row = dict(zip(file["result_columns"], values, strict=False))
        kind = KINDS.get(benchmark.rpartition(".")[2])
        if kind is None or row["result"] is None:
            continue
        # Every file has the same parameters: they are parsed once.
        params = json.dumps(row["params"])
        key = (*where, benchmark, str(row.get("version")), params)
        if key not in known:
            known[key] = tuple(_series(*key[:4], kind, row["params"]))
        numbers = np.array(row["result"], dtype=float)
        if numbers.shape != (len(known[key]),):
            raise ValueError(f"{benchmark} has {numbers.size} values for {len(known[key])} cells")
        found.append((known[key], numbers))
    return str(file["commit_hash"]), float(file["date"]) / 1000, found


def _series(
    machine: str, environment: str, benchmark: str, version: str, kind: Kind, params: Any
) -> Iterator[Series]:
    for cell in itertools.product(*([ast.literal_eval(p) for p in ps] for ps in params)):
        target, workload, *stage = map(str, cell)
        yield Series(
            machine, environment, benchmark, version, kind, target, workload, "".join(stage)
        )
