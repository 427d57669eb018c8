"""Time the same code in fresh processes: whatever differs is noise."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from typing import Any

from convbench.backends import open_backend
from convbench.machine import facts
from convbench.machine.child import START_TIMEOUT_S, Child, Questions
from convbench.measuring.doctor.evidence import CELLS, Draw, Evidence, Step
from convbench.measuring.doctor.noise import half_range
from convbench.measuring.timing import measure
from convbench.stimulus.formats import Fill
from convbench.stimulus.inputs import make_inputs
from convbench.stimulus.targets import Target
from convbench.words.status import Outcome

BUDGET_S = 0.05
"""For the samples of one cell in one process."""


def trial(
    evidence: Evidence, seconds: float, draw: Callable[[int, int | None], Draw | Outcome]
) -> Generator[Step]:
    """Draw process after process until the time is over."""
    modes = thread_modes(evidence.facts)
    evidence = replace(evidence, trial_before=facts.moment())
    begin_s, begin_cpu_s = time.monotonic(), time.process_time()
    draws: list[Draw] = []
    while time.monotonic() - begin_s < seconds:
        answer = draw(len(draws), modes[len(draws) % len(modes)])
        if isinstance(answer, Outcome):
            yield Step(replace(evidence, failure=answer), "gave up")
            return
        draws.append(answer)
        evidence = replace(
            evidence,
            draws=tuple(draws),
            trial_after=facts.moment(),
            own_cpu_s=time.process_time() - begin_cpu_s + sum(draw.cpu_s for draw in draws),
        )
        elapsed_s = time.monotonic() - begin_s
        doing = f"{len(draws)} processes in {elapsed_s:.0f} of {seconds:g} s"
        yield Step(evidence, doing, again=True)


def thread_modes(facts: Mapping[str, Any]) -> tuple[int | None, ...]:
    """With how many threads to time: one, and as many as the libraries like if that is more."""
    settings = facts.get("thread_settings", {})
    limited = settings.get("OPENBLAS_NUM_THREADS", settings.get("OMP_NUM_THREADS")) == "1"
    return (1,) if limited or facts.get("logical_cores", 1) == 1 else (1, None)


def draw_in_process(number: int, threads: int | None) -> Draw | Outcome:
    """Time every cell in a new interpreter.

    It is not forked: libraries choose the number of their threads when they are loaded.
    """
    child = Child(_time_cells, (number,), threads)
    try:
        answer: Any = child.receive(START_TIMEOUT_S)
    finally:
        child.close()
    return answer if isinstance(answer, Outcome) else Draw(threads, *answer)


def _time_cells(number: int, pipe: Questions) -> None:
    """Send the medians, the spreads and the processor time."""
    backend = open_backend(Target("numpy", "", "cpu"))
    medians_s, spreads = {}, {}
    names = list(CELLS)
    turn = number % len(names)
    for name in names[turn:] + names[:turn]:  # none of them always comes first
        inputs = make_inputs(CELLS[name], "float32", Fill.NORMAL, seed=0)
        run = backend.build(CELLS[name], inputs.weights)
        x = backend.to_device(inputs.x)
        timing = measure(run, x, backend.synchronize, budget_s=BUDGET_S)
        medians_s[name] = statistics.median(timing.samples_s)
        spreads[name] = half_range(timing.samples_s) / medians_s[name]
    pipe.send((medians_s, spreads, time.process_time()))
