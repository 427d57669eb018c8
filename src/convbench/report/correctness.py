"""What is right, how close to its bound, and whether the bits are always the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from convbench.results.records import Record
from convbench.words.numbers import digits
from convbench.words.status import Status

from . import charts
from .charts import Point
from .data import Data
from .parts import Chart, Nothing, Part, Table, TableCell, status

MOST_ROWS = 60

_RIGHT = ("#e3eef9", "#2b6cb0")
"""From far below the bound to just below it."""

_COLORS = {Status.WRONG: "#b3261e", Status.FAILED: "#6b2c91", Status.DEVIATES: "#b8860b"}
_ABSENT = "#c5cad1"


def parts(data: Data) -> Iterator[Part]:
    """Error over bound for every workload on every target."""
    checks = [record for record in data.head.records if record.kind == "accuracy"]
    if not any(check.status is not Status.SKIPPED for check in checks):
        yield Nothing("no output was checked: the suite accuracy has no result of this commit")
        return
    bits = _bits(data)
    yield _chart(checks)
    yield Table.of(
        "Error over bound, and bits",
        "workload | ^ target | > error / bound | status | ~ bits between processes"
        " | ~ bits against the base | ~ worst element, or reason",
        (
            (
                TableCell(
                    check.workload, command=data.command(check.workload, check.target, "accuracy")
                ),
                check.target, digits(check.value), status(check.status),
                _between_processes(check),
                bits.get((check.workload, check.target), ""),
                check.reason or str(check.facts.get("worst", "")),
            )
            for check in sorted(checks, key=_worst_first)
        ),
    )  # fmt: skip


def _worst_first(check: Record) -> tuple[int, float]:
    return check.status.rank, -(check.value or 0.0)


def _chart(checks: Sequence[Record]) -> Chart:
    ran = [check for check in checks if check.status is not Status.SKIPPED]
    present = list(dict.fromkeys(check.target for check in ran))
    kept = list(dict.fromkeys(c.workload for c in sorted(ran, key=_worst_first)))[:MOST_ROWS]
    # Those with the largest errors, in the order of the suites.
    rows = [name for name in dict.fromkeys(c.workload for c in checks) if name in {*kept}]
    points = [
        Point(
            check.target, check.workload, text=_text(check), color=_color(check),
            says={
                "workload": check.workload, "target": check.target, "status": str(check.status),
                "error / bound": digits(check.value),
                "worst": check.reason or str(check.facts.get("worst", "")),
            },
        )
        for name in rows for check in checks
        if check.workload == name and check.target in present
    ]  # fmt: skip
    wrong = sum(check.status is Status.WRONG for check in ran)
    total = len({check.workload for check in ran})
    some = f", {len(rows)} of {total} workloads" if len(rows) < total else ""
    return Chart(
        "correctness",
        f"Error over bound{some}",
        f"Tiles, workloads by targets: {len(ran)} checked, {wrong} wrong. The table has the same.",
        charts.matrix(points, present),
        "At most 1 is right; the darker, the closer to it.",
        least_width=charts.matrix_width(len(present)),
    )


def _text(check: Record) -> str:
    if check.value is None:
        return str(check.status)
    return "<0.01" if 0 < check.value < 0.01 else f"{check.value:.2g}"


def _color(check: Record) -> str:
    if check.status is Status.OK and check.value is not None:
        return charts.ramp(check.value, *_RIGHT)
    return _COLORS.get(check.status, _ABSENT)


def _between_processes(check: Record) -> str | TableCell:
    digests = check.facts.get("digests")
    if not isinstance(digests, Sequence) or isinstance(digests, str) or len(digests) < 2:
        return ""
    if len({*map(str, digests)}) == 1:
        return TableCell(f"same in {len(digests)}", "good")
    return TableCell(f"{len({*map(str, digests)})} of {len(digests)} differ", "care")


def _bits(data: Data) -> dict[tuple[str, str], TableCell]:
    """Whether head's output has base's bits, of each workload on each target."""
    if not data.comparison:
        return {}
    return {
        (cell.workload, cell.target): TableCell(
            cell.bits, "good" if cell.bits == "same" else "care"
        )
        for cell in data.comparison.cells
        if cell.bits and not cell.stage and (cell.suite in {"pipeline", "accuracy"})
    }
