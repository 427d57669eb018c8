"""Result files as asv itself writes them, evidence beside them, and the table that they make."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest
from asv.results import Results
from asv.runner import BenchmarkResult

from convbench.measuring.asv_store import outcome
from convbench.results import folder, journal
from convbench.results.records import Loaded, load
from convbench.results.rows import summarise, to_dict
from convbench.results.sessions import Run
from convbench.words.status import Standing, Status

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TARGETS = ["numpy@cpu", "cupy@gpu:0"]
WORKLOADS = ["net.conv", "net.pool"]
TIME = "bench_pipeline.Smoke.track_time"
STAGE = "bench_stages.Smoke.track_time"
ACCURACY = "bench_accuracy.Smoke.track_error_over_bound"
NAN = math.nan
SAMPLES = {"samples": [0.001, 0.002, 0.003, 0.004, 0.005], "number": 7}


class Project:
    """A folder of results, filled through asv's own classes."""

    def __init__(self, folder):
        self.results_dir = folder / "results"

    def add(self, benchmark, values, *, machine="here", commit=COMMIT, extra=(), **options):
        """Store one value a cell: a number, NaN (n/a), None (failed), or samples."""
        timed = [isinstance(value, dict) for value in values]
        result = BenchmarkResult(
            result=[True if t else v for t, v in zip(timed, values, strict=True)],
            samples=[v["samples"] if t else None for t, v in zip(timed, values, strict=True)],
            number=[v["number"] if t else None for t, v in zip(timed, values, strict=True)],
            errcode=0,
            stderr="",
            profile=None,
        )
        params = [[repr(p) for p in ps] for ps in (TARGETS, WORKLOADS, *extra)]
        file = Results({"machine": machine}, {}, commit, 1700000000000, "3.11", "env", {})
        file.load_data(str(self.results_dir))
        described = {"name": benchmark, "version": "1", "params": params}
        file.add_result(described, result, **options)
        file.save(str(self.results_dir))

    def file(self, machine="here"):
        return self.results_dir / machine / f"{COMMIT[:8]}-env.json"

    def note(self, benchmark, params, status, machine="here", **facts):
        entry = {"schema": 1, "time_s": 1.0, "benchmark": benchmark, "params": params}
        self._line({**entry, "status": status, **facts}, machine)

    def _line(self, content, machine="here"):
        path = self.results_dir.parent / "evidence" / machine / f"{COMMIT[:8]}-env.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write("\n" + json.dumps(content))

    def load(self):
        return load(self.results_dir)

    def measured(self, benchmark, params, number, samples, *, run="r", **facts):
        """One process of `convbench bench`, in schema 2."""
        content = {"schema": 2, "kind": "cell", "time_s": 2.0, "run": run, "round": number}
        self._line(
            {**content, "process": f"p{number}", "benchmark": benchmark, "params": params,
             "status": "ok", "samples_s": samples, "number": 3, **facts}
        )  # fmt: skip

    def line(self, **content):
        self._line({"schema": 2, "time_s": 2.0, **content})

    def rows(self):
        return summarise(self.load().records)

    def only_row(self):
        (row,) = self.rows()
        return row


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


# -- Records --------------------------------------------------------------------------------------


def test_a_measured_cell_has_asvs_statistics_and_the_evidence(project):
    project.add(TIME, [SAMPLES, NAN, NAN, NAN], record_samples=True)
    project.note(TIME, ["numpy@cpu", "net.conv"], "started")
    project.note(TIME, ["numpy@cpu", "net.conv"], "ok", algorithm="im2col", flops=6_000_000)
    loaded = project.load()
    (record,) = loaded.records
    assert loaded.problems == ()
    assert (record.machine, record.commit, record.environment) == ("here", COMMIT, "env")
    assert (record.benchmark, record.version, record.kind) == (TIME, "1", "time")
    assert (record.target, record.workload, record.stage) == ("numpy@cpu", "net.conv", "")
    assert record.status is Status.OK
    assert record.value == 0.003
    assert record.facts == {"algorithm": "im2col", "flops": 6_000_000}
    assert record.commit_time_s == 1.7e9
    assert record.measured_at_s > 1.7e9


def test_the_stage_is_the_third_parameter(project):
    stages = ["conv", "pool"]
    project.add(STAGE, [1.0, 2.0, 3.0, 4.0, *[NAN] * 4], extra=[stages])
    assert [(r.workload, r.stage, r.value) for r in project.load().records] == [
        ("net.conv", "conv", 1.0),
        ("net.conv", "pool", 2.0),
        ("net.pool", "conv", 3.0),
        ("net.pool", "pool", 4.0),
    ]


def test_a_cell_that_was_not_selected_is_no_record(project):
    project.add(TIME, [0.1, NAN, NAN, NAN])
    assert len(project.load().records) == 1


def test_a_skipped_cell_has_its_reason(project):
    project.add(TIME, [NAN, NAN, NAN, NAN])
    project.note(TIME, ["cupy@gpu:0", "net.conv"], "started")
    project.note(TIME, ["cupy@gpu:0", "net.conv"], "skipped", reason="no device", remedy="buy one")
    (record,) = project.load().records
    assert (record.status, record.value) == (Status.SKIPPED, None)
    assert (record.reason, record.remedy) == ("no device", "buy one")


def test_a_failed_cell_has_its_reason(project):
    project.add(TIME, [None, 0.1, 0.1, 0.1])
    project.note(TIME, ["numpy@cpu", "net.conv"], "failed", reason="no memory", error="MemoryError")
    record = project.load().records[0]
    assert (record.status, record.reason) == (Status.FAILED, "no memory")
    assert record.facts == {"error": "MemoryError"}


def test_a_cell_that_took_its_process_with_it_is_recognised(project):
    project.add(TIME, [None, 0.1, 0.1, 0.1])
    project.note(TIME, ["numpy@cpu", "net.conv"], "started")
    record = project.load().records[0]
    assert record.status is Status.FAILED
    assert "the process ended in the middle" in record.reason


def test_a_benchmark_that_failed_as_a_whole_is_failed_in_every_cell(project):
    project.add(TIME, [None] * 4)
    assert json.loads(project.file().read_text())["results"][TIME][0] is None
    records = project.load().records
    assert [record.status for record in records] == [Status.FAILED] * 4
    assert "no evidence of the cell being started" in records[0].reason


def test_what_was_never_selected_has_not_failed(project):
    """asv stores None for new combinations of parameters of a benchmark that it knows."""
    project.add(TIME, [0.1, None, None, None])
    project.note(TIME, ["numpy@cpu", "net.conv"], "ok", algorithm="im2col")
    (record,) = project.load().records
    assert (record.workload, record.status) == ("net.conv", Status.OK)


def test_a_time_stands_as_far_as_its_receipt_supports_it(project):
    cell = ["numpy@cpu", "net.conv"]
    project.line(kind="run", run="r", commit=COMMIT, environment="env", commit_time_s=1.0)
    project.measured(TIME, cell, 1, [0.1, 0.1])
    (record,) = project.load().records
    assert (record.status, record.standing) == (Status.OK, Standing.CLAIM)
    held = {"verdict": "holds", "claim": "time", "reason": ""}
    project.measured(TIME, cell, 2, [0.1, 0.1], receipt={"claims": [held], "end_to_end_s": 0.2})
    project.measured(TIME, cell, 3, [0.1, 0.1])  # a receipt of one of the rounds is enough
    (record,) = project.load().records
    assert (record.status, record.standing) == (Status.OK, Standing.HELD)
    assert project.only_row().end_to_end_s == 0.2
    doubt = {"verdict": "not supported", "claim": "error", "reason": "all of it is zero"}
    project.measured(TIME, cell, 4, [0.1, 0.1], receipt={"claims": [held, doubt]})
    (record,) = project.load().records
    assert (record.status, record.standing) == (Status.INVALID, Standing.DOUBTED)
    assert "does not support it: error: all of it is zero" in record.reason


@pytest.mark.parametrize("receipt", [7, "x", {"claims": 7}, {"claims": [7, {"verdict": []}]}])
def test_a_receipt_that_is_none_of_ours_is_no_crash(project, receipt):
    project.line(kind="run", run="r", commit=COMMIT, environment="env", commit_time_s=1.0)
    project.measured(TIME, ["numpy@cpu", "net.conv"], 1, [0.1, 0.1], receipt=receipt)
    assert project.only_row().status is Status.OK


def test_what_was_measured_again_counts_as_it_was_the_last_time(project):
    project.add(TIME, [0.1, NAN, NAN, NAN])
    cell = ["numpy@cpu", "net.conv"]
    project.note(TIME, cell, "failed", reason="no memory")
    project.note(TIME, cell, "ok", algorithm="im2col")
    project.note(TIME, cell, "started")  # a run that goes on right now
    (record,) = project.load().records
    assert (record.status, record.reason) == (Status.OK, "")
    assert record.facts == {"algorithm": "im2col"}


@pytest.mark.parametrize(
    ("value", "status"), [(0.0, Status.OK), (1.0, Status.OK), (1.01, Status.WRONG)]
)
def test_an_error_beyond_its_bound_is_wrong(project, value, status):
    project.add(ACCURACY, [value, NAN, NAN, NAN])
    (record,) = project.load().records
    assert (record.kind, record.status) == ("accuracy", status)


def test_a_wrong_cell_says_where(project):
    project.add(ACCURACY, [1e30, NAN, NAN, NAN])
    project.note(ACCURACY, ["numpy@cpu", "net.conv"], "ok", worst="at [0, 1, 2, 3] got nan")
    (record,) = project.load().records
    assert record.reason == "the error is 1e+30 times its bound: at [0, 1, 2, 3] got nan"


def test_machines_are_kept_apart(project):
    for machine in ("here", "there"):
        project.add(TIME, [NAN, NAN, NAN, NAN], machine=machine)
        project.note(TIME, ["cupy@gpu:0", "net.conv"], "skipped", machine, reason=f"not {machine}")
    assert [(r.machine, r.reason) for r in project.load().records] == [
        ("here", "not here"),
        ("there", "not there"),
    ]


def test_results_without_evidence_are_read(project):
    project.add(TIME, [SAMPLES, NAN, NAN, NAN])
    row = project.only_row()
    assert (row.status, row.time_s, row.gflops) == (Status.OK, 0.003, None)


def test_an_empty_or_missing_folder_holds_nothing(tmp_path):
    assert load(tmp_path / "none") == Loaded((), ())


# -- Damage ---------------------------------------------------------------------------------------


def damage_text(change):
    return lambda path: path.write_bytes(change(path.read_bytes()))


def damage_json(change):
    def damage(path):
        file = json.loads(path.read_text())
        change(file)
        path.write_text(json.dumps(file))

    return damage


def set_column(index, value):
    return damage_json(lambda file: file["results"][TIME].__setitem__(index, value))


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (damage_text(lambda text: text[: len(text) // 2]), "left out, because"),
        (damage_text(lambda text: b""), "Expecting value"),
        (damage_text(lambda text: b"\xff\xfe\x00"), "left out, because"),
        (damage_text(lambda text: b"[]"), "left out, because"),
        (damage_json(lambda file: file.update(version=3, z=0)), "its version is 3, not 2"),
        (damage_json(lambda file: file.pop("result_columns")), "it has no 'result_columns'"),
        (damage_json(lambda file: file.update(results=3)), "left out, because"),
        (damage_json(lambda file: file["results"].update({TIME: [[1.0]]})), TIME),
        (damage_json(lambda file: file["results"].update({TIME: 3})), TIME),
        (set_column(0, [1.0]), "1 values for 4"),
        (set_column(1, [["numpy("], ["'net.conv'"]]), TIME),
        (set_column(1, [["'the target alone'"]]), TIME),
    ],
)
def test_a_damaged_file_is_named_and_the_rest_is_read(project, damage, why):
    project.add(TIME, [0.1, 0.1, 0.1, 0.1])
    project.add(TIME, [0.2, NAN, NAN, NAN], machine="there")
    damage(project.file())
    loaded = project.load()
    assert [record.machine for record in loaded.records] == ["there"]
    (problem,) = loaded.problems
    assert str(project.file()) in problem
    assert why in problem


def test_a_damaged_benchmark_costs_only_itself(project):
    project.add(TIME, [0.1, 0.1, 0.1, 0.1])
    project.add(ACCURACY, [0.1, 0.1, 0.1, 0.1])
    damage_json(lambda file: file["results"].update({TIME: [[1.0]]}))(project.file())
    loaded = project.load()
    assert {record.kind for record in loaded.records} == {"accuracy"}
    assert len(loaded.problems) == 1


def test_damaged_evidence_is_a_problem_too(project):
    project.add(TIME, [0.1, NAN, NAN, NAN])
    project.note(TIME, ["numpy@cpu", "net.conv"], "great")
    loaded = project.load()
    assert len(loaded.records) == 1
    assert "its status is 'great'" in loaded.problems[0]


# -- Hostile files --------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", ["fast", ["x"], [], [None], {"a": 1}, 3])
def test_samples_that_are_none_cost_their_cell(project, samples):
    begun(project)
    project.measured(TIME, CELL, 1, samples)
    project.measured(TIME, ["numpy@cpu", "net.pool"], 1, [0.1])
    loaded = project.load()
    assert [record.workload for record in loaded.records] == ["net.pool"]
    assert "left out" in loaded.problems[0]


def test_facts_of_a_wrong_type_are_left_out(project):
    begun(project)
    project.measured(TIME, CELL, 1, [0.1], flops="many", bytes=None, machine=3, versions="new")
    (record,) = project.load().records
    assert record.facts.keys().isdisjoint({"flops", "bytes", "machine", "versions"})
    summarise([record])


# -- Processes ------------------------------------------------------------------------------------

CELL = ["numpy@cpu", "net.conv"]


def begun(project, run="r", **facts):
    project.line(
        kind="run", run=run, state="begun", commit=COMMIT, environment="env",
        commit_time_s=5.0, **facts,
    )  # fmt: skip


def test_each_process_counts_once(project):
    project.add(TIME, [SAMPLES, NAN, NAN, NAN])
    project.measured(TIME, CELL, 1, [0.001, 0.002, 0.003], flops=7)
    project.measured(TIME, CELL, 2, [0.005, 0.006, 0.010], flops=7)
    (record,) = project.load().records
    assert record.processes == (0.002, 0.006)
    assert record.value == pytest.approx((0.002 * 0.006) ** 0.5)  # whose ratios compare judges
    assert record.facts["flops"] == 7
    assert record.facts["fastest_s"] == 0.001
    assert "samples_s" not in record.facts


def test_what_asv_does_not_have_yet_is_read_from_the_evidence(project):
    begun(project)
    project.measured(TIME, CELL, 1, [0.001, 0.002, 0.003], version="1")
    (record,) = project.load().records
    assert (record.machine, record.commit, record.environment) == ("here", COMMIT, "env")
    assert (record.status, record.value, record.version) == (Status.OK, 0.002, "1")
    assert record.commit_time_s == 5.0


@pytest.mark.parametrize(
    ("first", "then", "later", "expected"),
    [
        ({}, {}, {}, (0.009,)),
        # The same, in a tree without uncommitted changes.
        ({"clean": True}, {"clean": True}, {}, (0.001, 0.001, 0.001, 0.009)),
        ({"clean": True}, {"clean": False}, {}, (0.009,)),
        ({"clean": False}, {"clean": True}, {}, (0.009,)),
        ({"clean": True}, {"clean": True}, {"method": "another"}, (0.009,)),
        ({"clean": True}, {"clean": True}, {"version": "2"}, (0.009,)),
        ({"clean": True}, {"clean": True}, {"status": "failed"}, ()),
        ({"clean": True}, {"clean": True}, {"status": "started"}, (0.001, 0.001, 0.001)),
        ({}, {}, {"status": "started"}, (0.001, 0.001, 0.001)),
    ],
)
def test_the_last_run_counts_and_with_it_all_that_have_measured_the_same(
    project, first, then, later, expected
):
    begun(project, **first)
    begun(project, run="s", **then)
    for number in (1, 2, 3):
        project.measured(TIME, CELL, number, [0.001])
    project.measured(TIME, CELL, 1, [0.009], run="s", **later)
    (record,) = project.load().records
    assert record.processes == expected


def test_runs_of_the_same_count_together_and_each_is_told(project):
    for run, seconds, clean in (("q", 0.5, False), ("r", 0.001, True), ("s", 0.004, True)):
        begun(project, run=run, clean=clean)
        project.measured(TIME, CELL, 1, [seconds], run=run)
    (record,) = project.load().records
    assert record.processes == (0.001, 0.004)
    assert record.value == pytest.approx(0.002)
    assert record.runs == (Run(0.5, 1, False), Run(0.001, 1, True), Run(0.004, 1, True))
    assert record.sessions == 2


def test_an_error_that_any_run_of_the_same_has_seen_is_not_measured_away(project):
    for run, error in (("r", 9.0), ("s", 0.5)):
        begun(project, run=run, clean=True)
        project.line(
            kind="cell", run=run, round=1, process=f"p{run}", benchmark=ACCURACY, params=CELL,
            status="ok", value=error,
        )  # fmt: skip
    (record,) = project.load().records
    assert (record.status, record.value) == (Status.WRONG, 9.0)


def test_sessions_of_unequal_size_are_less_than_their_number(project):
    for run, processes in (("r", 9), ("s", 1)):
        begun(project, run=run, clean=True)
        for number in range(1, processes + 1):
            project.measured(TIME, CELL, number, [0.001], run=run)
    assert project.load().records[0].sessions == pytest.approx(100 / 82)


def test_the_device_has_a_time_of_its_own(project):
    begun(project)
    for number, seconds in ((1, [0.001, 0.001, 0.005]), (2, [0.004])):
        project.measured(TIME, CELL, number, [0.01], device_samples_s=seconds)
    row = project.only_row()
    assert row.device_s == pytest.approx(0.002)  # the centre of 1 and 4 ms
    assert to_dict([row])["rows"][0]["device_s"] == row.device_s


def test_asv_and_we_take_the_same_of_the_processes_errors(project):
    begun(project)
    for number, error in ((1, 0.5), (2, 2.5)):
        project.line(
            kind="cell", run="r", round=number, process=f"p{number}", benchmark=ACCURACY,
            params=CELL, status="ok", value=error, worst=f"at {number}",
        )  # fmt: skip
    (record,) = project.load().records
    path = project.results_dir.parent / "evidence" / "here" / f"{COMMIT[:8]}-env.jsonl"
    assert outcome(journal.read(path).notes) == (record.value, None, None) == (2.5, None, None)
    assert (record.status, record.facts["worst"]) == (Status.WRONG, "at 2")


def test_only_the_commits_that_are_asked_for_are_opened_and_returned(project, monkeypatch):
    other = f"{COMMIT[:8]}{'f' * 32}"
    for machine, commit in (("here", COMMIT), ("there", other), ("here", "f" * 40)):
        project.add(TIME, [0.1] * 4, commit=commit, machine=machine)
    read, opened = folder.content, []
    monkeypatch.setattr(folder, "content", lambda path: opened.append(path) or read(path))
    assert {r.commit for r in load(project.results_dir, [COMMIT[:12]]).records} == {COMMIT}
    assert {r.commit for r in load(project.results_dir, [COMMIT[:8]]).records} == {COMMIT, other}
    assert opened
    assert not [path for path in opened if path.name.startswith("ffffffff")]


def test_one_process_that_failed_is_a_failure(project):
    begun(project)
    project.measured(TIME, CELL, 1, [0.001])
    project.line(
        kind="cell", run="r", round=2, process="", benchmark=TIME, params=CELL, status="failed",
        reason="killed by SIGSEGV", remedy="Look.",
    )  # fmt: skip
    (record,) = project.load().records
    assert record.status is Status.FAILED
    assert record.reason == "in 1 of 2 processes: killed by SIGSEGV"


def test_a_cell_that_was_cut_off_with_its_run_is_neither_measured_nor_failed(project):
    begun(project)
    project.line(
        kind="cell", run="r", round=1, process="p", benchmark=TIME, params=CELL, status="started"
    )
    assert project.load().records == ()
    project.measured(TIME, CELL, 1, [0.001])  # the run was continued
    assert project.load().records[0].status is Status.OK


def test_a_process_of_asvs_that_died_is_a_failure_though_others_did_not(project):
    project.add(TIME, [None, NAN, NAN, NAN])
    for process in ("a", "b"):
        project.line(
            kind="cell", run="asv-7", round=0, process=process, benchmark=TIME, params=CELL,
            status="started",
        )  # fmt: skip
    project.line(
        kind="cell", run="asv-7", round=0, process="b", benchmark=TIME, params=CELL, status="ok",
        samples_s=[0.001], number=1,
    )  # fmt: skip
    (record,) = project.load().records
    assert record.status is Status.FAILED
    assert "in 1 of 2 processes: the process ended in the middle" in record.reason


def test_a_process_says_once_what_it_is(project):
    begun(project)
    project.line(kind="process", run="r", process="p1", versions={"numpy": "2.1"}, before={})
    project.measured(TIME, CELL, 1, [0.001])
    assert project.load().records[0].facts["versions"] == {"numpy": "2.1"}


def test_digests_of_all_processes_are_kept(project):
    begun(project)
    for number, digest in ((1, "aa"), (2, "ab")):
        project.line(
            kind="cell", run="r", round=number, process=f"p{number}", benchmark=ACCURACY,
            params=CELL, status="ok", value=0.25 * number, digest=digest, worst=f"at {number}",
        )  # fmt: skip
    (record,) = project.load().records
    assert record.facts["digests"] == ["aa", "ab"]
    assert (record.value, record.facts["worst"]) == (0.5, "at 2")  # the worst of them


def test_only_the_commits_that_are_asked_for_are_read(project):
    project.add(TIME, [0.1] * 4)
    project.add(TIME, [0.2] * 4, commit="f" * 40)
    project.file().with_name("ffffffff-torn.json").write_text("{")
    loaded = load(project.results_dir, [COMMIT])
    assert {record.commit for record in loaded.records} == {COMMIT}
    assert loaded.problems == ()
    assert load(project.results_dir, []).records == ()


def test_importing_it_is_cheap_and_loads_no_backend():
    code = "import sys, convbench.results.records; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"asv", "numpy", "pandas", "rich", "tensorflow", "cupy"}
    assert not [name for name in loaded if name.startswith("convbench.backends")]
