"""The judge of a run of benchmarks: one receipt for each timed cell."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

from convbench.auditing import claimant
from convbench.auditing.claims import Claim, Receipt, Support
from convbench.auditing.examine import (
    QUIET_S,
    QUIET_WINDOWS,
    Examination,
    Party,
    Subject,
    Unanswered,
    Watched,
    watched_claims,
)
from convbench.correctness.accuracy import accuracy_of, digest, refer
from convbench.errors import ConvbenchError
from convbench.machine import watch
from convbench.machine.child import Child
from convbench.measuring.asv_store import Cell
from convbench.stimulus.arrays import exactly_an_array
from convbench.stimulus.formats import FORMATS, Fill
from convbench.stimulus.inputs import Inputs, make_inputs
from convbench.stimulus.spec import PipelineSpec
from convbench.stimulus.targets import Target
from convbench.words.status import Outcome

PATIENCE = 200.0
"""So many times a claim an answer on fresh numbers may take, and `PATIENCE_S` longer."""

PATIENCE_S = 20.0

UNREADABLE = (ArithmeticError, LookupError, TypeError, ValueError)
"""What is raised where an answer is not of the form that is expected, or its numbers are none."""

WORST = 1e30
"""For what is as wrong as can be: asv's pages break on infinity."""


class Judge:
    """Owns what no backend may touch: the seed, the clock, and a process without a backend.

    Use it as a context manager.

    Attributes
    ----------
    pipelines : mapping of str to PipelineSpec
        What the names of workloads mean, as far as that is known here.
    """

    def __init__(self) -> None:
        self.pipelines: Mapping[str, PipelineSpec] = {}
        self._echo: Child | None = None
        watch.adopt()
        self.spent_s = 0.0
        """How long it has looked."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._echo is not None:
            self._echo.close()
            self._echo = None

    def echo(self, order: dict[str, Any]) -> Any:
        """Ask the process without a backend."""
        for last in (False, True):
            if self._echo is None:
                self._echo = Child(claimant.echo, (), threads=1)
            self._echo.go_on()
            answer = self._echo.ask(order, PATIENCE_S)
            if not isinstance(answer, Outcome):
                break
            self._echo.close()  # the machine is out of memory, perhaps, or somebody has ended it
            self._echo = None
            if last:
                raise Unanswered(answer)
        return answer

    def _echo_spent(self) -> watch.Spent:
        return watch.spent(self._echo.pid) if self._echo is not None else watch.Spent()

    def examine(self, child: Child, subject: Subject, watched: Watched, seed: str = "") -> Receipt:
        """Look at one claim; its process stands by it until this returns."""
        begun_s = time.monotonic()
        patience_s = PATIENCE_S + PATIENCE * min(subject.hot_s, watched.wall_s)
        size_bytes = 64 * (subject.pipeline.bytes(8) + 1024)
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1

        def ask(order: dict[str, Any]) -> Any:
            answer = child.ask(order, patience_s, size_bytes)
            if isinstance(answer, Outcome):
                raise Unanswered(answer)
            return answer

        accused = Party(ask, lambda: watch.spent(child.pid))
        echo = Party(self.echo, self._echo_spent)
        examination = Examination(subject, accused, echo, seed, watched.cores(usable))
        try:
            receipt = examination.run()
        except Unanswered as error:
            receipt = _unanswered(subject, error.outcome, examination.seed)
        except (ConvbenchError, *UNREADABLE) as error:
            outcome = Outcome.malformed(error)
            receipt = _unanswered(subject, outcome, examination.seed)
        watched = replace(watched, last=child.look())
        child.tell({"do": "end"})
        more = tuple(watched_claims(watched, usable))
        self.spent_s += time.monotonic() - begun_s
        return replace(
            receipt,
            claims=(*receipt.claims, *more),
            cpu_s=watched.cpu_s,
            wall_s=watched.wall_s,
            threads=watched.after.threads if watched.after else 0,
            helpers=tuple(sorted(watched.helpers.values())),
            quiet=watched.quiet,
        )

    def time(
        self,
        child: Child,
        cell: Cell,
        claim: Mapping[str, Any],
        before: watch.Seen | None,
        begun_s: float,
    ) -> dict[str, Any]:
        """Look at a claim that a suite makes about one of its cells."""
        watched = observe(child, before, begun_s)
        try:
            subject = self._subject(cell, claim)
        except (ConvbenchError, *UNREADABLE) as error:
            child.tell({"do": "end"})
            reason = f"what its process says of it cannot be read: {error}"
            doubt = Claim("time", Support.NOT_SUPPORTED, None, None, "s", reason)
            return Receipt((doubt,)).to_dict()
        weights = {name: claim[name] for name in ("dtype", "fill", "seed")}
        receipt = self.examine(child, subject, watched)
        return replace(receipt, weights=weights).to_dict()

    def error(
        self, cell: Cell, computed: Mapping[str, Any], claim: Mapping[str, Any]
    ) -> dict[str, Any]:
        """How far an output of a suite is from right, by what `convbench verify` judges with."""
        try:
            pipeline, inputs = self._meant(cell, claim)
            output = exactly_an_array(computed["output"])
            accumulation = computed["accumulation"] and str(computed["accumulation"])
            scheme = computed.get("scheme") and str(computed["scheme"])
            storage = FORMATS[inputs.weights.dtype].storage
            if output.dtype.name != storage:
                return {"value": WORST, "worst": f"the dtype is {output.dtype}; expected {storage}"}
            expected = refer(pipeline, inputs, accumulation=accumulation, scheme=scheme)
            found = accuracy_of(output, expected)
        except (ConvbenchError, *UNREADABLE) as error:
            return {"value": WORST, "worst": str(error)}
        value = min(found.ratio, WORST)
        worst = f"{found}, by the bound of {scheme}" if scheme else str(found)
        return {"value": value, "worst": worst, "digest": digest(output)}

    def _meant(self, cell: Cell, claim: Mapping[str, Any]) -> tuple[PipelineSpec, Inputs]:
        """The pipeline of a cell, and the inputs that its process says it was given."""
        pipeline = PipelineSpec.from_dict(claim["pipeline"])
        _, workload, *stage = cell.params
        known = self.pipelines.get(workload)
        if known is not None:
            meant = known.stages().get(stage[0]) if stage else known
            if pipeline != meant:
                raise ValueError(f"the pipeline is {pipeline}, and that of the cell is {meant}")
        if claim["fill"] != Fill.NORMAL:  # with others nothing at all may be near enough
            raise ValueError(f"the fill is {claim['fill']}; what is judged is {Fill.NORMAL}")
        dtype, seed = str(claim["dtype"]), int(claim["seed"])
        return pipeline, make_inputs(pipeline, dtype, Fill.NORMAL, seed)

    def _subject(self, cell: Cell, claim: Mapping[str, Any]) -> Subject:
        pipeline, inputs = self._meant(cell, claim)
        return Subject(
            pipeline,
            inputs.weights,
            Target.parse(cell.target).device,
            float(claim["hot_s"]),
            float(claim["mean_s"]),
            claim["accumulation"] and str(claim["accumulation"]),
            claim.get("scheme") and str(claim["scheme"]),  # commits from before it have none
        )


def observe(child: Child, before: watch.Seen | None, begun_s: float) -> Watched:
    """See what a process did since, and whether it rests now."""
    wall_s = time.monotonic() - begun_s
    after = returned = child.look()
    for _ in range(QUIET_WINDOWS):  # a thread that waits for more work may spin for a while
        time.sleep(QUIET_S)
        watched = Watched(before, returned, child.look(), wall_s, since=after)
        if watched.quiet is not False:
            break
        after = watched.later
    return watched


def _unanswered(subject: Subject, outcome: Outcome, seed: str) -> Receipt:
    reason = (
        f"asked to compute on fresh numbers, its process did not stand by the claim: "
        f"{outcome.reason}"
    )
    claim = Claim("time", Support.NOT_SUPPORTED, None, subject.hot_s, "s", reason)
    return Receipt((claim,), hot_s=subject.hot_s, seed=seed)
