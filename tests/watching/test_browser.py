"""The index of a watch in a real browser, with what a hostile commit would have it show."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("convbench.watching.serve", reason="bottle is not installed")
sync_api = pytest.importorskip("playwright.sync_api", reason="`make` installs it with .venv")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="as above")

from ..report.test_browser import browser, pytestmark  # noqa: E402, F401
from .test_serve import Served, filled  # noqa: E402


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("watch")
    filled(folder)
    served = Served(folder)
    yield served.server.address
    served.server.shutdown()
    served.server.server_close()


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1440, "light"), (390, "dark")])
def test_the_index_is_readable_and_does_nothing(
    browser: sync_api.Browser,  # noqa: F811
    address: str,
    width: int,
    scheme: str,
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, said, asked = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{address}/", wait_until="networkidle")
    assert page.evaluate("window.pwned") is None
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.evaluate("document.styleSheets[0].cssRules.length") > 10
    assert {url.removeprefix(address) for url in asked} <= {"/", "/style.css", "/favicon.ico"}
    assert [text for text in said if "favicon" not in text and "404" not in text] == []
    page.context.close()


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1440, "dark")])
def test_axe_finds_no_barrier(
    browser: sync_api.Browser,  # noqa: F811
    address: str,
    width: int,
    scheme: str,
) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True
    )
    page = context.new_page()
    page.goto(f"{address}/")
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    context.close()
