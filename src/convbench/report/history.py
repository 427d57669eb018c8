"""Every series over the commits, and where it has stepped."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from convbench.results.folder import short
from convbench.results.history import History, Series
from convbench.words.numbers import date, digits, si, times

from . import charts
from .charts import SERIES, TONES, ZOOM_HINT, Point
from .data import Data, measured_at
from .parts import Chart, Part, Table, TableCell, Text

MOST_CHARTS = 12
MOST_POINTS = 400
"""In a chart; of more commits, the medians of some neighbours each are drawn."""

MOST_SEARCHED = 20_000
"""Values that are searched for steps, which takes some seconds."""

MOST_ROWS = 500

_WINDOW = 5
"""A single value that lies apart is noise: a change is what medians of so many show."""


@dataclass(frozen=True, slots=True, eq=False)
class _Line:
    """A series over those commits that have it: their places among all that are shown."""

    series: Series
    places: NDArray[np.intp]
    values: NDArray[np.float64]
    wrong: NDArray[np.bool_]
    levels: tuple[tuple[int, int, float], ...] = ()
    """From one index to another it stayed about there."""

    @property
    def name(self) -> str:
        """What it is of."""
        if not self.series.target:  # none of ours
            return self.series.workload
        suite = self.series.benchmark.partition(".")[0].removeprefix("bench_")
        plain = suite in {"pipeline", "stages"} or self.series.workload.startswith(suite)
        of = (self.series.workload, self.series.stage, "" if plain else f"({suite})")
        return " ".join(filter(None, of))

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

    @property
    def name(self) -> str:
        return f"{short(self.hash)} {self.subject}".rstrip()


def parts(data: Data) -> Iterator[Part]:
    """Charts of the series that changed most, and tables of the steps and of the series."""
    past = data.history
    rows, kept = measured_at(past, data.head.machine, data.head.environment)
    if len(kept) < 2:
        yield Text(
            "There is no history: fewer than two commits were measured on this machine in this"
            " environment."
        )
        return
    commits = [
        _Commit(past.commits[i], date(past.times_s[i]), data.subjects.get(past.commits[i], ""))
        for i in kept
    ]
    lines = _lines(past, rows, kept)
    yield Text(
        f"{len(lines)} series of times and memory over {len(commits)} commits, from"
        f" {commits[0].made} to {commits[-1].made} UTC, those that changed most first."
    )
    lines, searched = _search(lines)
    if searched is None:
        yield Text(
            "No steps were looked for, because asv, which finds them, is not installed here:"
            ' pip install "convbench[asv]"', "care",
        )  # fmt: skip
    else:
        yield _steps(data, lines[:searched], commits, len(lines))
    yield Text(
        "Each dot is a commit, red where the output was wrong; lines are the levels between steps."
        f" {ZOOM_HINT}"
    )
    for i, line in enumerate(lines[:MOST_CHARTS], start=1):
        yield _chart(i, line, commits)
    if len(lines) > MOST_CHARTS:
        yield Text(f"The other {len(lines) - MOST_CHARTS} series are only in the table.")
    yield Table.of(
        "Series",
        "workload | target | > commits | > first | > latest | > latest / first | > lowest"
        " | > highest",
        (
            (
                line.name, line.series.target, str(len(line.values)),
                *map(line.text, (line.values[0], line.values[-1])),
                times(line.values[-1] / line.values[0]),
                *map(line.text, (line.values.min(), line.values.max())),
            )
            for line in lines
        ),
        most=MOST_ROWS,
    )  # fmt: skip


def _lines(past: History, rows: Sequence[int], kept: Sequence[int]) -> list[_Line]:
    """Those with two values or more; the one that has changed most comes first."""
    errors = {
        (past.series[i].target, past.series[i].workload): past.values[i][kept]
        for i in rows if past.series[i].kind == "accuracy"
    }  # fmt: skip
    numbers = [i for i in rows if past.series[i].kind != "accuracy"]
    values = past.values[np.ix_(numbers, kept)]
    values = np.where((values > 0) & (values < math.inf), values, np.nan)
    smooth = pd.DataFrame(np.log(values.T)).rolling(_WINDOW, min_periods=1, center=True).median()
    changed = (smooth.max() - smooth.min()).fillna(0.0).to_numpy()
    lines = []
    for i in np.argsort(-changed, kind="stable").tolist():
        series, places = past.series[numbers[i]], np.flatnonzero(~np.isnan(values[i]))
        if len(places) > 1:
            error = errors.get((series.target, series.workload))
            wrong = np.zeros(len(places), bool) if error is None else error[places] > 1
            lines.append(_Line(series, places, values[i][places], wrong))
    return lines


def _search(lines: Sequence[_Line]) -> tuple[list[_Line], int | None]:
    """Find the levels of as many as there is time for; None if there is nothing that finds them.

    asv's `detect_steps` fits a piecewise constant with least absolute deviations and as few steps
    as the noise allows; of logarithms, because noise is a share of a time.
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
        levels = tuple(
            (int(start), int(end) - 1, math.exp(level))
            for start, end, level, *_ in detect_steps(np.log(line.values).tolist())
        )
        found.append(replace(line, levels=levels))
    return [*found, *lines[len(found) :]], len(found)


def _steps(data: Data, lines: Sequence[_Line], commits: Sequence[_Commit], of: int) -> Table:
    rows = []
    for line in lines:
        for (_, last, before), (first, _, after) in zip(line.levels, line.levels[1:], strict=False):
            size = abs(math.log(after / before))
            if size > math.log1p(data.rule.delta):
                old, new = (commits[line.places[i]] for i in (last, first))
                change = TableCell(times(after / before), "bad" if after > before else "good")
                what = line.name, line.series.target, change, *map(line.text, (before, after))
                rows.append((size, (*what, new.made, short(old.hash), new.name)))
    rows.sort(key=lambda row: -row[0])
    searched = f", in {len(lines)} of {of} series" if len(lines) < of else ""
    least = f"{100 * data.rule.delta:g} %"
    return Table.of(
        f"Steps of more than {least}{searched}",
        "workload | target | > after / before | > before | > after | made | last commit before"
        " | commit",
        (row for _, row in rows),
        folded=not rows,
        most=MOST_ROWS,
    )


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
                float(line.places[some].mean()), value,
                color=TONES["bad"] if wrong else SERIES[0], says=says,
            )
        )  # fmt: skip
    levels = [(int(line.places[a]), int(line.places[b]), level) for a, b, level in line.levels]
    neighbours = f", medians of {width} neighbours" if width > 1 else ""
    steps = f"; {len(levels) - 1} steps" if levels else ""
    return Chart(
        f"history-{number}",
        " on ".join(filter(None, (line.name, line.series.target))),
        f"{len(line.values)} commits, from {line.text(line.values[0])} to"
        f" {line.text(line.values[-1])}{steps}.",
        charts.trend(points, levels, f"commits, the oldest first{neighbours}", line.unit),
        zooms=True,
        small=True,
    )
