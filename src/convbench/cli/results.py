"""``convbench results``."""

from __future__ import annotations

import argparse
from pathlib import Path

from convbench.cli.arguments import add_results_dir
from convbench.cli.output import EXIT_CODES, picture, say, show
from convbench.errors import InputError
from convbench.machine.files import write
from convbench.machine.git import full_hash

HELP = "show what asv measured: time, GFLOP/s, error over bound, status"
DESCRIPTION = """\
A row is a workload on a target: the median time of a call, what that is in operations a
second and of what the machine could do at most, and the error against the float64 oracle
as a share of what rounding may do. Below are the reasons for what has no number."""
EPILOG = f"""\
examples:
  convbench results            the commit that was measured last
  convbench results HEAD --json

{EXIT_CODES}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("commit", nargs="?", help="default: the one that was measured last")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="also draw the table as a picture")
    add_results_dir(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; its exit code."""
    from convbench.results.folder import short
    from convbench.results.records import latest_commit, load
    from convbench.results.rows import exit_code, summarise, to_dict
    from convbench.results.table import render

    loaded = load(arguments.results_dir)
    for problem in loaded.problems:
        say(problem)
    measured = sorted({record.commit for record in loaded.records})
    latest = latest_commit(loaded.records)
    if arguments.commit is None:
        commits = [latest] if latest else []
    else:
        name = full_hash(arguments.commit) or arguments.commit
        commits = [commit for commit in measured if commit.startswith(name)]
    if len(commits) > 1:
        raise InputError(
            f"results: the commit is {arguments.commit!r}; expected the start of one of "
            f"{', '.join(c[:12] for c in commits)}. Give more of the hash."
        )
    rows = summarise(record for record in loaded.records if record.commit in commits)
    if not rows:
        known = ", ".join(map(short, measured)) or "no results"
        say(
            f"nothing measured for {arguments.commit or 'any commit'} in {arguments.results_dir};"
            f" it has {known}. `make bench` measures."
        )
    if arguments.svg:
        write(arguments.svg, picture(render(rows), "convbench results").encode())
    show(arguments, "results", lambda: to_dict(rows, loaded.problems), lambda: render(rows))
    return exit_code(rows)
