"""Head's times against base's: ratios, intervals and verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from convbench.comparing.comparison import ComparedCell, Comparison
from convbench.comparing.parts import interval, value
from convbench.results.records import OTHER
from convbench.words.numbers import digits, share, si, times

from . import charts
from .charts import Point
from .data import Data
from .parts import Chart, Nothing, Part, Table, TableCell, Text, status
from .verdict import COMPARED, VERDICT_TONES, compared

MOST_ROWS = 50


def parts(data: Data) -> Iterator[Part]:
    """A forest plot and a table; without a base, the table of the head alone."""
    return _compared(data, data.comparison) if data.comparison else _alone(data)


def _compared(data: Data, comparison: Comparison) -> Iterator[Part]:
    numbers = [c for c in comparison.cells if c.kind != "accuracy" and c.suite != OTHER]
    known = [cell for cell in numbers if cell.effect and cell.effect.low is not None]
    if not numbers:
        yield Nothing("neither side has a time or a memory that could be compared")
        return
    if known:
        yield _forest(comparison, known)
    else:
        yield Text(
            "No ratio has an interval: that takes two processes of each side, which"
            " `convbench bench` starts.", "care",
        )  # fmt: skip
    yield Table.of(
        "Ratios, intervals and verdicts",
        f"{COMPARED} | ~> processes | ~> would have been seen",
        (
            (
                *compared(data, cell),
                f"{cell.base.processes} + {cell.head.processes}" if cell.effect else "",
                _seen(cell),
            )
            for cell in numbers
        ),
    )  # fmt: skip


def _forest(comparison: Comparison, cells: Sequence[ComparedCell]) -> Chart:
    shown = cells[:MOST_ROWS]
    points = [
        Point(
            cell.effect.ratio, f"{cell.name} {'memory ' * (cell.kind == 'memory')}{cell.target}",
            low=cell.effect.low, high=cell.effect.high,
            tone=VERDICT_TONES.get(cell.verdict, ""),
            says={
                "cell": f"{cell.name} on {cell.target}", "verdict": str(cell.verdict),
                "base": value(cell, cell.base.value), "head": value(cell, cell.head.value),
                "head / base": times(cell.effect.ratio), "interval": interval(cell),
            },
        )
        for cell in shown if cell.effect
    ]  # fmt: skip
    some = f", the {len(shown)} worst of {len(cells)}" if len(shown) < len(cells) else ""
    delta = comparison.rule.delta
    counts = ", ".join(f"{n} {verdict}" for verdict, n in comparison.counts.items())
    return Chart(
        "timings",
        f"Head / base with {100 * comparison.rule.confidence:g} % intervals{some}",
        f"A dot with an interval for each cell: {counts}. The table has the same numbers.",
        charts.intervals(points, "head / base", (1 / (1 + delta), 1 + delta)),
        "Right of 1 is slower. Red: slower for sure or wrong; blue: faster or equivalent; ochre:"
        f" undecided. In the grey band, {100 * delta:g} % on either side, nothing matters.",
    )


def _seen(cell: ComparedCell) -> str:
    return share(cell.effect.seen) if cell.effect and cell.effect.seen else ""


def _alone(data: Data) -> Iterator[Part]:
    rows = [row for row in data.rows if row.suite == "layers" and row.time_s is not None]
    if not rows:
        yield Nothing("no time of a layer was measured")
        return
    yield Table.of(
        "Times of the head",
        "workload | ^ target | > time | > ± between processes | status | ~ stands | ~> end to end"
        " | ~> on the device | ~> GFLOP/s | ~> of roofline | ~> processes | ~ algorithm",
        (
            (
                TableCell(row.workload, command=data.command(row.workload, row.target)), row.target,
                si(row.time_s, "s"), share(row.spread), status(row.status),
                str(row.standing or ""), si(row.end_to_end_s, "s"), si(row.device_s, "s"),
                digits(row.gflops), share(row.of_roofline), str(row.processes or ""), row.algorithm,
            )
            for row in rows
        ),
        folded=False,
    )  # fmt: skip
