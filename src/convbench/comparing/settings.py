"""What differs in how two sides were measured: versions, settings, parts of the machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from convbench.comparing.comparison import Change
from convbench.comparing.sides import Side
from convbench.results.records import Record

_CARD = ("name", "driver", "memory_total_mib")
"""Of what is known of a GPU, that which stays."""


def changes(base: Side, head: Side) -> tuple[Change, ...]:
    """What differs in how the targets that both sides have were measured, by name."""
    facts = ("versions", "machine", "launch")
    found_in = [settings(side.records, facts) for side in (base, head)]
    found: dict[tuple[str, str, str], list[str]] = {}
    for target, block in sorted(found_in[0].keys() & found_in[1].keys()):
        before, after = (side[target, block] for side in found_in)
        for name in sorted(before.keys() | after.keys()):
            one, other = (", ".join(sorted(side.get(name, ()))) for side in (before, after))
            if one != other and target not in found.setdefault((name, one, other), []):
                found[name, one, other].append(target)
    return tuple(
        Change(name, one, other, tuple(targets))
        for (name, one, other), targets in sorted(found.items())
    )


def settings(
    records: Iterable[Record], facts: Sequence[str]
) -> dict[tuple[str, str], dict[str, set[str]]]:
    """All values of each setting, by target and by the fact that holds it."""
    found: dict[tuple[str, str], dict[str, set[str]]] = {}
    seen: set[tuple[str, str, int]] = set()
    for record in records:
        for fact in facts:
            value = record.facts.get(fact)
            # The records of a process share what it has said of itself.
            if not value or (record.target, fact, id(value)) in seen:
                continue
            seen.add((record.target, fact, id(value)))
            names = found.setdefault((record.target, fact), {})
            for name, text in _flat(fact, value):
                if name == "fingerprint":  # its parts are told
                    continue
                names.setdefault(name, set()).add(text)
    return found


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Names and values of nested tables."""
    match value:
        case {"name": _}:
            yield from ((f"{name} {key}", str(value[key])) for key in _CARD if key in value)
        case dict():
            for key, item in value.items():
                yield from _flat(str(key), item)
        case [dict(), *_]:
            for i, item in enumerate(value):
                yield from _flat(f"{name} {i}", item)
        case list() | tuple():
            yield name, " ".join(map(str, value))
        case None:
            pass
        case _:
            yield name, str(value)
