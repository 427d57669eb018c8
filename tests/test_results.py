"""Result files as asv itself writes them, evidence beside them, and the table that they make."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest
from asv.results import Results
from asv.runner import BenchmarkResult

from convbench import results
from convbench.failures import Status
from convbench.results import exit_code, latest_commit, load, render, summarise, to_dict

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
        path = self.results_dir.parent / "evidence" / machine / f"{COMMIT[:8]}-env.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        entry = {"schema": 1, "time_s": 1.0, "benchmark": benchmark, "params": params}
        with path.open("a") as file:
            file.write("\n" + json.dumps({**entry, "status": status, **facts}))

    def load(self):
        return load(self.results_dir)

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
    assert record.quartiles == (0.002, 0.004)
    assert record.interval[0] <= 0.001
    assert record.interval[1] >= 0.005
    assert record.samples == (0.001, 0.002, 0.003, 0.004, 0.005)
    assert (record.number, record.repeat) == (7, 5)
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


def test_other_suites_are_left_alone(project):
    project.add("bench_other.peakmem_something", [1.0, 2.0, 3.0, 4.0])
    assert project.load() == results.Loaded((), ())


def test_an_empty_or_missing_folder_holds_nothing(tmp_path):
    assert load(tmp_path / "none") == results.Loaded((), ())


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
        (damage_json(lambda file: file.update(version=3)), "its version is 3, not 2"),
        (damage_json(lambda file: file.pop("result_columns")), "it has no 'result_columns'"),
        (damage_json(lambda file: file.update(results=3)), "left out, because"),
        (damage_json(lambda file: file["results"].update({TIME: [[1.0]]})), TIME),
        (damage_json(lambda file: file["results"].update({TIME: 3})), TIME),
        (set_column(0, [1.0]), "1 values for 4"),
        (set_column(0, ["x"] * 4), TIME),
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


# -- Rows -----------------------------------------------------------------------------------------


def measure(project, target="numpy@cpu", workload="net.conv", *, error=0.5):
    """Fill one cell in every suite."""
    i = 2 * TARGETS.index(target) + WORKLOADS.index(workload)
    chosen = {"selected_idx": [i]}
    project.add(TIME, [SAMPLES if j == i else NAN for j in range(4)], **chosen)
    project.add(ACCURACY, [error if j == i else NAN for j in range(4)], **chosen)
    project.note(TIME, [target, workload], "ok", algorithm="im2col", flops=6_000_000)


def skip(project, target, reason="no device: none here"):
    for benchmark in (TIME, ACCURACY):
        for workload in WORKLOADS:
            project.note(benchmark, [target, workload], "skipped", reason=reason, remedy="Buy one.")


def test_a_row_joins_time_accuracy_and_stages(project):
    measure(project)
    project.add(STAGE, [0.002, 0.001, *[NAN] * 6], extra=[["conv", "pool"]])
    row = project.only_row()
    assert (row.workload, row.target, row.status) == ("net.conv", "numpy@cpu", Status.OK)
    assert (row.time_s, row.quartiles_s) == (0.003, (0.002, 0.004))
    assert row.gflops == pytest.approx(6e6 / 0.003 / 1e9)
    assert row.error_over_bound == 0.5
    assert row.stages_s == {"conv": 0.002, "pool": 0.001}
    assert row.algorithm == "im2col"
    assert row.causes == ()


@pytest.mark.parametrize(
    ("time", "error", "status"),
    [
        (0.1, 0.5, Status.OK),
        (0.1, 2.0, Status.WRONG),
        (None, 2.0, Status.WRONG),
        (None, 0.5, Status.FAILED),
        (0.1, None, Status.FAILED),
        (NAN, 0.5, Status.OK),
        (NAN, None, Status.FAILED),
    ],
)
def test_the_worst_part_decides_and_a_skip_only_if_nothing_was_measured(
    project, time, error, status
):
    for benchmark in (TIME, ACCURACY):
        project.note(benchmark, ["numpy@cpu", "net.conv"], "skipped", reason="a hole")
    project.add(TIME, [time, NAN, NAN, NAN])
    project.add(ACCURACY, [error, NAN, NAN, NAN])
    assert project.only_row().status is status


def test_a_part_that_is_not_ok_is_named_with_its_reason(project):
    measure(project)
    project.add(STAGE, [None, *[NAN] * 3], extra=[["pool"]])
    project.note(STAGE, ["numpy@cpu", "net.conv", "pool"], "failed", reason="no memory")
    row = project.only_row()
    assert row.status is Status.FAILED
    assert [(cause.part, cause.reason) for cause in row.causes] == [("stage pool", "no memory")]


def test_rows_follow_the_workloads_and_then_the_targets_but_wrong_ones_come_first(project):
    for target in reversed(TARGETS):
        for workload in WORKLOADS:
            wrong = (target, workload) == ("cupy@gpu:0", "net.pool")
            measure(project, target, workload, error=3.0 if wrong else 0.5)
    assert [(row.workload, row.target) for row in project.rows()] == [
        ("net.pool", "cupy@gpu:0"),
        ("net.conv", "numpy@cpu"),
        ("net.conv", "cupy@gpu:0"),
        ("net.pool", "numpy@cpu"),
    ]


def test_the_latest_commit_is_the_one_measured_last(project):
    assert latest_commit([]) is None
    project.add(TIME, [0.1] * 4)
    file = json.loads(project.file().read_text())
    started = file["result_columns"].index("started_at")
    file["results"][TIME][started] += 1000
    other = "f" * 40
    project.file().with_name("ffffffff-env.json").write_text(
        json.dumps({**file, "commit_hash": other})
    )
    assert latest_commit(project.load().records) == other


@pytest.mark.parametrize(
    ("cells", "code"),
    [
        ([], 3),
        ([("skipped", None)], 3),
        ([("failed", None), ("skipped", None)], 2),
        ([("ok", 0.1), ("skipped", None)], 0),
        ([("ok", 0.1), ("failed", None)], 2),
        ([("failed", 0.1)], 2),  # only a stage of it has failed
        ([("ok", 0.1), ("wrong", 0.1)], 2),
    ],
)
def test_exit_codes(cells, code):
    rows = [
        results.Row(
            "m", COMMIT, "e", "w", "t", Status(status), time_s, None, None, None, {}, "", ()
        )
        for status, time_s in cells
    ]
    assert exit_code(rows) == code


def test_json_has_every_row_and_the_problems(project):
    measure(project)
    skip(project, "cupy@gpu:0")
    document = json.loads(json.dumps(to_dict(project.rows(), ["a torn line"]), allow_nan=False))
    assert document["problems"] == ["a torn line"]
    assert {row["target"] for row in document["rows"]} == set(TARGETS)
    assert document["rows"][0]["status"] == "ok"


# -- Text -----------------------------------------------------------------------------------------


def test_the_table_has_time_rate_error_and_status(project):
    measure(project)
    text = render(project.rows())
    (line,) = [line for line in text.splitlines() if "net.conv" in line]
    assert " ".join(line.split()) == "net.conv numpy@cpu 3.00 ± 1.00 ms 2.00 0.500 ok"
    assert f"here, commit {COMMIT[:8]}, env" in text


def test_an_absent_target_is_named_once_and_not_in_the_table(project):
    measure(project)
    skip(project, "cupy@gpu:0")
    lines = [line.rstrip() for line in render(project.rows()).splitlines()]
    assert [line for line in lines if "cupy" in line] == ["skipped cupy@gpu:0"]
    i = lines.index("skipped cupy@gpu:0")
    assert lines[i + 1 : i + 3] == ["    no device: none here", "    Buy one."]


def test_a_reason_stands_once_with_all_its_cells(project):
    for target in TARGETS:
        measure(project, target, "net.pool")
        project.note(TIME, [target, "net.conv"], "skipped", reason="a hole")
    project.note(ACCURACY, ["numpy@cpu", "net.conv"], "skipped", reason="a hole")
    lines = [line.rstrip() for line in render(project.rows()).splitlines()]
    assert lines.count("    a hole") == 1
    assert "skipped numpy@cpu on net.conv; cupy@gpu:0 on net.conv" in lines


def test_a_reason_of_a_stage_names_the_stage(project):
    measure(project)
    project.add(STAGE, [None, *[NAN] * 3], extra=[["pool"]])
    assert "failed numpy@cpu on net.conv (stage pool)" in render(project.rows())


def test_wrong_cells_are_red(project):
    measure(project, error=3.0)
    text = render(project.rows(), color=True)
    assert "\x1b[1;31m" in text
    assert "\x1b[" not in render(project.rows())


@pytest.mark.parametrize("width", [60, 80, 140, 180])
def test_a_terminal_gets_lines_that_fit_and_whole_names(width):
    workload = "some_very_long_network_v2.some_very_long_layer_3x3b"
    row = results.Row(
        "m", COMMIT, "e", workload, "tensorflow.xla@gpu:0", Status.OK,
        1.234e-3, (1.2e-3, 1.3e-3), 123.4, 0.5, {"conv": 1e-3, "bias": 1e-4, "pool": 1e-5}, "", (),
    )  # fmt: skip
    lines = render([row], width=width).splitlines()
    assert max(map(len, lines)) <= width
    (header,) = [line for line in lines if "workload" in line]
    assert ("conv alone" in header) == (width == 180)
    names = slice(header.index("workload"), header.index("target"))
    assert "".join(line[names].strip() for line in lines[lines.index(header) + 2 :]) == workload
    assert "1.23 ± 0.05 ms" in "".join(lines)


def test_a_pipe_gets_whole_lines():
    name = "w" * 200
    row = results.Row("m", COMMIT, "e", name, "t", Status.OK, 1.0, None, 1.0, 0.5, {}, "", ())
    assert f"{name} t 1.00 s" in " ".join(render([row]).split())


def test_several_commits_have_a_table_each(project):
    project.add(TIME, [0.1] * 4)
    project.add(TIME, [0.1] * 4, commit="f" * 40)
    text = render(project.rows())
    assert "commit 01234567" in text
    assert "commit ffffffff" in text


def test_nothing_measured_is_an_empty_text():
    assert render([]) == ""


def test_importing_it_is_cheap_and_loads_no_backend():
    code = "import sys, convbench.results; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"asv", "numpy", "pandas", "rich", "tensorflow", "cupy"}
    assert not [name for name in loaded if name.startswith("convbench.backends")]
