"""A card has one pair at a time; meanwhile the libraries of the next are imported. With fakes."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from convbench.comparing.comparison import Rule
from convbench.gate import pairs
from convbench.gate.pairs import SIDES, Cell, Pairs, Templates
from convbench.stimulus.spec import ConvSpec, PipelineSpec
from convbench.stimulus.targets import Target
from convbench.words.status import Outcome, Status

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
    """The templates that were started, in their order."""
    made: list[FakeTemplate] = []

    def start(self, side: str, backend: str) -> FakeTemplate:
        made.append(FakeTemplate(len(made)))
        return made[-1]

    monkeypatch.setattr(Templates, "_start", start)
    return made


def test_the_next_process_of_a_card_comes_from_what_was_prepared(started) -> None:
    templates = Templates(dict.fromkeys(SIDES), Path())  # type: ignore[arg-type]
    assert templates.fork("base", CARD) == ("fork of", 0)
    templates.prepare(CARD)
    templates.prepare(CARD)  # another core that waits
    assert len(started) == 3
    assert not started[0].closed  # the present pair is measured
    assert templates.fork("base", CARD) == ("fork of", 1)
    assert started[0].closed
    assert templates.fork("head", CARD) == ("fork of", 2)
    assert templates.fork("base", CARD) == ("fork of", 3)  # of which none was prepared
    templates.prepare(CARD)
    templates.close()
    assert all(template.closed for template in started)


def test_without_a_card_a_template_serves_several_targets_as_ever(started) -> None:
    templates = Templates(dict.fromkeys(SIDES), Path())  # type: ignore[arg-type]
    assert templates.fork("base", CORE) == ("fork of", 0)
    assert templates.fork("base", Target.parse("numpy.winograd@cpu")) == ("fork of", 0)
    assert templates.fork("base", CORE) == ("fork of", 1)


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

    def open(self, side: str, target: Target, core: int | None) -> Outcome:
        self.open_now += 1
        assert self.open_now == 1 or target.kind == "cpu", "two pairs on one card"
        self._prepared.wait(2.0)
        self.open_now -= 1
        return Outcome(Status.FAILED, "there is none")

    def busy(self, side: str) -> bool:
        return False

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
