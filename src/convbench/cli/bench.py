"""``convbench bench``."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convbench.cli.arguments import (
    add_list,
    add_require,
    all_workloads,
    count,
    here,
    installed_copies,
    positive,
)
from convbench.cli.output import EXIT_CODES, say, show, until_interrupted, with_progress
from convbench.errors import InputError
from convbench.machine.git import changes, full_hash
from convbench.stimulus.workloads import TIERS, Workload, select
from convbench.words.numbers import duration, share
from convbench.words.status import Exit, Status

if TYPE_CHECKING:
    from convbench.auditing.judge import Judge
    from convbench.machine.project import Project
    from convbench.measuring.bench import Bench, Done

HELP = "measure the working tree with asv's suites, each cell in several fresh processes"
DESCRIPTION = """\
Results are filed under HEAD, where asv finds them, after every round; a run that was
interrupted is continued by the next one. `asv run` measures other commits."""
EPILOG = f"""\
examples:
  convbench bench --list standard
  convbench bench --bench 'bench_pipeline.*numpy@cpu' --rounds 10

{EXIT_CODES}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_list(parser, default="smoke")
    parser.add_argument(
        "--bench", action="append", metavar="REGEX",
        help="only what matches, as in `asv run --bench`; repeatable; instead of --list",
    )  # fmt: skip
    parser.add_argument(
        "--target", action="append", metavar="TARGET",
        help="only this one of the list; repeatable; default: all of its targets",
    )  # fmt: skip
    parser.add_argument(
        "--rounds", type=count, metavar="N",
        help="so many processes a cell for times, and no more for the rest; default: what each"
        " benchmark says, 5 for times",
    )  # fmt: skip
    parser.add_argument(
        "--timeout", type=positive, metavar="SECONDS",
        help="a cell that takes longer in a process has failed; default: what asv.conf.json says",
    )  # fmt: skip
    parser.add_argument(
        "--fresh", action="store_true", help="do not continue a run that was interrupted"
    )
    add_require(parser)
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="default: asv.conf.json of the project"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command; its exit code."""
    from convbench.machine.facts import load_with_one_thread

    load_with_one_thread()
    from convbench.auditing.judge import Judge
    from convbench.results.records import load
    from convbench.results.rows import exit_code, render, summarise, to_dict

    judge = Judge()
    bench = _prepare(arguments, judge)
    left = len(bench.left())
    if bench.continued:
        say(f"continuing run {bench.run}, which was interrupted; --fresh starts anew")
    say(f"{len(bench.cells)} cells, {left} measurements in up to {bench.rounds} rounds")

    def name(done: Done) -> str:
        return f"round {done.round} {done.cell.target} {' '.join(done.cell.params[1:])}"

    with judge:
        interrupted = until_interrupted(with_progress(bench.measure(), left, name))
    if interrupted:
        say("interrupted: what was measured is kept, and the same command continues")
    store = bench.store
    loaded = load(store.conf.results_dir, [store.commit])
    problems = [*loaded.problems, *bench.problems()]
    for problem in problems:
        say(problem)
    rows = summarise(r for r in loaded.records if r.environment == store.environment)

    def listed() -> dict[str, Any]:
        return {
            "interrupted": interrupted,
            "run": bench.run,
            "elapsed_s": bench.elapsed_s,
            "measured_s": bench.measured_s(),
            **to_dict(rows, problems),
        }

    show(arguments, "bench", listed, lambda: render(rows))
    measured = bench.measured_s() / bench.elapsed_s if bench.elapsed_s else 0.0
    say(f"{duration(bench.elapsed_s)}, {share(measured)} of it spent measuring")
    if interrupted:
        return Exit.INTERRUPTED
    code = Exit.WRONG if bench.ledger.problems else exit_code(rows)
    measured_targets = {row.target for row in rows if row.status is Status.OK}
    if absent := [name for name in arguments.require if name not in measured_targets]:
        say(f"nothing was measured of {', '.join(absent)}, which --require names")
        return code or Exit.NOTHING
    return code


def _prepare(arguments: argparse.Namespace, judge: Judge) -> Bench:
    """Find the commit and the suites, or say what is missing."""
    from convbench.measuring.asv_store import Store
    from convbench.measuring.bench import Bench
    from convbench.results.folder import Folder, short

    project = here()
    config = (arguments.config or project.config).resolve()
    if not config.is_file():
        raise InputError(
            f"bench: the configuration is not at {config}; expected an asv.conf.json."
            " `convbench init` writes it; or run in the project that has it, or pass --config FILE."
        )
    commit = full_hash("HEAD", config.parent)
    if commit is None:
        raise InputError(
            "bench: the commit is none; expected a git repository with a commit. Results are "
            "filed under one: commit first."
        )
    if changes(config.parent, Folder.of_config(config).kept):
        say(
            "WARNING: the working tree is not clean: what is measured is the tree as it is, but it"
            f" is filed under HEAD ({short(commit)})"
        )
    workloads = all_workloads(project)
    chosen = select(workloads, arguments.list, project.lists)
    if any(workload.tier == "full" for workload in chosen):
        os.environ["CONVBENCH_FULL"] = "1"
    say("discovering the suites ...")
    cells = selecting(arguments.list, chosen, arguments.target)
    store = Store(config, arguments.bench or [cells], commit)
    judge.pipelines = {workload.name: workload.pipeline for workload in workloads}
    bench = Bench(
        store,
        arguments.rounds,
        arguments.timeout,
        fresh=arguments.fresh,
        examiner=judge,
    )
    if others := store.others():
        say(
            f"left out, since their first parameter is no target: {', '.join(others)}; `asv run`"
            " measures them"
        )
    _see_whose_code_it_is(project, bench)
    if not bench.cells:
        raise InputError(
            "bench: what was selected is nothing; expected a regular expression that is in names"
            " such as bench_pipeline.Smoke.track_time('numpy@cpu', 'notebook.conv'). `convbench"
            " workloads` and `convbench backends` list what can be in the brackets."
        )
    store.begin()
    return bench


def _see_whose_code_it_is(project: Project, bench: Bench) -> None:
    """Refuse to file under HEAD what it does not hold."""
    from convbench.backends import find_backend
    from convbench.stimulus.targets import Target

    for target in project.targets:  # a name that nobody registers is a mistake, and no absence
        find_backend(Target.parse(target).backend)
    names = (Target.parse(cell.target).backend for cell in bench.cells)
    for name, origin in installed_copies(project, names).items():
        raise InputError(
            f"bench: the code of {name} is {origin.file}, which is no file of the repository "
            f"{project.root}; expected one that is, since results are filed under its HEAD. "
            "`pip install --editable .` there measures the working tree, and `asv run` builds each"
            " commit."
        )


def selecting(
    name: str | None, chosen: Sequence[Workload], targets: Sequence[str] | None = None
) -> str:
    """What asv selects a list by: the classes of its tiers, or what asv calls its cells."""
    one = "|".join(map(re.escape, targets or ()))
    of = rf"(?=.*\('({one})').*" if one else ""
    if name in TIERS:
        classes = "|".join(tier.capitalize() for tier in TIERS[: TIERS.index(name) + 1])
        return rf"{of}\.({classes})\."
    return f"{of}'({'|'.join(re.escape(workload.name) for workload in chosen)})'"
