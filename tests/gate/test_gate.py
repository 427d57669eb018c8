"""Whole gates: what is planted is found, what is wrong is not timed, and nothing is left behind."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from convbench.auditing.judge import Judge
from convbench.comparing.comparison import ComparedCell, Comparison, Demands, Rule, Verdict
from convbench.comparing.pairs import LEAST_PAIRS, Monitor, State
from convbench.errors import InputError
from convbench.gate import pairs
from convbench.gate.build import Built
from convbench.gate.pairs import CELL_S, Found
from convbench.gate.verdicts import Gate
from convbench.machine import child
from convbench.stimulus.spec import ConvSpec, PipelineSpec
from convbench.stimulus.targets import Target
from convbench.stimulus.workloads import Workload, load
from convbench.words.status import Exit, Outcome, Standing, Status

from ..checkouts import SUITES
from ..plugin import write_plugin
from .sides import SLOWER, WRONG, called, disguised, later, side

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="cores are taken as Linux does it")

NUMPY = Target.parse("numpy@cpu")
TINY = {w.name: w for w in load() if w.name.startswith("notebook.")}
CONV, POOL = TINY["notebook.conv"], TINY["notebook.pool"]

# A lie within the slack of a look gains nothing; some 0.3 ms are far above that.
LARGER = Workload(
    "test.larger", PipelineSpec(1, 28, 28, 32, ConvSpec(64, 3, 3), bias=True), "full", "here"
)


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No process and no file, whatever the sides do."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    before = set(child._living)
    yield
    assert not [number for number in child._living - before if Path(f"/proc/{number}").exists()]
    assert not sides_alive()
    assert not [*folder.iterdir()]


def sides_alive() -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text()
            parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if "side.py" in words and parent == str(os.getpid()):
            found.append(process.name)
    return found


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return side(tmp_path_factory.mktemp("ours"))


@pytest.fixture
def made(tmp_path: Path) -> Callable[[Mapping[str, str]], Built]:
    return lambda appended: side(tmp_path / "planted", appended)


def gated(
    base: Built,
    head: Built,
    *workloads: Workload,
    targets: tuple[Target, Target] = (NUMPY, NUMPY),
    budget_s: float = 20.0,
    delta: float = 0.5,
    checked: bool = True,
    cores: int = 2,
    enough: Callable[[Gate], bool] = lambda _: False,
) -> Comparison:
    """One gate, as the command has it; it ends when all is decided, and may end earlier."""
    chosen = workloads or (CONV,)
    with ExitStack() as stack:
        interface = SUITES / "interface.py"
        gate = stack.enter_context(
            Gate(base, head, chosen, [targets], interface, Rule(delta=delta))
        )
        for _ in gate.check() if checked else ():
            pass
        if gate.right:
            judges = [stack.enter_context(Judge()) for _ in range(cores)]
            for judge in judges:
                judge.pipelines = {workload.name: workload.pipeline for workload in chosen}
            with closing(gate.measure(budget_s, judges, checked=checked)) as measured:
                for _ in measured:
                    if enough(gate):
                        break
        return gate.comparison()


def only(comparison: Comparison) -> ComparedCell:
    (cell,) = comparison.cells
    return cell


def until_one_pair(gate: Gate) -> bool:
    assert gate.pairs is not None
    return any(found.samples for found in gate.pairs.found)


# -- Times ----------------------------------------------------------------------------------------


def test_equal_code_is_claimed_to_be_neither_slower_nor_faster(ours: Built) -> None:
    comparison = gated(ours, ours, CONV, POOL)
    assert {cell.workload for cell in comparison.cells} == {CONV.name, POOL.name}
    assert "both sides are the same code: whatever is found is noise" in comparison.warnings
    for cell in comparison.cells:
        assert cell.verdict in {Verdict.EQUIVALENT, Verdict.UNDECIDED}
        assert (cell.base.correct, cell.head.correct) == (Status.OK, Status.OK)
        assert cell.effect is not None
        assert cell.pairs == cell.base.processes == cell.head.processes > 0
        assert cell.base.value is not None
        assert 0 < cell.base.value < 1
    assert comparison.exit_code() is Exit.OK


def test_what_takes_three_times_as_long_is_slower(
    ours: Built, made: Callable[[Mapping[str, str]], Built]
) -> None:
    comparison = gated(ours, made(called(SLOWER)))
    cell = only(comparison)
    assert cell.verdict is Verdict.REGRESSED
    assert cell.effect is not None
    assert cell.effect.low is not None
    assert cell.effect.high is not None
    assert 1.5 < cell.effect.low < cell.effect.ratio < cell.effect.high
    assert cell.effect.p_value is not None
    assert cell.effect.p_value <= 0.05
    assert cell.notes == ("the algorithm was GEMM of images and is planted",)
    assert Standing.CLAIM not in {cell.base.standing, cell.head.standing}
    (mean,) = comparison.means
    assert mean.ratio > 1.5
    assert comparison.exit_code() is Exit.SLOWER


def test_what_takes_a_third_of_it_is_faster(
    ours: Built, made: Callable[[Mapping[str, str]], Built]
) -> None:
    comparison = gated(made(called(SLOWER)), ours)
    cell = only(comparison)
    assert cell.verdict is Verdict.IMPROVED
    assert cell.effect is not None
    assert cell.effect.ratio < 0.7
    assert comparison.exit_code() is Exit.OK


def test_a_budget_that_is_too_short_decides_nothing_and_says_what_would(ours: Built) -> None:
    # A pair takes as long on a machine that is quiet, and a thread to start on one that is not.
    comparison = gated(ours, ours, delta=0.01, budget_s=CELL_S)
    cell = only(comparison)
    assert cell.verdict is Verdict.UNDECIDED
    assert 0 < cell.pairs < LEAST_PAIRS
    assert "more on it would decide" in cell.reason
    assert cell.to_decide_s is not None
    assert 0 < cell.to_decide_s < math.inf
    assert comparison.undecided_everywhere
    assert comparison.exit_code() is Exit.OK
    strict = replace(comparison, demands=Demands(strict=True))
    assert strict.exit_code() is Exit.NOTHING


def test_what_is_interrupted_shows_what_is_known(ours: Built) -> None:
    comparison = gated(ours, ours, CONV, POOL, enough=until_one_pair)
    assert any(cell.pairs for cell in comparison.cells)
    assert {cell.verdict for cell in comparison.cells} == {Verdict.UNDECIDED}


def test_two_targets_are_held_against_each_other(
    ours: Built, made: Callable[[Mapping[str, str]], Built]
) -> None:
    head = made({})
    write_plugin(head.source)
    target = Target.parse("prints@cpu")
    comparison = gated(ours, head, POOL, targets=(NUMPY, target), enough=until_one_pair)
    cell = only(comparison)
    assert cell.target == "numpy@cpu -> prints@cpu"
    assert (cell.base.correct, cell.head.correct) == (Status.OK, Status.OK)
    assert cell.notes == ("the algorithm was separable max pool and is faulty",)


def test_a_backend_that_only_head_has_is_new_and_one_that_it_has_no_more_is_missed(
    ours: Built, made: Callable[[Mapping[str, str]], Built]
) -> None:
    other = made({})
    write_plugin(other.source)
    target = Target.parse("prints@cpu")
    cell = only(gated(ours, other, POOL, targets=(target, target)))
    assert cell.verdict is Verdict.NEW
    assert "the backend is 'prints'; expected one of" in cell.reason
    gone = gated(other, ours, POOL, targets=(target, target))
    assert only(gone).verdict is Verdict.SKIPPED
    assert gone.exit_code() is Exit.WRONG
    with pytest.raises(InputError, match="prints@cpu, which neither side has"):
        gated(ours, ours, POOL, targets=(target, target))


# -- Outputs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("planted", "verdict", "reason"),
    [
        (WRONG, Verdict.WRONG, "of 6 elements are wrong"),
        ("        raise RuntimeError('no luck')\n", Verdict.FAILED, "RuntimeError: no luck"),
        ("        os._exit(7)\n", Verdict.FAILED, "exit status 7"),
        ("        return run(x)[..., :-1]\n", Verdict.WRONG, "the shape"),
        ("        raise Unsupported('not any more')\n", Verdict.SKIPPED, "not any more"),
    ],
    ids=["wrong", "raises", "exits", "misshapen", "skips"],
)
def test_a_head_that_is_not_right_is_not_timed(
    ours: Built,
    made: Callable[[Mapping[str, str]], Built],
    planted: str,
    verdict: Verdict,
    reason: str,
) -> None:
    comparison = gated(ours, made(called(planted)))
    cell = only(comparison)
    assert cell.verdict is verdict
    assert reason in cell.reason
    assert (cell.kind, cell.pairs, cell.effect) == ("accuracy", 0, None)
    assert "nothing was timed, since head is not right" in comparison.warnings
    assert comparison.exit_code() is Exit.WRONG


def test_a_head_that_dies_as_it_is_imported_has_failed(
    ours: Built, made: Callable[[Mapping[str, str]], Built]
) -> None:
    comparison = gated(ours, made({"backends/numpy.py": "\nimport os\nos.abort()\n"}))
    cell = only(comparison)
    assert cell.verdict is Verdict.FAILED
    assert "killed by SIGABRT" in cell.reason
    assert comparison.exit_code() is Exit.WRONG


def test_what_is_faster_and_wrong_is_wrong(
    ours: Built, made: Callable[[Mapping[str, str]], Built], tmp_path: Path
) -> None:
    comparison = gated(side(tmp_path / "slow", called(SLOWER)), made(called(WRONG)))
    assert only(comparison).verdict is Verdict.WRONG
    assert comparison.exit_code() is Exit.WRONG


def test_what_is_wrong_on_both_sides_is_still_wrong(
    made: Callable[[Mapping[str, str]], Built],
) -> None:
    both = made(called(WRONG))
    assert only(gated(both, both)).verdict is Verdict.STILL_WRONG


def test_a_wrong_cell_does_not_hide_that_others_are_right(
    ours: Built, made: Callable[[Mapping[str, str]], Built]
) -> None:
    body = "        return run(x) * (1.001 if pipeline.pool else 1)\n"
    cells = {cell.workload: cell for cell in gated(ours, made(called(body)), CONV, POOL).cells}
    assert cells[POOL.name].verdict is Verdict.WRONG
    assert cells[CONV.name].verdict is Verdict.EQUIVALENT
    assert cells[CONV.name].reason == "head is right; it was not timed"


@pytest.mark.parametrize(
    ("planted", "verdict", "reason"),
    [
        (WRONG, Verdict.FIXED, "the output of a timed call is wrong"),
        ("        raise RuntimeError('no luck')\n", Verdict.FIXED, "RuntimeError: no luck"),
        ("        raise Unsupported('not yet')\n", Verdict.NEW, "not yet"),
    ],
    ids=["wrong", "raises", "skips"],
)
def test_a_base_that_was_not_right_is_no_reproach_to_head(
    ours: Built,
    made: Callable[[Mapping[str, str]], Built],
    planted: str,
    verdict: Verdict,
    reason: str,
) -> None:
    cell = only(gated(made(called(planted)), ours))
    assert cell.verdict is verdict
    assert cell.reason.startswith("head is right")
    assert reason in cell.reason
    assert cell.effect is None


# -- What shows only where it is timed ------------------------------------------------------------


@pytest.mark.parametrize(
    ("planted", "verdict", "reason"),
    [
        ("return 1.001 * run(x)", Verdict.WRONG, "the output of a timed call is wrong"),
        ("return run(x).astype('float64')", Verdict.WRONG, "it is float64"),
        ("raise RuntimeError('no luck')", Verdict.FAILED, "RuntimeError: no luck"),
        ("os._exit(7)", Verdict.FAILED, "exit status 7"),
        ("time.sleep(600)", Verdict.FAILED, "no answer within 2 s"),
    ],
    ids=["wrong", "float64", "raises", "exits", "hangs"],
)
def test_a_head_that_is_right_only_while_it_is_checked_is_found_out(
    ours: Built,
    made: Callable[[Mapping[str, str]], Built],
    planted: str,
    verdict: Verdict,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pairs, "TIMEOUT_S", 2.0)
    comparison = gated(ours, made(called(later(planted))))
    cell = only(comparison)
    assert cell.verdict is verdict
    assert reason in cell.reason
    assert cell.effect is None
    assert comparison.exit_code() is Exit.WRONG


def test_what_a_head_breaks_in_one_cell_costs_the_others_nothing(
    ours: Built, made: Callable[[Mapping[str, str]], Built]
) -> None:
    def known(gate: Gate) -> bool:
        return gate.pairs is not None and all(
            each.outcomes if each.cell.workload == POOL.name else each.samples
            for each in gate.pairs.found
        )

    head = made(called(later("os._exit(7) if pipeline.pool else None\n        return run(x)")))
    cells = {cell.workload: cell for cell in gated(ours, head, CONV, POOL, enough=known).cells}
    assert cells[POOL.name].verdict is Verdict.FAILED
    assert cells[CONV.name].verdict not in {Verdict.FAILED, Verdict.WRONG}
    assert cells[CONV.name].pairs > 0


FORGED = """
import sys, time
_main = sys.modules["__main__"]
if hasattr(_main, "Worker"):
    {}
"""


def forged(what: str) -> dict[str, str]:
    """In the process of a side, before its backend has computed anything."""
    return {"backends/numpy.py": FORGED.format(what)}


PATIENT_S = 300.0
"""For two looks; it ends with the second."""


def expect_doubted(cell: ComparedCell) -> None:
    assert cell.verdict is Verdict.FAILED
    assert "its time is not supported: time: " in cell.reason
    assert cell.head.standing is Standing.DOUBTED
    assert cell.effect is None


def test_a_head_whose_clock_runs_slower_is_doubted(
    ours: Built, made: Callable[[Mapping[str, str]], Built]
) -> None:
    head = made(forged("_main.perf_counter = lambda: time.perf_counter() / 10"))
    comparison = gated(ours, head, LARGER, cores=1, budget_s=PATIENT_S)
    expect_doubted(only(comparison))
    assert comparison.exit_code() is Exit.WRONG


def test_a_head_that_does_not_wait_for_its_work_is_doubted(
    ours: Built, made: Callable[[Mapping[str, str]], Built]
) -> None:
    head = made(disguised("no_synchronize"))
    expect_doubted(only(gated(ours, head, LARGER, cores=1, budget_s=PATIENT_S)))


def a_found() -> Found:
    return Found(pairs.Cell(CONV.name, CONV.pipeline, NUMPY, NUMPY), Monitor(Rule(), 1))


def receipt(verdict: str) -> dict[str, Any]:
    return {"claims": [{"claim": "time", "verdict": verdict, "reason": "by our clock"}]}


def test_each_side_is_looked_at_once_in_the_first_pairs_however_many_there_are_at_once() -> None:
    looked = set()
    for _ in range(100):
        found = a_found()  # of which nothing is done yet while others are begun
        begun = [found.begin() for _ in range(2 * pairs.LOOKED_AT_BY)]
        assert sorted(side for sides in begun for side in sides) == ["base", "head"]
        assert not any(begun[pairs.LOOKED_AT_BY :])
        looked |= {(number, side) for number, sides in enumerate(begun) for side in sides}
    assert len(looked) == 2 * pairs.LOOKED_AT_BY


def test_who_is_doubted_is_looked_at_once_more_and_then_has_no_time() -> None:
    found = a_found()
    for _ in range(pairs.LOOKED_AT_BY):
        found.begin()
    found.monitor.state = State.EQUIVALENT
    assert not found.open
    found.received("head", receipt("not supported"))
    assert found.open
    assert not found.outcomes
    assert found.begin() == ["head"]
    assert found.begin() == []
    found.received("head", receipt("not supported"))
    assert not found.open
    assert found.outcomes["head"].reason == "its time is not supported: time: by our clock"
    assert found.standing("head") is Standing.DOUBTED


def test_a_doubt_that_is_not_seen_again_is_none() -> None:
    found = a_found()
    for _ in range(pairs.LOOKED_AT_BY):
        found.begin()
    for verdict in ("holds", "not supported", "holds"):
        found.received("head", receipt(verdict))
    assert not found.outcomes
    assert found.standing("head") is Standing.HELD
    assert found.standing("base") is Standing.CLAIM


def test_that_it_is_wrong_is_worse_than_that_it_is_doubted() -> None:
    found = a_found()
    found.outcomes["head"] = Outcome(Status.WRONG, "it is")
    for _ in range(2):
        found.received("head", receipt("not supported"))
    assert found.outcomes["head"].status is Status.WRONG


def test_a_pair_that_is_lost_is_looked_at_in_the_next() -> None:
    found = a_found()
    for _ in range(pairs.LOOKED_AT_BY):
        found.begin()
    found.begin_again()
    assert found.begin() == ["base", "head"]


@pytest.mark.parametrize(
    ("base", "head", "verdict", "code"),
    [
        (Status.INVALID, None, Verdict.NOT_COMPARABLE, Exit.NOTHING),
        (Status.WRONG, None, Verdict.FIXED, Exit.OK),
        (Status.FAILED, None, Verdict.FIXED, Exit.OK),
        (Status.SKIPPED, None, Verdict.NEW, Exit.NOTHING),
        (None, Status.INVALID, Verdict.FAILED, Exit.WRONG),
        (None, Status.WRONG, Verdict.WRONG, Exit.WRONG),
        (None, Status.FAILED, Verdict.FAILED, Exit.WRONG),
        (None, Status.SKIPPED, Verdict.SKIPPED, Exit.WRONG),
        (Status.WRONG, Status.WRONG, Verdict.STILL_WRONG, Exit.WRONG),
        (Status.FAILED, Status.WRONG, Verdict.WRONG, Exit.WRONG),
        (Status.FAILED, Status.FAILED, Verdict.STILL_FAILED, Exit.WRONG),
        (Status.INVALID, Status.FAILED, Verdict.STILL_FAILED, Exit.WRONG),
    ],
)
def test_what_follows_where_a_side_has_no_time(
    ours: Built, base: Status | None, head: Status | None, verdict: Verdict, code: Exit
) -> None:
    with Gate(ours, ours, [CONV], [(NUMPY, NUMPY)], SUITES / "interface.py") as gate:
        for _ in gate.measure(1.0, [], checked=False):  # on no core at all
            pass
        assert gate.pairs is not None
        for side_, status in (("base", base), ("head", head)):
            if status is not None:
                gate.pairs.found[0].outcomes[side_] = Outcome(status, f"the reason of {side_}")
        comparison = gate.comparison()
    cell = only(comparison)
    assert cell.verdict is verdict
    assert f"the reason of {'head' if head else 'base'}" in cell.reason
    assert comparison.exit_code() is code


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("_main.perf_counter = lambda: 1000 * time.perf_counter()", "s by our clock"),
        ("_main.Worker.block = lambda *_, **k: {'seconds': 'soon'}", "'soon' is no time"),
        ("_main.Worker.block = lambda *_, **k: [1.0]", "block was answered with [1.0]"),
        ("_main.Worker.output = lambda *_: 'right'", "it is no array"),
        ("__import__('os').closerange(3, 64)", "exit status"),
        ("_main.Worker.build = lambda *_, **k: __import__('os').write(3, b'x' * 64)", "read"),
    ],
)
def test_a_head_that_sends_anything_else_has_failed(
    ours: Built, made: Callable[[Mapping[str, str]], Built], what: str, reason: str
) -> None:
    cell = only(gated(ours, made(forged(what)), checked=False))
    assert cell.verdict in {Verdict.FAILED, Verdict.WRONG}
    assert reason in cell.reason


@pytest.mark.parametrize(
    "said", [0.0, -1.0, math.nan, math.inf, 10**400, 1, True, None, "1.0", [1.0], {}]
)
def test_what_is_no_time_is_not_believed(said: object) -> None:
    assert pairs._time(1e-9, "head") == 1e-9
    with pytest.raises(pairs._Lost, match="is no time") as lost:
        pairs._time(said, "head")
    assert lost.value.side == "head"
