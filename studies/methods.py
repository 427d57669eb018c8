# ruff: noqa: T201  (a script talks to whoever started it)
"""Does NumPy's backend take the fastest method for each layer? Asks clocks.

    .venv/bin/python studies/methods.py > reports/methods.md

Time is that of one thread on its core, so that what else the machine does costs a cell its caches
at most. *Before* is what the backend did until it had methods: the array-generic kernels, which
CuPy still uses. A call of that and one of what the rule takes follow each other, and so do then
calls of all methods that can compute the layer; *lost* is how much longer than the fastest of them
the rule's takes. All of it is done twice: with the kernels that OpenBLAS takes for this processor,
and with those for one without AVX-512.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np

from convbench.backends import array_kernels, methods
from convbench.machine.facts import machine_facts
from convbench.stimulus.formats import Fill
from convbench.stimulus.inputs import make_inputs
from convbench.stimulus.spec import PipelineSpec
from convbench.stimulus.workloads import load, select

BEFORE, RULE = "before", "rule"
BLOCK_BYTES = 1 << 20
"""That of the backend before it had methods."""

SHORT_S = 50e-6
"""Shorter calls are timed several at once: reading the clock takes part of a microsecond."""


def main() -> None:
    """Measure in two processes, and print a page of both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", default="standard", dest="tier")
    parser.add_argument("--seconds", type=float, default=0.3, help="per layer and method")
    parser.add_argument("--measure", action="store_true", help="as JSON, with the kernels here")
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measured(arguments.tier, arguments.seconds)))
        return
    print(f"# Which method is the fastest\n\n{__doc__.split(chr(10) * 2)[2]}")
    load_ = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    date = datetime.now(tz=UTC).date()
    print(f"{machine_facts()['cpu_model']}, NumPy {np.__version__}, Python", end=" ")
    print(f"{platform.python_version()}, load {load_}, {date},", end=" ")
    command = f"--list {arguments.tier} --seconds {arguments.seconds}"
    print(f"`python studies/methods.py {command}`")
    for core in (None, "Haswell"):
        print(page(core, in_process(core, arguments)))


def in_process(core: str | None, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure with the kernels that OpenBLAS has for a core, or takes by itself."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
    environment["OPENBLAS_NUM_THREADS"] = environment["OMP_NUM_THREADS"] = "1"
    if core is not None:
        environment["OPENBLAS_CORETYPE"] = core
    command = [sys.executable, __file__, "--measure", "--list", arguments.tier]
    command += ["--seconds", str(arguments.seconds)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measured(tier: str, seconds: float) -> dict[str, Any]:
    """For each layer its kind, what the rule takes, and the median time of every method."""
    found = {}
    for row in select(load(), tier):
        pipeline = row.pipeline
        inputs = make_inputs(pipeline, "float32", Fill.NORMAL, 0)
        runs = {BEFORE: array_kernels.build(np, pipeline, inputs.weights, BLOCK_BYTES)}
        taken = RULE
        if pipeline.conv is None:
            runs[RULE] = methods.plan(pipeline, inputs.weights)
        else:
            taken = methods.choose(pipeline)
            for name, method in methods.METHODS.items():
                if not any(hole.applies(pipeline, "float32") for hole in method.holes):
                    runs[name] = methods.plan(pipeline, inputs.weights, name)
        functions = {name: run.function for name, run in runs.items()}
        pair = turns({name: functions.pop(name) for name in (BEFORE, taken)}, inputs.x, seconds)
        functions[taken] = runs[taken].function
        found[row.name] = {
            "kind": kind(pipeline), "taken": taken, "algorithm": runs[taken].algorithm,
            "before_s": pair[BEFORE], "now_s": pair[taken],
            "methods_s": turns(functions, inputs.x, seconds) if len(functions) > 1 else pair,
        }  # fmt: skip
        print(row.name, file=sys.stderr)
    return found


def turns(
    functions: dict[str, Callable[[Any], Any]], x: np.ndarray, seconds: float
) -> dict[str, float]:
    """The median time of each in seconds of its thread, a call after the other."""
    samples: dict[str, list[float]] = {name: [] for name in functions}
    calls = {}
    for name, function in functions.items():
        function(x)
        start = time.thread_time()
        function(x)
        calls[name] = max(1, math.ceil(SHORT_S / max(time.thread_time() - start, 1e-7)))
    end = time.thread_time() + seconds * len(functions)
    while time.thread_time() < end or len(samples[name]) < 5:
        for name, function in functions.items():
            start = time.thread_time()
            for _ in range(calls[name]):
                function(x)
            samples[name].append((time.thread_time() - start) / calls[name])
    return {name: statistics.median(values) for name, values in samples.items()}


def kind(pipeline: PipelineSpec) -> str:
    """What a layer is, as far as methods differ on it."""
    conv = pipeline.conv
    if conv is None:
        return "pooling"
    if conv.groups > 1:
        return "depthwise" if conv.groups == pipeline.c else "grouped"
    if pipeline.conv_shape[1:3] == (1, 1):
        return "the filter is the image"
    if conv.window == (1, 1):
        return "1x1"
    return "C <= 4" if pipeline.c <= 4 else "3x3" if conv.window == (3, 3) else "others"


def page(core: str | None, found: dict[str, Any]) -> str:
    """A section of the report."""
    title = (
        f"As on a core without AVX-512 (`OPENBLAS_CORETYPE={core}`)" if core else "As it is here"
    )
    lines = [
        f"\n## {title}\n",
        "| layer | kind | before, us | now, us | before / now | taken | fastest | lost |",
        "|---|---|--:|--:|--:|---|---|--:|",
    ]
    gains, lost = defaultdict(list), []
    for name, row in found.items():
        before, now, times = row["before_s"], row["now_s"], row["methods_s"]
        fastest = min(times, key=times.__getitem__)
        lost.append(times[row["taken"]] / times[fastest] - 1)
        for group in (row["kind"], "all"):
            gains[group].append(before / now)
        taken = row["algorithm"] if row["taken"] == RULE else row["taken"]
        best = "" if row["taken"] == RULE else fastest
        lines.append(
            f"| {name} | {row['kind']} | {before * 1e6:.1f} | {now * 1e6:.1f} |"
            f" {before / now:.2f} | {taken} | {best} | {lost[-1]:.0%} |"
        )
    right = sum(value == 0 for value in lost)
    lines += [
        f"\nThe rule took the fastest of the methods on {right} of {len(lost)} layers, and lost"
        f" {max(lost):.0%} at most.\n",
        "| kind | layers | before / now, geometric mean | the smallest |",
        "|---|--:|--:|--:|",
        *(
            f"| {group} | {len(values)} | {statistics.geometric_mean(values):.2f} |"
            f" {min(values):.2f} |"
            for group, values in sorted(gains.items())
        ),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
