"""The targets side by side: how many times as fast as the baseline each of them is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

from convbench.comparing import stats
from convbench.comparing.judge import Draws, mean_of
from convbench.words.numbers import count, faster, si
from convbench.words.status import Status

from . import charts
from .charts import Point
from .data import Data
from .parts import Chart, Part, Table, Text

MOST_ROWS = 60

_SLOWER, _SAME, _FASTER = "#b35806", "#f2f2ee", "#20639b"


def parts(data: Data) -> Iterator[Part]:
    """A heat map, geometric means, and a table."""
    wrong = {
        (row.workload, row.target): row.status for row in data.rows
        if row.status in {Status.WRONG, Status.INVALID}
    }  # fmt: skip
    times = {(r.workload, r.target): r for r in data.of_suite("pipeline") if min(r.draws) > 0}
    used = {cell: record for cell, record in times.items() if cell not in wrong}
    pairs = [cell for cell in used if cell[1] != data.baseline and (cell[0], data.baseline) in used]
    if not pairs:
        other = f" beside {data.baseline}" if data.baseline else ""
        yield Text(f"There is nothing to hold side by side: no other target{other} has times.")
        return
    # How many times as long as the target the baseline takes.
    both = [(used[cell].draws, used[cell[0], data.baseline].draws) for cell in pairs]
    found = stats.ratios(*zip(*both, strict=True))
    yield _chart(data, pairs, found, wrong)
    yield _means(data, pairs, both)
    low, high = stats.intervals(found, data.rule.confidence)
    yield Table.of(
        f"Speed-up over {data.baseline}",
        "workload | target | > speed-up | > low | > high | > time | > of the baseline | algorithm",
        (
            (
                workload, target, *map(_faster, (ratio, *ends)),
                si(used[workload, target].value, "s"), si(used[workload, data.baseline].value, "s"),
                str(used[workload, target].facts.get("algorithm", "")),
            )
            for (workload, target), ratio, *ends in zip(
                pairs, found.ratio.tolist(), low.tolist(), high.tolist(), strict=True
            )
        ),
    )  # fmt: skip
    if wrong:
        yield Text(
            f"{count(len(wrong), 'cell')} left out: the time of a result that is wrong, or that"
            " cannot be true, means nothing.", "care",
        )  # fmt: skip


def _chart(
    data: Data,
    pairs: Sequence[tuple[str, str]],
    found: stats.Ratios,
    wrong: Mapping[tuple[str, str], Status],
) -> Chart:
    of = dict(zip(pairs, found.log.tolist(), strict=True))
    workloads = list(dict.fromkeys(workload for workload, _ in pairs))
    extreme = {w: max(abs(log) for (x, _), log in of.items() if x == w) for w in workloads}
    kept = {*sorted(workloads, key=lambda w: -extreme[w])[:MOST_ROWS]}
    targets = [target for target in data.targets if target != data.baseline]
    limit = max(0.5, min(max(map(abs, of.values())), math.log(30)))
    points = []
    for workload, target in itertools.product((w for w in workloads if w in kept), targets):
        log = of.get((workload, target))
        if log is None:
            text, color = str(wrong.get((workload, target), "n/a")), "#c5cad1"
        else:
            text = f"{math.exp(log):.2g}x"
            color = charts.ramp(abs(log) / limit, _SAME, _FASTER if log > 0 else _SLOWER)
        says = {"workload": workload, "target": target, "speed-up": text}
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


def _means(
    data: Data, pairs: Sequence[tuple[str, str]], both: Sequence[tuple[Draws, Draws]]
) -> Table:
    means = [
        mean_of(target, some, data.rule)
        for target in data.targets
        if (some := [draws for draws, (_, t) in zip(both, pairs, strict=True) if t == target])
    ]
    return Table.of(
        f"Geometric mean of the speed-up over {data.baseline}",
        "target | > workloads | > speed-up | > low | > high",
        ((m.target, str(m.cells), *map(_faster, (m.ratio, m.low, m.high))) for m in means),
        folded=False,
    )


def _faster(ratio: float | None) -> str:
    return "" if ratio is None or math.isnan(ratio) else faster(ratio)
