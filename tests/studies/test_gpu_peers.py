"""The comparison with other libraries, as a dry run on a CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from convbench.machine.nvidia import has_nvidia_driver

SCRIPT = Path(__file__).parents[2] / "studies" / "gpu_peers.py"


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=False
    )


def test_a_dry_run(tmp_path: Path) -> None:
    done = run(
        "--device", "cpu", "--list", "smoke", "--batch", "2", "--rounds", "1",
        "--sample-s", "0.0001", "--dtype", "float32", "--dtype", "tf32", "--output", str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "peers.txt").read_text() == done.stdout
    facts = json.loads((tmp_path / "peers.json").read_text())
    assert len(facts["rows"]) == 9, "tf32 is a GPU's"
    assert all(row["seconds"]["convbench"] > 0 and row["algorithm"] for row in facts["rows"])
    assert "numpy does not record CUDA graphs" in done.stdout
    for name in ("torch", "torch.compile", "jax"):
        library = name.partition(".")[0]
        said = f"  {name}: not compared: not installed: there is no module named {library}"
        absent = said in done.stdout
        assert absent is (find_spec(library) is None)
        assert all(absent or row["seconds"][name] > 0 for row in facts["rows"])


def test_what_there_was_no_time_for_is_named() -> None:
    done = run("--device", "cpu", "--list", "smoke", "--dtype", "float32", "--budget-s", "0",
               "--rounds", "1")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "The time ran out before: notebook.conv float32" in done.stdout


def test_without_a_card_it_says_so() -> None:
    if has_nvidia_driver():
        pytest.skip("there may be a card")
    done = run()
    assert done.returncode == 1
    assert "gpu_peers: nothing was measured. " in done.stderr


def test_a_clone_is_enough() -> None:
    """On a machine with a card there may be the libraries, and no installation of convbench."""
    source = str(SCRIPT.parents[1] / "src")
    code = (
        "import runpy, sys; from importlib.util import find_spec;"
        f"sys.path = [p for p in sys.path if p != {source!r}]; assert not find_spec('convbench');"
        f"sys.argv[1:] = ['--help']; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    assert "--device" in done.stdout
