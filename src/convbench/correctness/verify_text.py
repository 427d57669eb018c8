"""What was verified, for people and for CI."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from xml.etree import ElementTree as ET

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from convbench.correctness.verify import Check, Determinism
from convbench.stimulus.formats import Fill
from convbench.stimulus.targets import Target
from convbench.words.junit import printable, write
from convbench.words.status import Status


def render(checks: Sequence[Check]) -> RenderableType:
    """Lay the checks out for people: what is bad first, then the table, then what was skipped."""
    columns = list(dict.fromkeys((check.dtype, check.fill) for check in checks))
    rows: dict[tuple[str, Target], dict[tuple[str, Fill], Check]] = {}
    for check in checks:
        rows.setdefault((check.workload, check.target), {})[check.dtype, check.fill] = check
    rows = {
        key: cells
        for key, cells in rows.items()
        if any(check.status is not Status.SKIPPED for check in cells.values())
    }
    repeated = any(check.determinism for check in checks)

    table = Table(box=None, pad_edge=False, header_style="bold")
    titles = [f"{dtype} {fill}" for dtype, fill in columns]
    for title in ("workload", "target", *titles, *["processes"][:repeated], "algorithm"):
        table.add_column(title, no_wrap=True)
    for (workload, target), cells in rows.items():
        table.add_row(
            workload, str(target), *(_cell(cells.get(column)) for column in columns),
            *[_least_alike(cells.values())][:repeated],
            next((c.algorithm for c in cells.values() if c.algorithm), ""),
        )  # fmt: skip

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
    for status in (Status.DEVIATES, Status.SKIPPED):
        found = [check for check in checks if check.status is status]
        for (reason, remedy), targets in _reasons(found).items():
            parts += [Text(), Text(f"{status} {', '.join(targets)}: {reason}", style="yellow")]
            parts += [Text(f"  {remedy}")] if remedy else []
    return Group(*parts, Text(), *_summary(checks))


def junit(checks: Sequence[Check], elapsed_s: float) -> bytes:
    """Write the checks as JUnit XML, which CI systems show: a suite a target, a case a cell."""
    root = ET.Element("testsuites", name="convbench verify", time=f"{elapsed_s:.3f}")
    suites: dict[Target, ET.Element] = {}
    for check in checks:
        if check.target not in suites:
            suites[check.target] = ET.SubElement(root, "testsuite", name=str(check.target))
        case = ET.SubElement(
            suites[check.target], "testcase", classname=f"{check.target}.{check.workload}",
            name=f"{check.dtype} {check.fill}",
        )  # fmt: skip
        text = printable("\n".join(filter(None, (check.reason, check.remedy, check.command()))))
        match check.status:
            case Status.WRONG:
                ET.SubElement(case, "failure", message=printable(check.reason)).text = text
            case Status.FAILED:
                ET.SubElement(case, "error", message=printable(check.reason)).text = text
            case Status.SKIPPED | Status.DEVIATES:
                ET.SubElement(case, "skipped", message=printable(check.reason))
    return write(root)


def _cell(check: Check | None) -> str:
    match check:
        case None | Check(status=Status.SKIPPED):
            return ""
        case Check(status=Status.DEVIATES):
            return "[yellow]deviates[/]"
        case Check(status=Status.OK, accuracy=accuracy) if accuracy is not None:
            return "[green]exact[/]" if check.exact else f"{accuracy.ratio:.3f}"
    return f"[bold red]{check.status.upper()}[/]"


def _least_alike(checks: Iterable[Check]) -> str:
    order = list(Determinism)
    found = [check.determinism for check in checks if check.determinism]
    return max(found, key=order.index) if found else ""


def _reasons(checks: Iterable[Check]) -> dict[tuple[str, str], dict[str, None]]:
    """Group targets by reason, so that each is said once."""
    reasons: dict[tuple[str, str], dict[str, None]] = {}
    for check in checks:
        reasons.setdefault((check.reason, check.remedy), {})[str(check.target)] = None
    return reasons


def _summary(checks: Sequence[Check]) -> list[RenderableType]:
    counts = Counter(check.status for check in checks)
    summary = ", ".join(f"{counts[status]} {status}" for status in Status)
    lines = [
        f"{len(checks)} cells: {summary}. A number is error / bound, at most 1 is right;"
        " 'exact' is bit for bit."
    ]
    if sampled := [check.sampled for check in checks if check.sampled]:
        missed = (1 - 0.01) ** min(sampled)
        lines.append(
            f"{len(sampled)} cells were checked at a sample of at least {min(sampled)} positions,"
            " corners and edges among them: a fault that touches 1 % of the positions is missed"
            f" with probability {missed:.2g} at most."
        )
    alike = Counter(check.determinism for check in checks if check.determinism)
    if alike:
        lines.append("Between processes: " + ", ".join(f"{n} {word}" for word, n in alike.items()))
    return [Text(line) for line in lines]
