"""A comparison as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from convbench.comparing import parts
from convbench.comparing.comparison import Change, ComparedCell, Comparison, Mean, Verdict
from convbench.results.folder import short
from convbench.words.numbers import count, duration, share, times
from convbench.words.status import Exit
from convbench.words.table import Column, Table, line, remark, stacked

if TYPE_CHECKING:
    from rich.console import RenderableType


_STYLES = {
    Verdict.WRONG: "bold red",
    Verdict.FAILED: "bold red",
    Verdict.SKIPPED: "red",
    Verdict.VANISHED: "red",
    Verdict.STILL_WRONG: "red",
    Verdict.STILL_FAILED: "red",
    Verdict.REGRESSED: "red",
    Verdict.SUSPECT: "yellow",
    Verdict.NOT_COMPARABLE: "yellow",
    Verdict.UNDECIDED: "yellow",
    Verdict.IMPROVED: "green",
    Verdict.FIXED: "green",
}


def render(comparison: Comparison, *, everything: bool = False) -> RenderableType:
    """Draw it for a terminal; `everything` shows the cells that are equal, too."""
    bad = {Exit.SLOWER: "bold red", Exit.WRONG: "bold red", Exit.NOTHING: "bold yellow"}
    unknown = {Verdict.SUSPECT, Verdict.UNDECIDED} & comparison.counts.keys()
    fine = "bold yellow" if unknown else "bold green"
    style = bad.get(comparison.exit_code(), fine)
    drawn = [line(comparison.summary(), style=style), *map(line, _origins(comparison))]
    drawn += map(line, comparison.remarks)
    drawn += [line("WARNING:", warning, style="bold yellow") for warning in comparison.warnings]
    shown, equal = parts.split(comparison, everything=everything)
    if shown:
        drawn.append(_table(shown))
    for (verdict, sentences), cells in _reasons(shown).items():
        named = ", ".join(parts.some(cells))
        drawn += remark(verdict, named, sentences, _STYLES.get(verdict, ""))
    if equal:
        drawn.append(line(f"{parts.folded(equal)} not shown: --all shows them"))
    if comparison.skipped:
        drawn.append(line(parts.skipped(comparison.skipped)))
    for title, lines in (
        ("geometric mean of head / base over whole pipelines", map(_mean, comparison.means)),
        ("what changed in the environment", map(_change, comparison.changes)),
        ("output bits", parts.bits(comparison)),
    ):
        if listed := [line(said, indent=4) for said in lines]:
            drawn += [line(title, style="italic"), *listed]
    if any(cell.effect for cell in shown):
        drawn.append(line(parts.legend(comparison), style="dim"))
    if comparison.against:
        first, *slower = comparison.against.lines()
        drawn += [line(first, style="italic")]
        drawn += [line(said, indent=4) for said in parts.some(slower)]
    if lacking := comparison.power_lacking:
        open_cells = parts.some([f"{cell.target} on {cell.name}" for cell in lacking])
        drawn += remark("too little power", ", ".join(open_cells), ())
    if command := comparison.gate_it:
        drawn.append(line(f"gate it: {command}"))
    return stacked(drawn)


def _table(cells: Sequence[ComparedCell]) -> Table:
    verdicts = [(cell.verdict, _STYLES.get(cell.verdict, "")) for cell in cells]
    columns = [
        Column("verdict", verdicts, "word"),
        Column("workload", [cell.name for cell in cells], "name"),
        Column("target", [cell.target for cell in cells], "name"),
        Column("base", [parts.value(cell, cell.base.value) for cell in cells]),
        Column("head", [parts.value(cell, cell.head.value) for cell in cells]),
        Column("quartiles", [parts.quartiles(cell) for cell in cells]),
        Column("head / base", [parts.effect(cell) for cell in cells]),
        Column("interval", [parts.interval(cell) for cell in cells]),
        Column("stands", [parts.standing(cell) for cell in cells], "word"),
        Column("would see", [share(cell.effect.seen) if cell.effect else "" for cell in cells]),
        Column("to decide", [duration(cell.to_decide_s) for cell in cells]),
        Column("error/bound", [parts.error(cell) for cell in cells]),
    ]
    return Table(
        columns,
        (
            "quartiles",
            "would see",
            "to decide",
            "stands",
            "error/bound",
            "base",
            "head",
            "interval",
        ),
    )


def _reasons(cells: Iterable[ComparedCell]) -> dict[tuple[Verdict, tuple[str, ...]], list[str]]:
    """Each reason once, with the cells; where the numbers say it already, only the notes."""
    found: dict[tuple[Verdict, tuple[str, ...]], list[str]] = {}
    for cell in cells:
        sentences = parts.unsaid(cell)
        if sentences:
            named = found.setdefault((cell.verdict, sentences), [])
            named.append(" on ".join(filter(None, (cell.target, cell.name))))
    return found


def _origins(comparison: Comparison) -> list[str]:
    """What is compared; one line if only the commits differ."""
    base, head = comparison.base, comparison.head
    if (base.environment, base.machine) == (head.environment, head.machine):
        place = parts.where(base)
        return [f"base {short(base.commit)}, head {short(head.commit)}{place and f', {place}'}"]
    return [
        f"{name} {short(side.commit)}, {parts.where(side, whole=True)}"
        for name, side in (("base", base), ("head", head))
    ]


def _mean(mean: Mean) -> str:
    of = f"{mean.target}, {count(mean.cells, 'workload')}"
    return f"{times(mean.ratio)} ({parts.span(mean)}) {of}"


def _change(change: Change) -> str:
    values = f"{change.base or 'not set'} -> {change.head or 'not set'}"
    return f"{change.name}: {values} ({', '.join(change.targets)})"
