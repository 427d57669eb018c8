"""``convbench workloads``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from convbench.cli.arguments import add_selection, chosen_workloads
from convbench.cli.output import show
from convbench.words.status import Exit

if TYPE_CHECKING:
    from rich.console import RenderableType


HELP = "list the workloads with their sizes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_selection(parser, default="full")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; its exit code."""
    chosen = chosen_workloads(arguments)

    def listed() -> dict[str, Any]:
        return {
            "workloads": [
                {
                    "name": w.name,
                    "tier": w.tier,
                    "source": w.source,
                    "pipeline": w.pipeline.to_dict(),
                    "output_shape": list(w.pipeline.output_shape),
                    "flops": w.pipeline.flops,
                    "bytes_float32": w.pipeline.bytes(4),
                }
                for w in chosen
            ]
        }

    def table() -> RenderableType:
        from rich.table import Table

        rows = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("workload", "tier", "pipeline", "output"):
            rows.add_column(title, no_wrap=True)
        for title in ("GFLOP", "MB"):
            rows.add_column(title, justify="right")
        for w in chosen:
            rows.add_row(
                w.name, w.tier, str(w.pipeline), "x".join(map(str, w.pipeline.output_shape)),
                f"{w.pipeline.flops / 1e9:.3g}", f"{w.pipeline.bytes(4) / 1e6:.3g}",
            )  # fmt: skip
        return rows

    show(arguments, "workloads", listed, table)
    return Exit.OK
