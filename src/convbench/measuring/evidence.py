"""Writes what this process has to say of what it measures, into the journal beside the results."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from convbench.machine import nvidia
from convbench.machine.facts import machine_facts, moment
from convbench.measuring.asv_run import asv_mode, location, run_of_asv
from convbench.results.journal import append


@dataclass(frozen=True, slots=True)
class Place:
    """Where this process writes its lines, as part of what, and how it was started.

    Attributes
    ----------
    launch : str
        "fork" or "exec" by :mod:`convbench.measuring.bench`; by asv, the mode that it calls it.
    """

    path: Path
    run: str
    round: int = 0
    launch: str = ""


_place: Place | None = None
_told: dict[tuple[Path, str], dict[str, Any]] = {}
"""What this process, by its id, has said of itself already in a file."""


def use(place: Place) -> None:
    """Write to this place from now on, instead of where asv's command line points to."""
    global _place  # noqa: PLW0603  # a process belongs to one run, and is told once
    _place = place


def write(benchmark: str, params: Sequence[str], status: str, **facts: Any) -> None:
    """Append a line for the run that this process belongs to; nothing if there is none.

    A disk that cannot be written to costs the evidence, with a warning, and never the measurement.
    """
    place = _where()
    if place is None:
        return
    me = f"{os.getpid()}-{_process_id(os.getpid())}"
    if (place.path, me) not in _told:
        _told.clear()  # those of the process that this one was forked from
        launch = place.launch or asv_mode()
        describe(place, me, launch=launch, before=moment(), machine=_machine_facts())
    if (versions := facts.pop("versions", None)) is not None:
        describe(place, me, versions=versions)
    if status != "started" and place is not _place:  # asv's processes have one cell each
        describe(place, me, after=moment())
    append(
        place.path,
        "cell",
        run=place.run, process=me, round=place.round,
        benchmark=benchmark, params=list(params), status=status, **facts,
    )  # fmt: skip


def finish() -> None:
    """Say, as the last thing, how the machine is at the end of this process."""
    for path, process in [*_told]:
        if _place is not None and path == _place.path:
            describe(_place, process, after=moment())


def describe(place: Place, process: str, **facts: Any) -> None:
    """Append what is new in what a process says of itself."""
    told = _told.setdefault((place.path, process), {})
    if new := {name: value for name, value in facts.items() if told.get(name) != value}:
        told.update(new)
        append(place.path, "process", run=place.run, process=process, **new)


@cache
def _process_id(pid: int) -> str:  # noqa: ARG001  # a fork has another pid, and gets another id
    return uuid.uuid4().hex[:8]


@cache
def _machine_facts() -> dict[str, Any]:
    known = machine_facts()
    if nvidia.has_nvidia_driver() and (cards := nvidia.gpus()):
        what = ("name", "driver", "memory_total_mib")
        known["gpus"] = [{k: card[k] for k in what if k in card} for card in cards]
    return known


def _where() -> Place | None:
    """The place that was given, or the one that follows from asv's command line."""
    if _place is not None:
        return _place
    path = location()
    return None if path is None else Place(path, run_of_asv())
