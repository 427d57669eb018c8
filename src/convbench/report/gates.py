"""Gates of the head: their pairs, and what was known after each of some of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from convbench.comparing import stats
from convbench.comparing.comparison import Verdict, about
from convbench.comparing.pairs import GROWTH, LEAST_PAIRS
from convbench.results.folder import short
from convbench.results.gates import Gate, GatedCell
from convbench.words.numbers import count, date, si, times

from . import charts
from .charts import Point
from .data import Data
from .parts import Chart, Nothing, Part, Table, TableCell, Text
from .verdict import VERDICT_TONES

MOST_CHARTS = 6


def parts(data: Data) -> Iterator[Part]:
    """A table of every gate, and charts of the cells of the newest that differ most."""
    shown = [gate for gate in data.gates if any(cell.log_ratios for cell in gate.cells.values())]
    if not shown:
        yield Nothing("no gate of this commit is stored; `convbench gate BASE HEAD` runs one")
        return
    for number, gate in enumerate(shown):
        cells = {name: cell for name, cell in gate.cells.items() if cell.log_ratios}
        found = stats.paired([cell.log_ratios.values() for cell in cells.values()])
        low, high = stats.intervals(found, data.rule.confidence)
        title = f"{short(gate.head.commit)} against {short(gate.base.commit)}, {date(gate.ended_s)}"
        yield Table.of(
            f"Gate of {title}",
            "workload | ^ target | ~> base | > head | > head / base | ~> interval | > pairs"
            " | the gate said",
            (
                (
                    TableCell(workload, command=data.command(workload, target)), target,
                    *_sides(cell, ratio), times(ratio),
                    f"{times(a)} to {times(b)}" if not math.isnan(a) else "",
                    str(len(cell.log_ratios)), _said(cell),
                )
                for ((target, workload), cell), ratio, a, b in zip(
                    cells.items(), found.ratio.tolist(), low.tolist(), high.tolist(), strict=True
                )
            ),
            folded=False,
        )  # fmt: skip
        if not number:
            yield Text(
                f"A dot is a pair; the band is the {100 * data.rule.confidence:g} % interval of all"
                " pairs so far, and the grey one about 1 where nothing matters. While it looks"
                " again and again the gate itself asks for more."
            )
            order = sorted(range(len(cells)), key=lambda i: -abs(found.log[i]))[:MOST_CHARTS]
            listed = [*cells.items()]
            for place, i in enumerate(order, start=1):
                yield _chart(data, place, *listed[i], gate)


def _sides(cell: GatedCell, ratio: float) -> list[str]:
    """Both times, as far apart as the pairs say."""
    base, head = (record and record.value for record in cell.times)
    if not base or not head:
        return ["", ""]
    return [si(value, "s", min(base, head)) for value in about(base, head, ratio)]


def _said(cell: GatedCell) -> TableCell:
    verdict, _, reason = cell.said.partition(": ")
    known = VERDICT_TONES.get(Verdict(verdict), "") if verdict in {*Verdict} else ""
    return TableCell(verdict, known, reason)


def _chart(data: Data, number: int, name: tuple[str, str], cell: GatedCell, gate: Gate) -> Chart:
    target, workload = name
    pairs = [*cell.log_ratios.items()]
    points = [
        Point(float(place), ratio, says={"pair": str(pair), "head / base": times(ratio)})
        for place, (pair, ratio) in enumerate(
            ((pair, math.exp(log)) for pair, log in pairs), start=1
        )
    ]
    looks = _looks(len(pairs))
    found = stats.paired([[log for _, log in pairs[:look]] for look in looks])
    low, high = stats.intervals(found, data.rule.confidence)
    band = [*zip(looks, low.tolist(), high.tolist(), found.ratio.tolist(), strict=True)]
    delta = data.rule.delta
    return Chart(
        f"gate-{number}",
        f"{workload} on {target}, {short(gate.head.commit)} against {short(gate.base.commit)}",
        f"{count(len(pairs), 'pair')} of processes; head / base is {times(found.ratio[-1])}"
        + (f" ({times(low[-1])} to {times(high[-1])})" if looks[-1] > 1 else "")
        + " after the last.",
        charts.narrowing(points, band, (1 / (1 + delta), 1 + delta)),
        small=True,
    )


def _looks(number: int) -> Sequence[int]:
    """After how many pairs the gate may have looked, and the end."""
    looks, look = [], LEAST_PAIRS
    while look < number:
        looks.append(look)
        look = math.ceil(GROWTH * look)
    return [*looks, number]
