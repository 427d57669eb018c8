"""What else was measured: stages, cold caches, the first call, transfers and memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from convbench.results.records import Record
from convbench.results.rows import Row
from convbench.words.numbers import digits, faster, si

from . import charts
from .charts import Point
from .data import Data
from .parts import Chart, Part, Table, Text

MOST_ROWS = 40
"""In a picture: the slowest."""


def parts(data: Data) -> Iterator[Part]:
    """A picture and a table of each that was measured, and a sentence of each that was not."""
    for of_one in (_stages, _cold, _first_call, _transfer, _memory):
        yield from of_one(data)


def _layers(data: Data, has: Callable[[Row], object]) -> list[Row]:
    return [row for row in data.rows if row.suite == "layers" and has(row)]


def _slowest(rows: Sequence[Row], of: Callable[[Row], float]) -> tuple[list[Row], str]:
    kept = {id(row) for row in sorted(rows, key=of, reverse=True)[:MOST_ROWS]}
    some = f", the {MOST_ROWS} largest of {len(rows)}" if len(rows) > MOST_ROWS else ""
    return [row for row in rows if id(row) in kept], some


def _stages(data: Data) -> Iterator[Part]:
    rows = _layers(data, lambda row: len(row.stages_s) > 1)
    if not rows:
        yield Text("The stages of the pipelines were not measured apart: no suite `stages`.")
        return
    names = list(dict.fromkeys(stage for row in rows for stage in row.stages_s))
    shown, some = _slowest(rows, lambda row: sum(row.stages_s.values()))
    yield Chart(
        "stages",
        f"Share of each stage, measured alone{some}",
        f"Bars made of {', '.join(names)}, for {len(shown)} results; the table has the times.",
        charts.bars(_stacked(shown, names), "share of the sum", names, whole=True),
        least_width=charts.WIDE_LABELS,
    )
    yield Table.of(
        "Stages alone, and the whole pipeline",
        " | ".join(("workload | target", *(f"> {n}" for n in names), "> sum | > whole pipeline")),
        (
            (
                row.workload, row.target, *(si(row.stages_s.get(n), "s") for n in names),
                si(sum(row.stages_s.values()), "s"), si(row.time_s, "s"),
            )
            for row in rows
        ),
    )  # fmt: skip


def _stacked(rows: Sequence[Row], names: Sequence[str]) -> list[Point]:
    return [
        Point(
            row.stages_s[name], f"{row.workload} {row.target}", name,
            says={
                "workload": row.workload, "target": row.target, "part": name,
                "time": si(row.stages_s[name], "s"),
            },
        )
        for row in rows for name in names if name in row.stages_s
    ]  # fmt: skip


def _cold(data: Data) -> Iterator[Part]:
    rows = _layers(data, lambda row: row.cold_s and row.time_s)
    if not rows:
        yield Text("Calls with cold caches were not measured: no suite `cold`.")
        return
    yield _dots(
        "cold",
        "Cold caches against hot ones",
        data,
        rows,
        {"cold / hot": lambda row: (row.cold_s or 0) / (row.time_s or 1)},
        faster,
        at=1.0,
    )
    yield Table.of(
        "Cold caches against hot ones",
        "workload | target | > hot | > cold | > cold / hot",
        (
            (row.workload, row.target, si(row.time_s, "s"), si(row.cold_s, "s"),
             faster(row.cold_s / row.time_s))
            for row in rows if row.cold_s and row.time_s
        ),
    )  # fmt: skip


def _first_call(data: Data) -> Iterator[Part]:
    rows = [row for row in data.rows if row.suite == "first_call" and row.stages_s]
    if not rows:
        yield Text("The first call was not measured: no suite `first_call`.")
        return
    names = list(dict.fromkeys(stage for row in rows for stage in row.stages_s))
    yield Chart(
        "first-call",
        "What has to be waited for once",
        f"Bars made of {', '.join(names)}, for {len(rows)} results; the table has the times.",
        charts.bars(_stacked(rows, names), "seconds", names, "s", whole=False),
        least_width=charts.WIDE_LABELS,
    )
    yield Table.of(
        "What has to be waited for once",
        " | ".join(("target | workload", *(f"> {name}" for name in names))),
        (
            (row.target, row.workload, *(si(row.stages_s.get(name), "s") for name in names))
            for row in rows
        ),
    )


def _transfer(data: Data) -> Iterator[Part]:
    records = data.of_suite("transfer")
    if not records:
        yield Text("Transfers to and from devices were not measured: no suite `transfer`.")
        return
    yield Table.of(
        "Transfers",
        "array | target | way | > time | > GB/s",
        ((r.workload, r.target, r.stage, si(r.value, "s"), _rate(r)) for r in records),
        folded=False,
    )


def _rate(record: Record) -> str:
    """GB/s, where anything was copied at all."""
    if not record.value:
        return ""
    rate = float(record.facts.get("bytes") or 0) / record.value / 1e9
    return digits(rate) if rate < _FASTEST_COPY else "no copy"


_FASTEST_COPY = 5000.0
"""GB/s; the memory of an H200 moves 4800."""


def _memory(data: Data) -> Iterator[Part]:
    rows = _layers(data, lambda row: row.peak_bytes)
    if not rows:
        yield Text("Memory was not measured: no suite `memory`.")
        return
    yield _dots(
        "memory",
        "Memory beyond the input, at its peak",
        data,
        rows,
        {"peak": lambda row: row.peak_bytes or 0},
        lambda value: si(value, "B"),
        unit="B",
    )
    yield Table.of(
        "Memory beyond the input, at its peak",
        "workload | target | > peak",
        ((row.workload, row.target, si(row.peak_bytes, "B")) for row in rows),
    )


def _dots(
    name: str,
    title: str,
    data: Data,
    rows: Sequence[Row],
    number: Mapping[str, Callable[[Row], float]],
    text: Callable[[float], str],
    unit: str = "",
    at: float = 0.0,
) -> Chart:
    """A picture with a row a workload and a mark a target."""
    ((what, of),) = number.items()
    largest: dict[str, float] = {}
    for row in rows:
        largest[row.workload] = max(largest.get(row.workload, 0.0), of(row))
    kept = {*sorted(largest, key=lambda workload: -largest[workload])[:MOST_ROWS]}
    some = f", {len(kept)} of {len(largest)} workloads" if len(kept) < len(largest) else ""
    points = [
        Point(
            of(row), row.workload, row.target,
            says={"workload": row.workload, "target": row.target, what: text(of(row))},
        )
        for row in rows if row.workload in kept and of(row) > 0
    ]  # fmt: skip
    least, most = (text(f(of(row) for row in rows)) for f in (min, max))
    return Chart(
        name,
        f"{title}{some}",
        f"A mark for each target and workload, from {least} to {most}. The table has all.",
        charts.dots(points, what, data.targets, unit, at),
    )
