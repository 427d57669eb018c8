"""The page in a real browser: Chromium, from the disk, as `make browser` installs it."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil

import pytest

from convbench.report import charts, page

from .factories import HOSTILE, everything, make

sync_api = pytest.importorskip("playwright.sync_api", reason="`make` installs it with .venv")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="as above")

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason=f"none of {', '.join(NAMES)} is here; `make browser` installs one"
)

NARROW, MIDDLE, WIDE = (
    {"width": width, "height": height} for width, height in ((390, 844), (768, 1024), (1440, 900))
)
PAPER = {"width": 718, "height": 1000}
"""A4 with margins of a centimetre."""
LOOKS = [(size, scheme) for size in (NARROW, MIDDLE, WIDE) for scheme in ("light", "dark")]
NAMES_OF_LOOKS = [f"{size['width']}-{scheme}" for size, scheme in LOOKS]


@pytest.fixture(scope="module")
def browser():
    # Its own sandbox needs rights that root in a container does not have.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Files with everything, with the same full of hostile strings, and with nothing."""
    folder = tmp_path_factory.mktemp("pages")
    of = {"whole": everything(), "hostile": everything("".join(HOSTILE)), "nothing": make()}
    paths = {}
    for name, data in of.items():
        paths[name] = folder / f"{name}.html"
        paths[name].write_text(page.to_html(data, page.sections(data)), encoding="utf-8")
    return paths


DRAWN = "document.documentElement.dataset.drawn === 'yes'"
"""As a function it can be asked for again and again: the page forbids to evaluate strings."""


class Opened:
    """A page, and what it said and asked for."""

    def __init__(self, browser, path, viewport=WIDE, scheme="light", scale=1):
        self.context = browser.new_context(
            viewport=viewport, color_scheme=scheme, device_scale_factor=scale
        )
        self.page = self.context.new_page()
        self.said = []
        self.asked = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.url = path if isinstance(path, str) else path.as_uri()
        self.page.goto(self.url)
        self.page.wait_for_function(f"() => {DRAWN}")

    def evaluate(self, script):
        return self.page.evaluate(script)


@pytest.fixture
def open_page(browser, pages):
    opened = []

    def open_one(name="whole", viewport=WIDE, scheme="light"):
        opened.append(Opened(browser, pages[name], viewport, scheme))
        return opened[-1]

    yield open_one
    for one in opened:
        one.context.close()


@pytest.mark.parametrize("name", ["whole", "hostile", "nothing"])
@pytest.mark.parametrize(("viewport", "scheme"), LOOKS, ids=NAMES_OF_LOOKS)
def test_it_opens_without_a_complaint_a_request_or_a_sideways_scroll(
    open_page, name, viewport, scheme
):
    opened = open_page(name, viewport, scheme)
    assert opened.said == []
    assert opened.asked == [opened.url]
    assert opened.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert opened.evaluate("window.pwned") is None


@pytest.mark.parametrize("name", ["whole", "hostile"])
def test_every_chart_is_drawn(open_page, name):
    opened = open_page(name)
    figures = opened.page.locator("figure")
    assert figures.count() == 19
    marks = opened.evaluate(
        "[...document.querySelectorAll('figure')].map(figure =>"
        " figure.querySelectorAll('svg .role-mark path, svg .role-mark line').length)"
    )
    assert all(marks)


VISIBLE = "[...document.querySelectorAll('tbody tr')].filter(row => !row.hidden).length"
PICTURES = "[...document.querySelectorAll('figure')].filter(figure => !figure.hidden).length"


def filtered(page, words):
    """Type it, wait until tables and charts have followed; what is said."""
    before = page.locator("#matches").inner_text()
    page.get_by_label("Filter", exact=True).fill(words)
    page.wait_for_function(
        "before => document.getElementById('matches').textContent !== before", arg=before
    )
    page.wait_for_function(f"() => {DRAWN}")
    return page.locator("#matches").inner_text()


def test_the_filter_hides_rows_and_marks_and_gives_everything_back(open_page):
    page = open_page().page
    folded = "[...document.querySelectorAll('details')].map(table => table.open)"
    tiles = "document.querySelectorAll('#chart-correctness .mark-rect path').length"
    state = [page.evaluate(one) for one in (VISIBLE, folded, PICTURES, tiles)]
    all_rows = state[0]
    said = filtered(page, "CONV2 xla")
    found = page.evaluate(VISIBLE)
    assert said == f"{found} of {all_rows} rows match"
    assert 0 < found < all_rows
    texts = page.evaluate(
        "[...document.querySelectorAll('tbody tr')].filter(row => !row.hidden)"
        ".map(row => row.textContent.toLowerCase())"
    )
    assert all("conv2" in text and "xla" in text for text in texts)
    assert page.evaluate(folded) != state[1]
    assert 0 < page.evaluate(tiles) < state[3]
    assert page.evaluate(PICTURES) < state[2]
    assert page.locator("#chart-sweep-hw").is_hidden()  # nothing of it is of this workload
    assert filtered(page, "no such thing") == f"0 of {all_rows} rows match"
    assert page.evaluate(PICTURES) == 0
    assert filtered(page, "") == ""
    assert [page.evaluate(one) for one in (VISIBLE, folded, PICTURES, tiles)] == state


def column(table, number):
    return table.locator(f"tbody tr > :nth-child({number})").all_inner_texts()


def test_a_table_is_sorted_by_its_numbers_and_the_address_keeps_it(open_page, browser):
    opened = open_page()
    page = opened.page
    page.evaluate("document.querySelectorAll('details').forEach(table => { table.open = true })")
    table = page.locator("#roofline-2")
    times = column(table, 3)
    scale = {"µs": 1e-6, "ms": 1e-3}
    in_seconds = sorted(times, key=lambda text: float(text.split()[0]) * scale[text.split()[1]])
    assert len({text.split()[1] for text in times}) == 2  # by the letter it would be another order
    head = table.get_by_role("button", name="time")
    head.press("Enter")
    assert column(table, 3) == in_seconds != times
    assert table.locator("th[aria-sort=ascending]").inner_text().startswith("time")
    head.press("Enter")
    assert column(table, 3) == in_seconds[::-1]
    filtered(page, "conv1")
    page.wait_for_url("**?filter=conv1&sort=roofline-2*")
    again = Opened(browser, page.url)
    try:
        other = again.page.locator("#roofline-2")
        assert column(other, 3) == in_seconds[::-1]
        assert again.page.locator("#filter").input_value() == "conv1"
        assert again.page.evaluate(VISIBLE) == page.evaluate(VISIBLE)
        assert again.said == opened.said == []
    finally:
        again.context.close()
    filtered(page, "")
    head.press("Enter")
    assert column(table, 3) == times
    assert page.url == opened.url


def test_what_is_shown_of_a_table_can_be_taken_away(open_page):
    opened = open_page("hostile")
    page = opened.page
    names = page.locator("#verdict table").last.locator("thead th").all_inner_texts()
    rows = page.locator("#verdict table").last.locator("tbody tr").count()
    taken = {}
    for kind in ("CSV", "JSON"):
        with page.expect_download() as waiting:
            page.locator("#verdict").get_by_role("button", name=f"as {kind}").last.click()
        assert waiting.value.suggested_filename.endswith(f".{kind.lower()}")
        taken[kind] = waiting.value.path().read_text(encoding="utf-8")
    listed = json.loads(taken["JSON"])
    (header, *read) = csv.reader(io.StringIO(taken["CSV"], newline=""))
    assert len(listed) == len(read) == rows
    assert header == [*listed[0]]
    assert [name.partition(" (")[0] for name in header] == names
    time = header.index("time (s)")
    assert all(1e-4 < float(row[time]) < 1e-2 for row in read)
    assert [row["time (s)"] for row in listed] == [float(row[time]) for row in read]
    assert opened.asked == [opened.url]
    assert opened.said == []


def test_a_spreadsheet_gets_no_formula(open_page):
    opened = open_page()
    found = opened.evaluate("FORMATS.csv(['=a'], [['=1+1'], ['@x'], [-1.5], ['plain, \"q\"']])")
    assert found == '\'=a\r\n\'=1+1\r\n\'@x\r\n-1.5\r\n"plain, ""q"""\r\n'


def test_the_command_that_repeats_a_cell_is_copied(open_page):
    opened = open_page()
    opened.context.grant_permissions(["clipboard-read", "clipboard-write"])
    button = opened.page.locator("#verdict table .copy").first
    button.press("Enter")
    command = button.get_attribute("data-command")
    assert command.startswith("convbench verify --target")
    opened.page.wait_for_function("() => document.getElementById('matches').textContent")
    assert opened.page.locator("#matches").inner_text() == f"Copied: {command}"
    assert opened.evaluate("navigator.clipboard.readText()") == command


def test_on_a_phone_the_time_is_second_and_the_rest_is_there_when_asked_for(open_page):
    page = open_page(viewport=NARROW).page
    table = page.locator("#verdict details").first
    shown = table.locator("thead th:visible").all_inner_texts()
    assert shown[:2] == ["workload", "head"]
    first = table.locator("tbody tr:first-child > th")
    below = first.evaluate("cell => getComputedStyle(cell, '::after').content")
    assert below == f'"{first.get_attribute("data-under")}"' == '"tensorflow.xla@cpu"'
    box = table.locator("tbody tr:first-child > td:visible").first.bounding_box()
    assert box["x"] + box["width"] < NARROW["width"]
    table.get_by_role("button", name="all columns").click()
    assert "base" in table.locator("thead th:visible").all_inner_texts()
    # What a row is of stays where it is while the others are scrolled.
    at = first.bounding_box()["x"]
    table.locator(".scroll").evaluate("box => { box.scrollLeft = 200 }")
    assert first.bounding_box()["x"] == pytest.approx(at, abs=1)


def test_the_dark_page_is_dark_and_its_charts_have_light_words(open_page):
    def color(opened, selector, what):
        return opened.evaluate(f"getComputedStyle(document.querySelector('{selector}')).{what}")

    light, dark = open_page(scheme="light"), open_page(scheme="dark")
    label = "#chart-timings svg .role-axis-label text"
    assert color(light, "body", "backgroundColor") == "rgb(255, 255, 255)"
    assert color(dark, "body", "backgroundColor") == "rgb(20, 23, 28)"
    assert color(light, label, "fill") == color(light, "body", "color")
    assert color(dark, label, "fill") == color(dark, "body", "color")
    assert color(dark, "#chart-timings svg", "backgroundColor") in {
        "transparent",
        "rgba(0, 0, 0, 0)",
    }


def test_on_paper_it_is_light_and_without_what_one_cannot_use_there(open_page):
    page = open_page(scheme="dark").page
    page.emulate_media(media="print", color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    colors = page.evaluate(
        "[...document.querySelectorAll('#chart-timings .mark-symbol path')]"
        ".map(mark => getComputedStyle(mark).fill).filter(fill => fill !== 'none')"
    )
    light = {tuple(bytes.fromhex(color[1:])) for color in charts.LIGHT.tones.values()}
    assert {tuple(map(int, re.findall(r"\d+", color)))[:3] for color in colors} <= light
    assert len(set(colors)) > 1
    assert not page.locator("nav").is_visible()
    assert not page.locator("#filter").is_visible()


@pytest.mark.parametrize("name", ["whole", "hostile"])
def test_on_paper_nothing_is_cut_off(open_page, name):
    """A chart is as wide as the window in which it was drawn, and paper is narrower."""
    page = open_page(name).page
    page.evaluate("document.querySelectorAll('details').forEach(table => { table.open = true })")
    page.emulate_media(media="print")
    page.set_viewport_size(PAPER)
    wide = page.evaluate(
        "[...document.querySelectorAll('body *')].filter(one =>"
        " one.getBoundingClientRect().right > innerWidth + 1 && !one.parentElement.closest('svg'))"
        ".map(one => one.closest('section').id + ' ' + one.tagName)"
    )
    assert wide == []


def test_a_mark_that_is_pointed_at_says_what_it_is(open_page):
    opened = open_page("hostile")
    opened.page.locator("#chart-correctness svg .mark-text.role-mark text").first.hover()
    tip = opened.page.locator("#vg-tooltip-element")
    tip.wait_for()
    assert "error / bound" in tip.inner_text()
    assert "window.pwned" in tip.inner_text()
    assert opened.evaluate("window.pwned") is None
    assert opened.said == []


def test_the_wheel_scrolls_and_with_control_it_zooms(open_page):
    page = open_page().page
    chart = page.locator("#chart-sweep-hw svg")
    chart.scroll_into_view_if_needed()
    labels = (
        "[...document.querySelectorAll('#chart-sweep-hw .role-axis-label text')]"
        ".map(text => text.getAttribute('transform')).join()"
    )
    before = page.evaluate(labels)
    chart.hover()
    page.mouse.wheel(0, -10)
    assert page.evaluate(labels) == before
    page.keyboard.down("Control")
    page.mouse.wheel(0, -120)
    page.keyboard.up("Control")
    page.wait_for_function(f"() => {labels} !== {before!r}")


def test_anchors_lead_to_their_sections(open_page):
    page = open_page().page
    for link in page.locator("nav a").all():
        link.click()
        anchor = link.get_attribute("href")
        assert page.url.endswith(anchor)
        assert page.locator(f"section{anchor}").is_visible()


def test_the_keyboard_reaches_the_verdict_first(open_page):
    page = open_page().page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.url.endswith("#verdict")


@pytest.mark.parametrize(("viewport", "scheme"), LOOKS, ids=NAMES_OF_LOOKS)
@pytest.mark.parametrize("media", ["screen", "print"])
def test_axe_finds_no_barrier(open_page, scheme, viewport, media):
    page = open_page(viewport=viewport, scheme=scheme).page
    page.evaluate("document.querySelectorAll('details').forEach(table => { table.open = true })")
    page.emulate_media(media=media)
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
