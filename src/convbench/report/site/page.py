"""The tab as a page by itself, which needs neither a script nor the network."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from importlib.resources import files

from convbench.report.site.side_by_side import LEGEND, Entry, Section, Suite
from convbench.words.status import Status


def style() -> str:
    """The sheet that the page contains and the tab links to."""
    return files("convbench.report.site").joinpath("backends.css").read_text(encoding="utf-8")


def to_page(found: Sequence[Section], problems: Sequence[str]) -> str:
    """Write it as HTML that needs neither a script nor anything from elsewhere."""
    body = [part for section in found for part in _section_html(section)]
    if not found:
        body.append(_tag("p", "Nothing has been measured."))
    if problems:
        body.append(_tag("h2", "What could not be read"))
        body.append(f"<ul>{''.join(_tag('li', problem) for problem in problems)}</ul>")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        # It needs nothing, so it gets nothing.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\';'
        " style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Backends side by side</title>\n<style>\n{style()}</style>\n</head>\n"
        '<body class="convbench">\n<h1>Backends side by side</h1>\n'
        f"{_tag('p', LEGEND)}\n"
        '<p><a href="index.html">The history of each benchmark</a> is on asv\'s pages.</p>\n'
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _section_html(section: Section) -> Iterator[str]:
    yield _tag("h2", section.name)
    for text in section.measured_with:
        yield _tag("p", text, "with")
    for suite in section.suites:
        yield _tag("h3", suite.name)
        yield '<div class="wide"><table>'
        base = section.baseline
        heads = ["workload", *(f"{t} (baseline)" if t == base else t for t in section.targets)]
        yield f"<thead><tr>{''.join(_tag('th', head) for head in heads)}</tr></thead><tbody>"
        for line in suite.lines:
            cells = "".join(_cell_html(section, suite, cell) for cell in line.cells)
            name = f"{line.workload} {line.stage}".rstrip()
            yield f"<tr>{_tag('th', name)}{cells}</tr>"
        yield "</tbody></table></div>"
    if section.causes:
        yield _tag("h3", "What is wrong, failed or skipped, and why")
        yield "<dl>"
        for why in section.causes:
            yield _tag("dt", f"{why.status}: {why.where}", why.status)
            yield from (_tag("dd", text) for text in (why.reason, why.remedy) if text)
        yield "</dl>"


def _cell_html(section: Section, suite: Suite, cell: Entry | None) -> str:
    if cell is None:
        return "<td></td>"
    parts = [_tag("span", text, kind) for kind, text in words(suite, cell, section.baseline)]
    title = f' title="{html.escape(cell.gate)}"' if cell.gate else ""
    kinds = html.escape(f"{cell.status} fastest" if cell.fastest else cell.status)
    return f'<td class="{kinds}"{title}>{"".join(parts)}</td>'


def words(suite: Suite, cell: Entry, baseline: str) -> Iterator[tuple[str, str]]:
    """What a cell says, part by part, each with its class; backends.js says the same."""
    if cell.status != Status.OK:
        yield "status", cell.status
    if cell.time:
        yield ("time" if cell.counts else "void"), cell.time
    if cell.counts and cell.spread:
        yield "spread", cell.spread
    if baseline in cell.speed_ups:
        yield "speedup", cell.speed_ups[baseline]
    if cell.time and cell.claim:
        yield "claim", "claim"
    if cell.gate:
        yield "gate", "side by side"
    if suite.checked and cell.status != Status.SKIPPED:
        yield "error", f"error {cell.error}" if cell.error else "not checked"


def _tag(name: str, text: str, kind: str = "") -> str:
    attribute = f' class="{html.escape(kind)}"' if kind else ""
    return f"<{name}{attribute}>{html.escape(text)}</{name}>"
