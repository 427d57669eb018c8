"""How the page looks: held against pictures of it, so coarsely that only its layout counts.

`CONVBENCH_BASELINES=write pytest tests/report/test_pictures.py` makes the pictures again: look at
them before they are committed.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path

import numpy as np
import pytest

from convbench.report import page

from .factories import everything
from .test_browser import MIDDLE, NARROW, WIDE, Opened, browser, pytestmark  # noqa: F401

FOLDER = Path(__file__).parent / "baselines"
SHOWN = ("verdict", "correctness", "timings")
"""Sections that have all kinds of parts."""

FONT, SAMPLE, SAMPLE_PX = "Liberation Sans", "Which of them was slower? 0123456789", 1801
"""`make browser` installs it; so wide the sample is in it, at 100 pixels."""

SHRUNK = 4
BLOCK = 8
"""Pixels of a picture, in each direction, of which only the mean colour counts."""
MOST_OFF = 20
"""Of 255: a block is another one from here on."""
MOST_OTHERS = 0.02
"""Share of the blocks that may be others: how letters are smoothed makes fewer."""

LOOKS = {
    "phone": (NARROW, "light", "screen"),
    "tablet-dark": (MIDDLE, "dark", "screen"),
    "desk": (WIDE, "light", "screen"),
    "paper": ({"width": 718, "height": 1000}, "dark", "print"),
}

# A canvas has an image at any size, and its colours.
SHRINK = """async ([address, scale]) => {
  const image = new Image();
  image.src = address;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(image.width / scale);
  canvas.height = Math.round(image.height / scale);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/png");
}"""
MEANS = """async ([address, block]) => {
  const image = new Image();
  image.src = address;
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.width, image.height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const rows = [];
  for (let y = 0; y + block <= image.height; y += block) {
    const row = [];
    for (let x = 0; x + block <= image.width; x += block) {
      const seen = context.getImageData(x, y, block, block).data;
      const sum = [0, 0, 0];
      seen.forEach((value, i) => { if (i % 4 < 3) sum[i % 4] += value; });
      row.push(sum.map((value) => value / block ** 2));
    }
    rows.push(row);
  }
  return rows;
}"""


def address(png):
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


@pytest.fixture(scope="module")
def canvas(browser):  # noqa: F811
    """An empty page, which knows how to read pictures."""
    context = browser.new_context()
    empty = context.new_page()
    width = empty.evaluate(
        "([font, text]) => { const c = document.createElement('canvas').getContext('2d');"
        " c.font = `100px '${font}'`; return c.measureText(text).width; }", [FONT, SAMPLE],
    )  # fmt: skip
    if abs(width - SAMPLE_PX) > 1:
        pytest.skip(f"{FONT} is not here, and another font breaks lines elsewhere; `make browser`")
    yield empty
    context.close()


@pytest.fixture(scope="module")
def html():
    data = everything()
    some = [section for section in page.sections(data) if section.id in SHOWN]
    return page.to_html(data, some)


@pytest.fixture
def take(browser, html, tmp_path):  # noqa: F811
    """What a page looks like, with some of it replaced."""

    def take_one(look, *changes, scale=1):
        viewport, scheme, media = LOOKS[look]
        text = html.replace("system-ui", FONT)
        for before, after in changes:
            assert before in text
            text = text.replace(before, after)
        path = tmp_path / "page.html"
        path.write_text(text, encoding="utf-8")
        opened = Opened(browser, path, viewport, scheme, scale=scale)
        try:
            opened.page.emulate_media(media=media)
            return opened.page.screenshot(full_page=True, animations="disabled")
        finally:
            opened.context.close()

    return take_one


def shrunk(canvas, png, scale=SHRUNK):
    return base64.b64decode(canvas.evaluate(SHRINK, [address(png), scale]).partition(",")[2])


def others(canvas, one, other):
    """The share of the blocks of two pictures that differ; 1 if they are not of one size."""
    first, second = (np.array(canvas.evaluate(MEANS, [address(p), BLOCK])) for p in (one, other))
    if abs(len(first) - len(second)) > 1 + len(first) // 50 or first.shape[1] != second.shape[1]:
        return 1.0
    rows = min(len(first), len(second))
    off = np.abs(first[:rows] - second[:rows]).max(axis=2)
    return float((off > MOST_OFF).mean())


@pytest.mark.parametrize("look", LOOKS)
def test_it_looks_as_it_did(canvas, take, look):
    png = shrunk(canvas, take(look))
    path = FOLDER / f"{look}.png"
    if os.environ.get("CONVBENCH_BASELINES") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(png)
    assert others(canvas, path.read_bytes(), png) <= MOST_OTHERS


BROKEN = {
    "without a style": [("<style>", "<style media='none'>")],
    "without its charts": [(".chart svg {\n  display: block;", ".chart svg {\n  opacity: 0;")],
    "in other colours": [("--raised: #f5f6f8;", "--raised: #d0d0ff;")],
    "with a column too many": [("display: none;", "")],
    "with wider lines": [("line-height: 1.35;", "line-height: 1.6;")],
    "off by a margin": [("margin: 2.6rem 0 0.6rem;", "margin: 1.6rem 0 1.6rem;")],
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_layout_is_noticed(canvas, take, name):
    broken = shrunk(canvas, take("phone", *BROKEN[name]))
    assert others(canvas, (FOLDER / "phone.png").read_bytes(), broken) > MOST_OTHERS


def test_how_letters_are_smoothed_is_not(canvas, take):
    sharper = shrunk(canvas, take("phone", scale=2), 2 * SHRUNK)
    assert others(canvas, (FOLDER / "phone.png").read_bytes(), sharper) <= MOST_OTHERS
