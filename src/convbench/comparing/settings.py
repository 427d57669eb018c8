"""What differs in how two sides were measured: versions, settings, parts of the machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from convbench.comparing.comparison import (
    Change,
)
from convbench.comparing.sides import Side
from convbench.results.records import Record

_SETTINGS = ("versions", "machine")
_CARD = ("name", "driver", "memory_total_mib", "power_limit_w")
"""Of what is known of a GPU, that which stays."""


def changes(base: Side, head: Side) -> tuple[Change, ...]:
    """What differs in how the targets that both sides have were measured, by name."""
    settings = [_settings(side.records) for side in (base, head)]
    found: dict[tuple[str, str, str], list[str]] = {}
    for target, block in sorted(settings[0].keys() & settings[1].keys()):
        before, after = (side[target, block] for side in settings)
        for name in sorted(before.keys() | after.keys()):
            one, other = (", ".join(sorted(side.get(name, ()))) for side in (before, after))
            if one != other and target not in found.setdefault((name, one, other), []):
                found[name, one, other].append(target)
    return tuple(
        Change(name, one, other, tuple(targets))
        for (name, one, other), targets in sorted(found.items())
    )


def _settings(records: Iterable[Record]) -> dict[tuple[str, str], dict[str, set[str]]]:
    """All values of each setting, by target and by the fact that holds it."""
    found: dict[tuple[str, str], dict[str, set[str]]] = {}
    seen: set[tuple[str, str, int]] = set()
    for record in records:
        for fact in (*_SETTINGS, "launch", "gpu", "gpus", "driver"):
            value = record.facts.get(fact)
            # The records of a process share what it has said of itself.
            if not value or (record.target, fact, id(value)) in seen:
                continue
            seen.add((record.target, fact, id(value)))
            names = found.setdefault((record.target, fact), {})
            for name, text in flat("" if fact in _SETTINGS else fact, value):
                names.setdefault(name, set()).add(text)
    return found


def flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Names and values of nested tables."""
    match value:
        case {"name": _, **card}:
            for key in _CARD:
                if key in value:
                    yield f"{name} {key}", str((card | {"name": value["name"]})[key])
        case dict():
            for key, item in value.items():
                yield from flat(str(key), item)
        case [dict(), *_]:
            for i, item in enumerate(value):
                yield from flat(f"{name} {i}", item)
        case list() | tuple():
            yield name, " ".join(map(str, value))
        case _:
            yield name, str(value)
