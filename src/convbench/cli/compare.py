"""``convbench compare``."""

from __future__ import annotations

import argparse
import platform
from dataclasses import replace

from convbench.cli.arguments import (
    add_against,
    add_delta,
    add_demands,
    add_results_dir,
    chosen_demands,
    chosen_folder,
)
from convbench.cli.output import emit, say, show
from convbench.machine.git import ancestors, full_hash

HELP = "say what became wrong, slower or better between two measured commits, and how sure"
DESCRIPTION = """\
Each cell of HEAD is held against the same cell of BASE: its output, its time and its memory.
What is wrong outranks what is slow, and what is slow is claimed only beyond the noise between
processes. A side is REVISION[:ENVIRONMENT[:MACHINE]]; parts of the names do if they are unique.
docs/comparing.md says what the verdicts mean."""
EPILOG = """\
examples:
  convbench compare HEAD~1 HEAD
  convbench compare HEAD:2.20 HEAD:2.21 --delta 2
  convbench compare main HEAD --require-power 5%         would 5 % have been seen everywhere?
  convbench compare main HEAD --against v1.0             have small steps added up since?
  convbench compare main HEAD --format markdown > comment.md

exit codes: 2 head is wrong, failed or skipped where base was right; else 1 something is slower;
else 3 nothing could be compared, a cell of base is missing in head, what is slower is suspect
(the machine was slower, too; see --suspects), or what --require-power or --strict demand is not
so; else 0; 4 bad input, 70 a defect of convbench.
0 with something undecided does not say that nothing is slower: --strict makes that 3"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("base", metavar="BASE", help="measured before")
    parser.add_argument("head", metavar="HEAD", help="measured after")
    add_delta(parser)
    parser.add_argument(
        "--bench", metavar="REGEX", help="only what matches, as in `asv run --bench`"
    )
    parser.add_argument(
        "--format", choices=("text", "markdown", "json", "junit"), default="text",
        help="markdown fits a comment on GitHub; default: text",
    )  # fmt: skip
    parser.add_argument("--all", action="store_true", help="show the cells that are equal, too")
    add_against(parser)
    add_demands(parser)
    add_results_dir(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; its exit code."""
    from convbench.comparing.comparison import Rule
    from convbench.comparing.judge import against, compare
    from convbench.comparing.junit import junit
    from convbench.comparing.markdown import markdown
    from convbench.comparing.sides import (
        Coordinate,
        choose_sides,
        find_commit,
        references,
        what_is_there,
    )
    from convbench.comparing.text import render
    from convbench.results import gates
    from convbench.results.calibration import between
    from convbench.results.machines import names
    from convbench.results.records import load

    base, head = (Coordinate.parse(side, "compare") for side in (arguments.base, arguments.head))
    folder = chosen_folder(arguments)
    called, here = names(folder), platform.node()
    base, head = base.called(called), head.called(called)
    rule, demands = Rule(delta=arguments.delta), chosen_demands(arguments)
    named = folder.named_commits()
    first, second = (
        find_commit(side.revision, named, full_hash, "compare") for side in (base, head)
    )
    loaded = load(folder.results, {first, second})
    of_gates = gates.load(folder.results, gates.between(first, second))
    problems = [*loaded.problems, *of_gates.problems]
    for problem in problems:
        say(problem)
    sides = choose_sides(
        base, head, (first, second), loaded.records, called.get(here, here), "compare"
    )
    measured_both = all(side.records for side in sides)
    # A gate alone has no choice of places, so that a place that is named is none of its.
    placed = any(side.environment or side.machine for side in (base, head))
    known = of_gates.gates if measured_both or not placed else ()
    head_side = sides[1]
    sessions = between(folder, head_side.machine, head_side.environment)
    comparison = compare(*sides, rule, arguments.bench, known, sessions)
    comparison = replace(comparison, demands=demands)
    if arguments.against and measured_both:
        asked = arguments.against
        others = references(asked, head_side, folder, full_hash, ancestors, "compare")
        held = against(asked, head_side, others, rule, arguments.bench, sessions)
        comparison = replace(comparison, against=held)
    if not comparison.cells and not measured_both:
        say(f"{what_is_there(folder)}; `convbench bench` measures")

    match arguments.format:
        case "markdown":
            emit(markdown(comparison))
        case "junit":
            emit(junit(comparison).decode())
        case _:
            show(
                arguments,
                "compare",
                lambda: comparison.to_dict() | {"problems": problems},
                lambda: render(comparison, everything=arguments.all),
            )
    return comparison.exit_code()
