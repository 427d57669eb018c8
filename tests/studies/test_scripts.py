"""The scripts that measure the service itself still start, and what they wrote names them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "studies").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_help(script: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(script), "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {script.name}")


def test_every_script_that_is_named_is_there() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("reports/*.md"), *SCRIPTS]
    named = {
        name for page in pages for name in re.findall(r"\w+/\w+\.(?:py|sh)\b", page.read_text())
    }
    named = {name for name in named if name.startswith(("reports/", "studies/"))}
    assert {f"studies/{path.name}" for path in SCRIPTS} <= named
    assert [name for name in named if not (ROOT / name).is_file()] == []
