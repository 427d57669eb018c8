"""Look at the machine, then time the same code in fresh processes: whatever differs is noise."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from typing import Any

from convbench.backends import open_backend
from convbench.machine import facts, nvidia
from convbench.machine.child import START_TIMEOUT_S, Child, Questions
from convbench.measuring.doctor.evidence import CELLS, Draw, Evidence, Step, blas_threads
from convbench.measuring.doctor.noise import half_range
from convbench.measuring.timing import measure, overhead
from convbench.stimulus.formats import Fill
from convbench.stimulus.inputs import make_inputs
from convbench.stimulus.targets import Target
from convbench.words.status import Outcome

_NUMPY = Target("numpy", "", "cpu")

BUDGET_S = 0.05
"""For the samples of one cell in one process."""


def thread_modes(facts: Mapping[str, Any]) -> tuple[int | None, ...]:
    """With how many threads to time: one, and as many as the libraries like if that is more."""
    return (1,) if blas_threads(facts) == 1 else (1, None)


def draw_in_process(number: int, threads: int | None, target: Target = _NUMPY) -> Draw | Outcome:
    """Time every cell in a new interpreter.

    It is not forked: libraries choose the number of their threads when they are loaded.
    """
    child = Child(_time_cells, (number, str(target)), threads)
    try:
        answer: Any = child.receive(START_TIMEOUT_S)
    finally:
        child.close()
    return answer if isinstance(answer, Outcome) else Draw(threads, **answer)


def _time_cells(number: int, target: str, pipe: Questions) -> None:
    """Send the medians, the spreads and the processor time."""
    backend = open_backend(Target.parse(target))
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
    cpu_s, versions = time.process_time(), backend.versions()
    pipe.send({"medians_s": medians_s, "spreads": spreads, "cpu_s": cpu_s, "versions": versions})


def examine(
    seconds: float,
    *,
    look_s: float = 1.0,
    draw: Callable[[int, int | None], Draw | Outcome] = draw_in_process,
) -> Generator[Step]:
    """Look at the machine, then time the same code in fresh processes, and tell after each step.

    Closing the iterator, as Ctrl-C does, ends the process that is running.

    Parameters
    ----------
    seconds : float
        For the timing; 0 leaves it out.
    look_s : float
        How long to watch what else runs while nothing is asked of the machine.
    draw : callable
        ``(number, threads) -> Draw``, in a process of its own.
    """
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
        yield from _trial(evidence, seconds, draw)


def _trial(
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
