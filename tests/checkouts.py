"""A small checkout with the real suites and configuration, and faulty backends beside ours."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .plugin import write_plugin

ROOT = Path(__file__).parents[1]
FRONT = ROOT / "benchmarks"
SUITES = ROOT / "src" / "convbench" / "suites"


class Checkout:
    """A git repository, and asv's and our commands in it."""

    def __init__(self, folder: Path, faulty: Sequence[str]) -> None:
        self.folder = folder / "project"
        self.results_dir = self.folder / ".asv" / "results"
        cache = shutil.ignore_patterns("__pycache__")
        package = SUITES.parent.relative_to(ROOT)
        for part in (FRONT, SUITES):
            shutil.copytree(part, self.folder / part.relative_to(ROOT), ignore=cache)
        (self.folder / package / "stimulus").mkdir()
        rows = package / "stimulus" / "workloads.toml"
        shutil.copy(ROOT / rows, self.folder / rows)
        for name in ("asv.conf.json", "asv_plugin.py"):
            shutil.copy(ROOT / name, self.folder)
        (self.folder / ".gitignore").write_text(".asv\n__pycache__\n")
        plugin = folder / "plugin"
        plugin.mkdir()
        described = dict.fromkeys(("os", "arch", "cpu", "num_cpu", "ram"), "x")
        machine = {"machine": "bench", **described}
        (folder / ".asv-machine.json").write_text(json.dumps({"version": 1, "bench": machine}))
        path = str(write_plugin(plugin))
        self.environment = os.environ | {
            "HOME": str(folder),
            "ASV_PYTHONPATH": path,
            "PYTHONPATH": path,
            "CONVBENCH_EXTRA_TARGETS": ",".join(f"{name}@cpu" for name in faulty),
        }
        self.git("init", "--quiet", "--initial-branch", "main")

    def git(self, *words: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        done = subprocess.run(
            ["git", "-C", str(self.folder), *identity, *words],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        return done.stdout.strip()

    def commit(self) -> str:
        self.git("add", ".")
        self.git("commit", "--quiet", "--allow-empty", "-m", "a commit")
        return self.git("rev-parse", "HEAD")

    def asv(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self._python("asv", *words)

    def convbench(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self._python("convbench", *words)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start `convbench` and do not wait for it; it leads a group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "convbench", *words],
            cwd=self.folder, env=self.environment, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def _python(self, module: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", module, *words],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=300,
            check=False,
        )  # fmt: skip

    def run(self, commit: str, bench: str) -> subprocess.CompletedProcess[str]:
        """Measure with plain asv."""
        return self.asv(
            "run", "-E", f"existing:{sys.executable}", "--set-commit-hash", commit,
            "--machine", "bench", "--launch-method", "forkserver", "--bench", bench,
        )  # fmt: skip
