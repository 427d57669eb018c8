"""The targets side by side: how many times as fast as the baseline each of them is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping

from convbench.comparing.beside import SpeedUp, speed_ups
from convbench.words.numbers import count, faster, si
from convbench.words.status import Status

from . import charts
from .charts import Point
from .data import Data
from .parts import Chart, Nothing, Part, Table, TableCell, Text

MOST_ROWS = 60

_SLOWER, _SAME, _FASTER = "#b35806", "#f2f2ee", "#20639b"


def parts(data: Data) -> Iterator[Part]:
    """A heat map and a table; who is fastest is a part of the verdict."""
    used = data.times
    pairs = [cell for cell in used if cell[1] != data.baseline and (cell[0], data.baseline) in used]
    if not pairs:
        other = f" beside {data.baseline}" if data.baseline else ""
        yield Nothing(f"no other target{other} has times")
        return
    both = [(used[cell], used[cell[0], data.baseline]) for cell in pairs]
    found = dict(zip(pairs, speed_ups(both, data.rule.confidence), strict=True))
    yield _chart(data, found)
    yield Table.of(
        f"Speed-up over {data.baseline}",
        "workload | ^ target | > speed-up | > interval | > time | ~> of the baseline | ~ algorithm"
        " | ~ what it computes",
        (
            (
                TableCell(workload, command=data.command(workload, target)), target,
                faster(found[workload, target].ratio), found[workload, target].span,
                si(one.value, "s"), si(base.value, "s"), str(one.facts.get("algorithm", "")),
                data.pipelines.get(workload, ""),
            )
            for (workload, target), (one, base) in zip(pairs, both, strict=True)
        ),
    )  # fmt: skip
    if left := [
        row for row in data.rows if row.suite == "layers" and row.time_s and not row.counts
    ]:
        yield Text(
            f"{count(len(left), 'time')} left out: of a result that is wrong, that nobody could"
            " check, or that cannot be true, the time means nothing.", "care",
        )  # fmt: skip


def _chart(data: Data, found: Mapping[tuple[str, str], SpeedUp]) -> Chart:
    of = {cell: math.log(speed_up.ratio) for cell, speed_up in found.items()}
    status = {(row.workload, row.target): str(row.status) for row in data.rows}
    workloads = list(dict.fromkeys(workload for workload, _ in found))
    extreme = {w: max(abs(log) for (x, _), log in of.items() if x == w) for w in workloads}
    kept = {*sorted(workloads, key=lambda w: -extreme[w])[:MOST_ROWS]}
    targets = [target for target in data.targets if target != data.baseline]
    limit = max(0.5, min(max(map(abs, of.values())), math.log(30)))
    points = []
    for workload, target in itertools.product((w for w in workloads if w in kept), targets):
        log = of.get((workload, target))
        if log is None:
            known = status.get((workload, target), "")
            text, color = known if known not in {"", Status.OK} else "n/a", "#c5cad1"
        else:
            text = f"{math.exp(log):.2g}x"
            color = charts.ramp(abs(log) / limit, _SAME, _FASTER if log > 0 else _SLOWER)
        says = {"workload": workload, "target": target, "speed-up": text}
        says["what it computes"] = data.pipelines.get(workload, "")  # the filter finds it
        points.append(Point(target, workload, text=text, color=color, says=says))
    some = f", {len(kept)} of {len(workloads)} workloads" if len(kept) < len(workloads) else ""
    return Chart(
        "backends",
        f"Speed-up over {data.baseline}{some}",
        f"Tiles, workloads by targets: how many times as fast as {data.baseline}; the table has"
        " the same numbers.",
        charts.matrix(points, targets),
        f"Blue is faster than {data.baseline}, brown is slower.",
        least_width=charts.matrix_width(len(targets)),
    )
