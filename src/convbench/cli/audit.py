"""``convbench audit``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convbench.cli.arguments import (
    add_selection,
    add_target,
    chosen_targets,
    chosen_workloads,
)
from convbench.cli.output import say, show, until_interrupted, with_progress
from convbench.words.status import Exit

if TYPE_CHECKING:
    from convbench.auditing.audit import Audited

HELP = "hold what a target claims against what can be seen from outside"
DESCRIPTION = """\
Of each workload the target is timed as always. Then it has to stand by that: it computes
on numbers that nobody has seen before, by a clock that is not its own, and hands over all
outputs. Each claim (time, error, threads, memory, device) holds, is not supported by what
was seen, or cannot be seen here. docs/trust.md says how, and what it cannot see."""
EPILOG = """\
examples:
  convbench audit --target mine@cpu
  convbench audit --target mine@cpu --workload resnet50_v1_5.res2a_1x1a --json
  convbench audit --replay evidence.jsonl
  convbench audit --self-test      plant every known way to cheat: which are seen?

exit codes: 0 all hold, 2 something is not supported, 3 nothing could be audited,
4 bad input or could not set up, 70 a defect of convbench, 130 interrupted"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_selection(parser, default="smoke")
    add_target(parser)
    parser.add_argument(
        "--replay",
        type=Path,
        metavar="FILE",
        help="instead, repeat the audits of a file on their very numbers: what audit --json has"
        " printed, or the evidence of a run (.jsonl)",
    )
    parser.add_argument(
        "--self-test",
        action="store_true",
        help="instead, plant every known way to cheat into numpy@cpu and see that it is seen",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command; its exit code."""
    from convbench.machine.facts import load_with_one_thread

    load_with_one_thread()
    from convbench.auditing.audit import Audited, Auditor, exit_code
    from convbench.auditing.claims import Receipt
    from convbench.auditing.show import render
    from convbench.backends.survey import choose_targets
    from convbench.stimulus.targets import Target

    if arguments.self_test:
        return _self_test(arguments)
    if arguments.replay:
        return _replay(arguments)
    workloads = chosen_workloads(arguments)
    say("looking for backends ...")
    targets = choose_targets(chosen_targets(arguments))
    found: list[Audited] = []
    with Auditor() as auditor:
        present = [target for target, absence in targets.items() if absence is None]

        def each() -> Any:
            for target in present:
                yield from auditor.audit(target, workloads)

        total = len(present) * len(workloads)
        interrupted = until_interrupted(
            with_progress(each(), total, lambda a: f"{a.target} {a.workload}"), found.append
        )
    found += [
        Audited(target, "", Receipt(), absence)
        for target, absence in targets.items()
        if absence is not None
    ]

    def listed() -> dict[str, Any]:
        return {
            "interrupted": interrupted,
            "seed": auditor.seed,
            "audited": [audited.to_dict() for audited in found],
        }

    show(arguments, "audit", listed, lambda: render(found))
    if interrupted:
        return Exit.INTERRUPTED
    named = {Target.parse(name) for name in arguments.target or ()}
    if absent := [str(target) for target in named if targets[target] is not None]:
        say(f"nothing was audited of {', '.join(sorted(absent))}, which was named")
        return exit_code(found) or Exit.NOTHING
    return exit_code(found)


def _replay(arguments: argparse.Namespace) -> int:
    from convbench.auditing.replay import Replayed, exit_code, load, render, replay
    from convbench.stimulus.workloads import load as load_workloads

    given = load(arguments.replay)
    results: list[Replayed] = []
    running = replay(given, load_workloads(arguments.workloads))
    interrupted = until_interrupted(
        with_progress(running, len(given), lambda r: f"{r.given.target} {r.given.workload}"),
        results.append,
    )

    def listed() -> dict[str, Any]:
        return {"interrupted": interrupted, "replayed": [result.to_dict() for result in results]}

    show(arguments, "audit-replay", listed, lambda: render(results))
    return Exit.INTERRUPTED if interrupted else exit_code(results)


def _self_test(arguments: argparse.Namespace) -> int:
    from convbench.auditing.selftest import exit_code, render, self_test
    from convbench.auditing.zoo import adversaries

    total = len(adversaries()) + 1
    say(f"planting {total - 1} ways to cheat into numpy@cpu, and none")
    results = list(with_progress(self_test(), total, lambda r: r.name or "honest"))

    def listed() -> dict[str, Any]:
        return {"planted": [result.to_dict() for result in results]}

    show(arguments, "audit-self-test", listed, lambda: render(results))
    code: Exit = exit_code(results)
    return code
