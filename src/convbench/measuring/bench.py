"""Measure every cell in several fresh processes, their order interleaved: what `make bench` runs.

`asv run` measures the same suites and files the same results; what it cannot do is measure many
cells in one process, and so most of its time goes into importing libraries. Here

- a round has one process for every target, in an order that is drawn anew for each round. It is
  forked from a server that has imported the libraries and started none of them, so that it is
  fresh within milliseconds; where the target is a GPU it is a new interpreter, since CUDA does not
  survive a fork;
- in it, the cells of the target are measured one after the other, again in an order of its own:
  whatever a cell leaves behind meets another cell in every round, and becomes part of the spread
  between the processes, which the intervals are made of, instead of a bias;
- a cell that raises, crashes, hangs or runs out of memory costs itself: it is noted with the
  reason, and the other cells go on in a new process;
- every line of evidence is on the disk as soon as its cell is measured. A run that was interrupted,
  by Ctrl-C or by SIGKILL, is continued by the next one, and asv's file is written after each round.
"""

from __future__ import annotations

import functools
import hashlib
import random
import time
import traceback
import uuid
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from convbench.machine.child import START_TIMEOUT_S, Child, Questions, start_server
from convbench.machine.failures import explain
from convbench.machine.git import git
from convbench.measuring import evidence
from convbench.measuring.asv_store import Cell, Store
from convbench.measuring.evidence import Place
from convbench.results.journal import Ends, append, by_cell, read
from convbench.words.status import Outcome

_GOODBYE_S = 10.0
"""For the cell that is under way when a run is interrupted, and the last lines of its process."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a process that measures says.

    Attributes
    ----------
    status : str
        What became of the cell: "ok", "skipped" or "failed"; "ready" before the first, "ended" as
        the last.
    lost : bool
        The process can measure nothing more: its GPU's context is lost, or it is dead.
    """

    status: str
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """A cell that was measured, skipped or failed in one of the rounds."""

    cell: Cell
    round: int
    status: str


class Bench:
    """One run over the cells of a store, new or continued.

    Parameters
    ----------
    store : Store
    rounds : int, optional
        Processes per cell of the suites that take the most, the times; others take no more.
    timeout_s : float, optional
        A cell that takes longer has failed, where it is not what asv's configuration says.
    fresh : bool
        Do not continue a run that was interrupted.
    """

    def __init__(
        self,
        store: Store,
        rounds: int | None = None,
        timeout_s: float | None = None,
        *,
        fresh: bool = False,
    ) -> None:
        self.store = store
        cells = store.cells()
        if rounds is not None:
            usual = max((cell.rounds for cell in cells), default=0)
            cells = [
                replace(cell, rounds=rounds if cell.rounds == usual else min(rounds, cell.rounds))
                for cell in cells
            ]
        if timeout_s is not None:
            cells = [replace(cell, timeout_s=timeout_s) for cell in cells]
        self.cells = cells
        self.plan = _plan(store, cells)
        journal = read(store.evidence)
        unfinished = [
            run
            for run, facts in journal.runs.items()
            if facts.get("plan") == self.plan and facts.get("state") != "finished"
        ]
        self.continued = bool(unfinished) and not fresh
        self.run = unfinished[-1] if self.continued else uuid.uuid4().hex[:12]
        self._notes = [note for note in journal.notes if note.run == self.run]
        self.elapsed_s = 0.0

    @property
    def rounds(self) -> int:
        """How many rounds there are."""
        return max((cell.rounds for cell in self.cells), default=0)

    def left(self) -> list[tuple[int, Cell]]:
        """What is not done yet, as (round, cell)."""
        ends = self._ends()
        return [
            (number, cell)
            for number in range(1, self.rounds + 1)
            for cell, end in zip(self.cells, ends, strict=True)
            if number <= cell.rounds and number not in end.rounds and not end.given_up
        ]

    def _ends(self) -> list[Ends]:
        """What is known of each of the cells."""
        notes = by_cell(self._notes)
        return [Ends.of(notes.get((cell.benchmark, cell.params), ())) for cell in self.cells]

    def _left_out(self, number: int) -> list[Cell]:
        """Cells that this round would have, had they not failed or been skipped in one before."""
        return [
            cell
            for cell, end in zip(self.cells, self._ends(), strict=True)
            if number <= cell.rounds and 0 < end.given_up < number
        ]

    def measure(self) -> Generator[Done, None, None]:
        """Measure what is left, and write asv's file after every round and at the end.

        Closing the iterator, as Ctrl-C does, keeps everything that was measured.
        """
        begun_s = time.monotonic()
        self._say("begun", cells=len(self.cells), rounds=self.rounds)
        if any(cell.kind != "gpu" for cell in self.cells):
            start_server(
                "convbench.measuring.preload", {"CONVBENCH_SUITES": str(self.store.suites)}
            )
        try:
            for number in range(1, self.rounds + 1):
                if number > 1:
                    self.save()
                yield from self._round(number)
        finally:
            self.elapsed_s = time.monotonic() - begun_s
            self.save()
        self._say("finished", elapsed_s=round(self.elapsed_s, 3), measured_s=self.measured_s())

    def measured_s(self) -> float:
        """How long cells have been measured: the warm-up and the samples of their timing."""
        return round(sum(float(note.facts.get("spent_s", 0.0)) for note in self._notes), 3)

    def save(self) -> None:
        """Write asv's file from the evidence."""
        journal = read(self.store.evidence)
        self._notes = [note for note in journal.notes if note.run == self.run]
        self.store.save(self.cells, self._notes)

    def _round(self, number: int) -> Iterator[Done]:
        chance = random.Random(f"{self.run} {number}")  # noqa: S311  # an order, not a secret
        left = [cell for of_round, cell in self.left() if of_round == number]
        for cell in self._left_out(number):
            yield Done(cell, number, "left out")
        together: dict[str, list[Cell]] = {}
        for cell in left:
            if not cell.alone:
                together.setdefault(cell.target, []).append(cell)
        queues = [*together.values(), *([cell] for cell in left if cell.alone)]
        chance.shuffle(queues)
        for queue in queues:
            chance.shuffle(queue)
            yield from self._in_processes(number, queue)

    def _in_processes(self, number: int, queue: Sequence[Cell]) -> Iterator[Done]:
        """Measure the cells of one target in one process, and in another after it has died."""
        fork = queue[0].kind != "gpu"
        place = Place(self.store.evidence, self.run, number, "fork" if fork else "exec")
        note = functools.partial(append, self.store.evidence, "cell", run=self.run, round=number)
        child = None
        try:
            for cell in queue:
                answer: Answer | Outcome = Answer("ready")
                if child is None:
                    child = Child(_serve, (str(self.store.suites), place), fork=fork)
                    answer = child.receive(START_TIMEOUT_S)
                if isinstance(answer, Answer):
                    question = (cell.benchmark, cell.index, cell.params)
                    answer = child.ask(question, cell.timeout_s)
                if isinstance(answer, Outcome):  # it can note nothing any more
                    note(
                        process="", benchmark=cell.benchmark, params=cell.params, status="failed",
                        error=answer.kind, reason=answer.reason, remedy=answer.remedy,
                    )  # fmt: skip
                    answer = Answer("failed", lost=True)
                if answer.lost:
                    child.close()
                    child = None
                yield Done(cell, number, answer.status)
        finally:
            if child is not None:
                child.ask(None, _GOODBYE_S)
                child.close()

    def _say(self, state: str, **facts: Any) -> None:
        store = self.store
        append(
            store.evidence, "run", run=self.run, state=state, plan=self.plan,
            clean=not git(store.suites.parent, "status", "--porcelain"),
            front="convbench bench", machine=store.machine["machine"], commit=store.commit,
            environment=store.environment, commit_time_s=store.commit_time_s, **facts,
        )  # fmt: skip


def _plan(store: Store, cells: Sequence[Cell]) -> str:
    """A name for what is measured: the tree as it is, and every cell with its rounds."""
    root = store.suites.parent
    text = hashlib.sha256(repr([(str(cell), cell.rounds) for cell in cells]).encode())
    for arguments in (("rev-parse", "HEAD"), ("diff", "HEAD"), ("status", "--porcelain")):
        text.update(git(root, *arguments).encode())
    return text.hexdigest()[:16]


# -- In the process -------------------------------------------------------------------------------


def _serve(suites: str, place: Place, pipe: Questions) -> None:
    """Measure the cells that are asked for, until the question is None."""
    writer = evidence.use(place)
    pipe.send(Answer("ready"))
    while True:
        try:
            question = pipe.recv()
        except EOFError:
            return
        answer = Answer("ended", lost=True) if question is None else _measure(suites, *question)
        if answer.lost:
            writer.finish()
        pipe.send(answer)
        if question is None:
            return


def _measure(suites: str, name: str, index: int, params: Sequence[str]) -> Answer:
    """Run one benchmark as asv_runner does. The suites note what becomes of it themselves."""
    from asv_runner.benchmarks.mark import SkipNotImplemented  # noqa: PLC0415
    from asv_runner.discovery import get_benchmark_from_name  # noqa: PLC0415

    try:
        benchmark = get_benchmark_from_name(suites, f"{name}-{index}")
        benchmark.set_cache(None)
        skip = benchmark.do_setup()
    except Exception as error:  # before the suite could note anything
        failure = explain(error)
        evidence.write(
            name, params, "failed",
            error=failure.kind, reason=failure.reason, remedy=failure.remedy,
        )  # fmt: skip
        return Answer("failed")
    if skip:  # by asv's skip_params: n/a by nature, which is not worth a line
        return Answer("skipped")
    try:
        benchmark.do_run()
    except SkipNotImplemented:
        return Answer("skipped")
    except Exception as error:  # whatever a library raises
        traceback.print_exc()
        return Answer("failed", lost=explain(error).process_lost)
    return Answer("ok")
