"""``convbench verify``."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convbench.cli.arguments import (
    add_require,
    add_selection,
    add_target,
    chosen_targets,
    chosen_workloads,
    count,
    here,
    installed_copies,
    positive,
    seed,
)
from convbench.cli.output import EXIT_CODES, say, show, until_interrupted, with_progress
from convbench.errors import InputError
from convbench.machine.files import write
from convbench.stimulus.formats import FORMATS, Fill
from convbench.stimulus.targets import Target
from convbench.words.numbers import duration
from convbench.words.status import Exit, Status

if TYPE_CHECKING:
    from convbench.correctness.verify import Check


HELP = "check targets against the float64 oracle"
DESCRIPTION = """\
Every workload is computed by every target, in each format and with each kind of numbers,
and each element must lie within what rounding may do; integers must come out bit for bit.
docs/accuracy.md derives the bounds."""
EPILOG = f"""\
examples:
  convbench verify --list standard
  convbench verify --target numpy@cpu --target tensorflow.xla@cpu --fill integers

{EXIT_CODES}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_selection(parser, default="smoke")
    add_target(parser)
    add_require(parser)
    parser.add_argument(
        "--dtype", action="append", choices=FORMATS,
        help="repeatable; default: float32 and float64",
    )  # fmt: skip
    parser.add_argument(
        "--fill", action="append", choices=list(map(str, Fill)),
        help="repeatable; default: all. Integers whose sums are exact must come out bit for bit",
    )  # fmt: skip
    parser.add_argument(
        "--neighbours", type=int, choices=range(100), default=1, metavar="N",
        help="check so many layers like each workload that nobody has listed, too, of sizes that"
        " are drawn now; default: 1, and none where workloads are named",
    )  # fmt: skip
    parser.add_argument(
        "--processes", type=count, default=1, metavar="N",
        help="compute each cell in N fresh processes with different numbers of threads, and say"
        " whether they give the same bits; default: 1",
    )  # fmt: skip
    parser.add_argument(
        "--thorough", action="store_true",
        help="check large outputs whole, not at a sample of their positions, with denormal numbers"
        " too, and what a backend declares to be slow",
    )  # fmt: skip
    parser.add_argument(
        "--self-test", action="store_true",
        help="instead, plant every known fault into every target and see that it is caught",
    )  # fmt: skip
    parser.add_argument(
        "--strict",
        action="store_true",
        help="leave with 2 if anything is right only by what a backend declares of itself: a"
        " deviation, or sums in another format or of a scheme like Winograd's",
    )
    parser.add_argument("--junit", type=Path, metavar="FILE", help="also write JUnit XML, for CI")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="default: 0")
    parser.add_argument(
        "--timeout", type=positive, default=600.0, metavar="SECONDS",
        help="one computation that takes longer has failed; default: 600",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Run the command; its exit code."""
    from convbench.backends import contested
    from convbench.backends.survey import choose_targets
    from convbench.correctness.verify import Plan, exit_code, verify
    from convbench.correctness.verify_text import junit, render

    if arguments.self_test:
        return _self_test(arguments)
    workloads = chosen_workloads(arguments)
    if arguments.junit and not arguments.junit.parent.is_dir():  # not after an hour of computing
        raise InputError(
            f"{arguments.junit}: its folder is not there; expected one that exists. Make it first."
        )
    say("looking for backends ...")
    # None stands for all that are here, to which those that are required are added.
    required = [*(arguments.target or ()), *arguments.require]
    targets = choose_targets(chosen_targets(arguments))
    targets |= choose_targets(arguments.require) if arguments.require else {}
    for said in contested():
        say(f"WARNING: {said}")
    copies = installed_copies(here(), (target.backend for target in targets))
    for name, origin in copies.items():
        say(
            f"WARNING: {name} is verified as it is installed, in {origin.file}, and not as it lies"
            f" in {here().root}; `pip install --editable .` makes both one"
        )
    plan = Plan(
        workloads,
        targets,
        arguments.dtype or ["float32", "float64"],
        [Fill(fill) for fill in arguments.fill or Fill],
        arguments.seed,
        arguments.timeout,
        arguments.processes,
        thorough=arguments.thorough,
        neighbours=0 if arguments.workload else arguments.neighbours,
    )
    checks: list[Check] = []
    started = time.monotonic()
    running = with_progress(verify(plan), plan.cells, lambda c: f"{c.target} {c.workload}")
    interrupted = until_interrupted(running, checks.append)
    elapsed_s = time.monotonic() - started
    if arguments.junit:
        write(arguments.junit, junit(checks, elapsed_s))

    def listed() -> dict[str, Any]:
        return {
            "interrupted": interrupted,
            "cells": plan.cells,
            "elapsed_s": elapsed_s,
            "checks": [check.to_dict() for check in checks],
            "installed_copies": {name: asdict(origin) for name, origin in copies.items()},
        }

    show(arguments, "verify", listed, lambda: render(checks))
    if interrupted:
        say(f"interrupted after {len(checks)} of {plan.cells} cells")
    say(duration(elapsed_s))
    if interrupted:
        return Exit.INTERRUPTED
    code = exit_code(checks, strict=arguments.strict)
    computed = {check.target for check in checks if check.status is not Status.SKIPPED}
    if absent := [name for name in required if Target.parse(name) not in computed]:
        say(f"nothing was computed by {', '.join(dict.fromkeys(absent))}, which was named")
        return code or Exit.NOTHING
    return code


def _self_test(arguments: argparse.Namespace) -> int:
    from convbench.backends.survey import choose_targets
    from convbench.correctness.selftest import (
        Planted,
        exit_code,
        faults_shown,
        render,
        self_test,
    )

    say("looking for backends ...")
    targets = choose_targets(chosen_targets(arguments))
    present = sum(absence is None for absence in targets.values())
    faults = len(faults_shown())
    say(f"planting {faults} faults into each of {present} targets")
    total = present * faults + len(targets) - present
    running = self_test(targets, arguments.timeout)
    results = list(
        with_progress(running, total, lambda r: str(r[0] if isinstance(r, tuple) else r.target))
    )

    def listed() -> dict[str, Any]:
        return {
            "planted": [r.to_dict() for r in results if isinstance(r, Planted)],
            "unfit": [
                {
                    "target": str(target),
                    "status": str(why.status),
                    "reason": why.reason,
                    "remedy": why.remedy,
                }
                for target, why in (r for r in results if isinstance(r, tuple))
            ],
        }

    show(arguments, "self-test", listed, lambda: render(results))
    return exit_code(results)
