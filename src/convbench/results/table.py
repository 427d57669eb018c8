"""Rows as a table for a terminal, with every reason once below it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from convbench.results.folder import environment_in_words, short
from convbench.results.rows import Row, causes_in_words
from convbench.words.numbers import digits, duration, share, size
from convbench.words.status import Status
from convbench.words.table import Column, Table, line, remark, stacked

if TYPE_CHECKING:
    from rich.console import RenderableType

_STYLES = {
    Status.WRONG: "bold red",
    Status.FAILED: "red",
    Status.INVALID: "red",
    Status.OK: "green",
    Status.SKIPPED: "yellow",
}


def render(rows: Sequence[Row]) -> RenderableType:
    """Draw a table of the rows, and below it each reason once, with the cells that it concerns.

    A target that is skipped everywhere is only named below.
    """
    parts: list[RenderableType] = []
    origins: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        origins.setdefault((row.machine, row.commit, row.environment), []).append(row)
    for (machine, commit, environment), group in origins.items():
        only = len({origin[2] for origin in origins}) == 1
        name = environment_in_words(environment) if only else environment
        parts.append(line(f"{machine}, commit {short(commit)}, {name}", style="italic"))
        present = {row.target for row in group if row.status is not Status.SKIPPED}
        for suite in dict.fromkeys(row.suite for row in group):
            shown = [row for row in group if row.suite == suite and row.target in present]
            if shown:
                parts.append(_table(shown, suite))
        for (status, reason, remedy), where in causes_in_words(group).items():
            parts += remark(status, where, (reason, remedy), _STYLES[status])
    return stacked(parts)


def _table(rows: Sequence[Row], suite: str) -> Table:
    styles = [_STYLES[Status.WRONG] if row.status is Status.WRONG else "" for row in rows]
    alone = " alone" if suite == "layers" else ""
    stages = [
        Column(f"{name}{alone}", [duration(row.stages_s.get(name)) for row in rows])
        for name in dict.fromkeys(stage for row in rows for stage in row.stages_s)
    ]
    columns = [
        Column("workload", list(zip((row.workload for row in rows), styles, strict=True)), "name"),
        Column("target", list(zip((row.target for row in rows), styles, strict=True)), "name"),
        Column("time", [duration(row.time_s) for row in rows]),
        Column("\u00b1", [share(row.spread) for row in rows]),
        Column("device", [duration(row.device_s) for row in rows]),
        Column("GFLOP/s", [digits(row.gflops) for row in rows]),
        # Where there is arithmetic its rate says more; JSON has both.
        Column("GB/s", ["" if row.gflops else digits(row.gb_per_s) for row in rows]),
        Column("of roofline", [share(row.of_roofline) for row in rows]),
        Column("cold", [duration(row.cold_s) for row in rows]),
        Column("memory", [size(row.peak_bytes) for row in rows]),
        Column("error/bound", [digits(row.error_over_bound) for row in rows]),
        *stages,
        Column("status", [(row.status, _STYLES[row.status]) for row in rows], "word"),
    ]
    # The stages of a layer first; those of other suites are all that these have.
    dispensable = [column.title for column in stages if alone]
    dispensable += ["memory", "cold", "GB/s", "of roofline", "device", "GFLOP/s", "\u00b1"]
    return Table(columns, dispensable, suite)
