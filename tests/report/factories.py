"""Data for a page, made of records: as much or as little as a test needs."""

from __future__ import annotations

import numpy as np

from convbench.comparing.judge import compare
from convbench.report.data import Data
from convbench.results.history import History, Series
from convbench.results.rows import summarise
from convbench.words.status import Status

from ..records import BASE, HEAD, checked, record, side, timed

TARGETS = ("numpy@cpu", "tensorflow@cpu", "tensorflow.xla@cpu")
WORKLOADS = ("net.conv1", "net.conv2", "net.pool")
COMMITS = (*(f"{i:040x}" for i in range(0xA0, 0xA8)), BASE, HEAD)

HOSTILE = (
    "</script><script>window.pwned = 1</script>",
    '"><img src=x onerror="window.pwned = 2">',
    "<!-- {{ 7 * 7 }} ${window.pwned = 3} javascript:window.pwned=4",
    "\u2028\u2029\ud800\x00\x1b[31m\u202eevil",
    "' onmouseover='window.pwned = 5",
)


def make(*head, base=(), history=None, **fields):
    """Data of these records."""
    comparison = compare(side(*base, commit=BASE), side(*head, commit=HEAD)) if base else None
    known = {"baseline": TARGETS[0], "history": history or no_history(), **fields}
    return Data(side(*head, commit=HEAD), tuple(summarise(head)), comparison=comparison, **known)


def no_history():
    return History((), np.zeros(0), (), np.zeros((0, 0)))


def past(rows, commits=COMMITS, **fields):
    """A history with these values, by workload (and target) or by a whole series."""
    known = {
        "machine": "vm", "environment": "env", "benchmark": "bench_pipeline.Smoke.track_time",
        "version": "1", "kind": "time", "target": TARGETS[0],
    } | fields  # fmt: skip
    series = tuple(
        name if isinstance(name, Series) else Series(**known, workload=name) for name in rows
    )
    times_s = 1.7e9 + 3600.0 * np.arange(len(commits))
    return History(tuple(commits), times_s, series, np.array([*rows.values()], float))


def suite(name, method="track_time"):
    return f"bench_{name}.Smoke.{method}"


def layer(commit, workload, target, seconds, **fields):
    """The time, the check and the stages of a pipeline, and its other suites."""
    where = {"commit": commit, "workload": workload, "target": target, **fields}
    facts = {
        "flops": 6e7, "bytes": 2e6, "algorithm": "im2col", "dtype": "float32",
        "versions": {"numpy": "2.4"}, "machine": {"cpu_model": "a CPU", "logical_cores": 2},
    }  # fmt: skip
    yield timed(**where, seconds=seconds, facts=facts)
    yield checked(**where, error=0.3, digests=("aa", "aa"))
    yield timed(**where, seconds=seconds * 0.8, benchmark=suite("stages"), stage="conv")
    yield timed(**where, seconds=seconds * 0.1, benchmark=suite("stages"), stage="pool")
    yield timed(**where, seconds=seconds * 1.5, benchmark=suite("cold"))
    yield record(
        **where, benchmark=suite("memory", "track_peak_bytes"), kind="memory", value=3e6,
        processes=(3e6,),
    )  # fmt: skip


def others(commit, target, factor):
    """What is measured of a target and not of a layer."""
    where = {"commit": commit, "target": target}
    machine = {"logical_cores": 2, "last_level_cache_bytes": 1 << 25}
    for name, seconds, facts in (
        ("ceiling.gemm", 0.01, {"flops": 2e9}),
        ("ceiling.copy", 0.02, {"bytes": 5e8}),
        ("ceiling.copy_cached", 5e-6, {"bytes": 5e5}),
    ):
        yield timed(
            **where, workload=name, seconds=seconds, benchmark=suite("ceiling"),
            facts=facts | {"machine": machine, "fastest_s": seconds},
        )  # fmt: skip
    for phase, seconds in (("import", 2.0), ("start", 0.01), ("build", 0.1), ("first_call", 0.002)):
        yield timed(
            **where, workload="net.conv1", stage=phase, seconds=seconds,
            benchmark=suite("first_call"),
        )  # fmt: skip
    for way in ("to_device", "to_numpy"):
        yield timed(
            **where, workload="transfer.1mb", stage=way, seconds=1e-4, benchmark=suite("transfer"),
            facts={"bytes": 1 << 20},
        )  # fmt: skip
    for axis, sizes in (("hw", (8, 32, 128)), ("c", (1, 16, 256))):
        for size in sizes:
            # The baseline is fast while small, and the others catch up.
            seconds = 1e-4 / factor + 1e-7 * size**1.5 * factor
            yield timed(
                **where, workload=f"sweep.{axis}_{size}", seconds=seconds, benchmark=suite("sweep")
            )


def everything(text=""):
    """A head and a base with every suite, a slow, a wrong, a failed and a skipped cell, a history.

    Parameters
    ----------
    text : str
        Put into every string that comes from a file.
    """
    workloads = [f"{name}{text}" for name in WORKLOADS]
    targets = [f"{name}{text}" for name in TARGETS]
    sides: dict[str, list] = {BASE: [], HEAD: []}
    for commit, found in sides.items():
        for factor, target in zip((1.0, 0.5, 2.0), targets, strict=True):
            found.extend(others(commit, target, 1 / factor))
            for i, workload in enumerate(workloads):
                slow = 1.3 if commit == HEAD and (i, factor) == (0, 1.0) else 1.0
                found.extend(layer(commit, workload, target, 1e-3 * (i + 1) * factor * slow))
        found.append(
            record(
                commit, target=f"cupy@gpu:0{text}", status=Status.SKIPPED, workload=workloads[0],
                reason=f"no device{text}", remedy=f"Buy one.{text}",
            )
        )  # fmt: skip
    sides[HEAD] += [
        checked(HEAD, error=7.5, workload=workloads[1], target=targets[2], digests=("bb", "cc")),
        record(
            HEAD, status=Status.FAILED, workload=workloads[2], target=targets[1],
            benchmark=suite("pipeline"), reason=f"no memory{text}", remedy=f"Free it.{text}",
            measured_at_s=2.0, facts={"versions": {f"numpy{text}": f"2.5{text}"}},
        ),
    ]  # fmt: skip
    steps = [1.0] * 4 + [1.5] * 6
    rows = {
        Series(
            f"vm{text}", f"env{text}", suite("pipeline"), "1", "time", target, workload
        ): [1e-3 * step * (1 + 0.01 * (i % 3)) for i, step in enumerate(steps)]
        for target in targets for workload in workloads
    }  # fmt: skip
    rows[
        Series(
            f"vm{text}", f"env{text}", suite("accuracy"), "1", "accuracy", targets[0], workloads[0]
        )
    ] = [0.5] * 5 + [2.0] * 2 + [0.5] * 3
    place = {"machine": f"vm{text}", "environment": f"env{text}"}
    base, head = (side(*records, commit=commit, **place) for commit, records in sides.items())
    return Data(
        head,
        tuple(summarise(head.records)),
        history=past(rows),
        comparison=compare(base, head),
        baseline=targets[0],
        subjects=dict.fromkeys(COMMITS, f"Change it{text}"),
        machines={f"vm{text}": {f"cpu{text}": f"a CPU{text}"}},
        remarks=(f"A remark.{text}",),
        problems=(f"a/file.json{text}: left out",),
    )
