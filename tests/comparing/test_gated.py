"""What was measured side by side counts before what was measured apart."""

from __future__ import annotations

import json
import math
import random
import shlex
from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from scipy import stats as scipy_stats

from convbench.cli import main
from convbench.comparing import stats
from convbench.comparing.comparison import Rule, Verdict
from convbench.comparing.judge import compare
from convbench.comparing.junit import junit
from convbench.comparing.markdown import MARKDOWN_LIMIT, markdown
from convbench.comparing.pairs import LEAST_PAIRS, Monitor, State
from convbench.comparing.text import render
from convbench.words.status import Standing, Status

from ..gates import DOUBT, gated_cell, load_gates, store_gate
from ..records import BASE, HEAD, TARGET, WORKLOAD, checked, side, timed
from ..results.test_mutations import damaged_bytes
from ..terminal import drawn
from .test_judge import Checkout
from .test_judge import run as run_compare
from .test_text import NASTY, assert_inert, read_markdown

V = Verdict
NOISY = ([timed(BASE, spread=0.3)], [timed(HEAD, spread=0.3)])
"""Stored medians that decide nothing."""


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


def judged(results, base=NOISY[0], head=NOISY[1], **options):
    """Compare these records, and the gates that are stored."""
    sides = side(*base, commit=BASE), side(*head, commit=HEAD)
    return compare(*sides, gates=load_gates(results).gates, **options)


def only(results, *records, **options):
    (cell,) = judged(results, *records, **options).cells
    return cell


def by_workload(comparison):
    return {cell.workload: cell for cell in comparison.cells}


# -- Before stored medians ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factor", "spread", "verdict"),
    [
        (1.0, 0.01, V.EQUIVALENT),
        (1.1, 0.01, V.REGRESSED),
        (0.9, 0.01, V.IMPROVED),
        (1.0, 0.2, V.UNDECIDED),
    ],
)
def test_a_gate_decides_what_stored_medians_leave_open(results, factor, spread, verdict):
    assert only(results).verdict is V.UNDECIDED
    store_gate(results, gated_cell(factor, spread))
    cell = only(results)
    assert (cell.verdict, cell.pairs) == (verdict, 12)
    assert cell.reason.startswith("measured side by side in 12 pairs: ")
    assert "processes" not in cell.reason
    assert (cell.base.processes, cell.head.standing) == (12, Standing.HELD)
    assert cell.head.value / cell.base.value == pytest.approx(factor)


def test_its_interval_is_students_over_the_pairs(results):
    store_gate(results, gated_cell(1.1, 0.02, number=7))  # too few for any to be left out
    effect = only(results).effect
    low, high = scipy_stats.t.interval(0.95, 6, math.log(1.1), 0.02 / math.sqrt(7))
    assert (effect.ratio, effect.low, effect.high) == pytest.approx(
        (1.1, math.exp(low), math.exp(high))
    )
    found = stats.paired([[0.1, 0.1, 0.1], [0.2]])
    assert found.error[0] == pytest.approx(stats.LEAST_DEVIATION / math.sqrt(3))
    assert np.isnan(found.error[1])
    assert np.isnan(found.freedom[1])


def test_only_fresh_pairs_count_of_what_has_seemed_to_differ_and_was_not_confirmed(results):
    cell = gated_cell(1.1, number=16, fresh=8, state="flagged")
    for pair in cell["pairs"][8:]:
        pair["log_ratio"] = 0.001 * (-1) ** pair["pair"]
    store_gate(results, cell)
    found = only(results)
    assert (found.verdict, found.pairs) == (V.EQUIVALENT, 8)


def test_stored_medians_that_are_sure_have_no_word_either(results):
    store_gate(results, gated_cell())
    slow = [timed(HEAD, 2e-3)]
    assert only(results, [timed(BASE)], slow).verdict is V.EQUIVALENT
    assert judged(results, [timed(BASE)], slow).exit_code() == 0


def test_what_the_gate_has_not_measured_is_as_it_was(results):
    store_gate(results, gated_cell())

    def others(commit, seconds):
        return [
            timed(commit), timed(commit, seconds, workload="net.pool"),
            timed(commit, seconds, stage="conv", benchmark="bench_stages.Smoke.track_time"),
            timed(commit, seconds, benchmark="bench_cold.Smoke.track_time"),
        ]  # fmt: skip

    cells = judged(results, others(BASE, 1e-3), others(HEAD, 2e-3)).cells
    assert [(cell.verdict, cell.pairs > 0) for cell in cells] == [
        *[(V.REGRESSED, False)] * 3, (V.EQUIVALENT, True),
    ]  # fmt: skip


def test_the_same_pairs_are_not_judged_again_as_they_were_filed_for_asv(results):
    store_gate(results, gated_cell())

    def filed(commit, seconds, workload="net.conv"):
        name = "bench_one_core.OneCore.track_time"
        return timed(commit, seconds, benchmark=name, workload=workload)

    base, head = ([filed(c, s), filed(c, s, "net.pool")] for c, s in ((BASE, 1e-3), (HEAD, 2e-3)))
    cells = judged(results, base, head).cells
    assert [(cell.suite, cell.workload, cell.verdict) for cell in cells] == [
        ("one_core", "net.pool", V.REGRESSED), ("pipeline", "net.conv", V.EQUIVALENT),
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(1, LEAST_PAIRS + 1))
def test_a_gate_that_was_cut_off_before_its_first_look_decides_nothing(results, number):
    store_gate(results, gated_cell(1.5, number=number))
    known = only(results, [timed(BASE)], [timed(HEAD)])
    assert known.pairs == (number if number == LEAST_PAIRS else 0)
    alone = only(results, [], [])  # and where nothing else is known, it is shown
    assert alone.pairs == number
    if number == 1:
        assert alone.verdict is V.UNDECIDED
        assert "measured in one pair: how far two pairs differ is not known" in alone.reason


def test_many_cells_are_judged_together(results):
    cells = [gated_cell(1.012, 0.012, workload=f"w{i}", number=10) for i in range(1)]
    cells += [gated_cell(1.0, 0.012, workload=f"quiet{i}", number=10) for i in range(40)]
    rule = Rule(delta=0.0101)
    store_gate(results, *cells[:1])
    assert only(results, [], [], rule=rule).effect.p_value < 0.2
    store_gate(results, *cells, ended_s=2e9)
    together = by_workload(judged(results, [], [], rule=rule))
    assert len(together) == 41
    assert together["w0"].effect.p_value == 1.0


# -- Which gates ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"of_base": {"changed": True}},
        {"of_head": {"changed": True}},
        {"of_head": {"environment": "another"}},
        {"machine": "another"},
        {"base": "a" * 40},
        {"head": f"{HEAD[:8]}{'0' * 32}"},
    ],
)
def test_a_gate_of_anything_else_does_not_count(results, fields):
    store_gate(results, gated_cell(), **fields)
    assert only(results).pairs == 0


def test_an_existing_environment_is_the_interpreter_that_it_names(results):
    store_gate(results, gated_cell())
    sides = [
        side(*records, environment="existing-py_env_bin_python", commit=commit)
        for records, commit in zip(NOISY, (BASE, HEAD), strict=True)
    ]
    (cell,) = compare(*sides, gates=load_gates(results).gates).cells
    assert cell.pairs == 12
    other = [replace(one, environment="existing-py_env_bin_python3.12") for one in sides]
    (cell,) = compare(*other, gates=load_gates(results).gates).cells
    assert cell.pairs == 0


def test_two_environments_of_one_commit_are_two_sides(results):
    store_gate(results, gated_cell(1.1), head=BASE, of_head={"environment": "new"})
    old, new = (side(timed(BASE, spread=0.3), environment=name) for name in ("env", "new"))
    gates = load_gates(results).gates
    assert compare(old, new, gates=gates).cells[0].verdict is V.REGRESSED
    assert compare(new, old, gates=gates).cells[0].verdict is V.IMPROVED


def test_a_gate_counts_the_other_way_round(results):
    store_gate(results, gated_cell(0.5), base=HEAD, head=BASE)
    cell = only(results)
    assert cell.verdict is V.REGRESSED
    assert cell.effect.ratio == pytest.approx(2.0)
    assert cell.base.value < cell.head.value


def test_the_newest_gate_that_tells_of_a_cell_counts(results):
    store_gate(results, gated_cell(1.5), gated_cell(1.5, workload="w"), ended_s=1e9)
    store_gate(results, gated_cell(1.0), gated_cell(1.0, number=0, workload="w"), ended_s=2e9)
    store_gate(results, gated_cell(1.5), ended_s=0.5e9)
    comparison = judged(results)
    cells = by_workload(comparison)
    assert (cells[WORKLOAD].verdict, cells["w"].verdict) == (V.EQUIVALENT, V.REGRESSED)
    (remark,) = comparison.remarks
    assert remark.startswith("2 cells measured side by side (2001-09-09 01:46, 2033-05-18 03:33)")


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"flops": 200}, "another workload of the same name"),
        ({"versions": {"numpy": "2.3"}}, "other versions of the libraries"),
        ({"versions": {"numpy": "2.4", "OMP_NUM_THREADS": "8", "only": "here"}, "flops": 100}, ""),
    ],
)
def test_a_gate_of_another_thing_under_the_same_name_is_left_out_and_named(results, facts, why):
    versions = {TARGET: {"numpy": "2.4", "OMP_NUM_THREADS": "1"}}
    store_gate(results, gated_cell(), of_head={"versions": versions})
    comparison = judged(results, NOISY[0], [replace(NOISY[1][0], facts=facts)])
    assert (comparison.cells[0].pairs == 0) == bool(why)
    left_out = [remark for remark in comparison.remarks if "left out" in remark]
    assert len(left_out) == bool(why)
    assert all(why in remark for remark in left_out)


def test_what_only_the_gate_has_appears_too(results):
    store_gate(results, gated_cell(1.1, workload="w"))
    assert by_workload(judged(results))["w"].verdict is V.REGRESSED
    one_side = by_workload(judged(results, [timed(BASE)], []))
    assert (one_side["w"].verdict, one_side[WORKLOAD].verdict) == (V.REGRESSED, V.VANISHED)
    alone = judged(results, [], [])
    assert [(cell.workload, cell.verdict) for cell in alone.cells] == [("w", V.REGRESSED)]
    assert (alone.exit_code(), alone.warnings) == (1, ())


def test_a_gate_alone_says_where_it_was_measured(results):
    store_gate(results, gated_cell(1.1), of_head={"versions": {TARGET: {"numpy": "3"}}})
    sides = (
        side(commit=BASE, environment="", machine=""),
        side(commit=HEAD[:8], environment="", machine=""),
    )
    found = compare(*sides, gates=load_gates(results).gates)
    assert (found.head.commit, found.head.environment, found.head.machine) == (HEAD, "env", "vm")
    assert [(c.name, c.base, c.head) for c in found.changes] == [("numpy", "2.4", "3")]


def test_cells_are_chosen_by_the_names_that_they_have_apart(results):
    store_gate(results, gated_cell(), gated_cell(workload="w"))
    found = judged(results, bench=r"bench_pipeline\.Smoke\.track_time\('numpy@cpu', 'net")
    assert [(cell.workload, cell.pairs) for cell in found.cells] == [(WORKLOAD, 12)]
    assert len(judged(results, bench="bench_pipeline").cells) == 2


# -- Faults ---------------------------------------------------------------------------------------

FAILED = {"outcome": {"status": "failed", "reason": "no memory"}}
WRONG = {"check": {"status": "wrong", "reason": "it is 9"}, "error_over_bound": 9.0}


@pytest.mark.parametrize(
    ("fault", "verdict", "why"),
    [
        (FAILED, V.FAILED, "head has failed: measured side by side: no memory"),
        (WRONG, V.WRONG, "head is wrong: measured side by side: it is 9"),
        ({"receipt": DOUBT}, V.WRONG, "does not support it: time: it took longer"),
        ({"outcome": {"status": "wrong", "reason": "it is 9"}}, V.WRONG, "it is 9"),
    ],
)
@pytest.mark.parametrize("records", [([timed(BASE)], [timed(HEAD)]), ([], [])])
def test_what_was_wrong_in_the_gate_says_that(results, records, fault, verdict, why):
    store_gate(results, gated_cell(0.5, head=fault))
    cell = only(results, *records)
    assert (cell.verdict, cell.effect) == (verdict, None)
    assert why in cell.reason
    assert "faster" not in cell.reason


def test_what_was_wrong_before_anything_was_timed_says_that_too(results):
    store_gate(results, gated_cell(number=0, head=WRONG, state=""))
    cell = only(results, [timed(BASE), checked(BASE)], [timed(HEAD), checked(HEAD)])
    assert (cell.verdict, cell.pairs) == (V.WRONG, 0)
    assert only(results, [], []).verdict is V.WRONG


@pytest.mark.parametrize("fault", [FAILED, {"receipt": DOUBT}])
def test_a_base_without_a_time_is_not_compared(results, fault):
    store_gate(results, gated_cell(base=fault))
    for records in (NOISY, ([], [])):
        cell = only(results, *records)
        assert (cell.verdict, cell.effect) == (V.NOT_COMPARABLE, None)
        assert cell.reason.startswith("base: measured side by side: ")


def test_the_time_of_a_wrong_output_is_not_judged_whoever_has_seen_it(results):
    store_gate(results, gated_cell(0.5))
    base, head = [timed(BASE), checked(BASE)], [timed(HEAD), checked(HEAD, 9.0)]
    assert only(results, base, head).verdict is V.WRONG
    failed = timed(HEAD, status=Status.FAILED, value=None, reason="no memory")
    assert only(results, base, [failed, checked(HEAD)]).verdict is V.FAILED
    fixed = only(results, [timed(BASE), checked(BASE, 9.0)], [timed(HEAD), checked(HEAD)])
    assert (fixed.verdict, fixed.effect) == (V.FIXED, None)


def test_what_the_gate_has_checked_has_not_vanished(results):
    store_gate(results, gated_cell())
    cell = only(results, [timed(BASE), checked(BASE)], [])
    assert (cell.verdict, cell.head.correct) == (V.EQUIVALENT, Status.OK)


def test_a_head_that_only_the_evidence_has_skipped_was_computed(results):
    store_gate(results, gated_cell())
    skipped = {"status": Status.SKIPPED, "value": None, "reason": "no device"}
    head = [timed(HEAD, **skipped), checked(HEAD, **skipped)]
    assert only(results, [timed(BASE), checked(BASE)], head).verdict is V.EQUIVALENT


# -- Means ----------------------------------------------------------------------------------------


def test_the_geometric_mean_is_over_both_kinds(results):
    gated = [gated_cell(f, 0.01, workload=f"g{f}") for f in (1.2, 0.9)]
    store_gate(results, *gated)
    apart = [[timed(c, s, workload="apart")] for c, s in ((BASE, 1e-3), (HEAD, 1.1e-3))]
    (mean,) = judged(results, *apart).means
    assert mean.cells == 3
    assert mean.ratio == pytest.approx((1.2 * 0.9 * 1.1) ** (1 / 3))
    assert mean.low < mean.ratio < mean.high
    (alone,) = judged(results, [], []).means
    assert (alone.cells, alone.ratio) == (2, pytest.approx((1.2 * 0.9) ** 0.5))


def test_pooled_means_have_the_errors_of_their_parts():
    one, other = (
        stats.Ratios(*(np.array([v]) for v in row)) for row in ((0.3, 0.03, 4), (0, 0, 9))
    )
    mean = stats.pooled([(1, one), (2, other)])
    assert (mean.log[0], mean.error[0], mean.freedom[0]) == pytest.approx((0.1, 0.01, 4))
    same = stats.pooled([(1, one), (1, one)])
    assert (same.error[0], same.freedom[0]) == pytest.approx((0.03 / math.sqrt(2), 8))


# -- What it promises -----------------------------------------------------------------------------


@pytest.mark.parametrize("effect", [0.0, 0.005])
def test_of_gates_that_stopped_as_they_liked_hardly_any_is_claimed_without_a_cause(effect):
    """A gate stops where it has seen enough; here its pairs are judged as if it had not looked."""
    chance = np.random.default_rng(5)
    rule = Rule(delta=0.02)
    claimed, gates, cells, budget = 0, 150, 8, 30
    for _ in range(gates):
        pairs = []
        for _ in range(cells):
            monitor, number = Monitor(rule, cells), 0
            while monitor.open and number < budget:
                log = float(chance.normal(math.log1p(effect), 0.02))
                monitor.add(number, log, (number + 1) / budget)
                number += 1
            counted = monitor.fresh if monitor.state is State.FLAGGED else monitor.counted
            pairs += [[*counted.values()]] if len(counted) >= LEAST_PAIRS else []
        p = stats.p_values(stats.paired(pairs), rule.minimum_effect)
        claimed += bool((stats.benjamini_hochberg(p) <= 0.05).any())
    assert claimed / gates <= 0.05


# -- What it looks like ---------------------------------------------------------------------------


def test_every_form_marks_it_and_says_when(results):
    store_gate(results, gated_cell(1.1))
    comparison = judged(results, *([*r, timed(r[0].commit, workload="w")] for r in NOISY))
    text, comment = drawn(render(comparison, everything=True)), markdown(comparison)
    said = "1 cell measured side by side (2001-09-09 01:46)"
    for shown in (text, comment, junit(comparison).decode()):
        assert said in shown
        assert "side by side" in shown.replace(said, "")
    rows = [line for line in text.splitlines() if "numpy@cpu" in line and " ms" in line]
    assert ["held, side by side" in row for row in rows] == [True, False]
    rows = [line for line in comment.splitlines() if line.startswith("| ")]
    assert sum(") side by side |" in row for row in rows) == 1
    assert "took turns on one core" in text
    assert "took turns on one core" in comment
    plain = drawn(render(judged(results / "none")))
    assert "side by side" not in plain.partition("gate it")[0]


def test_what_is_undecided_is_proposed_once_as_a_command(results):
    names = ["w 1", "w2", "$(reboot)"]
    base, head = ([timed(c, workload=n, spread=0.3) for n in names] for c in (BASE, HEAD))
    other = [timed(c, target="other@cpu", workload="fine") for c in (BASE, HEAD)]
    comparison = judged(results, [*base, other[0]], [*head, other[1]])
    words = shlex.split(comparison.gate_it)
    assert words[:4] == ["convbench", "gate", BASE[:8], HEAD[:8]]
    assert words[4:6] == ["--base-env=env", "--head-env=env"]
    assert words[6:8] == ["--target", TARGET]
    assert sorted(words[9::2]) == sorted(names)
    arguments = main.make_parser().parse_args(words[1:])
    assert (arguments.base_env, arguments.target) == ("env", [TARGET])
    for shown in (drawn(render(comparison)), junit(comparison).decode(), markdown(comparison)):
        assert shown.count("gate it: ") == 1
    assert comparison.to_dict()["gate_it"] == comparison.gate_it
    store_gate(results, *(gated_cell(1.0, 0.3, workload=name) for name in names))
    assert judged(results, base, head).gate_it == ""  # that was done


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"stage": "conv", "benchmark": "bench_stages.Smoke.track_time"}, {}),
        ({"benchmark": "bench_cold.Smoke.track_time"}, {}),
        ({}, {"machine": "another"}),
    ],
)
def test_nothing_is_proposed_that_no_gate_measures(fields, options):
    base, head = (timed(c, spread=0.3, **fields) for c in (BASE, HEAD))
    comparison = compare(side(base), side(head, **options))
    assert comparison.cells[0].verdict is V.UNDECIDED
    assert comparison.gate_it == ""


def test_an_existing_environment_is_that_in_which_it_is_pasted():
    name = "existing-py_env_bin_python"
    sides = (side(timed(c, spread=0.3), environment=name) for c in (BASE, HEAD))
    assert "env" not in compare(*sides).gate_it


def test_of_many_undecided_cells_some_are_proposed():
    base, head = ([timed(c, workload=f"w{i}", spread=0.3) for i in range(99)] for c in (BASE, HEAD))
    comparison = compare(side(*base), side(*head))
    assert comparison.gate_it.count("--workload") == 20
    long = [[replace(r, workload="w" * 900) for r in some] for some in (base[:1], head[:1])]
    text = markdown(compare(*(side(*some) for some in long)))
    assert "gate it" not in text  # a part of a command is another one


# -- Hostile files --------------------------------------------------------------------------------


@pytest.mark.parametrize("text", NASTY)
def test_no_text_of_a_gate_comes_alive(results, text):
    fault = {"outcome": {"status": "failed", "reason": text}}
    same = {"base_target": text, "head_target": text}
    versions = {"versions": {text: {text: "1"}}}
    store_gate(
        results, gated_cell(head=fault, **same), gated_cell(1.1, workload=text, **same),
        gated_cell(1.0, 0.5, workload=f"{text}2", base={"algorithm": text}, **same),
        of_base=versions, of_head=versions | {"environment": "env"},
    )  # fmt: skip
    comparison = judged(results)
    assert len(comparison.cells) == 4
    comment = markdown(comparison)
    assert len(comment) < MARKDOWN_LIMIT
    assert_inert(comment, tables=read_markdown(comment)[0]["table_open"])
    assert all(line.isprintable() for line in drawn(render(comparison)).splitlines())
    ET.fromstring(junit(comparison))


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Checkout(tmp_path)


def test_the_command_reads_gates_and_names_those_that_it_cannot(checkout, capsys):
    commits = checkout.commits
    sides = {"base": commits["HEAD~1"], "head": commits["HEAD"]}
    results = checkout.folder / ".asv/results"
    code, _, err = run_compare(capsys, "HEAD~1", "HEAD")
    assert (code, "has results of nothing" in err) == (3, True)
    store_gate(results, gated_cell(1.1), **sides)
    for arguments, expected in ((("HEAD~1", "HEAD"), 1), (("HEAD", "HEAD~1"), 0)):
        code, out, err = run_compare(capsys, *arguments, "--json")  # though nothing else is known
        assert (code, err, json.loads(out)["cells"][0]["pairs"]) == (expected, "", 12)
    assert run_compare(capsys, "HEAD~1", "HEAD:other")[0] == 3  # that is not where it was measured
    for revision in commits:
        checkout.measure(revision, 1e-3)
    assert run_compare(capsys, "HEAD~1", "HEAD")[0] == 1
    damaged = store_gate(results, schema=None, **sides)
    code, out, err = run_compare(capsys, "HEAD~1", "HEAD", "--json")
    assert code == 1
    assert json.loads(out)["problems"] == [err.strip().removeprefix("convbench: ")]
    assert f"{damaged.name}: left out, because its schema is None" in err


def test_damaged_gates_cost_themselves_and_nothing_else(results):
    slow = gated_cell(1.1, workload="slow", fresh=6)
    failed = gated_cell(workload="failed", head=FAILED)
    path = store_gate(results, gated_cell(), slow, failed)
    store_gate(results, gated_cell(workload="other"), ended_s=-1.0)
    right = path.read_bytes()
    chance = random.Random(0)
    problems = 0
    for _ in range(1000):
        path.write_bytes(damaged_bytes(chance, right))
        loaded = load_gates(results)
        assert all(problem.startswith(f"{path}: ") for problem in loaded.problems)
        comparison = judged(results)
        assert by_workload(comparison)["other"].verdict is V.EQUIVALENT
        json.dumps(comparison.to_dict())
        problems += bool(loaded.problems)
    assert problems > 1000 / 4, "most of this damage is visible"
