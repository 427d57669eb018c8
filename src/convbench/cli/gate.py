"""``convbench gate``."""

from __future__ import annotations

import argparse
import math
import shlex
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convbench.cli.arguments import (
    add_demands,
    add_scheduler,
    add_selection,
    budget,
    chosen_demands,
    chosen_security,
    chosen_targets,
    chosen_workloads,
    count,
    here,
    percent,
)
from convbench.cli.output import as_json, emit, say, show, until_interrupted, with_progress
from convbench.errors import InputError
from convbench.words.numbers import count as count_of
from convbench.words.numbers import duration
from convbench.words.status import Exit

if TYPE_CHECKING:
    from convbench.comparing.comparison import Comparison, Demands
    from convbench.correctness.verify import Check
    from convbench.fleet.gates import FleetGate, Machines
    from convbench.gate.build import Wanted
    from convbench.gate.pairs import Progress
    from convbench.gate.verdicts import Gate, Verdicts
    from convbench.machine.project import Project
    from convbench.stimulus.targets import Target

HELP = "measure two commits side by side: what became wrong or slower, and how sure"
DESCRIPTION = """\
Both sides are built once. First head has to be right. Then fresh pairs of processes, one a
side, take turns after every call on one core, so that both see the same of the machine, until
each cell is surely slower, faster or equivalent, or the budget is spent. What seems to differ
is measured again on fresh pairs before it is said. docs/gate.md says how, and how well.
A side is REVISION[:ENVIRONMENT]; HEAD is the working tree if it is left out."""
EPILOG = """\
examples:
  convbench gate main
  convbench gate main HEAD --list standard --budget 10m
  convbench gate HEAD HEAD --target numpy@cpu           what does noise look like here?
  convbench gate HEAD HEAD --base-env tensorflow==2.20.0 --target tensorflow@cpu
  convbench gate HEAD HEAD --target numpy@cpu --head-target mine@cpu
  convbench gate main --target cupy@gpu --scheduler tcp://127.0.0.1:8786
  git bisect start --no-checkout BAD GOOD       which commit has made it slower?
  git bisect run convbench gate GOOD BISECT_HEAD --target numpy@cpu --bisect

exit codes: 2 head is wrong, failed or skipped where base was right; else 1 something is slower;
else 3 nothing could be compared, or what --require-power or --strict demand is not so; else 0;
4 bad input or could not set up, 70 a defect of convbench, 130 interrupted.
0 with something undecided does not say that nothing is slower: --strict makes that 3"""


_GIVEN_AGAIN = (
    "base_env", "head_env", "head_target", "workloads", "scheduler", "machine", "tls_ca_file",
    "tls_cert", "tls_key",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("base", metavar="BASE", help="the side that is known")
    parser.add_argument(
        "head", metavar="HEAD", nargs="?", default="", help="the side in question; default: the"
        " working tree",
    )  # fmt: skip
    add_selection(parser, default="smoke")
    parser.add_argument(
        "--target", action="append", metavar="TARGET",
        help="backend[.variant]@device; repeatable; default: those of [tool.convbench], or all that"
        " are here",
    )  # fmt: skip
    parser.add_argument(
        "--head-target", metavar="TARGET",
        help="instead of the one --target, on the side of head: two variants, or two backends",
    )  # fmt: skip
    for side in ("base", "head"):
        parser.add_argument(
            f"--{side}-env", metavar="ENV", default="",
            help="an environment that is there, a part of the name of one of asv's, or what to"
            " install over the commit's lock, as in tensorflow==2.20.0",
        )  # fmt: skip
    parser.add_argument(
        "--budget", type=budget, default=300.0, metavar="TIME",
        help="for the timing, as in 90s or 5m; it ends earlier if all is decided; default: 5m",
    )  # fmt: skip
    parser.add_argument(
        "--delta", type=percent, default=0.02, metavar="PERCENT",
        help="slower or faster by at most this is equivalent; default: 2",
    )  # fmt: skip
    parser.add_argument(
        "--cores", type=count, metavar="N", help="each measures a pair; default: all"
    )
    add_scheduler(parser, "none, and it is measured here")
    parser.add_argument(
        "--machine", metavar="NAME", help="of the machines of a fleet, those that are equal to this"
        " one; default: all, if they are equal",
    )  # fmt: skip
    parser.add_argument(
        "--format", choices=("text", "markdown", "json", "junit"), default="text",
        help="markdown fits a comment on GitHub; default: text",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER",
        help="write it there, too: comment.md, comparison.json and comparison.xml (JUnit)",
    )  # fmt: skip
    parser.add_argument("--all", action="store_true", help="show the cells that are equal, too")
    add_demands(parser, suspects=False)
    parser.add_argument(
        "--bisect", action="store_true",
        help="exit as `git bisect run` has it: 0 good, 1 slower, 125 where that cannot be said, as"
        " of what is wrong or undecided, and 128 or more to end it",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Run the command; its exit code."""
    from convbench.machine.facts import load_with_one_thread

    load_with_one_thread()
    from convbench.machine.child import require_posix

    require_posix()  # before what cannot be imported there

    from convbench import suites
    from convbench.comparing.comparison import Rule
    from convbench.fleet.gates import FleetGate
    from convbench.gate.build import build
    from convbench.gate.history import file_times
    from convbench.gate.verdicts import Gate
    from convbench.machine.facts import moment
    from convbench.machine.interrupts import uninterrupted
    from convbench.measuring.evidence import known_machine

    workloads, rule = chosen_workloads(arguments), Rule(delta=arguments.delta)
    project = here()
    wanted = _wanted(arguments)
    with ExitStack() as stack:
        machines = _machines(arguments, project, wanted, stack) if arguments.scheduler else None
        make = machines.build if machines else partial(build, root=project.root, say=say)
        base = make(wanted[0])
        try:
            head = make(wanted[1])
        except InputError as error:
            if not arguments.bisect:
                raise
            say(str(error))  # what cannot be built is no reason to end the search
            return Exit.NOTHING
        targets, before = _targets(arguments), moment()
        gate: Gate | FleetGate
        if machines:
            gate = FleetGate(machines, base, head, workloads, targets, rule, say, arguments.cores)
        else:
            interface = Path(suites.__file__).with_name("interface.py")
            gate = stack.enter_context(Gate(base, head, workloads, targets, interface, rule))
        interrupted = until_interrupted(_right(gate))
        if gate.right and not interrupted:
            interrupted = until_interrupted(_measured(gate, arguments, stack), _Told())
        comparison = replace(gate.comparison(), demands=_demands(arguments))
    there = machines.moments if machines else (known_machine(), before, moment())
    _keep(gate, project, there, arguments, interrupted=interrupted)
    _show(arguments, comparison, interrupted=interrupted)
    if isinstance(gate, FleetGate):
        say("asv's history has nothing of this gate: it was measured on other machines")
    else:
        with _or_warn("asv's history has not all of this gate"), uninterrupted():  # seconds
            for line in file_times(gate, project.config, before):
                say(line)
    code = comparison.exit_code()
    if interrupted and code in {Exit.OK, Exit.NOTHING}:
        return Exit.INTERRUPTED
    return code


def _wanted(arguments: argparse.Namespace) -> list[Wanted]:
    """Base and head."""
    from convbench.gate.build import Wanted

    sides = (arguments.base, arguments.base_env), (arguments.head, arguments.head_env)
    wanted = [(Wanted.parse(side, "gate"), environment) for side, environment in sides]
    return [replace(each, environment=env) if env else each for each, env in wanted]


def _demands(arguments: argparse.Namespace) -> Demands:
    demands = chosen_demands(arguments)
    return replace(demands, strict=demands.strict or arguments.bisect)


@contextmanager
def _or_warn(what: str) -> Iterator[None]:
    """Go on where something cannot be written: the verdict is worth more than the files."""
    try:
        yield
    except InputError as error:
        say(f"WARNING: {what}: {error}")


def _keep(
    gate: Verdicts,
    project: Project,
    there: tuple[dict[str, Any], dict[str, Any], dict[str, Any]],
    arguments: argparse.Namespace,
    *,
    interrupted: bool,
) -> None:
    """Store it, whatever came of it."""
    from convbench.gate.stored import store
    from convbench.results.folder import Folder

    folder = Folder.of_config(project.config)
    with _or_warn("this gate is not stored"):
        path = store(gate, folder, there, budget_s=arguments.budget, interrupted=interrupted)
        say(f"stored in {path}, where `convbench compare` finds it")


def _machines(
    arguments: argparse.Namespace, project: Project, sides: Sequence[Wanted], stack: ExitStack
) -> Machines:
    """The equal machines of a fleet that are to measure."""
    from convbench.cli.fleet import workers
    from convbench.fleet.client import Fleet
    from convbench.fleet.gates import Machines
    from convbench.fleet.units import kinds
    from convbench.results.folder import Folder

    security = chosen_security(arguments, arguments.scheduler)
    fleet = stack.enter_context(Fleet(arguments.scheduler, security))
    found = kinds(workers(fleet), Folder.of_config(project.config))
    chosen = [kind for kind in found if arguments.machine in {None, kind.machine, *kind.names}]
    if len(chosen) != 1:
        names = ", ".join(f"{kind.machine} ({kind.workers})" for kind in found)
        raise InputError(
            f"--machine: the machine is {arguments.machine or 'not named'}, and there are {names};"
            " expected one kind, since a gate is of machines that are equal. Name one of these."
        )
    return Machines.given(fleet, chosen[0], sides, project.root)


def _right(gate: Gate | FleetGate) -> Generator[Check]:
    """Check head; whenever Ctrl-C comes, even with the first line, what is known is kept."""
    say(f"is {gate.head.name} right? {count_of(len(gate.cells), 'cell')}")
    yield from with_progress(gate.check(), 5 * len(gate.cells), _checked)


def _measured(
    gate: Gate | FleetGate, arguments: argparse.Namespace, stack: ExitStack
) -> Generator[Progress]:
    """Measure with a judge for each core; whenever Ctrl-C comes, what is known is kept."""
    from convbench.auditing.judge import Judge
    from convbench.fleet.gates import FleetGate
    from convbench.gate.pairs import cores

    if isinstance(gate, FleetGate):
        say(
            f"{gate.head.name} against {gate.base.name}, {count_of(len(gate.cells), 'cell')} on"
            f" {count_of(gate.workers, 'machine')} like {gate.machine}, for at most"
            f" {duration(arguments.budget)}"
        )
        yield from gate.measure(arguments.budget)
        return
    there = len(cores())
    used = min(arguments.cores or there, there)
    say(
        f"{gate.head.name} against {gate.base.name}, {count_of(len(gate.cells), 'cell')} on"
        f" {count_of(used, 'core')}, for at most {duration(arguments.budget)}"
    )
    judges = [stack.enter_context(Judge()) for _ in range(used)]
    for judge in judges:
        judge.pipelines = {cell.workload: cell.pipeline for cell in gate.cells}
    yield from gate.measure(arguments.budget, judges)


class _Told:
    """Says after the first pair, and every few seconds then, how far it is."""

    def __init__(self) -> None:
        self._told_s = -math.inf

    def __call__(self, progress: Progress) -> None:
        if time.monotonic() - self._told_s > 5:
            self._told_s = time.monotonic()
            say(
                f"{progress.decided} of {progress.cells} cells are decided after {progress.pairs}"
                f" pairs; at most {duration(progress.left_s)} left"
            )


def _checked(check: Check) -> str:
    return f"{check.target} {check.workload} {check.fill}"


def _targets(arguments: argparse.Namespace) -> list[tuple[Target, Target]]:
    """Base's and head's."""
    from convbench.backends.survey import choose_targets
    from convbench.stimulus.targets import Target

    if arguments.head_target:
        if len(arguments.target or ()) != 1:
            raise InputError(
                f"--head-target: there are {len(arguments.target or ())} of --target; expected one."
                " Name the target that it is held against."
            )
        return [(Target.parse(arguments.target[0]), Target.parse(arguments.head_target))]
    if names := chosen_targets(arguments):
        return [(Target.parse(name),) * 2 for name in names]
    if arguments.scheduler:  # whatever is here: what is not there is skipped
        return [(target, target) for target in choose_targets(None)]
    say("looking for backends ...")
    present = [target for target, absence in choose_targets(None).items() if absence is None]
    return [(target, target) for target in present]


def _again(arguments: argparse.Namespace, comparison: Comparison) -> str:
    """The command that measures what is open, and little else; "" if nothing is."""
    from convbench.comparing.comparison import selection

    cells = [cell for cell in comparison.open_cells if cell.to_decide_s is not None]
    if not cells:
        return ""
    words = ["convbench", "gate", arguments.base, *filter(None, [arguments.head])]
    for option in _GIVEN_AGAIN:
        if value := getattr(arguments, option, None):
            words += [f"--{option.replace('_', '-')}", str(value)]
    needed_s = sum(cell.to_decide_s or 0.0 for cell in cells)
    words += [*selection(cells), "--budget", f"{max(60, math.ceil(needed_s))}s"]
    return shlex.join(words)


def _show(arguments: argparse.Namespace, comparison: Comparison, *, interrupted: bool) -> None:
    from convbench.comparing.junit import junit
    from convbench.comparing.markdown import markdown
    from convbench.comparing.text import render
    from convbench.machine.files import write

    if interrupted:
        say("interrupted: this is what is known so far")
    again = _again(arguments, comparison)
    plain = {**comparison.to_dict(), "interrupted": interrupted, "again": again}
    if (folder := arguments.output) is not None:
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / "comment.md", markdown(comparison).encode())
        write(folder / "comparison.json", as_json("gate", plain).encode())
        write(folder / "comparison.xml", junit(comparison))
        say(f"written to {folder}")
    match arguments.format:
        case "markdown":
            emit(markdown(comparison))
        case "junit":
            emit(junit(comparison).decode())
        case _:
            if again:
                say(f"what is open can be measured again: {again}")
            show(
                arguments, "gate", lambda: plain,
                lambda: render(comparison, everything=arguments.all),
            )  # fmt: skip
