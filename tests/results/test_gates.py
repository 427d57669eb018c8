"""Stored gates: what is read of them, and what damage and strangers cannot do."""

from __future__ import annotations

import json
import math
import os

import pytest

from convbench.results import gates
from convbench.results.folder import Folder
from convbench.results.journal import MOST_BYTES
from convbench.results.records import load
from convbench.words.status import Standing, Status

from ..gates import (
    DOUBT,
    gate_document,
    gated_cell,
    load_gates,
    store_gate,
)
from ..records import BASE, HEAD, TARGET, WORKLOAD


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


def only(results):
    """The one cell of the one gate that is stored."""
    (gate,) = load_gates(results).gates
    return gate.cells[TARGET, WORKLOAD]


# -- Where ----------------------------------------------------------------------------------------


def test_gates_lie_beside_the_evidence_where_nothing_else_is_read(results):
    paths = [store_gate(results, gated_cell()) for _ in range(3)]
    assert len({*paths}) == 3
    assert {path.parent for path in paths} == {results.parent / "evidence" / "vm"}
    folder = Folder(results)
    assert [(g.machine, g.base, g.head) for g in folder.gates()] == [("vm", BASE[:8], HEAD[:8])] * 3
    assert folder.files() == {}
    assert load(results).records == ()


def test_only_what_is_wanted_is_opened_and_the_newest_comes_first(results):
    for ended_s in (2.0, 3.0, 1.0):
        store_gate(results, gated_cell(), ended_s=ended_s)
    store_gate(results, base="a" * 40, head=HEAD).write_text("not JSON")
    for wanted in (gates.between(BASE, HEAD), gates.between(HEAD[:8], BASE[:8])):
        loaded = gates.load(results, wanted)
        assert [gate.ended_s for gate in loaded.gates] == [3.0, 2.0, 1.0]
        assert loaded.problems == ()


# -- What is read ---------------------------------------------------------------------------------


def test_what_did_not_matter_to_a_gate_is_known_and_a_file_need_not_say_it(results):
    for ended_s, rule in ((2.0, {"rule": {"delta": 0.02}}), (1.0, {})):
        store_gate(results, gated_cell(), ended_s=ended_s, **rule)
    assert [gate.within for gate in load_gates(results).gates] == [", beyond 2 %", ""]


def test_a_side_of_a_cell_becomes_the_record_of_a_time(results):
    store_gate(results, gated_cell(1.1, number=8))
    cell = only(results)
    assert len(cell.log_ratios) == 8
    assert sum(cell.log_ratios.values()) / 8 == pytest.approx(math.log(1.1))
    base, head = cell.times
    assert (base.commit, head.commit, head.machine, head.environment) == (BASE, HEAD, "vm", "env")
    assert (head.status, head.standing, len(head.processes)) == (Status.OK, Standing.HELD, 8)
    assert head.value / base.value == pytest.approx(1.1)
    assert (head.suite, head.facts["algorithm"]) == ("pipeline", "im2col")
    assert head.facts["receipt"]["seed"] == "5eed"
    assert [check.value for check in cell.checks] == [0.05, 0.05]


@pytest.mark.parametrize(
    ("fields", "counted"),
    [
        ({}, 12),
        ({"fresh": 7}, 12),
        ({"fresh": 7, "state": "flagged"}, 7),
        ({"state": "flagged"}, 0),
    ],
)
def test_what_made_a_cell_seem_to_differ_counts_once_it_is_confirmed(results, fields, counted):
    store_gate(results, gated_cell(**fields))
    assert len(only(results).log_ratios) == counted


@pytest.mark.parametrize(
    ("said", "status", "reason"),
    [
        ({"outcome": {"status": "failed", "reason": "no memory"}}, Status.FAILED, "no memory"),
        ({"outcome": {"status": "wrong", "reason": "it is 9"}}, Status.WRONG, "it is 9"),
        ({"receipt": DOUBT}, Status.INVALID, "time: it took longer"),
        ({"receipt": None}, Status.OK, ""),
    ],
)
def test_a_side_says_why_it_has_no_time(results, said, status, reason):
    store_gate(results, gated_cell(head=said))
    base, head = only(results).times
    assert base.status is Status.OK
    assert head.status is status
    assert head.reason.endswith(reason)
    assert head.reason.startswith("measured side by side: " if reason else "")
    assert (head.value is None) == (status in {Status.FAILED, Status.WRONG})


@pytest.mark.parametrize("error", [9.0, "inf"])
def test_an_error_beyond_its_bound_is_wrong_whatever_else_is_said(results, error):
    store_gate(results, gated_cell(head={"error_over_bound": error}))
    assert only(results).checks[1].status is Status.WRONG


def test_a_gate_can_be_turned(results):
    store_gate(results, gated_cell(1.1))
    (gate,) = load_gates(results).gates
    turned = gate.turned()
    assert (turned.base, turned.head) == (gate.head, gate.base)
    (cell,) = turned.cells.values()
    assert [record.commit for record in (*cell.times, *cell.checks)] == [HEAD, BASE] * 2
    assert sum(cell.log_ratios.values()) / 12 == pytest.approx(-math.log(1.1))
    assert turned.turned() == gate


def test_two_targets_are_no_cell_of_two_commits(results):
    store_gate(results, gated_cell(head_target="mine@cpu"))
    (gate,) = load_gates(results).gates
    assert gate.cells == {}


# -- Damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"schema": "convbench.gate_evidence/2"}, "its schema is 'convbench.gate_evidence/2'"),
        ({"schema": ["x"] * 1000}, "its schema is ["),
        ({"ended_s": math.nan}, "ended_s is nan"),
        ({"ended_s": "now"}, "ended_s is 'now'"),
        ({"ended_s": True}, "ended_s is True"),
        ({"cells": {}}, "cells is not a list"),
        ({"base": 3}, "'3' is no hash"),
        ({"of_base": {"changed": "no"}}, "changed"),
        ({"of_base": {"commit": "$(reboot)"}}, "is no hash"),
        ({"of_head": {"versions": 3}}, "cell 1 left out, because versions is not an object"),
    ],
)
def test_a_damaged_gate_is_named_with_why(results, fields, why):
    path = store_gate(results)
    path.write_text(json.dumps(gate_document(gated_cell(), **fields)))
    loaded = load_gates(results)
    (problem,) = loaded.problems
    assert problem.startswith(f"{path}: ")
    assert why in problem
    assert len(problem) < len(str(path)) + 300
    assert not any(gate.cells for gate in loaded.gates)


PAIR = {"pair": 1, "fresh": False, "log_ratio": 0.0, "base_s": 1e-3, "head_s": 1e-3}


@pytest.mark.parametrize(
    "fields",
    [
        {"pairs": 3},
        {"pairs": [3]},
        {"pairs": [{}]},
        *({"pairs": [PAIR | {"log_ratio": value}]} for value in (math.nan, math.inf, 1e6, "1", [])),
        *({"pairs": [PAIR | {"head_s": value}]} for value in (0, -1.0, math.inf, None, False)),
        {"pairs": [PAIR | {"log_ratio": 10**400}]},
        {"flops": None},
        {"head": {"receipt": 3}},
        {"head": {"outcome": {"status": "splendid", "reason": ""}}},
        {"head": {"outcome": {"status": "ok", "reason": ""}}},
        {"head": {"check": 3}},
        {"head": {"error_over_bound": math.nan}},
        {"head": {"error_over_bound": "small"}},
    ],
)
def test_a_damaged_cell_costs_only_itself(results, fields):
    path = store_gate(results, gated_cell(**fields), gated_cell(workload="net.pool"))
    loaded = load_gates(results)
    (problem,) = loaded.problems
    assert problem.startswith(f"{path}: cell 1 left out, because")
    assert [*loaded.gates[0].cells] == [(TARGET, "net.pool")]


def test_what_is_huge_or_no_file_is_not_read(results):
    path = store_gate(results, gated_cell())
    os.truncate(path, MOST_BYTES + 1)
    (problem,) = load_gates(results).problems
    assert "it is larger than" in problem
    path.unlink()
    os.mkfifo(path)  # nobody will ever write into it
    (problem,) = load_gates(results).problems
    assert "it is no file" in problem
    path.unlink()
    path.symlink_to("/dev/zero")
    assert "it is no file" in load_gates(results).problems[0]
    path.unlink()
    path.write_text("[" * 100_000)
    assert "it is nested too deeply" in load_gates(results).problems[0]


# -- On a card ------------------------------------------------------------------------------------


def test_what_was_discarded_is_told_with_the_verdict(results):
    lost = {"quartets": 3, "of": 60, "why": ["sw_thermal_slowdown"]}
    store_gate(results, gated_cell(discarded=lost))
    why = "3 of 60 quartets discarded: the card was slowed down (sw_thermal_slowdown)"
    assert only(results).said == f"equivalent: as the gate says; {why}"


@pytest.mark.parametrize("lost", [{}, [3], {"quartets": "3", "of": 60, "why": []}])
def test_a_cell_that_does_not_say_what_was_discarded_is_left_out(results, lost):
    store_gate(results, gated_cell(discarded=lost), gated_cell(workload="other"))
    loaded = load_gates(results)
    assert [name for _, name in loaded.gates[0].cells] == ["other"]
    assert "cell 1 left out" in loaded.problems[0]
