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


def test_where_there_is_no_repository(tmp_path: Path) -> None:
    done = run("workloads", "--list", "smoke", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["workloads"]) == 9
    assert run("notebook", "--target", "numpy@cpu", cwd=tmp_path).returncode == 0
    cell = ("--target", "numpy@cpu", "--workload", "notebook.conv", "--fill", "integers")
    assert run("verify", *cell, cwd=tmp_path).returncode == 0
    assert list(tmp_path.iterdir()) == []


PROJECT = """
[tool.convbench]
workloads = ["layers.toml"]

[tool.convbench.lists]
mine = ["net.conv", "notebook.pool"]
"""
ROW = """
[[workload]]
name     = "net.conv"
source   = "made up"
tier     = "smoke"
pipeline = { n = 1, h = 5, w = 7, c = 3, conv = { k = 6, r = 3, s = 3 } }
"""


def test_what_a_project_adds_is_there_in_each_of_its_folders(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "layers.toml").write_text(ROW)
    (tmp_path / "a" / "b").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "a" / "b"):
        found = json.loads(run("workloads", "--list", "mine", "--json", cwd=folder).stdout)
        assert [w["name"] for w in found["workloads"]] == ["net.conv", "notebook.pool"]
    refused = run("workloads", "--list", "tiny", cwd=tmp_path)
    assert refused.returncode == 4
    assert "the list is 'tiny'; expected one of smoke, standard, full, mine" in refused.stderr
