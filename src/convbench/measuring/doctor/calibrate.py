"""Measures how far sessions of this machine lie apart, which `convbench compare` has to know.

A session is what a run of `convbench bench` is: fresh processes of each target, in an order that is
drawn. What differs between its processes shows in any comparison; what shifts all of them does not.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from convbench import __version__
from convbench.machine.files import write
from convbench.measuring.asv_store import machine_name
from convbench.measuring.doctor.evidence import GROUP, Draw
from convbench.measuring.doctor.trial import draw_in_process
from convbench.measuring.evidence import known_machine
from convbench.results.calibration import NAME, Calibration, Measured, Session
from convbench.results.folder import Folder
from convbench.stimulus.targets import Target
from convbench.words.status import Outcome


@dataclass(frozen=True, slots=True)
class Calibrated:
    """How far a calibration is.

    Attributes
    ----------
    calibration : Calibration
        As it was stored after the last session.
    path : Path
        Where.
    sessions : int
        That were made now; the calibration may have more, of other days.
    failures : tuple of (Target, Outcome)
        Why a target is not in the last of them.
    """

    calibration: Calibration
    path: Path
    sessions: int = 0
    failures: tuple[tuple[Target, Outcome], ...] = ()


def calibrate(
    targets: Sequence[Target],
    sessions: int,
    folder: Folder,
    *,
    draw: Callable[[int, int | None, Target], Draw | Outcome] = draw_in_process,
) -> Generator[Calibrated]:
    """Make sessions, and store after each what all of them come to.

    What is there already of the same hardware is added to: sessions of several days tell more.
    Closing the iterator, as Ctrl-C does, keeps the sessions that have ended.

    Parameters
    ----------
    draw : callable
        ``(number, threads, target) -> Draw``, in a process of its own.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    path = folder.evidence / machine_name() / NAME
    hardware = str(known_machine()["fingerprint"])
    known = Calibration.read(path)
    if known is None or known.fingerprint != hardware:
        known = Calibration(hardware)
    done = Calibrated(known, path)
    for number in range(1, sessions + 1):
        session, failures = _session(targets, draw)
        if session.targets:
            known = replace(known, sessions=(*known.sessions, session))
            document = {"convbench": __version__, **known.to_dict()}
            write(path, json.dumps(document) + "\n", parents=True)
        done = Calibrated(known, path, number, failures)
        yield done


def _session(
    targets: Sequence[Target], draw: Callable[[int, int | None, Target], Draw | Outcome]
) -> tuple[Session, tuple[tuple[Target, Outcome], ...]]:
    """As many processes of each target as `convbench bench` takes, interleaved."""
    draws: dict[Target, list[Draw]] = {target: [] for target in targets}
    failures: dict[Target, Outcome] = {}
    for number in range(GROUP):
        for target in random.sample(targets, len(targets)):
            if target in failures:
                continue
            answer = draw(number, None, target)
            if isinstance(answer, Outcome):
                failures[target] = answer
            else:
                draws[target].append(answer)
    measured = {
        str(target): Measured(
            {str(name): str(version) for name, version in some[-1].versions.items()},
            {name: [each.medians_s[name] for each in some] for name in some[-1].medians_s},
        )
        for target, some in draws.items()
        if target not in failures
    }
    return Session(time.time(), measured), tuple(failures.items())
