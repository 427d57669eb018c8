"""What differs between the environments of head and base."""

from __future__ import annotations

from collections.abc import Iterator

from .data import Data
from .parts import Part, Section, Table, Text


def section(data: Data) -> Section:
    """Versions, settings and parts of the machine that the sides do not share."""
    return Section("changes", "Environment differences", tuple(_parts(data)))


def _parts(data: Data) -> Iterator[Part]:
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
