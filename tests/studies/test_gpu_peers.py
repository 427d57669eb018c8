"""The comparison with other libraries, as a dry run on a CPU."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from convbench.machine.nvidia import has_nvidia_driver
from convbench.stimulus.spec import ConvSpec, PipelineSpec

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
    for name in ("torch", "jax"):
        absent = f"{name}: not compared, because it is not installed" in done.stdout
        assert absent is (find_spec(name) is None)


def test_what_there_was_no_time_for_is_named() -> None:
    done = run("--device", "cpu", "--list", "smoke", "--dtype", "float32", "--budget-s", "0",
               "--rounds", "1")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "The time ran out before: notebook.conv float32" in done.stdout


@pytest.mark.parametrize(
    ("padding", "stride", "own"),
    [
        ((3, 3, 3, 3), 2, (3, 3)),  # ResNet's first: the last window reads 2 of the 3
        ("SAME", 1, (3, 3)),
        ("SAME", 2, None),  # 2 before and 3 after
        ((3, 0, 3, 0), 1, None),
    ],
)
def test_pytorch_pads_by_itself_where_it_can(
    monkeypatch: pytest.MonkeyPatch, padding: object, stride: int, own: object
) -> None:
    """A copy into a padded image would be timed with it."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    study = importlib.import_module("gpu_peers")
    called: list[tuple[str, object]] = []
    functional = SimpleNamespace(
        pad=lambda x, pads: called.append(("pad", pads)) or x,
        conv2d=lambda x, *rest: called.append(("conv2d", rest[3])) or x,
    )
    torch = SimpleNamespace(nn=SimpleNamespace(functional=functional))
    conv = ConvSpec(k=2, r=7, s=7, stride=stride, padding=padding)
    study.torch_function(torch, PipelineSpec(1, 224, 224, 3, conv=conv), None, None)(None)
    assert called[-1] == ("conv2d", own or (0, 0))
    assert [name for name, _ in called] == (["conv2d"] if own else ["pad", "conv2d"])


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
