"""A card has one pair at a time, its events count, and not while it is slowed down. With fakes."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from convbench.auditing.judge import Judge
from convbench.comparing.comparison import Comparison, Rule, Verdict
from convbench.comparing.pairs import Monitor
from convbench.comparing.text import render
from convbench.gate import pairs
from convbench.gate.build import Built
from convbench.gate.pairs import SIDES, Cell, Found, Pairs, Templates
from convbench.gate.verdicts import Gate
from convbench.machine.nvidia import Clocks
from convbench.results.gates import Discarded
from convbench.stimulus.spec import ConvSpec, PipelineSpec
from convbench.stimulus.targets import Target
from convbench.stimulus.workloads import Workload
from convbench.words.status import Outcome, Status

from ..checkouts import SUITES
from ..machine.test_facts import CARD as TOLD
from ..machine.test_facts import plant_driver
from ..terminal import drawn
from .sides import side

CARD, CORE = Target.parse("cupy@gpu:0"), Target.parse("numpy@cpu")
PIPELINE = PipelineSpec(1, 5, 5, 3, conv=ConvSpec(6, 5, 5))


class FakeTemplate:
    """Says what becomes of it."""

    def __init__(self, number: int) -> None:
        self.number, self.closed = number, False

    def fork(self) -> tuple[str, int]:
        assert not self.closed
        return "fork of", self.number

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[FakeTemplate]:
    """The templates that were started, in their order; those who ask what is needed are none."""
    made: list[FakeTemplate] = []

    def start(self: Templates, need: pairs.Needs) -> FakeTemplate:
        made.append(FakeTemplate(len(made)))
        return made[-1]

    def ask(self: Templates, built: Built, backend: str) -> pairs.Needs:
        return pairs.Needs(built.python, (backend,), (("OF", built.name),) * ("odd" in built.name))

    monkeypatch.setattr(Templates, "_start", start)
    monkeypatch.setattr(Templates, "_ask_for_needs", ask)
    return made


def built(name: str, python: str = "python") -> Built:
    return Built(name, "0" * 40, False, Path(python), Path(name), "here", "")


def templates_of(base: Built, head: Built) -> Templates:
    return Templates({"base": base, "head": head}, Path())


def forks(templates: Templates, **targets: Target) -> list[Any]:
    """The numbers of the templates, base's first."""
    forked = templates.fork(targets)
    return [forked[side][1] for side in SIDES if side in forked]  # type: ignore[index]


def test_the_next_process_of_a_card_comes_from_what_was_prepared(started) -> None:
    templates = templates_of(built("base"), built("head"))
    assert forks(templates, base=CARD) == [0]
    templates.prepare(CARD)
    templates.prepare(CARD)  # another core that waits
    assert len(started) == 3
    assert not started[0].closed  # the present pair is measured
    first, second = forks(templates, base=CARD, head=CARD)
    assert {first, second} == {1, 2}
    assert started[0].closed
    assert forks(templates, base=CARD) == [3]  # of which none was prepared
    templates.prepare(CARD)
    templates.close()
    assert all(template.closed for template in started)


def test_both_sides_of_a_pair_have_one_template_and_no_two_pairs_do(started) -> None:
    templates = templates_of(built("base"), built("head"))
    assert forks(templates, head=CORE) == [0]  # to be checked
    assert forks(templates, base=CORE, head=CORE) == [1, 1]
    other = Target.parse("numpy.winograd@cpu")
    assert forks(templates, base=other, head=other) == [1, 1]  # which the library is the same for
    assert forks(templates, base=CORE, head=CORE) == [2, 2]
    assert [template.closed for template in started] == [True, True, False]


@pytest.mark.parametrize(
    ("base", "head"),
    [
        (built("one"), built("other", "another python")),
        (built("even"), built("odd")),
        (built("odd one"), built("odd other")),
    ],
    ids=["interpreters", "variables", "of both"],
)
def test_sides_that_need_another_library_have_templates_of_their_own(started, base, head) -> None:
    templates = templates_of(base, head)
    assert sorted(forks(templates, base=CORE, head=CORE)) == [0, 1]
    assert sorted(forks(templates, base=CORE, head=CORE)) == [2, 3]


class FakeTemplates:
    """Opens nothing, and takes its time for that."""

    def __init__(self) -> None:
        self.prepared: list[Target] = []
        self.open_now = 0
        self.during: list[int] = []
        self._prepared = threading.Event()

    def prepare(self, target: Target) -> None:
        self.during.append(self.open_now)
        self.prepared.append(target)
        self._prepared.set()

    def fork(self, targets: dict[str, Target]) -> dict[str, Outcome]:
        self.open_now += 1
        on_card = any(target.kind != "cpu" for target in targets.values())
        assert self.open_now == 1 or not on_card, "two pairs on one card"
        self._prepared.wait(2.0)
        self.open_now -= 1
        return dict.fromkeys(targets, Outcome(Status.FAILED, "there is none"))

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("target", "prepares"), [(CARD, True), (CORE, False)])
def test_a_core_that_waits_for_a_card_prepares_its_next_pair(monkeypatch, target, prepares) -> None:
    monkeypatch.setattr(pairs, "cores", lambda: [None, None])
    templates = FakeTemplates()
    if not prepares:
        templates._prepared.set()
    cells = [Cell("a.b", PIPELINE, target, target)]
    measured = Pairs(templates, cells, Rule(), 60.0, [None, None])  # type: ignore[arg-type, list-item]
    told = [*measured.measure()]
    assert told
    assert all(found.outcomes for found in measured.found)
    assert ({*templates.prepared} == {CARD}) == prepares
    if prepares:
        assert max(templates.during) == 1  # while the present pair had the card


# -- What is measured while a card is slowed down -------------------------------------------------

FAST, HOT = Clocks(1980, 2619, ("sw_power_cap",)), Clocks(1200, 2619, ("hw_thermal_slowdown",))


class FakeSide:
    """Takes as long as it is told."""

    def __init__(self, times: Callable[[], dict[str, float]]) -> None:
        self._times = times

    def ask(self, order: dict[str, Any], timeout_s: float, most_bytes: int) -> Any:
        if order["do"] == "build":
            return {"call_s": 1.0, "algorithm": "none"}
        assert (order["do"], order["calls"]) == ("block", 1)
        return self._times()

    def look(self) -> None:
        return None


class FakeWatcher:
    """Has seen what it is told to have seen, and then the last of it."""

    def __init__(self, *seen: Clocks | None) -> None:
        self._seen = [*seen]

    def look(self) -> Clocks | None:
        return self._seen.pop(0) if len(self._seen) > 1 else self._seen[0]


def measured(
    watchers: Sequence[Any], base: dict[str, float], head: dict[str, float], *, events: bool = False
) -> tuple[float | None, pairs._Measured]:
    found = Found(Cell("a.b", PIPELINE, CARD, CARD), Monitor(Rule(), 1), verified=1)
    found._looks_at = dict.fromkeys(SIDES, math.inf)
    children = {"base": FakeSide(lambda: base), "head": FakeSide(lambda: head)}
    one = pairs._Measured(found, children, None, watchers, events=events)  # type: ignore[arg-type]
    return one.run(), one


@pytest.fixture
def few_quartets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six, none of which is verified."""
    monkeypatch.setattr(pairs, "CELL_S", 600.0)
    monkeypatch.setattr(pairs, "MOST_QUARTETS", 6)
    monkeypatch.setattr(pairs.secrets, "randbelow", lambda _: 1)


def test_a_quartet_that_began_or_ended_on_a_hot_card_does_not_count(few_quartets: None) -> None:
    # Before the first quartet and after each: 2 and 3 touch the moment when it was hot.
    seen = FakeWatcher(FAST, FAST, HOT, FAST)
    log_ratio, one = measured([seen], {"seconds": 1e-9}, {"seconds": 2e-9})
    assert log_ratio == pytest.approx(math.log(2))
    assert (one.card.quartets, one.card.discarded) == (6, 2)
    assert {side: len(samples) for side, samples in one.samples.items()} == {"base": 8, "head": 8}
    assert (one.card.sm_mhz, one.card.memory_mhz) == ([1200, 1980], [2619, 2619])
    assert one.card.throttling == {"sw_power_cap", "hw_thermal_slowdown"}
    assert one.card.told


@pytest.mark.parametrize("seen", [HOT, Clocks(None, None, ("hw_power_brake_slowdown",))])
def test_a_pair_on_a_hot_card_says_nothing(few_quartets: None, seen: Clocks) -> None:
    log_ratio, one = measured([FakeWatcher(seen)], {"seconds": 1e-9}, {"seconds": 1e-9})
    assert log_ratio is None
    assert one.samples == {"base": [], "head": []}
    assert one.card.quartets == one.card.discarded == 6


@pytest.mark.parametrize(
    "seen", [None, FAST, Clocks(345, 2619, ("gpu_idle", "applications_clocks_setting")), Clocks()]
)
def test_settings_and_usual_limits_of_a_card_cost_nothing(few_quartets: None, seen: Any) -> None:
    log_ratio, one = measured([FakeWatcher(seen)], {"seconds": 1e-9}, {"seconds": 1e-9})
    assert log_ratio == 0
    assert one.card.discarded == 0
    assert one.card.told == (seen is not None and seen.throttling is not None)


def test_where_there_are_events_they_count_and_the_clock_is_kept(few_quartets: None) -> None:
    base, head = ({"seconds": 1e-9, "card_s": card_s} for card_s in (2e-9, 3e-9))
    log_ratio, one = measured([], base, head, events=True)
    assert log_ratio == pytest.approx(math.log(1.5))
    assert set(one.samples["head"]) == {1e-9}
    for card_s in (math.nan, 0.0, 100.0, None):
        with pytest.raises(pairs._Lost):
            measured([], base, {"seconds": 1e-9, "card_s": card_s}, events=True)  # type: ignore[dict-item]


def test_a_hot_card_keeps_no_other_target_waiting() -> None:
    hot, cool = (Found(Cell("a.b", PIPELINE, at, at), Monitor(Rule(), 1)) for at in (CARD, CORE))
    hot.cards = {1: pairs.Card(6, 6), 2: pairs.Card(6, 6)}
    cool.samples = {3: ([1.0], [1.0])}
    assert pairs._pairs_of(hot) > pairs._pairs_of(cool)


# -- Whole gates, on a card that is this machine's processor --------------------------------------

CARDED = """
import time
from convbench.backends.numpy import NumpyBackend

class Events:
    def start(self):
        self.begin_s = time.perf_counter()
    def stop_s(self):
        return {stop}

class Carded(NumpyBackend):
    name = "carded"
    @classmethod
    def devices(cls):
        return ("cpu", "gpu:0")
    def device_timer(self):
        return Events() if self.device != "cpu" else None
    def synchronize(self):
        {synchronize}
"""
HONEST = "time.perf_counter() - self.begin_s"
CELL = Workload(
    "test.carded", PipelineSpec(1, 14, 14, 16, ConvSpec(16, 3, 3), bias=True), "full", "here"
)
ON_CARD = Target.parse("carded@gpu:0")


def carded(folder: Path, stop: str = HONEST, synchronize: str = "pass") -> Any:
    """A side that has such a card."""
    built = side(folder)
    (built.source / "carded.py").write_text(CARDED.format(stop=stop, synchronize=synchronize))
    info = built.source / "carded-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: carded\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[convbench.backends]\ncarded = carded:Carded\n")
    return built


def gated(base: Any, head: Any, budget_s: float, delta: float = 0.6) -> Iterator[Any]:
    """The comparison, and what is known of the one cell."""
    with ExitStack() as stack:
        interface, both = SUITES / "interface.py", [(ON_CARD, ON_CARD)]
        gate = stack.enter_context(Gate(base, head, [CELL], both, interface, Rule(delta=delta)))
        judge = stack.enter_context(Judge())
        for _ in gate.measure(budget_s, [judge], checked=False):
            pass
        assert gate.pairs is not None
        yield gate.comparison()
        yield from gate.pairs.found


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Plants a driver that gives these reasons, as bits."""
    folder = tmp_path / "driver"
    folder.mkdir()
    return lambda bits: plant_driver(folder, monkeypatch, [TOLD | {"throttling": bits}])


def test_a_gate_on_a_cool_card_is_decided_by_its_events(told: Any, tmp_path: Path) -> None:
    told(0x4)
    built = carded(tmp_path / "side")
    comparison, found = gated(built, built, 60.0)
    (cell,) = comparison.cells
    assert cell.verdict is Verdict.EQUIVALENT, cell.reason
    assert found.events
    assert cell.discarded is None
    assert any("the card's events decide" in remark for remark in comparison.remarks)
    assert found.cards.keys() == found.samples.keys()
    for card in found.cards.values():
        assert (card.sm_mhz, card.throttling, card.told) == ([345, 345], {"sw_power_cap"}, True)


def test_a_gate_on_a_hot_card_claims_nothing_and_says_why(told: Any, tmp_path: Path) -> None:
    told(0x48)
    built = carded(tmp_path / "side")
    comparison, found = gated(built, built, 1.0)
    (cell,) = comparison.cells
    assert cell.verdict is Verdict.UNDECIDED
    assert cell.pairs == 0
    assert cell.reason == "the budget ended before enough of it counted"
    assert cell.discarded is not None
    assert (
        cell.discarded.quartets
        == cell.discarded.of
        == sum(card.quartets for card in found.cards.values())
    )
    said = f"{cell.discarded}"
    assert said.endswith("slowed down (hw_slowdown, hw_thermal_slowdown)")
    text = drawn(render(comparison))
    assert text.count(said) == 2  # as a warning, and of the cell
    assert asdict(comparison.cells[0])["discarded"]["why"] == ("hw_slowdown", "hw_thermal_slowdown")


def test_events_that_the_host_s_clock_contradicts_decide_nothing(told: Any, tmp_path: Path) -> None:
    """Of a side whose calls end long after its work on the card; or whose events are not true."""
    told(0x4)
    base = carded(tmp_path / "base", stop="1e-6")
    head = carded(tmp_path / "head", stop="1e-6", synchronize="time.sleep(2e-3)")
    comparison, found = gated(base, head, 60.0)
    (cell,) = comparison.cells
    assert found.events
    assert cell.verdict is Verdict.UNDECIDED
    assert "by the host's clock" in cell.reason
    assert "events are not to be believed" in cell.reason


def test_without_a_driver_that_tells_it_is_said_that_nothing_is_discarded(
    told: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = carded(tmp_path / "side")
    monkeypatch.setattr(pairs.nvidia, "has_nvidia_driver", lambda: False)
    comparison, found = gated(built, built, 1.0)
    assert isinstance(comparison, Comparison)
    assert "the driver does not tell whether the card was slowed down: nothing is discarded" in (
        comparison.warnings
    )
    assert found.samples


def test_what_was_discarded_reads_as_a_sentence() -> None:
    lost = Discarded(3, 60, ("sw_thermal_slowdown",))
    assert str(lost) == "3 of 60 quartets discarded: the card was slowed down (sw_thermal_slowdown)"
