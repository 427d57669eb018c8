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
from convbench.measuring.asv_run import asv_mode, location
from convbench.results.journal import append


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process writes its lines, as part of what, and how it was started.

    Attributes
    ----------
    path : Path
    run : str
    round : int
        0 where asv runs the rounds, which does not tell.
    launch : str
        "fork" or "exec" by :mod:`convbench.measuring.bench`; by asv, the mode that it calls it.
    """

    path: Path
    run: str
    round: int = 0
    launch: str = ""


class Writer:
    """Writes as one process.

    Parameters
    ----------
    place : Place, optional
        None writes nothing.
    """

    def __init__(self, place: Place | None) -> None:
        self.pid = os.getpid()
        self.place = place
        self._me = f"{self.pid}-{uuid.uuid4().hex[:8]}"
        self._told: dict[str, Any] = {}

    def write(self, benchmark: str, params: Sequence[str], status: str, **facts: Any) -> None:
        """Append a line about a cell."""
        place = self.place
        if place is None:
            return
        if not self._told:
            self._tell(launch=place.launch, before=moment(), machine=_machine_facts())
        if (versions := facts.pop("versions", None)) is not None:
            self._tell(versions=versions)
        if status != "started" and place.round == 0:  # asv's processes have one cell each
            self._tell(after=moment())
        append(
            place.path,
            "cell",
            run=place.run, process=self._me, round=place.round,
            benchmark=benchmark, params=list(params), status=status, **facts,
        )  # fmt: skip

    def finish(self) -> None:
        """Say, as the last thing, how the machine is at the end of this process."""
        if self._told:
            self._tell(after=moment())

    def _tell(self, **facts: Any) -> None:
        """Append what is new in what this process says of itself."""
        assert self.place is not None
        if new := {name: value for name, value in facts.items() if self._told.get(name) != value}:
            self._told.update(new)
            append(self.place.path, "process", run=self.place.run, process=self._me, **new)


_writer: Writer | None = None


def use(place: Place | None) -> Writer:
    """Write to this place from now on."""
    global _writer  # noqa: PLW0603  # a process belongs to one run
    _writer = Writer(place)
    return _writer


def write(benchmark: str, params: Sequence[str], status: str, **facts: Any) -> None:
    """Append a line for the run that this process belongs to; nothing if there is none.

    Without a place that was given to :func:`use`, it follows from what asv was asked for. A disk
    that cannot be written to costs the evidence, with a warning, and never the measurement.
    """
    writer = _writer
    if writer is None or writer.pid != os.getpid():  # a fork is a process of its own
        found = location()
        writer = use(None if found is None else Place(*found, launch=asv_mode() or ""))
    writer.write(benchmark, params, status, **facts)


@cache
def _machine_facts() -> dict[str, Any]:
    known = machine_facts()
    if nvidia.has_nvidia_driver() and (cards := nvidia.gpus()):
        what = ("name", "driver", "memory_total_mib")
        known["gpus"] = [{k: card[k] for k in what if k in card} for card in cards]
    return known
