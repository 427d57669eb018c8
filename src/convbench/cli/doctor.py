"""``convbench doctor``."""

from __future__ import annotations

import argparse
import math
import time
from typing import TYPE_CHECKING, Any

from convbench.cli.arguments import duration
from convbench.cli.output import say, show, until_interrupted
from convbench.words.status import Exit

if TYPE_CHECKING:
    from convbench.measuring.doctor.evidence import Step

HELP = "say whether this machine is fit to measure, and what disturbs it"
DESCRIPTION = """\
Each finding is good, care or bad. After a look at the settings the same code is timed
in fresh processes. Whatever differs between them is noise, and shows which slow-downs
can be found here with 5 processes a side."""
EPILOG = """\
examples:
  convbench doctor --seconds 120
  convbench doctor --seconds 0 && make bench

exit codes: 0 fit, or usable with care, 1 unfit: something is bad,
4 bad input or could not set up, 70 a defect of convbench, 130 interrupted"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--seconds", type=duration, default=30.0, metavar="S",
        help="how long to time the same code in fresh processes; 0 leaves it out; default: 30",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Run the command; its exit code."""
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
