"""The forms of charts: they can be drawn, and seen on a white page as well as on a dark one."""

from __future__ import annotations

import json
import math
import re
from itertools import product
from pathlib import Path

import pytest

from convbench.report import backends, charts, correctness
from convbench.report.charts import Point
from convbench.report.parts import Chart

STYLE = (Path(charts.__file__).parent / "page.css").read_text(encoding="utf-8")
LIGHT, DARK = (
    dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))
    for block in re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
)
PAPER, NIGHT = LIGHT["page"], DARK["page"]


@pytest.mark.parametrize("color", [*charts.SERIES, *charts.TONES.values()])
@pytest.mark.parametrize("behind", [PAPER, NIGHT])
def test_a_mark_stands_out(color, behind):
    assert charts.contrast(color, behind) >= 3


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["text", "quiet", "link", "good", "care", "bad"])
@pytest.mark.parametrize("behind", ["page", "raised"])
def test_words_can_be_read(theme, name, behind):
    assert charts.contrast(theme[name], theme[behind]) >= 4.5


@pytest.mark.parametrize("ends", [correctness._RIGHT, (backends._SAME, backends._FASTER),
                                  (backends._SAME, backends._SLOWER)])  # fmt: skip
def test_words_on_tiles_can_be_read(ends):
    tiles = [Point("x", str(i), color=charts.ramp(i / 50, *ends), text="1") for i in range(51)]
    for row in charts.matrix(tiles, ["x"])["datasets"]["rows"]:
        assert charts.contrast(row["ink"], row["color"]) >= 4.5


def test_a_rule_of_wcag():
    # The example of its "Understanding" page: #777 on white just fails.
    assert charts.contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


NUMBERS = [Point(1.0, 2.0, "a", says={"what": "one"}), Point(10.0, 0.5, "b", says={"what": "two"})]
NAMES = [Point(1.0, "row", "a", low=0.9, high=1.1), Point(2.0, "other", "b")]
TILES = [Point("left", "row", text="1", color="#ffffff"), Point("right", "row", text="x")]

FORMS = {
    "matrix": lambda: charts.matrix(TILES, ["left", "right"]),
    "intervals": lambda: charts.intervals(NAMES, "ratio", (0.95, 1.05)),
    "dots": lambda: charts.dots(NAMES, "cold / hot", ["a", "b"], at=1.0),
    "bars": lambda: charts.bars(NAMES, "share", ["a", "b"], whole=True),
    "sums": lambda: charts.bars(NAMES, "seconds", ["a", "b"], "s", whole=False),
    "curves": lambda: charts.curves(NUMBERS, "size", "time", ["a", "b"], "s"),
    "roofline": lambda: charts.roofline(NUMBERS, {"roof": [(1.0, 1.0), (9.0, 2.0)]}, ["a", "b"]),
    "trend": lambda: charts.trend(NUMBERS, [(0, 3, 1.0)], "commits", "s"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_drawn(form, capfd):
    drawn = charts.svg(Chart("one", "A title", "", FORMS[form](), "How to read it."))
    assert drawn.startswith("<svg")
    for words in ("A title", "How to read it."):
        assert words in drawn
    described = set(re.findall(r'role="graphics-symbol" aria-roledescription="(\w+)', drawn))
    assert described, "no mark was drawn"
    assert capfd.readouterr() == ("", "")


def test_a_png_is_a_png():
    assert charts.png(Chart("one", "A title", "", FORMS["dots"]())).startswith(b"\x89PNG")


@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_always_the_same(form):
    assert FORMS[form]() == FORMS[form]()


def test_the_names_of_a_chart_are_those_of_its_rows():
    """A domain that is spelled another way than its data would colour nothing."""
    name = "a\nb\x00"
    spec = charts.dots([Point(1.0, name, name)], "x", [name])
    (row,) = spec["datasets"]["rows"]
    assert spec["encoding"]["color"]["scale"]["domain"] == [row["series"]] == ["a b?"]


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_what_json_has_no_number_for_is_not_drawn(value):
    spec = charts.intervals([Point(1.0, "a", low=value, high=value)], "x", (0.95, 1.05))
    assert json.loads(json.dumps(spec, allow_nan=False)) == spec
    assert spec["datasets"]["rows"][0].keys().isdisjoint({"low", "high"})


def test_one_hopeless_interval_leaves_room_for_the_others():
    points = [Point(1.0, "a", low=1e-9, high=1e9), Point(1.1, "b", low=1.05, high=1.15)]
    domains = [
        layer["encoding"]["x"]["scale"]["domain"]
        for layer in charts.intervals(points, "x", (0.95, 1.05))["layer"]
        if "scale" in layer["encoding"]["x"]
    ]
    assert domains == [[pytest.approx(0.95 / 1.5), pytest.approx(1.1 * 1.5)]]


@pytest.mark.parametrize(("share", "color"), [(-1, "#000000"), (0.5, "#804000"), (2, "#ff8000")])
def test_a_ramp_ends_at_its_ends(share, color):
    assert charts.ramp(share, "#000000", "#ff8000") == color


def test_colours_differ():
    for one, other in product(charts.SERIES, repeat=2):
        assert (one == other) or one[1:3] != other[1:3] or one[3:5] != other[3:5]
