"""``convbench backends``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from convbench.cli.output import say, show
from convbench.words.status import Exit

if TYPE_CHECKING:
    from rich.console import RenderableType


HELP = "list backends and devices, or why they cannot be used"


def run(arguments: argparse.Namespace) -> int:
    """Run the command; its exit code."""
    from convbench.backends.survey import survey

    say("looking for backends ...")
    presences = survey()

    def listed() -> dict[str, Any]:
        return {
            "backends": [
                {
                    "name": p.name,
                    "devices": list(p.devices),
                    "variants": list(p.variants),
                    "versions": dict(p.versions),
                    "targets": [str(target) for target in p.targets()],
                    "missing": [
                        {"target": str(t), "reason": a.reason, "remedy": a.remedy}
                        for t, a in p.missing().items()
                    ],
                }
                for p in presences
            ]
        }

    def table() -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        parts: list[RenderableType] = []
        for p in presences:
            parts.append(Text(p.name, style="bold"))
            parts += [Text(f"  {target}", style="green") for target in p.targets()]
            if p.versions:
                versions = ", ".join(f"{name} {value}" for name, value in p.versions.items())
                parts.append(Text(f"    {versions}"))
            for target, absence in p.missing().items():
                parts.append(Text(f"  {target}  {absence.reason}", style="yellow"))
                parts += [Text(f"    {absence.remedy}")] if absence.remedy else []
        return Group(*parts)

    show(arguments, "backends", listed, table)
    return Exit.OK if any(p.devices for p in presences) else Exit.NOTHING
