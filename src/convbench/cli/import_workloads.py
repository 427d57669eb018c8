"""``convbench workloads import``."""

from __future__ import annotations

import argparse
import contextlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convbench.cli.output import EXIT_CODES, as_json, emit, say
from convbench.errors import WorkloadError
from convbench.stimulus.workloads import TIERS
from convbench.words.numbers import count
from convbench.words.status import Exit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convbench.stimulus.elsewhere.layers import Layer
    from convbench.stimulus.workloads import Workload

HELP = "read workloads from a model or from another benchmark"
DESCRIPTION = """\
The convolutions and pools of

  FILE.onnx                 an ONNX model: needs the library onnx; nothing in the file is run
  package.module:factory    a PyTorch or Keras model: the factory, which is your own code, is
                            run, and its model is called once on zeros of --shape
  ic3ih227oc96oh55kh11sh4   a problem of benchdnn; its knobs come first, in the same word:
                            "--dir=FWD_D ic3ih227oc96oh55kh11sh4"
  FILE                      lines of those

as a file of workloads, which --workloads of every command reads, and which a project adds
with [tool.convbench] workloads = ["FILE.toml"]. Layers that are equal are one row, whose
source says how many there are. What no row can express is listed with the reason: three
axes or one, transposed, sizes that are not known.

In ONNX a bias and a pool are in the row of the convolution that they follow, if nobody else
reads what is between. Activations are left out: a pipeline has none."""
EPILOG = f"""\
examples:
  convbench workloads import resnet50.onnx --output resnet50.toml
  convbench verify --workloads resnet50.toml
  convbench workloads import net.onnx --shape 8x3x224x224
  convbench workloads import torchvision.models:resnet18 --shape 1x3x224x224
  convbench workloads import mb1ic3ih224oc64oh112kh7sh2ph3 --json

{EXIT_CODES}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("origins", nargs="+", metavar="FILE_OR_MODEL")
    parser.add_argument(
        "--shape", action="append", type=_shape, default=[], metavar="1x3x224x224",
        help="of an input, in the layout of the model; once for each of its inputs. A factory"
        " needs it, and ONNX where sizes are left open",
    )  # fmt: skip
    parser.add_argument(
        "--tier", choices=TIERS, default=TIERS[0],
        help="the smallest list that has the rows; default: smoke, so that every command has them",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, metavar="FILE.toml", help="default: standard output")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; its exit code."""
    from convbench.machine import files
    from convbench.stimulus.elsewhere import read
    from convbench.stimulus.elsewhere.layers import fold, to_toml

    layers = [it for origin in arguments.origins for it in read(origin, arguments.shape)]
    left_out = [it for it in layers if it.pipeline is None]
    workloads = fold(layers, arguments.tier)
    for it in left_out:
        say(f"left out: {it.source}, {it.name}: {it.reason}")
    if arguments.format == "json":
        emit(as_json("workloads.import", _listed(workloads, left_out)))
    if not workloads:
        raise WorkloadError(
            f"workloads import: the number of rows is 0, of {len(layers)} layers; expected a "
            "convolution or a pool that a row can express. Choose another model."
        )
    shapes = [f"--shape={'x'.join(map(str, shape))}" for shape in arguments.shape]
    command = shlex.join(["convbench", "workloads", "import", *arguments.origins, *shapes])
    text = to_toml(workloads, left_out, command)
    if arguments.output is not None:
        files.write(arguments.output, text)
    counted = sum(it.count for it in layers if it.pipeline is not None)
    found = f"{count(len(workloads), 'workload')} of {count(counted, 'layer')}"
    say(
        f"{found}, {len(left_out)} left out"
        + f"; in {arguments.output}" * (arguments.output is not None)
    )
    if arguments.format == "text" and arguments.output is None:
        emit(text)
    return Exit.OK


def _listed(workloads: Sequence[Workload], left_out: Sequence[Layer]) -> dict[str, Any]:
    return {
        "workloads": [
            {"name": w.name, "tier": w.tier, "source": w.source, "pipeline": w.pipeline.to_dict()}
            for w in workloads
        ],
        "left_out": [
            {"source": it.source, "layer": it.name, "reason": it.reason} for it in left_out
        ],
    }


def _shape(text: str) -> tuple[int, ...]:
    """Sizes with an x between them."""
    with contextlib.suppress(ValueError):
        sizes = tuple(map(int, text.split("x")))
        if all(0 < size < 2**31 for size in sizes):
            return sizes
    raise argparse.ArgumentTypeError(f"{text!r} is not a shape as 1x3x224x224")
