"""`convbench bench`: fresh processes, interleaved; faults that cost themselves; interruptions."""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import signal
import statistics
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

from convbench.machine.child import Child, start_server
from convbench.measuring.asv_store import outcome
from convbench.measuring.bench import Bench
from convbench.results import journal, records
from convbench.results.journal import Note
from convbench.results.rows import summarise
from convbench.words.status import Outcome, Status

from ..checkouts import FRONT, Checkout
from ..plugin import FAULTS

FAULTY = (*FAULTS, "dies_at_import", "not_installed", "broken_import", "no_class")
KILLS = int(os.environ.get("CONVBENCH_KILLS", "3"))
"""How often a run is killed; `make kill` asks for 50."""


def evidence_of(checkout):
    (path,) = (checkout.results_dir.parent / "evidence").rglob("*.jsonl")
    return journal.read(path)


# -- Where ----------------------------------------------------------------------------------------


def test_results_and_evidence_are_found_wherever_the_configuration_puts_them(tmp_path):
    made = Checkout(tmp_path, ["not_installed"])
    path = made.folder / "asv.conf.json"
    path.write_text(path.read_text().replace(".asv/results", "measured/results"))
    (made.folder / ".gitignore").write_text(".asv\nmeasured\n__pycache__\n")
    made.commit()
    cells = r"pipeline\.Smoke\..*'(numpy|not_installed)@cpu', 'notebook\.pool'"
    assert made.convbench("bench", "--rounds", "2", "--bench", cells).returncode == 0
    done = made.convbench("results", "--json")
    row, absent = json.loads(done.stdout)["rows"]
    assert (row["target"], row["processes"]) == ("numpy@cpu", 2)
    assert row["spread"] is not None
    assert (absent["status"], absent["causes"][0]["status"]) == ("skipped", "skipped")
    assert "no module named no_such_module" in absent["causes"][0]["reason"]
    assert not (made.folder / ".asv" / "evidence").exists()


# -- Injected failures ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    """One small pool on NumPy and on every faulty backend, in three rounds; filed elsewhere."""
    made = Checkout(tmp_path_factory.mktemp("bench"), FAULTY)
    configuration = made.folder / "asv.conf.json"
    text = configuration.read_text().replace(".asv/results", ".asv/elsewhere/results")
    made.results_dir = made.folder / ".asv" / "elsewhere" / "results"
    configuration.write_text(
        text.replace('"default_benchmark_timeout": 600', '"default_benchmark_timeout": 5')
    )
    made.head = made.commit()
    targets = "|".join(["numpy", *FAULTY])
    made.done = made.convbench(
        "bench", "--rounds", "3", "--json",
        "--bench", rf"(pipeline|accuracy)\.Smoke\..*'({targets})@cpu', 'notebook\.pool'",
        "--bench", r"pipeline\.Smoke\..*'(killed|hangs|sticky)@cpu', 'notebook\.conv'",
    )  # fmt: skip
    return made


@pytest.fixture(scope="module")
def rows(faulty):
    loaded = records.load(faulty.results_dir)
    assert loaded.problems == (), faulty.done.stderr
    return {(row.target, row.workload): row for row in summarise(loaded.records)}


EXPECTED = {
    "numpy": (Status.OK, ""),
    "raises": (Status.FAILED, "cuBLAS"),  # in what words: whether another cell came before it
    "exits": (Status.FAILED, "the process ended before it answered (exit status 7)"),
    "killed": (Status.FAILED, "the process ended before it answered (killed by SIGKILL)"),
    "segfaults": (Status.FAILED, "the process ended before it answered (killed by SIGSEGV)"),
    "hangs": (Status.FAILED, "no answer within 5 s, so the process was ended"),
    "no_memory": (Status.FAILED, "the machine's memory is full"),
    "wrong": (Status.WRONG, "times its bound: at ["),
    "nan": (Status.WRONG, "times its bound: at ["),
    "misshapen": (Status.WRONG, "the shape is"),
    "prints": (Status.OK, ""),
    "double": (Status.WRONG, "the dtype is float64; expected float32"),
    "changes_input": (Status.FAILED, "the run changed its input"),
    "one_buffer": (Status.FAILED, "the run changed the output of an earlier call"),
    "sticky": (Status.FAILED, "the GPU's context is lost"),
    "returns_none": (Status.FAILED, "to_numpy returned NoneType"),
    "dies_at_import": (Status.FAILED, "killed by SIGABRT"),
    "not_installed": (Status.SKIPPED, "not installed: there is no module named no_such_module"),
    "broken_import": (Status.FAILED, "`import faulty_library` raised OSError"),
    "no_class": (Status.FAILED, "loading faulty:nothing raised AttributeError"),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_an_injected_failure_costs_its_own_cell_and_is_named(rows, faulty, name):
    status, reason = EXPECTED[name]
    row = rows[f"{name}@cpu", "notebook.pool"]
    assert row.status is status, (row, faulty.done.stderr)
    outcomes = [outcome for _, outcome in row.outcomes]
    assert any(reason in outcome.reason for outcome in outcomes) or not reason, outcomes
    assert all(outcome.remedy for outcome in outcomes)


@pytest.mark.parametrize("target", ["killed@cpu", "hangs@cpu", "sticky@cpu"])
def test_the_other_cells_of_a_target_that_dies_are_measured_in_a_new_process(rows, target):
    row = rows[target, "notebook.conv"]
    assert (row.status, row.processes) == (Status.OK, 3)


def test_what_failed_is_not_tried_in_every_round(faulty):
    tries = Counter(
        note.params[0]
        for note in evidence_of(faulty).notes
        if note.status == "failed" and "pipeline" in note.benchmark
    )
    assert tries["hangs@cpu"] == tries["raises@cpu"] == 1


def test_a_round_has_one_process_for_a_target(faulty):
    of_round = {}
    for note in evidence_of(faulty).notes:
        if note.params[0] == "numpy@cpu":
            of_round.setdefault(note.round, set()).add(note.process)
    assert sorted(of_round) == [1, 2, 3]
    assert all(len(processes) == 1 for processes in of_round.values())
    assert len(set().union(*of_round.values())) == 3


def test_the_output_is_json_and_the_exit_code_says_that_something_is_wrong(faulty):
    assert faulty.done.returncode == 2, faulty.done.stderr
    document = json.loads(faulty.done.stdout)
    assert document["schema"] == "convbench.bench/1"
    assert document["interrupted"] is False
    assert 0 < document["measured_s"] < document["elapsed_s"]
    assert "of it spent measuring" in faulty.done.stderr


@pytest.mark.parametrize(
    "words", [("show", "{head}"), ("compare", "{head}", "{head}"), ("publish",)]
)
def test_asv_reads_what_was_written(faulty, words):
    done = faulty.asv(*(word.format(head=faulty.head) for word in words))
    assert done.returncode == 0, done.stdout + done.stderr
    assert words == ("publish",) or "bench_pipeline.Smoke.track_time" in done.stdout


def test_asv_has_the_median_of_the_same_samples(faulty):
    (path,) = faulty.results_dir.glob("bench/*-*.json")
    file = json.loads(path.read_text())
    stored = file["results"]["bench_pipeline.Smoke.track_time"][0]
    samples = [
        sample
        for note in evidence_of(faulty).notes
        if note.status == "ok" and note.params == ("numpy@cpu", "notebook.pool")
        for sample in note.facts.get("samples_s", ())
    ]
    assert statistics.median(samples) in [pytest.approx(value) for value in stored if value]


# -- Benchmarks that are not ours -----------------------------------------------------------------

ORDINARY = """\
def time_noparams():
    pass

class Ordinary:
    params = ([1, 2], ["a"])
    def time_params(self, number, text):
        pass
"""


def test_ordinary_benchmarks_are_left_out_by_name_and_the_others_are_measured(tmp_path):
    checkout = Checkout(tmp_path, ())
    (checkout.folder / "benchmarks" / "bench_ordinary.py").write_text(ORDINARY)
    checkout.commit()
    alone = checkout.convbench("bench", "--bench", "ordinary")
    both = checkout.convbench(
        "bench", "--json", "--rounds", "1", "--bench", "ordinary",
        "--bench", r"pipeline\.Smoke\..*'numpy@cpu', 'notebook\.pool'",
    )  # fmt: skip
    for done, code in ((alone, 4), (both, 0)):
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        assert "bench_ordinary.Ordinary.time_params, bench_ordinary.time_noparams;" in done.stderr
    assert [row["target"] for row in json.loads(both.stdout)["rows"]] == ["numpy@cpu"]


# -- Interruptions --------------------------------------------------------------------------------

SELECT = ("--bench", r"pipeline\.Smoke\..*'numpy@cpu'")


def finished_cells(checkout):
    return {
        (note.benchmark, note.params, note.round)
        for note in evidence_of(checkout).notes
        if note.status == "ok"
    }


def doubted(note):
    claims = note.facts.get("receipt", {}).get("claims", ())
    return any(claim["verdict"] == "not supported" for claim in claims)


def test_killed_at_any_moment_it_loses_nothing_and_is_continued(tmp_path):
    checkout = Checkout(tmp_path, ())
    checkout.commit()
    chance = random.Random(0)
    kept = set()
    for _ in range(KILLS):
        process = checkout.start("bench", *SELECT)
        with pytest.raises(subprocess.TimeoutExpired):  # it takes longer than that by itself
            process.communicate(timeout=1.0 + 4 * chance.random())
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if (checkout.folder / ".asv" / "evidence").exists():
            assert evidence_of(checkout).problems == []
            assert kept <= (kept := finished_cells(checkout)), "a finished cell was lost"
        for path in checkout.results_dir.rglob("*.json"):
            json.loads(path.read_text())
        loaded = records.load(checkout.results_dir)
        assert loaded.problems == ()
        assert {(r.benchmark, (r.target, r.workload)) for r in loaded.records} == {
            cell[:2] for cell in kept
        }
    done = checkout.convbench("bench", *SELECT)
    assert done.returncode == 0, done.stderr
    assert not kept or "continuing run" in done.stderr
    assert kept <= finished_cells(checkout)
    # A time that is doubted is measured again in the same round: on a busy machine that happens.
    counts = Counter(
        (note.params, note.round)
        for note in evidence_of(checkout).notes
        if note.status == "ok" and not doubted(note)
    )
    assert set(counts.values()) == {1}, "a cell was measured again"
    assert len(counts) == 5 * 9
    assert not list(checkout.folder.glob(".asv/.convbench-*")) or kept


def test_ctrl_c_keeps_what_was_measured(tmp_path):
    checkout = Checkout(tmp_path, ())
    checkout.commit()
    process = checkout.start("bench", *SELECT)
    for line in process.stderr:
        if "round " in line:  # the first cell is measured
            break
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command continues" in error
    loaded = records.load(checkout.results_dir)
    assert loaded.records
    assert loaded.problems == ()
    assert list(checkout.results_dir.glob("bench/*-*.json")), "asv's file was not written"
    said = evidence_of(checkout)
    assert {note.process for note in said.notes if note.status == "ok"} == set(said.processes)
    assert all("after" in process for process in said.processes.values()), "one was cut off"


# -- What processes share -------------------------------------------------------------------------


def look(pipe):
    """What a process that is about to measure has inherited."""
    tensorflow = sys.modules.get("tensorflow")
    module = sys.modules.get("tensorflow.python.eager.context")
    context = module._context if module else None
    pipe.send(
        {
            "tensorflow": tensorflow is not None,
            "started": context is not None and context._context_handle is not None,
            "threads": len(list(Path("/proc/self/task").iterdir())),
            "sigint": signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
            "pid": os.getpid(),
        }
    )


def test_forked_processes_share_code_and_nothing_that_runs():
    start_server("convbench.measuring.preload", {"CONVBENCH_SUITES": str(FRONT)})
    seen = []
    for _ in range(2):
        child = Child(look, (), fork=True)
        seen.append(child.receive(60.0))
        child.close()
    for found in seen:
        assert found["tensorflow"] == (find_spec("tensorflow") is not None)
        assert not found["started"], "TensorFlow's runtime was started before the fork"
        assert found["threads"] == 1, "threads do not survive a fork, so none may be there"
        assert found["sigint"]
    assert seen[0]["pid"] != seen[1]["pid"]


def die(pipe):
    os.kill(os.getpid(), signal.SIGSEGV)


def test_a_forked_process_that_dies_says_how():
    start_server("convbench.measuring.preload", {"CONVBENCH_SUITES": str(FRONT)})
    child = Child(die, (), fork=True)
    answer = child.receive(60.0)
    child.close()
    assert isinstance(answer, Outcome)
    assert answer.kind == "killed by SIGSEGV"


# -- Order and bookkeeping ------------------------------------------------------------------------


class Cells:
    """A store without asv: ten cells of two targets."""

    def __init__(self, folder):
        from convbench.measuring.asv_store import Cell

        self.suites = folder / "benchmarks"
        self.evidence, self.kept = folder / "evidence.jsonl", ()
        self.made = [
            Cell("b.S.track_time", i, (f"{name}@cpu", f"w{i}"), 3, False, 1.0)
            for name in ("one", "two")
            for i in range(5)
        ]

    def cells(self):
        return list(self.made)


SUITE = """
from .convbench_common import cell

TARGETS = tuple(f"t{i}@cpu" for i in range(6))
WORKLOADS = tuple(f"w{i}" for i in range(6))


class Together:
    param_names = ("target", "workload")
    params = (TARGETS, WORKLOADS)
    type = "time"
    unit = "seconds"
    version = "1"

    @cell(rounds=4)
    def track_time(self, target, workload):
        return {"samples": [1.0], "number": 1}, {}


class Alone(Together):
    params = (TARGETS[:1], WORKLOADS)

    @cell(rounds=4, alone=True)
    def track_time(self, target, workload):
        return {"samples": [1.0], "number": 1}, {}
"""


@pytest.fixture(scope="module")
def rounds(tmp_path_factory):
    """Of each round what was measured, in order, as (process, benchmark, target, workload)."""
    checkout = Checkout(tmp_path_factory.mktemp("order"), ())
    (checkout.folder / "benchmarks" / "bench_order.py").write_text(SUITE)
    checkout.commit()
    done = checkout.convbench("bench", "--bench", "bench_order")
    assert done.returncode == 0, done.stderr
    found = {}
    for note in evidence_of(checkout).notes:
        if note.status == "ok":
            entry = (note.process, note.benchmark.split(".")[1], *note.params)
            found.setdefault(note.round, []).append(entry)
    assert list(found) == [1, 2, 3, 4], "a round is finished before the next one begins"
    return list(found.values())


def test_a_process_has_all_cells_of_one_target_in_a_row(rounds):
    for notes in rounds:
        together = [note for note in notes if note[1] == "Together"]
        runs = [list(group) for _, group in itertools.groupby(notes, lambda note: note[0])]
        runs = [run for run in runs if run[0][1] == "Together"]
        assert sorted(len(run) for run in runs) == [6] * 6
        assert all(len({target for _, _, target, _ in run}) == 1 for run in runs)
        assert len({process for process, *_ in together}) == 6
    assert len({process for notes in rounds for process, *_ in notes}) == 4 * (6 + 6)


def test_the_order_of_targets_and_cells_is_drawn_anew_in_each_round(rounds):
    """That all rounds agree by chance has a probability of 1 in 700 ** 3."""
    of_targets, of_cells = set(), {}
    for notes in rounds:
        together = [note for note in notes if note[1] == "Together"]
        of_targets.add(tuple(dict.fromkeys(target for _, _, target, _ in together)))
        for target in {target for _, _, target, _ in together}:
            order = tuple(workload for _, _, of, workload in together if of == target)
            of_cells.setdefault(target, set()).add(order)
    assert len(of_targets) > 1
    assert all(len(orders) > 1 for orders in of_cells.values())


def test_a_cell_that_wants_to_be_alone_is(rounds):
    for notes in rounds:
        alone = [process for process, suite, *_ in notes if suite == "Alone"]
        assert len(set(alone)) == len(alone) == 6
        assert not set(alone) & {process for process, suite, *_ in notes if suite == "Together"}


def test_another_tree_is_another_run(tmp_path):
    store = Cells(tmp_path)
    bench = Bench(store)
    journal.append(store.evidence, "run", run="a", state="begun", plan=bench.plan)
    assert Bench(store).run == "a"
    assert Bench(store, fresh=True).run != "a"
    assert Bench(store, rounds=2).run != "a"
    journal.append(store.evidence, "run", run="a", state="finished", plan=bench.plan)
    assert Bench(store).run != "a"


@pytest.mark.parametrize(("asked", "times", "accuracy"), [(None, 3, 2), (1, 1, 1), (9, 9, 2)])
def test_rounds_that_are_asked_for_are_those_of_the_times(tmp_path, asked, times, accuracy):
    from dataclasses import replace

    store = Cells(tmp_path)
    store.made = [store.made[0], replace(store.made[1], rounds=2)]
    assert [cell.rounds for cell in Bench(store, asked).cells] == [times, accuracy]


def note(status, of_round=1, **facts):
    return Note(0.0, "b", ("t", "w"), status, facts, "r", "p", of_round)


@pytest.mark.parametrize(
    ("notes", "expected"),
    [
        ([], None),
        ([note("started")], None),
        ([note("ok", samples_s=[1.0, 2.0], number=3)], (True, [1.0, 2.0], 3)),
        (
            [note("ok", samples_s=[1.0], number=3), note("ok", 2, samples_s=[2.0], number=4)],
            (True, [1.0, 2.0], 4),
        ),
        ([note("ok", value=1.0), note("ok", 2, value=3.0)], (pytest.approx(3**0.5), None, None)),
        ([note("ok", value=1.0), note("failed", 2)], (None, None, None)),
        ([note("failed"), note("ok", value=1.0)], (1.0, None, None)),  # the run was continued
    ],
)
def test_what_asv_is_given(notes, expected):
    assert outcome(notes) == expected


def test_a_skipped_cell_is_na():
    result, samples, number = outcome([note("skipped")])
    assert math.isnan(result)
    assert (samples, number) == (None, None)


def test_without_a_repository_it_says_what_is_missing(tmp_path):
    for name, words in (("with", "git repository"), ("without", "asv.conf.json")):
        folder = tmp_path / name
        folder.mkdir()
        if name == "with":
            (folder / "asv.conf.json").write_text("{}")
        done = subprocess.run(
            [sys.executable, "-m", "convbench", "bench"],
            cwd=folder, capture_output=True, text=True, check=False,
            env=os.environ | {"GIT_CEILING_DIRECTORIES": str(tmp_path.parent)},
        )  # fmt: skip
        assert done.returncode == 4
        assert words in done.stderr
