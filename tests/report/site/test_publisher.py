"""The tab on asv's site: what it shows, what hostile data cannot do, and that asv goes on."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import asv
import pytest
from asv.console import log

from convbench.report.site import page, publisher, side_by_side
from convbench.words.status import Status

from ...checkouts import ROOT, Checkout
from ...gates import gated_cell, load_gates, store_gate
from ...records import BASE, HEAD, checked, record, timed
from ...results.test_records import ACCURACY, COMMIT, NAN, TIME, Project

WWW = Path(asv.__file__).parent / "www"
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>'\"&\u2028{{}}"
AGE = {BASE: 1, HEAD: 2}


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A site as `asv publish` has it when the publishers are called, and the folder it runs in."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(WWW, tmp_path / "html")
    return tmp_path / "html"


@pytest.fixture
def warnings(monkeypatch):
    """What is said on asv's log."""
    said = []
    monkeypatch.setattr(log, "warning", said.append)
    monkeypatch.setattr(log, "info", lambda *_: None)
    return said


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


class Conf:
    """As much of asv's configuration as a publisher looks at."""

    def __init__(self, folder):
        self.results_dir, self.html_dir = str(folder / "results"), str(folder / "html")


def publish(folder, age=None):
    age = {COMMIT: 1} if age is None else age
    publisher.Backends.publish(Conf(folder), None, None, None, age)
    return json.loads((folder / "html" / "backends.json").read_text())


def only(*records, age=AGE):
    (section,) = side_by_side.sections(records, age)
    return section


class Page(HTMLParser):
    """The elements, attributes and texts of a page."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.attributes, self.texts = set(), set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attributes}

    def handle_data(self, data):
        self.texts.append(data)


# -- What stands side by side ---------------------------------------------------------------------


def test_targets_are_columns_and_workloads_are_lines():
    section = only(
        timed(HEAD, 2e-3), timed(HEAD, 1e-3, target="b@cpu"), checked(HEAD, 0.5),
        checked(HEAD, 0.25, target="b@cpu"), timed(HEAD, 4e-3, workload="net.pool"),
    )  # fmt: skip
    assert section.targets == ("numpy@cpu", "b@cpu")
    assert section.baseline == "numpy@cpu"
    (suite,) = section.suites
    assert [line.workload for line in suite.lines] == ["net.conv", "net.pool"]
    base, other = suite.lines[0].cells
    assert list(page.words(suite, base, "numpy@cpu")) == [
        ("time", "2.00 ms"), ("spread", "± 1.3 %"), ("claim", "claim"), ("error", "error 0.500")
    ]  # fmt: skip
    assert list(page.words(suite, other, "numpy@cpu")) == [
        ("time", "1.00 ms"), ("spread", "± 1.3 %"), ("speedup", "2.00x"), ("claim", "claim"),
        ("error", "error 0.250"),
    ]  # fmt: skip
    assert suite.lines[1].cells[1] is None
    # Alone on its line nothing is the fastest.
    assert [cell and cell.fastest for line in suite.lines for cell in line.cells] == [
        False, True, False, None,
    ]  # fmt: skip
    assert '<td class="ok fastest">' in page.to_page([section], [])
    assert suite.lines[0].benchmark == "bench_pipeline.Smoke.track_time"


def test_of_each_machine_and_environment_the_newest_commit_counts():
    sections = side_by_side.sections(
        [
            timed(BASE), timed(HEAD), timed(BASE, machine="old"),
            timed(BASE, environment="existing-py_home_x"), timed("c" * 40),
        ],
        AGE,
    )  # fmt: skip
    assert [(s.machine, s.environment, s.commit) for s in sections] == [
        ("vm", "env", HEAD),
        ("old", "env", BASE),
        ("vm", "existing-py_home_x", BASE),
    ]
    assert sections[2].name.startswith("vm, existing environment, commit 00000000 of 1970-01-01")


def test_two_existing_environments_of_a_machine_keep_their_names():
    some = [timed(BASE, environment=f"existing-py_{i}") for i in range(2)]
    names = [section.name for section in side_by_side.sections(some, AGE)]
    assert [name.split(", ")[1] for name in names] == ["existing-py_0", "existing-py_1"]


def test_nothing_is_said_of_the_speed_of_a_wrong_result():
    section = only(
        timed(HEAD, 1e-3, target="b@cpu"), checked(HEAD, 3.0, target="b@cpu"),
        timed(HEAD, 2e-3), checked(HEAD, 0.5), timed(HEAD, 2e-3, target="c@cpu"),
    )  # fmt: skip
    (suite,) = section.suites
    assert section.targets == ("b@cpu", "numpy@cpu", "c@cpu")
    wrong, _, other = suite.lines[0].cells
    assert [text for _, text in page.words(suite, wrong, "numpy@cpu")] == [
        "wrong", "1.00 ms", "claim", "error 3.00"
    ]  # fmt: skip
    assert ("void", "1.00 ms") in page.words(suite, wrong, "numpy@cpu")
    assert "speedup" not in dict(page.words(suite, other, "b@cpu"))
    assert dict(page.words(suite, other, "numpy@cpu"))["error"] == "not checked"


@pytest.mark.parametrize(
    ("changed", "counts"),
    [
        ({"status": Status.FAILED, "value": None}, False),
        ({"value": 0.0}, False),
        ({"value": float("inf")}, False),
        ({"value": float("nan")}, False),
        ({}, True),
    ],
)
def test_a_time_counts_if_there_is_one_and_nothing_against_it(changed, counts):
    section = only(timed(HEAD, 1e-3, **changed))
    (cell,) = section.suites[0].lines[0].cells
    assert cell.counts is counts
    json.loads(side_by_side.to_json([section], []), parse_constant=pytest.fail)


def test_a_failed_stage_does_not_void_the_time_of_the_whole():
    stage = record(
        HEAD, benchmark="bench_stages.Smoke.track_time", stage="pool", status=Status.FAILED,
        reason="no memory", remedy="Less.",
    )  # fmt: skip
    section = only(timed(HEAD), stage)
    (cell,) = section.suites[0].lines[0].cells
    assert (cell.status, cell.counts, cell.reasons) == ("failed", True, ("no memory",))
    assert [(w.status, w.where, w.reason, w.remedy) for w in section.causes] == [
        ("failed", "numpy@cpu on net.conv (stage pool)", "no memory", "Less.")
    ]


def test_a_target_that_is_skipped_everywhere_is_no_column_but_has_its_reason():
    absent = record(HEAD, target="cupy@gpu:0", status=Status.SKIPPED, reason="no device")
    section = only(timed(HEAD), absent)
    assert section.targets == ("numpy@cpu",)
    assert [(w.status, w.where, w.reason) for w in section.causes] == [
        ("skipped", "cupy@gpu:0", "no device")
    ]


def test_a_suite_of_nothing_but_stages_has_a_line_for_each():
    known = {"benchmark": "bench_first_call.Standard.track_time"}
    section = only(
        timed(HEAD),
        timed(HEAD, 1.0, stage="import", **known),
        timed(HEAD, 2.0, stage="build", **known),
    )
    assert [suite.name for suite in section.suites] == ["layers", "first_call"]
    lines = section.suites[1].lines
    assert [(line.stage, line.cells[0].time) for line in lines] == [
        ("import", "1.00 s"), ("build", "2.00 s")
    ]  # fmt: skip
    assert lines[0].benchmark == known["benchmark"]


@pytest.mark.parametrize("order", [1, -1])
def test_each_suite_leads_to_graphs_of_its_own(order):
    own = {"pipeline": "layers", "one_core": "one_core", "graph": "graph"}
    names = {suite: f"bench_{suite}.X.track_time" for suite in own}
    records = [timed(HEAD, benchmark=name) for name in names.values()]
    found = {suite.name: suite.lines[0].benchmark for suite in only(*records[::order]).suites}
    assert found == {own[suite]: name for suite, name in names.items()}


def test_it_is_said_what_was_measured_with():
    facts = {
        "machine": {"cpu_model": "A", "logical_cores": 2, "gpus": [{"name": "H100"}, "odd"]},
        "versions": {"numpy": "2", "blas": "x"},
    }
    section = only(timed(HEAD, facts=facts), timed(HEAD, facts={"versions": {"numpy": "3"}}))
    assert section.measured_with == ("A, 2 cores", "H100", "blas x, numpy 2 or 3")


def test_what_was_measured_side_by_side_is_marked_and_says_with_what(tmp_path):
    results = tmp_path / "results"
    store_gate(results, gated_cell(reason="within 2 %"), base="a" * 40)
    store_gate(results, gated_cell(reason="of yesterday"), ended_s=1.0)
    store_gate(results, gated_cell(workload="net.pool"), of_head={"changed": True})
    records = [timed(HEAD), timed(HEAD, workload="net.pool")]
    gates = load_gates(results).gates
    (section,) = side_by_side.sections(records, AGE, gates)
    (suite,) = section.suites
    (marked,), (other,) = (line.cells for line in suite.lines)
    assert marked.gate == (
        "measured side by side with aaaaaaaa, 2001-09-09 01:46: equivalent: within 2 %"
    )
    assert ("gate", "side by side") in page.words(suite, marked, "")
    assert other.gate == ""
    text = page.to_page((section,), [])
    assert text.count(f'title="{marked.gate}"') == text.count(">side by side</span>") == 1
    (elsewhere,) = side_by_side.sections([timed(HEAD, machine="another")], AGE, gates)
    assert elsewhere.suites[0].lines[0].cells[0].gate == ""


def test_gates_are_published_and_those_that_are_damaged_are_named(site, warnings, project):
    project.add(TIME, [0.1, NAN, NAN, NAN])
    sides = {"machine": "here", "head": COMMIT}
    store_gate(project.results_dir, gated_cell(), **sides)
    path = store_gate(project.results_dir, schema="another", **sides)
    (section,) = publish(site.parent)["sections"]
    assert section["suites"][0]["lines"][0]["cells"][0]["gate"].startswith("measured side by side")
    assert len(warnings) == 1
    assert warnings[0].startswith(f"evidence/here/{path.name}: left out")


def test_a_site_without_results_says_so(site, warnings):
    assert publish(site.parent)["sections"] == []
    assert "Nothing has been measured." in (site / "backends.html").read_text()
    assert warnings == []


def test_only_the_newest_files_are_opened(site, warnings, project):
    project.add(TIME, [0.1, NAN, NAN, NAN])
    old = "1" + COMMIT[1:]
    broken = project.results_dir / "here" / f"{old[:8]}-env.json"
    broken.write_text("{")
    assert len(publish(site.parent, {COMMIT: 2, old: 1})["sections"]) == 1
    assert warnings == []
    found = publish(site.parent, {COMMIT: 1, old: 2})
    assert found["sections"] == []
    (problem,) = found["problems"]
    assert problem.startswith(f"results/here/{old[:8]}-env.json: left out")
    assert warnings == [problem]
    assert "What could not be read" in (site / "backends.html").read_text()


# -- Hostile data ---------------------------------------------------------------------------------


@pytest.fixture
def hostile():
    """Every string that comes from a file is one that wants to be HTML."""
    facts = {
        "machine": {"cpu_model": HOSTILE, "logical_cores": HOSTILE, "gpus": [{"name": HOSTILE}]},
        "versions": {HOSTILE: HOSTILE},
    }
    known = {"machine": HOSTILE, "environment": HOSTILE, "workload": HOSTILE, "facts": facts}
    bad = {"reason": HOSTILE, "remedy": HOSTILE}
    return [
        timed(HEAD, target=HOSTILE, **known),
        timed(HEAD, target="b@cpu", **known, status=Status.FAILED, value=None, **bad),
        timed(HEAD, **known, stage=HOSTILE, benchmark=f"bench_{HOSTILE}.x"),
    ]


def test_no_data_becomes_html(hostile, tmp_path):
    names = {"base_target": HOSTILE, "head_target": HOSTILE, "workload": HOSTILE}
    place = {"of_head": {"environment": "env", "versions": {}}, "of_base": {"versions": {}}}
    store_gate(tmp_path / "results", gated_cell(), gated_cell(reason=HOSTILE, **names), **place)
    (gate,) = load_gates(tmp_path / "results").gates
    evil = replace(gate, machine=HOSTILE, head=replace(gate.head, environments=(HOSTILE,)))
    sections = side_by_side.sections(hostile, AGE, [evil])
    shown = Page(page.to_page(sections, [HOSTILE]))
    harmless = Page(page.to_page(side_by_side.sections([timed(HEAD)], AGE, [gate]), []))
    assert shown.elements <= harmless.elements | {"dl", "dt", "dd", "ul", "li", "h3"}
    assert shown.attributes <= harmless.attributes
    assert "script" not in shown.elements
    assert sum(HOSTILE in text for text in shown.texts) >= 8
    assert HOSTILE in sections[0].suites[0].lines[0].cells[0].gate
    data = json.loads(side_by_side.to_json(sections, [HOSTILE]))
    assert data["problems"] == [HOSTILE]
    assert data["sections"][0]["machine"] == HOSTILE


def test_the_page_forbids_what_it_does_not_need():
    text = page.to_page((), ())
    assert "default-src 'none'; style-src 'unsafe-inline'" in text
    assert not re.search(r'(src|href)="(?!index\.html)', text)


def test_the_script_of_the_tab_makes_text_only():
    script = (ROOT / "src" / "convbench" / "report" / "site" / "backends.js").read_text()
    # jQuery makes HTML of a string that looks like it, in these ways.
    assert not re.search(r"\.html\(|innerHTML|insertAdjacent|document\.write|eval\(", script)
    assert re.findall(r"\$\('<[^']*'", script) == [
        '$(\'<div id="backends-display" class="convbench"/>\''
    ]


# -- In asv's page --------------------------------------------------------------------------------


def test_the_tab_is_added(site, warnings, project):
    project.add(TIME, [0.1, NAN, NAN, NAN])
    publish(site.parent)
    index = (site / "index.html").read_text()
    assert index.count('<a href="#/backends">Backends</a>') == 1
    assert index.index("#/regressions") < index.index("#/backends")
    head = index[: index.index("</head>")]
    assert head.index('src="asv.js"') < head.index('<script src="backends.js">')
    for name in ("backends.js", "backends.css", "backends.html"):
        assert (site / name).is_file()
    assert 'href="backends.html"' in (site / "error.html").read_text()
    assert warnings == []
    assert [path.name for path in site.iterdir() if path.name.endswith(".part")] == []


@pytest.mark.parametrize("anchor", ['<li id="nav-li-regressions">', "</head>"])
def test_where_asv_has_changed_its_page_the_tab_is_left_out_with_a_warning(site, warnings, anchor):
    index = site / "index.html"
    changed = index.read_text().replace(anchor, "<!-- another asv -->")
    index.write_text(changed)
    publish(site.parent)
    assert index.read_text() == changed
    assert len(warnings) == 1
    assert "index.html is not as convbench knows it" in warnings[0]
    assert (site / "backends.html").is_file()


def test_what_goes_wrong_is_a_warning(site, warnings, monkeypatch):
    def broken(*_):
        raise RuntimeError("no such thing")

    monkeypatch.setattr(page, "to_page", broken)
    publish(site.parent)
    assert warnings == ["convbench's pages are incomplete: RuntimeError: no such thing"]


# -- With asv itself ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A commit of which one small cell is measured by plain `asv run`."""
    made = Checkout(tmp_path_factory.mktemp("page"), [])
    made.head = made.commit()
    made.done = made.asv(
        "run", "-E", f"existing:{sys.executable}", "--set-commit-hash", made.head,
        "--machine", "bench", "--launch-method", "spawn",
        "--bench", r"(pipeline|accuracy)\.Smoke\..*'numpy@cpu', 'notebook\.pool'",
    )  # fmt: skip
    return made


def test_every_command_of_asv_works_with_the_plug_in(checkout):
    assert checkout.done.returncode == 0, checkout.done.stdout
    published = checkout.asv("publish")
    assert published.returncode == 0, published.stdout
    assert "Generating output for Backends" in published.stdout
    assert "Couldn't find" not in published.stdout
    html = checkout.folder / ".asv" / "html"
    index = json.loads((html / "index.json").read_text())
    assert ["backends", "Backends", publisher.Backends.description] in index["pages"]
    (section,) = json.loads((html / "backends.json").read_text())["sections"]
    assert section["targets"] == ["numpy@cpu"]
    (line,) = section["suites"][0]["lines"]
    assert line["workload"] == "notebook.pool"
    assert line["cells"][0]["status"] == "ok"
    assert line["benchmark"] in index["benchmarks"]
    shown = checkout.asv("show", checkout.head)
    assert shown.returncode == 0
    assert "track_time" in shown.stdout
    compared = checkout.asv("compare", checkout.head, checkout.head)
    assert compared.returncode == 0, compared.stdout


def test_a_broken_convbench_costs_the_tab_and_nothing_else(checkout, tmp_path):
    (tmp_path / "convbench").mkdir()
    (tmp_path / "convbench" / "__init__.py").write_text("raise RuntimeError('half edited')")
    healthy, checkout.environment = (
        checkout.environment, checkout.environment | {"PYTHONPATH": str(tmp_path)}
    )  # fmt: skip
    try:
        published = checkout.asv("publish")
    finally:
        checkout.environment = healthy
    assert published.returncode == 0
    assert "without convbench's plug-in: RuntimeError: half edited" in published.stdout
    assert "#/backends" not in (checkout.folder / ".asv" / "html" / "index.html").read_text()


def test_an_asv_without_convbench_and_its_libraries_takes_it_from_the_checkout():
    code = (
        "import sys\n"
        f"away = {['numpy', 'pandas', 'scipy', 'rich', 'ml_dtypes', 'altair', 'tensorflow']}\n"
        "class Away:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name in away: raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Away())\n"
        "sys.path[:] = [path for path in sys.path if not path.endswith('src')]\n"
        "import importlib.util\n"
        "assert importlib.util.find_spec('convbench') is None\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "import asv_plugin\n"
        "print(sys.modules['convbench.report.site.publisher'].__file__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(
        ROOT / "src" / "convbench" / "report" / "site" / "publisher.py"
    )


def test_the_configuration_names_the_plug_in_beside_it():
    assert '"plugins": [".asv_plugin"]' in (ROOT / "asv.conf.json").read_text()
    assert (ROOT / "asv_plugin.py").is_file()


def test_a_wrong_result_is_red_and_comes_first(site, project):
    project.add(TIME, [0.1, 0.2, NAN, NAN])
    project.add(ACCURACY, [0.5, 7.0, NAN, NAN])
    publish(site.parent)
    text = (site / "backends.html").read_text()
    assert text.index("net.pool") < text.index("net.conv")
    assert '<td class="wrong"><span class="status">wrong</span>' in text
    assert "the error is 7 times its bound" in text
