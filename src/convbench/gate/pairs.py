"""Pairs of processes, one a side, on one core, alternated after every call.

What makes two measurements of one program differ is the machine, and it does so for 1 to 100 ms at
a time: sides that take turns within that see the same of it. A *pair* is one fresh process of
either side. Cell by cell they are given the same numbers, and then a block of calls at a time, in
*quartets* whose order, ABBA or BAAB, is drawn: what drifts evenly cancels. Before each block is one
call that is not timed, since the other side has just used the caches. The pair's answer is the
median over its quartets of the logarithm of head / base, and what is independent of each other is
pairs.

The processes are forked from *templates* that have imported the library and run nothing of it.
Where in memory a library lies decides over 1 % of the time of a small layer (standard deviation;
without the randomisation of addresses it is gone), and that is the same in all forks of a template.
So both processes of a pair come from one, where both sides import the same, and no two pairs of a
target do: they would not be independent.

One core belongs to one pair, and each core has one: pairs on other cores are further draws. A card
belongs to one pair too, however many cores there are; one that waits for it imports the libraries
of the next pair. Nothing is believed that a side says without
a look: outputs of timed calls are verified, in the first pair and in others that are drawn, and in
one that only the judge knows each side has to stand by its time (:mod:`convbench.auditing`).

Where both sides have events of the device, these are what counts: the same calls, without the part
in which the host wakes up. The card's clocks are asked for before the first quartet and after each,
and what was measured while it was slowed down, by heat or for want of power, is discarded.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import random
import secrets
import statistics
import sys
import threading
import time
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from convbench.comparing.comparison import Rule
from convbench.comparing.pairs import LEAST_FRESH, LEAST_PAIRS, Monitor
from convbench.correctness.accuracy import Accuracy, accuracy_of, refer_for
from convbench.correctness.sample import sample
from convbench.correctness.schemes import SCHEMES
from convbench.errors import ArrayError, TargetError
from convbench.gate.build import Built
from convbench.machine import nvidia, watch, wire
from convbench.machine.child import START_TIMEOUT_S, Child, Template
from convbench.machine.facts import THREAD_SETTINGS
from convbench.measuring import asv_store
from convbench.measuring.bench import Examiner
from convbench.results.gates import Discarded
from convbench.results.records import doubt
from convbench.results.sessions import SLOWED
from convbench.stimulus.arrays import Weights
from convbench.stimulus.formats import FORMATS, Fill
from convbench.stimulus.inputs import Inputs, make_inputs
from convbench.stimulus.spec import PipelineSpec
from convbench.stimulus.targets import Target
from convbench.words.status import Outcome, Standing, Status

T = TypeVar("T")

SIDES = ("base", "head")

DTYPE, FILL = "float32", Fill.NORMAL
"""What is timed: that of the suites."""

CELL_S = 0.3
"""A cell in a pair, from its first quartet to its last. More pairs are better than longer ones."""

LEAST_QUARTETS, MOST_QUARTETS = 3, 200
BLOCK_S = 4e-4
"""A block lasts at least this: some 4000 times what reading the clock costs."""

ALL_FIRST = LEAST_PAIRS + LEAST_FRESH
"""So many pairs of every cell come before any more of one."""

LOOKED_AT_BY = 3
"""In one of so many first pairs of a cell, nobody else knows which, its time is looked at."""

VERIFIED = 3
"""And of one pair in so many, drawn after they were timed, the outputs are verified."""

TIMEOUT_S = 600.0

_LOOK_UP_S = 0.5
"""Who waits for a card sees so often whether all of it has ended."""

_VERIFY_FLOPS, _VERIFY_ELEMENTS = 4e6, 50_000


@dataclass(frozen=True, slots=True)
class Cell:
    """One workload on one target, or on one of either side."""

    workload: str
    pipeline: PipelineSpec
    base: Target
    head: Target

    @property
    def targets(self) -> tuple[Target, Target]:
        """Base's and head's."""
        return self.base, self.head

    @property
    def cards(self) -> set[str]:
        """The devices that only one pair can have at a time: a core is its pair's anyway."""
        return {target.device for target in self.targets if target.kind != "cpu"}

    @property
    def target(self) -> str:
        """What it is called by."""
        return str(self.base) if self.base == self.head else f"{self.base} -> {self.head}"


@dataclass(slots=True)
class Card:
    """What the driver has said of a card (or two), between the quartets of one cell in a pair.

    Attributes
    ----------
    quartets, discarded : int
        How many were measured, and how many of them while a card was slowed down.
    sm_mhz, memory_mhz : list of int
        The lowest and the highest clock; empty if that is not told.
    throttling : set of str
        All reasons that it gave, those of its settings and its usual limits among them.
    told : bool
        Whether it gives reasons at all.
    """

    quartets: int = 0
    discarded: int = 0
    sm_mhz: list[int] = field(default_factory=list)
    memory_mhz: list[int] = field(default_factory=list)
    throttling: set[str] = field(default_factory=set)
    told: bool = False

    def slowed(self, watchers: Sequence[nvidia.Watcher]) -> bool:
        """Ask for the clocks; whether one of the cards is slowed down."""
        now: set[str] = set()
        for clocks in filter(None, [watcher.look() for watcher in watchers]):
            for known, mhz in (
                (self.sm_mhz, clocks.sm_mhz), (self.memory_mhz, clocks.memory_mhz)
            ):  # fmt: skip
                if mhz is not None:
                    known[:] = [min([mhz, *known]), max([mhz, *known])]
            now.update(clocks.throttling or ())
            self.told |= clocks.throttling is not None
        self.throttling |= now
        return not SLOWED.isdisjoint(now)


@dataclass(slots=True)
class Found:
    """What is known of a cell.

    Attributes
    ----------
    monitor : Monitor
    samples : dict of int to pair of sequences of float
        By the number of the pair, base's and head's seconds of a call, one a block.
    events : bool
        What counts are events of the device; the samples are of the host's clock all the same.
    cards : dict of int to Card
        By the number of the pair, also of one of which nothing counts.
    outcomes : dict of str to Outcome
        By side: why it has no time.
    worst : dict of str to Accuracy
        By side: of the outputs of timed calls that were verified.
    receipts : dict of str to dict
        By side: what was seen when it had to stand by its time.
    """

    cell: Cell
    monitor: Monitor
    samples: dict[int, tuple[list[float], list[float]]] = field(default_factory=dict)
    events: bool = False
    cards: dict[int, Card] = field(default_factory=dict)
    verified: int = 0
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    worst: dict[str, Accuracy] = field(default_factory=dict)
    receipts: dict[str, dict[str, Any]] = field(default_factory=dict)
    algorithms: dict[str, str] = field(default_factory=dict)
    begun: int = 0
    tries: int = 0
    seed: int = field(default_factory=lambda: secrets.randbits(32))
    _weights: Weights | None = None
    _looks_at: dict[str, float] = field(
        default_factory=lambda: {side: secrets.randbelow(LOOKED_AT_BY) for side in SIDES}
    )

    def inputs(self) -> Inputs:
        """Numbers that nobody has seen, under the weights of the cell."""
        if self._weights is None:
            self._weights = make_inputs(self.cell.pipeline, DTYPE, FILL, self.seed).weights
        chance = np.random.default_rng(secrets.randbits(64))
        shape = self.cell.pipeline.input_shape
        return Inputs(chance.standard_normal(shape, np.dtype(DTYPE)), self._weights)

    def medians(self, side: str) -> dict[int, float]:
        """Of each pair, by its number, the seconds of a call."""
        place = SIDES.index(side)
        return {pair: statistics.median(both[place]) for pair, both in self.samples.items()}

    @property
    def discarded(self) -> Discarded | None:
        """What does not count of all that was measured; None if all does."""
        cards = self.cards.values()
        if not (number := sum(card.discarded for card in cards)):
            return None
        why = {reason for card in cards for reason in card.throttling & SLOWED}
        return Discarded(number, sum(card.quartets for card in cards), tuple(sorted(why)))

    @property
    def open(self) -> bool:
        """Whether it is to be measured again: a doubt is, whatever the times have decided."""
        doubted = any(self.standing(side) is Standing.DOUBTED for side in SIDES)
        return (self.monitor.open or doubted) and not self.outcomes

    def begin(self) -> list[str]:
        """Begin a pair: the sides that have to stand by their times in it."""
        looked = [side for side in SIDES if self.begun >= self._looks_at[side]]
        self.begun += 1
        self._looks_at |= dict.fromkeys(looked, math.inf)
        return looked

    def begin_again(self) -> None:
        """Look at both sides in the next pair: nothing has come of this one."""
        self._looks_at = dict.fromkeys(SIDES, 0)

    def resume(self, tries: int, held: Collection[str], doubted: Collection[str]) -> None:
        """Go on from what another process knows: how often it failed, and which sides stand."""
        self.tries = tries
        self._looks_at |= dict.fromkeys(held, math.inf) | dict.fromkeys(doubted, 0)

    def received(self, side: str, receipt: dict[str, Any]) -> None:
        """Take in what was seen; a doubt is looked at once more in the next pair."""
        reason = doubt(receipt)
        if reason and self.standing(side) is Standing.DOUBTED:
            outcome = Outcome(
                Status.INVALID, f"its time is not supported: {reason}",
                "`convbench audit` looks again, and closer; docs/trust.md says how.",
            )  # fmt: skip
            self.outcomes.setdefault(side, outcome)  # that it is wrong is worse
        elif reason:
            self._looks_at[side] = 0
        self.receipts[side] = receipt

    def standing(self, side: str) -> Standing:
        """What stands behind the time of a side."""
        if (receipt := self.receipts.get(side)) is None:
            return Standing.CLAIM
        return Standing.DOUBTED if doubt(receipt) else Standing.HELD


@dataclass(frozen=True, slots=True)
class Progress:
    """A pair is done."""

    target: str
    pairs: int
    decided: int
    cells: int
    left_s: float
    """Of the budget."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What the template of a process has to be.

    Attributes
    ----------
    python : Path
        Its interpreter.
    modules : tuple of str
        What it imports.
    variables : tuple of (str, str)
        Of its environment, for these.
    only : str
        The side that it is for; "" for both.
    """

    python: Path
    modules: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    only: str = ""


class Templates:
    """The processes from which those of a pair are forked, one for all that need the same of it.

    Parameters
    ----------
    sides : mapping of str to Built
    interface : Path
        That of the suites, whichever the side.

    Attributes
    ----------
    unknown : dict of (str, Target) to Outcome
        What a side has no backend, or no variant, of that name for, and what it says.
    """

    def __init__(self, sides: Mapping[str, Built], interface: Path) -> None:
        self.unknown: dict[tuple[str, Target], Outcome] = {}
        self._sides = sides
        self._interface = interface
        self._needed: dict[tuple[Path, Path, str], Needs] = {}
        self._known: dict[Needs, Template] = {}
        self._ready: dict[Needs, Template] = {}
        self._served: dict[Needs, set[tuple[str, Target]]] = {}
        self._asked: Child | None = None
        self._asking = threading.Lock()
        self._locks: dict[Needs, threading.Lock] = {}
        # Several threads would wait for each other on their one core. TensorFlow counts the cores.
        self._variables = dict.fromkeys(THREAD_SETTINGS, "1") | {"TF_CPP_MIN_LOG_LEVEL": "3"}

    def open(self, side: str, target: Target, core: int | None) -> tuple[Child, Any] | Outcome:
        """Fork a process of a side that has a backend open, and what it says; or why there is none.

        Parameters
        ----------
        core : int, optional
            The one that it takes.
        """
        child = self.fork({side: target})[side]
        if isinstance(child, Outcome):
            return child
        try:
            opened = self.opened(child, side, target, core)
        except BaseException:  # Ctrl-C
            child.close()
            raise
        if isinstance(opened, Outcome):
            child.close()
            return opened
        return child, opened

    def opened(self, child: Child, side: str, target: Target, core: int | None) -> Any:
        """Have a process open a backend: what it says, or why it cannot, an Outcome."""
        source = str(self._sides[side].source)
        order = {"do": "open", "source": source, "target": str(target), "core": core}
        opened = child.ask(order, START_TIMEOUT_S)
        if not isinstance(opened, Outcome):
            return self._strange(side, target, opened) or opened
        if opened.kind == TargetError.__name__:  # it is new, or gone; or nobody has it
            opened = self.unknown[side, target] = replace(opened, status=Status.SKIPPED)
        return opened

    def _strange(self, side: str, target: Target, opened: Any) -> Outcome | None:
        """Why it is not the side's code that is open, if it is not."""
        built = self._sides[side]
        file = Path(str(opened.get("file", "") if isinstance(opened, dict) else ""))
        if target.backend not in built.own or file.resolve().is_relative_to(built.source.resolve()):
            return None
        return Outcome(
            Status.FAILED,
            f"its code is {file}, and not that of {built.name} in {built.source}",
            "Something imports it from there before sys.path is asked, as some editable"
            " installations do: install it without --editable, or use `asv run`.",
            "other code",
        )

    def fork(self, targets: Mapping[str, Target]) -> dict[str, Child | Outcome]:
        """Fork a process of a side for its target, or of both, from a template that served neither.

        Both have the same one if they need the same. Where what it is forked from has died, most
        likely as it imported the library, there is an Outcome.
        """
        needs = {side: self._needs(side, target) for side, target in targets.items()}
        forked: dict[str, Child | Outcome] = {}
        # Another core may wait for one of two; this one takes the other first.
        for need in sorted(_drawn({*needs.values()}), key=lambda need: self._locks[need].locked()):
            mine = [(side, target) for side, target in targets.items() if needs[side] == need]
            with self._locks[need]:
                served = self._served.setdefault(need, set())
                # CUDA does not survive a fork: there each process is the only one of its template.
                if not served.isdisjoint(mine) or need.only:
                    self._end(need)
                for side, target in _drawn(mine):
                    try:
                        forked[side] = self._template(need).fork()
                        self._served[need].add((side, target))
                    except ChildProcessError as error:
                        self._end(need)  # what only happens once may have been the machine
                        forked[side] = Outcome(
                            Status.FAILED, str(error), kind="no process", process_lost=True
                        )
        return forked

    def prepare(self, target: Target) -> None:
        """Have both sides import the library for the next process that needs a new template."""
        for need in {self._needs(side, target) for side in self._sides}:
            with self._locks[need]:
                if need not in self._ready:
                    self._ready[need] = self._start(need)

    def close(self) -> None:
        """End them all."""
        if (asked := self._asked) is not None:
            asked.kill()
        for need in list(self._known):
            self._end(need)
        for need in list(self._ready):
            if (template := self._ready.pop(need, None)) is not None:
                template.close()

    def _template(self, need: Needs) -> Template:
        if need not in self._known:
            ready = self._ready.pop(need, None)
            self._known[need] = self._start(need) if ready is None else ready
            self._served[need] = set()
        return self._known[need]

    def _end(self, need: Needs) -> None:
        if (template := self._known.pop(need, None)) is not None:
            template.close()

    def _needs(self, side: str, target: Target) -> Needs:
        """What a side says that its backend imports; it is asked once."""
        built = self._sides[side]
        name = built.python, built.source, target.backend
        with self._asking:
            if name not in self._needed:
                self._needed[name] = self._ask_for_needs(built, target.backend)
            need = self._needed[name]
            if target.kind != "cpu":
                need = replace(need, only=side)
            self._locks.setdefault(need, threading.Lock())
        return need

    def _ask_for_needs(self, built: Built, backend: str) -> Needs:
        """In a process of its own. Where it does not say, it will say why when it is opened."""
        nothing = Needs(built.python)
        try:
            with (
                contextlib.closing(self._start(nothing)) as template,
                contextlib.closing(template.fork()) as self._asked,
            ):
                order = {"do": "needs", "source": str(built.source), "backend": backend}
                told = self._asked.ask(order, START_TIMEOUT_S)
                return Needs(
                    built.python,
                    tuple(map(str, told["modules"])),
                    tuple(sorted((str(k), str(v)) for k, v in told["variables"].items())),
                )
        except (ChildProcessError, AttributeError, LookupError, TypeError):
            return nothing
        finally:
            self._asked = None

    def _start(self, need: Needs) -> Template:
        code = Path(__file__).with_name("side.py")
        sources = sorted({str(built.source) for built in self._sides.values()})
        told = {"modules": need.modules, "variables": dict(need.variables), "sources": sources}
        command = (need.python, "-P", code, self._interface, wire.__file__, json.dumps(told))
        return Template([*map(str, command)], self._variables)


class Pooled:
    """What pairs have shown, wherever they were measured.

    Attributes
    ----------
    found : list of Found
        Of each cell.
    budget_s, elapsed_s : float
    pairs : int
        How many there are.
    pair_s : dict of str to float
        How long the last pair of a target took, for one of its cells.
    versions : dict of str to dict of str to dict
        By side and target, what each side says of itself.
    """

    def __init__(self, cells: Sequence[Cell], rule: Rule, budget_s: float) -> None:
        self.found = [Found(cell, Monitor(rule, len(cells))) for cell in cells]
        self.budget_s = budget_s
        self.elapsed_s = 0.0
        self.pairs = 0
        self.pair_s: dict[str, float] = {}
        self.versions: dict[str, dict[str, dict[str, str]]] = {side: {} for side in SIDES}
        self._begun_s = 0.0

    def progress(self, target: str) -> Progress:
        """How far it is, after a pair of this target."""
        decided = sum(not found.open for found in self.found)
        left_s = max(0.0, self.budget_s * (1 - self.share))
        return Progress(target, self.pairs, decided, len(self.found), left_s)

    @property
    def share(self) -> float:
        """Of the budget, what has gone by."""
        return (time.monotonic() - self._begun_s) / self.budget_s

    def begin(self) -> None:
        """The budget begins to run."""
        self._begun_s = time.monotonic()

    def finish(self) -> None:
        """There will be no more pairs."""
        for found in self.found:
            found.monitor.finish()
        self.elapsed_s = time.monotonic() - self._begun_s


class Pairs(Pooled):
    """Measures pairs here until all cells are decided, or the budget is spent.

    Parameters
    ----------
    templates : Templates
    cells : sequence of Cell
    rule : Rule
    budget_s : float
    examiners : sequence of Examiner
        One for each core that is to be used.
    """

    def __init__(
        self,
        templates: Templates,
        cells: Sequence[Cell],
        rule: Rule,
        budget_s: float,
        examiners: Sequence[Examiner],
    ) -> None:
        super().__init__(cells, rule, budget_s)
        self._templates = templates
        self._examiners = examiners
        self._lock = threading.Lock()
        self._freed = threading.Condition(self._lock)
        self._taken: set[str] = set()
        self._stop = threading.Event()
        self._told: queue.Queue[Progress | BaseException | None] = queue.Queue()
        self._running: dict[str, int] = {}
        self._alive: set[Child] = set()
        self._watchers: dict[str, nvidia.Watcher] = {}

    def measure(self) -> Generator[Progress]:
        """Measure on every core; closing the iterator, as Ctrl-C does, ends it at once."""
        if nvidia.has_nvidia_driver():
            for card in set().union(*(found.cell.cards for found in self.found)):
                self._watchers[card] = nvidia.Watcher(int(card.partition(":")[2] or 0))
        self.begin()
        taken = cores()[: len(self._examiners)]
        threads = [
            threading.Thread(target=self._on_core, args=each, daemon=True)
            for each in zip(taken, self._examiners, strict=False)
        ]
        for thread in threads:
            thread.start()
        working = len(threads)
        try:
            while working:
                told = self._told.get()
                if isinstance(told, BaseException):
                    raise told
                if told is None:
                    working -= 1
                else:
                    yield told
        finally:
            self._stop.set()
            for child in [*self._alive]:
                child.kill()
            self._templates.close()  # a thread may wait for one of them to import its library
            for thread in threads:
                thread.join()
            for watcher in self._watchers.values():
                watcher.close()
            self.finish()

    def _on_core(self, core: int | None, examiner: Examiner) -> None:
        """Measure one pair after the other, in a thread that keeps to the core of its pairs."""
        try:
            if core is not None:
                os.sched_setaffinity(0, {core})
            while (chosen := self._next()) is not None:
                target, cards = chosen
                self._pair(target, core, examiner)
                with self._lock:
                    self._running[target] -= 1
                    self._taken -= cards
                    self._freed.notify_all()
                    self._told.put(self.progress(target))
        except BaseException as error:  # it is raised where somebody waits
            self._told.put(error)
        finally:
            self._told.put(None)

    def _next(self) -> tuple[str, set[str]] | None:
        """The target whose pair comes next, and the cards that it takes, once they are free.

        That whose open cells have the fewest pairs, those under way among them, until all have as
        many as it takes to claim anything; then that of the cell which is the nearest to an answer.
        Until then a core has nothing to do, and imports what the next pair of those cards needs.
        """
        while True:
            with self._freed:
                open_ = [found for found in self.found if found.open]
                spent = self.share >= 1 and self.pairs > 0  # one pair there is in any budget
                if self._stop.is_set() or spent or not open_:
                    return None
                by_target: dict[str, list[Found]] = {}
                for found in open_:
                    if not found.cell.cards & self._taken:
                        by_target.setdefault(found.cell.target, []).append(found)
                if by_target:
                    return self._take(by_target)
            for target in dict.fromkeys(min(open_, key=_pairs_of).cell.targets):
                if target.kind != "cpu":
                    self._templates.prepare(target)
            with self._freed:
                if self._taken:
                    self._freed.wait(_LOOK_UP_S)

    def _take(self, by_target: Mapping[str, Sequence[Found]]) -> tuple[str, set[str]]:
        """Choose one of the targets, and take its cards."""

        def order(target: str) -> tuple[float, float, float]:
            cells = by_target[target]
            pairs = min(map(_pairs_of, cells)) + self._running.get(target, 0)
            to_go = min(found.monitor.pairs_to_go() for found in cells)
            to_go_s = to_go * self.pair_s.get(target, 0.0)
            return min(pairs, ALL_FIRST), to_go_s, random.random()  # noqa: S311

        target = min(by_target, key=order)
        self._running[target] = self._running.get(target, 0) + 1
        cards = by_target[target][0].cell.cards
        self._taken |= cards
        return target, cards

    def _pair(self, target: str, core: int | None, examiner: Examiner) -> None:
        """Measure one pair of processes on the open cells of a target."""
        with self._lock:
            self.pairs += 1
            number = self.pairs
            todo = [found for found in self.found if found.open and found.cell.target == target]
        if not todo:  # another core has decided the last of them meanwhile
            return
        random.shuffle(todo)
        targets = dict(zip(SIDES, todo[0].cell.targets, strict=True))
        watchers = [self._watchers[card] for card in todo[0].cell.cards if card in self._watchers]
        begin_s, done, events = time.monotonic(), 0, True
        with contextlib.ExitStack() as stack:
            forked = self._templates.fork(targets)
            children = {s: child for s, child in forked.items() if isinstance(child, Child)}
            for child in children.values():
                stack.enter_context(self._ended_with_us(child))
            for side in _drawn(SIDES):
                said: Any = forked[side]
                if isinstance(said, Child):
                    said = self._templates.opened(said, side, targets[side], core)
                if isinstance(said, Outcome):
                    for found in todo:
                        self._failed(found, side, said)
                    return
                told = said if isinstance(said, dict) else {}
                versions = told.get("versions")
                known = versions if isinstance(versions, dict) else {}
                events = events and told.get("events") is True
                self.versions[side][target] = {str(k): str(v) for k, v in known.items()}
            for found in todo:
                if self._stop.is_set() or (self.share >= 1 and done):
                    break
                measured = _Measured(found, children, examiner, watchers, events=events)
                try:
                    log_ratio = measured.run()
                except _Lost as lost:
                    self._failed(found, lost.side, lost.outcome)
                    if lost.outcome.process_lost:
                        return
                    continue
                done += 1
                with self._lock:
                    if found.cell.cards:
                        found.cards[number] = measured.card
                    if log_ratio is None:
                        found.begin_again()
                        continue
                    found.events = events
                    found.samples[number] = measured.samples["base"], measured.samples["head"]
                    found.tries = 0
                    if not self._stop.is_set():  # and nobody has been ended as he was looked at
                        for side, receipt in measured.receipts.items():
                            found.received(side, receipt)
                    if not found.outcomes:
                        found.monitor.add(number, log_ratio, self.share)
                if found.outcomes:  # a side that is doubted is trusted with nothing more
                    return
        if done:
            self.pair_s[target] = (time.monotonic() - begin_s) / done

    @contextlib.contextmanager
    def _ended_with_us(self, child: Child) -> Generator[None]:
        """Close it in the end, and let who ends all of it kill it until then."""
        with contextlib.closing(child):
            self._alive.add(child)
            try:
                yield
            finally:
                self._alive.discard(child)

    def _failed(self, found: Found, side: str, outcome: Outcome) -> None:
        """Note why a side has no time; what only happened once may have been the machine."""
        with self._lock:
            if self._stop.is_set():  # it was ended
                return
            found.begin_again()
            found.tries += 1
            if found.tries > 1 or outcome.status is Status.SKIPPED:
                found.outcomes[side] = outcome


class _Lost(Exception):
    """A side has not answered as one that computes."""

    def __init__(self, side: str, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.side, self.outcome = side, outcome


class _Measured:
    """One cell in one pair.

    Attributes
    ----------
    samples : dict of str to list of float
        By side, the seconds of a call, one a block.
    receipts : dict of str to dict
        Of the sides that had to stand by their times.
    card : Card
        What was seen of the card meanwhile.
    """

    def __init__(
        self,
        found: Found,
        children: Mapping[str, Child],
        examiner: Examiner,
        watchers: Sequence[nvidia.Watcher] = (),
        *,
        events: bool = False,
    ) -> None:
        self._found, self._children, self._examiner = found, children, examiner
        self._watchers, self._events = watchers, events
        self.samples: dict[str, list[float]] = {side: [] for side in SIDES}
        self.receipts: dict[str, dict[str, Any]] = {}
        self.card = Card()

    def run(self) -> float | None:
        """Build, alternate, verify: the logarithm of head / base; None if too little counts."""
        pipeline = self._found.cell.pipeline
        inputs = self._found.inputs()
        order = {"do": "build", **plain(pipeline, inputs, FILL)}
        built = {side: self._table(side, order) for side in _drawn(SIDES)}
        call_s = {side: _time(built[side].get("call_s"), side) for side in SIDES}
        calls = max(1, int(BLOCK_S / min(call_s.values())))
        looked = self._found.begin()
        before = {side: self._children[side].look() for side in looked}
        begun_s = time.monotonic()
        end_s = begun_s + CELL_S
        log_ratios: list[float] = []
        slowed = self.card.slowed(self._watchers)
        while self.card.quartets < LEAST_QUARTETS or (
            time.monotonic() < end_s and self.card.quartets < MOST_QUARTETS
        ):
            log_ratio, seconds = self._quartet(calls)
            self.card.quartets += 1
            began_slowed, slowed = slowed, self.card.slowed(self._watchers)
            if began_slowed or slowed:
                self.card.discarded += 1
                continue
            log_ratios.append(log_ratio)
            for side in SIDES:
                self.samples[side] += seconds[side]
        if len(log_ratios) < LEAST_QUARTETS:
            return None
        if not self._found.verified or not secrets.randbelow(VERIFIED):
            self._verify(pipeline, inputs, built)
        for side in SIDES:
            self._found.algorithms[side] = str(built[side].get("algorithm", ""))
        for side in looked:
            self.receipts[side] = self._look_at(side, built[side], before[side], begun_s)
        return statistics.median(log_ratios)

    def _quartet(self, calls: int) -> tuple[float, dict[str, list[float]]]:
        """The logarithm of head / base, and by side the seconds of a call, one a block."""
        logs = dict.fromkeys(SIDES, 0.0)
        samples: dict[str, list[float]] = {side: [] for side in SIDES}
        first, second = _drawn(SIDES)
        for side in (first, second, second, first):
            begin_s = time.perf_counter()
            order = {"do": "block", "calls": calls, "events": self._events}
            block = self._table(side, order)
            ours_s = time.perf_counter() - begin_s
            seconds = counted = _time(block.get("seconds"), side)
            if self._events:
                counted = _time(block.get("card_s"), side)
                ours_s -= counted
            if seconds > ours_s:
                reason = f"it says that {calls} calls took {seconds} s, of {ours_s} s by our clock"
                raise _Lost(side, Outcome.malformed(reason))
            samples[side].append(seconds / calls)
            logs[side] += math.log(counted / calls) / 2
        return logs["head"] - logs["base"], samples

    def _look_at(
        self, side: str, built: Mapping[str, Any], before: watch.Seen | None, begun_s: float
    ) -> dict[str, Any]:
        """Have a side stand by its time: the receipt."""
        found = self._found
        claim = {
            "pipeline": found.cell.pipeline.to_dict(), "dtype": DTYPE, "fill": str(FILL),
            "seed": found.seed, "hot_s": statistics.median(self.samples[side]),
            "mean_s": statistics.fmean(self.samples[side]),
            "accumulation": built.get("accumulation"), "scheme": built.get("scheme"),
        }  # fmt: skip
        target = str(found.cell.targets[SIDES.index(side)])
        cell = asv_store.Cell(
            "gate", 0, (target, found.cell.workload), 1, alone=False, timeout_s=TIMEOUT_S
        )
        return self._examiner.time(self._children[side], cell, claim, before, begun_s)

    def _verify(
        self, pipeline: PipelineSpec, inputs: Inputs, built: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Verify what the last timed call of either side gave, at positions that are drawn now."""
        outputs = {side: self._ask(side, {"do": "output"}) for side in SIDES}
        positions = sample(pipeline, secrets.randbits(32), _VERIFY_FLOPS, _VERIFY_ELEMENTS)
        usual = refer_for(pipeline, inputs, FILL, None, positions)
        for side, output in outputs.items():
            self._found.verified += 1
            added, scheme = (built[side].get(name) for name in ("accumulation", "scheme"))
            added = added if added in FORMATS else None
            scheme = scheme if scheme in SCHEMES else None
            why = ""
            if type(output) is not np.ndarray or output.dtype.name != FORMATS[DTYPE].storage:
                why = f"it is {getattr(output, 'dtype', 'no array')}"
            else:
                try:
                    expected = usual
                    if scheme or added not in {None, FORMATS[DTYPE].accumulation}:
                        expected = refer_for(pipeline, inputs, FILL, added, positions, scheme)
                    found = accuracy_of(output, expected)
                except ArrayError as error:
                    why = str(error)
            accuracy = Accuracy(math.inf) if why else found
            worst = self._found.worst.get(side)
            if worst is None or accuracy.ratio > worst.ratio:
                self._found.worst[side] = accuracy
            if not accuracy.ok:
                reason = f"the output of a timed call is wrong: {why or accuracy}"
                self._found.outcomes[side] = Outcome(Status.WRONG, reason)

    def _ask(self, side: str, order: dict[str, Any]) -> Any:
        pipeline = self._found.cell.pipeline
        answer = self._children[side].ask(order, TIMEOUT_S, 64 * (pipeline.bytes(8) + 1024))
        if isinstance(answer, Outcome):
            raise _Lost(side, answer)
        return answer

    def _table(self, side: str, order: dict[str, Any]) -> dict[str, Any]:
        answer = self._ask(side, order)
        if not isinstance(answer, dict):
            raise _Lost(side, Outcome.malformed(f"{order['do']} was answered with {answer!r:.80}"))
        return answer


def plain(pipeline: PipelineSpec, inputs: Inputs, fill: Fill) -> dict[str, Any]:
    """A pipeline and its inputs, as they cross to a side."""
    weights = inputs.weights
    return {
        "pipeline": pipeline.to_dict(), "dtype": weights.dtype, "fill": str(fill),
        "x": inputs.x, "filters": weights.filters, "bias": weights.bias,
    }  # fmt: skip


def _time(value: object, side: str) -> float:
    if type(value) is not float or not 0 < value < math.inf:
        raise _Lost(side, Outcome.malformed(f"{value!r:.80} is no time"))
    return value


def _pairs_of(found: Found) -> int:
    """Those of which nothing counts among them: or a card that is hot would keep all others out."""
    return len(found.samples.keys() | found.cards.keys())


def _drawn(what: Collection[T]) -> list[T]:
    """All of it, in an order that is drawn."""
    return random.sample([*what], len(what))


def cores() -> list[int | None]:
    """Those that pairs can be measured on; None where a process cannot be kept to one."""
    if sys.platform == "linux":
        return [*sorted(os.sched_getaffinity(0))]
    return [None]
