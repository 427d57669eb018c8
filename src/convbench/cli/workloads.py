"""``convbench workloads``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from convbench.cli import import_workloads
from convbench.cli.arguments import add_command, add_selection, chosen_workloads
from convbench.cli.output import EXIT_CODES, show
from convbench.words.numbers import si, size
from convbench.words.status import Exit
from convbench.words.table import Column, Table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from convbench.stimulus.workloads import Workload


HELP = "list the workloads with their sizes"
DESCRIPTION = """\
A workload is a pipeline of convolution, bias and pool with the name that its results are
stored under: a row of convbench's own, or of a file that the project adds. Operations are
those of the direct method; the bytes are of input, weights and output, each counted once."""
EPILOG = f"""\
examples:
  convbench workloads --list standard
  convbench workloads --workload vgg16.conv1_2 --json
  convbench workloads import resnet50.onnx --output resnet50.toml

{EXIT_CODES}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_selection(parser, default="full")
    actions = parser.add_subparsers(title="or", metavar="import")
    add_command(actions, "import", import_workloads)


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

    show(arguments, "workloads", listed, lambda: render(chosen))
    return Exit.OK


def render(workloads: Sequence[Workload]) -> RenderableType:
    """Lay out what they are, and what they cost."""
    pipelines = [w.pipeline for w in workloads]
    columns = (
        Column("workload", [w.name for w in workloads], "name"),
        Column("tier", [w.tier for w in workloads], "word"),
        Column("pipeline", list(map(str, pipelines)), "name"),
        Column("output", ["x".join(map(str, p.output_shape)) for p in pipelines], "name"),
        Column("operations", [si(p.flops, "FLOP") for p in pipelines]),
        Column("as float32", [size(p.bytes(4)) for p in pipelines]),
    )
    return Table(columns, ("tier", "as float32"))
