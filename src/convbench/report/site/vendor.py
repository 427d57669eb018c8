"""Copies of the scripts that asv's pages load from the network, so that they need none.

asv's ``index.html`` names each script by an address and, for the browser to check, by the digest of
its content. Of a folder of packages the file with that very content is taken. The registries have
not all of these files: of two packages the digest is that of another build, or another version, and
those are named here.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from convbench.machine.files import write

FOLDER = "scripts"

_ALIKE = {
    # cdnjs minifies the very sources of 0.8.3 that the package has.
    "jquery.flot.min.js": "flot/jquery.flot.js",
    "jquery.flot.time.min.js": "flot/jquery.flot.time.js",
    "jquery.flot.selection.min.js": "flot/jquery.flot.selection.js",
    "jquery.flot.categories.min.js": "flot/jquery.flot.categories.js",
    # The registry never had 1.0.1.
    "stupidtable.min.js": "stupid-table-plugin/stupidtable.min.js",
}

_TAG = re.compile(r"<(script|link)\b([^>]*)>", re.IGNORECASE)
_ADDRESS = re.compile(r'\b(src|href)="((?:https?:)?//[^"]+)"')
_DIGEST = re.compile(r'\bintegrity="(sha(?:256|384|512))-([^"\s]+)"')
_ABOUT_ELSEWHERE = re.compile(r'\s+(?:integrity|crossorigin|referrerpolicy)="[^"]*"')

# asv's page has a script in it, and flot and bootstrap set styles.
_POLICY = (
    '    <meta http-equiv="Content-Security-Policy"'
    " content=\"default-src 'self' 'unsafe-inline'; img-src 'self' data:\">\n"
)


def vendor(site: Path, packages: Path) -> list[str]:
    """Make a site that ``asv publish`` has written load its scripts from beside it.

    Once nothing is left that comes from elsewhere, the page also forbids the browser to load
    anything that does.

    Parameters
    ----------
    site : Path
        asv's ``html_dir``; its ``index.html`` is rewritten.
    packages : Path
        A ``node_modules``.

    Returns
    -------
    list of str
        The addresses that are still loaded from the network, and why; empty if none is.
    """
    index = site / "index.html"
    text = index.read_text(encoding="utf-8")
    by_digest = _digests(packages, {match[1] for match in _DIGEST.finditer(text)})
    missing: list[str] = []
    used: set[Path] = set()

    def rewrite(match: re.Match[str]) -> str:
        tag = match[0]
        address = _ADDRESS.search(tag)
        if address is None:
            return tag
        name = address[2].rpartition("/")[2]
        digest = _DIGEST.search(tag)
        found = by_digest.get(digest.groups()) if digest else None
        if found is None and name in _ALIKE:
            found = packages / _ALIKE[name]
        if found is None or not found.is_file():
            missing.append(f"{address[2]} is not in {packages}")
            return tag
        (site / FOLDER).mkdir(exist_ok=True)
        shutil.copyfile(found, site / FOLDER / found.name)
        used.add(packages / found.relative_to(packages).parts[0])
        local = tag.replace(address[0], f'{address[1]}="{FOLDER}/{found.name}"')
        return _ABOUT_ELSEWHERE.sub("", local)

    text = _TAG.sub(rewrite, text)
    for package in used:
        for path in package.iterdir():  # the licence has to go with every copy
            if path.is_file() and path.name.lower().startswith(("licen", "copying")):
                shutil.copyfile(path, site / FOLDER / f"{package.name}.{path.name}")
    if not missing and _POLICY not in text:
        text = re.sub(r"<head>\n", lambda match: match[0] + _POLICY, text, count=1)
    write(index, text)
    return missing


def _digests(packages: Path, kinds: Iterable[str]) -> dict[tuple[str, ...], Path]:
    """Find all scripts and sheets by what the browser calls their content."""
    kinds = sorted(kinds)
    found: dict[tuple[str, ...], Path] = {}
    for path in sorted((*packages.rglob("*.js"), *packages.rglob("*.css"))):
        content = path.read_bytes()
        for kind in kinds:
            digest = base64.b64encode(hashlib.new(kind, content).digest()).decode()
            found.setdefault((kind, digest), path)
    return found
