"""A site without the network: the copies of scripts, and the packages that they come from."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import asv
import pytest

from convbench.report.site.vendor import vendor

from ...checkouts import ROOT

INDEX = (Path(asv.__file__).parent / "www" / "index.html").read_text()
SITE = ROOT / "requirements" / "site"

CONTENT = b"/* a script */"
HEAD = """<!doctype html>
<html>
  <head>
    <script src="https://cdn.example.org/one@1.0/one.min.js" integrity="sha256-{digest}"
            crossorigin="anonymous" onerror="failed()"></script>
    <script src="//cdn.example.org/flot/0.8.3/jquery.flot.min.js" integrity="sha512-x"
            referrerpolicy="no-referrer"></script>
    <link rel="stylesheet" href="https://cdn.example.org/one.css" integrity="sha384-{sheet}">
    <link href="asv.css" rel="stylesheet" type="text/css"/>
    <script src="asv.js"></script>
  </head>
</html>
"""


def digest(kind, content):
    return base64.b64encode(hashlib.new(kind, content).digest()).decode()


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "html"
    folder.mkdir()
    text = HEAD.format(digest=digest("sha256", CONTENT), sheet=digest("sha384", b"css"))
    (folder / "index.html").write_text(text)
    return folder


@pytest.fixture
def packages(tmp_path):
    """A `node_modules` in which everything has another name than on the page."""
    folder = tmp_path / "node_modules"
    for path, content in {
        "one/dist/deep/same.js": CONTENT,
        "one/dist/other.js": b"/* another script */",
        "one/LICENSE.md": b"licence of one",
        "styles/s.css": b"css",
        "flot/jquery.flot.js": b"/* flot */",
        "flot/licence.txt": b"licence of flot",
        "unused/LICENSE": b"not needed",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def test_the_file_with_the_content_that_the_page_asks_for_is_copied(site, packages):
    assert vendor(site, packages) == []
    assert (site / "scripts" / "same.js").read_bytes() == CONTENT
    assert (site / "scripts" / "s.css").read_bytes() == b"css"
    index = (site / "index.html").read_text()
    assert '<script src="scripts/same.js" onerror="failed()">' in index
    assert '<link rel="stylesheet" href="scripts/s.css">' in index
    assert '<script src="scripts/jquery.flot.js">' in index
    assert '<link href="asv.css" rel="stylesheet" type="text/css"/>' in index
    assert "//" not in re.sub(r"<!doctype.*", "", index)


def test_then_the_page_forbids_what_comes_from_elsewhere(site, packages):
    vendor(site, packages)
    index = (site / "index.html").read_text()
    assert "default-src 'self' 'unsafe-inline'" in index
    assert index.index("Content-Security-Policy") < index.index("<script")


def test_licences_go_with_the_copies(site, packages):
    vendor(site, packages)
    found = {path.name for path in (site / "scripts").iterdir() if "licen" in path.name.lower()}
    assert found == {"one.LICENSE.md", "flot.licence.txt"}


def test_what_is_not_there_is_named_and_stays(site, packages):
    (packages / "one" / "dist" / "deep" / "same.js").unlink()
    (packages / "flot" / "jquery.flot.js").unlink()
    missing = vendor(site, packages)
    assert missing == [
        f"https://cdn.example.org/one@1.0/one.min.js is not in {packages}",
        f"//cdn.example.org/flot/0.8.3/jquery.flot.min.js is not in {packages}",
    ]
    index = (site / "index.html").read_text()
    assert 'src="https://cdn.example.org/one@1.0/one.min.js" integrity=' in index
    assert 'href="scripts/s.css"' in index
    assert "Content-Security-Policy" not in index


def test_a_site_can_be_done_twice(site, packages):
    vendor(site, packages)
    once = (site / "index.html").read_text()
    assert vendor(site, packages) == []
    assert (site / "index.html").read_text() == once


# -- What make site installs ----------------------------------------------------------------------


def test_the_packages_have_the_versions_that_asv_loads():
    pins = json.loads((SITE / "package.json").read_text())["dependencies"]
    names = {"jquery": "jquery-", "flot": "flot/", "blueimp-md5": "blueimp-md5/"}
    for package, version in pins.items():
        if package == "stupid-table-plugin":  # the registry does not have the version asked for
            assert "/stupidtable/1.0.1/" in INDEX
            continue
        assert f"/{names.get(package, package + '@')}{version}" in INDEX


def test_the_lock_has_a_digest_of_everything_and_names_no_host():
    text = (SITE / "package-lock.json").read_text()
    assert "://" not in text
    locked = json.loads(text)["packages"]
    wanted = locked.pop("")["dependencies"]
    assert wanted == json.loads((SITE / "package.json").read_text())["dependencies"]
    assert {name.removeprefix("node_modules/") for name in locked} == set(wanted)
    assert all(entry["integrity"].startswith("sha512-") for entry in locked.values())


def test_everything_that_asv_loads_from_elsewhere_is_recognised(tmp_path):
    (tmp_path / "index.html").write_text(INDEX)
    (tmp_path / "none").mkdir()
    missing = vendor(tmp_path, tmp_path / "none")
    # Its links to follow are no loads.
    loads = set(re.findall(r'<(?:script|link)\b[^>]*?(?:src|href)="(https?:[^"]+)"', INDEX))
    assert {address.partition(" ")[0] for address in missing} == loads
    assert len(loads) == 10


@pytest.mark.skipif(
    not (ROOT / "build" / "site" / "node_modules").is_dir(), reason="`make site` was not run"
)
def test_the_packages_have_all_of_it(tmp_path):
    (tmp_path / "index.html").write_text(INDEX)
    assert vendor(tmp_path, ROOT / "build" / "site" / "node_modules") == []
