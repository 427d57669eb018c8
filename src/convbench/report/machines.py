"""What was measured where, and with what; and in what the environments of the sides differ."""

from __future__ import annotations

from collections.abc import Iterator

from convbench.comparing.settings import settings
from convbench.words.numbers import date

from .data import Data, measured_at
from .parts import Facts, Nothing, Part, Table, Text


def parts(data: Data) -> Iterator[Part]:
    """All places with results, and what is known of the head's."""
    past = data.history
    places = dict.fromkeys((series.machine, series.environment) for series in past.series)
    if not places and not data.head.records:
        yield Nothing("nothing was measured on any machine")
        return
    rows = []
    for machine, environment in places:
        series, commits = measured_at(past, machine, environment)
        if not commits:
            continue
        ends = [date(past.times_s[commits[i]]) for i in (0, -1)]
        facts = ", ".join(f"{k} {v}" for k, v in data.machines.get(machine, {}).items())
        rows.append((machine, environment, str(len(commits)), str(len(series)), *ends, facts))
    if rows:
        yield Table.of(
            "Where there are results",
            "machine | ^ environment | > commits | > series | first | latest | known to asv",
            rows,
            folded=False,
        )
    else:
        yield Text("asv's files have no numbers yet: those of the head are in the evidence.")
    yield from _head(data)


def changes(data: Data) -> Iterator[Part]:
    """Versions, settings and parts of the machine that head and base do not share."""
    if data.comparison is None:
        yield Nothing("there is no base")
        return
    if not data.comparison.changes:
        yield Nothing("what is known of the two environments and of their machines is the same")
        return
    yield Table.of(
        "What differs",
        "what | base | head | targets",
        (
            (c.name, c.base or "not set", c.head or "not set", ", ".join(c.targets))
            for c in data.comparison.changes
        ),
        folded=False,
    )


def _head(data: Data) -> Iterator[Part]:
    machine: dict[str, str] = {}
    versions: dict[tuple[str, str], list[str]] = {}
    for (target, fact), names in settings(data.head.records, ("machine", "versions")).items():
        for name, text in ((name, text) for name, texts in names.items() for text in sorted(texts)):
            if fact == "machine":
                machine[name] = text
            else:
                versions.setdefault((name, text), []).append(target)
    if machine:
        yield Text("The head's machine, in its own words:")
        yield Facts.of(machine.items())
    else:
        yield Text("The head's machine left no description of itself.")
    if versions:
        yield Table.of(
            "Versions and settings of the head",
            "library or setting | value | targets",
            ((name, text, ", ".join(of)) for (name, text), of in sorted(versions.items())),
        )
