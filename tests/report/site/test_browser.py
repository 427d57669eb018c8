"""asv's site as a browser shows it: the tab, its scripts from beside the pages, hostile data.

A headless Chromium without any network but this machine's own prints the page as it is after the
scripts have run. Needs chromium and, beside the checkout, what `make site` installs.
"""

from __future__ import annotations

import functools
import http.server
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from urllib.parse import unquote

import pytest

from convbench.report.site import page, side_by_side
from convbench.words.status import Status

from ...checkouts import ROOT, Checkout
from ...records import HEAD, checked, timed

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PACKAGES = ROOT / "build" / "site" / "node_modules"
HOSTILE = "</script><script>document.title='hacked'</script><img src=x onerror=document.title=0>"

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium"),
    pytest.mark.skipif(not PACKAGES.is_dir(), reason="`make site` was not run"),
]


class Site:
    """A published folder behind a server, and what a browser makes of it."""

    def __init__(self, folder, profile):
        self.folder, self.profile, self.asked = folder, profile, []

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(handler, *_):  # noqa: N805
                self.asked.append(handler.path.partition("?")[0])

        handler = functools.partial(Handler, directory=str(folder))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def open(self, path):
        """The page's elements when it is at rest, and what stands on its console."""
        done = subprocess.run(
            [
                CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
                # Nothing else is found, whatever a page asks for.
                "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
                "--virtual-time-budget=20000", f"--user-data-dir={self.profile}", "--dump-dom",
                f"http://127.0.0.1:{self.server.server_port}/{path}",
            ],
            capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        return done.stdout, re.findall(r".*CONSOLE.*", done.stderr)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The real suites, one cell measured by plain `asv run`, with and without the scripts."""
    folder = tmp_path_factory.mktemp("browser")
    made = Checkout(folder, [])
    commit = made.commit()
    made.asv(
        "run", "-E", f"existing:{sys.executable}", "--set-commit-hash", commit,
        "--machine", "bench", "--launch-method", "spawn",
        "--bench", r"pipeline\.Smoke\..*'numpy@cpu', 'notebook\.pool'",
    )  # fmt: skip
    assert made.asv("publish", "-o", str(folder / "online")).returncode == 0
    (made.folder / "build").mkdir()
    (made.folder / "build" / "site").symlink_to(PACKAGES.parent)
    done = made.asv("publish", "-o", str(folder / "offline"))
    assert done.returncode == 0
    assert "network" not in done.stdout
    return folder


@pytest.fixture
def browse(published, tmp_path):
    opened = []

    def browse(name):
        opened.append(Site(published / name, tmp_path / "profile"))
        return opened[-1]

    yield browse
    for site in opened:
        site.close()


def test_without_the_copies_asv_shows_its_error_and_ours_shows_the_way_out(browse):
    page, _ = browse("online").open("index.html")
    assert "continental origin of swallow" in page
    assert '<a href="backends.html">' in page


def test_an_error_of_a_script_is_noticed(browse):
    site = browse("online")
    (site.folder / "broken.html").write_text("<script>no_such_thing()</script>")
    (line,) = site.open("broken.html")[1]
    assert "no_such_thing is not defined" in line


@pytest.mark.parametrize(
    ("path", "shows"),
    [
        ("index.html#/", r'<div class="benchmark-text"[^>]*>Smoke.track_time</div>'),
        ("index.html#/summarylist", r"<td[^>]*><a [^>]*>bench_pipeline.Smoke.track_time</a>"),
        ("index.html#bench_pipeline.Smoke.track_time", r'id="main-graph"[^>]*><canvas'),
        ("index.html#/regressions", r"<th[^>]*>Benchmark</th>"),
        ("index.html#/backends", r'<th><a href="#bench_pipeline[^>]*>notebook.pool</a>'),
        ("backends.html", r"<th>notebook.pool</th>"),
    ],
)  # fmt: skip
def test_with_them_every_page_works_without_the_network(browse, path, shows):
    site = browse("offline")
    page, console = site.open(path)
    assert re.search(shows, page)
    assert not re.search(r'<(?:script|link|img)\b[^>]*(?:src|href)="(?:https?:)?//', page)
    assert console == []
    # asv's grid asks for the graphs of benchmarks that were never measured.
    asked = {unquote(path) for path in site.asked if not path.startswith("/graphs/summary/")}
    assert {path for path in asked if not (site.folder / path[1:]).exists()} == set()


def test_on_a_phone_asvs_bar_hides_nothing_and_is_scrolled_away(browse):
    sync_api = pytest.importorskip("playwright.sync_api", reason="`make` installs it with .venv")
    site = browse("offline")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = chromium.new_page(viewport={"width": 390, "height": 500})
        tab.goto(f"http://127.0.0.1:{site.server.server_port}/index.html#/backends")
        first = tab.locator("#backends-display p").first
        first.wait_for()
        bar = tab.locator("#nav")
        end = bar.bounding_box()["y"] + bar.bounding_box()["height"]
        assert first.bounding_box()["y"] >= end
        tab.evaluate("window.scrollTo(0, document.documentElement.scrollHeight)")
        assert bar.bounding_box()["y"] < 0
        wide = tab.evaluate(
            "[...document.querySelectorAll('#backends-display *')].filter(one =>"
            " one.getBoundingClientRect().right > innerWidth && !one.closest('.wide'))"
            ".map(one => one.outerHTML)"
        )
        assert wide == []
        tab.evaluate("window.location.hash = '#/summarylist'")
        tab.wait_for_function("() => !document.body.classList.contains('backends-shown')")
        chromium.close()


def test_data_that_wants_to_be_a_script_is_text(browse):
    site = browse("offline")
    bad = {"reason": HOSTILE, "remedy": HOSTILE, "status": Status.FAILED, "value": None}
    facts = {"machine": {"cpu_model": HOSTILE, "logical_cores": 2}, "versions": {"a": HOSTILE}}
    known = {"workload": HOSTILE, "machine": HOSTILE, "environment": HOSTILE, "facts": facts}
    hostile = [
        timed(HEAD, **known),
        timed(HEAD, **known, target=HOSTILE),
        replace(timed(HEAD, **known, target="b@cpu"), **bad),
        checked(HEAD, 5.0, **known, target=HOSTILE),
    ]
    sections = side_by_side.sections(hostile, {HEAD: 1})
    kept = {name: (site.folder / name).read_text() for name in ("backends.json", "backends.html")}
    try:
        (site.folder / "backends.json").write_text(side_by_side.to_json(sections, [HOSTILE]))
        (site.folder / "backends.html").write_text(page.to_page(sections, [HOSTILE]))
        for path in ("index.html#/backends", "backends.html"):
            shown, console = site.open(path)
            title = re.search(r"<title>(.*)</title>", shown)
            assert title
            assert title[1] in {
                "airspeed velocity of an unladen convbench", "Backends side by side"
            }  # fmt: skip
            assert shown.count("&lt;/script&gt;&lt;script&gt;document.title='hacked'") >= 8
            assert "onerror=document.title" in shown
            assert not re.search(r"<img[^>]*src=.?x", shown)
            assert console == []
    finally:
        for name, text in kept.items():
            (site.folder / name).write_text(text)
