"""``convbench notebook``."""

from __future__ import annotations

import argparse

from convbench.cli.arguments import add_target, seed
from convbench.cli.output import EXIT_CODES, say, show

HELP = "do what the notebook meant to do, on every backend present"
DESCRIPTION = """\
The 5x5x3 example that convbench grew from: a convolution with a bias, and a pool of the
same input, drawn from a seed, computed on every target and held against the oracle."""
EPILOG = f"""\
examples:
  convbench notebook
  convbench notebook --seed 3 --target numpy@cpu --json

{EXIT_CODES}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="default: 0")
    add_target(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; its exit code."""
    from convbench.backends.survey import choose_targets
    from convbench.correctness.notebook import render, run_notebook

    say("looking for backends ...")
    notebook = run_notebook(arguments.seed, choose_targets(arguments.target))
    show(arguments, "notebook", notebook.to_dict, lambda: render(notebook))
    return notebook.exit_code()
