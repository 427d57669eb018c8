"""Benchmarks that are none of ours: what asv has of them, head against base."""

from __future__ import annotations

from collections.abc import Iterator

from convbench.comparing import parts as words
from convbench.results.records import OTHER
from convbench.words.numbers import digits, duration, size

from .data import Data
from .parts import Nothing, Part, Table, Text, status
from .verdict import COMPARED, compared


def parts(data: Data) -> Iterator[Part]:
    """Their numbers side by side, and why that decides little; without a base, of head alone."""
    rows = [row for row in data.rows if row.suite == OTHER]
    cells = [c for c in data.comparison.cells if c.suite == OTHER] if data.comparison else []
    if not rows and not cells:
        yield Nothing("there are no benchmarks but those of convbench")
        return
    yield Text(
        "asv keeps one number of these over all processes, so that nothing tells how far two"
        " processes differ: a ratio has no interval, and no time is called slower."
    )
    if cells:
        yield Table.of(
            "Head and base",
            f"{COMPARED} | ~> quartiles",
            ((*compared(data, c), words.quartiles(c)) for c in cells),
            folded=False,
        )
        return
    yield Table.of(
        "Head alone",
        "benchmark | status | > time | > memory | > value | why",
        (
            (
                row.workload, status(row.status), duration(row.time_s), size(row.peak_bytes),
                f"{digits(row.number)} {row.unit}".strip(),
                "; ".join(outcome.reason for _, outcome in row.outcomes),
            )
            for row in rows
        ),
        folded=False,
    )  # fmt: skip
