"""The forms of charts: they can be drawn, and seen on a white page as well as on a dark one."""

from __future__ import annotations

import json
import math
import re
from itertools import combinations
from pathlib import Path

import numpy as np
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


PALETTES = {"light": (charts.LIGHT, PAPER), "dark": (charts.DARK, NIGHT)}


@pytest.mark.parametrize("name", PALETTES)
def test_a_mark_stands_out(name):
    palette, behind = PALETTES[name]
    for color in (*palette.series, *palette.tones.values(), charts._GREY):
        assert charts.contrast(color, behind) >= 3


# What is seen without one kind of cones, in linear sRGB: G. M. Machado et al., A physiologically-
# based model for simulation of color vision deficiency, IEEE TVCG 15, 2009, table of severity 1.
SEEN = {
    "all": np.eye(3),
    "no long ones": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                     [-0.003882, -0.048116, 1.051998]],
    "no middle ones": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                       [-0.011820, 0.042940, 0.968881]],
    "no short ones": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                      [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


def oklab(color, cones):
    """B. Ottosson, A perceptual color space for image processing, 2020."""
    srgb = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(cones) @ linear, 0, 1)
    to_lms = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.array(to_lab) @ np.cbrt(np.array(to_lms) @ linear)


@pytest.mark.parametrize("cones", SEEN)
@pytest.mark.parametrize("name", PALETTES)
def test_colours_differ_for_every_kind_of_eyes(name, cones):
    """A just noticeable difference is about 0.02; the eighth colour is that of the rest."""
    palette, _ = PALETTES[name]
    for colors in (palette.series[:7], [palette.tones[tone] for tone in ("good", "care", "bad")]):
        for one, other in combinations(colors, 2):
            assert np.linalg.norm(oklab(one, SEEN[cones]) - oklab(other, SEEN[cones])) > 0.1


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
    "trend": lambda: charts.trend(NUMBERS, [(0, 3, 1.0)], "commits", "s", {1: "ab", 10: "cd"}),
    "power": lambda: charts.power(NUMBERS, ["a", "b"], 0.8),
    "narrowing": lambda: charts.narrowing(
        NUMBERS, [(1, math.nan, math.nan, 1.0), (2, 0.5, 2.0, 1.0)], (0.95, 1.05)
    ),
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
