"""The root of a project, and what it asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from convbench.errors import InputError
from convbench.machine.project import Project, Watch

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
        ("[tool.convbench]\nwatch = 3", "the key of watch is no table; expected one of every"),
        ("[tool.convbench.watch]\nbranch = 'x'", "the key of watch is branch; expected one of"),
        ("[tool.convbench.watch]\nevery = 600", "watch.every is 600; expected a time of at most"),
        ("[tool.convbench.watch]\ngate = '5 minutes'", "watch.gate is '5 minutes'; expected a"),
        ("[tool.convbench.watch]\nbisect = 'inf'", "watch.bisect is 'inf'; expected a time"),
        ("[tool.convbench.watch]\nlimit = '31d'", "watch.limit is '31d'; expected a time"),
        ("[tool.convbench.watch]\nlist = ['smoke']", "watch.list is a list; expected a text"),
        ("[tool.convbench.watch]\nbranches = 'x'", "watch.branches is 'x'; expected a list"),
        ("[tool.convbench.watch]\nbranches = ['-x']", "a branch of watch is '-x'; expected"),
        ("[tool.convbench.watch]\nbase = 'a..b'", "a branch of watch is 'a..b'; expected"),
        ("[tool.convbench.watch.notify]\nmail = 'x'", "the key of watch.notify is mail; exp"),
        ("[tool.convbench.watch.notify]\nwebhook = 3", "watch.notify.webhook is a int; expected"),
    ],
)
def test_what_cannot_be_understood_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(InputError) as refusal:
        Project.find(tmp_path)
    assert message in str(refusal.value)
    assert str(tmp_path / "pyproject.toml") in str(refusal.value)


WATCHES = """
[tool.convbench.watch]
branches = ["main", "release/*", "refs/pull/*/head"]
every = "90s"
base = "v1.0"
list = "standard"
targets = ["mine@cpu"]
gate = "1m"
bisect = "1h"
limit = "1d"
repository = "https://me:word@host/x.git"
scheduler = "tcp://host:8786"
machine = "node1"
tls = {ca-file = "ca.pem", cert = "me.pem", key = "me.key"}
notify = {webhook = "https://host/s3cret", command = ["mail", "me"]}
"""


def test_what_a_watch_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(WATCHES)
    found = Project.find(tmp_path).watch
    assert found == Watch(
        ("main", "release/*", "refs/pull/*/head"), 90.0, "v1.0", "standard", ("mine@cpu",), 60.0,
        3600.0, 86_400.0, "https://me:word@host/x.git", "tcp://host:8786", "node1",
        {"ca-file": "ca.pem", "cert": "me.pem", "key": "me.key"}, "https://host/s3cret",
        ("mail", "me"),
    )  # fmt: skip
    assert "s3cret" not in repr(found)
    assert "word" not in repr(found)


def test_what_somebody_elses_file_says_does_not_matter(tmp_path: Path, deep: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("not [TOML")
    (deep / "pyproject.toml").write_bytes(b"\xe9")
    assert Project.find(deep).root == tmp_path
