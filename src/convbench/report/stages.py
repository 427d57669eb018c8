"""What else was measured: stages, cold caches, the first call, transfers and memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from convbench.results.records import Record
from convbench.results.rows import Row
from convbench.words.numbers import digits, faster, si, size

from . import charts
from .charts import Point
from .data import Data
from .parts import Chart, Nothing, Part, Table

MOST_ROWS = 40
"""In a picture: the slowest."""


def parts(data: Data) -> Iterator[Part]:
    """A picture and a table of each that was measured, and a sentence of each that was not."""
    for of_one in (_stages, _cold, _first_call, _transfer, _memory):
        yield from of_one(data)


def _stages(data: Data) -> Iterator[Part]:
    rows = [row for row in data.rows if row.suite == "layers" and len(row.stages_s) > 1]
    if not rows:
        yield Nothing("no suite stages", "stages apart")
        return
    names = _names(rows)
    slowest = sorted(rows, key=lambda row: sum(row.stages_s.values()), reverse=True)[:MOST_ROWS]
    some = f", the {MOST_ROWS} largest of {len(rows)}" if len(rows) > MOST_ROWS else ""
    shown = [row for row in rows if row in slowest]
    title = f"Share of each stage, measured alone{some}"
    yield _bars("stages", title, shown, names, "share of the sum")
    yield Table.of(
        "Stages alone, and the whole pipeline",
        " | ".join(("workload | ^ target", *(f"> {n}" for n in names), "> sum | > whole pipeline")),
        (
            (
                row.workload, row.target, *(si(row.stages_s.get(n), "s") for n in names),
                si(sum(row.stages_s.values()), "s"), si(row.time_s, "s"),
            )
            for row in rows
        ),
    )  # fmt: skip


def _first_call(data: Data) -> Iterator[Part]:
    rows = [row for row in data.rows if row.suite == "first_call" and row.stages_s]
    if not rows:
        yield Nothing("no suite first_call", "first call")
        return
    names = _names(rows)
    yield _bars("first-call", "What has to be waited for once", rows, names, "seconds", "s")
    yield Table.of(
        "What has to be waited for once",
        " | ".join(("target | workload", *(f"> {name}" for name in names))),
        (
            (row.target, row.workload, *(si(row.stages_s.get(name), "s") for name in names))
            for row in rows
        ),
    )


def _names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(stage for row in rows for stage in row.stages_s))


def _bars(
    name: str, title: str, rows: Sequence[Row], names: Sequence[str], axis: str, unit: str = ""
) -> Chart:
    """A picture with a bar a row, made of its stages; of equal length if there is no unit."""
    points = [
        Point(
            row.stages_s[stage], f"{row.workload} {row.target}", stage,
            says={
                "workload": row.workload, "target": row.target, "part": stage,
                "time": si(row.stages_s[stage], "s"),
            },
        )
        for row in rows for stage in names if stage in row.stages_s
    ]  # fmt: skip
    return Chart(
        name,
        title,
        f"Bars made of {', '.join(names)}, for {len(rows)} results; the table has the times.",
        charts.bars(points, axis, names, unit, whole=not unit),
    )


def _cold(data: Data) -> Iterator[Part]:
    found = [
        (row, row.cold_s / row.time_s) for row in data.rows
        if row.suite == "layers" and row.cold_s and row.time_s
    ]  # fmt: skip
    if not found:
        yield Nothing("no suite cold", "cold caches")
        return
    title = "Cold caches against hot ones"
    yield _dots("cold", title, data, found, "cold / hot", faster, at=1.0)
    yield Table.of(
        title,
        "workload | ^ target | > hot | > cold | > cold / hot",
        (
            (row.workload, row.target, si(row.time_s, "s"), si(row.cold_s, "s"), faster(ratio))
            for row, ratio in found
        ),
    )


def _memory(data: Data) -> Iterator[Part]:
    found = [(row, row.peak_bytes) for row in data.rows if row.suite == "layers" and row.peak_bytes]
    if not found:
        yield Nothing("no suite memory", "memory")
        return
    title = "Memory beyond the input, at its peak"
    yield _dots("memory", title, data, found, "peak", size, unit="B")
    yield Table.of(
        title,
        "workload | ^ target | > peak",
        ((row.workload, row.target, size(peak_bytes)) for row, peak_bytes in found),
    )


def _dots(
    name: str,
    title: str,
    data: Data,
    found: Sequence[tuple[Row, float]],
    what: str,
    text: Callable[[float], str],
    unit: str = "",
    at: float = 0.0,
) -> Chart:
    """A picture with a row a workload and a mark a target."""
    largest: dict[str, float] = {}
    for row, number in found:
        largest[row.workload] = max(largest.get(row.workload, 0.0), number)
    kept = {*sorted(largest, key=lambda workload: -largest[workload])[:MOST_ROWS]}
    some = f", {len(kept)} of {len(largest)} workloads" if len(kept) < len(largest) else ""
    points = [
        Point(
            number, row.workload, row.target,
            says={"workload": row.workload, "target": row.target, what: text(number)},
        )
        for row, number in found if row.workload in kept and number > 0
    ]  # fmt: skip
    least, most = (text(end(number for _, number in found)) for end in (min, max))
    return Chart(
        name,
        f"{title}{some}",
        f"A mark for each target and workload, from {least} to {most}. The table has all.",
        charts.dots(points, what, data.targets, unit, at),
    )


def _transfer(data: Data) -> Iterator[Part]:
    records = data.of_suite("transfer")
    if not records:
        yield Nothing("no suite transfer", "transfers")
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
