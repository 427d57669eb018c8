"""Everything that a report is made from, read once: the head, its base, and the history."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from convbench.comparing.beside import counted
from convbench.comparing.comparison import Comparison, Demands, Rule
from convbench.comparing.judge import against, compare
from convbench.comparing.sides import (
    Coordinate,
    Side,
    choose_sides,
    find_commit,
    fitting,
    listed,
    references,
    unmeasured_head,
)
from convbench.errors import InputError
from convbench.machine.git import UNSHALLOW, apart, is_shallow, subjects
from convbench.results import gates, history, records
from convbench.results.calibration import between
from convbench.results.folder import Folder, is_existing, short
from convbench.results.gates import Gate
from convbench.results.history import Drift, History, Series
from convbench.results.journal import UNREADABLE, content, unreadable
from convbench.results.machines import names
from convbench.results.records import ONE_CORE, Place, Record
from convbench.results.rows import BAD, BASELINE, Row, summarise
from convbench.results.rows import exit_code as exit_code_of_rows
from convbench.words.numbers import count, times
from convbench.words.status import Exit, Status

_NO_HISTORY = History((), np.zeros(0), (), np.zeros((0, 0)))
_REPORT = "report"


@dataclass(frozen=True)
class Data:
    """What the sections speak of.

    Attributes
    ----------
    head : Side
        Without records if nothing was measured of the commit.
    comparison : Comparison, optional
        With the base, if there is one.
    baseline : str
        The target that the others are held against; "" if no time was measured.
    subjects : mapping of str to str
        The first line of each commit's message, as far as git knows it here.
    machines : mapping of str to mapping
        What asv knows of each machine.
    remarks : tuple of str
        What was chosen, or not found, where the request left it open.
    unmeasured : str
        git's HEAD, if it was to be shown and nothing was measured of it.
    baseless : str
        Why there is nothing to compare with; "" if there is.
    drifts : tuple of Drift
        What has become slower in small steps.
    gates : tuple of Gate
        Those that have measured the head's commit where the head was, the newest first, with the
        head as their head.
    commit_url : str
        What the hash of a commit is appended to, for a link; "" for none.
    pipelines : mapping of str to str
        What the workloads are that are known here, in words: "1x5x5x3 -> conv 5x5x6".
    apart : callable
        How many commits the second of two has that the first has not; 0 if that is not known.
    """

    head: Side
    rows: tuple[Row, ...] = ()
    rule: Rule = field(default_factory=Rule)
    history: History = field(default_factory=lambda: _NO_HISTORY)
    comparison: Comparison | None = None
    baseline: str = ""
    subjects: Mapping[str, str] = field(default_factory=dict)
    machines: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    unmeasured: str = ""
    baseless: str = ""
    drifts: tuple[Drift, ...] = ()
    gates: tuple[Gate, ...] = ()
    commit_url: str = ""
    pipelines: Mapping[str, str] = field(default_factory=dict)
    apart: Callable[[str, str], int] = lambda *_: 0

    @cached_property
    def times(self) -> dict[tuple[str, str], Record]:
        """The head's times of whole pipelines that count, by workload and target."""
        return counted(self.head.records, self.rows)

    @property
    def targets(self) -> tuple[str, ...]:
        """Those of which there is a number, in the order of the suites."""
        return tuple(
            dict.fromkeys(r.target for r in self.head.records if r.value is not None and r.target)
        )

    @property
    def measured(self) -> bool:
        """Whether there is any number of the head."""
        return any(r.value is not None for r in self.head.records)

    def of_suite(self, suite: str) -> list[Record]:
        """The head's records of one of the suites that have a number."""
        return [r for r in self.head.records if r.suite == suite and r.value is not None]

    @cached_property
    def _bad(self) -> set[tuple[str, str]]:
        return {(row.workload, row.target) for row in self.rows if row.status in BAD}

    def link(self, commit: str) -> str:
        """Where a commit can be read; "" if nobody has said."""
        return f"{self.commit_url}{commit}" if self.commit_url and commit else ""

    def command(self, workload: str, target: str, suite: str = "pipeline") -> str:
        """What checks a cell again if it is wrong, and otherwise what measures it again."""
        options = ("--target", target, "--workload", workload)
        if suite == "accuracy" or (workload, target) in self._bad:
            return shlex.join(("convbench", "verify", *options))
        if self.comparison and suite == "pipeline" and not self.comparison.unlike_machines:
            return self.comparison.gate(options)
        # No quotes around the names: the shell's own would make it four times as long.
        cell = rf"bench_{suite}\..*\W{re.escape(target)}\W.*\W{re.escape(workload)}\W"
        return shlex.join(("convbench", "bench", "--bench", cell))

    def bisect(self, good: str, bad: str, series: Series, ratio: float) -> str:
        """What finds the commit after `good`, up to `bad`, that has made a series slower.

        Halfway between the two is where a commit begins to count as slow. "" if no gate measures
        the like of the series, or git does not know the commits.
        """
        commits = self.apart(good, bad)
        if not commits or series.suite not in {"pipeline", ONE_CORE} or series.kind != "time":
            return ""
        options = ["--target", series.target, "--workload", series.workload]
        options += ["--delta", f"{max(100 * (math.sqrt(ratio) - 1), 1):.2g}"]
        if not is_existing(series.environment):
            options += [f"--{side}-env={series.environment}" for side in ("base", "head")]
        head = short(bad) if commits == 1 else "BISECT_HEAD"
        gate = shlex.join(("convbench", "gate", short(good), head, *options))
        if commits == 1:
            return gate
        start = f"git bisect start --no-checkout {short(bad)} {short(good)}"
        return f"{start} && git bisect run {gate} --bisect; git bisect reset"

    def exit_code(self) -> Exit:
        """As `convbench compare` has them: wrong, nothing measured or no base, slower, fine."""
        if self.unmeasured:
            return Exit.NOTHING
        compared = self.comparison.exit_code() if self.comparison else Exit.NOTHING
        if compared is Exit.WRONG:
            return compared
        if not self.measured:
            return Exit.NOTHING
        return Exit.WRONG if exit_code_of_rows(self.rows) is Exit.WRONG else compared

    def outcome(self) -> str:
        """One line: what the exit code stands for, and how many cells are what."""
        if self.unmeasured:
            shown = f"of {short(self.head.commit)}, {self._found()}" if self.head.commit else ""
            said = f"HEAD WAS NOT MEASURED: nothing of {short(self.unmeasured)}"
            return f"{said}; what follows is {shown}" if shown else said
        return self._found()

    def _found(self) -> str:
        """What was found of the head that is shown."""
        if self.comparison:
            doubtful = sum(row.status is Status.INVALID for row in self.rows)
            invalid = f"; {doubtful} of head cannot be true (invalid)" if doubtful else ""
            return f"{self.comparison.summary()}{invalid}"
        if not self.head.records:
            of = f" of {short(self.head.commit)}" if self.head.commit else ""
            return f"NOTHING MEASURED{of}: there are no results to report"
        counts = Counter(row.status for row in self.rows)
        listed = ", ".join(f"{counts[status]} {status}" for status in Status if counts[status])
        worst = [status for status in Status if counts[status] and status in BAD]
        word = " AND ".join(worst).upper() if worst else "NOTHING TO COMPARE WITH"
        if not self.measured:
            word = "NOTHING MEASURED"
        return f"{word}: {listed}, of {len(self.rows)} rows"


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody asks for.

    Attributes
    ----------
    head, base : str, optional
        ``REVISION[:ENVIRONMENT[:MACHINE]]``. By default git's HEAD; if it was not measured, the
        nearest of its ancestors that was, or the newest commit that was. And the nearest ancestor
        of the head that was measured on the same machine and in the same environment.
    baseline : str, optional
        A target; by default NumPy's.
    here : str
        The name of this machine.
    commit_url : str
    pipelines : mapping of str to str
        As of `Data`.
    elsewhere : bool
        As for :func:`~convbench.comparing.sides.unmeasured_head`.
    """

    results_dir: Path
    head: str | None = None
    base: str | None = None
    baseline: str | None = None
    rule: Rule = field(default_factory=Rule)
    here: str = ""
    elsewhere: bool = False
    demands: Demands = field(default_factory=Demands)
    against: str | None = None
    commit_url: str = ""
    pipelines: Mapping[str, str] = field(default_factory=dict)


def gather(
    request: Request,
    full_hash: Callable[[str], str | None],
    ancestors: Callable[[str], Sequence[str] | None],
    say: Callable[[str], None] = lambda _: None,
) -> Data:
    """Read all that is needed, and say what is being done.

    Parameters
    ----------
    full_hash, ancestors : callable
        What git makes of a revision, None if it does not know it; and the commits that a commit was
        made from, the nearest first, None if git does not know that.

    Raises
    ------
    InputError
        If a coordinate or the baseline means nothing, or several things.
    """
    folder = Folder(request.results_dir)
    called = names(folder)
    request = replace(request, here=called.get(request.here, request.here))
    say("reading the history")
    past = history.load(request.results_dir)
    say("reading the results")
    measured, named = folder.measured_commits(), folder.named_commits()
    unmeasured, revision = "", request.head or ""
    if request.head is None:
        unmeasured = unmeasured_head(measured, full_hash, elsewhere=request.elsewhere)
        revision = _default_head(past, measured, unmeasured, full_hash, ancestors)
    problems = [*past.problems]
    if not revision:
        nothing = Data(Side("", "", ""), rule=request.rule, history=past, problems=tuple(problems))
        return replace(nothing, unmeasured=unmeasured)
    asked = Coordinate.parse(revision, _REPORT).called(called)
    commit = find_commit(asked.revision, named, full_hash, _REPORT)
    base: Side | None = None
    baseless = ""
    if request.base is None:
        head, remarks = _only_side(asked, commit, _load(request, {commit}, problems), request.here)
        known = ancestors(head.commit)
        if earlier := _nearest(past, head, known or ()):
            place = head.records[0].place
            kept = [r for r in _load(request, {earlier}, problems) if r.place == place]
            base = Side(earlier, head.environment, head.machine, tuple(kept))
        elif head.records:
            baseless = _why_no_base(head, known)
            remarks.append(baseless)
    else:
        other = Coordinate.parse(request.base, _REPORT).called(called)
        commits = find_commit(other.revision, named, full_hash, _REPORT), commit
        records = _load(request, {*commits}, problems)
        base, head = choose_sides(other, asked, commits, records, request.here, _REPORT)
        remarks = []
        if not head.machine:  # nothing was measured of one of them, and perhaps of the other
            head, remarks = _only_side(asked, commit, records, request.here)
    remarks += _one_machine(called, head.machine)
    say("comparing")
    comparison = None
    of_head = _load_gates(request, short(head.commit), problems)
    if base and head.records:
        sessions = between(folder, head.machine, head.environment)
        comparison = compare(base, head, request.rule, gates=of_head, between=sessions)
        comparison = replace(comparison, demands=request.demands)
        if request.against and base.records:
            others = references(request.against, head, folder, full_hash, ancestors, _REPORT)
            held = against(request.against, head, others, request.rule, between=sessions)
            comparison = replace(comparison, against=held)
    return Data(
        head,
        tuple(summarise(head.records)),
        request.rule,
        past,
        comparison,
        _baseline(request.baseline, head.records),
        subjects({*past.commits, head.commit, *([base.commit] if base else [])}),
        _machines(request.results_dir, problems),
        tuple(remarks),
        tuple(dict.fromkeys(problems)),
        unmeasured,
        baseless,
        tuple(_drifts(past, head, ancestors(head.commit), request.rule)),
        tuple(_gates_of(of_head, head)),
        request.commit_url,
        request.pipelines,
        cache(apart),
    )


def _load_gates(request: Request, commit: str, problems: list[str]) -> tuple[Gate, ...]:
    loaded = gates.load(request.results_dir, lambda filed: commit in {filed.base, filed.head})
    problems += loaded.problems
    return loaded.gates


def _gates_of(found: Iterable[Gate], head: Side) -> Iterator[Gate]:
    where = head.commit, head.machine, head.environment
    for gate in found:
        if not gate.committed:
            continue
        if gate.fits(gate.head, *where):
            yield gate
        elif gate.fits(gate.base, *where):
            yield gate.turned()


def _one_machine(called: Mapping[str, str], machine: str) -> list[str]:
    others = [name for name, one in called.items() if one == machine]
    return [f"{machine} is also {listed(others)}: the same hardware."] if others else []


def _drifts(past: History, head: Side, ancestors: Sequence[str] | None, rule: Rule) -> list[Drift]:
    """Of what the head was made from; where git does not know that, of all that is older."""
    if ancestors is None:
        commits = past.commits
        older = commits[: commits.index(head.commit)] if head.commit in commits else ()
        ancestors = older
    place = head.machine, head.environment
    return history.drifts(past, {*ancestors, head.commit}, place, rule.delta)


def _load(request: Request, commits: set[str], problems: list[str]) -> list[Record]:
    loaded = records.load(request.results_dir, commits)
    problems += loaded.problems
    return [*loaded.records]


def _default_head(
    past: History,
    measured: Sequence[str],
    unmeasured: str,
    full_hash: Callable[[str], str | None],
    ancestors: Callable[[str], Sequence[str] | None],
) -> str:
    """HEAD of git, or where it was not measured, its nearest ancestor that was, or the newest."""
    here = full_hash("HEAD")
    if here and short(here) in measured:
        return here
    near = (commit for commit in ancestors(unmeasured) or () if short(commit) in measured)
    newest = past.commits[-1] if past.commits else next(iter(measured), "")
    return next(near, newest)


def _only_side(
    asked: Coordinate, commit: str, records: Sequence[Record], here: str
) -> tuple[Side, list[str]]:
    """Where the commit was measured; if at several places that fit, here, and last."""
    records = [record for record in records if record.commit.startswith(commit)]
    if not records:
        return Side(commit, "", ""), ["Nothing was measured of this commit."]
    latest: dict[Place, float] = {}
    for record in records:
        latest[record.place] = max(latest.get(record.place, 0.0), record.measured_at_s)
    places = sorted(fitting(asked, commit, records, _REPORT), key=latest.__getitem__)
    chosen = [place for place in places if place[0] == here] or places
    machine, environment = chosen[-1]
    remarks = []
    if others := [f"{e} on {m}" for m, e in places if (m, e) != (machine, environment)]:
        remarks.append(f"This commit was also measured in {'; '.join(others)}.")
    kept = tuple(record for record in records if record.place == chosen[-1])
    return Side(kept[0].commit, environment, machine, kept), remarks


def drift_in_words(drift: Drift) -> str:
    """What has become slower, by how much, and since when."""
    series = drift.series
    more = "larger" if series.kind == "memory" else "slower"
    return (
        f"{series.name} on {series.target}: {times(drift.ratio)}x {more} since"
        f" {short(drift.since)}, in small steps over {count(drift.commits, 'commit')}"
    )


def measured_at(past: History, machine: str, environment: str) -> tuple[list[int], list[int]]:
    """The series of one place, and the commits that any of them was measured of, by index."""
    series = [
        i for i, series in enumerate(past.series)
        if (series.machine, series.environment) == (machine, environment)
    ]  # fmt: skip
    return series, np.flatnonzero((~np.isnan(past.values[series])).any(axis=0)).tolist()


def _nearest(past: History, head: Side, ancestors: Iterable[str]) -> str | None:
    """The first of them that was measured where the head was."""
    _, places = measured_at(past, head.machine, head.environment)
    measured = {past.commits[i] for i in places}
    return next((commit for commit in ancestors if commit in measured), None)


def _why_no_base(head: Side, ancestors: Sequence[str] | None) -> str:
    if ancestors is None:
        return (
            f"git does not know here what {short(head.commit)} was made from, so that no base was"
            " looked for. Make the report in its repository, or name a base with --base."
        )
    shallow = f" The clone is shallow: {UNSHALLOW}" if is_shallow() else ""
    return (
        f"None of the {count(len(ancestors), 'commit')} that {short(head.commit)} was made from was"
        f" measured on {head.machine} in this environment. Measure one of them with `convbench"
        f" bench`, or name a base with --base.{shallow}"
    )


def _baseline(asked: str | None, records: Iterable[Record]) -> str:
    """The target that is asked for, or NumPy, or whichever computed most."""
    counts = Counter(
        r.target for r in records if r.kind == "time" and r.value is not None and r.target
    )
    if asked is None or asked in counts:
        usual = BASELINE if BASELINE in counts else ""
        return asked or usual or max(counts, key=counts.__getitem__, default="")
    raise InputError(
        f"report: the baseline is {asked!r}, of which there is no time; expected one of "
        f"{', '.join(counts) or 'none'}. Name one of these."
    )


def _machines(results_dir: Path, problems: list[str]) -> dict[str, dict[str, Any]]:
    found = {}
    for path in sorted(results_dir.glob("*/machine.json")):
        try:
            facts = {**json.loads(content(path))}
            facts.pop("version", None)
            found[str(facts.pop("machine", path.parent.name))] = facts
        except UNREADABLE as error:
            problems.append(f"{path}: left out, because {unreadable(error)}")
    return found
