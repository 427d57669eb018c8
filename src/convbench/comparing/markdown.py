"""A comparison as markdown for a pull request.

Names, reasons and settings come from files that anybody may have written. None of it may break a
table, become HTML or notify a person: it passes through :func:`code` or :func:`prose`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from convbench.comparing import parts
from convbench.comparing.comparison import BAD, Change, ComparedCell, Comparison, Mean, Verdict
from convbench.results.folder import short
from convbench.words.numbers import times
from convbench.words.status import Standing
from convbench.words.text import clean, clip

MARKDOWN_LIMIT = 60_000
"""In characters. GitHub refuses a comment of more than 65,536."""


def markdown(comparison: Comparison) -> str:
    """Write it for a comment on GitHub: at most `MARKDOWN_LIMIT` characters, whatever there is.

    What does not fit is counted: cells are left out from the least bad on.
    """
    summary = clean(comparison.summary())
    lines = [f"**{prose(summary)}**", ""]
    for name, side in (("base", comparison.base), ("head", comparison.head)):
        # GitHub makes a link of a hash that stands by itself.
        hexadecimal = re.fullmatch("[0-9a-f]{8,40}", side.commit)
        commit = short(side.commit) if hexadecimal else code(side.commit)
        lines.append(f"- {name} {commit}, {code(parts.where(side)) or 'not measured'}")
    for warning in comparison.warnings[:_MOST_WARNINGS]:
        lines += ["", f"**WARNING:** {prose(warning)}"]
    for remark in comparison.remarks[:_MOST_WARNINGS]:
        lines += ["", prose(f"{remark}.")]
    shown, equal = parts.split(comparison)
    room = MARKDOWN_LIMIT - _length(lines) - _RESERVE
    means, changes = map(_mean_row, comparison.means), map(_change_row, comparison.changes)
    for title, header, rows, most in (
        ("", _CELL_HEADER, map(_cell_row, shown), 0.6),
        ("Geometric means over whole pipelines", _MEAN_HEADER, means, 0.3),
        ("What changed in the environment", _CHANGE_HEADER, changes, 0.5),
        (parts.folded(equal), _CELL_HEADER, map(_cell_row, equal), 1.0),
    ):
        section = _section(title, header, list(rows), int(most * room))
        room -= _length(section)
        lines += section
    for bits in parts.bits(comparison):
        lines += ["", f"Output bits: {bits}."]
    lines += ["", f"{parts.skipped(comparison.skipped)}."] if comparison.skipped else []
    if comparison.against:
        first, *slower = comparison.against.lines()
        lines += ["", prose(first), "", *(f"- {prose(said)}" for said in parts.some(slower))]
    if lacking := comparison.power_lacking:
        named = parts.some([f"{cell.target} on {cell.name}" for cell in lacking])
        lines += ["", f"Too little power: {', '.join(map(code, named))}."]
    command = comparison.gate_it
    if command and len(command) <= _MOST_COMMAND:  # a part of it would be another command
        lines += ["", f"gate it: {code(command, _MOST_COMMAND)}"]
    return "\n".join((*lines, "", f"<sub>{html.escape(parts.legend(comparison))}</sub>", ""))


_RESERVE = 8_000
"""For what is added after the tables, and the words around them."""

_MOST_WARNINGS, _MOST_COMMAND = 5, 800
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


def _cell_row(cell: ComparedCell) -> str:
    span_of = parts.interval(cell)
    ratio = f"{parts.effect(cell)} ({span_of})" if span_of else parts.effect(cell)
    if cell.pairs:
        ratio += f" {parts.SIDE_BY_SIDE}"
    why = "; ".join((cell.reason, *cell.notes))
    verdict = (
        f"**{cell.verdict}**"
        if cell.verdict in {*BAD, Verdict.REGRESSED, Verdict.SUSPECT}
        else cell.verdict
    )
    base, head = (
        f"{_value(cell, side.value)}{' (claim)' * (side.standing is Standing.CLAIM)}"
        for side in (cell.base, cell.head)
    )
    error = parts.error(cell).replace(">", "&gt;")
    names = code(cell.name), code(cell.target)
    return _row(verdict, *names, base, head, ratio, error, prose(why))


def _mean_row(mean: Mean) -> str:
    return _row(code(mean.target), str(mean.cells), times(mean.ratio), parts.span(mean))


def _change_row(change: Change) -> str:
    values = (change.base or "not set", change.head or "not set", ", ".join(change.targets))
    return _row(code(change.name), *map(code, values))


_HARMLESS = re.compile(r"[A-Za-z0-9 .,;:()%+=/-]*")
_ALIVE = re.compile(r"://|www\.|gh-\d|:\w+:|\b[0-9a-f]{7,}\b", re.IGNORECASE)
"""What GitHub makes links or pictures of, although no character of it is special."""


def _value(cell: ComparedCell, value: float | None) -> str:
    """The unit of a number that is none of ours is whatever its suite says."""
    shown = parts.value(cell, value)
    return prose(shown) if cell.kind == "number" else shown


def prose(text: str) -> str:
    """Text as it is if it is plain words and numbers, and otherwise as code.

    Examples
    --------
    >>> prose("1.10x slower, 5 processes"), prose("thanks to @everybody")
    ('1.10x slower, 5 processes', '`thanks to @everybody`')
    """
    text = clip(clean(text), _MOST_REASON)
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
    text = clip(clean(text), most)
    if not text:
        return ""
    if not re.search(r"[`|\\]", text):
        return f"`{text}`"
    written = re.sub(r"[^\w ]|_", lambda found: f"&#{ord(found[0])};", text)
    return f"<code>{written}</code>"
