"""From the records of two sides to a verdict and a reason for each cell."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from convbench.cli import main
from convbench.comparing.comparison import BAD, Demands, Rule, Verdict
from convbench.comparing.judge import compare
from convbench.errors import InputError
from convbench.results import journal
from convbench.results.sessions import Between, Spread
from convbench.words.status import Status

from ..records import BASE, HEAD, TARGET, WORKLOAD, checked, side, timed

V = Verdict


def only(base, head, **options):
    """The one cell that these records make."""
    (cell,) = both(base, head, **options).cells
    return cell


def both(base, head, **options):
    return compare(side(*base, commit=BASE), side(*head, commit=HEAD), **options)


def by_name(comparison):
    return {(cell.target, cell.name): cell for cell in comparison.cells}


# -- What became of a cell -------------------------------------------------------------------------

STATES = {
    "absent": None,
    "skipped": {"status": Status.SKIPPED, "value": None, "reason": "no device"},
    "failed": {"status": Status.FAILED, "value": None, "reason": "no memory"},
    "wrong": {"status": Status.WRONG, "value": 9.0, "reason": "the error is 9 times its bound"},
    "ok": {"status": Status.OK, "value": 0.5, "reason": ""},
}

BECAME = {
    "absent": {"failed": V.FAILED, "wrong": V.WRONG, "ok": V.NEW},
    "skipped": {"failed": V.FAILED, "wrong": V.WRONG, "ok": V.NEW},
    "failed": {"absent": V.VANISHED, "skipped": V.NOT_MEASURED, "failed": V.STILL_FAILED,
               "wrong": V.WRONG, "ok": V.FIXED},
    "wrong": {"absent": V.VANISHED, "skipped": V.NOT_MEASURED, "failed": V.FAILED,
              "wrong": V.STILL_WRONG, "ok": V.FIXED},
    "ok": {"absent": V.VANISHED, "skipped": V.SKIPPED, "failed": V.FAILED, "wrong": V.WRONG,
           "ok": V.EQUIVALENT},
}  # fmt: skip

# Something else, so that neither side is empty.
OTHER = {"target": "other@cpu"}


def state(make, commit, name):
    known = STATES[name]
    return [timed(commit, **OTHER), *([] if known is None else [make(commit, **known)])]


@pytest.mark.parametrize("before", STATES)
@pytest.mark.parametrize("after", STATES)
def test_what_became_of_the_output(before, after):
    comparison = both(state(checked, BASE, before), state(checked, HEAD, after))
    cells = by_name(comparison)
    verdict = BECAME[before].get(after)
    if verdict is None:
        assert len(cells) == 1
        assert comparison.skipped == ({before, after} != {"absent"})
        return
    cell = cells[TARGET, WORKLOAD]
    assert cell.verdict is verdict
    assert cell.kind == "accuracy"
    assert cell.reason
    for name in {before, after} & {"skipped", "failed", "wrong"} & {after}:
        assert STATES[name]["reason"] in cell.reason
    assert comparison.exit_code() == (2 if verdict in BAD else 3 if verdict is V.VANISHED else 0)


@pytest.mark.parametrize("before", ["absent", "skipped", "failed", "ok"])
@pytest.mark.parametrize("after", ["absent", "skipped", "failed", "ok"])
def test_what_became_of_a_time(before, after):
    cells = by_name(both(state(timed, BASE, before), state(timed, HEAD, after)))
    verdict = BECAME[before].get(after)
    assert (cells[TARGET, WORKLOAD].verdict if verdict else len(cells)) == (verdict or 1)


def test_what_got_worse_comes_first_and_names_both_sides():
    targets = {
        "wrong": (checked(BASE), checked(HEAD, 9.0)),
        "failed": (timed(BASE), timed(HEAD, **STATES["failed"])),
        "skipped": (timed(BASE), timed(HEAD, **STATES["skipped"])),
        "vanished": (timed(BASE), None),
        "regressed": (timed(BASE), timed(HEAD, 2e-3)),
        "not comparable": (timed(BASE), timed(HEAD, version="2")),
        "undecided": (timed(BASE, spread=0.3), timed(HEAD, spread=0.3)),
        "improved": (timed(BASE), timed(HEAD, 5e-4)),
        "new": (None, timed(HEAD)),
        "equivalent": (timed(BASE), timed(HEAD)),
    }
    base, head = (
        [replace(pair[i], target=f"{name}@cpu") for name, pair in targets.items() if pair[i]]
        for i in range(2)
    )
    comparison = both(base, head)
    assert [cell.target for cell in comparison.cells] == [f"{name}@cpu" for name in targets]
    assert [cell.verdict for cell in comparison.cells] == list(targets)
    reasons = [cell.reason for cell in comparison.cells]
    assert reasons[0].startswith("base was right (error / bound 0.05), head is wrong: the error is")
    assert reasons[1] == "base was measured, head has failed: no memory"
    assert reasons[2] == "base was measured, head is skipped: no device"
    assert reasons[3] == "base was measured, and head was not selected or not run"
    assert reasons[5] == "another version of the benchmark: base 1, head 2"
    assert comparison.summary().startswith("WRONG AND FAILED AND SKIPPED: 1 wrong, 1 failed, ")
    assert comparison.counts == dict.fromkeys(map(Verdict, targets), 1)


# -- Correctness outranks speed --------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [1e-4, 1e-3, 1e-2])
def test_the_time_of_a_wrong_output_is_not_judged(seconds):
    base = [timed(BASE), timed(BASE, stage="conv", benchmark="bench_stages.Smoke.track_time"),
            checked(BASE)]  # fmt: skip
    head = [
        timed(HEAD, seconds),
        timed(HEAD, seconds, stage="conv", benchmark="bench_stages.Smoke.track_time"),
        checked(HEAD, 9.0),
    ]
    comparison = both(base, head)
    whole, stage = (by_name(comparison)[TARGET, name] for name in (WORKLOAD, "net.conv conv"))
    assert (whole.verdict, stage.verdict) == (V.WRONG, V.NOT_COMPARABLE)
    assert whole.effect is None
    assert stage.effect is None
    assert "the output of head is wrong" in stage.reason
    assert "faster" not in comparison.summary() + whole.reason + stage.reason
    assert comparison.means == ()
    assert comparison.exit_code() == 2


def test_the_time_of_a_wrong_base_is_not_judged_either():
    cell = only([timed(BASE), checked(BASE, 9.0)], [timed(HEAD, 1e-2), checked(HEAD)])
    assert (cell.verdict, cell.effect) == (V.FIXED, None)
    assert cell.reason == "base was wrong (error / bound 9), head is right (error / bound 0.05)"


def test_a_wrong_output_whose_time_has_failed_tells_of_both():
    head = [timed(HEAD, **STATES["failed"]), checked(HEAD, 9.0)]
    cell = only([timed(BASE), checked(BASE)], head)
    assert cell.verdict is V.WRONG
    assert cell.notes == ("failed: base was measured, head has failed: no memory",)


@pytest.mark.parametrize("state", ["skipped", "failed"])
def test_a_time_whose_check_was_lost_is_not_praised(state):
    cell = only([timed(BASE), checked(BASE)], [timed(HEAD, 1e-4), checked(HEAD, **STATES[state])])
    assert cell.verdict is Verdict(state)
    assert cell.reason.startswith("the check of its output: base was right")


def test_a_check_that_vanished_is_named():
    cell = only([timed(BASE), checked(BASE)], [timed(HEAD, 1e-4)])
    assert cell.verdict is V.VANISHED
    assert "the check of its output" in cell.reason


def test_a_check_that_is_new_is_no_news():
    assert only([timed(BASE)], [timed(HEAD), checked(HEAD)]).verdict is V.EQUIVALENT


def test_a_cell_that_was_skipped_as_a_whole_is_told_once():
    head = [timed(HEAD, **STATES["skipped"]), checked(HEAD, **STATES["skipped"])]
    cell = only([timed(BASE), checked(BASE)], head)
    assert (cell.verdict, cell.notes) == (V.SKIPPED, ())


@pytest.mark.parametrize(
    ("base", "head", "bits"),
    [
        (["aa"], ["aa"], "same"),
        (["aa", "aa"], ["aa"], "same"),
        (["aa"], ["bb"], "different"),
        (["aa", "bb"], ["aa", "bb"], "vary"),
        (["aa"], ["aa", "bb"], "vary"),
        ([], ["aa"], ""),
    ],
)
def test_whether_the_bits_are_the_same(base, head, bits):
    cell = only([checked(BASE, digests=base)], [checked(HEAD, digests=head)])
    assert cell.bits == bits
    assert cell.verdict is V.EQUIVALENT


def test_evidence_of_one_process_has_one_digest():
    facts = {"facts": {"digest": "aa"}}
    assert only([checked(BASE, **facts)], [checked(HEAD, **facts)]).bits == "same"


# -- What cannot be compared -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields_base", "fields_head", "said"),
    [
        ({"version": "1"}, {"version": "2"}, "version of the benchmark: base 1, head 2"),
        ({"method": "hot"}, {"method": "cold"}, "method of timing: base hot, head cold"),
        ({"dtype": "float32"}, {"dtype": "tf32"}, "precision: base float32, head tf32"),
        ({"flops": 100}, {"flops": 200}, "number of operations: base 100, head 200"),
        ({"machine": {"cpu_model": "A"}}, {"machine": {"cpu_model": "B"}}, "CPU: base A, head B"),
        ({"machine": {"gpus": [{"name": "A"}, {"name": "B"}]}},
         {"machine": {"gpus": [{"name": "A"}, {"name": "C"}]}}, "GPU: base B, head C"),
    ],
)  # fmt: skip
def test_numbers_of_unlike_things_are_not_compared_and_both_values_are_named(
    fields_base, fields_head, said
):
    def cell_of(commit, fields):
        split = dict(fields)
        version = split.pop("version", "1")
        return timed(commit, version=version, facts=split, target="cupy@gpu:1")

    cell = only([cell_of(BASE, fields_base)], [cell_of(HEAD, fields_head)])
    assert (cell.verdict, cell.effect) == (V.NOT_COMPARABLE, None)
    assert said in cell.reason


def test_what_only_one_side_has_written_down_is_no_difference():
    known = {"method": "hot", "dtype": "float32", "machine": {"cpu_model": "A"}}
    assert only([timed(BASE)], [timed(HEAD, facts=known)]).verdict is V.EQUIVALENT


def test_a_card_does_not_matter_to_a_target_on_the_cpu():
    base, head = (timed(c, facts={"machine": {"gpus": [{"name": c}]}}) for c in (BASE, HEAD))
    assert only([base], [head]).verdict is V.EQUIVALENT


def test_another_algorithm_is_told_and_compared():
    base, head = (timed(c, facts={"algorithm": a}) for c, a in ((BASE, "im2col"), (HEAD, "fft")))
    cell = only([base], [head])
    assert cell.verdict is V.EQUIVALENT
    assert cell.notes == ("the algorithm was im2col and is fft",)


def test_nothing_comparable_does_not_pass():
    comparison = both([timed(BASE), checked(BASE)], [timed(HEAD, version="2"), checked(HEAD)])
    assert comparison.exit_code() == 3
    assert comparison.summary().startswith("NOTHING COMPARABLE: ")


def test_unlike_machines_are_compared_when_asked_for_and_everything_says_so():
    facts = [{"machine": {"cpu_model": name}} for name in "AB"]
    comparison = compare(
        side(timed(BASE, facts=facts[0]), machine="mine"),
        side(timed(HEAD, 2e-3, facts=facts[1]), machine="yours"),
    )
    (cell,) = comparison.cells
    assert cell.verdict is V.REGRESSED
    assert cell.reason.endswith("(unlike machines)")
    assert comparison.unlike_machines
    assert comparison.to_dict()["unlike_machines"] is True
    assert "UNLIKE MACHINES mine and yours" in comparison.summary()
    assert "mine" in comparison.warnings[0]
    assert "yours" in comparison.warnings[0]


# -- Times -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factor", "spread", "verdict"),
    [
        (1.00, 0.01, V.EQUIVALENT),
        (1.10, 0.01, V.REGRESSED),
        (0.90, 0.01, V.IMPROVED),
        (1.10, 0.10, V.UNDECIDED),
        (1.00, 0.10, V.UNDECIDED),
        (1.03, 0.002, V.EQUIVALENT),  # sure, and less than matters
        (1.06, 0.02, V.REGRESSED),
        (100.0, 0.01, V.REGRESSED),
    ],
)
def test_a_time_is_judged_by_its_interval(factor, spread, verdict):
    cell = only([timed(BASE, 1e-3, spread)], [timed(HEAD, factor * 1e-3, spread)])
    assert cell.verdict is verdict
    assert cell.effect.ratio == pytest.approx(factor)
    assert cell.effect.low < factor < cell.effect.high
    assert cell.moved == ((factor, verdict) == (1.03, V.EQUIVALENT))
    assert cell.base.value == pytest.approx(1e-3)
    assert (cell.base.processes, cell.head.processes) == (5, 5)


def test_what_a_verdict_says():
    def reason(*how):
        return only([timed(BASE, 1e-3, *how[1:])], [timed(HEAD, how[0] * 1e-3, *how[1:])]).reason

    assert reason(1.10, 0.01) == (
        "1.100x slower: head takes 1.084 to 1.116 times as long (95 %); 5 and 5 processes"
    )
    assert reason(0.5, 0.01).startswith("2.000x faster: head takes 0.493 to 0.507 times as long")
    assert reason(1.03, 0.002).startswith("surely 1.030x slower, but within 5 %: head takes 1.027")
    assert reason(1.00, 0.10) == (
        "head takes 0.864 to 1.157 times as long (95 %); 23 % slower would have been seen"
    )


def test_delta_is_what_does_not_matter():
    base, head = [timed(BASE, 1e-3, 0.002)], [timed(HEAD, 1.03e-3, 0.002)]
    assert only(base, head).verdict is V.EQUIVALENT
    assert only(base, head, rule=Rule(delta=0.02)).verdict is V.REGRESSED
    comparison = both(base, head)
    assert comparison.exit_code() == 0
    assert comparison.summary().endswith("1 of the equivalent ones surely moved within 5 %")


@pytest.mark.parametrize("factor", [1.004, 1 / 1.004])
def test_nothing_below_half_a_per_cent_is_claimed_however_sure(factor):
    base, head = (
        [timed(c, s, 1e-5, processes=50)] for c, s in ((BASE, 1e-3), (HEAD, factor * 1e-3))
    )
    cell = only(base, head, rule=Rule(delta=0.0051))
    assert (cell.verdict, cell.moved) == (V.EQUIVALENT, False)


@pytest.mark.parametrize("delta", [0.0, 0.005, -1.0, math.inf, math.nan])
def test_a_delta_that_makes_no_sense_is_refused(delta):
    with pytest.raises(InputError, match="delta"):
        Rule(delta=delta)


def test_one_of_many_cells_may_look_slower_by_chance():
    def cells(commit, factor):
        quiet = [timed(commit, workload=f"w{i}", spread=0.03) for i in range(60)]
        return [timed(commit, factor * 1e-3, spread=0.03), *quiet]

    alone = only([timed(BASE, spread=0.03)], [timed(HEAD, 1.07e-3, spread=0.03)])
    among = by_name(both(cells(BASE, 1.0), cells(HEAD, 1.07)))[TARGET, WORKLOAD]
    assert alone.verdict is V.REGRESSED
    assert among.verdict is V.UNDECIDED
    assert "as one of 61 cells may by chance" in among.reason
    assert (among.effect.low, among.effect.high) == (alone.effect.low, alone.effect.high)
    assert among.effect.smallest_effect > alone.effect.smallest_effect


@pytest.mark.parametrize(
    ("base", "head", "few"), [(1, 1, "base and head"), (0, 5, "base"), (5, 1, "head")]
)
def test_one_process_does_not_tell_how_far_two_differ(base, head, few):
    comparison = both([timed(BASE, processes=base)], [timed(HEAD, 2e-3, processes=head)])
    (cell,) = comparison.cells
    assert cell.verdict is V.UNDECIDED
    assert cell.reason == (
        f"{few} measured in one process: how far two processes differ is not known"
    )
    assert cell.effect.ratio == pytest.approx(2.0)
    assert cell.effect.low is None
    assert comparison.undecided_everywhere
    assert comparison.means[0].low is None


def test_two_processes_can_be_too_few_for_any_effect():
    cell = only([timed(BASE, spread=0.5, processes=2)], [timed(HEAD, spread=0.5, processes=2)])
    assert cell.reason.endswith("so few processes could not have shown any effect")


@pytest.mark.parametrize("value", [0.0, math.inf])
def test_a_time_without_a_ratio_is_not_compared(value):
    cell = only([timed(BASE)], [replace(timed(HEAD), value=value, processes=(value, value))])
    assert (cell.verdict, cell.effect) == (V.NOT_COMPARABLE, None)


def strict(comparison):
    return replace(comparison, demands=Demands(strict=True))


def test_undecided_everywhere_passes_only_if_nobody_is_strict():
    noisy = both([timed(BASE, spread=0.3)], [timed(HEAD, spread=0.3)])
    assert noisy.undecided_everywhere
    assert (noisy.exit_code(), strict(noisy).exit_code()) == (0, 3)
    assert noisy.summary().startswith("UNDECIDED: this does not say that nothing is slower: ")
    steady = (timed(BASE, **OTHER), timed(HEAD, **OTHER))
    one_decided = both([timed(BASE, spread=0.3), steady[0]], [timed(HEAD, spread=0.3), steady[1]])
    assert not one_decided.undecided_everywhere
    assert (one_decided.exit_code(), strict(one_decided).exit_code()) == (0, 3)
    assert strict(both([steady[0]], [steady[1]])).exit_code() == 0
    assert one_decided.summary().startswith("NOTHING SEEN TO BE SLOWER: ")


def test_memory_is_compared_like_time_and_in_its_own_words():
    memory = {"kind": "memory", "benchmark": "bench_memory.Smoke.track_peak_bytes"}
    comparison = both([timed(BASE, 1e8, **memory)], [timed(HEAD, 2e8, **memory)])
    (cell,) = comparison.cells
    assert cell.verdict is V.REGRESSED
    assert cell.reason.startswith("2.000x larger: head needs 1.97")
    assert comparison.means == ()
    once = [[timed(c, 1e8, processes=1, **memory)] for c in (BASE, HEAD)]
    assert only(*once).reason == "the same number of bytes"


def test_the_geometric_mean_is_over_whole_pipelines_of_a_target():
    def cells(commit, factors):
        stage = timed(commit, 100.0, stage="conv", benchmark="bench_stages.Smoke.track_time")
        cold = timed(commit, 100.0, benchmark="bench_cold.Smoke.track_time")
        return [timed(commit, f * 1e-3, workload=f"w{f}") for f in factors] + [stage, cold]

    base = [replace(r, workload=f"w{i}") for i, r in enumerate(cells(BASE, (1, 1, 1)))]
    head = [replace(r, workload=f"w{i}") for i, r in enumerate(cells(HEAD, (1.1, 1.2, 0.8)))]
    (mean,) = both(base, head).means
    assert (mean.target, mean.cells) == (TARGET, 3)
    assert mean.ratio == pytest.approx((1.1 * 1.2 * 0.8) ** (1 / 3))
    assert mean.low < mean.ratio < mean.high


@given(
    st.floats(0.3, 3.0), st.floats(1e-4, 0.3), st.integers(0, 8), st.integers(0, 8),
    st.floats(0.006, 0.5),
)  # fmt: skip
def test_exchanging_the_sides_inverts_the_ratio_and_turns_the_verdict(
    factor, spread, n_base, n_head, delta
):
    def cell_of(one, other):
        first = compare(side(one), side(other), rule=Rule(delta=delta)).cells[0]
        return first, first.effect

    a = timed(BASE, 1e-3, spread, n_base)
    b = timed(HEAD, factor * 1e-3, spread, n_head)
    (there, effect), (back, effect_back) = cell_of(a, b), cell_of(b, a)
    turned = {V.REGRESSED: V.IMPROVED, V.IMPROVED: V.REGRESSED}
    assert back.verdict is turned.get(there.verdict, there.verdict)
    assert back.moved == there.moved
    assert effect_back.ratio == pytest.approx(1 / effect.ratio)
    if effect.low is not None:
        assert effect_back.low == pytest.approx(1 / effect.high)
        assert effect_back.high == pytest.approx(1 / effect.low)
        assert effect_back.p_value == pytest.approx(effect.p_value)


# -- Which cells there are -------------------------------------------------------------------------


def test_suites_and_stages_are_cells_of_their_own_and_tiers_are_not():
    def cells(commit, tier):
        return [
            timed(commit, benchmark=f"bench_pipeline.{tier}.track_time"),
            timed(commit, benchmark=f"bench_cold.{tier}.track_time"),
            timed(commit, benchmark=f"bench_stages.{tier}.track_time", stage="conv"),
            timed(commit, workload="sweep.c_4", benchmark=f"bench_sweep.{tier}.track_time"),
        ]

    names = {name for _, name in by_name(both(cells(BASE, "Standard"), cells(HEAD, "Smoke")))}
    assert names == {"net.conv", "net.conv (cold)", "net.conv conv", "sweep.c_4"}


def test_what_was_measured_last_counts():
    again = [timed(HEAD, 5e-3, measured_at_s=1.0), timed(HEAD, 1e-3, measured_at_s=2.0)]
    for order in (again, again[::-1]):
        assert only([timed(BASE)], order).verdict is V.EQUIVALENT


def test_only_cells_that_match_are_compared_and_their_outputs_are_checked_all_the_same():
    def cells(commit, error):
        return [timed(commit), checked(commit, error), timed(commit, target="cupy@gpu:0")]

    base, head = cells(BASE, 0.5), cells(HEAD, 9.0)
    assert len(both(base, head).cells) == 2
    only_times = both(base, head, bench=r"bench_pipeline\.Smoke\.track_time\('numpy@cpu', 'net")
    assert [(c.target, c.verdict) for c in only_times.cells] == [(TARGET, V.WRONG)]
    nothing = both(base, head, bench="nothing at all")
    assert nothing.exit_code() == 3
    with pytest.raises(InputError, match="regular expression"):
        both(base, head, bench="(")


@pytest.mark.parametrize("base", [[], [timed(BASE)]])
def test_nothing_measured_never_passes(base):
    comparison = both(base, [])
    assert comparison.exit_code() == 3
    assert comparison.summary().startswith("NOTHING MEASURED")
    assert comparison.unmeasured == (("head",) if base else ("base", "head"))
    assert f"of head, {HEAD[:8]}" in comparison.summary()
    assert comparison.warnings == ()


# -- What changed around it ------------------------------------------------------------------------


def test_what_changed_in_the_environment():
    def facts(numpy, threads, kernel, **more):
        machine = {
            "cpu_model": "A",
            "kernel": kernel,
            "thread_settings": threads,
            "governors": ["a"],
        }
        return {
            "versions": {"numpy": numpy, "blas": "x", **more},
            "machine": machine,
            "launch": "run",
        }

    tensorflow = {"target": "tensorflow@cpu"}
    old = facts("2.0", {}, "6.1")
    new = facts("2.1", {"OMP_NUM_THREADS": "1"}, "6.1")
    with_tensorflow = facts("2.0", {}, "6.1", tensorflow="2.20")
    base = [timed(BASE, facts=old), timed(BASE, facts=with_tensorflow, **tensorflow)]
    head = [timed(HEAD, facts=new), timed(HEAD, facts=new, **tensorflow)]
    found = {change.name: change for change in both(base, head).changes}
    assert {name: (c.base, c.head) for name, c in found.items()} == {
        "numpy": ("2.0", "2.1"),
        "OMP_NUM_THREADS": ("", "1"),
        "tensorflow": ("2.20", ""),
    }
    assert found["numpy"].targets == (TARGET, "tensorflow@cpu")
    assert found["tensorflow"].targets == ("tensorflow@cpu",)


def test_cards_are_told_apart_by_what_stays():
    def card(driver, clock):
        return {"gpus": [{"name": "H100", "driver": driver, "sm_clock_mhz": clock, "uuid": clock}]}

    base, head = (
        timed(c, facts={"machine": card(d, k)}) for c, d, k in ((BASE, "1", 5), (HEAD, "2", 6))
    )
    assert [(c.name, c.base, c.head) for c in both([base], [head]).changes] == [
        ("gpus 0 driver", "1", "2")
    ]


def test_evidence_that_only_one_side_has_is_no_change():
    known = {"versions": {"numpy": "2.0"}, "machine": {"kernel": "6.1"}}
    assert both([timed(BASE)], [timed(HEAD, facts=known)]).changes == ()


# -- As a whole ------------------------------------------------------------------------------------


def test_json_is_plain_and_complete():
    facts = {"algorithm": "im2col", "versions": {"numpy": "2.0"}}
    comparison = both(
        [timed(BASE, facts=facts), checked(BASE), timed(BASE, **OTHER)],
        [timed(HEAD, 2e-3, facts=facts | {"versions": {"numpy": "3"}}), checked(HEAD)],
    )
    document = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert document["counts"] == {"vanished": 1, "regressed": 1}
    assert document["exit_code"] == 1
    assert document["rule"]["delta"] == 0.05
    assert document["base"] == {"commit": BASE, "environment": "env", "machine": "vm"}
    (cell,) = [cell for cell in document["cells"] if cell["verdict"] == "regressed"]
    assert cell["base"] == {
        "status": "ok", "value": pytest.approx(1e-3), "processes": 5, "correct": "ok",
        "error_over_bound": 0.05, "digests": ["aa"], "algorithm": "im2col",
        "standing": "claim", "quartiles_s": [], "runs": [],
    }  # fmt: skip
    assert cell["effect"]["ratio"] == pytest.approx(2.0)
    assert document["changes"] == [
        {"name": "numpy", "base": "2.0", "head": "3", "targets": [TARGET]}
    ]


LIBRARIES = {"numpy", "scipy"}


def calls_of_libraries(cells):
    """How many functions of NumPy and SciPy are entered while so many cells are judged."""
    base, head = (
        [timed(c, workload=f"w{i}", stage="conv") for i in range(cells)] for c in (BASE, HEAD)
    )
    entered = 0

    def count(frame, event, _):
        nonlocal entered
        entered += event == "call" and bool(LIBRARIES & set(Path(frame.f_code.co_filename).parts))

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        judged = both(base, head)
    finally:
        sys.setprofile(before)
    assert len(judged.cells) == cells
    return entered


def test_the_statistics_of_many_cells_are_one_pass():
    calls_of_libraries(1)  # the first call of some functions prepares them
    few, many = calls_of_libraries(10), calls_of_libraries(500)
    assert 0 < many < 2 * few, "the statistics are called once a cell"


# -- The command -----------------------------------------------------------------------------------

TIME = "bench_pipeline.Smoke.track_time"
ERROR = "bench_accuracy.Smoke.track_error_over_bound"


class Checkout:
    """A repository of two commits, with what was measured of them."""

    def __init__(self, folder):
        self.folder = folder
        self.git("init", "--quiet")
        for message in ("first", "second"):
            self.git("-c", "user.name=x", "-c", "user.email=x@y", "commit", "--allow-empty",
                     "--quiet", "-m", message)  # fmt: skip
        self.commits = {name: self.git("rev-parse", name) for name in ("HEAD~1", "HEAD")}

    def git(self, *arguments):
        done = subprocess.run(
            ["git", *arguments], cwd=self.folder, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def measure(
        self, revision, seconds, *, error=0.5, environment="env", machine="vm", spread=0.01
    ):
        commit = self.commits[revision]
        path = self.folder / ".asv/evidence" / machine / f"{commit[:8]}-{environment}.jsonl"
        (self.folder / ".asv/results").mkdir(exist_ok=True, parents=True)
        journal.append(path, "run", run="r", commit=commit, environment=environment)
        noise = np.exp(spread * np.linspace(-1, 1, 5))
        for i, factor in enumerate(noise, start=1):
            common = {"run": "r", "process": f"p{i}", "round": i, "status": "ok", "version": "1"}
            samples = [seconds * float(factor)] * 3
            journal.append(path, "cell", benchmark=TIME, params=[TARGET, WORKLOAD],
                            samples_s=samples, number=1, **common)  # fmt: skip
            journal.append(path, "cell", benchmark=ERROR, params=[TARGET, WORKLOAD], value=error,
                            digest="aa", **common)  # fmt: skip


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Checkout(tmp_path)


def run(capsys, *arguments):
    code = main.main(["compare", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(
    ("seconds", "error", "code", "verdict"),
    [
        (1e-3, 0.5, 0, "equivalent"),
        (2e-3, 0.5, 1, "regressed"),
        (5e-4, 0.5, 0, "improved"),
        (5e-4, 9.0, 2, "wrong"),
    ],
)
def test_the_command_judges_what_was_measured(checkout, capsys, seconds, error, code, verdict):
    checkout.measure("HEAD~1", 1e-3)
    checkout.measure("HEAD", seconds, error=error)
    for arguments in (["--json"], ["--format", "json"]):
        found, out, _ = run(capsys, "HEAD~1", "HEAD", *arguments)
        document = json.loads(out)
        assert (found, document["exit_code"]) == (code, code)
        assert document["schema"] == "convbench.compare/1"
        assert document["problems"] == []
        assert [cell["verdict"] for cell in document["cells"]] == [verdict]
    for form, start in (("text", verdict), ("markdown", "**"), ("junit", "<?xml")):
        found, out, _ = run(capsys, "HEAD~1", "HEAD", "--format", form)
        assert found == code
        assert start in out
        assert "\x1b" not in out


def test_the_command_takes_hashes_options_and_another_folder(checkout, capsys, monkeypatch):
    checkout.measure("HEAD~1", 1e-3, spread=0.002)
    checkout.measure("HEAD", 1.03e-3, spread=0.002)
    monkeypatch.chdir("/")
    base, head = (commit[:7] for commit in checkout.commits.values())
    folder = ["--results-dir", str(checkout.folder / ".asv/results")]
    assert run(capsys, base, head, *folder)[0] == 0
    assert run(capsys, base, head, *folder, "--delta", "2")[0] == 1
    assert run(capsys, base, head, *folder, "--delta", "2%", "--bench", "accuracy")[0] == 1
    assert run(capsys, base, head, *folder, "--bench", "nothing")[0] == 3


def test_the_command_opens_no_other_commit(checkout, capsys):
    checkout.measure("HEAD~1", 1e-3)
    checkout.measure("HEAD", 1e-3)
    (checkout.folder / ".asv/results/vm").mkdir()
    (checkout.folder / ".asv/results/vm/99999999-env.json").write_text("not JSON")
    assert run(capsys, "HEAD~1", "HEAD")[::2] == (0, "")


def test_the_command_compares_two_environments_of_one_commit(checkout, capsys):
    for environment, seconds in (("tf2.20", 1e-3), ("tf2.21", 2e-3)):
        checkout.measure("HEAD", seconds, environment=environment)
    assert run(capsys, "HEAD:2.20", "HEAD:2.21")[0] == 1
    assert run(capsys, "HEAD:2.21", "HEAD:2.20")[0] == 0


def test_the_command_offers_what_can_be_chosen(checkout, capsys):
    for revision in checkout.commits:
        for environment in ("a", "b"):
            checkout.measure(revision, 1e-3, environment=environment)
    code, out, err = run(capsys, "HEAD~1", "HEAD")
    assert (code, out) == (4, "")
    offered = [f"{checkout.commits['HEAD~1'][:8]}:a:vm", f"{checkout.commits['HEAD'][:8]}:a:vm"]
    assert all(name in err for name in offered)
    assert run(capsys, *offered)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["HEAD~1", "nothing"], 4, "unknown to git"),
        (["HEAD~1", "HEAD:zzz"], 4, "zzz"),
        (["HEAD", "HEAD"], 4, "two different sides"),
        (["HEAD", ":env"], 4, "REVISION"),
        (["HEAD~1", "HEAD", "--bench", "("], 4, "regular expression"),
    ],
)
def test_the_command_refuses_bad_input(checkout, capsys, arguments, code, said):
    for revision in checkout.commits:
        checkout.measure(revision, 1e-3)
    found, out, err = run(capsys, *arguments)
    assert (found, out) == (code, "")
    assert said in err


@pytest.mark.parametrize("delta", ["0.05", "0", "nan", "five"])
def test_a_delta_that_is_no_percentage_is_refused(delta, capsys):
    with pytest.raises(SystemExit) as left:
        main.main(["compare", "a", "b", "--delta", delta])
    assert left.value.code == 4
    assert "is not a number from 0.5" in capsys.readouterr().err


def test_the_command_does_not_pass_what_was_not_measured(checkout, capsys):
    checkout.measure("HEAD~1", 1e-3)
    for form in ("text", "markdown", "json", "junit"):
        code, out, err = run(capsys, "HEAD~1", "HEAD", "--format", form)
        assert code == 3
        assert "NOTHING MEASURED" in out
        assert f"of head, {checkout.commits['HEAD'][:8]}" in out
        assert f"has results of {checkout.commits['HEAD~1'][:8]}" in err


def test_the_command_is_strict_when_told_to(checkout, capsys):
    for revision in checkout.commits:
        checkout.measure(revision, 1e-3, spread=0.5)
    assert run(capsys, "HEAD~1", "HEAD")[0] == 0
    assert run(capsys, "HEAD~1", "HEAD", "--strict")[0] == 3


def test_importing_it_loads_no_backend():
    code = "import sys, convbench.comparing.judge, convbench.comparing.text; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"asv", "pandas", "rich", "scipy", "tensorflow", "cupy"}
    assert not [name for name in loaded if name.startswith("convbench.backends")]


def test_the_page_documents_every_verdict_and_field():
    page = (Path(__file__).parents[2] / "docs" / "comparing.md").read_text(encoding="utf-8")
    for verdict in Verdict:
        assert f"| `{verdict}` |" in page, verdict
    comparison = both([timed(BASE), checked(BASE)], [timed(HEAD), checked(HEAD)])
    document = comparison.to_dict()
    (cell,) = document["cells"]
    for name in (*document, *cell, *cell["base"], *cell["effect"], *document["rule"]):
        assert f"`{name}`" in page, name


# -- Sessions --------------------------------------------------------------------------------------


def test_how_far_sessions_differ_widens_the_interval_of_what_was_measured_apart():
    """By Satterthwaite, with numbers of Welch's that are known: 5 and 5 processes."""
    cells = [timed()], [timed(HEAD, 1.05e-3)]
    narrow = only(*cells).effect
    known = Between({"": Spread(0.02**2, 3, 2)}, "5 repeated sessions of 2 commits")
    comparison = both(*cells, between=known)
    wide = comparison.cells[0].effect
    own = 2 * 0.01**2 / 5
    total = own + 2 * 0.02**2
    freedom = total**2 / (own**2 / 8 + (2 * 0.02**2) ** 2 / 3)
    half = scipy_stats.t.isf(0.025, freedom) * math.sqrt(total)
    assert wide.ratio == narrow.ratio == pytest.approx(1.05)
    assert math.log(wide.high / wide.ratio) == pytest.approx(half)
    assert math.log(narrow.high / narrow.ratio) < half
    assert comparison.cells[0].verdict is V.UNDECIDED
    assert only(*cells).verdict is V.REGRESSED
    (remark,) = comparison.remarks
    assert remark.startswith(
        "sessions of this machine differ by 2 %, from 5 repeated sessions of 2 commits: "
    )
    (mean,) = comparison.means
    assert math.log(mean.high / mean.ratio) == pytest.approx(half)


def test_sessions_that_do_not_differ_change_nothing():
    cells = [timed()], [timed(HEAD, 1.05e-3)]
    assert only(*cells, between=Between({"": Spread(0.0, 3, 2)})) == only(*cells)


def test_where_nothing_is_known_of_sessions_a_claim_says_so():
    assert not both([timed()], [timed(HEAD)]).remarks
    (remark,) = both([timed()], [timed(HEAD, 1.2e-3)]).remarks
    assert "not known" in remark
    assert "convbench doctor --calibrate" in remark


def test_each_target_has_a_spread_of_its_own_or_the_largest_of_its_kind_of_device():
    names = ("numpy@cpu", "tensorflow@cpu", "other@cpu", "cupy@gpu:0")
    known = {"numpy@cpu": Spread(0.01**2, 3), "tensorflow@cpu": Spread(0.04**2, 3)}
    base, head = (
        [timed(commit, seconds, target=name) for name in names]
        for commit, seconds in ((BASE, 1e-3), (HEAD, 1.3e-3))
    )
    comparison = both(base, head, between=Between(known, "calibration of a day on this machine"))
    widths = {cell.target: cell.effect.high / cell.effect.ratio for cell in comparison.cells}
    for target, spread in (*known.items(), ("other@cpu", known["tensorflow@cpu"])):
        single = only([timed(target=target)], [timed(HEAD, 1.3e-3, target=target)],
                      between=Between({"": spread}))  # fmt: skip
        assert widths[target] == pytest.approx(single.effect.high / single.effect.ratio)
    assert widths["cupy@gpu:0"] < widths["numpy@cpu"] < widths["other@cpu"]
    first, second = comparison.remarks
    assert "1 % (numpy@cpu)" in first
    assert "4 % (other@cpu, tensorflow@cpu)" in first or "4 % (tensorflow@cpu, other@cpu)" in first
    assert "from calibration of a day on this machine: " in first
    assert "not known" in second


def test_a_calibration_that_is_not_used_is_said():
    cells = [timed()], [timed(HEAD, 1.2e-3)]
    first, second = both(*cells, between=Between(unused="it is of another machine")).remarks
    assert first == "it is of another machine"
    assert "not known" in second


def test_gates_of_equal_sessions_that_differ_are_seldom_claimed():
    """36 cells, all moved by what the session is; the spread is learnt from a few others."""
    chance = np.random.default_rng(1)
    claimed, trials, between = [0, 0], 300, 0.02
    for _ in range(trials):
        shifts = chance.normal(0, between, 4)
        learnt = Between({"": Spread(float(np.var(shifts[:2], ddof=1)), 1, 1)})
        sides = [
            [
                timed(commit, float(np.exp(shift + chance.normal(0, 0.004))), workload=f"a.w{i}")
                for i in range(36)
            ]
            for commit, shift in zip((BASE, HEAD), shifts[2:], strict=True)
        ]
        for i, known in enumerate((None, learnt)):
            found = both(*sides, between=known).counts
            claimed[i] += bool(found.keys() & {V.REGRESSED, V.SUSPECT, V.IMPROVED})
    assert claimed[0] > 0.4 * trials
    assert claimed[1] < 0.12 * trials
