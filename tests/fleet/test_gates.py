"""A gate on the workers of a fleet: what a slice tells, what is believed of it, and whole gates."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from convbench.comparing.comparison import Rule
from convbench.comparing.pairs import Monitor, State
from convbench.correctness.accuracy import Accuracy
from convbench.correctness.verify import Check
from convbench.gate import slices
from convbench.gate.build import Wanted, as_commit, build
from convbench.gate.pairs import Card, Cell, Found, Pooled
from convbench.results import gates
from convbench.results.journal import UNREADABLE
from convbench.stimulus.formats import Fill
from convbench.stimulus.spec import ConvSpec, PipelineSpec
from convbench.stimulus.targets import Target
from convbench.words.numbers import count
from convbench.words.status import Outcome, Standing, Status

from ..gate.sides import SLOWER, WRONG, branches
from .commits import cluster

pytestmark = [
    pytest.mark.fleet,
    pytest.mark.skipif(sys.platform != "linux", reason="cores are taken as Linux does it"),
]

NUMPY = Target.parse("numpy@cpu")
CELLS = [
    Cell(name, PipelineSpec(1, 8, 8, 3, ConvSpec(4, 3, 3)), NUMPY, NUMPY)
    for name in ("a.one", "a.two")
]
DOUBT = {"claims": [{"claim": "time", "verdict": "not supported", "reason": "it waits"}]}

# -- Slices ----------------------------------------------------------------------------------------


def pooled() -> Pooled:
    made = Pooled(CELLS, Rule(delta=0.02), 100.0)
    made.begin()
    return made


def seen(found: Found, log_ratios: list[float]) -> Found:
    """As if pairs had been measured."""
    found.monitor.decides = False
    for pair, log_ratio in enumerate(log_ratios, 1):
        found.samples[pair] = [1e-3, 1.1e-3, 1.2e-3], [1e-3 * math.exp(log_ratio)]
        found.monitor.add(pair, log_ratio, 0.1)
    return found


def told(*of_cells: list[float], places: tuple[int, ...] = (0, 1)) -> dict:
    """What a slice tells, after it went from there to here."""
    cells = [
        {"cell": place, **slices._told(seen(Found(CELLS[place], Monitor(Rule(), 2)), some))}
        for place, some in zip(places, of_cells, strict=False)
    ]
    of_all = {"pairs": max(map(len, of_cells)), "pair_s": {"numpy@cpu": 0.5}}
    versions = {side: {"numpy@cpu": {"numpy": "2"}} for side in ("base", "head")}
    return json.loads(json.dumps({**of_all, "versions": versions, "cells": cells}))


def test_pairs_of_a_slice_are_looked_at_together(monkeypatch):
    monkeypatch.setattr(Pooled, "share", property(lambda made: 0.1 + made.pairs / 100))
    one, other = [0.2, 0.21, 0.19, 0.2, 0.22], [0.001, -0.001, 0.0005, 0.0, 0.001]
    here, there = pooled(), pooled()
    for start in (0, 5, 10):
        for found, values in zip(here.found, (one, other), strict=True):
            found.monitor.extend(dict(enumerate(values, start + 1)), 0.1 + start / 100)
        slices.take(there, told(one, other))
    assert there.pairs == 15
    for mine, theirs in zip(here.found, there.found, strict=True):
        assert theirs.monitor.counted == mine.monitor.counted
    assert [found.monitor.state for found in there.found] == [
        found.monitor.state for found in here.found
    ]
    assert there.found[0].monitor.state is State.DIFFERENT
    assert set(there.found[0].monitor.first).isdisjoint(there.found[0].monitor.fresh)
    assert there.found[1].medians("base")[11] == 1.1e-3
    assert there.versions["head"]["numpy@cpu"] == {"numpy": "2"}


def test_a_slice_collects_and_decides_nothing():
    monitor = seen(Found(CELLS[0], Monitor(Rule(), 2)), [0.0] * 40).monitor
    monitor.finish()
    assert (monitor.state, len(monitor.first)) == (State.OPEN, 40)


def test_what_is_not_open_is_not_asked_for_and_what_is_known_is():
    made = pooled()
    slices.take(made, told([0.0001, -0.0001] * 20))
    made.found[1].received("base", {"claims": []})
    made.found[1].received("head", DOUBT)
    made.found[1].tries = 1
    assert slices.open_cells(made) == [
        {"cell": 1, "tries": 1, "held": ["base"], "doubted": ["head"]}
    ]


def test_a_doubt_of_two_slices_is_an_answer_and_of_one_is_not():
    made, doubtful = pooled(), told([0.0])
    doubtful["cells"][0]["receipts"] = {"head": DOUBT}
    slices.take(made, doubtful)
    assert made.found[0].standing("head") is Standing.DOUBTED
    assert not made.found[0].outcomes
    slices.take(made, doubtful)
    assert made.found[0].outcomes["head"].status is Status.INVALID


def test_what_a_worker_has_seen_of_a_cell_crosses_whole():
    found = seen(Found(CELLS[0], Monitor(Rule(), 2), verified=2, events=True), [0.1])
    found.outcomes["base"] = Outcome(Status.FAILED, "no luck", "try", "ValueError", True)
    found.worst["head"] = Accuracy(math.inf, (0, 1, 2, 3), math.nan, 1.0, 0.5, 1, 9)
    found.algorithms["head"] = "im2col"
    found.cards[1] = Card(9, 2, [1000, 1500], [], {"hw_slowdown"}, True)
    sent = told([0.1])
    sent["cells"] = json.loads(json.dumps([{"cell": 0, **slices._told(found)}]))
    made = pooled()
    slices.take(made, sent)
    there = made.found[0]
    assert (there.outcomes, there.algorithms) == (found.outcomes, found.algorithms)
    assert (there.cards, there.verified, there.events) == (found.cards, 2, True)
    assert repr(there.worst) == repr(found.worst)
    assert not there.monitor.counted, "with an outcome, no time counts"


def test_a_check_crosses_whole():
    accuracy = Accuracy(0.5, (0, 0, 1, 2), 1.0, 1.1, 0.2, 0, 10)
    check = Check(
        NUMPY, "a.one", "float32", Fill.NORMAL, 3, Status.OK, exact=False, accuracy=accuracy,
        algorithm="im2col", scheme="x", digest="d", sampled=10, usual=1.5,
    )  # fmt: skip
    assert slices.check(json.loads(json.dumps(slices.of_check("head", check)))) == ("head", check)


NONSENSE = [None, -1, 0, 10**9, "x", [], {}, True, math.nan, math.inf, "\x1b[31m"]


def places(value, path=()):
    """Every place in something of JSON."""
    yield path
    items = []
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in items:
        yield from places(each, (*path, key))


@pytest.mark.parametrize("nonsense", NONSENSE, ids=repr)
def test_what_is_not_what_it_should_be_is_an_error_or_changes_no_number(nonsense):
    sent = told([0.1, 0.2], [0.0, 0.01])
    for path in [*places(sent)][1:]:
        changed = copy.deepcopy(sent)
        *way, last = path
        inner = changed
        for key in way:
            inner = inner[key]
        inner[last] = nonsense
        made = pooled()
        before = repr([found.monitor for found in made.found])
        try:
            slices.take(made, changed)
        except UNREADABLE:
            assert repr([found.monitor for found in made.found]) == before
            assert made.pairs == 0
            continue
        for found in made.found:
            assert all(0 < pair <= made.pairs for pair in found.samples)
            assert all(map(math.isfinite, found.monitor.counted.values()))
            assert all(s > 0 for side in ("base", "head") for s in found.medians(side).values())


def test_another_version_of_a_library_is_not_mixed_in():
    made, other = pooled(), told([0.0])
    slices.take(made, other)
    other["versions"]["head"]["numpy@cpu"] = {"numpy": "3"}
    with pytest.raises(ValueError, match=r"head's numpy@cpu is of .*3.* there, and of .*2.* else"):
        slices.take(made, other)
    assert made.pairs == 1


# -- Whole gates -----------------------------------------------------------------------------------

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
CELL = ("--target", "numpy@cpu", "--workload", "notebook.conv", "--budget", "40s")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return branches(tmp_path_factory.mktemp("gates"), {"slower": SLOWER, "wrong": WRONG})


@pytest.fixture(scope="module")
def two(tmp_path_factory, project):
    """A scheduler, and a worker for each core: two of them in CI."""
    pytest.importorskip("distributed", reason="distributed is not installed: it is in `fleet`")
    with cluster(tmp_path_factory.mktemp("cluster"), project.environment) as made:
        made.scheduler()
        all_registered = "(Registered to:)" + ".*Registered to:" * (CORES - 1)
        made.until(made.worker("--cores-each", "1"), f"(?s){all_registered}")
        yield made


def gate(project, two, *words, code):
    done = project.convbench("gate", *words, *CELL, "--json", "--scheduler", two.address)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout), done.stderr


def test_the_working_tree_becomes_a_commit_that_no_branch_has(project):
    commit = project.git("rev-parse", "HEAD")
    assert as_commit(Wanted(None), project.folder) == (commit, commit)
    assert as_commit(Wanted("slower"), project.folder)[0] == project.git("rev-parse", "slower")
    new = project.folder / "src" / "convbench" / "new.py"
    new.write_text("# new\n")
    try:
        before = project.git("status", "--porcelain")
        of, made = as_commit(Wanted(None), project.folder)
        assert as_commit(Wanted(None), project.folder) == (of, made)
        assert (of, project.git("rev-parse", f"{made}^")) == (commit, commit)
        assert project.git("diff", "--name-only", commit, made) == f"src/convbench/{new.name}"
        assert project.git("status", "--porcelain") == before
        here, there = (
            build(Wanted(each), project.folder, lambda _: None) for each in (None, made)
        )  # what is sent is what would have been measured here
        assert here.tree == there.tree
    finally:
        new.unlink()


def test_two_machines_measure_pairs_of_one_gate(project, two):
    found, said = gate(project, two, "main", "slower", code=1)
    (cell,) = found["cells"]
    assert cell["verdict"] == "regressed"
    assert cell["effect"]["low"] > 2
    assert cell["head"]["standing"] == "held"
    assert f"1 cell on {count(CORES, 'machine')} like " in said
    (stored,) = gates.load(project.results_dir, lambda _: True).gates
    assert stored.machine == found["head"]["machine"]
    assert stored.head.commit == project.git("rev-parse", "slower")
    assert len([*(two.folder / "alone").iterdir()]) == CORES


def test_what_is_wrong_there_is_not_timed(project, two):
    (project.folder / "src" / "convbench" / "unused.py").write_text(
        "# the working tree has changed\n"
    )
    try:
        found, said = gate(project, two, "main", "wrong", code=2)
        assert found["cells"][0]["verdict"] == "wrong"
        assert "for at most" not in said
        found, _ = gate(project, two, "main", "--delta", "50", code=0)
        assert "head is the working tree, which differs from its commit" in found["warnings"]
    finally:
        (project.folder / "src" / "convbench" / "unused.py").unlink()


@pytest.mark.parametrize("step", ["check", "measure"])
def test_a_judge_that_is_killed_costs_its_step(project, two, step):
    words = ("gate", "main", "main", *CELL, "--delta", "50", "--json")
    process = project.start(*words, "--scheduler", two.address)
    end_s = time.monotonic() + 60
    while time.monotonic() < end_s and not (judges := at(two, step)):
        time.sleep(0.05)
    os.kill(min(judges), signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert json.loads(out)["cells"][0]["pairs"] > 3


@pytest.mark.parametrize("how", ["Ctrl-C", "no scheduler"])
def test_what_was_measured_is_kept_however_it_ends(project, tmp_path, how):
    words = ("gate", "main", "main", *CELL, "--delta", "0.6", "--json")
    with cluster(tmp_path, project.environment) as made:
        scheduler = made.scheduler()
        made.worker("--cores-each", "1")
        process = project.start(*words, "--scheduler", made.address)
        while not re.search(r"after [1-9]\d* pairs", line := process.stderr.readline()):
            assert line  # or it has ended
        if how == "Ctrl-C":
            os.killpg(process.pid, signal.SIGINT)
        else:
            scheduler.kill()
        out, err = process.communicate(timeout=60)
    assert process.returncode == (130 if how == "Ctrl-C" else 0), err
    assert "Traceback" not in err
    assert json.loads(out)["cells"][0]["pairs"] >= 1
    assert "stored in " in err


def at(cluster, step):
    """The processes of a cluster that are at a step of some gate: others run beside this one."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            words = (process / "cmdline").read_text().rstrip("\0").split("\0")
            if words[1:4] == ["-m", "convbench.fleet.gated", str(cluster.folder)]:
                asked = json.loads(Path(words[-1], "asked.json").read_text())
                found += [int(process.name)] if asked["step"] == step else []
    return found


def test_what_cannot_be_built_or_chosen_is_said(project, two):
    done = project.convbench(
        "gate", "main", "slower", *CELL, "--scheduler", two.address, "--machine", "other"
    )
    assert done.returncode == 4
    assert "--machine: the machine is other, and there are " in done.stderr
    done = project.convbench("gate", "main", "slower:/no/python", *CELL, "--scheduler", two.address)
    assert done.returncode == 4
    assert "gate: what a worker builds for slower:/no/python is an error (" in done.stderr
