"""Is every target right? Each cell against the oracle, each target in a process of its own."""

from __future__ import annotations

import math
import os
import secrets
import shlex
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from convbench.backends.compute import Computed
from convbench.correctness.accuracy import (
    Accuracy,
    Reference,
    accuracy_of,
    digest,
    is_exact,
    refer_for,
)
from convbench.correctness.sample import sample
from convbench.correctness.worker import Computer, Task, Worker
from convbench.errors import ArrayError, Blind
from convbench.stimulus.formats import FORMATS, Fill, Format, format_of
from convbench.stimulus.inputs import Inputs, make_inputs
from convbench.stimulus.spec import PipelineSpec
from convbench.stimulus.targets import Target
from convbench.stimulus.workloads import Workload, neighbour
from convbench.words.status import Exit, Outcome, Status

MOST_ZEROS = 0.5
"""An expected output with a larger share of zeros proves little: the cell fails as vacuous."""


DENORMAL_FLOPS = 300_000_000
"""Above this many operations a cell is only checked with denormal numbers if that is asked for."""


class Determinism(StrEnum):
    """How the outputs of several fresh processes, with different numbers of threads, agree."""

    SAME_BITS = "same bits"
    WITHIN_BOUND = "same within bound"
    DIFFERS = "differs"


@dataclass(frozen=True, slots=True)
class Check:
    """One cell: a target, a workload, a dtype and a fill.

    Attributes
    ----------
    exact : bool
        The sums are exact, so that nothing but the same bits is right.
    accuracy : Accuracy, optional
        None if there is no output.
    algorithm, reason, remedy : str
        What computed it; or why nothing did, and what to do.
    digest : str
        Names the bits of the output; see :func:`convbench.correctness.accuracy.digest`.
    determinism : Determinism, optional
        Only with several processes.
    sampled : int
        How many positions of the output were checked; 0 for all.
    usual : float, optional
        Error over the usual bound of the format, where a backend declares that its sums are kept
        in another, or a scheme that saves multiplications.
    file : str
        Of the workload, where it is named to a command.
    """

    target: Target
    workload: str
    dtype: str
    fill: Fill
    seed: int
    status: Status
    exact: bool
    accuracy: Accuracy | None = None
    algorithm: str = ""
    accumulation: str = ""
    scheme: str = ""
    reason: str = ""
    remedy: str = ""
    digest: str = ""
    determinism: Determinism | None = None
    sampled: int = 0
    usual: float | None = None
    file: str = ""

    @property
    def declared(self) -> str:
        """What makes this right that the backend declares of itself; "" if it needs nothing."""
        if self.status is Status.DEVIATES:
            return self.reason
        if self.status is Status.OK and self.usual is not None and self.usual > 1:
            what = f"{self.scheme}, own bound" if self.scheme else f"sums in {self.accumulation}"
            return f"{what}: by the usual bound it is {self.usual:.3g}"
        return ""

    def command(self) -> str:
        """The line that repeats this cell alone."""
        return shlex.join((
            "convbench", "verify", "--target", str(self.target), "--workload", self.workload,
            "--dtype", self.dtype, "--fill", self.fill, "--seed", str(self.seed),
            *(("--workloads", self.file) if self.file else ()),
        ))  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        worst = self.accuracy
        return {
            "target": str(self.target),
            "workload": self.workload,
            "dtype": self.dtype,
            "fill": str(self.fill),
            "seed": self.seed,
            "status": str(self.status),
            "exact": self.exact,
            "error_over_bound": None if worst is None else worst.ratio,
            "worst": None if worst is None else worst.to_dict(),
            "algorithm": self.algorithm,
            "accumulation": self.accumulation,
            "scheme": self.scheme,
            "error_over_usual_bound": self.usual,
            "declared": self.declared,
            "digest": self.digest,
            "determinism": None if self.determinism is None else str(self.determinism),
            "sampled_positions": self.sampled or None,
            "reason": self.reason,
            "remedy": self.remedy,
            "command": self.command(),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be verified, and how thoroughly.

    Attributes
    ----------
    timeout_s : float
        A cell that takes longer has failed.
    processes : int
        Fresh processes that compute every cell, with 1, 2, ... threads and as many as they like.
    thorough : bool
        Check large outputs whole, instead of a sample of their positions, with denormal numbers
        too, and what a backend declares to be slow.
    neighbours : int
        Layers like each of the workloads that nobody has listed, which are checked too, in the
        first of the dtypes and with the first of the fills: of sizes from a seed that is drawn now.
    """

    workloads: Sequence[Workload]
    targets: Mapping[Target, Outcome | None]
    dtypes: Sequence[str] = ("float32", "float64")
    fills: Sequence[Fill] = tuple(Fill)
    seed: int = 0
    timeout_s: float = 600.0
    processes: int = 1
    thorough: bool = False
    neighbours: int = 0

    @property
    def rows(self) -> Iterator[tuple[Workload, str, Fill]]:
        """What is checked on every target."""
        for workload in self.workloads:
            yield from ((workload, dtype, fill) for dtype in self.dtypes for fill in self.fills)
            for _ in range(self.neighbours):
                if (near := neighbour(workload, secrets.randbits(32))) is not None:
                    yield near, self.dtypes[0], self.fills[0]

    @property
    def cells(self) -> int:
        """How many cells that makes, at most."""
        each = len(self.dtypes) * len(self.fills) + self.neighbours
        return len(self.workloads) * len(self.targets) * each


def verify(plan: Plan, start: Callable[..., Computer] = Worker) -> Generator[Check]:
    """Check every cell, workload by workload, as it is computed.

    The inputs and the oracle are computed once for all targets, here; the outputs come from one
    process per target, or several. In each output that is right one element is then made wrong, and
    must be seen to be.

    Parameters
    ----------
    start : callable
        Makes the processes, with the arguments of :class:`~convbench.correctness.worker.Worker`.

    Raises
    ------
    Blind
        If it is not.
    """
    with ExitStack() as stack:
        workers = {
            target: [
                stack.enter_context(start(target, plan.timeout_s, absence, threads))
                for threads in _thread_counts(plan.processes)
            ]
            for target, absence in plan.targets.items()
        }
        for workload, dtype, fill in plan.rows:
            slow = fill is Fill.DENORMAL and workload.pipeline.flops > DENORMAL_FLOPS
            if slow and not plan.thorough:
                for target in workers:
                    yield _too_slow(plan, target, workload, dtype)
                continue
            try:
                case = _Case.of(workload.pipeline, dtype, fill, plan)
            except (MemoryError, ValueError) as error:  # NumPy's, of what cannot be an array
                for target in workers:
                    yield _too_large(plan, target, workload, dtype, fill, error)
                continue
            for target, replicates in workers.items():
                judged = {"exact": case.exact} | case.judge(replicates)
                yield Check(
                    target, workload.name, dtype, fill, plan.seed, sampled=case.sampled,
                    file=workload.file, **judged,
                )  # fmt: skip


def _too_slow(plan: Plan, target: Target, workload: Workload, dtype: str) -> Check:
    reason = (
        f"above {DENORMAL_FLOPS / 1e9:g} GFLOP denormal numbers are left out: most CPUs are a"
        " hundred times slower with them, and smaller layers show whether they are flushed"
    )
    return Check(
        target, workload.name, dtype, Fill.DENORMAL, plan.seed, Status.SKIPPED, exact=False,
        reason=reason, remedy="--thorough checks them here too.", file=workload.file,
    )  # fmt: skip


def _too_large(
    plan: Plan, target: Target, workload: Workload, dtype: str, fill: Fill, error: Exception
) -> Check:
    gib = workload.pipeline.bytes(8) / 2**30
    return Check(
        target, workload.name, dtype, fill, plan.seed, Status.FAILED, exact=False,
        reason=f"its arrays cannot be made here, {gib:.3g} GiB in float64: {error}",
        remedy="Check a smaller one.", file=workload.file,
    )  # fmt: skip


@dataclass(slots=True)
class _Case:
    """The inputs of one cell, whatever the target, and what the oracle says about them."""

    pipeline: PipelineSpec
    inputs: Inputs
    fill: Fill
    exact: bool
    thorough: bool
    positions: Any
    _references: dict[tuple[str, str | None], Reference] = field(default_factory=dict)

    @classmethod
    def of(cls, pipeline: PipelineSpec, dtype: str, fill: Fill, plan: Plan) -> _Case:
        # Drawn where no backend can see it: what is only right where it is looked at is wrong.
        positions = None if plan.thorough else sample(pipeline, secrets.randbits(32))
        inputs = make_inputs(pipeline, dtype, fill, plan.seed)
        exact = is_exact(pipeline, dtype, fill)
        return cls(pipeline, inputs, fill, exact, plan.thorough, positions)

    @property
    def sampled(self) -> int:
        return 0 if self.positions is None else len(self.positions[0])

    def reference(self, accumulation: str, scheme: str | None = None) -> Reference:
        """The oracle's, once for each way to compute that is declared: nearly always one."""
        how = (accumulation, scheme)
        if how not in self._references:
            self._references[how] = refer_for(
                self.pipeline, self.inputs, self.fill, accumulation, self.positions, scheme
            )
        return self._references[how]

    def judge(self, workers: Sequence[Computer]) -> dict[str, Any]:
        """Compute with every worker: the fields of a Check."""
        task = Task(self.pipeline, self.inputs, self.fill, thorough=self.thorough)
        first: dict[str, Any] = {}
        outcomes: list[tuple[Status, str]] = []
        for worker in workers:
            judged = self._judge(worker.compute(task))
            first = first or judged
            if judged["status"] not in {Status.OK, Status.DEVIATES}:
                return judged  # what one process gets wrong is wrong
            outcomes.append((judged["status"], judged["digest"]))
        if len(workers) > 1:
            first["determinism"] = _determinism(outcomes)
        return first

    def _judge(self, answer: Computed | Outcome) -> dict[str, Any]:
        if isinstance(answer, Outcome):
            return {"status": answer.status, "reason": answer.reason, "remedy": answer.remedy}
        dtype = self.inputs.weights.dtype
        usual = format_of(dtype).accumulation
        accumulation, scheme = answer.accumulation or usual, answer.scheme
        facts: dict[str, Any] = {
            "algorithm": answer.algorithm,
            "accumulation": accumulation,
            "scheme": scheme or "",
            "digest": digest(answer.output),
        }
        try:
            expected = self.reference(accumulation, scheme)
        except ArrayError as error:  # nonsense is declared
            return {"status": Status.FAILED, "reason": str(error), **facts}
        facts["exact"] = is_exact(self.pipeline, dtype, self.fill, accumulation, scheme)
        if expected.zeros > MOST_ZEROS and self.fill is not Fill.DENORMAL:
            reason = f"vacuous: {expected.zeros:.0%} of what is expected of the input is zero"
            return {"status": Status.FAILED, "reason": reason, **facts}
        try:
            outputs = (answer.output, *answer.later)  # what is right has to stay so
            accuracy = max(
                (accuracy_of(output, expected) for output in outputs), key=lambda it: it.ratio
            )
            if scheme or accumulation != usual:
                facts["usual"] = accuracy_of(answer.output, self.reference(usual)).ratio
        except ArrayError as error:
            return {"status": Status.WRONG, "reason": str(error), **facts}
        facts["accuracy"] = accuracy
        storage = FORMATS[dtype].storage
        if others := {output.dtype.name for output in outputs} - {storage}:
            reason = f"the output is {' and '.join(sorted(others))}; expected {storage}"
            return {"status": Status.WRONG, "reason": reason, **facts}
        if accuracy.ok:
            _see_a_known_error(answer, expected, accuracy, format_of(dtype))
            return {"status": Status.OK, **facts}
        if answer.deviation:
            return {"status": Status.DEVIATES, "reason": answer.deviation, **facts}
        reason = f"error / bound {accuracy.ratio:.3g} {accuracy}"
        reason += f"; {accuracy.wrong} of {accuracy.of} elements are wrong"
        return {"status": Status.WRONG, "reason": reason, **facts}


def exit_code(checks: Iterable[Check], *, strict: bool = False) -> Exit:
    """Whether anything is wrong or failed, or nothing was checked.

    Parameters
    ----------
    strict : bool
        What is right only because of what a backend declares of itself is wrong, too.
    """
    checks = list(checks)
    statuses = Counter(check.status for check in checks)
    if statuses[Status.WRONG] or statuses[Status.FAILED]:
        return Exit.WRONG
    if strict and any(check.declared for check in checks):
        return Exit.WRONG
    return Exit.OK if statuses[Status.OK] else Exit.NOTHING


def _thread_counts(processes: int) -> list[int | None]:
    """As many as the library likes, then 1, 2, ... up to the cores there are, and again."""
    cores = os.cpu_count() or 1
    return [None, *(1 + i % cores for i in range(processes - 1))]


def _determinism(outcomes: Sequence[tuple[Status, str]]) -> Determinism:
    if len({digest for _, digest in outcomes}) == 1:
        return Determinism.SAME_BITS
    if all(status is Status.OK for status, _ in outcomes):
        return Determinism.WITHIN_BOUND
    return Determinism.DIFFERS


def _see_a_known_error(answer: Computed, expected: Reference, worst: Accuracy, fmt: Format) -> None:
    """Make one element wrong by a little more than its bound."""
    if worst.index is None:
        return
    broken = np.array(answer.output)
    step = max(abs(worst.expected) * 2.0 ** (1 - fmt.digits), fmt.smallest)
    known = worst.expected + 2 * worst.bound + step if math.isfinite(worst.expected) else 0.0
    broken[worst.index] = known
    if accuracy_of(broken, expected).ok:
        raise Blind(f"an error that was planted {worst} was not seen")
