"""The root of a project, and what it asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from convbench.errors import InputError
from convbench.machine.project import Project

ASKS = """
[project]
name = "My.Kernels_2"

[tool.convbench]
targets = ["mine@cpu"]
workloads = ["perf/layers.toml"]
asv = "perf/asv.conf.json"

[tool.convbench.lists]
mine = ["net.conv"]
"""


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """A folder in a folder in a git repository."""
    (tmp_path / ".git").mkdir()
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    return folder


def test_what_is_asked_for(tmp_path: Path, deep: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(ASKS)
    found = Project.find(deep)
    assert found == Project.find(tmp_path)
    assert found == Project(
        tmp_path, "my-kernels-2", ("mine@cpu",), (tmp_path / "perf" / "layers.toml",),
        {"mine": ("net.conv",)}, tmp_path / "perf" / "asv.conf.json",
    )  # fmt: skip


def test_the_nearest_of_the_best_mark_is_the_root(tmp_path: Path, deep: Path) -> None:
    """pyproject.toml that asks, before asv.conf.json, before git, before the folder itself."""
    above = deep.parent
    assert Project.find(deep).root == tmp_path
    (above / "asv.conf.json").touch()
    (above / "pyproject.toml").write_text("[project]\nname = 'x'\n[tool.ruff]\n")
    found = Project.find(deep)
    assert (found.root, found.name, found.config) == (above, "x", above / "asv.conf.json")
    (tmp_path / "pyproject.toml").write_text(ASKS)
    assert Project.find(deep).root == tmp_path
    (above / "pyproject.toml").write_text("[tool.convbench]\n")
    assert Project.find(deep).root == above


def test_without_any_it_is_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Project.find() == Project(tmp_path, config=tmp_path / "asv.conf.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tool]\nconvbench = 3", "the key is 3; expected one of targets"),
        ("[tool.convbench]\ntarget = []", "the key is target; expected one of targets, workloads"),
        ("[tool.convbench]\ntargets = 'mine@cpu'", "targets is 'mine@cpu'; expected a list"),
        ("[tool.convbench]\nworkloads = [1]", "workloads is [1]; expected a list"),
        ("[tool.convbench]\nlists = []", "lists is []; expected a table"),
        ("[tool.convbench.lists]\nmine = 'net.conv'", "lists.mine is 'net.conv'; expected a list"),
        ("[tool.convbench]\nasv = 1", "asv is 1; expected a path"),
        ("[tool.convbench]\ntargets = [", "the text is not TOML"),
    ],
)
def test_what_cannot_be_understood_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(InputError) as refusal:
        Project.find(tmp_path)
    assert message in str(refusal.value)
    assert str(tmp_path / "pyproject.toml") in str(refusal.value)


def test_what_somebody_elses_file_says_does_not_matter(tmp_path: Path, deep: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("not [TOML")
    (deep / "pyproject.toml").write_bytes(b"\xe9")
    assert Project.find(deep).root == tmp_path
