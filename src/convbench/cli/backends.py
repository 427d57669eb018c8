"""``convbench backends``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from convbench.cli.output import EXIT_CODES, say, show
from convbench.words.status import Exit, Status
from convbench.words.table import Column, Table, remark, stacked

if TYPE_CHECKING:
    from rich.console import RenderableType

    from convbench.backends.survey import Presence


HELP = "list backends and devices, or why they cannot be used"
DESCRIPTION = """\
A target is backend[.variant]@device. Each library is looked for in a process of its own,
so that one that is broken costs nothing but its own line. Backends of other distributions
are found by their entry points."""
EPILOG = f"""\
examples:
  convbench backends
  convbench backends --json | jq -r '.backends[].targets[]'

{EXIT_CODES}"""


def run(arguments: argparse.Namespace) -> int:
    """Run the command; its exit code."""
    from convbench.backends import contested
    from convbench.backends.survey import survey

    say("looking for backends ...")
    presences = survey()
    for said in contested():
        say(f"WARNING: {said}")

    def listed() -> dict[str, Any]:
        return {
            "backends": [
                {
                    "name": p.name,
                    "devices": list(p.devices),
                    "variants": list(p.variants),
                    "versions": dict(p.versions),
                    "origin": p.origin and asdict(p.origin),
                    "targets": [str(target) for target in p.targets()],
                    "missing": [
                        {"target": str(t), "reason": a.reason, "remedy": a.remedy}
                        for t, a in p.missing().items()
                    ],
                }
                for p in presences
            ]
        }

    show(arguments, "backends", listed, lambda: render(presences))
    return Exit.OK if any(p.devices for p in presences) else Exit.NOTHING


def render(presences: Sequence[Presence]) -> RenderableType:
    """Lay out what is there with its versions, and why the rest is not."""
    present = [(str(target), p) for p in presences for target in p.targets()]
    versions = [", ".join(f"{n} {v}" for n, v in p.versions.items()) for _, p in present]
    columns = (
        Column("target", [(target, "green") for target, _ in present], "name"),
        Column("versions", versions, "name"),
    )
    parts: list[RenderableType] = [Table(columns)]
    for target, why in (item for p in presences for item in p.missing().items()):
        parts += remark(Status.SKIPPED, f"{target}: {why.reason}", [why.remedy], "yellow")
    return stacked(parts)
