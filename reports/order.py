# ruff: noqa: T201  (a script talks to whoever started it)
"""Does it matter where in its process a cell is measured? Reads the evidence of a run.

    .venv/bin/python reports/order.py .asv/evidence/MACHINE/COMMIT-ENVIRONMENT.jsonl

`convbench bench` measures many cells in one process, in an order that is drawn anew in each round.
If what the cells before it leave behind made a cell slower, its time would grow with its place.
Each process median is divided by the geometric mean of its cell over the rounds, and the logarithm
is regressed on the place in the process, from 0 for the first cell to 1 for the last.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections import defaultdict
from pathlib import Path

from scipy.stats import linregress

from convbench import evidence


def main() -> None:
    """Read, regress and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    journal = evidence.read(parser.parse_args().file)
    if not journal.runs:
        raise SystemExit("no run of `convbench bench` is in that file")
    run = list(journal.runs)[-1]
    order: dict[str, list[evidence.Note]] = defaultdict(list)
    for note in journal.notes:
        if note.run == run and note.status == "ok" and "samples_s" in note.facts:
            order[note.process].append(note)
    logs: dict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
    places: dict[tuple[tuple[str, ...], str], float] = {}
    for process, notes in order.items():
        for place, note in enumerate(notes):
            cell = (note.benchmark, *note.params)
            logs[cell][process] = math.log(statistics.median(note.facts["samples_s"]))
            if len(notes) > 1:
                places[cell, process] = place / (len(notes) - 1)
    x, y = [], []
    for cell, of_process in logs.items():
        mean = statistics.mean(of_process.values())
        for process, log in of_process.items():
            if len(of_process) > 1 and (cell, process) in places:
                x.append(places[cell, process])
                y.append(log - mean)
    found = linregress(x, y)
    print(f"{len(x)} process medians of {len(logs)} cells in {len(order)} processes")
    print(f"from the first to the last place: {math.expm1(found.slope):+.1%}", end=" ")
    print(f"(standard error {found.stderr:.1%}, p = {found.pvalue:.2f})")
    first = [b for a, b in zip(x, y, strict=True) if a == 0]
    if first:
        print(
            f"the very first cell of a process: {math.expm1(statistics.median(first)):+.1%}",
            end=" ",
        )
        print(f"against its own mean (median of {len(first)})")


if __name__ == "__main__":
    main()
