"""Is every target right? Each cell against the oracle, each target in a process of its own."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from convbench.accuracy import Accuracy, Reference, compare, is_exact, refer
from convbench.backends import find_backend
from convbench.errors import ArrayError
from convbench.failures import Status
from convbench.inputs import Fill, make_inputs
from convbench.running import Computed
from convbench.targets import Target
from convbench.workers import NotComputed, Presence, Worker, survey
from convbench.workloads import Workload


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
    reason: str = ""
    remedy: str = ""

    def command(self) -> str:
        """The line that repeats this cell alone."""
        return shlex.join((
            "convbench", "verify", "--target", str(self.target), "--workload", self.workload,
            "--dtype", self.dtype, "--fill", self.fill, "--seed", str(self.seed),
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
            "worst": None if worst is None or worst.index is None else {
                "index": list(worst.index), "got": worst.got, "expected": worst.expected,
                "bound": worst.bound,
            },
            "algorithm": self.algorithm,
            "reason": self.reason,
            "remedy": self.remedy,
            "command": self.command(),
        }  # fmt: skip


def choose_targets(names: Sequence[str] | None) -> dict[Target, NotComputed | None]:
    """Resolve targets to what is known of them: None if present, else why it is absent.

    Parameters
    ----------
    names : sequence of str, optional
        Targets; without any, all variants on all devices that are present, and one entry for every
        kind of device that is not.

    Raises
    ------
    TargetError
        If a target is malformed, or names a backend, a variant or a kind of device that is unknown.
    """
    if not names:
        chosen: dict[Target, NotComputed | None] = {}
        for presence in survey():
            chosen.update(dict.fromkeys(presence.targets()))
            chosen.update(presence.missing())
        return dict(sorted(chosen.items(), key=lambda item: (item[1] is not None, item[0])))
    targets = [Target.parse(name) for name in names]
    for target in targets:
        find_backend(target.backend)
    presences = {p.name: p for p in survey(dict.fromkeys(t.backend for t in targets))}
    for target in targets:
        presences[target.backend].check(target)
    return {target: _absence(presences[target.backend], target) for target in targets}


def verify(
    workloads: Iterable[Workload],
    targets: Mapping[Target, NotComputed | None],
    dtypes: Sequence[str],
    fills: Sequence[Fill],
    seed: int,
    timeout_s: float,
) -> Iterator[Check]:
    """Check every cell, workload by workload, as it is computed.

    The inputs and the oracle are computed once for all targets, here; the outputs come from one
    process per target.
    """
    with ExitStack() as stack:
        workers = [
            stack.enter_context(Worker(target, timeout_s, absence))
            for target, absence in targets.items()
        ]
        for workload in workloads:
            for dtype in dtypes:
                for fill in fills:
                    exact = is_exact(workload.pipeline, dtype, fill)
                    inputs = make_inputs(workload.pipeline, dtype, fill, seed)
                    reference = refer(workload.pipeline, inputs, exact=exact)
                    for worker in workers:
                        answer = worker.compute(workload.pipeline, inputs)
                        judged = _judge(answer, reference)
                        yield Check(
                            worker.target, workload.name, dtype, fill, seed, exact=exact, **judged
                        )


def exit_code(checks: Iterable[Check]) -> int:
    """2 if anything is wrong or failed, 3 if nothing was checked, otherwise 0."""
    statuses = Counter(check.status for check in checks)
    if statuses[Status.WRONG] or statuses[Status.FAILED]:
        return 2
    return 0 if statuses[Status.OK] else 3


def render(checks: Sequence[Check]) -> RenderableType:
    """Lay the checks out for people: what is bad first, then the table, then what was skipped."""
    columns = list(dict.fromkeys((check.dtype, check.fill) for check in checks))
    rows: dict[tuple[str, Target], dict[tuple[str, Fill], Check]] = {}
    for check in checks:
        if check.status is not Status.SKIPPED:
            rows.setdefault((check.workload, check.target), {})[check.dtype, check.fill] = check

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in (
        "workload",
        "target",
        *(f"{dtype} {fill}" for dtype, fill in columns),
        "algorithm",
    ):
        table.add_column(title, no_wrap=True)
    for (workload, target), cells in rows.items():
        algorithm = next((c.algorithm for c in cells.values() if c.algorithm), "")
        table.add_row(
            workload, str(target), *(_cell(cells.get(column)) for column in columns), algorithm
        )

    parts: list[RenderableType] = []
    bad: dict[tuple[Target, Status, str], list[Check]] = {}
    for check in checks:
        if check.status in {Status.WRONG, Status.FAILED}:
            bad.setdefault((check.target, check.status, check.reason), []).append(check)
    for (target, status, reason), (check, *others) in bad.items():
        where = f"{target} {check.workload} {check.dtype} {check.fill}"
        where += f" and {len(others)} more cells" if others else ""
        parts.append(Text(f"{status.upper()} {where}: {reason}", style="bold red"))
        parts += [Text(f"  {line}") for line in (check.remedy, check.command()) if line]
    if rows:
        parts += ([Text()] if parts else []) + [table]
    skipped = [check for check in checks if check.status is Status.SKIPPED]
    for (reason, remedy), targets in _reasons(skipped).items():
        parts += [Text(), Text(f"skipped {', '.join(targets)}: {reason}", style="yellow")]
        parts += [Text(f"  {remedy}")] if remedy else []
    counts = Counter(check.status for check in checks)
    summary = ", ".join(f"{counts[status]} {status}" for status in Status)
    return Group(
        *parts, Text(),
        Text(
            f"{len(checks)} cells: {summary}. A number is error / bound, at most 1 is right;"
            " 'exact' is bit for bit."
        ),
    )  # fmt: skip


def _absence(presence: Presence, target: Target) -> NotComputed | None:
    if target.device in presence.devices:
        return None
    known = presence.missing()
    return next(
        (known[t] for t in known if t.device.partition(":")[0] == target.device.partition(":")[0]),
        NotComputed(
            Status.SKIPPED,
            f"no device: {presence.name} has {', '.join(presence.devices)} here, not"
            f" {target.device}",
        ),
    )


def _judge(answer: Computed | NotComputed, reference: Reference) -> dict[str, Any]:
    if isinstance(answer, NotComputed):
        return {"status": answer.status, "reason": answer.reason, "remedy": answer.remedy}
    try:
        accuracy = compare(answer.output, reference)
    except ArrayError as error:
        return {"status": Status.WRONG, "reason": str(error), "algorithm": answer.algorithm}
    return {
        "status": Status.OK if accuracy.ok else Status.WRONG,
        "accuracy": accuracy,
        "algorithm": answer.algorithm,
        "reason": "" if accuracy.ok else f"error / bound {accuracy.ratio:.3g} {accuracy}",
    }


def _cell(check: Check | None) -> str:
    if check is None:
        return ""
    if check.status is not Status.OK or check.accuracy is None:
        return f"[bold red]{check.status.upper()}[/]"
    return "[green]exact[/]" if check.exact else f"{check.accuracy.ratio:.3f}"


def _reasons(checks: Iterable[Check]) -> dict[tuple[str, str], dict[str, None]]:
    """Group targets by reason, so that each is said once."""
    reasons: dict[tuple[str, str], dict[str, None]] = {}
    for check in checks:
        reasons.setdefault((check.reason, check.remedy), {})[str(check.target)] = None
    return reasons
