"""How far sessions of a machine lie apart, as `convbench doctor --calibrate` has measured it.

One file of JSON beside the evidence of the machine, replaced as a whole after each session::

    .asv/evidence/<machine>/calibration.json

docs/evidence.md documents its fields.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from convbench.results import machines
from convbench.results.folder import Folder
from convbench.results.journal import UNREADABLE, content, number, unreadable
from convbench.results.sessions import Between, Spread, estimate, spread
from convbench.words.numbers import count, date

SCHEMA = "convbench.calibration/1"
NAME = "calibration.json"


@dataclass(frozen=True, slots=True)
class Measured:
    """What one session has of a target.

    Attributes
    ----------
    versions : mapping of str to str
        Of the libraries: with others it is another thing that was measured.
    medians_s : mapping of str to sequence of float
        By workload, the median of each of its processes, in seconds.
    """

    versions: Mapping[str, str]
    medians_s: Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Session:
    """One session: processes that were measured one soon after the other."""

    ended_s: float
    targets: Mapping[str, Measured]


@dataclass(frozen=True, slots=True)
class Calibration:
    """All sessions that were made on some hardware.

    Attributes
    ----------
    fingerprint : str
        Of the hardware; see :func:`convbench.results.machines.fingerprint`.
    """

    fingerprint: str
    sessions: tuple[Session, ...] = field(default=())

    def spreads(self) -> dict[str, Spread]:
        """How far they lie apart, by target, of those in two sessions with the latest versions."""
        found = {}
        for target in dict.fromkeys(t for session in self.sessions for t in session.targets):
            measured = [s.targets[target] for s in self.sessions if target in s.targets]
            same = [each for each in measured if each.versions == measured[-1].versions]
            if (known := estimate([_moments(same)])) is not None:
                found[target] = known
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as the file has them."""
        return {
            "schema": SCHEMA,
            "fingerprint": self.fingerprint,
            "ended_s": round(self.sessions[-1].ended_s, 3),
            "targets": {
                target: {"variance": known.variance, "freedom": known.freedom}
                for target, known in self.spreads().items()
            },
            "sessions": [asdict(session) for session in self.sessions],
        }

    @classmethod
    def read(cls, path: Path) -> Calibration | None:
        """Read it, to add sessions; None if there is none, or none that can be read."""
        try:
            told = _document(path)
            return cls(str(told["fingerprint"]), tuple(map(_session, told["sessions"])))
        except UNREADABLE:
            return None


def _moments(measured: Sequence[Measured]) -> Iterator[tuple[list[float], list[float]]]:
    """Of each workload the means of the logarithms in each session, and their variances."""
    for workload in measured[-1].medians_s:
        logs = [
            [*map(math.log, each.medians_s[workload])]
            for each in measured
            if len(each.medians_s.get(workload, ())) > 1
        ]
        if len(logs) > 1:
            yield (
                [*map(statistics.fmean, logs)],
                [statistics.variance(log) / len(log) for log in logs],
            )


def _document(path: Path) -> dict[str, Any]:
    told = dict(json.loads(content(path)))
    if told["schema"] != SCHEMA:
        raise ValueError(f"its schema is {told['schema']!r:.80} and this version reads {SCHEMA!r}")
    return told


def _session(told: Mapping[str, Any]) -> Session:
    targets = {
        str(target): Measured(
            {str(name): str(version) for name, version in dict(of["versions"]).items()},
            {str(name): [*map(_time, medians)] for name, medians in dict(of["medians_s"]).items()},
        )
        for target, of in dict(told["targets"]).items()
    }
    return Session(number(told["ended_s"], "ended_s"), targets)


def _time(value: Any) -> float:
    if (seconds := number(value, "a median")) <= 0:
        raise ValueError(f"a median is {seconds} s")
    return seconds


def between(folder: Folder, machine: str, environment: str) -> Between:
    """What is known of the sessions of a machine: of its repeated runs, or of its calibration.

    Parameters
    ----------
    machine : str
        The one name of its hardware.
    environment : str
        In which runs are looked for; a calibration counts in all of them.
    """
    if repeated := spread(folder, machine, environment):
        sessions = count(repeated.freedom + repeated.commits, "repeated session")
        source = f"{sessions} of {count(repeated.commits, 'commit')}"
        return Between({"": repeated}, source)
    called = machines.names(folder)
    found = [
        path
        for path in folder.evidence.glob(f"*/{NAME}")
        if called.get(path.parent.name, path.parent.name) == machine
    ]
    for path in sorted(found, key=lambda path: -path.stat().st_mtime)[:1]:
        try:
            told = _document(path)
            when = date(number(told["ended_s"], "ended_s"))
            theirs, ours = str(told["fingerprint"]), machines.hardware(folder, path.parent.name)
            if not ours or theirs != ours:
                here = ours or "unknown"
                why = f"it is of {theirs or 'unknown hardware'}, and {machine} is {here}"
                return Between(unused=f"the calibration of {when} is not used: {why}")
            spreads = {
                str(target): Spread(_variance(of), int(number(of["freedom"], "freedom")))
                for target, of in dict(told["targets"]).items()
            }
            if any(known.freedom < 1 for known in spreads.values()):
                raise ValueError("its degrees of freedom are less than 1")
            return Between(spreads, f"calibration of {when} on this machine")
        except UNREADABLE as error:
            return Between(unused=f"{path}: left out, because {unreadable(error)}")
    return Between()


def _variance(of: Mapping[str, Any]) -> float:
    if not 0 <= (variance := number(of["variance"], "variance")) < 1:
        raise ValueError(f"a variance is {variance}")
    return variance
