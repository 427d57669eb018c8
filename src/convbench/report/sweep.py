"""How times grow with the size of a layer, and where one target overtakes another."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence

from convbench.results.records import Record
from convbench.words.numbers import count, si

from . import charts
from .charts import Point
from .data import Data
from .parts import Chart, Nothing, Part, Table, Text

_AXES = {"hw": "height and width, at 32 channels", "c": "channels, at 14 x 14"}

_Curve = Mapping[int, Record]
"""The times of one target, by size."""


def parts(data: Data) -> Iterator[Part]:
    """A chart for each axis of the sweep, and the crossovers by name."""
    found: dict[str, dict[str, dict[int, Record]]] = {}
    for record in data.of_suite("sweep"):
        if match := re.fullmatch(r"sweep\.([a-z]+)_(\d{1,9})", record.workload):
            sizes = found.setdefault(match[1], {}).setdefault(record.target, {})
            sizes[int(match[2])] = record
    if not found:
        yield Nothing("not measured; `convbench bench --list standard` has it")
        return
    for axis, of_target in found.items():
        yield from _axis(axis, of_target, data.targets)


def _axis(axis: str, of_target: Mapping[str, _Curve], targets: Sequence[str]) -> Iterator[Part]:
    title = _AXES.get(axis, axis)
    points = [
        Point(
            float(size), float(record.value or 0), target,
            min(record.draws), max(record.draws),
            says={"target": target, axis: str(size), "time": si(record.value, "s")},
        )
        for target, curve in of_target.items() for size, record in sorted(curve.items()) if size
    ]  # fmt: skip
    crossings = [
        crossing for one, other in itertools.combinations(of_target, 2)
        for crossing in _crossovers((one, of_target[one]), (other, of_target[other]))
    ]  # fmt: skip
    yield Chart(
        f"sweep-{axis}",
        f"Time over {title}",
        f"A line for each of {', '.join(of_target)}, with {count(len(crossings), 'crossover')}. The"
        " tables have the numbers.",
        charts.curves(points, title, "time of a call", targets, "s"),
        "Strokes reach from the fastest process to the slowest.",
        zooms=True,
    )
    if crossings:
        yield Table.of(
            f"Crossovers over {title}",
            f"faster first | > up to {axis} | faster then | > from {axis}",
            crossings,
            folded=False,
        )
    else:
        yield Text(f"Over {title}, no target surely overtakes another.")
    rows = []
    for size in sorted({size for curve in of_target.values() for size in curve}):
        times = {name: c[size].value or 0 for name, c in of_target.items() if size in c}
        each = (si(times.get(target), "s") for target in of_target)
        rows.append((str(size), *each, min(times, key=times.__getitem__)))
    yield Table.of(
        f"Times over {title}",
        " | ".join((axis, *(f"> {target}" for target in of_target), "fastest")),
        rows,
    )


def _crossovers(
    one: tuple[str, _Curve], other: tuple[str, _Curve]
) -> list[tuple[str, str, str, str]]:
    """Who is faster up to which size, and who from which; where processes overlap, nobody is."""
    order = []
    for size in sorted(one[1].keys() & other[1].keys()):
        a, b = one[1][size], other[1][size]
        if max(a.draws) < min(b.draws):
            order.append((size, one[0]))
        elif max(b.draws) < min(a.draws):
            order.append((size, other[0]))
    return [
        (first, str(until), then, str(since))
        for (until, first), (since, then) in itertools.pairwise(order)
        if first != then
    ]
