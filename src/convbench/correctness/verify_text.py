"""What was verified, for people and for CI."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from convbench.correctness.verify import Check, Determinism
from convbench.stimulus.formats import Fill
from convbench.stimulus.targets import Target
from convbench.words.junit import Case
from convbench.words.junit import junit as write
from convbench.words.numbers import count, share
from convbench.words.status import Status
from convbench.words.table import Column, Styled, Table, line, remark, stacked

if TYPE_CHECKING:
    from rich.console import RenderableType

_KINDS: Mapping[Status, Literal["failure", "error", "skipped"]] = {
    Status.WRONG: "failure",
    Status.FAILED: "error",
    Status.SKIPPED: "skipped",
    Status.DEVIATES: "skipped",
}


def render(checks: Sequence[Check]) -> RenderableType:
    """Lay the checks out for people: what is bad first, then the table, then what was skipped."""
    parts: list[RenderableType] = []
    bad: dict[tuple[Target, Status, str], list[Check]] = {}
    for check in checks:
        if check.status in {Status.WRONG, Status.FAILED}:
            bad.setdefault((check.target, check.status, check.reason), []).append(check)
    for (target, status, reason), (check, *others) in bad.items():
        where = f"{target} {check.workload} {check.dtype} {check.fill}"
        where += f" and {count(len(others), 'more cell')}" if others else ""
        said = (check.remedy, check.command())
        parts += remark(status.upper(), f"{where}: {reason}", said, "bold red")
    parts += [_table(checks)]
    for status in (Status.DEVIATES, Status.SKIPPED):
        reasons: dict[tuple[str, str], dict[str, None]] = {}  # so that each is said once
        for check in checks:
            if check.status is status:
                reasons.setdefault((check.reason, check.remedy), {})[str(check.target)] = None
        for (reason, remedy), targets in reasons.items():
            parts += remark(status, f"{', '.join(targets)}: {reason}", [remedy], "yellow")
    declared: dict[tuple[Target, str, str], list[Check]] = {}
    for check in checks:
        if check.status is Status.OK and check.declared:
            how = check.target, check.accumulation, check.scheme
            declared.setdefault(how, []).append(check)
    for alike in declared.values():
        worst = max(alike, key=lambda check: check.usual or 0.0)
        where = f"{worst.target} {worst.workload} {worst.dtype} {worst.fill}"
        where += f" and {count(len(alike) - 1, 'more cell')}" if len(alike) > 1 else ""
        parts += remark("declared", f"{where}: {worst.declared}", [], "yellow")
    return stacked([*parts, *_summary(checks)])


def _table(checks: Sequence[Check]) -> Table:
    """A row a workload and target, unless all of it was skipped; a column a format and fill."""
    rows: dict[tuple[str, Target], dict[tuple[str, Fill], Check]] = {}
    for check in checks:
        rows.setdefault((check.workload, check.target), {})[check.dtype, check.fill] = check
    rows = {
        key: cells
        for key, cells in rows.items()
        if any(check.status is not Status.SKIPPED for check in cells.values())
    }
    numbers = {
        f"{dtype} {fill}": [cells.get((dtype, fill)) for cells in rows.values()]
        for dtype, fill in dict.fromkeys((check.dtype, check.fill) for check in checks)
    }
    least_alike = [_least_alike(cells.values()) for cells in rows.values()]
    algorithms = [
        next((c.algorithm for c in cells.values() if c.algorithm), "") for cells in rows.values()
    ]
    # A narrow terminal can do without those in which all is right: their number is below.
    right = [
        title
        for title, cells in numbers.items()
        if all(check is None or check.status in {Status.OK, Status.SKIPPED} for check in cells)
    ]
    return Table(
        [
            Column("workload", [workload for workload, _ in rows], "name"),
            Column("target", [str(target) for _, target in rows], "name"),
            *(Column(title, list(map(_cell, cells))) for title, cells in numbers.items()),
            Column("processes", least_alike, "word"),
            Column("algorithm", algorithms, "name"),
        ],
        ("algorithm", *reversed(right)),
    )


def junit(checks: Sequence[Check], elapsed_s: float) -> bytes:
    """Write the checks as JUnit XML, which CI systems show: a suite a target, a case a cell."""
    return write("convbench verify", map(_case, checks), time=f"{elapsed_s:.3f}")


def _case(check: Check) -> Case:
    suite, name = str(check.target), f"{check.dtype} {check.fill}"
    classname = f"{suite}.{check.workload}"
    if (kind := _KINDS.get(check.status)) is None:
        return Case(suite, name, classname=classname)
    text = "\n".join(filter(None, (check.reason, check.remedy, check.command())))
    return Case(suite, name, kind, check.reason, text, classname)


def _cell(check: Check | None) -> Styled:
    match check:
        case None | Check(status=Status.SKIPPED):
            return ""
        case Check(status=Status.DEVIATES):
            return "deviates", "yellow"
        case Check(status=Status.OK, accuracy=accuracy) if accuracy is not None:
            return ("exact", "green") if check.exact else f"{accuracy.ratio:.3f}"
    return check.status.upper(), "bold red"


def _least_alike(checks: Iterable[Check]) -> str:
    order = list(Determinism)
    found = [check.determinism for check in checks if check.determinism]
    return max(found, key=order.index) if found else ""


def _summary(checks: Sequence[Check]) -> Iterator[RenderableType]:
    counts = Counter(check.status for check in checks)
    summary = ", ".join(f"{counts[status]} {status}" for status in Status)
    yield line(
        f"{count(len(checks), 'cell')}: {summary}. A number is error / bound, at most 1 is right;"
        " 'exact' is bit for bit."
    )
    if sampled := [check.sampled for check in checks if check.sampled]:
        yield line(
            f"{count(len(sampled), 'cell')} were checked at a sample of at least {min(sampled)}"
            " positions, corners and edges among them: a fault that touches 1 % of the positions is"
            f" missed with a probability of at most {share((1 - 0.01) ** min(sampled))}."
        )
    if alike := Counter(check.determinism for check in checks if check.determinism):
        yield line("Between processes:", ", ".join(f"{n} {word}" for word, n in alike.items()))
