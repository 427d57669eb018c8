# ruff: noqa: T201  (a script talks to whoever started it)
"""How often do two measurements of the same commit differ? Prints a table in Markdown.

    .venv/bin/python studies/aa.py [--bench REGEX] [--fronts asv,bench] [--rounds N] [--sessions N]

Two commits without a change are measured one after the other in a clone of this repository: by
`asv run` and, in another clone, by `convbench bench`, both in this environment. Then the cells are
counted whose times differ by more than 5 % and 10 %, as the geometric means of the process medians
see it, as asv's own `compare` reports it on the very same results, and as `convbench compare`
judges. Every one of them is a false alarm. With --sessions, so many sessions of `convbench bench`
are made instead, each of a commit of its own without a change, after three of the first commit,
from which `convbench compare` learns how far sessions differ; each is compared with all before.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import binomtest

from convbench.machine import facts
from convbench.results.records import load

ROOT = Path(__file__).parents[1]
IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@example.org")


@dataclass(frozen=True)
class Front:
    """What one way to measure has found."""

    name: str
    seconds: float
    log_ratios: list[float]
    asv_5: int
    asv_10: int
    verdicts: Counter[str]


def call(folder: Path, *words: str, check: bool = True) -> str:
    """Run a command of this environment there, on the code there, and return what it prints."""
    environment = os.environ | {"PYTHONPATH": str(folder / "src")}
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if check and done.returncode not in (0, 2):
        sys.exit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def clone(folder: Path) -> None:
    """Clone the commit that is checked out."""
    call(ROOT, "git", "clone", "--quiet", "--shared", str(ROOT), str(folder))


def measure(front: str, folder: Path, bench: str, rounds: int | None) -> tuple[str, str]:
    """Make two commits without a change and measure each of them."""
    commits = []
    for name in "AB":
        call(folder, "git", *IDENTITY, "commit", "--quiet", "--allow-empty", "-m", name)
        commits.append(call(folder, "git", "rev-parse", "HEAD").strip())
        if front == "asv":
            rounds_of = [] if rounds is None else ["-a", f"rounds={rounds}"]
            call(
                folder, sys.executable, "-m", "asv", "run",
                "-E", f"existing:{sys.executable}", "--set-commit-hash", commits[-1],
                "--launch-method", "forkserver", "--bench", bench, *rounds_of,
            )  # fmt: skip
        else:
            rounds_of = [] if rounds is None else ["--rounds", str(rounds)]
            call(folder, sys.executable, "-m", "convbench", "bench", "--bench", bench, *rounds_of)
        print(f"  {front} {name} measured", file=sys.stderr, flush=True)
    return commits[0], commits[1]


def log_ratios(folder: Path, base: str, head: str) -> list[float]:
    """Of the geometric means of the process medians, for every time that both commits have."""
    means: dict[tuple[str, ...], dict[str, float]] = {}
    for record in load(folder / ".asv" / "results").records:
        if record.kind == "time" and record.processes:
            key = (record.benchmark, record.target, record.workload, record.stage)
            logs = [math.log(seconds) for seconds in record.processes]
            means.setdefault(key, {})[record.commit] = sum(logs) / len(logs)
    return [of[head] - of[base] for of in means.values() if {base, head} <= of.keys()]


def asv_alarms(folder: Path, base: str, head: str, factor: float) -> int:
    """How many cells asv's own compare marks as better or worse."""
    printed = call(
        folder, sys.executable, "-m", "asv", "compare", base, head, "--factor", str(factor)
    )
    return len(re.findall(r"^\| [+-] ", printed, re.MULTILINE))


def verdicts(folder: Path, base: str, head: str) -> Counter[str]:
    """What `convbench compare` says of each time."""
    printed = call(
        folder, sys.executable, "-m", "convbench", "compare", base, head, "--json", "--all",
        check=False,
    )  # fmt: skip
    document = json.loads(printed)
    return Counter(cell["verdict"] for cell in document["cells"] if cell["kind"] == "time")


LEARNT_FROM = 3
"""Sessions of one commit, before those that are compared."""


def sessions(number: int, bench: str, rounds: int | None) -> None:
    """Compare each session with all before it, and print how many pairs claim anything."""
    claimed: Counter[str] = Counter()
    verdicts_: Counter[str] = Counter()
    pairs = 0
    rounds_of = [] if rounds is None else ["--rounds", str(rounds)]
    with tempfile.TemporaryDirectory(prefix="convbench-aa-") as name:
        folder = Path(name) / "project"
        clone(folder)

        def session() -> str:
            call(folder, sys.executable, "-m", "convbench", "bench", "--bench", bench, *rounds_of)
            return call(folder, "git", "rev-parse", "HEAD").strip()

        for _ in range(LEARNT_FROM):
            session()
        commits: list[str] = []
        for _ in range(number):
            call(folder, "git", *IDENTITY, "commit", "--quiet", "--allow-empty", "-m", "A")
            head = session()
            for base in commits:
                pairs += 1
                said = verdicts(folder, base, head)
                verdicts_ += said
                claimed["`convbench compare`"] += bool(said["regressed"] + said["improved"])
                claimed["asv compare 1.05"] += bool(asv_alarms(folder, base, head, 1.05))
            commits.append(head)
            print(f"  {len(commits)} sessions, {pairs} pairs: {dict(claimed)}", file=sys.stderr)
    machine = facts.machine_facts()
    print(f"{machine.get('cpu_model')}, {machine.get('logical_cores')} cores,", end=" ")
    print(f"{time.strftime('%Y-%m-%d')}, `python studies/aa.py --sessions {number}", end=" ")
    print(f"--bench '{bench}'`\n")
    print("| pairs of sessions by | pairs | claim anything |\n|---|--:|---|")
    for who in ("`convbench compare`", "asv compare 1.05"):
        low, high = binomtest(claimed[who], pairs).proportion_ci()
        span = f"{claimed[who] / pairs:.1%} ({low:.1%} to {high:.1%}, as if pairs were independent)"
        print(f"| {who} | {pairs} | {claimed[who]}: {span} |")
    print("\nOf the cells: " + ", ".join(f"{n} {v}" for v, n in verdicts_.most_common()) + ".")


def main() -> None:
    """Measure, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", default=r"(pipeline|stages)\.Smoke\..*@cpu")
    parser.add_argument("--fronts", default="bench,asv")
    parser.add_argument("--rounds", type=int, help="default: what the benchmarks say, 5")
    parser.add_argument("--sessions", type=int, default=0, help="compare so many with each other")
    options = parser.parse_args()
    os.environ.pop("ASV_COMMIT", None)
    if options.sessions:
        sessions(options.sessions, options.bench, options.rounds)
        return
    found = []
    for front in options.fronts.split(","):
        with tempfile.TemporaryDirectory(prefix="convbench-aa-") as name:
            folder = Path(name) / "project"
            clone(folder)
            begun = time.monotonic()
            base, head = measure(front, folder, options.bench, options.rounds)
            found.append(
                Front(
                    {"asv": "`asv run`", "bench": "`convbench bench`"}[front],
                    time.monotonic() - begun,
                    log_ratios(folder, base, head),
                    asv_alarms(folder, base, head, 1.05),
                    asv_alarms(folder, base, head, 1.10),
                    verdicts(folder, base, head),
                )
            )
    machine, now = facts.machine_facts(), facts.moment()
    print(f"{machine.get('cpu_model')}, {machine.get('logical_cores')} cores,", end=" ")
    print(f"load {now.get('load_1min', '?')} at the end, {time.strftime('%Y-%m-%d')},", end=" ")
    print(f"`python studies/aa.py --bench '{options.bench}'`\n")
    print("| A/A by | cells | s | > 5 % | > 10 % | asv compare 1.05 | 1.10 | convbench compare |")
    print("|---|---|---|---|---|---|---|---|")
    for front in found:
        cells = len(front.log_ratios)
        shares = [
            sum(abs(r) > math.log(1 + limit) for r in front.log_ratios) / max(cells, 1)
            for limit in (0.05, 0.10)
        ]
        said = ", ".join(f"{n} {verdict}" for verdict, n in front.verdicts.most_common())
        print(
            f"| {front.name} | {cells} | {front.seconds:.0f} | {shares[0]:.0%} | {shares[1]:.0%} |"
            f" {front.asv_5} ({front.asv_5 / max(cells, 1):.0%}) |"
            f" {front.asv_10} ({front.asv_10 / max(cells, 1):.0%}) | {said} |"
        )


if __name__ == "__main__":
    main()
