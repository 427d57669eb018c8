"""All of it with nothing standing in: a repository of somebody's own, measured, gated and told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..checkouts import ROOT
from ..repositories import Repository
from ..schemas import conforming

ASKS = """
[tool.convbench.watch]
list = "ours"
targets = ["kernels@cpu"]
gate = "10s"
repository = "{remote}"

[tool.convbench.watch.notify]
command = ["{python}", "-c", "import sys; open({told!r}, 'a').write(sys.stdin.read())"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a project that watches, and a repository that `convbench init` has made."""
    for name in ("kernels", "project"):
        (tmp_path / name).mkdir()
    told = str(tmp_path / "told")
    asks = ASKS.format(remote=tmp_path / "kernels", python=sys.executable, told=told)
    (tmp_path / "project" / "pyproject.toml").write_text(asks)
    return tmp_path


def convbench(folder: Path, *words: str, code: int = 0) -> str:
    path = os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-m", "convbench", *words], cwd=folder, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": path, "ASV_PYTHONPATH": path}, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_a_wrong_commit_is_found_and_told(folder: Path) -> None:
    remote = Repository(folder / "kernels")
    convbench(folder / "kernels", "init", "--template", "numpy")
    with (folder / "kernels" / "pyproject.toml").open("a") as file:
        file.write('\n[tool.convbench.lists]\nours = ["notebook.conv"]\n')
    # Whoever imports it says so.
    package = folder / "kernels" / "src" / "kernels" / "__init__.py"
    package.write_text(
        f"import sys\nprint(sys.orig_argv, file=open({str(folder / 'seen')!r}, 'a'))"
    )
    remote.git("add", ".")
    right = remote.commit("right")
    watch = ("watch", "--once", "--json")
    (first,) = conforming(convbench(folder / "project", *watch))["commits"]
    assert (first["commit"], first["verdict"], first["report"]) == (right, "first", True)

    backend = folder / "kernels" / "src" / "kernels" / "convbench.py"
    backend.write_text(
        backend.read_text().replace("return y if", "y += 1\n            return y if")
    )
    remote.git("add", ".")
    wrong = remote.commit("wrong")
    state = conforming(convbench(folder / "project", *watch, code=2))
    found = state["commits"][-1]
    assert (found["commit"], found["verdict"], found["base"]) == (wrong, "wrong", right)
    assert found["reason"] == "1 wrong, of 1 cell"
    notice = json.loads((folder / "told").read_text())
    assert (notice["commit"], notice["blamed"]) == (wrong, [wrong])
    made = folder / "project" / ".asv" / "watch"
    rows = conforming((made / "runs" / wrong / "measure.out").read_text())["rows"]
    assert {row["target"] for row in rows} == {"kernels@cpu"}
    assert wrong[:8] in (made / "runs" / wrong / "report.html").read_text()
    assert (made / "site" / "index.html").is_file()
    assert state["problem"] == ""
    seen = (folder / "seen").read_text().splitlines()
    assert len(seen) > 4
    assert [words for words in seen if "'watch'" in words or "'report'" in words] == []
