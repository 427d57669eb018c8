"""Rows as a table for a terminal, with every reason once below it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from convbench.results.rows import Row, causes_in_words
from convbench.words.numbers import digits, duration
from convbench.words.status import Status

if TYPE_CHECKING:
    from rich.table import Table


# -- Text -----------------------------------------------------------------------------------------


def render(rows: Sequence[Row], *, width: int | None = None, color: bool = False) -> str:
    """Draw a table of the rows, and below it each reason once, with the cells that it concerns.

    A target that is skipped everywhere is only named below.

    Parameters
    ----------
    width : int, optional
        Of a terminal, in columns: if it is too narrow, columns are left out, the stages first.
        By default there is room for everything, as a pipe has.
    color : bool
        Write a terminal's escape sequences.
    """
    # `import convbench.results.records` must stay fast.
    from rich.console import Console  # noqa: PLC0415
    from rich.measure import Measurement  # noqa: PLC0415
    from rich.padding import Padding  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    text = io.StringIO()
    console = Console(file=text, width=width or _PIPE_COLUMNS, force_terminal=color)
    origins: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        origins.setdefault((row.machine, row.commit, row.environment), []).append(row)
    for (machine, commit, environment), group in origins.items():
        # The rest of the name of an existing environment is the path of its interpreter.
        only = len({origin[2] for origin in origins}) == 1 and environment.startswith("existing-py")
        name = "existing environment" if only else environment
        console.print(Text(f"{machine}, commit {commit[:8]}, {name}", style="italic"))
        present = {row.target for row in group if row.status is not Status.SKIPPED}
        for suite in dict.fromkeys(row.suite for row in group):
            shown = [row for row in group if row.suite == suite and row.target in present]
            if not shown:
                continue
            columns = _numbers(shown) | _stages(shown)
            unlimited = console.options.update_width(_PIPE_COLUMNS)
            for name in (*_dispensable(columns), ""):
                table = _table(shown, columns, title=suite)
                if Measurement.get(console, unlimited, table).maximum <= console.width:
                    break
                columns.pop(name, None)
            console.print(table)
        for (status, reason, remedy), where in causes_in_words(group).items():
            console.print(Text.assemble((status, _STYLES[status]), f" {where}"))
            for sentence in filter(None, (reason, remedy)):
                console.print(Padding(Text(sentence), (0, 0, 0, 4), expand=False))
    return text.getvalue()


def _dispensable(columns: Mapping[str, Sequence[str]]) -> list[str]:
    """What a narrow terminal can do without, the least important first: names stay."""
    alone = [name for name in columns if name.endswith(" alone")]
    order = (*alone, "memory", "cold", "GB/s", "of roofline", "GFLOP/s", "\u00b1")
    return [name for name in order if name in columns]


_PIPE_COLUMNS = 10_000
_STYLES = {
    Status.WRONG: "bold red",
    Status.FAILED: "red",
    Status.INVALID: "red",
    Status.OK: "green",
    Status.SKIPPED: "yellow",
}


def _table(rows: Sequence[Row], columns: Mapping[str, Sequence[str]], title: str) -> Table:
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    for name in ("workload", "target"):
        table.add_column(name, overflow="fold", min_width=8)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for i, row in enumerate(rows):
        table.add_row(
            row.workload,
            row.target,
            *(column[i] for column in columns.values()),
            Text(row.status, style=_STYLES[row.status]),
            style=_STYLES[Status.WRONG] if row.status is Status.WRONG else "",
        )
    return table


def _numbers(rows: Sequence[Row]) -> dict[str, list[str]]:
    return _not_empty(
        {
            "time": [duration(row.time_s) for row in rows],
            "\u00b1": [_percent(row.spread) for row in rows],
            "GFLOP/s": [digits(row.gflops) for row in rows],
            # Where there is arithmetic its rate says more; JSON has both.
            "GB/s": ["" if row.gflops else digits(row.gb_per_s) for row in rows],
            "of roofline": [_percent(row.of_roofline) for row in rows],
            "cold": [duration(row.cold_s) for row in rows],
            "memory": [_megabytes(row.peak_bytes) for row in rows],
            "error/bound": [digits(row.error_over_bound) for row in rows],
        }
    )


def _stages(rows: Sequence[Row]) -> dict[str, list[str]]:
    names = dict.fromkeys(stage for row in rows for stage in row.stages_s)
    alone = " alone" if rows[0].suite == "layers" else ""
    return {f"{name}{alone}": [duration(row.stages_s.get(name)) for row in rows] for name in names}


def _not_empty(columns: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: column for name, column in columns.items() if any(column)}


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}" if share >= 0.1 else f"{share:.1%}"


def _megabytes(size_bytes: float | None) -> str:
    return "" if size_bytes is None else f"{digits(size_bytes / 1e6)} MB"
