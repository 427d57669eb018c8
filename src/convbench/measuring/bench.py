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

import hashlib
import math
import random
import secrets
import statistics
import time
import traceback
import uuid
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from convbench.machine import watch
from convbench.machine.child import START_TIMEOUT_S, Child, Questions, start_server
from convbench.machine.failures import explain, explain_timeout
from convbench.machine.git import changes, git
from convbench.measuring import evidence
from convbench.measuring.asv_store import Cell, Store
from convbench.measuring.evidence import Place, Relay, Writer
from convbench.results.journal import (
    FIELDS,
    STATUSES,
    Ends,
    Ledger,
    by_cell,
    finite,
    kind_of,
    positive,
    read,
)
from convbench.results.records import doubt
from convbench.words.status import Outcome

_GOODBYE_S = 10.0
"""For the cell that is under way when a run is interrupted, and the last lines of its process."""


class Examiner(Protocol):
    """Who looks at claims while their process stands by them."""

    def time(
        self,
        child: Child,
        cell: Cell,
        claim: Mapping[str, Any],
        before: watch.Seen | None,
        begun_s: float,
    ) -> dict[str, Any]:
        """The receipt of a time.

        Parameters
        ----------
        before : Seen
            Of the process, when it was asked for the cell.
        begun_s : float
            When that was.
        """

    def error(
        self, cell: Cell, computed: Mapping[str, Any], claim: Mapping[str, Any]
    ) -> dict[str, Any]:
        """How far an output is from right: ``ratio``, ``worst`` in words and the ``digest``."""


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
    examiner : Examiner, optional
        Looks at the claim about a timed cell while its process stands by it, in one of the cell's
        rounds, which only this process knows; and at every output that is checked. Without one, all
        times remain claims.
    """

    def __init__(
        self,
        store: Store,
        rounds: int | None = None,
        timeout_s: float | None = None,
        *,
        fresh: bool = False,
        examiner: Examiner | None = None,
    ) -> None:
        self.store = store
        self._examiner = examiner
        self._looked_at: dict[Cell, int] = {}
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
        self.ledger = Ledger(store.evidence, self.run)
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

    def problems(self) -> list[str]:
        """What somebody else has written into the evidence of this run, or beside it."""
        met = ", ".join(sorted(self.ledger.strangers))
        named = (
            f"{self.ledger.path}: lines of {met} appeared in the meantime; they count only where"
        )
        named += " this run has measured nothing. See who writes there besides convbench"
        return [*self.ledger.problems, *([named] if met else [])]

    def measured_s(self) -> float:
        """How long cells have been measured: the warm-up and the samples of their timing."""
        return round(sum(float(note.facts.get("spent_s", 0.0)) for note in self._notes), 3)

    def save(self) -> None:
        """Write asv's file from the evidence."""
        if self.ledger.settle():
            self.ledger.append("run", run=self.run, strangers=sorted(self.ledger.strangers))
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
        launch = "fork" if fork else "exec"
        place = Place(self.store.evidence, self.run, number, launch, self.ledger)
        child = None
        todo = [(cell, False) for cell in queue]
        try:
            for cell, again in todo:
                if child is None:
                    child = Child(_serve, (str(self.store.suites),), fork=fork)
                    writer = Writer(place, child.pid)
                    ready = child.receive(START_TIMEOUT_S)
                    if isinstance(ready, Outcome):
                        _note(writer, cell, ready)
                        _ended(child, writer)
                        child = None
                        yield Done(cell, number, "failed")
                        continue
                answer = self._judge(child, writer, cell, number)
                if answer.get("lost"):
                    _ended(child, writer)
                    child = None
                if answer.get("doubted") and not again:  # whatever else ran: what is so shows again
                    todo.append((cell, True))
                    continue
                yield Done(cell, number, str(answer["done"]))
        finally:
            if child is not None:
                child.ask(None, _GOODBYE_S)
                _ended(child, writer)

    def _judge(self, child: Child, writer: Writer, cell: Cell, number: int) -> dict[str, Any]:
        """Let a process measure a cell; write what it says of that, and of nothing else."""
        end_s = time.monotonic() + cell.timeout_s
        looked = self._examiner is not None and self._round_of(cell) == number
        said = _Said(cell, judged=self._examiner is not None)
        before, begun_s = child.look() if looked else None, time.monotonic()
        answer = child.ask((cell.benchmark, cell.index, cell.params), cell.timeout_s)
        while True:
            if isinstance(answer, Outcome) and answer.kind == "timed out":
                answer = explain_timeout(cell.timeout_s)  # of which a part was left
            try:
                match answer:
                    case Outcome():
                        _note(writer, cell, said.explained(answer))
                        return {"done": "failed", "lost": True, "doubted": bool(said.doubt)}
                    case {"note": {"status": str(status), "facts": dict(facts), **name}}:
                        found = said.note(name, status, facts)
                        writer.write(cell.benchmark, cell.params, status, **found)
                    case {"computed": dict(computed), "claim": dict(claim)}:
                        if self._examiner is not None:
                            said.error = self._examiner.error(cell, computed, claim)
                        child.tell(said.error or None)
                    case {"claim": dict(claim)}:
                        said.claim(claim)
                        asked_s = time.monotonic()
                        if looked and self._examiner is not None:
                            args = child, cell, claim, before, begun_s
                            said.receipt = self._examiner.time(*args)
                        else:
                            child.tell({"do": "end"})
                        end_s += time.monotonic() - asked_s
                    case {"done": done}:
                        said.end(done)
                        return {**answer, "lost": bool(said.doubt or answer.get("lost")),
                                "doubted": bool(said.doubt)}  # fmt: skip
                    case _:
                        raise ValueError("it is no answer of ours")
            except ValueError as error:
                answer = Outcome.malformed(error)
                continue
            answer = child.receive(max(0.0, end_s - time.monotonic()))

    def _round_of(self, cell: Cell) -> int:
        """The round in which a cell is looked at, a secret of this process; 0 if it was before."""
        if cell not in self._looked_at:
            ends = Ends.of(by_cell(self._notes).get((cell.benchmark, cell.params), ()))
            seen = any("receipt" in note.facts for note in ends.ok)
            left = [n for n in range(1, cell.rounds + 1) if n not in ends.rounds]
            self._looked_at[cell] = 0 if seen else secrets.choice(left)
        return self._looked_at[cell]

    def _say(self, state: str, **facts: Any) -> None:
        store = self.store
        self.ledger.append(
            "run", run=self.run, state=state, plan=self.plan,
            clean=not changes(store.suites.parent, store.kept),
            front="convbench bench", machine=store.machine["machine"], commit=store.commit,
            environment=store.environment, commit_time_s=store.commit_time_s, **facts,
        )  # fmt: skip


class _Said:
    """What a process has said of a cell so far, and whether it may say the next.

    It is asked for one cell, makes its claim before it knows whether that will be looked at, and
    is held to it: whatever else it says is a ValueError.

    Attributes
    ----------
    receipt, error : dict
        What the judge has seen of the time, and of the output; empty if it has not.
    """

    def __init__(self, cell: Cell, *, judged: bool) -> None:
        self._cell, self._judged = cell, judged
        self._claimed_s: float | None = None
        self._ended = False
        self.receipt: dict[str, Any] = {}
        self.error: dict[str, Any] = {}

    def claim(self, claim: Mapping[str, Any]) -> None:
        """Hold it to a time."""
        if self._claimed_s is not None:
            raise ValueError("it claims two times for one cell")
        self._claimed_s = positive(claim.get("hot_s"))
        if self._claimed_s is None:
            raise ValueError("what it claims is no time")

    def note(self, name: object, status: str, facts: dict[str, Any]) -> dict[str, Any]:
        """The facts to write for a line of its own; of what was seen, that counts."""
        cell = self._cell
        if name != {"benchmark": cell.benchmark, "params": [*cell.params]}:
            raise ValueError(f"it speaks of {name}, not of {cell}")
        if status not in STATUSES or self._ended:
            raise ValueError(f"it says {status!r} after it has ended, or that is no status")
        if foreign := sorted(facts.keys() & {*FIELDS, "receipt"}):
            raise ValueError(f"it is not its business to say {', '.join(foreign)}")
        if not isinstance(facts.get("versions", {}), dict):
            raise ValueError("its versions have no names")  # noqa: TRY004  # as all that it says
        self._ended = status != "started"
        if status != "ok":
            return facts
        samples_s, number = facts.get("samples_s", [1.0]), facts.get("number", 1)
        if not (isinstance(samples_s, list) and samples_s and all(map(positive, samples_s))):
            raise ValueError("its samples are no times")
        if not (type(number) is int and number > 0):
            raise ValueError("the calls a sample are no number")
        if self._claimed_s is not None:
            median_s = statistics.median(samples_s) if "samples_s" in facts else 0.0
            if not math.isclose(median_s, self._claimed_s, rel_tol=1e-4):  # they are rounded
                raise ValueError(
                    f"the median of its samples is {median_s} s, and it has stood by"
                    f" {self._claimed_s} s"
                )
        elif self._judged and cell.stands:
            raise ValueError("it does not stand by its time")
        if self._judged and kind_of(cell.benchmark) == "accuracy" and not self.error:
            raise ValueError("it has shown no output")
        if finite(self.error.get("value", facts.get("value", 0.0))) is None:
            raise ValueError("its value is no number")
        return facts | ({"receipt": self.receipt} if self.receipt else {}) | self.error

    def explained(self, outcome: Outcome) -> Outcome:
        """Why there is no line of its own: of a process that the judge has ended, what it saw."""
        if not self.doubt:
            return outcome
        remedy = "`convbench audit` looks again, and closer; docs/trust.md says how."
        return replace(outcome, reason=self.doubt, remedy=remedy)

    @property
    def doubt(self) -> str:
        """The first of the claims that were not supported, in words."""
        return doubt(self.receipt)

    def end(self, done: object) -> None:
        """Hear that it is done."""
        if done == "ok" and not self._ended:
            raise ValueError("it is done and has said nothing")


def _note(writer: Writer, cell: Cell, why: Outcome) -> None:
    writer.write(
        cell.benchmark, cell.params, "failed",
        error=why.kind, reason=why.reason, remedy=why.remedy,
    )  # fmt: skip


def _ended(child: Child, writer: Writer) -> None:
    """Say how the machine is when a process ends, and end it."""
    writer.finish()
    child.close()


def _plan(store: Store, cells: Sequence[Cell]) -> str:
    """A name for what is measured: the tree as it is, and every cell with its rounds."""
    root, kept = store.suites.parent, store.kept
    text = hashlib.sha256(repr([(str(cell), cell.rounds) for cell in cells]).encode())
    text.update(git(root, "rev-parse", "HEAD").encode())
    text.update(changes(root, kept, content=True).encode())
    text.update(changes(root, kept).encode())
    return text.hexdigest()[:16]


# -- In the process -------------------------------------------------------------------------------


def _serve(suites: str, pipe: Questions) -> None:
    """Measure the cells that are asked for, until the question is None."""
    evidence.use(Relay(pipe))
    pipe.send({"done": "ready"})
    while (question := pipe.recv()) is not None:
        pipe.send(_measure(suites, *question))
    pipe.send({"done": "ended"})


def _measure(suites: str, name: str, index: int, params: Sequence[str]) -> dict[str, Any]:
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
        return {"done": "failed"}
    if skip:  # by asv's skip_params: n/a by nature, which is not worth a line
        return {"done": "skipped"}
    try:
        benchmark.do_run()
    except SkipNotImplemented:
        return {"done": "skipped"}
    except Exception as error:  # whatever a library raises
        traceback.print_exc()
        return {"done": "failed", "lost": explain(error).process_lost}
    return {"done": "ok"}
