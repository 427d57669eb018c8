"""Where every result stands under what the device was seen to do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from convbench.results.ceilings import Ceiling, find_ceilings
from convbench.results.records import Record
from convbench.words.numbers import digits, share, si

from . import charts
from .charts import Point
from .data import Data
from .parts import Chart, Nothing, Part, Table

MOST_POINTS = 600


def parts(data: Data) -> Iterator[Part]:
    """GFLOP/s over operations per byte, for each device."""
    ceilings = {key[3]: ceiling for key, ceiling in find_ceilings(data.head.records).items()}
    of_device: dict[str, list[Record]] = {}
    for record in data.times.values():
        if _positive(record, "flops") and _positive(record, "bytes"):
            of_device.setdefault(record.device, []).append(record)
    for number, (device, records) in enumerate(of_device.items(), start=1):
        ceiling = ceilings.get(device, Ceiling())
        if not (ceiling.gflops and ceiling.gb_per_s):
            yield Nothing(f"the suite ceiling has no result of this commit on {device}", device)
            continue
        # Names of files and anchors: "cpu", "gpu0"; a device is whatever a file says.
        plain = re.fullmatch(r"[a-z]+(:\d+)?", device)
        name = device.replace(":", "") if plain else str(number)
        yield from _device(data, name, device, ceiling, records)
    if not of_device:
        yield Nothing("no time comes with its numbers of operations and bytes")


def _device(
    data: Data, name: str, device: str, ceiling: Ceiling, records: Sequence[Record]
) -> Iterator[Part]:
    shares = {(row.workload, row.target): row.of_roofline for row in data.rows}
    points = [_point(record, shares) for record in records]
    sizes = [float(point.x) for point in points]
    roofs = {"roof from memory": _roof(ceiling.gflops, ceiling.gb_per_s, sizes)}
    if ceiling.cached_gb_per_s:
        roofs["roof from the caches"] = _roof(ceiling.gflops, ceiling.cached_gb_per_s, sizes)
    some = f", {MOST_POINTS} of {len(points)} results" if len(points) > MOST_POINTS else ""
    targets = [target for target in data.targets if target.endswith(f"@{device}")]
    best = max(points, key=lambda point: point.y)
    yield Chart(
        f"roofline-{name}",
        f"Roofline of {device}{some}",
        f"{len(points)} results under a roof of {ceiling.gflops:.0f} GFLOP/s; the highest is"
        f" {best.says['workload']} on {best.says['target']} with {best.says['GFLOP/s']}. The table"
        " has the same numbers.",
        charts.roofline(points[:MOST_POINTS], roofs, targets),
        f"The roof is what this run saw: {ceiling.gflops:.0f} GFLOP/s of a large matrix product,"
        f" {ceiling.gb_per_s:.3g} GB/s of a copy in memory, {ceiling.cached_gb_per_s:.3g} GB/s in"
        " the caches.",
        zooms=True,
    )
    yield Table.of(
        f"Roofline of {device}",
        "workload | ^ target | > time | > GFLOP/s | > of the roof | ~> operations per byte",
        (tuple(point.says.values()) for point in points),
    )


def _point(record: Record, shares: Mapping[tuple[str, str], float | None]) -> Point:
    flops, traffic = float(record.facts["flops"]), float(record.facts["bytes"])
    rate = flops / float(record.value or 1) / 1e9
    return Point(
        flops / traffic, rate, record.target,
        says={
            "workload": record.workload, "target": record.target,
            "time": si(record.value, "s"), "GFLOP/s": digits(rate),
            "of the roof": share(shares.get((record.workload, record.target))),
            "operations per byte": digits(flops / traffic),
        },
    )  # fmt: skip


def _roof(gflops: float, gb_per_s: float, sizes: Sequence[float]) -> list[tuple[float, float]]:
    ridge = gflops / gb_per_s
    left, right = min(*sizes, ridge), max(*sizes, ridge)
    return [(left, left * gb_per_s), (ridge, gflops), (right, gflops)]


def _positive(record: Record, fact: str) -> bool:
    value = record.facts.get(fact)
    return isinstance(value, int | float) and value > 0
