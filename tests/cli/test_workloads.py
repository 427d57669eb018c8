"""`convbench workloads`."""

from __future__ import annotations

import json
from pathlib import Path

from .command import run


def test_workloads() -> None:
    data = json.loads(run("workloads", "--list", "standard", "--json").stdout)
    names = [w["name"] for w in data["workloads"]]
    assert names[:3] == ["notebook.conv", "notebook.pool", "notebook.avg_pool"]
    assert data["workloads"][0]["flops"] == 906
    assert "vgg16.conv1_2" in run("workloads").stdout


def test_outside_a_checkout(tmp_path: Path) -> None:
    done = run("workloads", cwd=tmp_path)
    assert done.returncode == 4
    assert "--workloads" in done.stderr
    assert run("notebook", "--target", "numpy@cpu", cwd=tmp_path).returncode == 0
