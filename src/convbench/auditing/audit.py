"""``convbench audit``: each claim of a target, held against what can be seen from outside."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from typing import Any

from convbench.auditing import claimant
from convbench.auditing.claims import Claim, Receipt, Support
from convbench.auditing.examine import Subject, Watched
from convbench.auditing.judge import UNREADABLE, Judge, observe
from convbench.auditing.zoo import plant
from convbench.backends import open_backend
from convbench.correctness.accuracy import Accuracy, accuracy_of, refer_for
from convbench.correctness.sample import sample
from convbench.correctness.worker import Task, Worker
from convbench.errors import ArrayError
from convbench.machine import nvidia, watch
from convbench.machine.child import START_TIMEOUT_S, Child
from convbench.stimulus.formats import Fill
from convbench.stimulus.inputs import make_inputs
from convbench.stimulus.spec import PipelineSpec
from convbench.stimulus.targets import Target
from convbench.stimulus.workloads import Workload, neighbour
from convbench.words.numbers import duration, size
from convbench.words.status import Exit, Outcome, Status

BUDGET_S = 0.1
"""For the warm-up of a claim, and again for its samples."""

ENVELOPE = 0.7
"""The clock of a backend's process may say so much of what ours says, at least."""

ENVELOPE_S = 0.03

MEMORY_TOLERANCE, MEMORY_SLACK_BYTES = 1.5, 32 << 20
NEIGHBOURS = 2
NEIGHBOUR_S = 60.0
"""So long one may take, with all that is compiled for it."""


@dataclass(frozen=True, slots=True)
class Audited:
    """What was found of one workload on one target.

    Attributes
    ----------
    receipt : Receipt
        Without claims if nothing could be audited.
    outcome : Outcome, optional
        Why nothing could be.
    """

    target: Target
    workload: str
    receipt: Receipt
    outcome: Outcome | None = None
    algorithm: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "target": str(self.target),
            "workload": self.workload,
            "algorithm": self.algorithm,
            "outcome": self.outcome.to_dict() if self.outcome else None,
            **self.receipt.to_dict(),
        }


class Auditor:
    """Audits targets, each in a process of its own; use it as a context manager.

    Parameters
    ----------
    dtype : str
        What all is computed in.
    """

    def __init__(self, dtype: str = "float32") -> None:
        self.dtype = dtype
        self.seed = secrets.token_hex(16)
        """From which all secrets follow."""
        self._judge = Judge()
        self._drawn = 0

    def __enter__(self) -> Auditor:
        return self

    def __exit__(self, *_: object) -> None:
        self._judge.__exit__()

    def again(self, target: Target, workload: Workload, secret: str, weights_seed: int) -> Audited:
        """Audit one workload on the very numbers of another audit."""
        (found,) = self.audit(target, [workload], secret=secret, weights_seed=weights_seed)
        return found

    def audit(
        self,
        target: Target,
        workloads: Sequence[Workload],
        adversary: str = "",
        *,
        secret: str = "",
        weights_seed: int | None = None,
    ) -> Iterator[Audited]:
        """Audit one workload after the other, each on numbers from a secret of its own.

        Parameters
        ----------
        adversary : str
            A name in the zoo to plant into the process.
        secret : str
            That of an audit which is repeated.
        weights_seed : int, optional
            Likewise; by default it follows from the secret.

        Yields
        ------
        Audited
            Where nothing but the time is doubted, of a second process, too: one is one draw.
        """
        rows = {workload.name: workload for workload in workloads}
        for found in self._in_one_process(target, workloads, adversary, secret, weights_seed):
            doubts = {c.claim for c in found.receipt.claims if c.verdict is Support.NOT_SUPPORTED}
            if doubts == {"time"}:
                again = [rows[found.workload]]
                yield from self._in_one_process(target, again, adversary, secret, weights_seed)
            else:
                yield found

    def _in_one_process(
        self,
        target: Target,
        workloads: Sequence[Workload],
        adversary: str,
        secret: str,
        weights_seed: int | None,
    ) -> Iterator[Audited]:
        """Audit in one process, and in another after a doubt."""
        child: Child | None = None
        opening = partial(plant, adversary) if adversary else open_backend
        worker = Worker(target, NEIGHBOUR_S, opening=opening)
        ready: Any = None
        versions: Claim | None = None
        try:
            for workload in workloads:
                if child is None:
                    arguments = (str(target), adversary, BUDGET_S)
                    # Threads that wait for each other make what is seen depend on what else runs.
                    child = Child(claimant.serve, arguments, threads=1)
                    ready = child.receive(START_TIMEOUT_S)
                    if isinstance(ready, Outcome):
                        yield Audited(target, workload.name, Receipt(), ready)
                        child.close()
                        child = None
                        continue
                try:
                    versions = _versions(ready)
                    hidden = secret or self._secret()
                    seed = int(hidden[:8], 16) if weights_seed is None else weights_seed
                    found = self._look(child, worker, target, workload, hidden, seed)
                except UNREADABLE as error:
                    outcome = Outcome.malformed(error)
                    found = Audited(target, workload.name, Receipt(), outcome)
                if versions is not None:
                    claims = (*found.receipt.claims, versions)
                    found = replace(found, receipt=replace(found.receipt, claims=claims))
                yield found
                if _over(found):
                    child.close()
                    child = None
        finally:
            if child is not None:
                child.close()
            worker.close()

    def _secret(self) -> str:
        """The next of the secrets."""
        self._drawn += 1
        mixed = int(self.seed, 16) * 0x9E3779B97F4A7C15 + self._drawn * 0xD1B54A32D192ED03
        return f"{mixed % 2**128:032x}"

    def _look(
        self,
        child: Child,
        worker: Worker,
        target: Target,
        workload: Workload,
        secret: str,
        weights_seed: int,
    ) -> Audited:
        pipeline = workload.pipeline
        drawn = {"dtype": self.dtype, "fill": str(Fill.NORMAL), "seed": weights_seed}
        inputs = make_inputs(pipeline, self.dtype, Fill.NORMAL, weights_seed)
        before_build = child.look()
        watch.reset_peak(child.pid)
        built = child.ask((pipeline.to_dict(), inputs), START_TIMEOUT_S)
        if isinstance(built, Outcome):
            return Audited(target, workload.name, Receipt(), built)
        before, begun_s = child.look(), time.monotonic()
        claim = child.ask("go", START_TIMEOUT_S)
        if isinstance(claim, Outcome):
            return Audited(target, workload.name, Receipt(), claim)
        watched = observe(child, before, begun_s)
        subject = Subject(
            pipeline,
            inputs.weights,
            target.device,
            float(claim["hot_s"]),
            float(claim["mean_s"]),
            accumulation=built["accumulation"] and str(built["accumulation"]),
            scheme=built["scheme"] and str(built["scheme"]),
        )
        envelope = _envelope(claim, watched)
        memory = _memory(built["peak_bytes"], before_build, child.look(), target)
        algorithm = str(built["algorithm"])
        receipt = self._judge.examine(child, subject, watched, secret)
        near = None
        if receipt.supported:  # or it is known already what to think of it
            near = check_neighbours(worker, workload, self.dtype, int(secret[8:16], 16))
        instead = {c.claim: c for c in (envelope, near) if c is not None}
        claims = [
            c if c.verdict is Support.NOT_SUPPORTED else instead.get(c.claim, c)
            for c in receipt.claims
        ]
        claims += [memory, _device(target, child.pid)]
        receipt = replace(receipt, claims=tuple(claims), weights=drawn)
        return Audited(target, workload.name, receipt, algorithm=algorithm)


def _over(found: Audited) -> bool:
    """Whether the process can be asked no more."""
    doubted = any(c.verdict is Support.NOT_SUPPORTED for c in found.receipt.claims)
    return doubted or (found.outcome is not None and found.outcome.process_lost)


def _envelope(claim: Mapping[str, Any], watched: Watched) -> Claim | None:
    """Whether a claim fits the time that its measuring took by our clock; None if it does."""
    hot_s, spent_s = float(claim["hot_s"]), float(claim["spent_s"])
    calls = max(1, int(claim["calls"]))
    seen = watched.wall_s
    if spent_s < ENVELOPE * seen - ENVELOPE_S:
        reason = (
            f"its clock says that the measuring took {duration(spent_s)}, ours {duration(seen)}."
            " See that nothing replaces or slows down the clock of the process"
        )
        return Claim("time", Support.NOT_SUPPORTED, seen, spent_s, "s", reason)
    mean_s = spent_s / calls
    if hot_s < ENVELOPE * mean_s / 2 and float(claim["mean_s"]) < ENVELOPE * mean_s / 2:
        reason = (
            f"{calls} calls took {duration(spent_s)} by its own clock, {duration(mean_s)} each, and"
            f" the claim is {duration(hot_s)}. See what makes the samples of it"
        )
        return Claim("time", Support.NOT_SUPPORTED, mean_s, hot_s, "s", reason)
    return None


def _versions(ready: Mapping[str, Any]) -> Claim | None:
    """Whether the versions that it states are installed here; None if they are."""
    for name, claimed in dict(ready["versions"]).items():
        try:
            installed = metadata.version(name)
        except (metadata.PackageNotFoundError, ValueError):  # it is no distribution
            continue
        if not _same_version(str(claimed), installed):
            reason = f"it says that {name} is {str(claimed)[:80]}, and {installed} is installed"
            return Claim(
                "versions", Support.NOT_SUPPORTED, installed, str(claimed)[:80], "", reason
            )
    return None


def _same_version(claimed: str, installed: str) -> bool:
    """Of local labels (PEP 440) one may be without: PyTorch 2.14.1 calls itself 2.14.1+cu130."""
    (public, _, label), (other, _, another) = claimed.partition("+"), installed.partition("+")
    return public == other and (label == another or not (label and another))


def _memory(
    claimed: object, before: watch.Seen | None, after: watch.Seen | None, target: Target
) -> Claim:
    """Whether the peak of memory is what its own meter says."""
    if target.kind != "cpu":
        reason = "the memory of a device is seen by its driver only, and for all of a process"
        return Claim("memory", Support.NOT_SEEN, None, None, "bytes", reason)
    if before is None or after is None or not after.peak_bytes:
        return Claim("memory", Support.NOT_SEEN, None, None, "bytes", "there is no /proc here")
    seen = max(0, after.peak_bytes - before.resident_bytes)
    if not isinstance(claimed, int | float):
        reason = f"{size(seen)} were seen from outside; it has no meter of its own"
        return Claim("memory", Support.HOLDS, seen, None, "bytes", reason)
    said = f"from outside {size(seen)} were seen, its own meter says {size(float(claimed))}"
    if seen > MEMORY_TOLERANCE * claimed + MEMORY_SLACK_BYTES:
        reason = f"{said}. Leave the meter to convbench: do not override memory()"
        return Claim("memory", Support.NOT_SUPPORTED, seen, claimed, "bytes", reason)
    return Claim("memory", Support.HOLDS, seen, claimed, "bytes", said)


def _device(target: Target, pid: int) -> Claim:
    """Whether it computes where it says."""
    claimed = target.device
    if not nvidia.has_nvidia_driver():
        if target.kind == "cpu":
            reason = "there is no other device here"
            return Claim("device", Support.HOLDS, "cpu", claimed, "", reason)
        reason = "there is no NVIDIA driver to ask"
        return Claim("device", Support.NOT_SEEN, None, claimed, "", reason)
    on_card = any(process.get("pid") == pid for process in nvidia.gpu_processes())
    seen = "gpu" if on_card else "cpu"
    if seen == target.kind:
        return Claim("device", Support.HOLDS, seen, claimed, "", "as the driver sees it")
    if target.kind == "gpu":  # the driver shows no processes to a container
        reason = "the driver does not show this process on a card; in a container it shows none"
        return Claim("device", Support.NOT_SEEN, None, claimed, "", reason)
    reason = "the driver sees its process on a card. Name the device in the target"
    return Claim("device", Support.NOT_SUPPORTED, seen, claimed, "", reason)


def check_neighbours(worker: Worker, workload: Workload, dtype: str, seed: int) -> Claim | None:
    """Whether what is not listed is right too; None if it is, or could not be computed."""
    worst: tuple[Accuracy, PipelineSpec] | None = None

    def doubt(near: PipelineSpec, what: object, ratio: float | None = None) -> Claim:
        reason = f"{near}, which is not listed: {what}"
        return Claim("error", Support.NOT_SUPPORTED, ratio, 1.0, "error / bound", reason)

    for i in range(NEIGHBOURS):
        if (row := neighbour(workload, (seed + i) % 2**32)) is None:
            continue
        near = row.pipeline
        inputs = make_inputs(near, dtype, Fill.NORMAL, (seed + i) % 2**32)
        answer = worker.compute(Task(near, inputs, Fill.NORMAL))
        if isinstance(answer, Outcome):
            if answer.status is Status.SKIPPED:
                continue
            return doubt(near, answer.reason)
        positions = sample(near, seed, 2e7, 200_000)
        expected = refer_for(near, inputs, Fill.NORMAL, None, positions)
        try:
            found = accuracy_of(answer.output, expected)
        except ArrayError as error:
            return doubt(near, error)
        if worst is None or found.ratio > worst[0].ratio:
            worst = found, near
    if worst is None or worst[0].ok:
        return None
    accuracy, near = worst
    return doubt(near, f"{accuracy}. See what is special about the listed sizes", accuracy.ratio)


def exit_code(found: Iterable[Audited]) -> Exit:
    """Whether something is not supported, or nothing could be audited."""
    found = list(found)
    claims = [claim for audited in found for claim in audited.receipt.claims]
    if any(claim.verdict is Support.NOT_SUPPORTED for claim in claims):
        return Exit.WRONG
    if any(a.outcome is not None and a.outcome.status is Status.FAILED for a in found):
        return Exit.WRONG
    held = any(claim.verdict is Support.HOLDS for claim in claims)
    return Exit.OK if held else Exit.NOTHING
