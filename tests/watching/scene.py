"""A repository somewhere, a project that watches it, and stand-ins for what takes long."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from convbench.cli.main import main

from ..checkouts import ROOT
from ..repositories import Repository
from . import runner

FAKE = Path(__file__).with_name("fake.py")

ASKS = """
[tool.convbench.watch]
branches = ["main", "other", "refs/pull/*/head"]
every = "1s"
repository = "{repository}"
{more}

[tool.convbench.watch.notify]
command = ["{python}", "{fake}", "{folder}", "told"]
"""


class Scene:
    """What there is, below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.project = folder, folder / "project"
        for name in ("remote", "project"):
            (folder / name).mkdir()
        self.remote = Repository(folder / "remote")
        (folder / "remote" / "src" / "pkg").mkdir(parents=True)
        (folder / "remote" / "src" / "pkg" / "__init__.py").touch()
        (folder / "remote" / "pyproject.toml").write_text('[project]\nname = "pkg"\nversion = "1"')
        self.ask()
        self.first = self.commit("1")

    def ask(self, more: str = "") -> None:
        """Write what the project asks for."""
        (self.project / "pyproject.toml").write_text(
            ASKS.format(
                repository=self.folder / "remote", folder=self.folder, python=sys.executable,
                fake=FAKE, more=more,
            )
        )  # fmt: skip

    def notify(self, webhook: str) -> None:
        """Have somebody told in another way, too."""
        with (self.project / "pyproject.toml").open("a") as file:
            file.write(f'webhook = "{webhook}"\n')

    def commit(self, quality: str, subject: str = "") -> str:
        """One more, on whatever is checked out."""
        (self.folder / "remote" / "quality").write_text(quality)
        self.remote.git("add", ".")
        return self.remote.commit(subject or quality)

    def start(self, *words: str, writes: int = 0) -> subprocess.Popen[str]:
        """Start a watch in a process of its own."""
        path = os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH"))))
        return subprocess.Popen(
            [sys.executable, runner.__file__, str(self.folder), str(writes), *words],
            cwd=self.project, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path},
        )  # fmt: skip

    def watch(self, *words: str, code: int | None = 0) -> tuple[dict[str, Any], str]:
        """Watch once, in this process: the state as it is printed, and what was said."""
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(self.project), contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err), runner.standing_in(self.folder),
        ):  # fmt: skip
            ended = main(["watch", "--once", "--json", *words])
        assert code in {None, ended}, err.getvalue()
        return json.loads(out.getvalue() or "{}"), err.getvalue()

    def killed(self, step: str) -> None:
        """Watch, and be killed in a step."""
        (self.folder / "kill").write_text(step)
        (process := self.start("--once")).communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL

    @property
    def state(self) -> dict[str, Any]:
        """As it lies in the file."""
        return json.loads((self.project / ".asv" / "watch" / "state.json").read_text())

    @property
    def commits(self) -> dict[str, dict[str, Any]]:
        """Of the state, by hash."""
        return {commit["commit"]: commit for commit in self.state["commits"]}

    def verdict(self, commit: str) -> str:
        return self.commits[commit]["verdict"]

    def calls(self, step: str) -> list[list[str]]:
        """What stand-ins were called with."""
        lines = (self.folder / "calls").read_text().splitlines()
        return [words[1:-1] for words in map(json.loads, lines) if words[0] == step]

    def told(self) -> list[dict[str, Any]]:
        """The notices that have arrived."""
        path = self.folder / "told"
        return [*map(json.loads, path.read_text().splitlines())] if path.exists() else []
