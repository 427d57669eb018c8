"""Pictures: forms into which sections put their numbers, and their way to SVG and PNG.

Each form gives a specification for Vega-Lite that names no background and no width, and takes the
colours from the theme: the page, which may be dark, and :func:`svg` add those.
"""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import altair as alt

from convbench.words.text import clean

from .parts import Chart, Tone

WIDTH = 760
"""Of a picture in a file, in pixels."""


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours of marks on one background.

    Those of a palette stay apart for all kinds of colour vision, and from the background;
    tests/report/test_charts.py computes both. Targets have a shape each, too.

    Attributes
    ----------
    series : tuple of str
        In the order of the targets.
    tones : mapping of Tone to str
        Blue is good and red is bad, since green and red are one colour to one man of twelve.
    """

    series: tuple[str, ...]
    tones: Mapping[Tone, str]

    @property
    def range(self) -> dict[str, list[str]]:
        """As Vega's configuration names them."""
        return {"category": [*self.series], "ordinal": [*self.tones.values()]}


LIGHT = Palette(
    ("#0072b2", "#d55e00", "#00004c", "#663300", "#2693ff", "#995465", "#8000ff", "#737a85"),
    {"good": "#0072b2", "care": "#b8860b", "bad": "#8f0f06", "": "#7a818c"},
)
DARK = Palette(
    ("#56b4e9", "#e69f00", "#80602d", "#ffff8c", "#6e59ff", "#8cf1ff", "#cc1fa1", "#98a1ad"),
    {"good": "#56b4e9", "care": "#ffe08a", "bad": "#f0553f", "": "#8f98a5"},
)
_GREY = "#7f8792"
"""Of lines and bands that are no mark of anything: it is seen on either background."""

_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")

THEME: dict[str, Any] = {
    "font": "system-ui, 'Segoe UI', 'Liberation Sans', Arial, sans-serif",
    "background": "transparent",
    "view": {"stroke": None},
    "axis": {
        "gridColor": "#e3e6ea", "domainColor": "#8a929c", "tickColor": "#8a929c",
        "labelColor": "#3a4048", "titleColor": "#3a4048", "labelFontSize": 11,
        "titleFontSize": 11, "titleFontWeight": "normal", "labelLimit": 310,
    },
    "axisX": {"labelFlush": False},
    "legend": {
        "orient": "top", "labelColor": "#3a4048", "titleColor": "#3a4048", "labelLimit": 170,
        "labelFontSize": 11, "title": None, "columns": 4, "symbolSize": 70,
    },
    "title": {
        "color": "#1d2127", "subtitleColor": "#565e69", "anchor": "start", "fontSize": 14,
        "offset": 8,
    },
}  # fmt: skip
"""What all pictures have in common."""

_ROW_HEIGHT = 18

ZOOM_HINT = "Drag to move, Ctrl and the wheel to zoom, double click to return."
_ZOOM = "wheel![event.ctrlKey]"  # the wheel alone scrolls the page


@dataclass(frozen=True, slots=True)
class Point:
    """One thing in a picture, at numbers or in the row or column of that name.

    Attributes
    ----------
    low, high : float, optional
        How far it may be off.
    text : str
        What is written on it.
    tone : Tone
        What the colour says, where it is not that of the series.
    color : str
        Of a tile.
    link : str
        Where it leads.
    says : mapping of str to str
        What is told about it when it is pointed at.
    """

    x: float | str
    y: float | str
    series: str = ""
    low: float | None = None
    high: float | None = None
    text: str = ""
    tone: Tone = ""
    color: str = ""
    link: str = ""
    says: Mapping[str, str] = field(default_factory=dict)


def svg(chart: Chart) -> str:
    """Draw it as SVG, without a browser."""
    import vl_convert  # noqa: PLC0415  # it takes time, and only files need it

    return str(vl_convert.vegalite_to_svg(_alone(chart), config=_ON_WHITE))


def png(chart: Chart) -> bytes:
    """Draw it as PNG, twice as large as on the page."""
    import vl_convert  # noqa: PLC0415

    return bytes(vl_convert.vegalite_to_png(_alone(chart), config=_ON_WHITE, scale=2))


_ON_WHITE = {**THEME, "range": LIGHT.range, "background": "white", "padding": 12}


def _alone(chart: Chart) -> dict[str, Any]:
    hint = textwrap.wrap(clean(chart.hint), 110)
    title = {"text": clean(chart.title), **({"subtitle": hint} if hint else {})}
    return {**chart.spec, "title": title, "width": WIDTH}


# -- Forms -----------------------------------------------------------------------------------------


def matrix(points: Sequence[Point], columns: Sequence[str]) -> dict[str, Any]:
    """Tiles with a number on each: x is the column, y the row, `color` what is behind `text`."""
    x = alt.X("x:N", sort=[clean(name) for name in columns]).title(None)
    x = x.axis(orient="top", labelAngle=30, labelAlign="right", labelLimit=170).scale(
        paddingInner=0.04
    )
    y = alt.Y("y:N", sort=None).title(None).scale(paddingInner=0.08).axis(_BARE)
    tip = _tooltip(points)  # the words hide the tile from the pointer, so they have it too
    tiles, words = _rows().mark_rect(cornerRadius=2), _rows().mark_text(fontSize=11)
    tiles = tiles.encode(x, y, alt.Color("color:N", scale=None), tooltip=tip)
    words = words.encode(x, y, alt.Color("ink:N", scale=None), text="text:N", tooltip=tip)
    return _spec(tiles + words, points, _height(points, 4))


def matrix_width(columns: int) -> int:
    """Pixels that so many columns need at least."""
    return 150 + 48 * columns


def intervals(points: Sequence[Point], title: str, within: tuple[float, float]) -> dict[str, Any]:
    """Ratios with their intervals on a logarithmic axis: one a row, and what does not matter."""
    ends = [end for p in points for end in (p.x, p.low, p.high) if isinstance(end, float)]
    ratios = [*within, *(p.x for p in points if isinstance(p.x, float))]
    # Two noisy processes have an interval that would leave no room for the others.
    least, most = min(ratios) / 1.5, max(ratios) * 1.5
    domain = [max(min([*ends, *within]), least), min(max([*ends, *within]), most)]
    x = alt.X("x:Q").scale(type="log", nice=False, domain=domain, padding=8).title(title)
    x = x.axis(format=".4~g", tickCount=6)
    y = alt.Y("y:N", sort=None).title(None).axis(_BARE)
    base = _rows().encode(y, _tone(), tooltip=_tooltip(points))
    band = _some([{"low": within[0], "high": within[1]}]).mark_rect(color=_GREY, opacity=0.2)
    band = band.encode(x=alt.X("low:Q"), x2="high:Q")
    one = _some([{"at": 1}]).mark_rule(color=_GREY).encode(x=alt.X("at:Q"))
    spans = base.mark_rule(strokeWidth=2, clip=True).encode(x=alt.X("low:Q"), x2="high:Q")
    marks = base.mark_point(filled=True, size=50, opacity=1).encode(x=x)
    return _spec(band + one + spans + marks, points, _height(points))


def dots(
    points: Sequence[Point], title: str, series: Sequence[str], unit: str = "", at: float = 0.0
) -> dict[str, Any]:
    """Numbers on a logarithmic axis: rows by name, a mark a series, and a line at `at`."""
    x = alt.X("x:Q").scale(type="log", nice=False, padding=12).title(title).axis(**_log("x", unit))
    y = alt.Y("y:N", sort=None).title(None).axis(grid=True, ticks=False, domain=False)
    marks = _rows().mark_point(filled=True, size=60, opacity=0.9)
    chart: Any = marks.encode(x, y, _color(series), _shape(series), tooltip=_tooltip(points))
    if at:
        line = _some([{"at": at}]).mark_rule(color=_GREY, strokeWidth=2)
        chart = line.encode(x=alt.X("at:Q")) + chart
    return _spec(chart, points, _height(points))


def bars(
    points: Sequence[Point], title: str, series: Sequence[str], unit: str = "", *, whole: bool
) -> dict[str, Any]:
    """Bars of which each is made of the series: rows by name; of equal length if `whole`."""
    x = alt.X("x:Q").stack("normalize" if whole else "zero").title(title)
    x = x.axis(format="%", tickCount=5) if whole else x.axis(**_si(unit))
    y = alt.Y("y:N", sort=None).title(None).axis(_BARE)
    order = alt.Order("place:Q")
    chart = _rows().mark_bar().encode(x, y, _color(series), order, tooltip=_tooltip(points))
    return _spec(chart, points, _height(points))


def curves(
    points: Sequence[Point], x_title: str, y_title: str, series: Sequence[str], unit: str
) -> dict[str, Any]:
    """How something grows: both axes logarithmic, a line a series, with how far processes lie."""
    ticks = sorted({point.x for point in points if isinstance(point.x, float)})
    x = alt.X("x:Q").scale(type="log", nice=False, padding=12).title(x_title)
    x = x.axis(values=ticks, format="d", labelOverlap=True)
    y = alt.Y("y:Q").scale(type="log", nice=False, padding=12).title(y_title)
    y = y.axis(**_log("y", unit))
    base = _rows().encode(x=x, color=_color(series))
    lines = base.mark_line(strokeWidth=2).encode(y=y)
    spans = base.mark_rule(strokeWidth=1.5).encode(y=alt.Y("low:Q"), y2="high:Q")
    marks = base.mark_point(filled=True, size=55, opacity=1)
    marks = marks.encode(y=y, shape=_shape(series), tooltip=_tooltip(points))
    return _spec(lines + spans + marks, points, 300, zoom=("x", "y"))


def roofline(
    points: Sequence[Point],
    roofs: Mapping[str, Sequence[tuple[float, float]]],
    series: Sequence[str],
) -> dict[str, Any]:
    """GFLOP/s over operations per byte, under lines that cannot be passed."""
    log: dict[str, Any] = {"type": "log", "nice": False, "padding": 12}
    x = alt.X("x:Q").scale(**log).axis(**_log("x")).title("operations per byte")
    y = alt.Y("y:Q").scale(**log).axis(**_log("y")).title("GFLOP/s")
    corners = [{"x": a, "y": b, "roof": name} for name, line in roofs.items() for a, b in line]
    dash = alt.StrokeDash("roof:N").scale(domain=[*roofs], range=[[1, 0], [6, 4]])
    dash = dash.legend(orient="bottom", symbolSize=500)
    lines = _some(corners).mark_line(color=_GREY, strokeWidth=2).encode(x, y, dash)
    marks = _rows().mark_point(filled=True, size=60, opacity=0.9)
    marks = marks.encode(x, y, _color(series), _shape(series), tooltip=_tooltip(points))
    return _spec(lines + marks, points, 360, zoom=("x", "y"))


def trend(
    points: Sequence[Point],
    levels: Sequence[tuple[int, int, float]],
    title: str,
    unit: str,
    names: Mapping[int, str],
) -> dict[str, Any]:
    """One number over commits, whose place is x, and its levels: from one place to another.

    Parameters
    ----------
    names : mapping of int to str
        Of the commits, which are hexadecimal, by their places: some of them are on the axis.
    """
    places = sorted(names)
    step = math.ceil(len(places) / _MOST_NAMES)
    # The newest is always named, and none so near it that the two would overlap.
    shown = {place: names[place] for place in places[::-1][::step]}
    words = json.dumps({str(place): re.sub("[^0-9a-f]", "", shown[place]) for place in shown})
    x = alt.X("x:Q").title(title).scale(nice=False, zero=False, padding=12)
    x = x.axis(grid=False, values=sorted(shown), labelExpr=f"{words}[datum.value]", labelFont=_MONO)
    y = alt.Y("y:Q").scale(zero=False, nice=True, padding=6).title(None).axis(**_si(unit, 4))
    shape = alt.Shape("tone:N").scale(
        domain=[*_TONES], range=["circle", "square", "cross", "circle"]
    )
    marks = _rows().mark_point(filled=True, size=45, opacity=0.9)
    marks = marks.encode(x, y, _tone(), shape.legend(None), tooltip=_tooltip(points), href="link:N")
    found = [{"from": a - 0.4, "to": b + 0.4, "level": value} for a, b, value in levels]
    steps = _some(found).mark_rule(color=_GREY, strokeWidth=2.5)
    steps = steps.encode(x=alt.X("from:Q"), x2="to:Q", y=alt.Y("level:Q"))
    return _spec(steps + marks, points, 130, zoom=("x",))


_MOST_NAMES = 5
_MONO = "ui-monospace, 'Liberation Mono', monospace"


def narrowing(
    points: Sequence[Point],
    band: Sequence[tuple[int, float, float, float]],
    within: tuple[float, float],
) -> dict[str, Any]:
    """Ratios in their order, and what was known after so many: low, high and the estimate."""
    known = [
        {"n": n, "low": low, "high": high, "ratio": ratio}
        for n, low, high, ratio in band if not math.isnan(low)
    ]  # fmt: skip
    ends = [end for p in points for end in (p.y, *within) if isinstance(end, float)]
    # An interval of the first few pairs would leave no room for the others.
    domain = [min(ends) / 1.02, max(ends) * 1.02]
    x = alt.X("n:Q").scale(domain=[0, len(points) + 1], nice=False).title("pair")
    x = x.axis(grid=False, tickMinStep=1)
    y = alt.Y("y:Q").scale(type="log", nice=False, domain=domain).title("head / base")
    y = y.axis(format=".4~g", tickCount=4)
    free = _some([{"low": within[0], "high": within[1]}]).mark_rect(color=_GREY, opacity=0.2)
    free = free.encode(y=alt.Y("low:Q"), y2="high:Q")
    one = _some([{"at": 1}]).mark_rule(color=_GREY).encode(y=alt.Y("at:Q"))
    base = _some(known).encode(x=x)
    area = base.mark_area(opacity=0.25, clip=True, interpolate="step-after")
    area = area.encode(y=alt.Y("low:Q"), y2="high:Q", color=alt.value(_GREY))
    line = base.mark_line(color=_GREY, strokeWidth=2, clip=True, interpolate="step-after")
    line = line.encode(y=alt.Y("ratio:Q"))
    dots = _rows().mark_point(filled=True, size=36, opacity=0.9)
    dots = dots.encode(alt.X("x:Q"), y, _tone(), tooltip=_tooltip(points))
    return _spec(free + one + area + line + dots, points, 150)


def power(points: Sequence[Point], series: Sequence[str], at: float) -> dict[str, Any]:
    """How likely, y, effects of a size, x, are seen: a line for each `text`, and one at `at`."""
    x = alt.X("x:Q").scale(type="log", nice=False).title("true slow-down")
    x = x.axis(format=".2~%", tickCount=6, grid=False, labelOverlap=True)
    y = alt.Y("y:Q").scale(domain=[0, 1]).title("probability that it is seen")
    y = y.axis(format="%", tickCount=5)
    goal = _some([{"at": at}]).mark_rule(color=_GREY, strokeWidth=2).encode(y=alt.Y("at:Q"))
    base = _rows().encode(x, y, _color(series))
    lines = base.mark_line(strokeWidth=1.5, opacity=0.9).encode(detail="text:N")
    marks = base.mark_point(filled=True, size=18, opacity=0.9)
    marks = marks.encode(shape=_shape(series), tooltip=_tooltip(points))
    return _spec(goal + lines + marks, points, 220)


# -- Colours ---------------------------------------------------------------------------------------


def ramp(share: float, low: str, high: str) -> str:
    """A colour between two: 0 is the one and 1 the other.

    Examples
    --------
    >>> ramp(0.5, "#000000", "#ff8000")
    '#804000'
    """
    share = min(max(share, 0.0), 1.0)
    ends = [[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in (low, high)]
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in zip(*ends, strict=True))


def contrast(one: str, other: str) -> float:
    """From 1 to 21: WCAG 2.2, "contrast ratio"; 4.5 is enough for text and 3 for marks.

    Examples
    --------
    >>> round(contrast("#ffffff", "#000000"), 6)
    21.0
    """
    dark, light = sorted(map(_luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: str) -> float:
    channels = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


# -- What they share -------------------------------------------------------------------------------

_BARE = alt.Axis(grid=False, ticks=False, domain=False)
_INK = ("#000000", "#ffffff")  # of the two one is always at 4.5 or more


def _rows() -> alt.Chart:
    return alt.Chart(alt.NamedData("rows"))


def _some(rows: list[dict[str, Any]]) -> alt.Chart:
    return alt.Chart(alt.InlineData(values=rows))


def _spec(
    chart: alt.Chart | alt.LayerChart,
    points: Sequence[Point],
    height: int,
    zoom: Sequence[str] = (),
) -> dict[str, Any]:
    spec: dict[str, Any] = chart.to_dict()
    del spec["config"]
    if zoom:
        select = {"type": "interval", "encodings": [*zoom], "zoom": _ZOOM}
        # A layer has it, and all move.
        spec["layer"][-1]["params"] = [{"name": "zoom", "select": select, "bind": "scales"}]
    # The rows are put in afterwards: to have Altair validate each of them would take seconds.
    rows = [_row(place, point) for place, point in enumerate(points)]
    return spec | {
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "datasets": {**spec.get("datasets", {}), "rows": rows},
    }


def _height(points: Sequence[Point], more: int = 0) -> int:
    """For a row a name: Vega-Lite's own step per row has it warn about a width that is fitted."""
    return (_ROW_HEIGHT + more) * max(len({point.y for point in points}), 1)


def _row(place: int, point: Point) -> dict[str, Any]:
    row: dict[str, Any] = {
        "x": clean(point.x) if isinstance(point.x, str) else point.x,
        "y": clean(point.y) if isinstance(point.y, str) else point.y,
        "series": clean(point.series), "low": point.low, "high": point.high, "place": place,
        "tone": point.tone or _PLAIN, "link": point.link, "text": clean(point.text),
    }  # fmt: skip
    if point.color:
        row["color"] = point.color
        row["ink"] = max(_INK, key=lambda ink: contrast(ink, point.color))
    row |= {f"says{i}": clean(text) for i, text in enumerate(point.says.values())}
    return {name: value for name, value in row.items() if value not in (None, "") and _json(value)}


def _json(value: Any) -> bool:
    """Whether JSON has a number for it; what is left out is not drawn."""
    return not isinstance(value, float) or math.isfinite(value)


def _tooltip(points: Sequence[Point]) -> list[alt.Tooltip]:
    says = points[0].says if points else {}
    return [alt.Tooltip(f"says{i}:N").title(name) for i, name in enumerate(says)]


_PLAIN = "none"
_TONES = [tone or _PLAIN for tone in LIGHT.tones]


def _tone() -> alt.Color:
    return alt.Color("tone:N").scale(domain=_TONES, range="ordinal").legend(None)


def _color(series: Sequence[str]) -> alt.Color:
    return alt.Color("series:N").scale(domain=[clean(name) for name in series])


def _shape(series: Sequence[str]) -> alt.Shape:
    return alt.Shape("series:N").scale(domain=[clean(name) for name in series], range=[*_SHAPES])


def _si(unit: str, ticks: int = 6) -> dict[str, Any]:
    """Labels of an axis as in 20ms; the unit is ours and never from a file."""
    words = f"format(datum.value, '.3~s') + '{unit}'"
    return {"labelExpr": words, "tickCount": ticks, "labelOverlap": True}


def _log(scale: str, unit: str = "") -> dict[str, Any]:
    """The same of a logarithmic axis: of some decades 1, 2 and 5 have labels, and of many 1."""
    words = f"format(datum.value, '{'.3~s' if unit else '.3~g'}') + '{unit}'"
    span = f"domain('{scale}')[1] / domain('{scale}')[0]"
    first = "slice(format(datum.value, 'e'), 0, 1)"
    shown = f"{span} < 10 || indexof({span} < 1000 ? '125' : '1', {first}) >= 0"
    faint = {"condition": {"test": shown, "value": 1}, "value": 0.2}
    return {"labelExpr": f"{shown} ? {words} : ''", "gridOpacity": faint, "tickOpacity": faint}
