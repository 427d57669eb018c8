"""Look at the machine, then try it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import replace

from convbench.machine import facts, nvidia
from convbench.measuring.doctor.evidence import CELLS, Draw, Evidence, Step
from convbench.measuring.doctor.trial import draw_in_process, trial
from convbench.measuring.timing import overhead
from convbench.words.status import Outcome

LOOK_S = 1.0
"""So long the machine is watched while nothing is asked of it."""


# -- looking ---------------------------------------------------------------------------------------


def examine(
    seconds: float,
    *,
    look_s: float = LOOK_S,
    draw: Callable[[int, int | None], Draw | Outcome] | None = None,
) -> Generator[Step]:
    """Look at the machine, then time the same code in fresh processes, and tell after each step.

    Closing the iterator, as Ctrl-C does, ends the process that is running.

    Parameters
    ----------
    seconds : float
        For the timing; 0 leaves it out.
    look_s : float
        How long to watch what else runs.
    draw : callable
        ``(number, threads) -> Draw``, in a process of its own.
    """
    draw = draw or draw_in_process
    evidence = Evidence(asked_s=seconds)
    yield Step(evidence, "reading how the machine is set up")
    evidence = replace(
        evidence,
        facts=facts.machine_facts(),
        driver=nvidia.has_nvidia_driver(),
        gpus=tuple(nvidia.gpus()),
        gpu_processes=tuple(nvidia.gpu_processes()),
    )
    yield Step(evidence, f"watching for {look_s:g} s what else runs")
    before = facts.moment()
    time.sleep(look_s)
    evidence = replace(evidence, before=before, after=facts.moment(), overhead=overhead())
    doing = f"timing {len(CELLS)} workloads in fresh processes for {seconds:g} s"
    yield Step(evidence, f"{doing} (--seconds 0 leaves it out)" if seconds else "")
    if seconds:
        yield from trial(evidence, seconds, draw)
