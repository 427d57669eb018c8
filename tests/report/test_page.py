"""The page as a file: nothing executes or is fetched, and everything can be found in it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import re
from html.parser import HTMLParser

import pytest

from convbench.report import charts, page
from convbench.report.parts import Chart, Facts, Section, Table, TableCell, Text

from .factories import HOSTILE, everything, make

VOID = {"meta", "input"}
ANCHORS = [
    "verdict", "correctness", "timings", "backends", "sweep", "roofline", "gates", "history",
    "stages", "others", "machines", "changes", "missing",
]  # fmt: skip


class Read(HTMLParser):
    """Elements with their attributes, scripts with their text, and what is left open."""

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.scripts = []
        self.words = []
        self.open = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif self.open and self.open[-1] != "style":
            self.words.append(data)

    def attributes(self, name):
        return [found[name] for _, found in self.elements if name in found]


@pytest.fixture(scope="module")
def whole():
    return page.to_html(data := everything(), page.sections(data))


@pytest.fixture(scope="module")
def hostile():
    return page.to_html(data := everything("".join(HOSTILE)), page.sections(data))


@pytest.fixture(params=["whole", "hostile"])
def text(request):
    return request.getfixturevalue(request.param)


def test_it_is_well_formed_and_every_id_is_one(text):
    read = Read(text)
    assert read.open == []
    ids = read.attributes("id")
    assert len(ids) == len(set(ids))


def test_every_section_has_an_anchor_that_stays(whole):
    read = Read(whole)
    shown = [a["id"] for tag, a in read.elements if tag == "section"]
    assert shown == [name for name in ANCHORS if name in shown] + ["absent"]
    assert set(ANCHORS) <= set(read.attributes("id"))  # what is empty is a line of the last
    links = [link.removeprefix("#") for link in read.attributes("href")]
    assert set(links) == set(shown)


def test_it_asks_nothing_of_the_network(text):
    read = Read(text)
    assert not {"link", "img", "iframe", "object", "embed", "base", "form", "a"} & {
        tag for tag, found in read.elements if tag != "a" or not found["href"].startswith("#")
    }
    assert read.attributes("src") == []
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style


def test_only_its_own_scripts_may_run(text):
    read = Read(text)
    (policy,) = (a["content"] for tag, a in read.elements if a.get("http-equiv"))
    rules = dict(rule.strip().split(" ", maxsplit=1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["connect-src"] == rules["base-uri"] == "'none'"
    assert "unsafe" not in rules["script-src"]
    scripts = [(tag, a) for tag, a in read.elements if tag == "script"]
    kinds = [a.get("type") for _, a in scripts]
    running = [s for s, kind in zip(read.scripts, kinds, strict=True) if kind is None]
    packed = json.loads(read.scripts[[a.get("id") for _, a in scripts].index("packed")])
    library = json.loads(gzip.decompress(base64.b64decode(packed)))["library"]
    assert "vegaEmbed" in library
    digests = [hashlib.sha256(script.encode()).digest() for script in (*running, library)]
    hashes = [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]
    assert rules["script-src"].split() == hashes
    assert "\r" not in "".join(running)  # a browser would hash a newline instead
    data = [s for s, kind in zip(read.scripts, kinds, strict=True) if kind is not None]
    assert set(kinds) == {None, "application/json"}
    assert all(json.loads(script) for script in data)


def test_no_hostile_text_becomes_anything_else(whole, hostile):
    shape = [[tag for tag, _ in Read(text).elements] for text in (whole, hostile)]
    assert shape[0] == shape[1]
    assert not [name for _, found in Read(hostile).elements for name in found if name[:2] == "on"]
    for character in "\x00\x1b\u2028\u2029\u202e\ud800":
        assert character not in hostile
    assert "{{ 7 * 7 }}" in html.unescape("".join(Read(hostile).words))


def test_a_hostile_name_is_drawn_as_text():
    points = [charts.Point(1.0, text, "t") for text in HOSTILE]
    drawn = charts.svg(Chart("one", HOSTILE[0], "", charts.dots(points, "x", ["t"])))
    assert "<script" not in drawn
    assert "<img" not in drawn
    assert "&lt;/script&gt;&lt;script&gt;" in drawn


def test_tables_name_their_rows_and_columns():
    rows = [("a", TableCell("1", "bad")), ("b", "2"), ("c", "")]
    table = Table.of("A table", "name | > number | nothing", [(*row, "") for row in rows])
    read = Read(page.to_html(make(), [Section("s", "S", (table,))]))
    scopes = [found["scope"] for tag, found in read.elements if tag == "th"]
    assert scopes == ["col"] * 2 + ["row"] * 3
    assert {"class": "bad"} in [found for tag, found in read.elements if tag == "span"]
    assert table.numeric == {1}
    assert "3 rows" in "".join(read.words)


def test_columns_stand_by_what_they_are_for():
    rows = [(TableCell("conv", command="convbench verify 'a b'"), "cpu", "1 ms", "im2col", "")]
    table = Table.of("T", "workload | ^ target | > time | ~ algorithm | ~> nothing", rows)
    assert table.header == ("workload", "target", "time", "algorithm")
    assert (table.under, table.numeric, table.wide) == (1, {2}, {3})
    read = Read(page.to_html(make(), [Section("s", "S", (table,))]))
    assert read.attributes("data-under") == ["cpu"]
    assert read.attributes("data-command") == ["convbench verify 'a b'"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("run `a b` and `c`", "run <code>a b</code> and <code>c</code>"),
        ("`<b>` & ` alone", "<code>&lt;b&gt;</code> &amp; ` alone"),
        ("nothing", "nothing"),
        ("", ""),
    ],
)
def test_a_command_in_a_sentence_stands_out(text, found):
    assert page._code(text) == found


def test_what_all_commands_of_a_table_begin_with_stands_there_once():
    commands = [f"convbench gate a b --target {name}" for name in ("'x y'", "'x z'", "xyz")]
    rows = [(TableCell("row", command=command),) for command in commands]
    table = Table.of("T", "workload", rows)
    read = Read(page.to_html(make(), [Section("s", "S", (table,))]))
    (start,) = read.attributes("data-start")
    assert start == "convbench gate a b --target"
    assert [f"{start} {rest}" for rest in read.attributes("data-command")] == commands


def test_a_long_table_says_what_is_left_out():
    table = Table.of("A table", "name", ([str(i)] for i in range(12)), most=10)
    assert (len(table.rows), table.left_out) == (10, 2)
    assert "2 more rows are left out here" in page.to_html(make(), [Section("s", "S", (table,))])


def test_every_part_has_its_place():
    spec = charts.dots([charts.Point(1.0, "a", "t")], "x", ["t"])
    chart = Chart("one", "A chart", "A dot.", spec, "How to read it.", zooms=True)
    facts = Facts.of([("machine", "vm"), ("nothing", "")])
    parts = (Text("A sentence.", "care"), facts, chart)
    read = Read(page.to_html(make(), [Section("s", "S", parts)]))
    words = "".join(read.words)
    for found in ("A sentence.", "machine", "vm", "A chart", "How to read it.", "Ctrl"):
        assert found in words
    assert "nothing" not in words
    assert "A chart. A dot." in read.attributes("aria-label")


def test_a_page_is_small_and_without_a_chart_it_has_no_library_that_draws(whole):
    assert len(whole) < 700_000
    text = page.to_html(make(), page.sections(make()))
    assert 'id="packed"' not in text
    assert len(text) < 40_000


def test_nothing_measured_is_a_page():
    data = make()
    parts = page.sections(data)
    assert [section.id for section in parts] == ["verdict", "absent"]
    (absent,) = parts[1].parts
    assert [anchor for anchor, _, _ in absent.items if anchor] == ANCHORS[1:]
    text = page.to_html(data, parts)
    assert "NOTHING MEASURED" in text
    assert not any(section.charts for section in parts)
