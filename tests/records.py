"""Records and sides as the tests of comparisons need them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from convbench.comparing.sides import Side
from convbench.results.records import Record
from convbench.words.status import Status

BASE, HEAD = "0" * 39 + "1", "f" * 39 + "2"
TARGET, WORKLOAD = "numpy@cpu", "net.conv"


def record(commit=BASE, **fields):
    """A record of a whole pipeline's time, with what is given put into it."""
    known = {
        "machine": "vm", "commit": commit, "environment": "env", "commit_time_s": 1.0,
        "measured_at_s": 1.0, "benchmark": "bench_pipeline.Smoke.track_time", "version": "1",
        "kind": "time", "target": TARGET, "workload": WORKLOAD, "stage": "", "status": Status.OK,
    }  # fmt: skip
    return Record(**{**known, **fields})


def timed(commit=BASE, seconds=1e-3, spread=0.01, processes=5, **fields):
    """A cell measured in so many processes, whose logarithms have exactly this mean and spread."""
    noise = np.linspace(-1, 1, processes) if processes > 1 else np.zeros(processes)
    if processes > 1:
        noise /= noise.std(ddof=1)
    each = tuple((seconds * np.exp(spread * noise)).tolist())
    return replace(record(commit, value=seconds, processes=each), **fields)


def checked(commit=BASE, error=0.05, digests=("aa",), **fields):
    """What the check of an output has found: an error over bound, or the status that is given."""
    wrong = error is not None and error > 1
    return replace(
        record(
            commit, benchmark="bench_accuracy.Smoke.track_error_over_bound", kind="accuracy",
            value=error, status=Status.WRONG if wrong else Status.OK,
            reason=f"the error is {error:.3g} times its bound: at [0]" if wrong else "",
            facts={"digests": list(digests)},
        ),
        **fields,
    )  # fmt: skip


def side(*records, commit=None, environment="env", machine="vm"):
    """A side of these records."""
    commit = commit or (records[0].commit if records else BASE)
    return Side(commit, environment, machine, tuple(records))
