"""Rows: what records are summed up to, what is derived from them, and the tables."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from convbench.results.ceilings import Ceiling, find_ceilings
from convbench.results.records import Record
from convbench.results.rows import Row, exit_code, summarise, to_dict
from convbench.results.rows import render as laid_out
from convbench.words.status import Status

from ..terminal import drawn
from .test_records import (
    ACCURACY,
    COMMIT,
    NAN,
    SAMPLES,
    STAGE,
    TARGETS,
    TIME,
    WORKLOADS,
    Project,
)


def render(rows, **terminal):
    """What is shown of rows."""
    return drawn(laid_out(rows), **terminal)


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


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
    assert row.time_s == 0.003
    assert row.gflops == pytest.approx(6e6 / 0.003 / 1e9)
    assert row.error_over_bound == 0.5
    assert row.stages_s == {"conv": 0.002, "pool": 0.001}
    assert row.algorithm == "im2col"
    assert row.outcomes == ()


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
    assert [(part, of.reason) for part, of in row.outcomes] == [("stage pool", "no memory")]


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
        Row("m", COMMIT, "e", "w", "t", Status(status), time_s=time_s) for status, time_s in cells
    ]
    assert exit_code(rows) == code


def test_json_has_every_row_and_the_problems(project):
    measure(project)
    skip(project, "cupy@gpu:0")
    document = json.loads(json.dumps(to_dict(project.rows(), ["a torn line"]), allow_nan=False))
    assert document["problems"] == ["a torn line"]
    assert {row["target"] for row in document["rows"]} == set(TARGETS)
    assert document["rows"][0]["status"] == "ok"


# -- The roofline ---------------------------------------------------------------------------------

GEMM, COPY, CACHED = "ceiling.gemm", "ceiling.copy", "ceiling.copy_cached"


def record(suite, workload, processes, **facts):
    machine = {"logical_cores": 2, "last_level_cache_bytes": 1000}
    return Record(
        "m", COMMIT, "e", 0.0, 0.0, f"bench_{suite}.Smoke.track_time", "1", "time", "numpy@cpu",
        workload, "", Status.OK, processes[0], processes=processes,
        facts={"machine": machine, "fastest_s": min(processes), **facts},
    )  # fmt: skip


CEILINGS = [
    record("ceiling", GEMM, (1.0, 0.5), flops=50e9),
    record("ceiling", COPY, (1.0, 2.0), bytes=10e9),
    record("ceiling", CACHED, (1e-8, 2e-8), bytes=400),
]


def test_ceilings_are_of_the_fastest_sample():
    (ceiling,) = find_ceilings(CEILINGS).values()
    # What fits a core's cache is copied by every core at that rate.
    assert ceiling == Ceiling(100.0, 10.0, pytest.approx(80.0), 1000)


@pytest.mark.parametrize("known", [[COPY, CACHED], [CACHED]], ids=["both copies", "the cached one"])
def test_on_a_card_a_copy_within_the_cache_is_no_ceiling(known):
    """It takes as long as to ask for it. On an H200: 28 GB/s, where memory does 4000."""
    found = [replace(each, target="cupy@gpu:0") for each in CEILINGS if each.workload in known]
    layer = replace(
        record("pipeline", "net.conv", (1e-8,), flops=1.0, bytes=150), target="cupy@gpu:0"
    )
    row = next(r for r in summarise([*found, layer]) if r.workload == "net.conv")
    assert row.status is Status.OK
    (ceiling,) = find_ceilings(found).values()
    assert ceiling.bandwidth(150) == (10.0 if COPY in known else 0.0)


@pytest.mark.parametrize(
    ("flops", "size_bytes", "attainable"),
    [
        (1e9, 1e6, 100.0),  # arithmetic: 1000 operations a byte
        (1e6, 1e6, 10.0),  # memory: 1 operation a byte at 10 GB/s
        (500, 500, 80.0),  # the same from the caches
    ],
)
def test_the_roofline(flops, size_bytes, attainable):
    (ceiling,) = find_ceilings(CEILINGS).values()
    assert ceiling.attainable_gflops(flops, size_bytes) == pytest.approx(attainable)
    layer = record("pipeline", "net.conv", (1.0,), flops=flops, bytes=size_bytes)
    row = next(r for r in summarise([*CEILINGS, layer]) if r.workload == "net.conv")
    assert row.of_roofline == pytest.approx(flops / 1e9 / attainable)


@pytest.mark.parametrize(
    ("flops", "size_bytes", "time_s", "reason"),
    [
        (105e9, 1e6, 1.0, None),  # above by less than noise
        (120e9, 1e6, 1.0, "120 GFLOP/s are more than the 100"),
        (1.0, 19e9, 1.0, None),
        (1.0, 25e9, 1.0, "25 GB/s are more than 2 times the 10"),
    ],
)
def test_what_no_device_can_do_is_invalid(flops, size_bytes, time_s, reason):
    layer = record("pipeline", "net.conv", (time_s,), flops=flops, bytes=size_bytes)
    rows = summarise([*CEILINGS, layer])
    row = next(r for r in rows if r.workload == "net.conv")
    assert row.status is (Status.INVALID if reason else Status.OK)
    assert exit_code(rows) == (2 if reason else 0)
    assert not reason or reason in row.outcomes[0][1].reason


@pytest.mark.parametrize(
    ("saves", "status"),
    [(4.0, Status.OK), (2.25, Status.INVALID), (1e9, Status.OK), (-4.0, Status.INVALID)],
)
def test_what_a_scheme_saves_counts_as_far_as_one_can_save(saves, status):
    """By its receipt, which the judge has written; no scheme that is known saves more than 4."""
    how = {"flops": 330e9, "bytes": 1.0, "receipt": {"saves": saves}}
    rows = summarise([*CEILINGS, record("pipeline", "net.conv", (1.0,), **how)])
    assert next(r for r in rows if r.workload == "net.conv").status is status
    more = record("pipeline", "net.conv", (1.0,), **{**how, "flops": 500e9})
    rows = summarise([*CEILINGS, more])
    assert next(r for r in rows if r.workload == "net.conv").status is Status.INVALID


def test_a_copy_has_its_gigabytes_per_second():
    copy, layer = CEILINGS[1], record("pipeline", "net.conv", (1.0,), flops=1e9, bytes=2e9)
    rows = {row.workload: row for row in summarise([copy, layer])}
    assert rows[COPY].gb_per_s == pytest.approx(10.0)
    assert rows["net.conv"].gb_per_s == pytest.approx(2.0)
    assert "GB/s" in render([rows[COPY]])
    assert "GB/s" not in render([rows["net.conv"]])


def test_without_ceilings_there_is_no_share():
    (row,) = summarise([record("pipeline", "net.conv", (1.0,), flops=1e12, bytes=1)])
    assert (row.status, row.of_roofline, row.gflops) == (Status.OK, None, 1000.0)


def test_the_spread_is_that_between_processes():
    (row,) = summarise([record("pipeline", "net.conv", (1.0, 1.1, 0.9, 1.0, 1.0))])
    assert row.spread == pytest.approx(0.1)
    assert "10 %" in render([row])
    assert summarise([record("pipeline", "net.conv", (1.0,))])[0].spread is None


def test_cold_caches_are_a_column_and_other_suites_have_tables_of_their_own():
    warm = record("pipeline", "net.conv", (1.0,))
    cold = record("cold", "net.conv", (2.0,))
    sent = replace(record("transfer", "transfer.1mb", (3.0,)), stage="to_device")
    rows = summarise([warm, cold, sent])
    assert [(row.suite, row.time_s, row.cold_s) for row in rows] == [
        ("layers", 1.0, 2.0),
        ("transfer", None, None),
    ]
    assert rows[1].stages_s == {"to_device": 3.0}
    assert not math.isnan(rows[0].time_s)


# -- Text -----------------------------------------------------------------------------------------


def test_the_table_has_time_rate_error_and_status(project):
    measure(project)
    text = render(project.rows())
    (line,) = [line for line in text.splitlines() if "net.conv" in line]
    assert " ".join(line.split()) == "net.conv numpy@cpu 3.00 ms claim 2.00 0.500 ok"
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
    row = Row(
        "m", COMMIT, "e", workload, "tensorflow.xla@gpu:0", Status.OK,
        time_s=1.234e-3, spread=0.05, gflops=123.4, error_over_bound=0.5,
        stages_s={"conv": 1e-3, "bias": 1e-4, "pool": 1e-5},
    )  # fmt: skip
    lines = render([row], width=width).splitlines()
    assert max(map(len, lines)) <= width
    (header,) = [line for line in lines if "workload" in line]
    assert ("conv alone" in header) == (width == 180)
    names = slice(header.index("workload"), header.index("target"))
    assert "".join(line[names].strip() for line in lines[lines.index(header) + 2 :]) == workload
    assert "1.23 ms" in "".join(lines)


def test_a_pipe_gets_whole_lines():
    name = "w" * 200
    row = Row("m", COMMIT, "e", name, "t", Status.OK, time_s=1.0)
    assert f"{name} t 1.00 s" in " ".join(render([row]).split())


def test_several_commits_have_a_table_each(project):
    project.add(TIME, [0.1] * 4)
    project.add(TIME, [0.1] * 4, commit="f" * 40)
    text = render(project.rows())
    assert "commit 01234567" in text
    assert "commit ffffffff" in text


def test_nothing_measured_is_an_empty_text():
    assert render([]) == ""
