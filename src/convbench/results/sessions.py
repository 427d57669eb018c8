"""How far two sessions of one machine lie apart: what repeated runs of one commit tell.

Processes of one session tell how far processes differ, and nothing of what shifts all of them:
another job beside them, another clock. A commit that was measured twice does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from convbench.results import journal
from convbench.results.folder import Filed, Folder
from convbench.results.journal import Ends, Note

NEWEST = 20
"""So many files of evidence, the newest, are looked through for what was measured twice."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Between sessions of a machine, in one environment.

    Attributes
    ----------
    variance : float
        Of the logarithm of a time, beyond what the processes within the sessions let expect.
    freedom : int
        How many sessions, less how many commits: cells of a session move together.
    commits : int
        That were measured in more than one session.
    """

    variance: float
    freedom: int
    commits: int

    @property
    def deviation(self) -> float:
        """0.02 if sessions of equal code differ by 2 %."""
        return math.sqrt(self.variance)


def spread(folder: Folder, machine: str, environment: str, newest: int = NEWEST) -> Spread | None:
    """Estimate it from finished runs of one commit with nothing uncommitted; None without any.

    Of a cell with k runs, means m_r of the logarithms and their variances e_r the variance between
    sessions is estimated without bias by var(m_r) - mean(e_r), that of one factor with random
    effects; over all cells it is the mean, weighted by k - 1, and 0 at least.

    References
    ----------
    S. R. Searle, G. Casella, C. E. McCulloch, Variance Components, 1992, ch. 3.
    """
    total = weight = 0.0
    freedom = commits = 0
    for filed in _newest(folder, machine, newest):
        most = 0
        for means, errors in _repeated(folder, filed, environment):
            total += (len(means) - 1) * (float(np.var(means, ddof=1)) - float(np.mean(errors)))
            weight += len(means) - 1
            most = max(most, len(means) - 1)
        freedom += most
        commits += most > 0
    if not weight:
        return None
    return Spread(max(0.0, total / weight), freedom, commits)


def _newest(folder: Folder, machine: str, number: int) -> list[Filed]:
    files = folder.files()
    mine = [filed for filed in files if filed.machine == machine]
    return sorted(mine, key=lambda filed: files[filed])[-number:]


def _repeated(
    folder: Folder, filed: Filed, environment: str
) -> Iterator[tuple[list[float], list[float]]]:
    """Of each time that was taken in several runs: their means, and the variances of these."""
    told = journal.read(folder.evidence_of(filed))
    fit = {
        run
        for run, facts in told.runs.items()
        if facts.get("clean") is True
        and facts.get("state") == "finished"
        and facts.get("environment") == environment
    }
    for (benchmark, _), notes in journal.by_cell(told.notes).items():
        if journal.kind_of(benchmark) != "time":
            continue
        of: dict[str, list[Note]] = {}
        for note in notes:
            if note.run in fit:
                of.setdefault(note.run, []).append(note)
        known = [found for run in of.values() if (found := _moments(run)) is not None]
        same = [found for found in known if found[0] == known[-1][0]]
        if len(same) > 1:
            yield [mean for _, mean, _ in same], [error for _, _, error in same]


def _moments(notes: Sequence[Note]) -> tuple[object, float, float] | None:
    """What was measured, the mean of the logarithms of its processes, and the variance of that."""
    try:
        ends = Ends.of(notes)
        known = len(ends.processes) > 1 and all(0 < each < math.inf for each in ends.processes)
        if ends.failed or not known:
            return None
        log = np.log(ends.processes)
        facts: Mapping[str, object] = ends.ok[-1].facts
    except journal.UNREADABLE:
        return None
    what = tuple(facts.get(name) for name in ("version", "method", "versions"))
    return what, float(log.mean()), float(log.var(ddof=1)) / len(log)
