"""One process a target: what raises, crashes, hangs or runs out of memory costs one cell.

The parent sends a pipeline with its inputs and gets the output back. It computes the oracle itself,
so that no backend judges its own result, and it starts a new process after one has died.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from typing import Self

from convbench.backends import backend_class, open_backend, registered
from convbench.backends.base import Array, Backend
from convbench.errors import BackendUnavailable, BrokenContract, TargetError, Unsupported
from convbench.failures import Failure, Status, explain
from convbench.faults import FAULTS
from convbench.inputs import Fill, Inputs
from convbench.processes import START_TIMEOUT_S, Child
from convbench.running import Computed, compute
from convbench.spec import PipelineSpec
from convbench.targets import Target


@dataclass(frozen=True, slots=True)
class NotComputed:
    """Why there is no output: skipped (absent, or a declared hole) or failed.

    Attributes
    ----------
    status : Status
    reason, remedy : str
    context_lost : bool
        As :class:`Failure` says.
    """

    status: Status
    reason: str
    remedy: str = ""
    context_lost: bool = False

    @classmethod
    def of(cls, cause: Failure | Exception) -> Self:
        """Describe a failure, or an exception of :mod:`convbench.errors` as what it means."""
        match cause:
            case BackendUnavailable():
                return cls(Status.SKIPPED, f"{cause.kind}: {cause.reason}", cause.remedy)
            case Unsupported():
                return cls(Status.SKIPPED, str(cause))
            case BrokenContract():
                remedy = "Correct the backend: convbench/backends/base.py states the contract."
                return cls(Status.FAILED, str(cause), remedy)
            case Exception():
                cause = explain(cause)
        return cls(Status.FAILED, cause.reason, cause.remedy, cause.context_lost)


@dataclass(frozen=True, slots=True)
class Presence:
    """One registered backend, as it is on this machine.

    Attributes
    ----------
    name : str
    variants : tuple of str
    kinds : tuple of str
        The kinds of device that it knows: ``cpu``, ``gpu``.
    devices : tuple of str
        Those that are there; empty if it cannot be used.
    versions : dict of str to str
    absence : NotComputed, optional
        Why it cannot be used.
    """

    name: str
    variants: tuple[str, ...] = ("",)
    kinds: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    absence: NotComputed | None = None

    def targets(self) -> list[Target]:
        """Every variant on every device that is present."""
        return [Target(self.name, v, device) for device in self.devices for v in self.variants]

    def missing(self) -> dict[Target, NotComputed]:
        """The default variant on each kind of device that is not present, and why it is not."""
        present = {device.partition(":")[0] for device in self.devices}
        absence = self.absence or NotComputed(
            Status.SKIPPED,
            f"no device: {self.name} finds no GPU here",
            "If the machine has one, see whether `nvidia-smi` finds it and whether this build of"
            f" {self.name} supports CUDA.",
        )
        return {
            Target(self.name, "", kind if kind == "cpu" else f"{kind}:0"): absence
            for kind in self.kinds or ("cpu",)
            if kind not in present
        }

    def check(self, target: Target) -> None:
        """See that there are such a variant and such a kind of device, present or not.

        Raises
        ------
        TargetError
        """
        kind = target.device.partition(":")[0]
        for what, value, known, to_do in (
            ("variant", target.variant, self.variants, "Leave it and its dot out for the default."),
            ("device", kind, self.kinds, "Write it as in cpu or gpu:0."),
        ):
            if known and value not in known:
                raise TargetError.of(
                    str(target), f"the {what}", repr(value),
                    f"one of {', '.join(v or '(none)' for v in known)}", to_do,
                )  # fmt: skip


def survey(names: Iterable[str] | None = None) -> list[Presence]:
    """Look at every registered backend, each in a process of its own, all at the same time."""
    chosen = sorted(registered()) if names is None else list(names)
    processes = {name: Child(_look, (name,)) for name in chosen}
    return [_seen(name, child) for name, child in processes.items()]


@dataclass(frozen=True, slots=True)
class Task:
    """One cell to compute.

    Attributes
    ----------
    fill : Fill, optional
        What the inputs are, for what the backend declares about it.
    fault : str, optional
        A name in :data:`convbench.faults.FAULTS` to plant into the backend.
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
    absence : NotComputed, optional
        What is known already of a target that is not there: no process is started.
    threads : int, optional
        How many threads the libraries may use; as many as they like by default.
    """

    def __init__(
        self,
        target: Target,
        timeout_s: float = 600.0,
        absence: NotComputed | None = None,
        threads: int | None = None,
    ) -> None:
        self.target = target
        self.timeout_s = timeout_s
        self.threads = threads
        self._child: Child | None = None
        self._absence = absence

    def compute(self, task: Task) -> Computed | NotComputed:
        """Compute one cell. It never raises for what goes wrong in the process."""
        if self._child is None and self._absence is None:
            self._start()
        if self._child is None:
            assert self._absence is not None
            return self._absence
        answer = self._child.ask(task, self.timeout_s)
        if isinstance(answer, Failure):
            self.close()  # the next cell gets a new process
            return NotComputed.of(answer)
        if isinstance(answer, NotComputed) and answer.context_lost:
            self.close()  # likewise
        assert isinstance(answer, Computed | NotComputed)
        return answer

    def _start(self) -> None:
        child = Child(_serve, (str(self.target),), self.threads)
        ready = child.receive(START_TIMEOUT_S)
        if ready is None:
            self._child = child
            return
        child.close()
        self._absence = ready if isinstance(ready, NotComputed) else NotComputed.of(ready)

    def close(self) -> None:
        """End the process."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _serve(target: str, pipe: Connection) -> None:
    """Open the backend, say None (or why not), and answer until the pipe is closed."""
    try:
        backend = open_backend(Target.parse(target))
    except Exception as error:  # whatever a library raises is the answer
        pipe.send(NotComputed.of(error))
        return
    pipe.send(None)
    while True:
        try:
            task: Task = pipe.recv()
        except EOFError:
            return
        answer: Computed | NotComputed
        try:
            answer = _compute(backend, task)
        except Exception as error:  # likewise
            answer = NotComputed.of(error)
        pipe.send(answer)


def _compute(backend: Backend, task: Task) -> Computed | NotComputed:
    """Compute a cell, after a run on nan; or with a fault planted."""
    where = (backend.variant, backend.device)
    dtype = task.inputs.weights.dtype
    slow = backend.capabilities.slow(task.pipeline, dtype, *where)
    if slow is not None and not task.thorough:
        return NotComputed(Status.SKIPPED, str(slow), "--thorough computes them too.")
    if task.fault is None:
        computed = compute(backend, task.pipeline, task.inputs, poison=True)
        if task.fill is None:
            return computed
        hole = backend.capabilities.deviation(task.pipeline, dtype, task.fill, *where)
        return computed if hole is None else replace(computed, deviation=str(hole))

    def rightly(pipeline: PipelineSpec, inputs: Inputs) -> Array:
        return compute(backend, pipeline, inputs).output

    output = FAULTS[task.fault].apply(rightly, task.pipeline, task.inputs)
    if output is None:
        return NotComputed(Status.SKIPPED, f"there is no room for the fault {task.fault}")
    return Computed(output, task.fault)


def _look(name: str, pipe: Connection) -> None:
    """Say what a backend knows, then which devices and versions there are, or why there is none."""
    try:
        kind = backend_class(name)
        pipe.send((tuple(kind.capabilities.variants), kind.capabilities.devices))
        devices = kind.devices()
        pipe.send((devices, kind(devices[0]).versions()))
    except Exception as error:  # likewise
        pipe.send(NotComputed.of(error))


def _seen(name: str, child: Child) -> Presence:
    """Listen to the two messages of :func:`_look`; either may be the reason for an absence."""
    presence = Presence(name)
    answer = child.receive(START_TIMEOUT_S)
    if isinstance(answer, tuple):
        presence = replace(presence, variants=answer[0], kinds=answer[1])
        answer = child.receive(START_TIMEOUT_S)
    child.close()
    if isinstance(answer, tuple):
        return replace(presence, devices=answer[0], versions=answer[1])
    absence = NotComputed.of(answer) if isinstance(answer, Failure) else answer
    return replace(presence, absence=absence)
