"""Repeat an audit on the very numbers of another: what reproduces, and what does not."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convbench.auditing.audit import Audited, Auditor
from convbench.errors import InputError
from convbench.results import journal
from convbench.stimulus.targets import Target
from convbench.stimulus.workloads import Workload
from convbench.words.numbers import duration
from convbench.words.status import Exit
from convbench.words.table import Column, Table, line, remark, stacked

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class Given:
    """A receipt that was written somewhere, perhaps elsewhere.

    Attributes
    ----------
    stage : str
        Of the workload; "" for all of it.
    receipt : mapping
        As :class:`convbench.auditing.claims.Receipt` has it.
    """

    target: Target
    workload: str
    stage: str
    receipt: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of one of them.

    Attributes
    ----------
    numbers : bool
        Whether the inputs were the same, bit for bit.
    same, calls : int
        How many outputs have the same bits, of how many that both have.
    then, now : dict of str to str
        The verdict on each claim.
    """

    given: Given
    found: Audited
    numbers: bool
    same: int
    calls: int
    then: Mapping[str, str]
    now: Mapping[str, str]

    @property
    def reproduces(self) -> bool:
        """Whether the numbers are the same and no claim is judged otherwise."""
        return self.numbers and all(self.now.get(name) == self.then[name] for name in self.then)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "target": str(self.given.target),
            "workload": f"{self.given.workload} {self.given.stage}".strip(),
            "reproduces": self.reproduces,
            "same_numbers": self.numbers,
            "same_outputs": self.same,
            "outputs": self.calls,
            "then": dict(self.then),
            "now": dict(self.now),
            "hot_s": {"then": self.given.receipt.get("hot_s"), "now": self.found.receipt.hot_s},
        }


def load(path: Path) -> list[Given]:
    """Read what `convbench audit --json` has printed, or the evidence of a run of benchmarks.

    Raises
    ------
    InputError
        If it is neither, or has no receipt.
    """
    try:
        if path.suffix == ".jsonl":
            given = list(_of_evidence(path))
        else:
            document = json.loads(path.read_text(encoding="utf-8"))
            given = [
                Given(Target.parse(entry["target"]), str(entry["workload"]), "", entry)
                for entry in document["audited"]
                if entry["seed"]
            ]
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: the file is unreadable ({error}); expected the output of `convbench audit"
            " --json`, or evidence (.jsonl). Name one of these."
        ) from error
    if not given:
        raise InputError(
            f"{path}: the number of receipts in it is 0; expected at least one. `convbench bench`"
            " and `convbench audit` write them."
        )
    return given


def _of_evidence(path: Path) -> Iterator[Given]:
    for note in journal.read(path).notes:
        receipt = note.facts.get("receipt")
        if isinstance(receipt, Mapping) and receipt.get("seed"):
            target, workload, *stage = note.params
            yield Given(Target.parse(target), workload, "".join(stage), receipt)


def replay(given: Sequence[Given], workloads: Sequence[Workload]) -> Generator[Replayed]:
    """Repeat them, as it is done.

    Parameters
    ----------
    workloads : sequence of Workload
        What the names mean here.

    Raises
    ------
    InputError
        If one is not among them.
    """
    rows = {workload.name: workload for workload in workloads}
    for each in given:
        if each.workload not in rows:
            raise InputError(
                f"replay: the workload is {each.workload!r}; expected a row of the workloads."
                " Name the file that has it with --workloads."
            )
        workload = rows[each.workload]
        if each.stage:
            workload = replace(workload, pipeline=workload.pipeline.stages()[each.stage])
        weights = each.receipt.get("weights") or {}
        with Auditor(str(weights.get("dtype", "float32"))) as auditor:
            seed = int(weights.get("seed", 0))
            found = auditor.again(each.target, workload, str(each.receipt["seed"]), seed)
        yield _compare(each, found)


def _compare(given: Given, found: Audited) -> Replayed:
    inputs = _both(given.receipt.get("inputs"), found.receipt.inputs)
    outputs = _both(given.receipt.get("outputs"), found.receipt.outputs)
    then = {
        str(claim["claim"]): str(claim["verdict"])
        for claim in given.receipt.get("claims", ())
        if claim["claim"] in {"time", "error"}
    }
    now = {claim.claim: str(claim.verdict) for claim in found.receipt.claims}
    return Replayed(
        given,
        found,
        numbers=bool(inputs) and all(one == other for one, other in inputs),
        same=sum(one == other for one, other in outputs),
        calls=len(outputs),
        then=then,
        now={name: now.get(name, "not audited") for name in then},
    )


def _both(then: object, now: Sequence[str]) -> list[tuple[str, str]]:
    known = [str(digest) for digest in then] if isinstance(then, list) else []
    return list(zip(known, now, strict=False))


def exit_code(results: Sequence[Replayed]) -> Exit:
    """WRONG if something does not reproduce."""
    return Exit.OK if all(result.reproduces for result in results) else Exit.WRONG


def render(results: Sequence[Replayed]) -> RenderableType:
    """A row for each, and below them what does not reproduce."""
    table = Table(
        [
            Column("workload", [f"{r.given.workload} {r.given.stage}" for r in results], "name"),
            Column("target", [str(r.given.target) for r in results], "name"),
            Column("numbers", ["same" if r.numbers else "OTHERS" for r in results], "word"),
            Column("same bits", [f"{r.same} of {r.calls}" for r in results]),
            Column(
                "claimed then",
                [duration(journal.finite(r.given.receipt.get("hot_s"))) for r in results],
            ),
            Column("claimed now", [duration(r.found.receipt.hot_s) for r in results]),
            Column(
                "reproduces",
                [("yes", "green") if r.reproduces else ("NO", "bold red") for r in results],
                "word",
            ),
        ]
    )
    parts: list[RenderableType] = [table]
    for result in results:
        for name, then in result.then.items():
            if (now := result.now[name]) != then:
                where = f"{result.given.target} {result.given.workload}: {name}"
                parts += remark("OTHERWISE", where, [f"then: {then}; now: {now}"], "bold red")
    same = sum(result.reproduces for result in results)
    return stacked([*parts, line(f"{same} of {len(results)} receipts reproduce.")])
