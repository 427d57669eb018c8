"""``convbench doctor``."""

from __future__ import annotations

import argparse
import math
import time
from typing import TYPE_CHECKING, Any

from convbench.cli.arguments import (
    add_results_dir,
    add_target,
    chosen_folder,
    count,
    duration,
)
from convbench.cli.output import say, show, until_interrupted
from convbench.words.status import Exit

if TYPE_CHECKING:
    from convbench.measuring.doctor.evidence import Step

HELP = "say whether this machine is fit to measure, and what disturbs it"
DESCRIPTION = """\
Each finding is good, care or bad. After a look at the settings the same code is timed
in fresh processes. Whatever differs between them is noise, and shows which slow-downs
can be found here with 5 processes a side.
With --calibrate the machine is not judged: whole sessions are made of what is timed, and how
far they lie apart is stored beside the evidence, where `convbench compare` reads it."""
EPILOG = """\
examples:
  convbench doctor --seconds 120
  convbench doctor --seconds 0 && make bench
  convbench doctor --calibrate 10            and on another day again: it adds up

exit codes: 0 fit, or usable with care, 1 unfit: something is bad, 3 nothing could be calibrated,
4 bad input or could not set up, 70 a defect of convbench, 130 interrupted"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--seconds", type=duration, default=30.0, metavar="S",
        help="how long to time the same code in fresh processes; 0 leaves it out; default: 30",
    )  # fmt: skip
    parser.add_argument(
        "--calibrate", type=count, metavar="SESSIONS",
        help="make so many sessions instead; one takes 5 processes of each target",
    )  # fmt: skip
    add_target(parser)
    add_results_dir(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; its exit code."""
    if arguments.calibrate:
        return _calibrate(arguments)
    from convbench.measuring.doctor.evidence import Evidence
    from convbench.measuring.doctor.judge import diagnose
    from convbench.measuring.doctor.show import render
    from convbench.measuring.doctor.trial import examine

    evidence = Evidence()
    said_s = -math.inf

    def take(step: Step) -> None:
        nonlocal evidence, said_s
        evidence = step.evidence
        if step.doing and (not step.again or time.monotonic() - said_s > 5):
            said_s = time.monotonic()
            say(step.doing)

    interrupted = until_interrupted(examine(arguments.seconds), take)
    diagnosis = diagnose(evidence)

    def listed() -> dict[str, Any]:
        return {"interrupted": interrupted, **diagnosis.to_dict()}

    show(arguments, "doctor", listed, lambda: render(diagnosis, interrupted=interrupted))
    return Exit.INTERRUPTED if interrupted else diagnosis.exit_code()


def _calibrate(arguments: argparse.Namespace) -> int:
    """Make sessions, and say how far they lie apart."""
    from convbench.backends.survey import choose_targets
    from convbench.measuring.doctor.calibrate import Calibrated, calibrate
    from convbench.words.numbers import share

    chosen = choose_targets(arguments.target)
    targets = [target for target, absence in chosen.items() if absence is None]
    for target, absence in chosen.items():
        if absence is not None and arguments.target:
            say(f"{target} is left out: {absence.reason}")
    last: Calibrated | None = None

    def take(done: Calibrated) -> None:
        nonlocal last
        last = done
        say(f"session {done.sessions} of {arguments.calibrate}")
        for target, failure in done.failures:
            say(f"{target} is left out of it: {failure.reason}")

    say(f"{arguments.calibrate} sessions of {', '.join(map(str, targets)) or 'nothing'} ...")
    steps = calibrate(targets, arguments.calibrate if targets else 0, chosen_folder(arguments))
    interrupted = until_interrupted(steps, take)
    spreads = last.calibration.spreads() if last else {}
    if last and spreads:
        say(f"stored in {last.path}, where `convbench compare` finds it")
    plain = {
        target: {"deviation": known.deviation, "freedom": known.freedom}
        for target, known in spreads.items()
    }
    lines = [
        f"{target}: sessions differ by {share(known.deviation)}"
        f" ({known.freedom} degrees of freedom)"
        for target, known in spreads.items()
    ]
    show(
        arguments, "doctor.calibration", lambda: {"interrupted": interrupted, "targets": plain},
        lambda: "\n".join(lines) or "nothing is known: it takes two sessions of a target",
    )  # fmt: skip
    if interrupted:
        return Exit.INTERRUPTED
    return Exit.OK if spreads else Exit.NOTHING
