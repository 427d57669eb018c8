# ruff: noqa: T201  (a script talks to whoever started it)
"""What does it cost to look at many results? Prints a table in Markdown.

    .venv/bin/python studies/scale.py [--sizes 10x100x1,100x1000x1] [--no-publish] [--keep FOLDER]

A size is commits x series x machines. Results of that size are made up in a folder of their own, a
git repository with as many commits: asv's files for all of them, and the evidence, which only says
more about the two commits that are compared, for the newest ten. A tenth of the series takes 1.2
times as long from a commit in the middle on. Then `convbench compare`, `convbench report` and
`asv publish` are timed on the same files, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BENCHMARK = "bench_pipeline.Smoke.track_time"
TARGETS = ("numpy@cpu", "tensorflow@cpu", "tensorflow.xla@cpu", "cupy@gpu:0")
ENVIRONMENT = "virtualenv-py3.12"
ROUNDS = 5
WITH_EVIDENCE = 10
COLUMNS = (
    "result", "params", "version", "started_at", "duration", "stats_ci_99_a", "stats_ci_99_b",
    "stats_q_25", "stats_q_75", "stats_number", "stats_repeat", "samples", "profile",
)  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """Of one command."""

    seconds: float
    peak_mb: float
    code: int

    def __str__(self) -> str:
        return f"{self.seconds:.1f} | {self.peak_mb:.0f}"


def call(folder: Path, *words: str) -> Cost:
    """Run a command of this environment there, and say what it took."""
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        said = process.stderr.read().decode(errors="replace")
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1, 2, 3):
        sys.exit(f"{' '.join(words)} ended with {process.returncode}:\n{said[-2000:]}")
    return Cost(time.perf_counter() - start, usage.ru_maxrss / 1e3, process.returncode)


def make_commits(folder: Path, count: int) -> list[tuple[str, int]]:
    """Make a repository with empty commits, and return their hashes and times."""
    subprocess.run(["git", "init", "--quiet", "--initial-branch", "main", folder], check=True)
    lines = []
    for i in range(count):
        made = 1_700_000_000 + 3600 * i
        message = f"Change number {i}"
        lines += [
            "commit refs/heads/main", f"committer a <a@example.org> {made} +0000",
            f"data {len(message)}", message,
        ]  # fmt: skip
    stream = "\n".join((*lines, "done", "")).encode()
    git = ("git", "-C", str(folder))
    subprocess.run([*git, "fast-import", "--quiet", "--done"], input=stream, check=True)
    listed = subprocess.run(
        [*git, "log", "--reverse", "--format=%H %ct", "main"],
        check=True, capture_output=True, text=True,
    ).stdout.split("\n")  # fmt: skip
    return [(line.split()[0], int(line.split()[1])) for line in listed if line]


def make_results(folder: Path, commits: int, series: int, machines: int) -> None:
    """Write asv's files, and the evidence beside the newest."""
    chance = random.Random(20240607)  # noqa: S311
    per_target = math.ceil(series / len(TARGETS))
    workloads = [f"net{i % 10}.layer_{i}" for i in range(per_target)]
    cells = [(target, workload) for target in TARGETS for workload in workloads][:series]
    params = [[repr(t) for t in TARGETS], [repr(w) for w in workloads]]
    seconds = [1e-4 * 10 ** chance.uniform(0, 3) for _ in cells]
    steps = [chance.random() < 0.1 for _ in cells]
    results = folder / ".asv" / "results"
    made = make_commits(folder, commits)
    for k in range(machines):
        machine = {
            "machine": f"machine{k}", "os": "Linux", "arch": "x86_64", "cpu": "a CPU",
            "num_cpu": "2", "ram": "8 GB",
        }  # fmt: skip
        (results / machine["machine"]).mkdir(parents=True)
        (results / machine["machine"] / "machine.json").write_text(
            json.dumps(machine | {"version": 1})
        )
        for i, (commit, made_s) in enumerate(made):
            times = [
                s * (1.2 if step and i >= commits // 2 else 1.0) * math.exp(chance.gauss(0, 0.02))
                for s, step in zip(seconds, steps, strict=True)
            ]
            name = f"{commit[:8]}-{ENVIRONMENT}"
            content = asv_file(machine, commit, made_s, params, times)
            (results / machine["machine"] / f"{name}.json").write_text(json.dumps(content))
            if i >= commits - WITH_EVIDENCE:
                path = folder / ".asv" / "evidence" / machine["machine"] / f"{name}.jsonl"
                path.parent.mkdir(parents=True, exist_ok=True)
                lines = evidence(machine["machine"], commit, made_s, cells, times, chance)
                path.write_text("\n".join(map(json.dumps, lines)))
    described = {
        "code": "", "name": BENCHMARK, "param_names": ["target", "workload"], "params": params,
        "type": "time", "unit": "seconds", "version": "1", "timeout": 60.0,
    }  # fmt: skip
    (results / "benchmarks.json").write_text(json.dumps({BENCHMARK: described, "version": 2}))
    config = {
        "version": 1, "project": "scale", "repo": ".", "branches": ["main"],
        "results_dir": ".asv/results", "html_dir": ".asv/html", "env_dir": ".asv/env",
    }  # fmt: skip
    (folder / "asv.conf.json").write_text(json.dumps(config))


def asv_file(
    machine: dict[str, str], commit: str, made_s: int, params: list[list[str]], times: list[float]
) -> dict[str, object]:
    """What asv writes for a commit."""
    full = math.prod(map(len, params))
    padded = [float(f"{t:.6g}") for t in times] + [math.nan] * (full - len(times))
    row = {
        "result": padded, "params": params, "version": "1", "started_at": made_s * 1000,
        "duration": 100.0, "stats_ci_99_a": [t * 0.99 for t in padded],
        "stats_ci_99_b": [t * 1.01 for t in padded], "stats_q_25": padded, "stats_q_75": padded,
        "stats_number": [3] * full, "stats_repeat": [25] * full,
    }  # fmt: skip
    return {
        "commit_hash": commit, "env_name": ENVIRONMENT, "date": made_s * 1000,
        "params": machine | {"python": "3.12"}, "python": "3.12", "requirements": {},
        "env_vars": {}, "result_columns": COLUMNS,
        "results": {BENCHMARK: [row.get(column) for column in COLUMNS if column in row]},
        "durations": {}, "version": 2,
    }  # fmt: skip


def evidence(
    machine: str, commit: str, made_s: int, cells: list[tuple[str, str]], times: list[float],
    chance: random.Random,
) -> Iterator[dict[str, object]]:  # fmt: skip
    """What `convbench bench` appends for a commit."""
    about = {"schema": 2, "time_s": made_s, "run": "r"}
    filed = {"machine": machine, "commit": commit, "environment": ENVIRONMENT}
    yield about | filed | {"kind": "run", "state": "begun", "plan": "p", "commit_time_s": made_s}
    for number in range(1, ROUNDS + 1):
        process = about | {"process": f"p{number}"}
        yield process | {"kind": "process", "versions": {"numpy": "2.4"}, "machine": {"smt": True}}
        for (target, workload), t in zip(cells, times, strict=True):
            cell = process | {
                "kind": "cell", "round": number, "benchmark": BENCHMARK,
                "params": [target, workload], "version": "1",
            }  # fmt: skip
            yield cell | {"status": "started"}
            samples = [float(f"{t * math.exp(chance.gauss(0, 0.01)):.5g}") for _ in range(5)]
            yield cell | {
                "status": "ok", "samples_s": samples, "number": 3, "flops": 10**9, "bytes": 10**7,
                "dtype": "float32", "algorithm": "im2col", "method": "wall time",
            }  # fmt: skip


def main() -> None:
    """Make results of each size, look at them, and print what that took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="10x100x1,30x300x1,100x300x1,100x300x3")
    parser.add_argument("--no-publish", action="store_true", help="without asv, which is slow")
    parser.add_argument("--keep", type=Path, help="leave the results of each size there")
    options = parser.parse_args()
    print("| commits | series | machines | results, MB | compare, s | MB | report, s | MB"
          " | page, MB | asv publish, s | MB |")  # fmt: skip
    print(f"|{'--:|' * 11}")
    for size in options.sizes.split(","):
        with tempfile.TemporaryDirectory(prefix="convbench-scale-") as name:
            folder = (options.keep or Path(name)) / size
            make_results(folder, *map(int, size.split("x")))
            files = sum(f.stat().st_size for f in (folder / ".asv").rglob("*.json*")) / 1e6
            side = "::machine0"
            compared = call(folder, "convbench", "compare", f"main~1{side}", f"main{side}")
            reported = call(folder, "convbench", "report", f"main{side}")
            page = (folder / ".asv" / "report.html").stat().st_size / 1e6
            published = "" if options.no_publish else str(call(folder, "asv", "publish"))
            print(f"| {size.replace('x', ' | ')} | {files:.1f} | {compared} | {reported}"
                  f" | {page:.1f} | {published or '- | -'} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
