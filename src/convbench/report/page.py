"""The page: the sections in their order, as one file of HTML that needs nothing else."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from convbench import __version__
from convbench.results.folder import short
from convbench.words.text import clean

from . import (
    backends,
    charts,
    correctness,
    gates,
    history,
    machines,
    missing,
    others,
    roofline,
    stages,
    sweep,
    timings,
    verdict,
)
from .data import Data
from .parts import Absent, Nothing, Part, Section

SECTIONS: tuple[tuple[str, str, Callable[[Data], Iterator[Part]]], ...] = (
    ("verdict", "Verdict", verdict.parts),
    ("correctness", "Correctness", correctness.parts),
    ("timings", "Timings", timings.parts),
    ("backends", "Backends side by side", backends.parts),
    ("sweep", "Size sweep", sweep.parts),
    ("roofline", "Roofline", roofline.parts),
    ("gates", "Gates", gates.parts),
    ("history", "History", history.parts),
    ("stages", "Stages, first call, transfer, memory", stages.parts),
    ("others", "Other benchmarks", others.parts),
    ("machines", "Machines and environments", machines.parts),
    ("changes", "Environment differences", machines.changes),
    ("missing", "Skipped and failed", missing.parts),
)
"""In the order of the page: the anchor, which stays, the title, and what is said."""

_HERE = Path(__file__).parent


def sections(data: Data) -> tuple[Section, ...]:
    """Everything that the page says; what there is nothing to say of is one list at its end."""
    found, absent = [], []
    for anchor, title, parts in SECTIONS:
        said = [*parts(data)]
        present = tuple(part for part in said if not isinstance(part, Nothing))
        if present:
            found.append(Section(anchor, title, present))
        empty = [part for part in said if isinstance(part, Nothing)]
        for place, part in enumerate(empty):
            name = f"{title}: {part.what}" if part.what else title
            absent.append(("" if present or place else anchor, name, part.text))
    if absent:
        found.append(Section("absent", "Empty sections", (Absent(tuple(absent)),)))
    return tuple(found)


def to_html(data: Data, parts: Sequence[Section]) -> str:
    """Make the page: it opens from disk, and asks nothing of the network."""
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    specs = {f"chart-{chart.id}": chart.spec for section in parts for chart in section.charts}
    vega = _vega() if specs else ""
    base = f" against {short(data.comparison.base.commit)}" if data.comparison else ""
    page = _environment().get_template("page.html").render(
        title=f"convbench: {short(data.head.commit) or 'nothing measured'}{base}",
        version=__version__,
        sections=parts,
        style=(_HERE / "page.css").read_text(encoding="utf-8") + _on_paper(),
        script=script,
        packed=_pack({"library": vega, "charts": specs}) if specs else "",
        hashes=[_hash(one) for one in (script, vega) if one],
        theme={"all": charts.THEME, "light": charts.LIGHT.range, "dark": charts.DARK.range},
        zoom_hint=charts.ZOOM_HINT,
    )  # fmt: skip
    return page.lstrip()


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_clean,
    )
    environment.filters["code"] = _code
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment


def _clean(value: Any) -> Any:
    """Take control characters and halves of characters out of what is not markup."""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _code(text: str) -> Markup:
    """What stands between two backticks is a command."""
    parts = [escape(part) for part in clean(text).split("`")]
    if len(parts) % 2 == 0:  # the last one has no partner
        parts[-2:] = [parts[-2] + "`" + parts[-1]]
    tags = cycle((Markup("{}"), Markup("<code>{}</code>")))
    return Markup("").join(tag.format(part) for tag, part in zip(tags, parts, strict=False))


def _on_paper() -> str:
    """Paper is light, and a chart may have been drawn on a dark page."""
    pairs = {
        dark: light
        for name, colors in charts.DARK.range.items()
        for dark, light in zip(colors, charts.LIGHT.range[name], strict=True)
    }
    rules = (
        f'.chart svg [{what}="{dark}"]{{{what}:{light}}}'
        for dark, light in pairs.items()
        for what in ("fill", "stroke")
    )
    return f"@media print{{{''.join(rules)}}}"


@cache
def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed, as vl-convert carries them."""
    import vl_convert  # noqa: PLC0415  # it takes time, and a test of a section does not need it

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def _pack(content: Any) -> str:
    """A third as long, or a tenth; page.js unpacks it."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _hash(script: str) -> str:
    """What names a script in a Content-Security-Policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
