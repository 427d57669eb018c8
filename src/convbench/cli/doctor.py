"""``convbench doctor``."""

from __future__ import annotations

import argparse
import math
import time
from typing import Any

from convbench.cli.arguments import duration
from convbench.cli.output import say, show
from convbench.words.status import Exit

HELP = "say whether this machine is fit to measure, and what disturbs it"
EPILOG = """\
Each finding is good, care or bad. After a look at the settings the same code is timed
in fresh processes. Whatever differs between them is noise, and shows which slow-downs
can be found here with 5 processes a side.

examples:
  convbench doctor --seconds 120
  convbench doctor --seconds 0 && make bench

exit codes: 0 fit, or usable with care, 1 unfit: something is bad,
4 bad input or could not set up, 130 interrupted"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--seconds", type=duration, default=30.0, metavar="S",
        help="how long to time the same code in fresh processes; 0 leaves it out; default: 30",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Run the command; its exit code."""
    from convbench.measuring.doctor.judge import diagnose
    from convbench.measuring.doctor.look import examine
    from convbench.measuring.doctor.show import render

    steps = examine(arguments.seconds)
    evidence = None
    said_s = -math.inf
    interrupted = False
    try:
        for step in steps:
            evidence = step.evidence
            if step.doing and (not step.again or time.monotonic() - said_s > 5):
                said_s = time.monotonic()
                say(step.doing)
    except KeyboardInterrupt:  # what is known is shown all the same
        interrupted = True
        steps.close()
    assert evidence is not None
    diagnosis = diagnose(evidence)

    def listed() -> dict[str, Any]:
        return {"interrupted": interrupted, **diagnosis.to_dict()}

    show(arguments, "doctor", listed, lambda: render(diagnosis, interrupted=interrupted))
    return Exit.INTERRUPTED if interrupted else diagnosis.exit_code()
