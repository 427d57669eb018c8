"""A diagnosis for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from convbench.measuring.doctor.evidence import (
    CONFIDENCE,
    GROUP,
    POWER,
    Diagnosis,
    Level,
    Series,
    Verdict,
)

# -- showing ---------------------------------------------------------------------------------------

_STYLE = {Level.GOOD: "green", Level.CARE: "yellow", Level.BAD: "bold red"}
_VERDICT_STYLE = {Verdict.FIT: "green", Verdict.CARE: "yellow", Verdict.UNFIT: "bold red"}


def render(diagnosis: Diagnosis, *, interrupted: bool = False) -> RenderableType:
    """Lay out the findings, the figures of the timing, and the verdict."""
    lines = Table.grid(padding=(0, 2))
    lines.add_column(no_wrap=True)
    lines.add_column(no_wrap=True)
    lines.add_column()
    for finding in diagnosis.findings:
        text = ". ".join(filter(None, (finding.found, finding.to_do)))
        lines.add_row(Text(finding.level, style=_STYLE[finding.level]), finding.topic, Text(text))
    facts = diagnosis.evidence.facts
    parts: list[RenderableType] = [Text(_machine(facts), style="bold"), lines] if facts else []
    if diagnosis.series:
        parts += [Text(), _table(diagnosis.series), Text(_LEGEND, style="dim"), Text()]
    counts = ", ".join(
        f"{sum(finding.level is level for finding in diagnosis.findings)} {level}"
        for level in reversed(Level)
    )
    verdict = f"{diagnosis.verdict}: {counts}"
    if interrupted:
        verdict += "; interrupted, so there is more that was not looked at"
    elif not diagnosis.evidence.asked_s:
        verdict += "; nothing was timed, and settings alone do not show how steady a machine is"
    parts.append(Text(verdict, style=_VERDICT_STYLE[diagnosis.verdict]))
    return Group(*parts)


def percent(share: float) -> str:
    """Two digits; - for nan."""
    if math.isnan(share):
        return "-"
    return f"{share * 100:.2g} %" if share < 0.1 else f"{share * 100:.0f} %"


def _table(series: Sequence[Series]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    table.add_column("the same code", no_wrap=True)
    titles = ("threads", "n", "median", "inside", "between", "extremes", "> 5 %", "> 10 %", "finds")
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for one in series:
        shares = (one.beyond_5, one.beyond_10, one.effect)
        table.add_row(
            one.workload,
            "all" if one.threads is None else str(one.threads),
            str(one.processes),
            took(one.median_s),
            percent(one.within),
            percent(one.between),
            _range(one),
            *map(percent, shares),
        )
    return table


_LEGEND = (
    "n processes. inside: half the range between the quartiles of one. between: robust SD of their"
    f" medians. > 5 %: how often {GROUP} against {GROUP} processes are so far apart. finds: the"
    f" smallest slow-down that {GROUP} against {GROUP} show in {percent(POWER)} of comparisons, at"
    f" {percent(CONFIDENCE)} confidence."
)


def _machine(facts: Mapping[str, Any]) -> str:
    size = facts.get("memory_bytes")
    return ", ".join(
        str(part)
        for part in (
            facts.get("cpu_model"),
            f"{facts['logical_cores']} of {facts.get('machine_cores', '?')} cores",
            gib(size) if size else None,
            facts.get("os"),
            facts.get("kernel"),
            facts.get("python"),
        )
        if part
    )


def _range(one: Series) -> str:
    return f"{one.fastest * 100:+.0f}..{one.slowest * 100:+.0f} %"


def took(seconds: float) -> str:
    """Three digits and a unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def gib(size: float) -> str:
    """As in 7.5 GiB."""
    return f"{size / 2**30:.1f} GiB"
