"""What is said of a measurement, on its way into the journal beside the results.

Under asv each process writes what it has measured itself. Under `convbench bench` the process of a
backend writes nothing: it hands its notes to the judge that has started it, which sees that they
are of the cell that it has asked for, and writes them with what it knows of the process itself.
"""

from __future__ import annotations

import json
import os
import statistics
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from convbench.backends import origin
from convbench.backends.attest import attest
from convbench.backends.base import Backend, Run
from convbench.backends.compute import Computed
from convbench.machine import nvidia
from convbench.machine.child import Questions
from convbench.machine.facts import machine_facts, moment
from convbench.machine.failures import note_success
from convbench.measuring.asv_run import asv_mode, location
from convbench.results.journal import Ledger, append
from convbench.results.machines import fingerprint
from convbench.stimulus.spec import PipelineSpec
from convbench.stimulus.targets import Target


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process writes its lines, as part of what, and how it was started.

    Attributes
    ----------
    round : int
        0 where asv runs the rounds, which does not tell.
    launch : str
        "fork" or "exec" by :mod:`convbench.measuring.bench`; by asv, the mode that it calls it.
    ledger : Ledger, optional
        Remembers the lines.
    """

    path: Path
    run: str
    round: int = 0
    launch: str = ""
    ledger: Ledger | None = None

    def append(self, kind: str, /, **content: Any) -> None:
        """Append a line."""
        if self.ledger is None:
            append(self.path, kind, run=self.run, **content)
        else:
            self.ledger.append(kind, run=self.run, **content)


class Writer:
    """Writes as one process, or on behalf of one.

    Parameters
    ----------
    place : Place, optional
        None writes nothing.
    pid : int
        Of the process; by default this one.
    """

    def __init__(self, place: Place | None, pid: int = 0) -> None:
        self.pid = pid or os.getpid()
        self.place = place
        self._me = f"{self.pid}-{uuid.uuid4().hex[:8]}"
        self._told: dict[str, Any] = {}

    def write(self, benchmark: str, params: Sequence[str], status: str, /, **facts: Any) -> None:
        """Append a line about a cell."""
        place = self.place
        if place is None:
            return
        if not self._told:
            self._tell(launch=place.launch, before=moment(), machine=known_machine())
        for name in ("versions", "origin"):
            if (known := facts.pop(name, None)) is not None:
                self._tell(**{name: known})
        if status != "started" and place.round == 0:  # asv's processes have one cell each
            self._tell(after=moment())
        place.append(
            "cell", process=self._me, round=place.round,
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
            self.place.append("process", process=self._me, **new)


class Relay:
    """Hands all of it to the judge, and stands by its times there.

    Parameters
    ----------
    pipe : Questions
        To the judge.
    """

    def __init__(self, pipe: Questions) -> None:
        self.pid = os.getpid()
        self._pipe = pipe

    def write(self, benchmark: str, params: Sequence[str], status: str, **facts: Any) -> None:
        """Hand on a line about a cell."""
        plain = json.loads(json.dumps(facts, default=str))
        note = {"benchmark": benchmark, "params": [*params], "status": status, "facts": plain}
        self._pipe.send({"note": note})

    def judged(self, computed: Computed, claim: Mapping[str, Any]) -> dict[str, Any] | None:
        """Hand an output to the judge: error over bound, and the worst element in words."""
        self._pipe.send({"computed": computed.to_dict(), "claim": dict(claim)})
        verdict: dict[str, Any] | None = self._pipe.recv()
        return verdict

    def attest(self, backend: Backend, run: Run, claim: Mapping[str, Any]) -> None:
        """Say what is claimed of a run, and answer what the judge wants to see of it."""
        self._pipe.send({"claim": dict(claim)})
        attest(self._pipe, backend, run)


_writer: Writer | Relay | None = None


def use(writer: Writer | Relay) -> None:
    """Write with it from now on."""
    global _writer  # noqa: PLW0603  # a process belongs to one run
    _writer = writer


def write(benchmark: str, params: Sequence[str], status: str, **facts: Any) -> None:
    """Append a line for the run that this process belongs to; nothing if there is none.

    Without a writer that was given to :func:`use`, the place follows from what asv was asked for. A
    disk that cannot be written to costs the evidence, with a warning, and never the measurement.
    """
    writer = _writer
    if writer is None or writer.pid != os.getpid():  # a fork is a process of its own
        found = location()
        writer = Writer(None if found is None else Place(*found, launch=asv_mode() or ""))
        use(writer)
    if "versions" in facts:  # its backend is open
        facts["origin"] = asdict(origin(Target.parse(params[0]).backend))
    writer.write(benchmark, params, status, **facts)


def judged(
    computed: Computed, pipeline: PipelineSpec, inputs: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Have the judge say how far an output is from right; None where there is none.

    Parameters
    ----------
    inputs : mapping
        As for :func:`stand_by`.

    Returns
    -------
    dict
        ``ratio`` and ``worst``, as of :class:`convbench.correctness.accuracy.Accuracy`.
    """
    if not isinstance(_writer, Relay):
        return None
    return _writer.judged(computed, {**inputs, "pipeline": pipeline.to_dict()})


def stand_by(
    backend: Backend,
    run: Run,
    pipeline: PipelineSpec,
    inputs: Mapping[str, Any],
    samples_s: Sequence[float],
) -> None:
    """Stand by a time in front of the judge, where there is one; else it remains a claim.

    Parameters
    ----------
    run : Run
        Of the pipeline, as it was timed.
    inputs : mapping
        The arguments of :func:`convbench.stimulus.inputs.make_inputs` that the weights are of:
        ``dtype``, ``fill`` and ``seed``.
    samples_s : sequence of float
        What was measured.
    """
    note_success()
    if isinstance(_writer, Relay):
        claim = {
            **inputs,
            "pipeline": pipeline.to_dict(),
            "hot_s": statistics.median(samples_s),
            "mean_s": statistics.fmean(samples_s),
            "algorithm": run.algorithm,
            "accumulation": run.accumulation,
            "scheme": run.scheme,
        }
        _writer.attest(backend, run, claim)


@cache
def known_machine() -> dict[str, Any]:
    """What stays as it is while benchmarks run, the cards among it; asked once a process."""
    known = machine_facts()
    if nvidia.has_nvidia_driver() and (cards := nvidia.gpus()):
        what = ("name", "driver", "memory_total_mib")
        known["gpus"] = [{k: card[k] for k in what if k in card} for card in cards]
    known["fingerprint"] = fingerprint(known)
    return known
