# ruff: noqa: T201  (a script talks to whoever started it)
"""What does a fleet of machines cost, and what does it lose when something breaks? In Markdown.

    .venv/bin/python studies/fleet.py --part faults    faults in real processes (minutes)
    .venv/bin/python studies/fleet.py --part hosts     a transcript of two machines; it needs root
    .venv/bin/python studies/fleet.py --part scale     100000 units on Dask, measuring nothing
    .venv/bin/python studies/fleet.py --part overhead  beside `convbench bench`; a quiet machine
    .venv/bin/python studies/fleet.py --part two       two workers beside one; a quiet machine
    .venv/bin/python studies/fleet.py --part gate      pairs of a gate, here and there; likewise

reports/fleet.md has what it printed.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.fleet.commits import (  # noqa: E402
    BENCHMARK,
    CELLS,
    Cluster,
    Commits,
    certificate,
    cluster,
    limit_files,
)
from tests.gate.sides import SLOWER, branches  # noqa: E402

from convbench.comparing.comparison import Rule  # noqa: E402
from convbench.comparing.pairs import geometric_mean  # noqa: E402
from convbench.fleet.client import Fleet, Range, Security  # noqa: E402
from convbench.fleet.slots import Labels  # noqa: E402
from convbench.fleet.units import kinds, split  # noqa: E402
from convbench.machine.watch import spent  # noqa: E402
from convbench.measuring.asv_store import Cell  # noqa: E402
from convbench.results.folder import Folder  # noqa: E402
from convbench.results.records import load  # noqa: E402

KINDS = 10
"""Of machines, in the study of scale."""


def main() -> None:
    """Run what was asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=PARTS, required=True)
    parser.add_argument("--units", type=int, default=100_000, help="of scale; default: 100000")
    parser.add_argument("--faults", type=int, default=50, help="how many; default: 50")
    parser.add_argument("--only", default="", help="faults whose names match this")
    parser.add_argument("--times", type=int, default=3, help="how often; default: 3")
    parser.add_argument(
        "--bench", default=r"\.Smoke\..*'numpy@cpu'", help="cells of overhead and two"
    )
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is ended, too
    versions = ", ".join(f"{n} {importlib.metadata.version(n)}" for n in ("dask", "distributed"))
    print(
        f"Made by `python studies/fleet.py --part {arguments.part}` on"
        f" {time.strftime('%Y-%m-%d')}, with Python {platform.python_version()}, {versions}, on"
        f" {os.cpu_count()} cores (load {os.getloadavg()[1]:.0f}).\n"
    )
    with tempfile.TemporaryDirectory(prefix="convbench-fleet-") as name:
        PARTS[arguments.part](Path(name), arguments)


# -- Scale -----------------------------------------------------------------------------------------


def pretend(asked: str, pack: bytes) -> bytes:  # noqa: ARG001
    """What a worker sends for a unit, without measuring it."""
    told = json.loads(asked)
    (commit,), machine = told["commits"], told["machine"]
    run = f"{commit[:8]}-{hash(asked) & 0xFFFFFFFF:x}"
    about = {"run": run, "machine": machine, "commit": commit, "environment": "env"}
    lines = [{"kind": "run", "state": "begun", **about}]
    for cell in told["cells"]:
        benchmark, _, rest = cell.partition("(")
        params = [word.strip("'") for word in rest[:-1].split(", ")]
        lines.append(
            {"kind": "cell", "run": run, "process": run, "round": 1, "benchmark": benchmark,
             "params": params, "status": "ok", "samples_s": [1e-3] * 10, "number": 1}
        )  # fmt: skip
    lines.append({"kind": "run", "state": "finished", "measured_s": 1.0, **about})
    texts = [json.dumps({"schema": 2, "time_s": 1.0, **line}) for line in lines]
    file = {"commit_hash": commit, "version": 2, "result_columns": ["result"], "results": {}}
    files = {
        f"{machine}/{commit[:8]}-env.jsonl": "".join(f"\n{text}" for text in texts),
        f"{machine}/{commit[:8]}-env.json": json.dumps(file),
        f"{machine}/machine.json": "{}",
    }
    sent = {"code": 0, "said": "", "worker": machine, "now_s": 1.0, "files": files}
    return json.dumps(sent).encode()


def resident_mib(process: int) -> float:
    """Its memory."""
    text = Path(f"/proc/{process}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024


def _spent(processes: Sequence[int]) -> str:
    """The processor time and the memory of each, which no other load makes longer."""
    cells = (f"{spent(each).cpu_s:.0f} | {resident_mib(each):.0f}" for each in processes)
    return " | ".join(cells)


def children(process: int) -> list[int]:
    """Those that it has started."""
    return [*map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split())]


def scale(folder: Path, arguments: argparse.Namespace) -> None:
    """Many units that measure nothing, through the scheduler, and into the files."""
    commits = Commits(folder)
    commits.commit_that("ok")
    cells = [Cell(BENCHMARK, i, ("numpy@cpu", f"w{i}"), 1, alone=False, timeout_s=1.0)
             for i in range(20)]  # fmt: skip
    made_up = (hashlib.sha256(b"%d" % i) for i in range(arguments.units // (KINDS * 10)))
    names = [each.hexdigest()[:40] for each in made_up]
    with cluster(folder, commits.environment) as made:
        process = made.scheduler()
        for i in range(KINDS):
            labels = Labels(f"kind-{i}", f"machine-{i}", "0.1.0").resources()
            offered = ",".join(f"{name}=1" for name in labels)
            words = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--resources", offered)
            worker = made.start("distributed.cli.dask_worker", made.address, *words)
            made.until(worker, "(Registered to:)")
        (scheduler,) = children(process.pid)
        results = Folder(folder / ".asv" / "results")
        with Fleet(made.address, Security()) as fleet:
            found = kinds(filter(None, fleet.workers().values()), results)
            units = [*split(dict.fromkeys(names, ""), found, cells, None, 2)]
            of = Range.of("HEAD", commits.folder)
            print(f"{len(names)} commits, {len(found)} kinds of machine, 10 units of 2 cells each:")
            print(f"{len(units)} units, {KINDS} workers, all of it on this machine.\n")
            print("| units stored | s | units/s | scheduler, CPU s | MiB | client, CPU s | MiB |")
            print("|--:|--:|--:|--:|--:|--:|--:|")
            both = (scheduler, os.getpid())
            print(f"| before | | | {_spent(both)} |", flush=True)
            started_s = last_s = time.monotonic()
            step = max(1, len(units) // 10)
            problems = 0
            for number, received in enumerate(fleet.measure(units, of, results, 60.0, pretend), 1):
                problems += bool(received.problem)
                if number % step == 0:
                    now_s = time.monotonic()
                    rate = step / (now_s - last_s)
                    took_s = now_s - started_s
                    print(f"| {number} | {took_s:.0f} | {rate:.0f} | {_spent(both)} |", flush=True)
                    last_s = now_s
        lines = sum(
            line.count('"kind": "cell"')
            for path in results.evidence.rglob("*.jsonl")
            for line in path.read_text().splitlines()
        )
    print(f"\n{problems} problems; {lines} cells stored of {len(units) * 2}.")


# -- Faults ----------------------------------------------------------------------------------------

LOST_S = "5s"
"""After which a worker that is not heard of is given up here; a minute is usual."""

HOUR_AHEAD = "import time; now = time.time; time.time = lambda: now() + 3600"


class Trial:
    """Three commits to measure, workers to do it, and what is to go wrong meanwhile.

    Parameters
    ----------
    folder : Path
        A new one.
    do : str
        What measuring the newest commit does.
    """

    def __init__(self, folder: Path, made: Cluster, chance: random.Random, do: str = "ok") -> None:
        self.made, self.chance = made, chance
        self.commits = Commits(folder)
        self.commits.commit_that("ok")
        self.hashes = [self.commits.commit_that(each) for each in ("ok", "ok", do)]
        self.commands = 0

    @property
    def words(self) -> tuple[str, ...]:
        """Of the command."""
        return self.commits.words("HEAD~3..HEAD", "--scheduler", self.made.address)

    def start(self) -> subprocess.Popen[str]:
        """Start the command, and wait until the first unit is begun."""
        self.commands += 1
        process = self.commits.start(*self.words)
        self.wait(lambda: bool(self.commits.begun()) or process.poll() is not None)
        return process

    def wait(self, true: Callable[[], bool], most_s: float = 60.0) -> None:
        """Until it is so."""
        end_s = time.monotonic() + most_s
        while not true() and time.monotonic() < end_s:
            time.sleep(0.02)

    def some_time(self) -> None:
        """Up to as long as the rest takes."""
        time.sleep(3.0 * self.chance.random())

    def go_on(self) -> None:
        """Let what waits be measured."""
        (self.commits.shared / "go").touch()

    def finish(self, process: subprocess.Popen[str] | None = None) -> bool:
        """Give the command again until it has done all, three times at most."""
        if process is not None:
            process.communicate()
            if process.returncode == 0:
                return True
        for _ in range(3):
            self.commands += 1
            if self.commits.convbench(*self.words).returncode == 0:
                return True
        return False

    def judge(self) -> dict[str, int]:
        """What is lost, what is there twice, and what is another number than it would be."""
        wanted = Counter((commit[:8], cell) for commit in self.hashes for cell in CELLS)
        noted, stored = Counter(self.commits.noted()), self.commits.stored()
        right = {
            (commit, cell): time_s(commit, cell) for commit in self.hashes for cell in CELLS
        }  # fmt: skip
        found = {(commit, cell): v for commit, of in stored.items() for cell, v in of.items()}
        return {
            "lost": len(right.keys() - found.keys()) + sum((wanted - noted).values()),
            "twice": sum((noted - wanted).values()),
            "other": sum(found[key] != right[key] for key in found.keys() & right.keys()),
        }


def time_s(commit: str, cell: str) -> float:
    """What the commits say that a cell takes; see tests/fleet/commits.py."""
    return 1e-3 + int(hashlib.sha256(f"{commit}{cell}".encode()).hexdigest()[:4], 16) * 1e-9


def no_fault(trial: Trial) -> bool:
    """Nothing that this has to do."""
    return trial.finish()


def worker_killed(trial: Trial) -> bool:
    """By its unit, at once; Dask's own nanny starts another."""
    return trial.finish()


def machine_lost(trial: Trial) -> bool:
    """All of a machine's workers with their nannies, at a moment that chance chooses."""
    process = trial.start()
    trial.some_time()
    os.killpg(trial.made.processes[-1].pid, signal.SIGKILL)
    for orphan in descendants_of(trial.made.processes[-1].pid):
        os.kill(orphan, signal.SIGKILL)
    trial.made.worker("--cores-each", "1")
    return trial.finish(process)


def descendants_of(process: int) -> list[int]:
    """Of a process that is gone: those that were in its session."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = status.read_text().rpartition(")")[2].split()
            found += [int(status.parent.name)] if int(fields[3]) == process else []
    return found


def client_killed(trial: Trial) -> bool:
    """At a moment that chance chooses."""
    process = trial.start()
    trial.some_time()
    process.kill()
    return trial.finish(process)


def client_interrupted(trial: Trial) -> bool:
    """At a moment that chance chooses."""
    process = trial.start()
    trial.some_time()
    process.send_signal(signal.SIGINT)
    return trial.finish(process)


def scheduler_restarted(trial: Trial) -> bool:
    """At a moment that chance chooses, and the workers with it."""
    process = trial.start()
    trial.some_time()
    scheduler, *workers = trial.made.processes
    for each in (scheduler, *workers):  # as a service does: where the scheduler goes, all do
        os.killpg(each.pid, signal.SIGKILL if each is scheduler else signal.SIGTERM)
        each.wait()
    trial.made.processes.clear()
    trial.made.scheduler()
    trial.made.worker("--cores-each", "1")
    return trial.finish(process)


def two_clients(trial: Trial) -> bool:
    """At the same time, into the same files."""
    processes = [trial.start(), trial.start()]
    done = [trial.finish(process) for process in processes]
    return all(done)


def disk_full_here(trial: Trial) -> bool:
    """No file of the client's may become larger than so many bytes."""
    process = trial.commits.start(*trial.words)
    limit_files(process, trial.chance.randrange(100, 4000))
    trial.commands += 1
    return trial.finish(process)


def disk_full_there(trial: Trial) -> bool:
    """A worker can write no file that is larger than so many bytes, and is then replaced."""
    made = trial.made
    worker = made.processes.pop()
    os.killpg(worker.pid, signal.SIGTERM)
    worker.wait()
    made.worker("--cores-each", "1", most_bytes=trial.chance.randrange(8_000, 30_000))
    first = trial.start()
    first.communicate()
    worker = made.processes.pop()
    os.killpg(worker.pid, signal.SIGTERM)
    worker.wait()
    made.worker("--cores-each", "1")
    return first.returncode == 4 and trial.finish()


def another_version(trial: Trial) -> bool:
    """It is there all the time, and asked for nothing."""
    labels = "cpu=1,machine:other=1,kind:other=1,convbench:0.0.9=1"
    words = ("--nthreads", "1", "--no-nanny", "--resources", labels)
    other = trial.made.start("distributed.cli.dask_worker", trial.made.address, *words)
    trial.made.until(other, "(Registered to:)")
    return trial.finish()


def network_cut(trial: Trial) -> bool:
    """A worker in another network, which is cut off while it measures, and joined again."""
    process = trial.start()
    trial.wait(lambda: len(trial.commits.begun()) == 2)
    subprocess.run(["ip", "link", "set", NETWORK, "down"], check=True)
    time.sleep(3 * float(LOST_S[:-1]))
    trial.go_on()
    trial.wait(lambda: process.poll() is not None, 30.0 * trial.chance.random())
    subprocess.run(["ip", "link", "set", NETWORK, "up"], check=True)
    return trial.finish(process)


NETWORK = "convbench-cut"
"""The cable to it, and its name."""

SWITCH, HERE = "convbench-hub", "10.77.77.1"
"""What cables lead to, and this machine's address there."""

Fault = Callable[[Trial], bool]
FAULTS: dict[str, tuple[Fault, str, int]] = {
    "none": (no_fault, "ok", 2),
    "a worker is killed by each unit of a commit": (worker_killed, "kill", 6),
    "a machine is lost with all its workers": (machine_lost, "ok", 6),
    "the client is killed": (client_killed, "ok", 8),
    "Ctrl-C": (client_interrupted, "ok", 6),
    "the scheduler is killed and started again": (scheduler_restarted, "ok", 4),
    "the network to a worker is cut, and joined": (network_cut, "wait", 4),
    "two clients ask for the same at once": (two_clients, "ok", 4),
    "the disk of the client is full": (disk_full_here, "ok", 4),
    "the disk of a worker is full": (disk_full_there, "ok", 2),
    "a worker's clock is an hour ahead": (no_fault, "ok", 2),
    "a worker of another version is there": (another_version, "ok", 2),
}
"""What goes wrong, what measuring the newest commit does, and how often it is tried of 50."""


@contextlib.contextmanager
def workers(folder: Path, name: str) -> Iterator[Cluster]:
    """A scheduler and two workers of a core each, as a fault needs them."""
    environment = Commits(folder / "cluster").environment
    environment["DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL"] = LOST_S
    if "clock" in name:
        (folder / "sitecustomize.py").write_text(HOUR_AHEAD)
        environment["PYTHONPATH"] += f"{os.pathsep}{folder}"
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(cluster(folder / "cluster", environment))
        if "network" not in name:
            made.scheduler()
            made.worker("--cores-each", "1")
            yield made
            return
        stack.enter_context(networks(NETWORK))
        made.scheduler("--host", HERE, "--insecure")
        made.worker(through=("taskset", "-c", "0"))
        made.worker(through=("ip", "netns", "exec", NETWORK, "taskset", "-c", "1"))
        yield made


@contextlib.contextmanager
def networks(*names: str) -> Iterator[None]:
    """Namespaces of these names, each with a cable of that name to one switch; it needs root."""

    def ip(*words: str, check: bool = True) -> None:
        subprocess.run(["ip", *words], check=check)

    try:
        ip("link", "add", SWITCH, "type", "bridge")
        ip("addr", "add", f"{HERE}/24", "dev", SWITCH)
        ip("link", "set", SWITCH, "up")
        for place, name in enumerate(names, start=2):
            ip("netns", "add", name)
            ip("link", "add", name, "type", "veth", "peer", "name", "other", "netns", name)
            ip("link", "set", name, "master", SWITCH, "up")
            for words in (
                ("addr", "add", f"{HERE[:-1]}{place}/24", "dev", "other"),
                ("link", "set", "other", "up"), ("link", "set", "lo", "up"),
            ):  # fmt: skip
                ip("netns", "exec", name, "ip", *words)
        yield
    finally:
        for name in names:
            ip("netns", "del", name, check=False)
        ip("link", "del", SWITCH, check=False)


def faults(folder: Path, arguments: argparse.Namespace) -> None:
    """Each fault some times; three commits, so six units, are to be measured in spite of it."""
    chance = random.Random(arguments.seed)  # noqa: S311  # moments, no secrets
    print("| fault | tried | done | commands | lost | twice | other numbers | s each |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    totals: Counter[str] = Counter()
    for place, (name, (fault, do, often)) in enumerate(FAULTS.items()):
        if not re.search(arguments.only, name):
            continue
        tried = max(1, often * arguments.faults // 50)
        own = folder / str(place)
        (own / "cluster").mkdir(parents=True)
        found: Counter[str] = Counter()
        took_s = []
        with workers(own, name) as made:
            for number in range(tried):
                (own / str(number)).mkdir()
                trial = Trial(own / str(number), made, chance, do)
                started_s = time.monotonic()
                found["done"] += fault(trial)
                took_s.append(time.monotonic() - started_s)
                found.update({"commands": trial.commands, **trial.judge()})
        columns = ("done", "commands", "lost", "twice", "other")
        numbers = [tried, *(found[column] for column in columns)]
        cells = " | ".join(map(str, numbers))
        print(f"| {name} | {cells} | {statistics.median(took_s):.0f} |", flush=True)
        totals.update(found)
        totals["tried"] += tried
        shutil.rmtree(own)
    print(
        f"\n{totals['tried']} trials, {totals['done']} done; lost {totals['lost']}, twice"
        f" {totals['twice']}, other numbers {totals['other']}."
    )


# -- Time ------------------------------------------------------------------------------------------


class Clone:
    """Our own repository at its HEAD, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
        self.folder = folder

    def said(self, *words: str) -> dict[str, Any]:
        """What a command prints as JSON, which has to end well."""
        done = subprocess.run(
            [sys.executable, "-m", "convbench", *words, "--json"],
            cwd=self.folder, capture_output=True, text=True, check=False,
            env=os.environ | {"PYTHONPATH": str(self.folder / "src")},  # or it is another's code
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(done.stderr)
        return dict(json.loads(done.stdout))

    def times_s(self) -> dict[tuple[str, str, str, str], float]:
        """What was measured, by cell."""
        found = load(self.folder / ".asv" / "results").records
        return {
            (r.benchmark, r.target, r.workload, r.stage): r.value
            for r in found
            if r.kind == "time" and r.value
        }


def overhead(folder: Path, arguments: argparse.Namespace) -> None:
    """The same cells by `convbench bench` and by `convbench fleet`, in turns."""
    print(f"Cells: `{arguments.bench}`. Seconds; *measured* is warm-up and samples.\n")
    print("| | bench | measured | fleet | measured | bench / fleet | times, fleet / bench |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    for number in range(1, arguments.times + 1):
        one, other = (Clone(folder / f"{number}-{name}") for name in ("bench", "fleet"))
        bench = one.said("bench", "--bench", arguments.bench)
        fleet = other.said("fleet", "HEAD", "--bench", arguments.bench, "--shard", "1000")
        measured_s = sum(kind["measured_s"] for kind in fleet["machines"])
        ratio = bench["elapsed_s"] / fleet["elapsed_s"]
        print(
            f"| {number} | {bench['elapsed_s']:.1f} | {bench['measured_s']:.1f} |"
            f" {fleet['elapsed_s']:.1f} | {measured_s:.1f} | {ratio:.2f} | {_ratios(one, other)} |",
            flush=True,
        )
    print(
        "\n`bench` counts from when its suites are discovered; `fleet` from its first line, with a"
        " cluster that is started, a checkout, and the discovery of both sides."
    )


def two(folder: Path, arguments: argparse.Namespace) -> None:
    """The same commits by one worker on one core, and by two on two."""
    print(f"Cells: `{arguments.bench}`, of two commits, 10 at once.\n")
    print("| | one worker, s | two workers, s | one / two | times, two / one |")
    print("|--:|--:|--:|--:|--:|")
    first, second, *_ = sorted(os.sched_getaffinity(0))
    by_cell: dict[tuple[str, ...], dict[int, float]] = {}
    for number in range(1, arguments.times + 1):
        clones = []
        elapsed_s = []
        for cores in ((first,), (first, second)):
            own = folder / f"{number}-{len(cores)}"
            own.mkdir()
            with cluster(own, dict(os.environ)) as made:
                made.scheduler()
                for core in cores:
                    made.worker(through=("taskset", "-c", str(core)))
                clones.append(Clone(own / "clone"))
                words = ("--bench", arguments.bench, "--shard", "10")
                said = clones[-1].said(
                    "fleet", "HEAD~2..HEAD", *words, "--scheduler", made.address
                )  # fmt: skip
                elapsed_s.append(said["elapsed_s"])
        one_s, two_s = elapsed_s
        print(
            f"| {number} | {one_s:.1f} | {two_s:.1f} | {one_s / two_s:.2f} | {_ratios(*clones)} |",
            flush=True,
        )
        alone, beside = (clone.times_s() for clone in clones)
        for cell in alone.keys() & beside.keys():
            by_cell.setdefault(cell, {})[number] = math.log(beside[cell] / alone[cell])
    ratio, low, high = geometric_mean([*by_cell.values()], Rule().confidence)
    print(f"\nTwo / one by the mean that a gate gives, a turn for a pair: {ratio:.3f}", end=" ")
    print(f"({low or math.nan:.3f} to {high or math.nan:.3f}).", flush=True)


def gate(folder: Path, arguments: argparse.Namespace) -> None:
    """How many pairs of equal code a gate has in a minute: here, and on workers of one core."""
    print(
        "`convbench gate HEAD HEAD --target numpy@cpu --budget 60s --delta 0.6`, pairs of a cell.\n"
    )
    print("| | here, one core | one worker | / | here, two cores | two workers | / | claims |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|")
    words = ("gate", "HEAD", "HEAD", "--target", "numpy@cpu", "--budget", "60s", "--delta", "0.6")
    first, second, *_ = sorted(os.sched_getaffinity(0))
    for number in range(1, arguments.times + 1):
        found: list[float] = []
        claims = 0
        for cores in ((first,), (first, second)):
            own = folder / f"{number}-{len(cores)}"
            own.mkdir()
            clone = Clone(own / "clone")
            with cluster(own, dict(os.environ)) as made:
                made.scheduler()
                for core in cores:
                    made.worker(through=("taskset", "-c", str(core)))
                fleet = ("--scheduler", made.address)
                for where in (("--cores", str(len(cores))), fleet):
                    cells = clone.said(*words, *where)["cells"]
                    found.append(statistics.fmean(cell["pairs"] for cell in cells))
                    claims += sum(cell["verdict"] in {"regressed", "improved"} for cell in cells)
        one, one_there, two, two_there = found
        print(
            f"| {number} | {one:.1f} | {one_there:.1f} | {one_there / one:.2f} |"
            f" {two:.1f} | {two_there:.1f} | {two_there / two:.2f} | {claims} |",
            flush=True,
        )


def _ratios(one: Clone, other: Clone) -> str:
    """How the times of the same cells differ: the median, and the middle half."""
    these, those = one.times_s(), other.times_s()
    ratios = sorted(those[cell] / these[cell] for cell in these.keys() & those.keys())
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.3f} ({low:.3f} to {high:.3f}, {len(ratios)} cells)"


# -- Hosts -----------------------------------------------------------------------------------------


def hosts(folder: Path, _: argparse.Namespace) -> None:
    """Two workers, each in a network and under a name of its own: what is typed, and what comes."""
    project = branches(folder / "project", {"slower": SLOWER})
    tls = certificate(folder)
    print("`TLS` stands for `--tls-ca-file`, `--tls-cert` and `--tls-key`.\n\n```console")
    with networks(*NODES), cluster(folder, project.environment) as made:
        made.scheduler("--host", HERE, *tls)
        print(f"$ convbench fleet scheduler --host {HERE} $TLS &")
        for core, node in zip(sorted(os.sched_getaffinity(0)), NODES, strict=False):
            (home := folder / node).mkdir()
            made.environment = {**project.environment, "HOME": str(home)}
            inside = ("ip", "netns", "exec", node, "unshare", "--uts", "sh", "-c")
            named = ('hostname "$0"; exec "$@"', node, "taskset", "-c", str(core))
            made.worker(*tls, through=(*inside, *named))
            print(f"{node}$ convbench fleet worker {made.address} $TLS &")
        cell = ("--target", "numpy@cpu", "--workload", "notebook.conv")
        for words in (
            ("fleet", "main^!", *cell, "--shard", "1"),
            ("gate", "main", "slower", *cell, "--budget", "60s"),
        ):  # fmt: skip
            done = project.convbench(*words, "--scheduler", made.address, *tls)
            print(f"$ convbench {' '.join(words)} --scheduler {made.address} $TLS")
            text = (done.stderr + done.stdout).replace(str(project.folder), "~/project")
            print(f"{text.rstrip()}\nexit status {done.returncode}", flush=True)
        others = ("ip", "netns", "exec", NODES[0], "ip", "-brief", "address")
        seen = subprocess.run(others, capture_output=True, text=True, check=True)
        print(f"{NODES[0]}$ ip -brief address\n{seen.stdout.rstrip()}\n```")


NODES = ("node1", "node2")

PARTS: dict[str, Callable[[Path, argparse.Namespace], None]] = {
    "faults": faults,
    "gate": gate,
    "hosts": hosts,
    "overhead": overhead,
    "scale": scale,
    "two": two,
}


if __name__ == "__main__":
    main()
