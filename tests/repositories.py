"""A git repository, with what is said to have been measured of its commits."""

from __future__ import annotations

import json
import os
import subprocess
import zlib

import numpy as np

from convbench.results import journal

TIME = "bench_pipeline.Smoke.track_time"
TARGETS = ("numpy@cpu", "tensorflow@cpu")
WORKLOADS = tuple(f"net.conv{i}" for i in range(9))
MACHINE = {"cpu_model": "a CPU", "machine_cores": 4, "memory_bytes": 16 << 30}


class Repository:
    """Commits, and what is said to have been measured of them.

    Parameters
    ----------
    folder : Path
        Where it is made.
    noise : float
        Standard deviation of the logarithm between the processes of a session.
    """

    def __init__(self, folder, noise=0.004):
        self.folder, self.noise = folder, noise
        self.results = folder / ".asv" / "results"
        self.days = 0
        self.git("init", "--quiet", "--initial-branch", "main")

    def git(self, *words):
        """Run git; a commit has the same name in every run: the noise is drawn from that."""
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        made = f"{1_700_000_000 + 86_400 * self.days} +0000"
        done = subprocess.run(
            ["git", "-C", str(self.folder), *identity, *words],
            check=True, capture_output=True, text=True,
            env=os.environ | {"GIT_COMMITTER_DATE": made, "GIT_AUTHOR_DATE": made},
        )  # fmt: skip
        return done.stdout.strip()

    def commit(self, message="a commit"):
        """Make one; each is a day younger than the last."""
        self.days += 1
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def measure(
        self, commit, factor=1.0, *, cells=None, machine="vm", run="r1", clean=True, facts=None,
        before=None, after=None, processes=5, targets=TARGETS,
    ):  # fmt: skip
        """Store a finished session, in which every cell takes `factor` times as long as usual.

        Parameters
        ----------
        cells : dict
            Another factor for the cells of a workload, on all targets.
        facts, before, after : dict
            What each process says of its machine.
        """
        chance = np.random.default_rng(zlib.crc32(f"{commit}{run}{machine}".encode()))
        path = self.results.parent / "evidence" / machine / f"{commit[:8]}-env.jsonl"
        about = {"run": run, "commit": commit, "environment": "env", "machine": machine}
        made_s = 1.7e9 + 86_400 * self.days
        journal.append(path, "run", state="begun", clean=clean, commit_time_s=made_s, **about)
        known = {"cpu_model": "a CPU", **(MACHINE if facts is None else facts)}
        medians: dict[tuple[str, str], list[float]] = {}
        for number in range(1, processes + 1):
            for target in targets:
                process = f"{run}-{number}-{target}"
                moments = {"before": before or {}, "after": after or {}}
                journal.append(path, "process", run=run, process=process, machine=known, **moments)
                for i, workload in enumerate(WORKLOADS):
                    usual_s = 1e-3 * (1 + i) * (cells or {}).get(workload, factor)
                    seconds = usual_s * float(np.exp(chance.normal(0, self.noise)))
                    medians.setdefault((target, workload), []).append(seconds)
                    journal.append(
                        path, "cell", run=run, process=process, round=number, benchmark=TIME,
                        params=[target, workload], status="ok", version="1", method="hot",
                        samples_s=[seconds] * 3, number=1,
                    )  # fmt: skip
        journal.append(path, "run", state="finished", clean=clean, **about)
        values = [
            float(np.median(medians[target, workload]))
            for target in targets for workload in WORKLOADS
        ]  # fmt: skip
        params = [[repr(name) for name in names] for names in (targets, WORKLOADS)]
        content = {
            "version": 2, "commit_hash": commit, "env_name": "env", "date": made_s * 1000,
            "params": {"machine": machine}, "python": "3.12", "requirements": {}, "env_vars": {},
            "result_columns": ["result", "params", "version", "started_at"],
            "results": {TIME: [values, params, "1", made_s * 1000]}, "durations": {},
        }  # fmt: skip
        file = self.results / machine / f"{commit[:8]}-env.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
