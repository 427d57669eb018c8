"""``convbench results``."""

from __future__ import annotations

import argparse
from pathlib import Path

from convbench.cli.arguments import add_results_dir, chosen_folder
from convbench.cli.output import EXIT_CODES, picture, say, show
from convbench.machine.files import write
from convbench.machine.git import full_hash
from convbench.words.status import Exit
from convbench.words.table import line, stacked

HELP = "show what asv measured: time, GFLOP/s, error over bound, status"
DESCRIPTION = """\
A row is a workload on a target: the median time of a call, what that is in operations a
second and of what the machine could do at most, and the error against the float64 oracle
as a share of what rounding may do. Below are the reasons for what has no number.
Of suites that are none of convbench's there is what asv has: a time, a memory or a number."""
EPILOG = f"""\
examples:
  convbench results            the commit that was measured last
  convbench results HEAD --json

{EXIT_CODES}.
Without COMMIT it is 3, too, if nothing was measured of git's HEAD"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("commit", nargs="?", help="default: the one that was measured last")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="also draw the table as a picture")
    add_results_dir(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; its exit code."""
    from convbench.comparing.sides import find_commit, unmeasured_head, what_is_there
    from convbench.results.folder import short
    from convbench.results.records import load
    from convbench.results.rows import exit_code, render, summarise, to_dict

    folder = chosen_folder(arguments)
    unmeasured = ""
    if arguments.commit is None:
        measured = folder.measured_commits()
        commits = measured[:1]
        elsewhere = arguments.results_dir is not None
        unmeasured = unmeasured_head(measured, full_hash, elsewhere=elsewhere)
    else:
        commits = [find_commit(arguments.commit, folder.named_commits(), full_hash, "results")]
    loaded = load(folder.results, commits)
    for problem in loaded.problems:
        say(problem)
    rows = summarise(loaded.records)
    if not rows:
        say(
            f"nothing was measured of {arguments.commit or 'any commit'}:"
            f" {what_is_there(folder)}; `convbench bench` measures"
        )
    if arguments.svg:
        write(arguments.svg, picture(render(rows), "convbench results").encode())
    missing = ""
    if not rows and commits:
        unmeasured = commits[0]
        missing = f"NOTHING MEASURED of {short(unmeasured)}: `convbench bench` measures it"
    elif unmeasured:
        follows = f"; what follows is of {short(commits[0])}" if rows else ""
        missing = f"HEAD WAS NOT MEASURED: nothing of {short(unmeasured)}{follows}"
    code = Exit.NOTHING if unmeasured else exit_code(rows)
    show(
        arguments,
        "results",
        lambda: {
            "exit_code": code, "unmeasured": unmeasured, **to_dict(rows, loaded.problems)
        },
        lambda: stacked([line(missing, style="bold yellow"), render(rows)]) if missing
        else render(rows),
    )  # fmt: skip
    return code
