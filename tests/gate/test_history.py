"""What a gate has measured is in asv's history, as asv, and we, read it."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from asv.results import Results
from asv.util import load_json
from benchmarks import bench_one_core

from convbench.comparing.comparison import Rule
from convbench.comparing.pairs import LEAST_PAIRS, Monitor, State
from convbench.errors import InputError
from convbench.gate import history
from convbench.gate.build import Built
from convbench.gate.pairs import BLOCK_S, CELL_S, Cell, Found
from convbench.machine.facts import moment
from convbench.measuring.asv_run import existing
from convbench.measuring.asv_store import Store
from convbench.results import journal, records
from convbench.results.folder import Filed, Folder
from convbench.results.rows import summarise
from convbench.results.sessions import spread
from convbench.stimulus import workloads
from convbench.stimulus.targets import Target
from convbench.words.status import Outcome, Standing, Status

from ..checkouts import Checkout

TARGET, WORKLOAD = "numpy@cpu", "notebook.pool"
BENCHMARK = "bench_one_core.OneCore.track_time"
HERE = existing(sys.executable)
ROWS = {row.name: row.pipeline for row in workloads.load()}
PAIRS = 6


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("history"), ())


@pytest.fixture(autouse=True)
def commits(project: Checkout, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two of which nothing is filed, on asv's machine."""
    monkeypatch.setenv("HOME", project.environment["HOME"])
    return [project.commit(), project.commit()]


def found(base_s: float, head_s: float, target=TARGET, workload=WORKLOAD, pairs=PAIRS) -> Found:
    """A cell whose calls took so long in each of its blocks, a little more in each pair."""
    cell = Cell(workload, ROWS[workload], *(Target.parse(target),) * 2)
    made = Found(cell, Monitor(Rule(), 1))
    for pair in range(1, pairs + 1):
        more = 1 + 0.001 * pair
        made.samples[pair] = [base_s * more] * 3, [head_s * more] * 5
        made.monitor.first[pair] = math.log(head_s / base_s)
    receipt = {"claims": [{"claim": "time", "verdict": "holds"}], "fresh_s": base_s}
    made.receipts = {"base": receipt, "head": receipt}
    made.algorithms = {"base": "windows", "head": "windows"}
    return made


def gate(commits: Sequence[str], *cells: Found, **of_head: object) -> SimpleNamespace:
    """What is asked of a gate that has ended."""
    base, head = (
        Built("name", commit, False, Path(sys.executable), Path(), "running", "tree")
        for commit in commits
    )
    versions = {side: {TARGET: {"numpy": "2.4"}} for side in ("base", "head")}
    pairs = SimpleNamespace(found=list(cells), versions=versions)
    return SimpleNamespace(base=base, head=replace(head, **of_head), pairs=pairs)


def file(project: Checkout, of: SimpleNamespace) -> list[str]:
    return [*history.file_times(of, project.folder / "asv.conf.json", moment())]


def known(project: Checkout, commits: Sequence[str]) -> dict[tuple[str, str], records.Record]:
    """By commit and workload."""
    loaded = records.load(project.results_dir, commits)
    assert loaded.problems == ()
    return {(r.commit, r.workload): r for r in loaded.records}


def asvs(project: Checkout, commit: str, name: str = BENCHMARK) -> dict[tuple[str, str], float]:
    """What asv itself reads of a benchmark."""
    path = Folder(project.results_dir).results_of(Filed("bench", commit[:8], HERE))
    targets, names = load_json(str(project.results_dir / "benchmarks.json"), 2)[name]["params"]
    values = iter(Results.load(str(path)).get_result_value(name, [targets, names]))
    return {(t.strip("'"), w.strip("'")): next(values) for t in targets for w in names}


def flagged(fresh: int, workload: str) -> Found:
    made = found(1e-3, 1e-3, workload=workload)
    made.monitor.state = State.FLAGGED
    for pair in list(made.monitor.first)[:fresh]:
        made.monitor.fresh[pair] = made.monitor.first.pop(pair)
    return made


def test_what_is_known_of_a_side_is_filed_for_asv_and_for_us(
    project: Checkout, commits: list[str]
) -> None:
    doubted = found(1e-3, 1e-3, workload="alexnet_owt.conv5")
    doubted.receipts["head"] = {"claims": [{"claim": "time", "verdict": "not supported"}]}
    wrong = found(1e-3, 1e-3, workload="mobilenet_v2.b14_dw")
    wrong.outcomes["head"] = Outcome(Status.WRONG, "it is wrong")
    cells = [
        found(1e-3, 2e-3), found(3e-3, 3e-3, workload="notebook.conv"), doubted, wrong,
        found(1e-3, 1e-3, workload="notebook.avg_pool", pairs=LEAST_PAIRS - 1),
        flagged(LEAST_PAIRS - 1, "inception_v3.7a_3x3b"),
        flagged(LEAST_PAIRS, "inception_v3.7b_avg"),
        found(1e-3, 1e-3, target="numpy.strips@cpu"),  # the suites have no such target
    ]  # fmt: skip
    base, head = commits
    assert file(project, gate(commits, *cells)) == [
        f"5 cells of base filed for asv in bench/{base[:8]}-{HERE}.json",
        f"3 cells of head filed for asv in bench/{head[:8]}-{HERE}.json",
    ]
    found_ = known(project, commits)
    numbers = {name: len(record.processes) for name, record in found_.items()}
    both = {WORKLOAD: PAIRS, "notebook.conv": PAIRS, "inception_v3.7b_avg": LEAST_PAIRS}
    of_base = {"alexnet_owt.conv5": PAIRS, "mobilenet_v2.b14_dw": PAIRS}
    assert numbers == {
        **{(base, name): number for name, number in (both | of_base).items()},
        **{(head, name): number for name, number in both.items()},
    }
    middle = 1 + 0.001 * (PAIRS + 1) / 2
    for commit, seconds in ((base, 1e-3), (head, 2e-3)):
        values = asvs(project, commit)
        assert values[TARGET, WORKLOAD] == pytest.approx(seconds * middle, rel=1e-4)
        assert values[TARGET, "notebook.conv"] == pytest.approx(3e-3 * middle, rel=1e-4)
        assert math.isnan(values["tensorflow@cpu", WORKLOAD])  # n/a, and no failure
        record = found_[commit, WORKLOAD]
        assert (record.suite, record.kind, record.version) == ("one_core", "time", "1")
        assert record.value == pytest.approx(seconds * middle, rel=1e-4)
        assert record.standing is Standing.HELD
        assert record.health.cores > 0
        assert record.facts["method"] == history.METHOD
        assert record.facts["flops"] == ROWS[WORKLOAD].flops
        assert record.facts["versions"] == {"numpy": "2.4"}
    for words in (("show", head[:8]), ("compare", base[:8], head[:8])):
        done = project.asv(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        assert BENCHMARK in done.stdout
        assert "2.01" in done.stdout
    done = project.asv("publish")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [*(project.folder / ".asv/html/graphs").rglob(f"{BENCHMARK}.json")]
    (row, *_) = [r for r in summarise(found_.values()) if r.workload == WORKLOAD]
    assert (row.suite, row.of_roofline) == ("one_core", None)


def test_a_second_gate_adds_to_the_first(project: Checkout, commits: list[str]) -> None:
    for seconds in (1e-3, 1.2e-3):
        file(project, gate(commits, found(seconds, 1e-3), changed=True))
    record = known(project, commits)[commits[0], WORKLOAD]
    assert (len(record.processes), [run.processes for run in record.runs]) == (12, [6, 6])
    assert asvs(project, commits[0])[TARGET, WORKLOAD] == pytest.approx(1.2e-3, rel=0.01)
    between = spread(Folder(project.results_dir), "bench", HERE)
    assert between.commits == 1
    assert between.deviation == pytest.approx(math.log(1.2) / math.sqrt(2), rel=0.01)


def test_two_sides_of_one_commit_are_one_session(project: Checkout, commits: list[str]) -> None:
    base, _ = commits
    said = file(project, gate((base, base), found(1e-3, 1e-3)))
    assert [line.split(" filed")[0] for line in said] == ["1 cell of base and head"]
    record = known(project, commits)[base, WORKLOAD]
    assert (len(record.processes), record.runs) == (2 * PAIRS, ())
    assert asvs(project, base)[TARGET, WORKLOAD] == pytest.approx(1e-3, rel=0.01)


@pytest.mark.parametrize(
    ("of_head", "why"),
    [
        ({"changed": True}, "it is not what lies in its commit"),
        ({"python": ".asv/gate/env/1/bin/python"}, "its environment is the gate's own"),
    ],
)
def test_what_has_no_place_is_not_filed_and_said(project, commits, of_head, why) -> None:
    if "python" in of_head:
        of_head = {"python": project.folder / of_head["python"]}
    of = gate(commits, found(1e-3, 1e-3), **of_head)
    of.base = replace(of.base, changed=True)
    assert file(project, of)[1:] == [f"head is not filed for asv: {why}"]
    assert known(project, commits) == {}


def test_the_suite_measures_what_a_gate_does() -> None:
    assert bench_one_core.METHOD == history.METHOD
    assert (bench_one_core.CELL_S, bench_one_core.BLOCK_S) == (CELL_S, BLOCK_S)


def test_nothing_was_timed(project: Checkout, commits: list[str]) -> None:
    of = gate(commits)
    of.pairs = None
    assert file(project, of) == []


def test_nobody_who_writes_at_the_same_time_loses_anything(
    project: Checkout, commits: list[str]
) -> None:
    """`convbench bench` reads asv's file when it begins, and writes it minutes later."""
    base, _ = commits
    config = project.folder / "asv.conf.json"
    bench = Store(config, [r"^bench_pipeline\.Smoke.*'numpy@cpu', 'notebook.pool'"], base)
    file(project, gate(commits, found(1e-3, 1e-3), changed=True))
    (cell,) = bench.cells()
    journal.append(
        bench.evidence, "cell", run="r", process="p", round=1, benchmark=cell.benchmark,
        params=cell.params, status="ok", version="1", samples_s=[5e-3], number=1,
    )  # fmt: skip
    notes = [note for note in journal.read(bench.evidence).notes if note.run == "r"]
    bench.save([cell], notes)
    assert asvs(project, base)[TARGET, WORKLOAD] == pytest.approx(1e-3, rel=0.01)
    assert asvs(project, base, cell.benchmark)[TARGET, WORKLOAD] == 5e-3


def test_what_asv_cannot_read_is_an_error_with_its_name(
    project: Checkout, commits: list[str]
) -> None:
    path = Folder(project.results_dir).results_of(Filed("bench", commits[0][:8], HERE))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{")
    with pytest.raises(InputError, match="is damaged"):
        file(project, gate(commits, found(1e-3, 1e-3)))
    path.unlink()
