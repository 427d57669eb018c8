"""Files what a worker has sent, once and whole, where `convbench bench` would have filed it.

Nothing that comes is taken at its word: it is text of a limited size, of one run, of the commit and
the machine that were asked for, and of no other cells.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from convbench.errors import InputError
from convbench.fleet.units import Unit
from convbench.machine.files import write
from convbench.results import journal
from convbench.results.folder import ASV_VERSION, Filed, Folder, short
from convbench.results.journal import UNREADABLE, Note, unreadable

_OUTCOMES = (0, 2, 3)
"""The exit statuses of `convbench bench` after which there are results, of whatever kind."""


@dataclass(frozen=True, slots=True)
class Received:
    """What became of a unit.

    Attributes
    ----------
    problem : str
        Why nothing is stored, in words; "" if it is, or was before.
    measured_s : float
        How long its cells were measured.
    worker : str
        The machine that it was measured on.
    ahead_s : float
        By how much the worker's clock is ahead of this one.
    """

    unit: Unit
    problem: str = ""
    measured_s: float = 0.0
    worker: str = ""
    ahead_s: float = 0.0


def stored(folder: Folder, units: Collection[Unit]) -> set[str]:
    """Which of the units have been stored, by their ids."""
    found: set[str] = set()
    for machine, commit in {(unit.machine, short(unit.commit)) for unit in units}:
        for path in folder.evidence.joinpath(machine).glob(f"{commit}-*.jsonl"):
            found |= _units(path)
    return found & {unit.id for unit in units}


def _units(path: Path) -> set[str]:
    """Those that a file of evidence has; the many lines that name none are passed over."""
    found = set()
    with contextlib.suppress(FileNotFoundError):
        for line in journal.content(path, journal.MOST_JOURNAL_BYTES).split(b"\n"):
            if b'"unit": ' in line:
                with contextlib.suppress(*UNREADABLE):
                    told = json.loads(line)
                    found |= {str(told["unit"])} if told["kind"] == "run" else set()
    return found


def store(folder: Folder, unit: Unit, sent: bytes, now_s: float) -> Received:
    """Store what a worker has sent for a unit, unless that was done before.

    Parameters
    ----------
    now_s : float
        When it came.

    Raises
    ------
    InputError
        If it cannot be written; then nothing of it is.
    """
    try:
        told = json.loads(sent)
        code, said, worker = int(told["code"]), str(told["said"]), str(told["worker"])
        ahead_s = float(told["now_s"]) - now_s
        if code not in _OUTCOMES:
            last = "; ".join(said.strip().splitlines()[-3:])
            problem = f"exit status {code}: {last}"
            return Received(unit, problem, worker=worker, ahead_s=ahead_s)
        files = _Files.of(unit, dict(told["files"]))
    except UNREADABLE as error:
        return Received(unit, f"what its worker sent cannot be used: {unreadable(error)}")
    _write(folder, unit, files, worker)
    return Received(unit, "", files.measured_s, worker, ahead_s)


@dataclass(frozen=True, slots=True)
class _Files:
    """The texts of a unit, looked through."""

    filed: Filed
    asv: Mapping[str, Any]
    machine: str
    lines: Sequence[bytes]
    run: str
    notes: Sequence[Note]
    measured_s: float

    @classmethod
    def of(cls, unit: Unit, files: Mapping[str, str]) -> _Files:
        """Raises one of `UNREADABLE` if it is not what was asked for."""
        (name,) = (name for name in files if name.endswith(".jsonl"))
        folder, _, file = name.partition("/")
        commit, _, environment = file.removesuffix(".jsonl").partition("-")
        filed = Filed(folder, commit, environment)
        if (folder, commit) != (unit.machine, short(unit.commit)) or set(environment) & set(
            "/\\\0"
        ):
            raise ValueError(f"it is filed under {name}")
        asv = json.loads(files[f"{folder}/{commit}-{environment}.json"])
        if asv["version"] != ASV_VERSION or asv["commit_hash"] != unit.commit:
            raise ValueError(f"it is of {asv['commit_hash']}, in version {asv['version']}")
        lines = [line for line in files[name].encode().split(b"\n") if line.strip()]
        told = journal.parse(Path(name), lines)
        ((run, facts),) = told.runs.items()
        ended = facts["state"] == "finished" and "unit" not in facts
        if told.problems or not ended or facts["commit"] != unit.commit:
            raise ValueError("; ".join(told.problems) or "its run is another's, or not finished")
        strange = {note.run for note in told.notes} - {run}
        asked = {f"{note.benchmark}({', '.join(map(repr, note.params))})" for note in told.notes}
        if strange or not asked <= {*unit.cells}:
            raise ValueError("it has lines of other runs or cells")
        return cls(
            filed, asv, files[f"{folder}/machine.json"], lines, run, told.notes,
            journal.number(facts["measured_s"], "measured_s"),
        )  # fmt: skip


def _write(folder: Folder, unit: Unit, files: _Files, worker: str) -> None:
    evidence, results = folder.evidence_of(files.filed), folder.results_of(files.filed)
    marked = {"run": files.run, "state": "finished", "unit": unit.id, "worker": worker}
    try:
        evidence.parent.mkdir(parents=True, exist_ok=True)
        with journal.locked(evidence) as file:
            if unit.id in _units(evidence):
                return
            merged = merge(json.loads(_text(results) or "{}"), files.asv, files.notes)
            write(results, json.dumps(merged), parents=True)
            if _text(results.with_name("machine.json")) != files.machine:
                write(results.with_name("machine.json"), files.machine)
            # With the last line, and so after all else, it counts as stored.
            journal.extend(file, [*files.lines, journal.line("run", marked)])
    except OSError as error:
        raise InputError(
            f"{evidence}: the evidence is not writable ({error.strerror}); expected a place to"
            " append to. See to the disk and the permissions."
        ) from error
    except UNREADABLE as error:
        raise InputError(
            f"{results}: asv's file is damaged ({unreadable(error)}); expected what asv 0.6.6"
            " writes. Remove it: what convbench has measured is in the evidence, too."
        ) from error


def _text(path: Path) -> str:
    """What a file holds; nothing where it is not."""
    with contextlib.suppress(FileNotFoundError):
        return journal.content(path).decode()
    return ""


def merge(
    before: Mapping[str, Any], sent: Mapping[str, Any], notes: Sequence[Note]
) -> dict[str, Any]:
    """Put what a unit has measured into what asv's file holds, which may be nothing.

    Parameters
    ----------
    before, sent : mapping
        The contents of asv's files, of version 2.
    notes : sequence of Note
        Of the unit: what they are not about is left as it was.
    """
    measured = {(note.benchmark, tuple(map(repr, note.params))) for note in notes}
    if not before:
        return dict(sent)
    columns = list(sent["result_columns"])
    if before["result_columns"] != columns or before["version"] != sent["version"]:
        raise ValueError("its columns are others")
    results = dict(before["results"])
    for name, new in sent["results"].items():
        old = results.get(name)
        there, come = (dict(zip(columns, row, strict=False)) for row in (old or [], new))
        if old and all(there.get(key) == come.get(key) for key in ("params", "version")):
            cells = [*product(*come["params"])]
            of_unit = [(name, cell) in measured for cell in cells]
            for key in columns:
                if key in {"result", "samples"} or key.startswith("stats_"):
                    pair = (_list(row.get(key), len(cells)) for row in (there, come))
                    mixed = [n if ours else o for o, n, ours in zip(*pair, of_unit, strict=True)]
                    come[key] = None if all(value is None for value in mixed) else mixed
            come["duration"] = math.fsum(row.get("duration") or 0 for row in (there, come))
            come["started_at"] = min(row["started_at"] for row in (there, come))
        row = [come.get(key) for key in columns]
        while row and row[-1] is None:  # as asv does
            row.pop()
        results[name] = row
    return {**sent, **before, "results": results}


def _list(values: Any, number: int) -> list[Any]:
    found = [None] * number if values is None else list(values)
    if len(found) != number:
        raise ValueError(f"it has {len(found)} values for {number} cells")
    return found
