"""Every series over the commits, and where it has stepped."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from convbench.comparing import parts as words
from convbench.comparing import stats
from convbench.comparing.sides import BEST
from convbench.results.folder import short
from convbench.results.history import History, Series
from convbench.words.numbers import count, date, digits, si, times

from . import charts
from .charts import ZOOM_HINT, Point
from .data import Data, measured_at
from .parts import Chart, Nothing, Part, Table, TableCell, Text
from .verdict import VERDICT_TONES

MOST_CHARTS = 12
MOST_POINTS = 400
"""In a chart; of more commits, the medians of some neighbours each are drawn."""

MOST_SEARCHED = 20_000
"""Values that are searched for steps, which takes some seconds."""

MOST_ROWS = 500

_WINDOW = 5
"""A single value that lies apart is noise: a change is what medians of so many show."""


@dataclass(frozen=True, slots=True)
class _Level:
    """From one place to another a series stayed about there: logarithms of what was right."""

    first: int
    last: int
    logs: tuple[float, ...]

    @property
    def value(self) -> float:
        return float(stats.paired([self.logs]).ratio[0])


@dataclass(frozen=True, slots=True, eq=False)
class _Line:
    """A series over those commits that have it: their places among all that are shown."""

    series: Series
    places: NDArray[np.intp]
    values: NDArray[np.float64]
    errors: NDArray[np.float64]
    """Over bound, of the output that each value is the time of."""
    levels: tuple[_Level, ...] = ()

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """The time of a wrong output means nothing: it is shown, and no step is made of it."""
        return self.errors > 1

    @property
    def name(self) -> str:
        """What it is of."""
        return self.series.name

    @property
    def unit(self) -> str:
        """Seconds or bytes; of a number, the history knows none."""
        return {"memory": "B", "number": ""}.get(self.series.kind, "s")

    def text(self, value: float) -> str:
        """A value of it with its unit."""
        return si(value, self.unit) if self.unit else digits(value)


@dataclass(frozen=True, slots=True)
class _Commit:
    hash: str
    made: str
    subject: str
    link: str

    @property
    def name(self) -> str:
        return f"{short(self.hash)} {self.subject}".rstrip()

    @property
    def cell(self) -> TableCell:
        """It, to be read, with a link if there is one."""
        return TableCell(self.name, link=self.link)


def parts(data: Data) -> Iterator[Part]:
    """Charts of the series that changed most, and tables of the steps and of the series."""
    past = data.history
    rows, kept = measured_at(past, data.head.machine, data.head.environment)
    if len(kept) < 2:
        yield from _against(data)
        yield Nothing("fewer than two commits were measured on this machine in this environment")
        return
    commits = [
        _Commit(
            commit, date(past.times_s[i]), data.subjects.get(commit, ""), data.link(commit)
        )
        for i in kept if (commit := past.commits[i])
    ]  # fmt: skip
    lines = _lines(past, rows, kept)
    yield Text(
        f"{len(lines)} series of times and memory over {len(commits)} commits, from"
        f" {commits[0].made} to {commits[-1].made} UTC, those that changed most first. These are"
        " asv's numbers, the median of all samples of the last run; elsewhere on the page a time is"
        " the geometric mean of its processes."
    )
    yield from _wrong(lines, commits)
    lines, searched = _search(lines)
    if searched is None:
        yield Text(
            "No steps were looked for, because asv, which finds them, is not installed here:"
            ' pip install "convbench[asv]"', "care",
        )  # fmt: skip
    else:
        yield _steps(data, lines[:searched], commits, len(lines))
    yield Text(
        "Each dot is a commit, a red cross one whose output was wrong: its time counts for nothing."
        " Lines are the levels between steps; how sure a step is takes two commits on either side."
        f" {ZOOM_HINT}"
    )
    for i, line in enumerate(lines[:MOST_CHARTS], start=1):
        yield _chart(i, line, commits)
    if len(lines) > MOST_CHARTS:
        yield Text(f"The other {len(lines) - MOST_CHARTS} series are only in the table.")
    yield from _against(data)
    yield Table.of(
        "Series",
        "workload | ^ target | > latest | > latest / first | > last / best level | ~> interval"
        " | ~> first | ~> lowest | ~> highest | ~> commits",
        (
            (
                line.name, line.series.target, line.text(right[-1]), times(right[-1] / right[0]),
                *best, *map(line.text, (right[0], right.min(), right.max())), str(len(right)),
            )
            for line, best in zip(lines, _best(data, lines), strict=True)
            if len(right := line.values[~line.wrong])
        ),
        most=MOST_ROWS,
    )  # fmt: skip


def _lines(past: History, rows: Sequence[int], kept: Sequence[int]) -> list[_Line]:
    """Those with two values or more; the one that has changed most comes first."""
    numbers = [i for i in rows if past.series[i].kind != "accuracy"]
    values = past.values[np.ix_(numbers, kept)]
    values = np.where((values > 0) & (values < math.inf), values, np.nan)
    errors = past.errors()[np.ix_(numbers, kept)]
    right = np.where(errors > 1, np.nan, values)
    smooth = pd.DataFrame(np.log(right.T)).rolling(_WINDOW, min_periods=1, center=True).median()
    changed = (smooth.max() - smooth.min()).fillna(0.0).to_numpy()
    lines = []
    for i in np.argsort(-changed, kind="stable").tolist():
        series, places = past.series[numbers[i]], np.flatnonzero(~np.isnan(values[i]))
        if len(places) > 1:
            lines.append(_Line(series, places, values[i][places], errors[i][places]))
    return lines


def _search(lines: Sequence[_Line]) -> tuple[list[_Line], int | None]:
    """Find the levels of as many as there is time for; None if there is nothing that finds them.

    asv's `detect_steps` fits a piecewise constant with least absolute deviations and as few steps
    as the noise allows; of logarithms, because noise is a share of a time. How high a level is, is
    the trimmed mean of its commits, from which the intervals are, too.
    """
    try:
        from asv.step_detect import detect_steps  # noqa: PLC0415  # it is not always there
    except ImportError:
        return [*lines], None
    found: list[_Line] = []
    left = MOST_SEARCHED
    for line in lines:
        left -= len(line.values)
        if left < 0 and found:
            break
        right, places = line.values[~line.wrong], line.places[~line.wrong].tolist()
        logs = np.log(right).tolist()
        levels = tuple(
            _Level(places[int(start)], places[int(end) - 1], tuple(logs[int(start) : int(end)]))
            for start, end, *_ in (detect_steps(logs) if places else ())
        )
        found.append(replace(line, levels=levels))
    return [*found, *lines[len(found) :]], len(found)


def _steps(data: Data, lines: Sequence[_Line], commits: Sequence[_Commit], of: int) -> Table:
    steps = [(line, *both) for line in lines for both in pairwise(line.levels)]
    rows: list[tuple[float, Sequence[str | TableCell]]] = []
    for (line, before, after), (ratio, span) in zip(
        steps, _ratios([both for _, *both in steps], data.rule.confidence), strict=True
    ):
        if abs(math.log(ratio)) > math.log1p(data.rule.delta):
            old, new = commits[before.last], commits[after.first]
            change = TableCell(times(ratio), "bad" if ratio > 1 else "good")
            sides = map(line.text, (before.value, after.value))
            what: list[str | TableCell] = [line.name, line.series.target, change, span, *sides]
            rows.append((abs(math.log(ratio)), [*what, *_where(data, line, ratio, old, new)]))
    rows.sort(key=lambda row: -row[0])
    searched = f", in {len(lines)} of {of} series" if len(lines) < of else ""
    least = f"{100 * data.rule.delta:g} %"
    return Table.of(
        f"Steps of more than {least}{searched}",
        "workload | ^ target | > after / before | ~> interval | ~> before | ~> after"
        " | first seen at | which it was | ~ last before",
        (row for _, row in rows),
        folded=not rows,
        most=MOST_ROWS,
    )


def _ratios(pairs: Sequence[Sequence[_Level]], confidence: float) -> Iterator[tuple[float, str]]:
    """Of each pair how many times as long the second level takes, and the interval, in words."""
    found = stats.between_groups(*([pair[i].logs for pair in pairs] for i in (0, 1)))
    for ratio, low, high in zip(found.ratio, *stats.intervals(found, confidence), strict=True):
        yield float(ratio), "" if math.isnan(low) else f"{times(low)} to {times(high)}"


def _where(
    data: Data, line: _Line, ratio: float, old: _Commit, new: _Commit
) -> Iterator[str | TableCell]:
    """Between which commits a step is, and what says which of them it was."""
    number = data.apart(old.hash, new.hash)
    one_of = "this commit" if number == 1 else f"one of {number} commits" if number else ""
    slower = data.bisect(old.hash, new.hash, line.series, ratio) if ratio > 1 else ""
    yield from (new.cell, TableCell(one_of, command=slower), old.cell)


def _against(data: Data) -> Iterator[Part]:
    """Small steps add up: the head against the best of its ancestors, or a pinned commit."""
    held = data.comparison.against if data.comparison else None
    if held is None:
        return
    few = count(len(held.commits), "commit")
    that = "the best of its ancestors" if held.asked == BEST else held.asked
    yield Table.of(
        f"The head against {that} ({few}): {len(held.slower)} of {held.compared} slower",
        "workload | ^ target | > head / that | ~> interval | verdict | ~ that commit",
        (
            (
                cell.name, cell.target, words.effect(cell), words.interval(cell),
                TableCell(str(cell.verdict), VERDICT_TONES.get(cell.verdict, "")),
                TableCell(
                    f"{short(commit)} {data.subjects.get(commit, '')}".rstrip(),
                    link=data.link(commit),
                ),
            )
            for commit, cell in held.cells
        ),
        folded=not held.slower, most=MOST_ROWS,
    )  # fmt: skip


def _best(data: Data, lines: Sequence[_Line]) -> Iterator[tuple[str | TableCell, str]]:
    """How the last level of each series stands against its best one, with the interval."""
    both = [
        (min(line.levels, key=lambda level: level.value), line.levels[-1]) if line.levels else None
        for line in lines
    ]
    found = _ratios([*filter(None, both)], data.rule.confidence)
    for levels in both:
        ratio, span = next(found) if levels else (math.nan, "")
        if levels is None or levels[0] is levels[1]:
            yield "1" if levels else "", ""
        else:
            yield TableCell(times(ratio), "bad" if ratio > 1 + data.rule.delta else ""), span


def _wrong(lines: Sequence[_Line], commits: Sequence[_Commit]) -> Iterator[Part]:
    """Correctness comes before speed: which commits were wrong, and where."""
    found = {
        (commits[line.places[i]], line.series.workload, line.series.target): line.errors[i]
        for line in lines for i in np.flatnonzero(line.wrong)
    }  # fmt: skip
    if found:
        yield Table.of(
            "Commits with a wrong output",
            "commit | ^ made | > error / bound | workload | target",
            (
                (
                    replace(commit.cell, tone="bad"), commit.made, digits(float(error)), workload,
                    target,
                )
                for (commit, workload, target), error in found.items()
            ),
            folded=False, most=MOST_ROWS,
        )  # fmt: skip


def _chart(number: int, line: _Line, commits: Sequence[_Commit]) -> Chart:
    width = math.ceil(len(line.values) / MOST_POINTS)
    points = []
    for start in range(0, len(line.values), width):
        some = slice(start, start + width)
        first, last = (commits[line.places[some][i]] for i in (0, -1))
        value = float(np.median(line.values[some]))
        wrong = bool(line.wrong[some].any())
        says = {"commit": first.name, "made": first.made, "value": line.text(value)}
        if first is not last:
            says["commit"] = f"median from {short(first.hash)} to {short(last.hash)}"
        says["output"] = "wrong" if wrong else ""
        points.append(
            Point(
                float(line.places[some].mean()), value, tone="bad" if wrong else "", says=says,
                link=first.link if first is last else "",
            )
        )  # fmt: skip
    neighbours = f", medians of {width} neighbours" if width > 1 else ""
    steps = f"; {count(len(line.levels) - 1, 'step')}" if line.levels else ""
    return Chart(
        f"history-{number}",
        " on ".join(filter(None, (line.name, line.series.target))),
        f"{len(line.values)} commits, from {line.text(line.values[0])} to"
        f" {line.text(line.values[-1])}{steps}.",
        charts.trend(
            points,
            [(level.first, level.last, level.value) for level in line.levels],
            f"commits, the oldest first{neighbours}",
            line.unit,
            {int(place): short(commits[place].hash) for place in line.places},
        ),
        zooms=True,
        small=True,
    )
