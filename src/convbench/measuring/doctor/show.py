"""A diagnosis for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from convbench.measuring.doctor.evidence import (
    CONFIDENCE,
    GROUP,
    POWER,
    Diagnosis,
    Fitness,
    Level,
    Noise,
)
from convbench.words.numbers import duration, share, size
from convbench.words.table import Column, Table, line, stacked

if TYPE_CHECKING:
    from rich.console import RenderableType

_STYLES = {
    Level.GOOD: "green",
    Level.CARE: "yellow",
    Level.BAD: "bold red",
    Fitness.FIT: "green",
    Fitness.CARE: "yellow",
    Fitness.UNFIT: "bold red",
}


def render(diagnosis: Diagnosis, *, interrupted: bool = False) -> RenderableType:
    """Lay out the findings, the figures of the timing, and the verdict."""
    from rich.table import Table as Grid  # noqa: PLC0415

    findings = Grid.grid(padding=(0, 2))
    for no_wrap in (True, True, False):
        findings.add_column(no_wrap=no_wrap)
    for finding in diagnosis.findings:
        text = ". ".join(filter(None, (finding.found, finding.to_do)))
        findings.add_row(
            line(finding.level, style=_STYLES[finding.level]), line(finding.topic), line(text)
        )
    facts = diagnosis.evidence.facts
    parts: list[RenderableType] = [line(_machine(facts), style="bold"), findings] if facts else []
    if diagnosis.noise:
        parts += [_table(diagnosis.noise), line(_LEGEND, style="dim"), line()]
    counts = ", ".join(
        f"{sum(finding.level is level for finding in diagnosis.findings)} {level}"
        for level in reversed(Level)
    )
    verdict = f"{diagnosis.fitness}: {counts}"
    if interrupted:
        verdict += "; interrupted, so there is more that was not looked at"
    elif not diagnosis.evidence.asked_s:
        verdict += "; nothing was timed, and settings alone do not show how steady a machine is"
    parts.append(line(verdict, style=_STYLES[diagnosis.fitness]))
    return stacked(parts)


def _table(noise: Sequence[Noise]) -> Table:
    threads = ["all" if one.threads is None else str(one.threads) for one in noise]
    columns = (
        Column("the same code", [one.workload for one in noise], "name"),
        Column("threads", threads),
        Column("n", [str(one.processes) for one in noise]),
        Column("median", [duration(one.median_s) for one in noise]),
        Column("inside", [share(one.within) for one in noise]),
        Column("between", [share(one.between) for one in noise]),
        Column("extremes", [extremes(one) for one in noise]),
        Column("> 5 %", [share(one.beyond_5) for one in noise]),
        Column("> 10 %", [share(one.beyond_10) for one in noise]),
        Column("finds", [share(one.effect) for one in noise]),
    )
    return Table(columns, ("> 10 %", "> 5 %", "extremes", "inside"))


_LEGEND = (
    "n processes. inside: half the range between the quartiles of one. between: robust SD of their"
    f" medians. > 5 %: how often {GROUP} against {GROUP} processes are so far apart. finds: the"
    f" smallest slow-down that {GROUP} against {GROUP} show in {share(POWER)} of comparisons, at"
    f" {share(CONFIDENCE)} confidence."
)


def _machine(facts: Mapping[str, Any]) -> str:
    return ", ".join(
        str(part)
        for part in (
            facts.get("cpu_model"),
            f"{facts['logical_cores']} of {facts.get('machine_cores', '?')} cores",
            size(facts.get("memory_bytes")),
            facts.get("os"),
            facts.get("kernel"),
            facts.get("python"),
        )
        if part
    )


def extremes(one: Noise) -> str:
    """How far the fastest and the slowest process are from the median."""
    return f"{one.fastest * 100:+.0f}..{one.slowest * 100:+.0f} %"
