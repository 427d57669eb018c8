"""A comparison as text for a terminal, as markdown for a pull request, and as JUnit XML for CI.

Names, reasons and settings come from files that anybody may have written. None of it may move a
terminal's cursor, break a table, become HTML or notify a person: it passes through :func:`clean`,
and in markdown through :func:`code` or :func:`prose`.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from convbench.comparing.comparison import Cell, Change, Comparison, Mean, Verdict
from convbench.comparing.parts import (
    LEGEND,
    QUIET,
    bits,
    effect,
    error,
    folded,
    interval,
    seen,
    skipped,
    span,
    split,
    value,
    where,
)
from convbench.results.folder import SHORT
from convbench.words.numbers import times
from convbench.words.status import Exit
from convbench.words.text import clean

if TYPE_CHECKING:
    from rich.table import Table


_PIPE_COLUMNS = 10_000
_STYLES = {
    Verdict.WRONG: "bold red",
    Verdict.FAILED: "bold red",
    Verdict.SKIPPED: "red",
    Verdict.VANISHED: "red",
    Verdict.STILL_WRONG: "red",
    Verdict.STILL_FAILED: "red",
    Verdict.REGRESSED: "red",
    Verdict.NOT_COMPARABLE: "yellow",
    Verdict.UNDECIDED: "yellow",
    Verdict.IMPROVED: "green",
    Verdict.FIXED: "green",
}

_SAID_BY_NUMBERS = frozenset({Verdict.REGRESSED, Verdict.IMPROVED, Verdict.EQUIVALENT})


_MOST_NAMED = 8
"""A reason that concerns more cells than this does not name them all: the table does."""


def render(
    comparison: Comparison,
    *,
    width: int | None = None,
    color: bool = False,
    everything: bool = False,
) -> str:
    """Draw it for a terminal: the outcome, a table with the worst first, reasons, means, changes.

    Parameters
    ----------
    width : int, optional
        Of the terminal, in columns; by default there is room for everything, as a pipe has.
    color : bool
        Write a terminal's escape sequences.
    everything : bool
        Show the cells that are equal, too.
    """
    # `import convbench.comparing.text` must stay fast.
    from rich.console import Console  # noqa: PLC0415
    from rich.measure import Measurement  # noqa: PLC0415
    from rich.padding import Padding  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    text = io.StringIO()
    console = Console(file=text, width=width or _PIPE_COLUMNS, force_terminal=color)
    bad = {Exit.SLOWER: "bold red", Exit.WRONG: "bold red", Exit.NOTHING: "bold yellow"}
    style = bad.get(comparison.exit_code(strict=True), "bold green")
    console.print(Text(clean(comparison.summary()), style=style))
    for line in _origins(comparison):
        console.print(Text(line))
    for warning in comparison.warnings:
        console.print(Text(f"WARNING: {clean(warning)}", style="bold yellow"))
    shown, equal = split(comparison, everything=everything)
    if shown:
        unlimited = console.options.update_width(_PIPE_COLUMNS)
        columns = list(_NUMBERS)
        while len(columns) > 1 and console.width < (
            Measurement.get(console, unlimited, _table(shown, columns)).maximum
        ):
            columns.remove(next(name for name in _DISPENSABLE if name in columns))
        console.print(_table(shown, columns))
    for (verdict, sentences), cells in _reasons(shown).items():
        named = cells[:_MOST_NAMED]
        if more := len(cells) - len(named):
            named = [*named, f"and {more} more"]
        console.print(Text.assemble((verdict, _STYLES.get(verdict, "")), f" {', '.join(named)}"))
        for sentence in sentences:
            console.print(Padding(Text(sentence), (0, 0, 0, 4), expand=False))
    if equal:
        console.print(Text(f"{folded(equal)} not shown: --all shows them"))
    if comparison.skipped:
        console.print(Text(skipped(comparison.skipped)))
    for title, lines in (
        ("geometric mean of head / base over whole pipelines", map(_mean, comparison.means)),
        ("what changed in the environment", map(_change, comparison.changes)),
        ("output bits", bits(comparison)),
    ):
        listed = list(lines)
        if listed:
            console.print(Text(title, style="italic"))
        for line in listed:
            console.print(Padding(Text(line), (0, 0, 0, 4), expand=False))
    if any(cell.effect for cell in shown):
        console.print(Text(LEGEND, style="dim"))
    return text.getvalue()


def _table(cells: Sequence[Cell], columns: Iterable[str]) -> Table:
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("verdict", no_wrap=True)
    for name in ("workload", "target"):
        table.add_column(name, overflow="fold", min_width=8)
    filled = {name: [_NUMBERS[name](cell) for cell in cells] for name in columns}
    filled = {name: column for name, column in filled.items() if any(column)}
    for name in filled:
        table.add_column(name, justify="right", no_wrap=True)
    for i, cell in enumerate(cells):
        # Text and not str: a name in square brackets is no markup.
        table.add_row(
            Text(cell.verdict, style=_STYLES.get(cell.verdict, "")),
            Text(clean(cell.name)),
            Text(clean(cell.target)),
            *(column[i] for column in filled.values()),
        )
    return table


def _reasons(cells: Iterable[Cell]) -> dict[tuple[Verdict, tuple[str, ...]], list[str]]:
    """Each reason once, with the cells; where the numbers say it already, only the notes."""
    found: dict[tuple[Verdict, tuple[str, ...]], list[str]] = {}
    for cell in cells:
        has_interval = cell.effect is not None and cell.effect.low is not None
        said = has_interval and cell.verdict in {*_SAID_BY_NUMBERS, Verdict.UNDECIDED}
        sentences = [*([] if said or cell.verdict in QUIET else [cell.reason]), *cell.notes]
        if sentences:
            key = cell.verdict, tuple(map(clean, sentences))
            found.setdefault(key, []).append(clean(f"{cell.target} on {cell.name}"))
    return found


def _origins(comparison: Comparison) -> list[str]:
    """What is compared; one line if only the commits differ."""
    base, head = comparison.base, comparison.head
    if (base.environment, base.machine) == (head.environment, head.machine):
        place = where(base)
        return [f"base {base.commit[:SHORT]}, head {head.commit[:SHORT]}{place and f', {place}'}"]
    return [
        f"{name} {side.commit[:SHORT]}, {where(side, whole=True)}"
        for name, side in (("base", base), ("head", head))
    ]


def _mean(mean: Mean) -> str:
    cells = f"{mean.cells} workload{'s' * (mean.cells != 1)}"
    return f"{times(mean.ratio)} ({span(mean)}) {clean(mean.target)}, {cells}"


def _change(change: Change) -> str:
    values = f"{change.base or 'not set'} -> {change.head or 'not set'}"
    return clean(f"{change.name}: {values} ({', '.join(change.targets)})")


_NUMBERS = {
    "base": lambda cell: value(cell, cell.base.value),
    "head": lambda cell: value(cell, cell.head.value),
    "head / base": effect,
    "interval": interval,
    "would see": seen,
    "error/bound": error,
}
_DISPENSABLE = ("would see", "error/bound", "base", "head", "interval", "head / base")
"""What a narrow terminal goes without, in this order."""
