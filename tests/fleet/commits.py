"""A repository whose commits say what measuring them does, and a cluster that measures them.

Each commit has a package of the name of convbench, as convbench's own commits have, so that a
worker runs what is in the commit. Here that takes no time, writes the files that the real one
writes, and does as the commit is told: it kills its worker, waits, crashes, or says what is not so.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from convbench.stimulus.workloads import BUILT_IN, load, select

from ..checkouts import Checkout

BENCHMARK = "bench_pipeline.Smoke.track_time"
CELLS = tuple(workload.name for workload in select(load(BUILT_IN), "smoke", {}))
SELECT = ("--bench", r"pipeline\.Smoke\.track_time")

MAIN = """
import hashlib, json, os, pathlib, re, signal, sys, time

told = json.loads(pathlib.Path("told.json").read_text())
shared = pathlib.Path(told["shared"])
do = told["do"]


def parent(process, generations):
    for _ in range(generations):
        status = pathlib.Path(f"/proc/{process}/stat").read_text()
        process = int(status.rpartition(")")[2].split()[1])
    return process


def first(name):
    try:
        os.close(os.open(shared / name, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


names = [re.sub(r"\\\\(.)", r"\\1", word[1:-1]) for word in sys.argv if word.startswith("^")]
cells = [re.fullmatch(r"(.*?)\\('(.*?)', '(.*)'\\)", name).groups() for name in names]
commit = os.popen("git rev-parse HEAD").read().strip()
key = hashlib.sha256(repr((commit, cells)).encode()).hexdigest()[:8]
(shared / "seen").write_text(json.dumps([*os.environ]))
with (shared / "begun").open("a") as file:
    file.write(f"{commit} {key} {os.getpid()}\\n")
if do == "kill" and first(f"kill-{key}"):
    os.kill(parent(os.getpid(), 3), signal.SIGKILL)  # measured, its guard, and Dask's worker
    time.sleep(600)
if do == "kill always":
    os.kill(parent(os.getpid(), 3), signal.SIGKILL)
    time.sleep(600)
if do == "wait" and not (shared / "go").exists():
    end_s = time.monotonic() + 60
    while not (shared / "go").exists() and time.monotonic() < end_s:
        time.sleep(0.02)
if do == "spy":
    found = {"user": os.getuid(), "groups": os.getgroups()}
    for what, tried in {
        "read the worker's key": lambda: (shared / "key").read_text(),
        "stop its worker": lambda: os.kill(parent(os.getpid(), 3), signal.SIGSTOP),
        "stop its guard": lambda: os.kill(parent(os.getpid(), 2), signal.SIGSTOP),
        "have its memory": lambda: open(f"/proc/{parent(os.getpid(), 3)}/mem", "rb").read(1),
        "take its cores": lambda: (pathlib.Path.cwd().parents[2] / "alone" / "x").touch(),
    }.items():
        try:
            found[what] = repr(tried())
        except OSError as error:
            found[what] = type(error).__name__
    (shared / "spied").write_text(json.dumps(found))
if do == "crash":
    sys.exit("no luck")
described = json.loads((pathlib.Path.home() / ".asv-machine.json").read_text())
(machine,) = described.keys() - {"version"}
about = {"run": f"run-{key}", "machine": machine, "commit": commit, "environment": "env"}
lines = [{"kind": "run", "state": "begun", "clean": True, **about}]
lines.append({"kind": "process", "run": about["run"], "process": f"p-{key}", "machine": {
    "cpu_model": "a CPU", "machine_cores": 2}})
values = {}
for benchmark, target, workload in cells:
    value = 1e-3 + int(hashlib.sha256(f"{commit}{workload}".encode()).hexdigest()[:4], 16) * 1e-9
    values[workload] = value
    lines.append({"kind": "cell", "run": about["run"], "process": f"p-{key}", "round": 1,
                  "benchmark": benchmark, "status": "ok", "version": "1", "method": "hot",
                  "params": [target, "another" if do == "foreign" else workload],
                  "samples_s": [value] * told["samples"], "number": 1})
if do != "half":
    lines.append({"kind": "run", "state": "finished", "measured_s": 1.0, "elapsed_s": 2.0, **about})
name = f"{commit[:8]}-env"
evidence = pathlib.Path(".asv/evidence", machine)
results = pathlib.Path(".asv/results", machine)
for folder in (evidence, results):
    folder.mkdir(parents=True)
(evidence / f"{name}.jsonl").write_text("".join(
    "\\n" + json.dumps({"schema": 2, "time_s": time.time(), **line}) for line in lines))
row = [[values.get(name, float("nan")) for name in told["cells"]],
       [["'numpy@cpu'"], [repr(name) for name in told["cells"]]], "1", time.time() * 1000, 1.0]
(results / f"{name}.json").write_text(json.dumps({
    "commit_hash": commit, "env_name": "env", "date": 0, "params": {"machine": machine},
    "python": "3", "requirements": {}, "env_vars": {},
    "result_columns": ["result", "params", "version", "started_at", "duration"],
    "results": {told["benchmark"]: row}, "durations": {}, "version": 2}))
(results / "machine.json").write_text(json.dumps({"machine": machine, "version": 1}))
"""


class Commits(Checkout):
    """The repository; `shared` is where its commits tell what they have begun."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder, ())
        self.shared = folder / "shared"
        self.shared.mkdir()
        (self.folder / "pyproject.toml").write_text(
            '[project]\nname = "tiny"\nversion = "1"\n[tool.convbench]\ntargets = ["numpy@cpu"]\n'
        )
        package = self.folder / "src" / "convbench"
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(MAIN)

    def commit_that(self, do: str, samples: int = 1) -> str:
        """A commit of which measuring does this."""
        told = {"do": do, "shared": str(self.shared), "cells": CELLS, "benchmark": BENCHMARK}
        (self.folder / "told.json").write_text(json.dumps(told | {"samples": samples}))
        return self.commit()

    def begun(self) -> list[tuple[str, str]]:
        """Commit and unit of each time that measuring was begun."""
        with contextlib.suppress(FileNotFoundError):
            lines = (self.shared / "begun").read_text().splitlines()
            return [tuple(line.split()[:2]) for line in lines]
        return []

    def words(self, revisions: str, *words: str) -> tuple[str, ...]:
        """Of `convbench fleet`, for the cells that the commits know: two units a commit."""
        return ("fleet", revisions, *SELECT, "--shard", "5", "--json", *words)

    def fleet(self, revisions: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run it."""
        return self.convbench(*self.words(revisions, *words))

    def stored(self) -> dict[str, dict[str, float]]:
        """By commit and workload, what asv's files have."""
        found = {}
        for path in self.results_dir.glob("*/*-*.json"):
            file = json.loads(path.read_text())
            result, (_, cells), *_ = file["results"][BENCHMARK]
            named = dict(zip((cell.strip("'") for cell in cells), result, strict=True))
            found[file["commit_hash"]] = {k: v for k, v in named.items() if not math.isnan(v)}
        return found

    def noted(self) -> list[tuple[str, str]]:
        """Commit's file and workload of each line of evidence about a cell."""
        return [
            (path.name[:8], line["params"][1])
            for path in (self.results_dir.parent / "evidence").glob("*/*.jsonl")
            for text in path.read_text().splitlines()
            if text and (line := json.loads(text))["kind"] == "cell"
        ]


def certificate(folder: Path) -> tuple[str, ...]:
    """The options of a certificate that is its own authority, made there with openssl."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=x",
         "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    return ("--tls-ca-file", str(cert), "--tls-cert", str(cert), "--tls-key", str(key))


def open_to_all() -> tuple[str, ...]:
    """A command before a command: it sees this Python where everybody may run it; needs root."""
    python = Path(sys.base_prefix).resolve()
    closed = [folder for folder in reversed(python.parents) if not folder.stat().st_mode & 1]
    if not closed:
        return ()
    script = 'm=$(mktemp -d); mount --bind "$0" "$m"; mount -t tmpfs -o mode=755 none "$1";' \
        ' mkdir -p "$0"; mount --bind "$m" "$0"; shift; exec "$@"'  # fmt: skip
    return ("unshare", "--mount", "sh", "-ec", script, str(python), str(closed[0]))


def limit_files(process: subprocess.Popen[Any], most_bytes: int) -> None:
    """Have a process that has just been started write no file that is larger: the disk is full."""
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (most_bytes, most_bytes))


class Cluster:
    """A scheduler and workers, by our own commands.

    Parameters
    ----------
    folder : Path
        Where workers keep what they check out.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment
        self.processes: list[subprocess.Popen[bytes]] = []
        self.logs: dict[int, Path] = {}
        self.address = ""

    def start(
        self, *words: str, through: Sequence[str] = (), most_bytes: int = 0
    ) -> subprocess.Popen[bytes]:
        """One more process, in a session of its own.

        Parameters
        ----------
        through : sequence of str
            A command that starts it.
        most_bytes : int
            No file that it writes becomes larger; 0 is no limit.
        """
        log = self.folder / f"log-{len(self.logs)}"
        with log.open("w") as file:
            process = subprocess.Popen(
                [*through, sys.executable, "-m", *words], env=self.environment, cwd=self.folder,
                start_new_session=True, stdout=file, stderr=file,
            )  # fmt: skip
        if most_bytes:
            limit_files(process, most_bytes)
        self.processes.append(process)
        self.logs[process.pid] = log
        return process

    def until(self, process: subprocess.Popen[bytes], pattern: str) -> str:
        """Read what a process says until it says this; the group of it."""
        end_s = time.monotonic() + 60
        while time.monotonic() < end_s and process.poll() is None:
            if found := re.search(pattern, self.logs[process.pid].read_text()):
                return found[1]
            time.sleep(0.02)
        raise AssertionError(self.logs[process.pid].read_text())

    def scheduler(self, *words: str) -> subprocess.Popen[bytes]:
        """The scheduler; its address is known afterwards."""
        process = self.start("convbench", "fleet", "scheduler", "--port", "0", *words)
        self.address = self.until(process, r"Scheduler at: +(\S+)")
        return process

    def worker(self, *words: str, **how: Any) -> subprocess.Popen[bytes]:
        """A worker that is registered; `how` is of :meth:`start`."""
        own = ("--folder", str(self.folder))
        process = self.start("convbench", "fleet", "worker", self.address, *own, *words, **how)
        self.until(process, r"(Registered to:)")
        return process

    def close(self) -> None:
        """End all of them."""
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait()


@contextlib.contextmanager
def cluster(folder: Path, environment: dict[str, str]) -> Iterator[Cluster]:
    """One that is ended."""
    made = Cluster(folder, environment)
    try:
        yield made
    finally:
        made.close()
