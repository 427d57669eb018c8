# ruff: noqa: T201  (a script talks to whoever started it)
"""Does it matter where in its process a cell is measured? Reads the evidence of a run.

    .venv/bin/python studies/order.py .asv/evidence/MACHINE/COMMIT-ENVIRONMENT.jsonl

`convbench bench` measures many cells in one process, in an order that is drawn anew in each round.
If what the cells before it leave behind made a cell slower, its time would grow with its place.
Each process median is divided by the geometric mean of its cell over the rounds, and within each
process the logarithm is regressed on the place, from 0 for the first cell to 1 for the last. What
one process meets is common to its cells, so that each process gives one slope.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections import defaultdict
from pathlib import Path

from scipy.stats import linregress, ttest_1samp

from convbench.results.journal import Note, read

_FEWEST_CELLS = 20


def main() -> None:
    """Read, regress and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    journal = read(parser.parse_args().file)
    if not journal.runs:
        raise SystemExit("no run of `convbench bench` is in that file")
    run = list(journal.runs)[-1]
    order: dict[str, list[Note]] = defaultdict(list)
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
    of_process: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for cell, times in logs.items():
        mean = statistics.mean(times.values())
        for process, log in times.items():
            if len(times) > 1 and (cell, process) in places:
                of_process[process].append((places[cell, process], log - mean))
    slopes = [
        linregress(*zip(*points, strict=True)).slope
        for points in of_process.values()
        if len(points) >= _FEWEST_CELLS
    ]
    if len(slopes) < 2:
        raise SystemExit(f"fewer than 2 processes have {_FEWEST_CELLS} cells")
    found = ttest_1samp(slopes, 0.0)
    error = statistics.stdev(slopes) / math.sqrt(len(slopes))
    print(
        f"{len(slopes)} processes of {len(logs)} cells; from the first to the last place:", end=" "
    )
    print(f"{math.expm1(statistics.mean(slopes)):+.1%} (standard error {error:.1%},", end=" ")
    print(f"p = {found.pvalue:.2f})")


if __name__ == "__main__":
    main()
