"""A comparison as text for a terminal, as markdown for a pull request, and as JUnit XML for CI.

Names, reasons and settings come from files that anybody may have written. None of it may move a
terminal's cursor, break a table, become HTML or notify a person: it passes through :func:`clean`,
and in markdown through :func:`code` or :func:`prose`.
"""

from __future__ import annotations

import html
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from convbench.comparison import (
    BAD,
    Cell,
    Change,
    Comparison,
    Effect,
    Mean,
    Verdict,
    count_cells,
    percent,
    times,
)
from convbench.junit import printable, write
from convbench.sides import SHORT, Side

if TYPE_CHECKING:
    from rich.table import Table

MARKDOWN_LIMIT = 60_000
"""In characters. GitHub refuses a comment of more than 65,536."""

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
_QUIET = frozenset({Verdict.NEW, Verdict.EQUIVALENT, Verdict.NOT_MEASURED})
"""Verdicts that nobody has to look at."""

_SAID_BY_NUMBERS = frozenset({Verdict.REGRESSED, Verdict.IMPROVED, Verdict.EQUIVALENT})

_LEGEND = (
    "head / base is above 1 where head is slower or larger; its interval covers what differs"
    " between processes, not what shifts a whole session; 'would see' is the slow-down that a cell"
    " would have shown, four times in five"
)


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
    # `import convbench.comparison_text` must stay fast.
    from rich.console import Console  # noqa: PLC0415
    from rich.measure import Measurement  # noqa: PLC0415
    from rich.padding import Padding  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    text = io.StringIO()
    console = Console(file=text, width=width or _PIPE_COLUMNS, force_terminal=color)
    bad = {1: "bold red", 2: "bold red", 3: "bold yellow"}
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
    for (verdict, sentences), where in _reasons(shown).items():
        named = where[:_MOST_NAMED]
        if more := len(where) - len(named):
            named = [*named, f"and {more} more"]
        console.print(Text.assemble((verdict, _STYLES.get(verdict, "")), f" {', '.join(named)}"))
        for sentence in sentences:
            console.print(Padding(Text(sentence), (0, 0, 0, 4), expand=False))
    if equal:
        console.print(Text(f"{_folded(equal)} not shown: --all shows them"))
    if comparison.skipped:
        console.print(Text(_skipped(comparison.skipped)))
    for title, lines in (
        ("geometric mean of head / base over whole pipelines", map(_mean, comparison.means)),
        ("what changed in the environment", map(_change, comparison.changes)),
        ("output bits", _bits(comparison)),
    ):
        listed = list(lines)
        if listed:
            console.print(Text(title, style="italic"))
        for line in listed:
            console.print(Padding(Text(line), (0, 0, 0, 4), expand=False))
    if any(cell.effect for cell in shown):
        console.print(Text(_LEGEND, style="dim"))
    return text.getvalue()


def split(comparison: Comparison, *, everything: bool = False) -> tuple[list[Cell], list[Cell]]:
    """Cells to be shown, and cells of which their number is enough."""
    equal = [
        cell
        for cell in comparison.cells
        if cell.verdict in _QUIET and not cell.moved and not cell.notes and not everything
    ]
    names = set(map(id, equal))
    return [cell for cell in comparison.cells if id(cell) not in names], equal


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
        sentences = [*([] if said or cell.verdict in _QUIET else [cell.reason]), *cell.notes]
        if sentences:
            key = cell.verdict, tuple(map(clean, sentences))
            found.setdefault(key, []).append(clean(f"{cell.target} on {cell.name}"))
    return found


def _folded(cells: Iterable[Cell]) -> str:
    counts = Counter(cell.verdict for cell in cells)
    return " and ".join(f"{count} {verdict}" for verdict, count in counts.items())


def _skipped(count: int) -> str:
    return f"{count_cells(count)} skipped or not selected on both sides"


def _origins(comparison: Comparison) -> list[str]:
    """What is compared; one line if only the commits differ."""
    base, head = comparison.base, comparison.head
    if (base.environment, base.machine) == (head.environment, head.machine):
        where = _where(base)
        return [f"base {base.commit[:SHORT]}, head {head.commit[:SHORT]}{where and f', {where}'}"]
    return [
        f"{name} {side.commit[:SHORT]}, {_where(side, whole=True)}"
        for name, side in (("base", base), ("head", head))
    ]


def _where(side: Side, *, whole: bool = False) -> str:
    # The rest of the name of an existing environment is the path of its interpreter.
    existing = side.environment.startswith("existing") and not whole
    environment = "existing environment" if existing else side.environment
    return clean(", ".join(filter(None, (environment, side.machine))))


def _mean(mean: Mean) -> str:
    cells = f"{mean.cells} workload{'s' * (mean.cells != 1)}"
    return f"{times(mean.ratio)} ({_span(mean)}) {clean(mean.target)}, {cells}"


def _span(found: Mean | Effect) -> str:
    if found.low is None or found.high is None:
        return "one process a side"
    return f"{times(found.low)} to {times(found.high)}"


def _change(change: Change) -> str:
    values = f"{change.base or 'not set'} -> {change.head or 'not set'}"
    return clean(f"{change.name}: {values} ({', '.join(change.targets)})")


def _bits(comparison: Comparison) -> Iterator[str]:
    counts = Counter(cell.bits for cell in comparison.cells if cell.bits)
    if counts["different"] or counts["vary"]:
        yield ", ".join(
            f"{counts[bits]} {words}"
            for bits, words in (
                ("same", "the same"),
                ("different", "different"),
                ("vary", "different from process to process"),
            )
            if counts[bits]
        )


# -- Numbers ---------------------------------------------------------------------------------------


def _value(cell: Cell, value: float | None) -> str:
    """A side's time or memory, in the unit that fits both."""
    if value is None:
        return ""
    both = [side for side in (cell.base.value, cell.head.value) if side]
    least = min(both, default=0.0)
    units = _UNITS_BYTES if cell.kind == "memory" else _UNITS_S
    scale, unit = next((u for u in units if least * u[0] >= 1), units[-1])
    scaled = value * scale
    return f"{f'{scaled:#.3g}'.rstrip('.') if scaled < 1000 else f'{scaled:.0f}'} {unit}"


_UNITS_S = ((1.0, "s"), (1e3, "ms"), (1e6, "us"), (1e9, "ns"))
_UNITS_BYTES = ((1e-9, "GB"), (1e-6, "MB"), (1e-3, "kB"), (1.0, "B"))


def _effect(cell: Cell) -> str:
    return times(cell.effect.ratio) if cell.effect else ""


def _interval(cell: Cell) -> str:
    return _span(cell.effect) if cell.effect and cell.effect.low is not None else ""


def _seen(cell: Cell) -> str:
    seen = cell.effect and cell.effect.smallest_effect
    return percent(seen) if seen and seen < 10 else ""


def _error(cell: Cell) -> str:
    errors = [
        "-" if side.error_over_bound is None else f"{side.error_over_bound:.2g}"
        for side in (cell.base, cell.head)
    ]
    if errors == ["-", "-"]:
        return ""
    return errors[0] if errors[0] == errors[1] else " -> ".join(errors)


_NUMBERS = {
    "base": lambda cell: _value(cell, cell.base.value),
    "head": lambda cell: _value(cell, cell.head.value),
    "head / base": _effect,
    "interval": _interval,
    "would see": _seen,
    "error/bound": _error,
}
_DISPENSABLE = ("would see", "error/bound", "base", "head", "interval", "head / base")
"""What a narrow terminal goes without, in this order."""


# -- Markdown --------------------------------------------------------------------------------------


def markdown(comparison: Comparison) -> str:
    """Write it for a comment on GitHub: at most `MARKDOWN_LIMIT` characters, whatever there is.

    What does not fit is counted: cells are left out from the least bad on.
    """
    summary = clean(comparison.summary())
    lines = [f"**{prose(summary)}**", ""]
    for name, side in (("base", comparison.base), ("head", comparison.head)):
        # GitHub makes a link of a hash that stands by itself.
        hexadecimal = re.fullmatch("[0-9a-f]{8,40}", side.commit)
        commit = side.commit[:SHORT] if hexadecimal else code(side.commit)
        lines.append(f"- {name} {commit}, {code(_where(side)) or 'not measured'}")
    for warning in comparison.warnings[:_MOST_WARNINGS]:
        lines += ["", f"**WARNING:** {prose(warning)}"]
    shown, equal = split(comparison)
    room = MARKDOWN_LIMIT - _length(lines) - _RESERVE
    for title, header, rows, most in (
        ("", _CELL_HEADER, map(_cell_row, shown), 0.6),
        (
            "Geometric means over whole pipelines",
            _MEAN_HEADER,
            map(_mean_row, comparison.means),
            0.3,
        ),
        (
            "What changed in the environment",
            _CHANGE_HEADER,
            map(_change_row, comparison.changes),
            0.5,
        ),
        (_folded(equal), _CELL_HEADER, map(_cell_row, equal), 1.0),
    ):
        section = _section(title, header, list(rows), int(most * room))
        room -= _length(section)
        lines += section
    lines += [line for bits in _bits(comparison) for line in ("", f"Output bits: {bits}.")]
    lines += ["", f"{_skipped(comparison.skipped)}."] if comparison.skipped else []
    return "\n".join((*lines, "", f"<sub>{html.escape(_LEGEND)}</sub>", ""))


_RESERVE = 2_000
"""For what is added after the tables, and the words around them."""

_MOST_WARNINGS = 5
_MOST_NAME, _MOST_REASON = 100, 400

_CELL_HEADER = (
    "| verdict | workload | target | base | head | head / base | error / bound | why |",
    "|---|---|---|--:|--:|--:|--:|---|",
)
_MEAN_HEADER = ("| target | workloads | head / base | interval |", "|---|--:|--:|---|")
_CHANGE_HEADER = ("| what | base | head | targets |", "|---|---|---|---|")


def _section(title: str, header: Sequence[str], rows: Sequence[str], room: int) -> list[str]:
    """A table of as many rows as there is room for; folded up if it has a title."""
    if not rows:
        return []
    before = ["", f"<details><summary>{html.escape(title)}</summary>"] if title else []
    before += ["", *header]
    after = ["", "</details>"] if title else []
    left = room - _length(before) - _length(after) - 100
    kept = []
    for row in rows:
        left -= len(row) + 1
        if left < 0:
            break
        kept.append(row)
    if omitted := len(rows) - len(kept):
        after = ["", f"{omitted} of {len(rows)} rows left out for want of room.", *after]
    return [*before, *kept, *after]


def _length(lines: Iterable[str]) -> int:
    return sum(len(line) + 1 for line in lines)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _cell_row(cell: Cell) -> str:
    interval = _interval(cell)
    ratio = f"{_effect(cell)} ({interval})" if interval else _effect(cell)
    why = "; ".join((cell.reason, *cell.notes))
    verdict = f"**{cell.verdict}**" if cell.verdict in {*BAD, Verdict.REGRESSED} else cell.verdict
    return _row(
        verdict, code(cell.name), code(cell.target), _value(cell, cell.base.value),
        _value(cell, cell.head.value), ratio, _error(cell).replace(">", "&gt;"), prose(why),
    )  # fmt: skip


def _mean_row(mean: Mean) -> str:
    return _row(code(mean.target), str(mean.cells), times(mean.ratio), _span(mean))


def _change_row(change: Change) -> str:
    values = (change.base or "not set", change.head or "not set", ", ".join(change.targets))
    return _row(code(change.name), *map(code, values))


_HARMLESS = re.compile(r"[A-Za-z0-9 .,;:()%+=/-]*")
_ALIVE = re.compile(r"://|www\.|gh-\d|:\w+:|\b[0-9a-f]{7,}\b", re.IGNORECASE)
"""What GitHub makes links or pictures of, although no character of it is special."""


def prose(text: str) -> str:
    """Text as it is if it is plain words and numbers, and otherwise as code.

    Examples
    --------
    >>> prose("1.10x slower, 5 processes"), prose("thanks to @everybody")
    ('1.10x slower, 5 processes', '`thanks to @everybody`')
    """
    text = _clip(clean(text), _MOST_REASON)
    if _HARMLESS.fullmatch(text) and not _ALIVE.search(text):
        return text
    return code(text, _MOST_REASON)


def code(text: str, most: int = _MOST_NAME) -> str:
    """A code span, in which GitHub looks for neither links nor mentions, nor markdown nor HTML.

    A span of backticks cannot hold a backtick, and in a table no bar. Then it is HTML, of which
    every character that could mean something to markdown is written as its number: by CommonMark,
    section 2.5, such a character is never structure.

    Examples
    --------
    >>> code("numpy@cpu"), code("a|b")
    ('`numpy@cpu`', '<code>a&#124;b</code>')
    """
    text = _clip(clean(text), most)
    if not text:
        return ""
    if not re.search(r"[`|\\]", text):
        return f"`{text}`"
    written = re.sub(r"[^\w ]|_", lambda found: f"&#{ord(found[0])};", text)
    return f"<code>{written}</code>"


def _clip(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 4].rstrip()} ..."


def clean(text: str) -> str:
    r"""One line, without control, formatting and other invisible characters.

    Examples
    --------
    >>> clean("red:\x1b[31m\nnext")
    'red:?[31m next'
    """
    text = " ".join(text.split())
    if text.isascii() and text.isprintable():
        return text
    return "".join("?" if unicodedata.category(c)[0] in "CZ" and c != " " else c for c in text)


# -- JUnit -----------------------------------------------------------------------------------------


def junit(comparison: Comparison, *, strict: bool = False) -> bytes:
    """Write JUnit XML: a suite a target, a case a cell, and one case for the comparison itself.

    What is wrong or slower is a failure; what is failed, skipped or vanished is an error, and so is
    that nothing was measured; what is undecided or not comparable is skipped.
    """
    root = ET.Element("testsuites", name="convbench compare")
    whole = ET.SubElement(root, "testsuite", name="comparison")
    case = ET.SubElement(whole, "testcase", classname="comparison", name="something was measured")
    summary = printable("\n".join((comparison.summary(), *comparison.warnings)))
    if comparison.exit_code(strict=strict) == 3:
        ET.SubElement(case, "error", message=printable(comparison.summary())).text = summary
    else:
        ET.SubElement(case, "system-out").text = summary
    suites = {"comparison": whole}
    for cell in sorted(comparison.cells, key=lambda cell: cell.target):
        if cell.target not in suites:
            suites[cell.target] = ET.SubElement(root, "testsuite", name=printable(cell.target))
        case = ET.SubElement(
            suites[cell.target], "testcase", classname=printable(cell.target),
            name=printable(cell.name if cell.kind == "time" else f"{cell.name} {cell.kind}"),
        )  # fmt: skip
        text = printable("\n".join((f"{cell.verdict}: {cell.reason}", *cell.notes)))
        if (tag := _TAGS.get(cell.verdict)) is not None:
            message = printable(f"{cell.verdict}: {cell.reason}")
            ET.SubElement(case, tag, message=message).text = text
        else:
            ET.SubElement(case, "system-out").text = text
    return write(root)


_TAGS = {
    Verdict.WRONG: "failure",
    Verdict.STILL_WRONG: "failure",
    Verdict.REGRESSED: "failure",
    Verdict.FAILED: "error",
    Verdict.STILL_FAILED: "error",
    Verdict.SKIPPED: "error",
    Verdict.VANISHED: "error",
    Verdict.NOT_COMPARABLE: "skipped",
    Verdict.UNDECIDED: "skipped",
    Verdict.NOT_MEASURED: "skipped",
}
