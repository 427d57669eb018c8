"""From records to rows: a workload on a target, with what is derived, and a table of them.

GFLOP/s and the place on the roofline are derived here and never tracked: asv takes lower to be
better everywhere.
"""

from __future__ import annotations

import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from convbench.failures import Status
from convbench.results import Record

if TYPE_CHECKING:
    from rich.table import Table

LAYERS = ("pipeline", "stages", "accuracy", "memory", "cold")
"""The suites that a row of a layer sums up; each other suite has rows of its own."""

GEMM_MARGIN, COPY_MARGIN = 1.1, 2.0
"""How far above a ceiling a result is taken to be noise.

A copy is not quite a ceiling: what reads more than it writes can move up to twice as much.
"""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a part of a row is not ok: "pipeline", "accuracy" or "stage conv"."""

    part: str
    status: Status
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The most that a device was seen to do, in its fastest sample; see bench_ceiling.py.

    Attributes
    ----------
    gflops : float
        A large product of float32 matrices.
    gb_per_s, cached_gb_per_s : float
        Read and written by copies that do not fit the caches, and by one that does, on all cores.
    cache_bytes : int
        What fits the caches.
    """

    gflops: float = 0.0
    gb_per_s: float = 0.0
    cached_gb_per_s: float = 0.0
    cache_bytes: int = 0

    def attainable_gflops(self, flops: float, traffic_bytes: float) -> float | None:
        """The roofline: min(peak, flops / byte * bandwidth).

        Williams, Waterman and Patterson, "Roofline: an insightful visual performance model", CACM
        52(4), 2009.
        """
        bandwidth = self.bandwidth(traffic_bytes)
        if not (self.gflops and bandwidth and flops and traffic_bytes):
            return None
        return min(self.gflops, flops / traffic_bytes * bandwidth)

    def bandwidth(self, traffic_bytes: float) -> float:
        """GB/s for so many bytes: those that fit the caches are found there again."""
        return self.cached_gb_per_s if traffic_bytes <= self.cache_bytes else self.gb_per_s


@dataclass(frozen=True, slots=True)
class Row:
    """One workload on one target.

    Attributes
    ----------
    machine, commit, environment, workload, target : str
    suite : str
        "layers", or the suite that the row is of.
    status : Status
        Wrong if the accuracy is, failed if any part is, skipped if there is no number at all.
    time_s : float, optional
        Median time of a call.
    processes : int
        How many fresh processes that was measured in.
    spread : float, optional
        Half the distance between the fastest and the slowest of them, as a share of the median.
    gflops : float, optional
        10**9 floating-point operations of the direct method per second.
    gb_per_s : float, optional
        10**9 bytes of input, weights and output per second.
    of_roofline : float, optional
        That, as a share of what the device could do at this ratio of operations to bytes.
    error_over_bound : float, optional
        More than 1 is wrong.
    cold_s : float, optional
        Median time of a call with nothing in the caches.
    peak_bytes : float, optional
        Memory beyond the input.
    stages_s : mapping of str to float
        Median time of a call of each stage by itself; or of what else the suite tells apart.
    algorithm : str
    causes : tuple of Cause
        Of all that is not ok.
    """

    machine: str
    commit: str
    environment: str
    workload: str
    target: str
    status: Status
    suite: str = "layers"
    time_s: float | None = None
    processes: int = 0
    spread: float | None = None
    gflops: float | None = None
    gb_per_s: float | None = None
    of_roofline: float | None = None
    error_over_bound: float | None = None
    cold_s: float | None = None
    peak_bytes: float | None = None
    stages_s: Mapping[str, float] = field(default_factory=dict)
    algorithm: str = ""
    causes: tuple[Cause, ...] = ()


def summarise(records: Iterable[Record]) -> list[Row]:
    """One row for each workload on each target (of each machine, commit and environment).

    What is wrong comes first; otherwise the order is that of the workloads, then of the targets.
    """
    records = list(records)
    ceilings = find_ceilings(records)
    groups: dict[tuple[str, ...], list[Record]] = {}
    order: dict[str, int] = {}
    for record in records:
        suite = "layers" if record.suite in LAYERS else record.suite
        groups.setdefault((*_origin(record), suite, record.workload, record.target), []).append(
            record
        )
        for name in (record.workload, record.target):
            order.setdefault(name, len(order))
    return sorted(
        (_row(suite, parts, ceilings) for (_, _, _, suite, *_), parts in groups.items()),
        key=lambda row: (row.status is not Status.WRONG, order[row.workload], order[row.target]),
    )


_Ceilings = Mapping[tuple[str, ...], Ceiling]


def find_ceilings(records: Iterable[Record]) -> dict[tuple[str, ...], Ceiling]:
    """The ceiling of each device: (machine, commit, environment, device)."""
    best: dict[tuple[str, ...], dict[str, float]] = {}
    for record in records:
        fastest_s = record.facts.get("fastest_s")
        if record.suite != "ceiling" or not fastest_s:
            continue
        found = best.setdefault((*_origin(record), _device(record)), {})
        work = "flops" if record.workload == "ceiling.gemm" else "bytes"
        rate = float(record.facts.get(work, 0)) / fastest_s / 1e9
        found[record.workload] = max(found.get(record.workload, 0.0), rate)
        machine = record.facts.get("machine") or {}
        found["cores"] = int(machine.get("logical_cores", 1)) if _device(record) == "cpu" else 1
        found["cache_bytes"] = int(machine.get("last_level_cache_bytes") or 0)
    return {
        key: Ceiling(
            found.get("ceiling.gemm", 0.0),
            found.get("ceiling.copy", 0.0),
            found.get("ceiling.copy_cached", 0.0) * found["cores"],
            int(found["cache_bytes"]),
        )
        for key, found in best.items()
    }


def _origin(record: Record) -> tuple[str, str, str]:
    return record.machine, record.commit, record.environment


def _device(record: Record) -> str:
    return record.target.partition("@")[2]


def _row(suite: str, parts: Sequence[Record], ceilings: _Ceilings) -> Row:
    any_part = parts[0]
    whole = {part.suite if part.suite in LAYERS else "pipeline": part
             for part in parts if not part.stage}  # fmt: skip
    time, accuracy = whole.get("pipeline"), whole.get("accuracy")
    time_s = time.value if time else None
    flops, traffic = (float(time.facts.get(n) or 0) if time else 0 for n in ("flops", "bytes"))
    gflops = flops / time_s / 1e9 if flops and time_s else None
    ceiling = ceilings.get((*_origin(any_part), _device(any_part)), Ceiling())
    attainable = ceiling.attainable_gflops(flops, traffic)
    causes = [
        Cause(_part(part), part.status, part.reason, part.remedy)
        for part in parts
        if part.status is not Status.OK
    ]
    if suite != "ceiling" and time_s and (reason := _impossible(ceiling, flops, traffic, time_s)):
        remedy = "Measure again with `convbench bench --fresh`; if it stays, the clock is wrong."
        causes.append(Cause("pipeline", Status.INVALID, reason, remedy))
    present = {part.status for part in parts} | {cause.status for cause in causes}
    if present == {Status.OK, Status.SKIPPED} and all(
        part.value is None for part in whole.values()
    ):
        present = {Status.SKIPPED}  # of the whole pipeline there is neither a time nor a check
    return Row(
        machine=any_part.machine,
        commit=any_part.commit,
        environment=any_part.environment,
        workload=any_part.workload,
        target=any_part.target,
        suite=suite,
        status=next(status for status in Status if status in present),
        time_s=time_s,
        processes=len(time.processes) if time else 0,
        spread=_spread(time.processes) if time else None,
        gflops=gflops,
        gb_per_s=traffic / time_s / 1e9 if traffic and time_s else None,
        of_roofline=gflops / attainable if gflops and attainable else None,
        error_over_bound=accuracy.value if accuracy else None,
        cold_s=whole["cold"].value if "cold" in whole else None,
        peak_bytes=whole["memory"].value if "memory" in whole else None,
        stages_s={p.stage: p.value for p in parts if p.stage and p.value is not None},
        algorithm=str((time or any_part).facts.get("algorithm", "")),
        causes=tuple(causes),
    )


def _impossible(ceiling: Ceiling, flops: float, traffic: float, time_s: float) -> str | None:
    """Why a time cannot be true, or None."""
    if ceiling.gflops and (rate := flops / time_s / 1e9) > GEMM_MARGIN * ceiling.gflops:
        return (
            f"{rate:.0f} GFLOP/s are more than the {ceiling.gflops:.0f} of a large matrix product"
            " on this device in the same run"
        )
    bandwidth = ceiling.bandwidth(traffic)
    if bandwidth and (rate := traffic / time_s / 1e9) > COPY_MARGIN * bandwidth:
        return (
            f"{rate:.0f} GB/s are more than {COPY_MARGIN:g} times the {bandwidth:.0f} of a copy on"
            " this device in the same run"
        )
    return None


def _spread(processes: Sequence[float]) -> float | None:
    middle = statistics.median(processes) if processes else 0.0
    if len(processes) < 2 or not middle:
        return None
    return (max(processes) - min(processes)) / 2 / middle


def _part(record: Record) -> str:
    if record.stage:
        return f"stage {record.stage}" if record.suite == "stages" else record.stage
    return record.suite if record.suite in LAYERS else "time"


def exit_code(rows: Sequence[Row]) -> int:
    """2 if anything is wrong, failed or invalid, 3 if nothing was measured, else 0."""
    statuses = {row.status for row in rows}
    if {Status.WRONG, Status.FAILED, Status.INVALID} & statuses:
        return 2
    return 0 if Status.OK in statuses else 3


def to_dict(rows: Iterable[Row], problems: Iterable[str] = ()) -> dict[str, Any]:
    """Everything as plain values, the rows of absent targets included."""
    return {"rows": [asdict(row) for row in rows], "problems": list(problems)}


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
    # `import convbench.results` must stay fast.
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


def causes_in_words(rows: Iterable[Row]) -> dict[tuple[Status, str, str], str]:
    """Each distinct reason with the cells that it concerns, in words."""
    workloads: dict[str, set[str]] = {}
    concerned: dict[tuple[Status, str, str], dict[str, dict[str, list[str]]]] = {}
    for row in rows:
        workloads.setdefault(row.target, set()).add(row.workload)
        for cause in row.causes:
            targets = concerned.setdefault((cause.status, cause.reason, cause.remedy), {})
            parts = targets.setdefault(row.target, {}).setdefault(row.workload, [])
            parts.append(cause.part)

    def where(target: str, cells: Mapping[str, Sequence[str]]) -> str:
        # A stage is only named where it is the stages alone that the reason concerns.
        names = [
            name if {"pipeline", "accuracy", "time"} & {*parts} else f"{name} ({', '.join(parts)})"
            for name, parts in cells.items()
        ]
        return target if {*names} == workloads[target] else f"{target} on {', '.join(names)}"

    return {
        key: "; ".join(where(target, cells) for target, cells in targets.items())
        for key, targets in concerned.items()
    }


def duration(seconds: float | None) -> str:
    """As in 1.23 ms.

    Examples
    --------
    >>> duration(0.0012345), duration(2.5), duration(None)
    ('1.23 ms', '2.50 s', '')
    """
    if seconds is None:
        return ""
    scale, unit = _unit(seconds)
    return f"{digits(seconds * scale)} {unit}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}" if share >= 0.1 else f"{share:.1%}"


def _megabytes(size_bytes: float | None) -> str:
    return "" if size_bytes is None else f"{digits(size_bytes / 1e6)} MB"


def _unit(seconds: float) -> tuple[float, str]:
    for scale, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if seconds * scale >= 1:
            return scale, unit
    return 1e9, "ns"


def digits(value: float | None) -> str:
    """Three significant digits, without an exponent where one can do without.

    Examples
    --------
    >>> digits(12.345), digits(123.4), digits(1234.5), digits(0.0), digits(1e30)
    ('12.3', '123', '1234', '0', '1e+30')
    """
    if value is None:
        return ""
    if 1e-3 <= value < 1000:
        return f"{value:#.3g}".rstrip(".")
    return f"{value:.0f}" if 1000 <= value < 1e6 or value == 0 else f"{value:.2g}"
