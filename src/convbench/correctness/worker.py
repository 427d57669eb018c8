"""One process a target: what raises, crashes, hangs or runs out of memory costs one cell.

The parent sends a pipeline with its inputs and gets the output back. It computes the oracle itself,
so that no backend judges its own result, and it starts a new process after one has died.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Protocol, Self

from convbench.backends import open_backend
from convbench.backends.base import Backend, Hole, HoleKind
from convbench.backends.compute import Computed, compute
from convbench.correctness.faults import FAULTS
from convbench.errors import BrokenContract, Unsupported
from convbench.machine.child import START_TIMEOUT_S, Child, Questions
from convbench.machine.failures import explain
from convbench.stimulus.arrays import Array, Weights, exactly_an_array, layouts
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
    undeclared : bool
        Try also what the backend declares to be missing.
    poison : bool
        As of :func:`.compute.compute`.
    layout : str, optional
        A name in what :func:`.arrays.layouts` returns: how the input and the filters lie in memory.
        What crosses to the process lies there in one piece otherwise.
    """

    pipeline: PipelineSpec
    inputs: Inputs
    fill: Fill | None = None
    fault: str | None = None
    thorough: bool = True
    undeclared: bool = False
    poison: bool = True
    layout: str | None = None


class Computer(Protocol):
    """Whoever computes a cell, in a process that is none of ours."""

    def compute(self, task: Task) -> Computed | Outcome:
        """Compute one cell. It never raises for what goes wrong in the process."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Worker:
    """A process that computes on one target; use it as a context manager.

    Parameters
    ----------
    timeout_s : float
        A cell that takes longer has failed.
    absence : Outcome, optional
        What is known already of a target that is not there: no process is started.
    threads : int, optional
        How many threads the libraries may use; as many as they like by default.
    opening : callable
        Opens the backend in the process.
    explaining : callable
        Puts into words, in the process, what was raised there.
    """

    def __init__(
        self,
        target: Target,
        timeout_s: float = 600.0,
        absence: Outcome | None = None,
        threads: int | None = None,
        opening: Callable[[Target], Any] = open_backend,
        explaining: Callable[[Exception], Outcome] = explain,
    ) -> None:
        self.target = target
        self.timeout_s = timeout_s
        self.threads = threads
        self._opening = opening
        self._explaining = explaining
        self._child: Child | None = None
        self._absence = absence

    def compute(self, task: Task) -> Computed | Outcome:
        """Compute one cell. It never raises for what goes wrong in the process."""
        answer = self.ask(partial(_compute, task))
        if isinstance(answer, Outcome):
            return answer
        computed = read(answer)
        if isinstance(computed, Outcome):
            self.close()  # likewise: it does not speak as our own code in it does
        return computed

    def ask(self, question: Callable[[Any], object]) -> Any:
        """Have a function called with the backend in the process.

        Parameters
        ----------
        question : callable
            It is pickled, so that the process has to find it where we do.

        Returns
        -------
        plain values and arrays, or an Outcome
        """
        absence = self.start()
        if absence is not None:
            return absence
        assert self._child is not None
        answer = self._child.ask(question, self.timeout_s)
        if isinstance(answer, Outcome) and answer.process_lost:
            self.close()  # the next question gets a new process
        return answer

    def start(self) -> Outcome | None:
        """Start the process if there is none; why there is none, if that cannot be done."""
        if self._child is not None or self._absence is not None:
            return self._absence
        arguments = (self._opening, self.target, self._explaining)
        child = Child(_serve, arguments, self.threads)
        ready = child.receive(START_TIMEOUT_S)
        if ready is None:
            self._child = child
            return None
        child.close()
        self._absence = (
            ready if isinstance(ready, Outcome) else Outcome(Status.FAILED, "it did not start")
        )
        return self._absence

    def close(self) -> None:
        """End the process."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read(answer: Any) -> Computed | Outcome:
    """What was computed, from what a process has sent."""
    try:
        return Computed(
            exactly_an_array(answer["output"]),
            str(answer["algorithm"]),
            answer["accumulation"] and str(answer["accumulation"]),
            str(answer["deviation"]),
            tuple(map(exactly_an_array, _later(answer))),
            answer["scheme"] and str(answer["scheme"]),
        )
    except (BrokenContract, LookupError, TypeError) as error:
        return Outcome.malformed(error)


def _later(answer: Any) -> Iterable[Any]:
    """What later calls gave; commits of before knew one at most, and called it another name."""
    if (later := answer.get("later")) is not None:
        return list(later)
    return [answer["second"]] if answer.get("second") is not None else []


def _serve(
    opening: Callable[[Target], Any],
    target: Target,
    explaining: Callable[[Exception], Outcome],
    pipe: Questions,
) -> None:
    """Open the backend, say None (or why not), and answer until the pipe is closed."""
    try:
        backend = opening(target)
    except Exception as error:  # whatever a library raises is the answer
        pipe.send(explaining(error))
        return
    pipe.send(None)
    while True:
        try:
            question = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(question(backend))
        except Exception as error:  # likewise
            pipe.send(explaining(error))


def _compute(task: Task, backend: Backend) -> dict[str, Any] | Outcome:
    """Compute a cell, after a run on nan; or with a fault planted."""
    where = (backend.variant, backend.device)
    dtype = task.inputs.weights.dtype
    fill = task.fill or ""
    slow = backend.capabilities.hole(HoleKind.SLOW, task.pipeline, dtype, *where, fill)
    if slow is not None and not task.thorough:
        return Outcome(Status.SKIPPED, str(slow), "--thorough computes them too.")
    if task.fault is None:
        inputs = _laid_out(task.inputs, task.layout) if task.layout else task.inputs
        with _unasked(backend) if task.undeclared else contextlib.nullcontext():
            computed = compute(backend, task.pipeline, inputs, poison=task.poison)
        hole = backend.capabilities.hole(HoleKind.DEVIATES, task.pipeline, dtype, *where, fill)
        return replace(computed, deviation=str(hole or "")).to_dict()

    def rightly(pipeline: PipelineSpec, inputs: Inputs) -> Array:
        return compute(backend, pipeline, inputs).output

    output = FAULTS[task.fault].apply(rightly, task.pipeline, task.inputs)
    if output is None:
        return Outcome(Status.SKIPPED, f"there is no room for the fault {task.fault}")
    return Computed(output, task.fault).to_dict()


def _laid_out(inputs: Inputs, layout: str) -> Inputs:
    filters = inputs.weights.filters
    if filters is not None:
        filters = layouts(filters)[layout]
    return Inputs(layouts(inputs.x)[layout], replace(inputs.weights, filters=filters))


@contextlib.contextmanager
def _unasked(backend: Backend) -> Iterator[None]:
    """While nobody asks what is declared to be missing."""
    vars(backend)["check"] = lambda *_: None
    try:
        yield
    finally:
        del vars(backend)["check"]


def built(pipeline: PipelineSpec, weights: Weights, backend: Backend) -> dict[str, str | None]:
    """What building a pipeline says: how it computes, or why it is refused."""
    try:
        run = backend.build(pipeline, weights)
    except Unsupported as error:
        return {"refused": str(error)}
    return {"refused": None, "accumulation": run.accumulation, "scheme": run.scheme}


def declared(backend: Backend | type[Backend]) -> dict[str, Any]:
    """What a backend says of itself, without the functions of its holes."""
    there = backend.capabilities
    names = [field.name for field in fields(Hole) if field.name != "applies"]
    return {
        "name": backend.name,
        "devices": there.devices,
        "dtypes": there.dtypes,
        "variants": dict(there.variants),
        "holes": [{name: getattr(hole, name) for name in names} for hole in there.holes],
    }


def applies(number: int, pipeline: PipelineSpec, dtype: str, backend: Backend) -> bool:
    """What the function of a hole says, the first of which is 0."""
    return bool(backend.capabilities.holes[number].applies(pipeline, dtype))
