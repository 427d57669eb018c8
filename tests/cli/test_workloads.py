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


PROBLEMS = """\
mb1ic3ih8oc4kh3n"net:first"
mb1ic3ih8oc4kh3n"net:second"
mb1ic3id8ih8oc4kd3kh3n"net:third"
"""


def test_what_is_imported_is_a_file_of_workloads(tmp_path: Path) -> None:
    (tmp_path / "shapes").write_text(PROBLEMS)
    done = run("workloads", "import", "shapes", "--output", "net.toml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "left out: shapes, third: layer: the number of spatial axes is 3" in done.stderr
    assert "1 workload of 2 layers, 1 left out; in net.toml" in done.stderr
    assert "# Left out: shapes, third" in (tmp_path / "net.toml").read_text("utf-8")
    cell = ("--target", "numpy@cpu", "--fill", "integers")
    verified = run("verify", "--workloads", "net.toml", *cell, "--json", cwd=tmp_path)
    assert verified.returncode == 0, verified.stderr
    assert json.loads(verified.stdout)["cells"] > 0


def test_what_is_imported_for_programs(tmp_path: Path) -> None:
    (tmp_path / "shapes").write_text(PROBLEMS)
    for json_first in (True, False):
        words = ["workloads", "import"]
        words.insert(1 if json_first else 2, "--json")
        found = json.loads(run(*words, "shapes", "--tier", "full", cwd=tmp_path).stdout)
        assert found["schema"] == "convbench.workloads.import/1"
        assert [(w["name"], w["tier"]) for w in found["workloads"]] == [("net.first", "full")]
        assert [it["layer"] for it in found["left_out"]] == ["third"]


def test_what_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "shapes").write_text(PROBLEMS.splitlines()[2])
    (tmp_path / "net.onnx").write_bytes(b"no model")
    for words, message in (
        (("shapes",), "the number of rows is 0, of 1 layers"),
        (("net.onnx",), "net.onnx: the "),
        (("gone",), "gone: the file is not readable"),
        (("shapes", "--shape", "1x0"), "'1x0' is not a shape as 1x3x224x224"),
        ((), "the following arguments are required: FILE_OR_MODEL"),
    ):
        refused = run("workloads", "import", *words, "--output", "rows.toml", cwd=tmp_path)
        assert refused.returncode == 4, words
        assert message in refused.stderr
        assert not (tmp_path / "rows.toml").exists()
