"""Results of suites that are none of ours: folders of public projects, rebuilt by hand in small."""

from __future__ import annotations

import json
import math
import time
import tracemalloc

import pytest

from convbench.cli.main import main
from convbench.results import folder, history
from convbench.results.records import OTHER, load
from convbench.results.rows import summarise
from convbench.words.status import Status

from .test_records import SAMPLES, Project

BASE, HEAD = "0a" * 20, "1b" * 20
COLUMNS = [
    "result", "params", "version", "started_at", "duration", "stats_ci_99_a", "stats_ci_99_b",
    "stats_q_25", "stats_q_75", "stats_number", "stats_repeat", "samples", "profile",
]  # fmt: skip
NAN = math.nan
SHELL = "\x1b]0;owned\x07\x1b[31m\x9b2J\u202e"


def row(result, params=(), **fields):
    """One benchmark in the columns of asv, the empty ones at the end left out as asv does it."""
    fields = {"result": result, "params": [list(texts) for texts in params], **fields}
    values = [fields.get(name) for name in COLUMNS]
    while values[-1] is None:
        values.pop()
    return values


def version_2(commit, results, machine="vm", environment="conda-py3.10-Cython-numpy", **fields):
    """A file of asv 0.5 and later."""
    return {
        "commit_hash": commit, "env_name": environment, "date": 1_600_000_000_000,
        "params": {"machine": machine, "os": "Linux", "Cython": ""}, "python": "3.10",
        "requirements": {"Cython": ""}, "env_vars": {}, "result_columns": COLUMNS,
        "results": results, "durations": {"<build>": 3.5}, **fields, "version": 2,
    }  # fmt: skip


def version_1(commit, results, machine="vm", environment="conda-py2.7-Cython0.24-numpy1.9"):
    """A file of asv before 0.5: bare numbers, or parameters with their results."""
    return {
        "commit_hash": commit, "date": 1_400_000_000_000, "ended_at": {}, "env_name": environment,
        "params": {"machine": machine}, "profiles": {}, "python": "2.7", "requirements": {},
        "results": results, "started_at": {}, "version": 1,
    }  # fmt: skip


def store(root, file, machine="vm", environment=None, indent=None):
    """Where asv would put it; its path."""
    environment = environment or file["env_name"]
    path = root / "results" / machine / f"{file['commit_hash'][:8]}-{environment}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(file, indent=indent))
    return path


def both(root, results, head=None, **fields):
    """The same of two commits, or another of the second."""
    for commit, some in ((BASE, results), (HEAD, results if head is None else head)):
        store(root, version_2(commit, some, **fields), fields.get("machine", "vm"))


# -- Six kinds of folders --------------------------------------------------------------------------


def plain_version_1(root):
    for commit in (BASE, HEAD):
        some = {"io.time_read": 0.25, "io.mem_table": 1024, "io.time_gone": None}
        store(root, version_1(commit, some), indent=4)


def parameters_version_1(root):
    for commit in (BASE, HEAD):
        some = {"cse.TimeCSE.time_cse": {"params": [["(2, 8)", "(3, 8)"]], "result": [0.1, None]}}
        store(root, version_1(commit, some, environment="virtualenv-py3.5-mpmath"), indent=4)
    (root / "results" / "benchmarks.json").write_text(json.dumps({"version": 1}))


def plain_version_2(root):
    both(
        root,
        {
            "GRO.Read.time_parse": row(
                [0.07], [], version="85e9", started_at=1_700_000_000_000, duration=1.5,
                stats_q_25=[0.069], stats_q_75=[0.072], stats_number=[1], stats_repeat=[10],
            ),
            "GRO.Read.peakmem_parse": row([52_428_800]),
        },
    )  # fmt: skip


def many_machines(root):
    for machine in ("c3.potato (old)", "GH-Actions"):
        both(root, {"a.timeraw_import": row([1.5])}, machine=machine)
        (root / "results" / machine / "machine.json").write_text('{"version": 1}')


def odd_parameters(root):
    both(
        root,
        {
            "b.Track.track_loss": row([-3.0, 0.0], [["<class 'a.B'>", "None"]]),
            "b.TimeFit": row(
                [1.0, 2.0, NAN, 4.0],
                [["<function <lambda> at 0x7f01>", "<function <lambda> at 0x7f02>"],
                 ["(1, 'a, b')", "'\\n\u00fc'"]],
            ),
            "b.time_null": row(None, [["1", "2"]]),
        },
    )  # fmt: skip


def pages_alone(root):
    path = root / "results" / "graphs" / "arch-x64" / "summary.json"
    path.parent.mkdir(parents=True)
    path.write_text("[[1, 0.5]]")
    (root / "results" / "index.json").write_text("{}")


def told(capsys, *words):
    code = main([*words, "--results-dir", "results"])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


@pytest.mark.parametrize("build", [plain_version_1, parameters_version_1, pages_alone])
def test_what_cannot_be_read_is_said_alike_by_all(build, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    build(tmp_path)
    code, _, said = told(capsys, "results")
    assert code == 3
    assert "nothing was measured of any commit: results has results of nothing" in said
    if build is pages_alone:
        return
    assert said.count("`asv update`") == said.count("2 files of version 1 of asv's format") == 1
    code, out, said = told(capsys, "compare", BASE, HEAD)
    assert code == 3
    assert "NOTHING MEASURED of base" in out
    assert "results has results of nothing" in said
    assert said.count("`asv update`") == 1
    code, out, said = told(capsys, "report", "--output", "page.html")
    assert code == 3
    assert "NOTHING MEASURED" in out
    assert said.count("`asv update`") == 1


@pytest.mark.parametrize(
    ("build", "codes", "shown"),
    [
        (plain_version_2, (0, 0), ["GRO.Read.time_parse", "70.0 ms", "52.4 MB"]),
        (many_machines, (0, 3), ["a.timeraw_import", "1.50 s"]),
        (odd_parameters, (2, 2), ["b.Track.track_loss(<class 'a.B'>)", "-3"]),
    ],
)
def test_other_suites_are_shown_and_compared(build, codes, shown, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    build(tmp_path)
    code, out, _ = told(capsys, "results", BASE)
    assert code == codes[0]
    for words in shown:
        assert words in out
    place = "::GH-Actions" if build is many_machines else ""
    code, out, _ = told(capsys, "compare", f"{BASE}{place}", f"{HEAD}{place}", "--all")
    assert code == codes[1]
    assert shown[0] in out
    code, *_ = told(capsys, "report", f"{HEAD}{place}", "--base", f"{BASE}{place}",
                    "--output", "page.html")  # fmt: skip
    assert code == codes[1]
    assert "Other benchmarks" in (tmp_path / "page.html").read_text()


def test_a_time_of_another_suite_is_never_called_slower(tmp_path, monkeypatch, capsys):
    """Ten times as long, with and without samples: asv does not say what its processes took."""
    monkeypatch.chdir(tmp_path)
    for kept, why in (({}, "asv kept no samples"), ({"samples": [[1.0, 1.1]]}, "whose they are")):
        quartiles = {"stats_q_25": [0.9], "stats_q_75": [1.2]}
        both(
            tmp_path,
            {"a.time_x": row([1.0], **quartiles, **kept)},
            {"a.time_x": row([10.0], **quartiles, **kept)},
        )
        code, out, _ = told(capsys, "compare", BASE, HEAD)
        assert code == 3
        assert "NOTHING COMPARABLE: 1 undecided" in out
        assert why in out
        assert "10.0" in out
        code, out, _ = told(capsys, "compare", BASE, HEAD, "--json", "--strict")
        (cell,) = json.loads(out)["cells"]
        assert cell["effect"]["ratio"] == pytest.approx(10)
        assert cell["effect"]["low"] is None
        assert cell["head"]["quartiles_s"] == [0.9, 1.2]


def test_numbers_of_another_unit_are_compared_where_they_are_the_same(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    both(
        tmp_path,
        {"a.track_rate": row([5.0, 0.0, 7.0], [["1", "2", "3"]])},
        {"a.track_rate": row([5.0, 0.0, 8.0], [["1", "2", "3"]])},
    )
    (tmp_path / "results" / "benchmarks.json").write_text(
        json.dumps({"a.track_rate": {"unit": "MB/s", "type": "track"}, "version": 2})
    )
    code, out, _ = told(capsys, "compare", BASE, HEAD, "--all", "--json")
    document = json.loads(out)
    assert (code, document["counts"]) == (0, {"undecided": 1, "equivalent": 2})
    assert {cell["unit"] for cell in document["cells"]} == {"MB/s"}
    _, out, _ = told(capsys, "results", HEAD)
    assert "8.00 MB/s" in out


def test_numbers_that_are_too_far_apart_have_no_ratio(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    both(tmp_path, {"a.track_x": row([1e-300])}, {"a.track_x": row([1e300])})
    code, out, _ = told(capsys, "compare", BASE, HEAD)
    assert code == 3
    assert "there is no ratio" in out


def test_a_name_of_ours_with_other_parameters_is_not_ours(tmp_path):
    """One that is called track_time, with integers."""
    both(tmp_path, {"bench_pipeline.X.track_time": row([1.0, 2.0], [["1", "2"], ["8"]])})
    records = load(tmp_path / "results").records
    assert {record.suite for record in records} == {OTHER}
    assert records[0].workload == "bench_pipeline.X.track_time(1, 8)"


def test_addresses_are_no_part_of_a_name_and_equal_names_are_told_apart(tmp_path):
    odd_parameters(tmp_path)
    names = [r.workload for r in load(tmp_path / "results", [BASE]).records if "Fit" in r.workload]
    assert len({*names}) == 4
    assert not any("0x" in name for name in names)
    assert sum(name.endswith("#2") for name in names) == 2


def test_the_history_has_them(tmp_path):
    plain_version_2(tmp_path)
    found = history.load(tmp_path / "results")
    assert found.commits == (BASE, HEAD)
    assert {series.kind for series in found.series} == {"time", "memory"}


def test_what_asv_itself_writes_is_read(tmp_path):
    project = Project(tmp_path)
    project.add("a.peakmem_x", [1.0, 2.0, None, NAN])
    project.add("a.time_x", [SAMPLES, None, None, NAN], record_samples=True)
    records = project.load().records
    assert [(r.kind, r.value, r.status) for r in records] == [
        ("memory", 1.0, Status.OK), ("memory", 2.0, Status.OK),
        ("memory", None, Status.FAILED), ("memory", None, Status.SKIPPED),
        ("time", 0.003, Status.OK), ("time", None, Status.FAILED),
        ("time", None, Status.FAILED), ("time", None, Status.SKIPPED),
    ]  # fmt: skip
    assert records[0].workload == "a.peakmem_x('numpy@cpu', 'net.conv')"
    assert records[4].facts == {"quartiles_s": [0.002, 0.004], "samples": 5}


# -- What cannot be --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("time_x", -1.0, "-1 s"), ("time_x", 0, "0 s"), ("time_x", math.inf, "inf s"),
        ("time_x", "fast", "'fast'"), ("time_x", True, "True"), ("time_x", [1.0], "[1.0]"),
        ("time_x", 1e308, "1e+308 s"), ("time_x", 1e-308, "1e-308 s"), ("mem_x", 1e300, "1e+300 B"),
        ("time_x", {}, "{}"), ("peakmem_x", -5, "-5 B"), ("track_x", math.inf, "inf"),
    ],
)  # fmt: skip
def test_a_number_that_cannot_be_costs_its_cell(tmp_path, name, value, said):
    both(tmp_path, {f"a.{name}": row([value, 2.0], [["1", "2"]])})
    wrong, right = load(tmp_path / "results", [HEAD]).records
    assert (wrong.status, wrong.value) == (Status.INVALID, None)
    assert f"the file says {said}" in wrong.reason
    assert (right.status, right.value) == (Status.OK, 2.0)
    summarise([wrong, right])


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("samples", [1.0, -1.0]), ("samples", ["x"]), ("samples", 3), ("stats_number", 0),
        ("stats_repeat", -2), ("stats_q_25", -1.0), ("stats_q_75", True), ("stats_number", "7"),
    ],
)  # fmt: skip
def test_statistics_that_cannot_be_cost_their_cell(tmp_path, column, value):
    both(tmp_path, {"a.time_x": row([1.0, 2.0], [["1", "2"]], **{column: [value, None]})})
    wrong, right = load(tmp_path / "results", [HEAD]).records
    assert wrong.status is Status.INVALID
    assert "beside its value" in wrong.reason
    assert right.status is Status.OK


@pytest.mark.parametrize("name", ["a.time_x", "bench_pipeline.Smoke.track_time"])
@pytest.mark.parametrize("result", [[1.0], None])
def test_no_length_is_multiplied_out_before_it_is_checked(tmp_path, name, result):
    """Nine parameters of ten are 10**9 cells, in a file of less than 4 kB."""
    params = [[f"'v{i}'" for i in range(10)] for _ in range(9)]
    path = store(tmp_path, version_2(HEAD, {name: row(result, params)}))
    assert path.stat().st_size < 4000
    tracemalloc.start()
    started_s = time.process_time()
    loaded = load(tmp_path / "results")
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert loaded.records == ()
    assert str(path) in loaded.problems[0]
    assert "1000000000" in loaded.problems[0]
    assert peak_bytes < 1 << 22
    assert time.process_time() - started_s < 5


def test_many_failures_of_a_small_file_are_bounded_together(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "MOST_CELLS", 100)
    results = {f"a.time_{i}": row(None, [[str(k) for k in range(30)]]) for i in range(10)}
    store(tmp_path, version_2(HEAD, results))
    loaded = load(tmp_path / "results")
    assert len(loaded.records) == 90
    assert len(loaded.problems) == 7


@pytest.mark.parametrize(
    "change",
    [
        {"commit_hash": "../../etc"}, {"commit_hash": BASE}, {"env_name": "x" * 1000},
        {"date": NAN}, {"date": "now"}, {"params": {"machine": ["vm"]}}, {"results": 3},
        {"result_columns": None},
    ],
)  # fmt: skip
def test_a_file_that_says_what_cannot_be_costs_itself(tmp_path, change):
    path = store(tmp_path, version_2(HEAD, {"a.time_x": row([1.0])}))
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    loaded = load(tmp_path / "results")
    assert loaded.records == ()
    (problem,) = loaded.problems
    assert problem.startswith(f"{path}: left out, because")


# -- What reaches a terminal -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("results",), ("compare", BASE, HEAD, "--all"), ("report", "--output", "page.html"),
        ("compare", BASE, HEAD, "--format", "markdown"), ("results", SHELL),
        ("compare", BASE, HEAD, "--format", "junit"), ("compare", f"{BASE}:{SHELL}", HEAD),
        ("compare", f"{BASE}::{SHELL}", f"{HEAD}::{SHELL}"), ("results", "--json"),
        ("compare", BASE, HEAD, "--json"), ("report", "--output", "page.html", "--json"),
    ],
)  # fmt: skip
def test_nothing_that_a_file_says_does_anything_to_a_terminal(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for environment in ("one", "two"):
        name = f"{environment}{SHELL}"
        for commit in (BASE, HEAD):
            results = {
                f"a{SHELL}.time_x": row([1.0, "x" + SHELL], [[f"'{SHELL}'", "2"]]),
                "a.track_x": row([1.0], [[SHELL]], version=SHELL + commit),
                f"a.time_y{SHELL}": 3,
            }
            file = version_2(commit, results, f"vm{SHELL}", name)
            store(tmp_path, file, environment=environment)
    (tmp_path / "results" / "vm" / "machine.json").write_text(
        json.dumps({"machine": f"vm{SHELL}", "os": SHELL})
    )
    (tmp_path / "results" / "benchmarks.json").write_text(
        json.dumps({"a.track_x": {"unit": SHELL}})
    )
    _, out, err = told(capsys, *words)
    page = tmp_path / "page.html"
    for text in (out, err, page.read_text(encoding="utf-8") if page.exists() else ""):
        assert not {*text} & {*"\x1b\x07\x9b\u202e"}
