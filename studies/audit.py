# ruff: noqa: T201  (a script talks to whoever started it)
"""How often is an honest backend accused, and what does looking cost? Prints Markdown.

    make audit-study
    .venv/bin/python studies/audit.py [--passes N] [--pairs N] [--part quiet,busy,looks,zoo,cost]
                                      [--list standard]

The rows of a list are audited on honest targets, again and again: without load, and with two
processes beside it that do nothing but compute. Every claim that is not supported then is a false
accusation. So is every doubt when `convbench bench` looks at the standard list. The zoo's self-test
says what is seen of those that are not honest. And `convbench bench` measures the same cells with
and without an examiner, in turns. reports/audit.md is what it printed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from scipy.stats import binomtest

from convbench.auditing.audit import Audited, Auditor
from convbench.auditing.claims import Support
from convbench.auditing.judge import Judge
from convbench.machine import facts
from convbench.measuring.asv_store import Store
from convbench.measuring.bench import Bench
from convbench.results.journal import read
from convbench.stimulus.targets import Target
from convbench.stimulus.workloads import load, select

ROOT = Path(__file__).parents[1]
TARGETS = ("numpy", "tensorflow", "tensorflow.xla", "tensorflow.eager", "pool")
"""`pool` is NumPy behind a thread pool for which synchronize() waits."""

BUSY = 2
COST_CELLS = r"\.Smoke\."
"""All that `make bench` measures."""


def spin() -> None:
    """Compute until somebody ends it."""
    while True:
        math.sqrt(2.0)


@contextlib.contextmanager
def load_of(number: int) -> Iterator[None]:
    """So many busy processes beside what is done meanwhile."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=spin, daemon=True) for _ in range(number)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def audit(rows: str, passes: int, busy: int) -> Iterator[tuple[float, Audited]]:
    """Audit every row of a list on every target, so often."""
    workloads = select(load(), rows)
    with load_of(busy), Auditor() as auditor:
        for _ in range(passes):
            for name in TARGETS:
                begun_s = time.monotonic()
                for audited in auditor.audit(Target.parse(f"{name}@cpu"), workloads):
                    yield time.monotonic() - begun_s, audited
                    begun_s = time.monotonic()


def report(name: str, rows: str, passes: int, busy: int) -> None:
    """Print how many honest cells were accused, of what, and how long a cell took."""
    seconds: list[float] = []
    accused: list[str] = []
    cells: Counter[str] = Counter()
    of_target: Counter[str] = Counter()
    failed: list[str] = []
    before = os.getloadavg()[0]
    for taken_s, audited in audit(rows, passes, busy):
        where = f"{audited.target} {audited.workload}"
        if audited.outcome is not None:
            failed.append(f"{where}: {audited.outcome.reason}")
            continue
        seconds.append(taken_s)
        cells[str(audited.target)] += 1
        doubted = [c for c in audited.receipt.claims if c.verdict is Support.NOT_SUPPORTED]
        if doubted:
            of_target[str(audited.target)] += 1
            accused.append(f"{where}: {'; '.join(f'{c.claim}: {c.reason}' for c in doubted)}")
        print(f"{name} {where} {'accused' if doubted else ''}", file=sys.stderr, flush=True)
    total = cells.total()
    print(f"\n## Honest targets, {name}\n")
    print(
        f"The load average was {before:.1f} at the beginning, {os.getloadavg()[0]:.1f} at the end."
    )
    print("\n| target | audited cells | accused | 95 % interval |\n|---|--:|--:|---|")
    rows = [(target, of_target[target], cells[target]) for target in cells]
    for target, found, of in [*rows, ("all", len(accused), total)]:
        low, high = binomtest(found, of).proportion_ci()  # Clopper and Pearson's
        print(f"| {target} | {of} | {found} | {low:.1%} to {high:.1%} |")
    if seconds:
        most_s = statistics.quantiles(seconds, n=20)[-1]
        print(f"\nA cell took {statistics.median(seconds):.1f} s (median), {most_s:.1f} s (95 %).")
    for line in accused:
        print(f"\n- {line}")
    for line in failed:
        print(f"\n- not audited: {line}")


LOOKS = r"bench_(pipeline|stages|layers)\.Standard\..*time"
"""Times of the standard list, with its biases and pools alone: layers that only move bytes."""


def looks(folder: Path, busy: int) -> None:
    """Print how often `convbench bench` doubts an honest time of the standard list."""
    call = ["git", "clone", "--quiet", "--shared", str(ROOT), str(folder)]
    subprocess.run(call, check=True)
    words = ("bench", "--rounds", "1", "--bench", LOOKS, "--json")
    source = {"PYTHONPATH": str(folder / "src"), "CONVBENCH_FULL": "1"}
    with load_of(busy):
        done = subprocess.run(
            [sys.executable, "-m", "convbench", *words],
            cwd=folder, env=os.environ | source, stdout=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    rows = json.loads(done.stdout)["rows"]
    timed = [row for row in rows if row["time_s"] is not None]
    invalid = [row for row in rows if row["status"] == "invalid"]
    doubts: list[bool] = []
    for path in (folder / ".asv" / "evidence").glob("*/*.jsonl"):
        for note in read(path).notes:
            claims = note.facts.get("receipt", {}).get("claims", ())
            doubts += [c["verdict"] != "holds" for c in claims if c["claim"] == "time"]
    low, high = binomtest(sum(doubts), len(doubts)).proportion_ci()
    beside = f"beside {busy} busy processes" if busy else "with nothing beside it"
    print(f"\n## The standard list, {beside}\n")
    print(f"`convbench bench --rounds 1 --bench '{LOOKS}'` ended with {done.returncode}:")
    print(f"{len(timed)} rows with a time, {len(invalid)} of them invalid.")
    print(f"{sum(doubts)} of {len(doubts)} looks doubted a time ({low:.1%} to {high:.1%});")
    print("a row is invalid if another process does not hold it either.")


def zoo() -> None:
    """Print what the self-test sees."""
    done = subprocess.run(
        [sys.executable, "-m", "convbench", "audit", "--self-test"],
        capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "160"},
    )  # fmt: skip
    print(f"\n## The zoo\n\n`convbench audit --self-test` ended with {done.returncode}:\n")
    print(f"```\n{done.stdout.strip()}\n```")


def bench_once(config: Path, examined: str) -> None:
    """In a process of its own: measure, and print how long it took."""
    os.chdir(config.parent)
    head = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    store = Store(config, [COST_CELLS], head.stdout.strip())
    with Judge() as judge:
        bench = Bench(store, fresh=True, examiner=judge if examined == "with" else None)
        for _ in bench.measure():
            pass
    looked = sum(cell.stands for cell in bench.cells)
    found = {"elapsed_s": bench.elapsed_s, "cells": len(bench.cells), "looked_at": looked}
    print(json.dumps(found))


def cost(pairs: int) -> None:
    """Print how much longer a run takes with an examiner."""
    ratios, seconds, found = [], [], {"cells": 0, "looked_at": 0}
    with tempfile.TemporaryDirectory(prefix="convbench-study-") as made:
        folder = Path(made) / "project"
        subprocess.run(["git", "clone", "--quiet", "--shared", str(ROOT), str(folder)], check=True)
        for pair in range(pairs):
            took: dict[str, float] = {}
            for examined in ("with", "without") if pair % 2 else ("without", "with"):
                done = subprocess.run(
                    [sys.executable, __file__, "--bench-once", str(folder), examined],
                    check=True, capture_output=True, text=True,
                )  # fmt: skip
                found = json.loads(done.stdout.splitlines()[-1])
                took[examined] = found["elapsed_s"]
            ratios.append(took["with"] / took["without"])
            seconds.append((took["with"] - took["without"]) / found["looked_at"])
            print(f"cost: {took}", file=sys.stderr, flush=True)
    each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    print("\n## What it costs\n")
    print(
        f"`convbench bench` on all {found['cells']} cells of `make bench`, {found['looked_at']} of"
        " which have a receipt,"
    )
    print(f"with / without an examiner, in turns: {each}; median {statistics.median(ratios):.2f}.")
    print(f"That is {statistics.median(seconds):.2f} s a cell with a receipt.")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], usage="audit.py [--passes N] [--pairs N] [--part P]"
    )
    parser.add_argument("--passes", type=int, default=5, help="over all cells; default: 5")
    parser.add_argument("--list", default="smoke", help="of workloads; default: smoke")
    parser.add_argument("--pairs", type=int, default=3, help="of runs of bench; default: 3")
    parser.add_argument(
        "--part", default="quiet,busy,looks,zoo,cost", help="which of these; default: all"
    )
    parser.add_argument("--bench-once", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bench_once:
        bench_once(Path(arguments.bench_once[0]) / "asv.conf.json", arguments.bench_once[1])
        return
    sys.path.insert(0, str(ROOT))
    from tests.auditing.crooked import write_plugin  # noqa: PLC0415  # it is no package of ours

    parts = arguments.part.split(",")
    with tempfile.TemporaryDirectory(prefix="convbench-study-") as made:
        sys.path.insert(0, str(write_plugin(Path(made) / "plugin")))  # the processes inherit it
        known = facts.machine_facts()
        print("# What the judge makes of honest targets, and of others\n")
        print(f"`studies/audit.py` on {known['cpu_model']}, {os.cpu_count()} cores.")
        if "quiet" in parts:
            report("nothing started beside them", arguments.list, arguments.passes, 0)
        if "busy" in parts:
            report(f"{BUSY} busy processes beside them", arguments.list, arguments.passes, BUSY)
        for busy in (0, BUSY):
            if "looks" in parts:
                looks(Path(made) / f"looks-{busy}", busy)
        if "zoo" in parts:
            zoo()
        if "cost" in parts:
            cost(arguments.pairs)


if __name__ == "__main__":
    main()
