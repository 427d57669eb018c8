"""One process a target: what raises, crashes, hangs or runs out of memory costs one cell.

The parent sends a pipeline with its inputs and gets the output back. It computes the oracle itself,
so that no backend judges its own result, and it starts a new process after one has died.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from convbench.backends import open_backend
from convbench.backends.base import Backend, HoleKind
from convbench.backends.compute import Computed, compute
from convbench.correctness.faults import FAULTS
from convbench.errors import BrokenContract
from convbench.machine.child import START_TIMEOUT_S, Child, Questions
from convbench.machine.failures import explain
from convbench.stimulus.arrays import Array, exactly_an_array
from convbench.stimulus.formats import Fill
from convbench.stimulus.inputs import Inputs
from convbench.stimulus.spec import PipelineSpec
from convbench.stimulus.targets import Target
from convbench.words.status import Outcome, Status


@dataclass(frozen=True, slots=True)
class Task:
    """One cell to compute.

    Attributes
    ----------
    fill : Fill, optional
        What the inputs are, for what the backend declares about it.
    fault : str, optional
        A name in :data:`convbench.correctness.faults.FAULTS` to plant into the backend.
    thorough : bool
        Compute also what the backend declares to be too slow.
    """

    pipeline: PipelineSpec
    inputs: Inputs
    fill: Fill | None = None
    fault: str | None = None
    thorough: bool = True


class Worker:
    """A process that computes on one target; use it as a context manager.

    Parameters
    ----------
    target : Target
    timeout_s : float
        A cell that takes longer has failed.
    absence : Outcome, optional
        What is known already of a target that is not there: no process is started.
    threads : int, optional
        How many threads the libraries may use; as many as they like by default.
    opening : callable
        Opens the backend in the process.
    """

    def __init__(
        self,
        target: Target,
        timeout_s: float = 600.0,
        absence: Outcome | None = None,
        threads: int | None = None,
        opening: Callable[[Target], Backend] = open_backend,
    ) -> None:
        self.target = target
        self.timeout_s = timeout_s
        self.threads = threads
        self._opening = opening
        self._child: Child | None = None
        self._absence = absence

    def compute(self, task: Task) -> Computed | Outcome:
        """Compute one cell. It never raises for what goes wrong in the process."""
        if self._child is None and self._absence is None:
            self._start()
        if self._child is None:
            assert self._absence is not None
            return self._absence
        answer = self._child.ask(task, self.timeout_s)
        if isinstance(answer, Outcome):
            if answer.process_lost:
                self.close()  # the next cell gets a new process
            return answer
        try:
            return Computed(
                exactly_an_array(answer["output"]),
                str(answer["algorithm"]),
                answer["accumulation"] and str(answer["accumulation"]),
                str(answer["deviation"]),
                None if answer["second"] is None else exactly_an_array(answer["second"]),
            )
        except (BrokenContract, LookupError, TypeError) as error:
            self.close()  # likewise: it does not speak as our own code in it does
            return Outcome.malformed(error)

    def _start(self) -> None:
        child = Child(_serve, (self._opening, str(self.target)), self.threads)
        ready = child.receive(START_TIMEOUT_S)
        if ready is None:
            self._child = child
            return
        child.close()
        self._absence = (
            ready if isinstance(ready, Outcome) else Outcome(Status.FAILED, "it did not start")
        )

    def close(self) -> None:
        """End the process."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _serve(opening: Callable[[Target], Backend], target: str, pipe: Questions) -> None:
    """Open the backend, say None (or why not), and answer until the pipe is closed."""
    try:
        backend = opening(Target.parse(target))
    except Exception as error:  # whatever a library raises is the answer
        pipe.send(explain(error))
        return
    pipe.send(None)
    while True:
        try:
            task: Task = pipe.recv()
        except EOFError:
            return
        try:
            answer = _compute(backend, task)
            pipe.send(answer if isinstance(answer, Outcome) else answer.to_dict())
        except Exception as error:  # likewise
            pipe.send(explain(error))


def _compute(backend: Backend, task: Task) -> Computed | Outcome:
    """Compute a cell, after a run on nan; or with a fault planted."""
    where = (backend.variant, backend.device)
    dtype = task.inputs.weights.dtype
    fill = task.fill or ""
    slow = backend.capabilities.hole(HoleKind.SLOW, task.pipeline, dtype, *where, fill)
    if slow is not None and not task.thorough:
        return Outcome(Status.SKIPPED, str(slow), "--thorough computes them too.")
    if task.fault is None:
        computed = compute(backend, task.pipeline, task.inputs, poison=True)
        hole = backend.capabilities.hole(HoleKind.DEVIATES, task.pipeline, dtype, *where, fill)
        return computed if hole is None else replace(computed, deviation=str(hole))

    def rightly(pipeline: PipelineSpec, inputs: Inputs) -> Array:
        return compute(backend, pipeline, inputs).output

    output = FAULTS[task.fault].apply(rightly, task.pipeline, task.inputs)
    if output is None:
        return Outcome(Status.SKIPPED, f"there is no room for the fault {task.fault}")
    return Computed(output, task.fault)
