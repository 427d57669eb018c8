"""The commands as a person runs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "convbench"]


def run(*arguments: str, env: dict[str, str] | None = None, cwd: Path = ROOT):
    """Run one to its end, in this checkout where no other folder is named."""
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=300, env=env, cwd=cwd,
        check=False,
    )  # fmt: skip
