"""Gates of the head: their pairs, and what was known after each of some of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from convbench.comparing import stats
from convbench.comparing.comparison import Verdict, about
from convbench.comparing.pairs import ERROR, GROWTH, LEAST_PAIRS
from convbench.results.folder import short
from convbench.results.gates import Gate, GatedCell
from convbench.words.numbers import count, date, share, si, times

from . import charts
from .charts import Point
from .data import Data
from .parts import Chart, Nothing, Part, Table, TableCell, Text
from .verdict import VERDICT_TONES

MOST_CHARTS = 6

MOST_CURVES = 24
"""In one chart: of more cells, those that had the least power."""


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
        seen = stats.smallest_effects(found, ERROR, data.rule.minimum_effect, data.rule.power)
        title = f"{short(gate.head.commit)} against {short(gate.base.commit)}, {date(gate.ended_s)}"
        yield Table.of(
            f"Gate of {title}",
            "workload | ^ target | ~> base | > head | > head / base | ~> interval | ~> pairs"
            f" | ~> would have been seen | the gate said{gate.within}",
            (
                (
                    TableCell(workload, command=data.command(workload, target)), target,
                    *_sides(cell, ratio), times(ratio),
                    f"{times(a)} to {times(b)}" if not math.isnan(a) else "",
                    str(len(cell.log_ratios)), share(least) if least < math.inf else "",
                    _said(cell),
                )
                for ((target, workload), cell), ratio, a, b, least in zip(
                    cells.items(), *(each.tolist() for each in (found.ratio, low, high, seen)),
                    strict=True,
                )
            ),
            folded=False,
        )  # fmt: skip
        if not number:
            yield Text(
                "Times are of one core with one thread, in turns with the other side: longer than"
                " those of the suites, which have all cores to themselves. What the gate said is by"
                " its own limits, which may be narrower than those of this page."
                f" A dot is a pair; the band is the {100 * data.rule.confidence:g} % interval of"
                " all pairs so far, and the grey one about 1 where nothing matters. While it looks"
                " again and again the gate itself asks for more."
            )
            order = sorted(range(len(cells)), key=lambda i: -abs(found.log[i]))[:MOST_CHARTS]
            listed = [*cells.items()]
            for place, i in enumerate(order, start=1):
                yield _chart(data, place, *listed[i], gate)
            yield from _power(data, [*cells], found, seen.tolist())


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


def _power(
    data: Data, names: Sequence[tuple[str, str]], found: stats.Ratios, seen: Sequence[float]
) -> Iterator[Chart]:
    """What these pairs would have shown, cell by cell."""
    known = sorted((i for i, least in enumerate(seen) if least < 1), key=lambda i: -seen[i])
    if not known:
        return
    shown, rule = known[:MOST_CURVES], data.rule
    ends = rule.minimum_effect, max(2 * seen[shown[0]], 2 * rule.delta)
    effects = np.geomspace(*ends, 25).tolist()
    each = stats.powers(found, ERROR, rule.minimum_effect, effects)
    points = [
        Point(
            effect, power, target, text=f"{workload} {target}",
            says={
                "cell": f"{workload} on {target}", "slow-down": share(effect),
                "seen with": share(power),
            },
        )
        for target, workload, powers in ((*names[i], each[i].tolist()) for i in shown)
        for effect, power in zip(effects, powers, strict=True)
    ]  # fmt: skip
    some = f", of the {len(shown)} with the least" if len(shown) < len(known) else ""
    yield Chart(
        "gate-power",
        f"Power of this gate{some}",
        f"How likely {count(len(shown), 'cell')} would have shown a slow-down:"
        f" {share(rule.power)} from {share(seen[shown[-1]])} to {share(seen[shown[0]])} on, cell by"
        " cell.",
        charts.power(points, [*dict.fromkeys(target for target, _ in names)], rule.power),
        f"From the spread of its pairs: with which probability a slow-down of so much is flagged"
        f" at the last look. The line is at {share(rule.power)}.",
    )


def _looks(number: int) -> Sequence[int]:
    """After how many pairs the gate may have looked, and the end."""
    looks, look = [], LEAST_PAIRS
    while look < number:
        looks.append(look)
        look = math.ceil(GROWTH * look)
    return [*looks, number]
