"""What each section says, and what it says where there is nothing to say."""

from __future__ import annotations

import math
import re
import shlex
import sys
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from convbench.comparing.comparison import Rule
from convbench.comparing.judge import against, compare
from convbench.comparing.markdown import markdown
from convbench.report import (
    backends,
    correctness,
    gates,
    history,
    machines,
    missing,
    page,
    roofline,
    stages,
    sweep,
    timings,
    verdict,
)
from convbench.report.parts import Absent, Chart, Facts, Nothing, Section, Table, TableCell, Text
from convbench.report.site import side_by_side
from convbench.results.history import Series
from convbench.results.journal import centre
from convbench.results.records import load as records_of
from convbench.results.sessions import Health
from convbench.words.numbers import duration
from convbench.words.status import Status

from ..gates import gated_cell, load_gates, store_gate
from ..records import BASE, HEAD, WORKLOAD, checked, record, side, timed
from ..results.test_records import NAN, Project
from .factories import COMMITS, TARGETS, everything, make, past, suite

OTHER = {"target": "tensorflow@cpu"}


def said(parts, data):
    """A section by itself."""
    return Section("anchor", "Title", tuple(parts(data)))


def words(section):
    """All that is said outside of tables and charts, or why there is nothing to say."""
    return " ".join(part.text for part in section.parts if isinstance(part, Text | Nothing))


def facts(section):
    """Names and what they are."""
    return {name: cell for p in section.parts if isinstance(p, Facts) for name, cell in p.pairs}


def table(section, start=""):
    """The header and the rows of the one table whose title starts like this, as text."""
    (found,) = (p for p in section.parts if isinstance(p, Table) and p.title.startswith(start))
    return [dict(zip(found.header, map(str, row), strict=True)) for row in found.rows]


def tones(section):
    return {cell.text: cell.tone for p in section.parts if isinstance(p, Table)
            for row in p.rows for cell in row if cell.tone}  # fmt: skip


def rows_of(chart):
    return chart.spec["datasets"]["rows"]


# -- Everything and nothing ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        make(),
        make(timed(HEAD)),
        make(checked(HEAD, error=7.0)),
        make(record(HEAD, status=Status.FAILED, reason="no memory")),
        make(record(HEAD, status=Status.SKIPPED, reason="no device")),
        make(timed(HEAD, processes=1), base=[timed(BASE, processes=1)]),
        make(timed(HEAD), base=[timed(BASE, workload="another")]),
        make(timed(HEAD, seconds=0.0, processes=1), base=[timed(BASE)]),
        make(timed(HEAD), history=past({"w": [np.nan] * 10})),
        everything(),
    ],
    ids=["nothing", "one", "wrong", "failed", "skipped", "one process", "unlike", "zero",
         "empty history", "everything"],
)  # fmt: skip
def test_no_section_is_an_empty_box(data):
    sections = page.sections(data)
    assert [section.id for section in sections if section.id == "absent"] == ["absent"] * any(
        isinstance(part, Absent) for section in sections for part in section.parts
    )
    for section in sections:
        assert section.parts
        for part in section.parts:
            match part:
                case Text():
                    assert part.text
                case Absent():
                    assert part.items
                case Facts():
                    assert part.pairs
                case Table():
                    assert part.rows
                case Chart():
                    assert rows_of(part)


def test_everything_that_was_measured_has_a_picture():
    charts = [chart.id for section in page.sections(everything()) for chart in section.charts]
    assert len(charts) == len(set(charts))
    assert [name for name in charts if not name.startswith("history")] == [
        "correctness", "timings", "backends", "sweep-hw", "sweep-c", "roofline-cpu", "stages",
        "cold", "first-call", "memory",
    ]  # fmt: skip
    assert "history-1" in charts


def test_every_picture_has_words_for_who_does_not_see_it_and_a_table_behind_it():
    for section in page.sections(everything()):
        kinds = [part.part for part in section.parts]
        for chart in section.charts:
            assert len(chart.alt) > 20
        if "chart" in kinds:
            assert "table" in kinds[kinds.index("chart") :]


# -- Gates ----------------------------------------------------------------------------------------


def test_what_was_measured_side_by_side_is_marked_and_explained(tmp_path):
    store_gate(tmp_path / "results", gated_cell(1.1))
    records = [[timed(c, spread=0.3), timed(c, spread=0.3, workload="w")] for c in (BASE, HEAD)]
    sides = (side(*some) for some in records)
    comparison = compare(*sides, gates=load_gates(tmp_path / "results").gates)
    data = replace(make(*records[1], base=records[0]), comparison=comparison)
    (rows,) = (p.rows for p in said(timings.parts, data).parts if isinstance(p, Table))
    cells = [cell for row in rows for cell in row if cell.text in {"held, side by side", "claim"}]
    marks = [(cell.text, "took turns on one core" in cell.title) for cell in cells]
    assert marks == [("held, side by side", True), ("claim", False)]
    told = words(said(verdict.parts, data))
    assert "1 cell measured side by side (2001-09-09 01:46)" in told
    command = facts(said(verdict.parts, data))["gate it"].command
    assert command.startswith("convbench gate 00000000 ffffffff --base-env=env")
    assert 'title="&#39;side by side&#39; is measured' in page.to_html(data, page.sections(data))


# -- Verdict ---------------------------------------------------------------------------------------


def test_the_verdict_says_what_became_wrong_and_slower_first():
    section = said(verdict.parts, everything())
    assert words(section).startswith("WRONG AND FAILED: 1 wrong, ")
    first = table(section, "What to look at first")
    assert first[0]["verdict"] == "wrong"
    assert "7.5 times its bound" in first[0]["why"]
    assert tones(section)["regressed"] == "bad"


def test_without_a_base_the_verdict_is_of_the_head_alone():
    section = said(verdict.parts, make(timed(HEAD), checked(HEAD, error=7.0)))
    assert words(section).startswith("WRONG: 1 wrong, of 1 rows")
    (row,) = table(section, "What to look at first")
    assert (row["status"], row["workload"]) == ("wrong", "net.conv")


def test_what_cannot_be_true_is_said_although_nothing_is_slower():
    def ceiling(commit):
        return timed(
            commit,
            workload="ceiling.gemm",
            benchmark=suite("ceiling"),
            facts={"flops": 1e6, "fastest_s": 1e-3},
        )

    fast = {"facts": {"flops": 1e9}}
    data = make(timed(HEAD, **fast), ceiling(HEAD), base=[timed(BASE, **fast), ceiling(BASE)])
    assert data.comparison.exit_code() == 0
    assert data.exit_code() == 2
    section = said(verdict.parts, data)
    assert "1 of head cannot be true" in words(section)
    (row,) = table(section, "What cannot be true")
    assert (row["workload"], row["status"]) == ("net.conv", "invalid")
    assert "why" in row


def fast_and_right(**fields):
    return make(
        timed(HEAD, 4e-3), timed(HEAD, 1e-3, **OTHER), checked(HEAD, 0.5),
        checked(HEAD, 0.2, **OTHER),
        timed(HEAD, 1e-3, workload="two"), timed(HEAD, 1.001e-3, workload="two", **OTHER), **fields,
    )  # fmt: skip


def test_the_first_screen_says_who_is_fastest_by_how_much_and_how_sure_that_is():
    section = said(verdict.parts, fast_and_right())
    one, two = table(section, "Fastest target")
    assert (one["workload"], one["fastest"], one["time"]) == (
        "net.conv", "tensorflow@cpu", "1.00 ms",
    )  # fmt: skip
    assert one["times as fast as the next"] == "4.00x"
    # By hand: both logarithms have the deviation 0.01 over 5 processes, so that the error is
    # 0.01 sqrt(2 / 5) with 8 degrees of freedom, whose quantile of 97.5 % is 2.306.
    half = 2.306 * 0.01 * math.sqrt(2 / 5)
    assert one["interval"] == f"{4 * math.exp(-half):.2f}x to {4 * math.exp(half):.2f}x"
    assert (two["fastest"], two["times as fast as the next"]) == ("numpy@cpu", "1.00x")
    assert tones(section)["1.00x"] == "care"  # it has 1 in its interval
    numpy, tensorflow = table(section, "Targets")
    assert (numpy["fastest on"], tensorflow["fastest on"]) == ("1 of 2", "1 of 2")
    assert tensorflow["mean"] == "2.00x"  # sqrt(4 * 1 / 1.001)
    assert tensorflow["in total"] == "2.50x"  # (4 + 1) / (1 + 1.001) ms
    assert (tensorflow["right"], tensorflow["worst error / bound"]) == ("1 of 1", "0.200")


def test_what_a_workload_computes_stands_beside_who_is_fastest():
    """So that the filter finds the layers of a kind, which their names do not tell."""
    known = {"net.conv1": "1x8x8x3 -> conv 3x3x16"}
    data = replace(everything(), pipelines=known)
    for section, start in ((verdict, "Fastest target"), (backends, "Speed-up over")):
        rows = table(said(section.parts, data), start)
        assert {r["workload"]: r["what it computes"] for r in rows} == {
            "net.conv1": "1x8x8x3 -> conv 3x3x16", "net.conv2": "", "net.pool": "",
        }  # fmt: skip
    (chart,) = said(backends.parts, data).charts
    assert {row["y"] for row in rows_of(chart) if "3x3" in str(row)} == {"net.conv1"}


def test_without_a_base_the_first_sentences_say_what_is_right_and_what_is_fastest():
    told = words(said(verdict.parts, fast_and_right()))
    assert "2 of 4 results are right, 2 of them were not checked" in told
    assert "is the fastest on 1 of 2 workloads" in told
    assert "There is no base" in told


def test_three_cells_are_shown_first_and_the_others_are_counted():
    names = [f"w{i}" for i in range(5)]
    base = [timed(BASE, workload=name) for name in names]
    head = [timed(HEAD, 2e-3, workload=name) for name in names]
    section = said(verdict.parts, make(*head, base=base))
    rows = table(section, "What to look at first: 3 of 5")
    assert {row["verdict"] for row in rows} == {"regressed"}
    assert (rows[0]["base"], rows[0]["head"], rows[0]["head / base"]) == (
        "1.00 ms", "2.00 ms", "2.000",
    )  # fmt: skip
    assert "why" not in rows[0]  # the numbers say it
    assert "at most 5 % is false" in words(section)


def test_the_receipts_the_session_and_the_machine_stand_behind_it():
    receipt = {"claims": [{"claim": "time", "verdict": "holds", "reason": ""}]}
    machine = {"cpu_model": "a CPU", "logical_cores": 2}
    records = [
        timed(
            HEAD, health=Health(2, load=1.5, stolen=0.0, cpu_mhz=2500.0),
            facts={
                "receipt": receipt, "machine": machine,
                "versions": {"numpy": "2.4", "tf32": "off"},
            },
        ),
        timed(HEAD, workload="two", health=Health(2, load=3.0, stolen=0.25)),
    ]  # fmt: skip
    known = facts(said(verdict.parts, make(*records)))
    assert known["timings"].text == "1 of 2 verified while they were taken; 1 claimed"
    assert known["session"].text == ("load up to 3.0 on 2 cores, 25 % taken by the host, 2500 MHz")
    assert known["measured on"].text == "env, vm, a CPU, 2 cores, numpy 2.4"


VERIFY = ["convbench", "verify", "--target", "numpy@cpu", "--workload", "net.conv"]
AGAIN = ["convbench", "bench", "--bench", r"bench_cold\..*\Wnumpy@cpu\W.*\Wnet\.conv\W"]


@pytest.mark.parametrize(
    ("records", "suite_of", "command"),
    [([checked(HEAD, 7.0)], "pipeline", VERIFY), ([], "accuracy", VERIFY), ([], "cold", AGAIN)],
)
def test_each_cell_has_the_command_that_repeats_it(records, suite_of, command):
    found = make(timed(HEAD), *records).command("net.conv", "numpy@cpu", suite_of)
    assert shlex.split(found) == command
    if command is AGAIN:
        called = "bench_cold.Smoke.track_time('numpy@cpu', '{}')".format
        assert re.search(command[-1], called("net.conv"))
        assert not re.search(command[-1], called("net.conv2"))


def test_the_command_of_a_compared_time_measures_both_sides():
    data = make(timed(HEAD), base=[timed(BASE)])
    assert shlex.split(data.command("net.conv", "numpy@cpu")) == [
        "convbench", "gate", BASE[:8], HEAD[:8], "--base-env=env", "--head-env=env",
        "--target", "numpy@cpu", "--workload", "net.conv",
    ]  # fmt: skip


# -- One estimator ---------------------------------------------------------------------------------


def test_the_page_the_tab_the_table_and_the_comment_have_the_same_numbers():
    """And none of them says how fast a result is that another takes for wrong or unknown."""
    targets = {
        name: {"target": f"{name}@cpu"} for name in ("fine", "wrong", "unchecked", "deviant")
    }
    skewed = (1e-3, 1.1e-3, 4e-3)  # whose mean, median and geometric mean are three numbers
    records = [
        timed(HEAD, 5e-3), checked(HEAD),
        *(
            replace(timed(HEAD, **of), processes=skewed, value=centre(skewed))
            for of in targets.values()
        ),
        checked(HEAD, **targets["fine"]), checked(HEAD, 9.0, **targets["wrong"]),
        checked(HEAD, None, status=Status.FAILED, reason="lost", **targets["unchecked"]),
        checked(HEAD, None, status=Status.DEVIATES, reason="as declared", **targets["deviant"]),
    ]  # fmt: skip
    by_hand = 5e-3 / (1e-3 * 1.1e-3 * 4e-3) ** (1 / 3)
    data = make(*records)
    (row,) = table(said(backends.parts, data), "Speed-up")
    (best,) = table(said(verdict.parts, data), "Fastest")
    (tab,) = side_by_side.sections(records, {HEAD: 1})
    cells = dict(zip(tab.targets, tab.suites[0].lines[0].cells, strict=True))
    assert {row["target"], best["fastest"]} == {"fine@cpu"}
    in_tab = cells["fine@cpu"].speed_ups["numpy@cpu"]
    assert {row["speed-up"], best["times as fast as the next"], in_tab} == {f"{by_hand:.2f}x"}
    assert all(not cells[of["target"]].speed_ups for name, of in targets.items() if name != "fine")
    # Held against a base of 5 ms, it is the same number the other way round.
    compared = make(*records, base=[timed(BASE, 5e-3, **targets["fine"])])
    rows = {row["target"]: row for row in table(said(timings.parts, compared), "Ratios")}
    assert rows["fine@cpu"]["head / base"] == f"{1 / by_hand:.3f}"
    assert f"| {1 / by_hand:.3f} (" in markdown(compared.comparison)
    shown = {data_.time_s for data_ in compared.rows if data_.target == "fine@cpu"}
    assert shown == {centre(skewed)}
    for text in (rows["fine@cpu"]["head"], best["time"], cells["fine@cpu"].time):
        assert text == duration(centre(skewed))


def test_a_workload_of_two_lists_counts_as_it_was_measured_last(tmp_path):
    project = Project(tmp_path)
    for suite_of, value, day in (("Standard", 0.5, 2), ("Smoke", 0.1, 1)):
        project.add(
            f"bench_pipeline.{suite_of}.track_time",
            [value, NAN, NAN, NAN],
            started_at=datetime(2026, 1, day, tzinfo=UTC),
        )
    found = [r for r in records_of(project.results_dir).records if r.value is not None]
    assert [r.value for r in found] == [0.5]


def test_times_that_were_gated_are_as_far_apart_as_their_ratio(tmp_path):
    logs = [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 2.0]  # the last is trimmed
    pairs = [
        {"pair": i, "fresh": False, "log_ratio": log, "base_s": 1e-3, "head_s": math.exp(log) / 1e3}
        for i, log in enumerate(logs)
    ]  # fmt: skip
    store_gate(tmp_path / "results", gated_cell(pairs=pairs))
    gates_of = load_gates(tmp_path / "results").gates
    records = [timed(HEAD)], [timed(BASE)]
    comparison = compare(side(*records[1]), side(*records[0]), gates=gates_of)
    data = replace(make(*records[0], base=records[1]), comparison=comparison, gates=gates_of)
    (cell,) = comparison.cells
    assert cell.effect.ratio == pytest.approx(math.exp(0.1))
    assert cell.head.value / cell.base.value == pytest.approx(cell.effect.ratio)
    (row,) = table(said(gates.parts, data), "Gate of ffffffff against 00000000")
    assert (row["head / base"], row["pairs"]) == ("1.105", "8")
    (shown,) = table(said(timings.parts, data), "Ratios")
    assert (shown["base"], shown["head"]) == (row["base"], row["head"])
    chart, _ = said(gates.parts, data).charts
    assert [point["y"] for point in rows_of(chart)] == pytest.approx(np.exp(logs))
    (band,) = (rows for name, rows in chart.spec["datasets"].items()
               if name != "rows" and "n" in rows[0])  # fmt: skip
    assert [look["n"] for look in band] == [4, 6, 8]
    assert band[-1]["ratio"] == pytest.approx(math.exp(0.1))


def test_the_power_of_a_gate_is_that_of_its_pairs(tmp_path):
    """By hand: 16 pairs, 2 left out at each end; a claim of 1 % takes t(11) = 3.11 errors."""
    noisy = gated_cell(spread=0.02, number=16, workload="noisy")
    store_gate(tmp_path / "results", gated_cell(spread=0.005, number=16), noisy)
    data = make(timed(HEAD), gates=load_gates(tmp_path / "results").gates)
    section = said(gates.parts, data)
    rows = {row["workload"]: row for row in table(section, "Gate of")}
    (chart,) = (chart for chart in section.charts if chart.id == "gate-power")
    curves = {}
    for row in rows_of(chart):
        curves.setdefault(row["text"].split()[0], []).append((row["x"], row["y"]))
    for name, spread in ((WORKLOAD, 0.005), ("noisy", 0.02)):
        logs = np.sort(spread * (noise := np.linspace(-1, 1, 16)) / noise.std(ddof=1))
        error = np.clip(logs, logs[2], logs[13]).std(ddof=1) / (12 / 16 * 4)
        seen = 100 * (1.005 * math.exp((3.106 + 0.876) * error) - 1)
        assert rows[name]["would have been seen"] == f"{seen:.2g} %"
        sizes, shares = zip(*curves[name], strict=True)
        assert np.interp(seen / 100, sizes, shares) == pytest.approx(0.8, abs=0.03)
        assert [*shares] == sorted(shares)
        assert shares[0] < 0.02


# -- Correctness -----------------------------------------------------------------------------------


def test_the_matrix_has_the_error_of_every_workload_on_every_target():
    data = make(
        checked(HEAD, error=0.25), checked(HEAD, error=12.0, **OTHER),
        checked(HEAD, error=None, workload="net.two", status=Status.FAILED, reason="no memory"),
    )  # fmt: skip
    (chart,) = said(correctness.parts, data).charts
    tiles = {(row["y"], row["x"]): row["text"] for row in rows_of(chart)}
    assert tiles == {
        ("net.conv", "numpy@cpu"): "0.25",
        ("net.conv", "tensorflow@cpu"): "12",
        ("net.two", "numpy@cpu"): "failed",
    }
    rows = table(said(correctness.parts, data), "Error over bound")
    assert [row["status"] for row in rows] == ["wrong", "failed", "ok"]


def test_bits_are_held_against_other_processes_and_against_the_base():
    data = make(
        timed(HEAD), checked(HEAD, digests=("aa", "aa")),
        timed(HEAD, **OTHER), checked(HEAD, digests=("aa", "bb"), **OTHER),
        base=[timed(BASE), checked(BASE, digests=("cc",)), timed(BASE, **OTHER)],
    )  # fmt: skip
    rows = {row["target"]: row for row in table(said(correctness.parts, data), "Error over bound")}
    assert rows["numpy@cpu"]["bits between processes"] == "same in 2"
    assert rows["numpy@cpu"]["bits against the base"] == "different"
    assert rows["tensorflow@cpu"]["bits between processes"] == "2 of 2 differ"
    assert rows["tensorflow@cpu"]["bits against the base"] == ""


def test_of_many_workloads_those_with_the_largest_errors_are_drawn():
    many = [checked(HEAD, error=i / 1000, workload=f"w{i}") for i in range(200)]
    (chart,) = said(correctness.parts, make(*many)).charts
    assert "60 of 200 workloads" in chart.title
    assert [row["y"] for row in rows_of(chart)] == [f"w{i}" for i in range(140, 200)]
    assert len(table(said(correctness.parts, make(*many)))) == 200


# -- Timings ---------------------------------------------------------------------------------------


def test_the_forest_has_ratio_interval_and_verdict():
    data = make(timed(HEAD, 1.3e-3), timed(HEAD, **OTHER), base=[timed(BASE), timed(BASE, **OTHER)])
    section = said(timings.parts, data)
    (chart,) = section.charts
    slow, same = rows_of(chart)
    assert slow["x"] == pytest.approx(1.3)
    assert slow["low"] < 1.3 < slow["high"]
    assert (slow["tone"], same["tone"]) == ("bad", "good")
    rows = table(section)
    assert [row["verdict"] for row in rows] == ["regressed", "equivalent"]
    assert (rows[0]["base"], rows[0]["head"]) == ("1.00 ms", "1.30 ms")
    assert rows[0]["processes"] == "5 + 5"


def test_without_intervals_there_is_no_forest_and_a_reason():
    section = said(timings.parts, make(timed(HEAD, processes=1), base=[timed(BASE, processes=1)]))
    assert section.charts == ()
    assert "two processes" in words(section)
    assert table(section)[0]["verdict"] == "undecided"


def test_without_a_base_the_times_of_the_head_are_shown():
    (row,) = table(said(timings.parts, make(timed(HEAD, 2e-3))))
    assert (row["workload"], row["time"], row["processes"]) == ("net.conv", "2.00 ms", "5")


# -- Backends --------------------------------------------------------------------------------------


def test_the_speed_up_is_over_the_baseline():
    data = make(
        timed(HEAD, 4e-3), timed(HEAD, 1e-3, **OTHER),
        timed(HEAD, 1e-3, workload="two"), timed(HEAD, 4e-3, workload="two", **OTHER),
    )  # fmt: skip
    section = said(backends.parts, data)
    rows = {row["workload"]: row for row in table(section, "Speed-up")}
    assert (rows["net.conv"]["speed-up"], rows["two"]["speed-up"]) == ("4.00x", "0.250x")
    (chart,) = section.charts
    fast, slow = (row["color"] for row in rows_of(chart))
    assert fast != slow
    other = said(backends.parts, make(*data.head.records, baseline="tensorflow@cpu"))
    assert {row["workload"]: row["speed-up"] for row in table(other, "Speed-up")} == {
        "net.conv": "0.250x", "two": "4.00x",
    }  # fmt: skip


def test_the_time_of_a_wrong_result_is_no_speed_up():
    data = make(
        timed(HEAD, 4e-3), timed(HEAD, 1e-3, **OTHER), timed(HEAD, 1e-3, target="third@cpu"),
        checked(HEAD, error=9.0, **OTHER),
    )  # fmt: skip
    section = said(backends.parts, data)
    assert [row["target"] for row in table(section, "Speed-up")] == ["third@cpu"]
    assert {row["x"]: row["text"] for row in rows_of(section.charts[0])} == {
        "tensorflow@cpu": "wrong", "third@cpu": "4x",
    }  # fmt: skip
    assert "left out" in words(section)


# -- Sweep -----------------------------------------------------------------------------------------


def curve(target, *seconds, axis="hw"):
    sizes = (8, 16, 32, 64)
    return [
        timed(HEAD, s, workload=f"sweep.{axis}_{size}", target=target, benchmark=suite("sweep"))
        for size, s in zip(sizes, seconds, strict=False)
    ]


def test_a_crossover_is_between_sizes_at_which_the_order_is_sure():
    data = make(*curve("a@cpu", 1.0, 2.0, 4.0, 8.0), *curve("b@cpu", 3.0, 2.0, 2.5, 3.0))
    section = said(sweep.parts, data)
    assert table(section, "Crossovers") == [
        {"faster first": "a@cpu", "up to hw": "8", "faster then": "b@cpu", "from hw": "32"}
    ]
    rows = table(section, "Times")
    assert (rows[0]["hw"], rows[0]["fastest"]) == ("8", "a@cpu")
    assert "1 crossover." in section.charts[0].alt


def test_curves_that_never_cross_are_said_not_to():
    data = make(*curve("a@cpu", 1.0, 2.0), *curve("b@cpu", 3.0, 4.0), *curve("a@cpu", 1, axis="c"))
    section = said(sweep.parts, data)
    assert words(section).count("no target surely overtakes another") == 2
    assert [chart.id for chart in section.charts] == ["sweep-hw", "sweep-c"]


# -- Roofline --------------------------------------------------------------------------------------


def test_results_stand_under_the_roof_of_their_device():
    section = said(roofline.parts, everything())
    (chart,) = section.charts
    assert chart.id == "roofline-cpu"
    (roof,) = (rows for name, rows in chart.spec["datasets"].items() if name != "rows")
    peak = max(corner["y"] for corner in roof)
    assert peak == pytest.approx(2e9 / 0.01 / 1e9, rel=0.1)
    row = next(row for row in table(section) if row["workload"] == "net.conv1")
    assert (row["operations per byte"], row["GFLOP/s"]) == ("30.0", "46.2")


def test_without_ceilings_there_is_no_roof():
    section = said(roofline.parts, make(timed(HEAD, facts={"flops": 1e9, "bytes": 1e6})))
    assert section.charts == ()
    assert "suite ceiling has no result of this commit on cpu" in words(section)
    assert "numbers of operations" in words(said(roofline.parts, make(timed(HEAD))))


# -- History ---------------------------------------------------------------------------------------

FLAT = [1.0, 1.01, 0.99, 1.0, 1.01, 0.99, 1.0, 1.01, 0.99, 1.0]
STEP = [1.0, 1.01, 0.99, 1.0, 1.01, 1.5, 1.51, 1.49, 1.5, 1.51]


def history_of(data):
    return said(history.parts, data)


def of_history(rows, **fields):
    return history_of(make(timed(HEAD), history=past(rows, **fields)))


def test_a_step_is_named_with_its_commit():
    data = make(
        timed(HEAD), history=past({"flat": FLAT, "step": STEP}),
        subjects={COMMITS[5]: "Slow it down"},
    )  # fmt: skip
    section = said(history.parts, data)
    (row,) = table(section, "Steps of more than 5 %")
    assert (row["workload"], row["after / before"]) == ("step", "1.499")
    assert row["first seen at"] == f"{COMMITS[5][:8]} Slow it down"
    assert row["last before"] == COMMITS[4][:8]
    # By hand: of five commits each the logarithms deviate by 0.0084 and 0.0056; t of 7 degrees is
    # 2.37, so that the ratio is known to 1.06 %.
    assert row["interval"] == "1.483 to 1.515"
    assert "which it was" not in row  # git does not know these commits
    first, second = section.charts
    assert (first.title, second.title) == ("step on numpy@cpu", "flat on numpy@cpu")
    assert "1 step." in first.alt


@pytest.mark.parametrize(
    ("number", "benchmark", "environment", "said", "command"),
    [
        (1, suite("pipeline"), "existing-py_x", "this commit",
         "convbench gate {good} {bad} --target numpy@cpu --workload step --delta 22"),
        (9, suite("pipeline"), "existing-py_x", "one of 9 commits",
         "git bisect start --no-checkout {bad} {good} && git bisect run convbench gate {good}"
         " BISECT_HEAD --target numpy@cpu --workload step --delta 22 --bisect; git bisect reset"),
        (9, suite("one_core"), "py3.12", "one of 9 commits",
         "git bisect start --no-checkout {bad} {good} && git bisect run convbench gate {good}"
         " BISECT_HEAD --target numpy@cpu --workload step --delta 22 --base-env=py3.12"
         " --head-env=py3.12 --bisect; git bisect reset"),
        (9, suite("cold"), "existing-py_x", "one of 9 commits", ""),
        (0, suite("pipeline"), "existing-py_x", "", ""),
    ],
)  # fmt: skip
def test_a_step_has_the_command_that_finds_its_commit(
    number, benchmark, environment, said, command
):
    known = {"machine": "vm", "environment": environment, "benchmark": benchmark}
    data = make(
        timed(HEAD), history=past({"step": STEP}, **known),
        apart=lambda *commits: number if commits == (COMMITS[4], COMMITS[5]) else 0,
    )  # fmt: skip
    section = history_of(replace(data, head=replace(data.head, environment=environment)))
    (steps,) = (p for p in section.parts if isinstance(p, Table) and p.title.startswith("Steps"))
    (cell,) = [row[-2] for row in steps.rows] if said else [TableCell("")]
    good, bad = COMMITS[4][:8], COMMITS[5][:8]
    assert (cell.text, cell.command) == (said, command.format(good=good, bad=bad))


def test_what_became_faster_needs_no_culprit():
    data = make(timed(HEAD), history=past({"step": STEP[::-1]}), apart=lambda *_: 9)
    (steps,) = (p for p in history_of(data).parts if getattr(p, "title", "").startswith("Steps"))
    assert (steps.rows[0][2].text, steps.rows[0][-2].command) == ("0.667", "")


def test_each_series_is_held_against_its_best_level():
    rows = {"step": STEP, "flat": FLAT, "mended": STEP[5:] + STEP[:5]}
    found = {row["workload"]: row for row in table(of_history(rows), "Series")}
    assert {name: row["last / best level"] for name, row in found.items()} == {
        "step": "1.499", "flat": "1", "mended": "1",
    }  # fmt: skip
    assert found["step"]["interval"].startswith("1.48")
    assert found["flat"]["interval"] == ""


def test_the_head_is_held_against_the_best_and_a_pinned_commit():
    head, slow, fast = side(timed(HEAD, 1e-3)), timed("1" * 40, 2e-3), timed("2" * 40, 0.8e-3)
    base = side(timed(BASE, 1e-3), commit=BASE)
    references = [side(record, commit=record.commit) for record in (slow, fast)]
    for asked, title in (
        ("best", "the best of its ancestors (2 commits)"),
        ("v1", "v1 (2 commits)"),
    ):
        held = against(asked, head, references, Rule())
        data = make(timed(HEAD, 1e-3), base=[timed(BASE, 1e-3)], history=past({"flat": FLAT}))
        data = replace(data, comparison=replace(compare(base, head), against=held))
        (row,) = table(history_of(data), f"The head against {title}: 1 of 1 slower")
        assert (row["head / that"], row["verdict"]) == ("1.250", "regressed")
        assert row["that commit"] == "22222222"
        alone = history_of(replace(data, history=past({})))
        assert table(alone) == [row]
        assert f"Against {asked} (2 commits): 1 of 1 cells slower; see the history." in words(
            said(verdict.parts, data)
        )


def test_without_asv_no_steps_are_looked_for_and_that_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "asv.step_detect", None)
    section = of_history({"step": STEP})
    assert "asv, which finds them, is not installed" in words(section)
    assert len(section.charts) == 1


def test_what_was_measured_elsewhere_is_no_history_of_this():
    for elsewhere in ({"machine": "another"}, {"environment": "another"}):
        assert "fewer than two commits" in words(of_history({"step": STEP}, **elsewhere))


WRONG = Series("vm", "env", suite("accuracy"), "1", "accuracy", TARGETS[0], "step")


def test_a_wrong_commit_is_marked_and_named_and_never_faster():
    """Correctness comes before speed: the time of a wrong output makes no step, up or down."""
    fast = [1.0, 1.01, 0.99, 0.5, 0.51, 0.5, 1.0, 1.01, 0.99, 1.0]
    errors = [0.5] * 3 + [2.0, 3.0, 4.0] + [0.5] * 4
    right = of_history({"step": fast})
    assert {row["after / before"] for row in table(right, "Steps")} == {"0.503", "1.987"}
    section = of_history({"step": fast, WRONG: errors})
    assert all(not p.rows for p in section.parts if getattr(p, "title", "").startswith("Steps"))
    assert "good" not in tones(section).values()
    assert [row["tone"] for row in rows_of(section.charts[0])] == [
        "bad" if error > 1 else "none" for error in errors
    ]
    rows = table(section, "Commits with a wrong output")
    assert [(row["commit"], row["error / bound"]) for row in rows] == [
        (COMMITS[i][:8], f"{errors[i]:.2f}") for i in (3, 4, 5)
    ]
    (series,) = table(section, "Series")
    assert series["lowest"] == "990 ms"


def test_commits_are_named_on_the_axis_and_lead_to_where_they_can_be_read():
    data = make(timed(HEAD), history=past({"step": STEP}), commit_url="https://example.org/c/")
    section = said(history.parts, data)
    (chart,) = section.charts
    axes = [layer["encoding"]["x"].get("axis", {}) for layer in chart.spec["layer"]]
    (labels,) = (axis["labelExpr"] for axis in axes if "labelExpr" in axis)
    assert COMMITS[-1][:8] in labels
    assert {row["link"] for row in rows_of(chart)} == {
        f"https://example.org/c/{commit}" for commit in COMMITS
    }
    (steps,) = (p for p in section.parts if isinstance(p, Table) and p.title.startswith("Steps"))
    assert f"https://example.org/c/{COMMITS[5]}" in {c.link for row in steps.rows for c in row}
    assert 'href="https://example.org/c/' in page.to_html(data, page.sections(data))


def test_a_long_history_is_thinned_and_says_so():
    commits = [f"{i:040x}" for i in range(1000)]
    rows = {f"w{i}": np.where(np.arange(1000) < 500, 1.0, 1.0 + i / 50) for i in range(60)}
    section = of_history(rows, commits=commits)
    assert len(section.charts) == history.MOST_CHARTS
    assert len(rows_of(section.charts[0])) == 334
    assert section.charts[0].title == "w59 on numpy@cpu"
    searched = history.MOST_SEARCHED // 1000
    assert len(table(section, f"Steps of more than 5 %, in {searched} of 60")) == searched
    assert "other 48 series" in words(section)


def test_a_series_with_gaps_keeps_its_places():
    section = of_history({"gaps": [1.0, np.nan, np.nan, 1.0, *[np.nan] * 5, 2.0]})
    assert [row.get("x") for row in rows_of(section.charts[0])] == [0, 1, 2]
    assert table(section, "Series")[0]["commits"] == "3"


def test_memory_and_stages_are_told_apart():
    where = ("vm", "env")
    rows = {
        Series(*where, suite("memory", "track_peak_bytes"), "1", "memory", "a@cpu", "w"): [1e6]
        * 10,
        Series(*where, suite("stages"), "1", "time", "a@cpu", "w", "conv"): FLAT,
        Series(*where, suite("cold"), "1", "time", "a@cpu", "w"): FLAT,
        Series(*where, suite("sweep"), "1", "time", "a@cpu", "sweep.hw_8"): FLAT,
    }
    found = {(row["workload"], row["first"]) for row in table(of_history(rows), "Series")}
    assert found == {("w (memory)", "1.00 MB"), ("w conv", "1.00 s"), ("w (cold)", "1.00 s"),
                     ("sweep.hw_8", "1.00 s")}  # fmt: skip


# -- The rest --------------------------------------------------------------------------------------


def test_stages_and_the_rest_have_numbers():
    section = said(stages.parts, everything())
    row = next(row for row in table(section, "Stages alone") if row["workload"] == "net.conv1")
    assert (row["conv"], row["pool"], row["sum"]) == ("1.04 ms", "130 µs", "1.17 ms")
    assert table(section, "Cold caches")[0]["cold / hot"] == "1.50x"
    assert table(section, "What has to be")[0]["import"] == "2.00 s"
    assert table(section, "Transfers")[0]["GB/s"] == "10.5"
    assert table(section, "Memory")[0]["peak"] == "3.00 MB"


def test_nothing_is_copied_in_no_time():
    fields = {"benchmark": suite("transfer"), "stage": "to_numpy", "facts": {"bytes": 1 << 26}}
    section = said(stages.parts, make(timed(HEAD, 6e-8, **fields)))
    assert table(section, "Transfers")[0]["GB/s"] == "no copy"


def test_machines_lists_every_place_and_the_heads_versions():
    section = said(machines.parts, everything())
    (row,) = table(section, "Where")
    assert (row["machine"], row["commits"], row["known to asv"]) == ("vm", "10", "cpu a CPU")
    versions = {row["library or setting"]: row for row in table(section, "Versions")}
    assert versions["numpy"]["value"] in {"2.4", "2.5"}


def test_changes_are_those_of_the_comparison():
    (row,) = table(said(machines.changes, everything()))
    assert (row["what"], row["base"], row["head"]) == ("numpy", "2.4", "2.4, 2.5")
    assert "no base" in words(said(machines.changes, make(timed(HEAD))))
    same = make(timed(HEAD), base=[timed(BASE)])
    assert "is the same" in words(said(machines.changes, same))


def test_each_reason_stands_once_with_what_to_do():
    section = said(missing.parts, everything())
    rows = table(section, "Reasons")
    assert [row["status"] for row in rows] == ["wrong", "failed", "skipped"]
    assert (rows[1]["reason"], rows[1]["what to do"]) == ("no memory", "Free it.")
    assert rows[2]["which"] == "cupy@gpu:0"
    assert table(section, "What could not be read") == [
        {"file and reason": "a/file.json: left out"}
    ]
