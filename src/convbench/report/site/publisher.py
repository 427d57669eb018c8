"""The tab "Backends" on asv's site, and a site that loads nothing from elsewhere.

asv imports this because :mod:`convbench.asv_plugin` does, which ``asv.conf.json`` names. Then
``asv publish`` calls each subclass of its ``OutputPublisher``, this one after those of asv. It
writes

- ``backends.json``, and ``backends.js`` and ``backends.css``, which show it on the tab;
- ``backends.html``, the same without a script;
- a copy of the scripts that asv's page loads from the network, where `SCRIPTS` has them.

Nothing that goes wrong here keeps asv from publishing its own pages.
"""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import Any

from asv.console import log
from asv.publishing import OutputPublisher

from convbench.machine.files import write
from convbench.report.site import page, side_by_side
from convbench.report.site.vendor import vendor
from convbench.results import gates
from convbench.results.folder import Folder, short
from convbench.results.records import load

SCRIPTS = Path("build", "site", "node_modules")
"""Beside asv.conf.json, which is where asv runs; `make site` fills it."""

_NAVIGATION = re.compile(r'[ \t]*<li id="nav-li-regressions">.*?</li>\n', re.DOTALL)
_END_OF_HEAD = re.compile(r"^[ \t]*</head>", re.MULTILINE)
_TAB = '\t<li id="nav-li-backends"><a href="#/backends">Backends</a></li>\n'
_HEAD = (
    '    <script src="backends.js"></script>\n'
    '    <link href="backends.css" rel="stylesheet" type="text/css"/>\n'
)
_ERROR = (
    '\n    <p><a href="backends.html">The newest results of all backends</a> are on a page that'
    " needs neither a script nor the network.</p>\n"
)


class Backends(OutputPublisher):  # type: ignore[misc]  # asv has no types
    """Backends side by side, what is wrong, and what failed or was skipped and why."""

    name = "backends"
    button_label = "Backends"
    description = "Backends side by side, with errors and the reasons of what is missing"
    order = 10

    @classmethod
    def publish(cls, conf: Any, _repo: Any, _benchmarks: Any, _graphs: Any, revisions: Any) -> None:
        """Add to the pages that asv has written to ``conf.html_dir``."""
        try:
            _publish(Path(conf.results_dir), Path(conf.html_dir), dict(revisions))
        except Exception as error:  # asv's own pages are worth more than ours
            log.warning(f"convbench's pages are incomplete: {type(error).__name__}: {error}")


def _publish(results_dir: Path, site: Path, age: dict[str, int]) -> None:
    """Write our files, put the tab into asv's page and its scripts beside it.

    asv has a number for each commit that is on the site, which is its `age`: the newer, the larger.
    """
    newest = _newest(results_dir, age)
    loaded = load(results_dir, newest)
    heads = set(map(short, newest))
    of_gates = gates.load(results_dir, lambda filed: filed.head in heads)
    problems = [
        problem.replace(f"{results_dir.parent}/", "")
        for problem in (*loaded.problems, *of_gates.problems)
    ]
    for problem in problems:
        log.warning(problem)
    found = side_by_side.sections(loaded.records, age, of_gates.gates)
    write(site / "backends.json", side_by_side.to_json(found, problems))
    write(site / "backends.html", page.to_page(found, problems))
    write(site / "backends.css", page.style())
    script = files("convbench.report.site").joinpath("backends.js")
    write(site / "backends.js", script.read_text(encoding="utf-8"))
    add_tab(site)
    if SCRIPTS.is_dir():
        for missing in vendor(site, SCRIPTS):
            log.warning(f"the site needs the network: {missing}")
    else:
        log.info("The pages load their scripts from the network; `make site` puts copies beside"
                 " them, and backends.html needs none.")  # fmt: skip


def _newest(results_dir: Path, age: dict[str, int]) -> set[str]:
    """The newest commit of each machine and environment, by the names of the files alone."""
    full = {short(commit): commit for commit in age}
    newest: dict[tuple[str, str], str] = {}
    for filed in Folder(results_dir).files():
        commit = full.get(filed.commit)
        place = filed.machine, filed.environment
        if commit and (place not in newest or age[newest[place]] < age[commit]):
            newest[place] = commit
    return set(newest.values())


def add_tab(site: Path) -> None:
    """Put the tab into asv's ``index.html``, and a way out into its ``error.html``.

    asv has no hook for this: where its page is not what it was, the tab is left out with a warning.
    """
    index = site / "index.html"
    text = index.read_text(encoding="utf-8")
    changed, places = _NAVIGATION.subn(lambda match: match[0] + _TAB, text)
    changed, heads = _END_OF_HEAD.subn(lambda match: _HEAD + match[0], changed)
    if (places, heads) == (1, 1):
        write(index, changed)
    else:
        log.warning(
            "asv's index.html is not as convbench knows it (from asv 0.6.6), so it has no tab"
            " 'Backends'; backends.html shows the same"
        )
    error = site / "error.html"
    if error.is_file():
        text = error.read_text(encoding="utf-8")
        write(error, text.replace("</body>", f"{_ERROR}  </body>", 1))
