"""What was measured where, and with what; and in what the environments of the sides differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from convbench.words.numbers import date

from .data import Data, measured_at
from .parts import Facts, Part, Table, Text


def parts(data: Data) -> Iterator[Part]:
    """All places with results, and what is known of the head's."""
    past = data.history
    places = dict.fromkeys((series.machine, series.environment) for series in past.series)
    if not places and not data.head.records:
        yield Text("Nothing was measured on any machine.")
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
            "machine | environment | > commits | > series | first | latest | known to asv",
            rows,
            folded=False,
        )
    else:
        yield Text("asv's files have no numbers yet: those of the head are in the evidence.")
    yield from _head(data)


def changes(data: Data) -> Iterator[Part]:
    """Versions, settings and parts of the machine that head and base do not share."""
    if data.comparison is None:
        yield Text("There is no base, so there is no environment to compare with.")
        return
    if not data.comparison.changes:
        yield Text("What is known of the two environments and of their machines is the same.")
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
    seen: set[tuple[str, int]] = set()
    for record in data.head.records:
        for fact in ("machine", "versions"):
            value = record.facts.get(fact)
            # The records of a process share what it has said of itself.
            if not isinstance(value, Mapping) or (record.target, id(value)) in seen:
                continue
            seen.add((record.target, id(value)))
            if fact == "machine":
                machine |= dict(_flat("", value))
                continue
            for name, text in _flat("", value):
                of = versions.setdefault((name, text), [])
                if record.target not in of:
                    of.append(record.target)
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


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    """Names and values of nested tables and lists."""
    match value:
        case dict():
            for key, item in value.items():
                yield from _flat(f"{prefix} {key}".strip(), item)
        case [dict(), *_]:
            for i, item in enumerate(value):
                yield from _flat(f"{prefix} {i}", item)
        case list() | tuple():
            yield prefix, " ".join(map(str, value))
        case None:
            pass
        case _:
            yield prefix, str(value)
