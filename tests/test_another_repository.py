"""Somebody's kernel, from an empty repository to a gate, with nothing but the wheel."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from .checkouts import ROOT
from .gate.test_build import with_our_libraries
from .schemas import conforming

CELL = ("--target", "my_kernels@cpu", "--workload", "notebook.conv")


class Repository:
    """A repository, and an environment in which the wheel of convbench is installed."""

    def __init__(self, folder: Path) -> None:
        wheel = pytest.importorskip("flit_core.wheel")
        made = wheel.make_wheel_in(ROOT / "pyproject.toml", folder)
        self.environment = with_our_libraries(folder / "venv")
        # Not ours, which the libraries' folder may have, too.
        (self.site,) = self.environment.glob("lib/python*/site-packages")
        self.folder = folder / "my-kernels"
        self.folder.mkdir()
        self.install(str(made.file))
        self.run("git", "init", "--quiet", "--initial-branch", "main")

    def install(self, *what: str) -> None:
        """With pip, which is not in the environment."""
        pip = [sys.executable, "-m", "pip", "--python", str(self.environment), "install"]
        flags = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check",
                 "--force-reinstall", "--no-index"]  # fmt: skip
        self.run(*pip, *flags, *what)

    def run(self, *words: str, code: int = 0) -> str:
        """Run a command in the repository; what it prints."""
        done = self.try_to(*words)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def try_to(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        left_out = {"PYTHONPATH", "CONVBENCH_EXTRA_TARGETS"}
        inherited = {name: value for name, value in os.environ.items() if name not in left_out}
        return subprocess.run(
            words, cwd=self.folder, capture_output=True, text=True, check=False,
            env=inherited
            | {"HOME": str(self.folder.parent), "CONVBENCH_EXAMPLES": "1"}
            | variables,
        )  # fmt: skip

    def python(self, *words: str, code: int = 0) -> str:
        return self.run(str(self.environment / "bin" / "python"), *words, code=code)

    def convbench(self, *words: str, code: int = 0) -> str:
        return self.python("-m", "convbench", *words, code=code)

    def commit(self) -> None:
        self.run("git", "add", "--all")
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        self.run("git", *identity, "commit", "--quiet", "--message", "a commit")

    @property
    def backend(self) -> Path:
        return self.folder / "src" / "my_kernels" / "convbench.py"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """After `convbench init`, with one commit, and installed from its folder."""
    repository = Repository(tmp_path_factory.mktemp("another"))
    seen = repository.python("-c", "import convbench, sys; print(convbench.__file__, *sys.path)")
    package, *path = map(Path, seen.split())
    assert package.is_relative_to(repository.site)
    assert not [folder for folder in path if folder.is_relative_to(ROOT / "src")]
    repository.convbench("init", "--template", "numpy")
    with (repository.folder / "pyproject.toml").open("a") as file:
        file.write('\n[tool.convbench.lists]\nours = ["notebook.conv"]\n')
    repository.commit()
    repository.install("--editable", ".")
    return repository


def test_it_is_verified(made: Repository) -> None:
    found = json.loads(made.convbench("verify", *CELL, "--json"))
    assert {check["status"] for check in found["checks"]} == {"ok"}
    assert found["installed_copies"] == {}


def test_it_is_tested(made: Repository) -> None:
    few = "layout or declared or refused"
    assert " passed" in made.python("-W", "error", "-m", "pytest", "-q", "-k", few)
    by_place = ("--convbench", "my_kernels.convbench:MyBackend", "-k", few)
    assert " passed" in made.python("-W", "error", "-m", "pytest", "-q", *by_place)


def test_it_is_measured_where_it_lies(made: Repository) -> None:
    cell = "bench_pipeline.Smoke.*'my_kernels@cpu', 'notebook.conv'"
    found = conforming(made.convbench("bench", "--bench", cell, "--rounds", "1", "--json"))
    (row,) = found["rows"]
    assert (row["target"], row["status"]) == ("my_kernels@cpu", "ok")
    assert made.run("git", "status", "--porcelain") == ""
    (evidence,) = (made.folder / ".asv" / "evidence").glob("*/*.jsonl")
    lines = [conforming(line, "journal") for line in evidence.read_text().splitlines() if line]
    assert [line["origin"] for line in lines if "origin" in line] == [
        {"distribution": "my-kernels", "version": "0.1.0", "file": str(made.backend)}
    ]


def test_what_is_required_is_not_passed_over(made: Repository) -> None:
    cell = "bench_pipeline.Smoke.*'numpy@cpu', 'notebook.conv'"
    required = ("--require", "numpy@cpu", "--require", "cupy@gpu:0")
    made.convbench("bench", "--bench", cell, "--rounds", "1", *required, code=3)


def test_what_cannot_be_filed_is_not_measured(made: Repository) -> None:
    kept = (made.folder / ".asv").rename(made.folder.parent / "kept")
    (made.folder / ".asv").touch()
    words = ("bench", "--bench", "bench_pipeline.Smoke.*'numpy@cpu', 'notebook.conv'")
    try:
        refused = made.try_to(str(made.environment / "bin" / "python"), "-m", "convbench", *words)
    finally:
        (made.folder / ".asv").unlink()
        kept.rename(made.folder / ".asv")
    assert refused.returncode == 4
    assert "machine.json: the file is not writable (" in refused.stderr
    assert "round 1" not in refused.stderr


def act(
    repository: Repository, **inputs: str
) -> tuple[list[subprocess.CompletedProcess[str]], str]:
    """Run the shell steps of action.yml as GitHub does, without an index; and the summary."""
    action = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
    given = {name: declared["default"] for name, declared in action["inputs"].items()} | inputs
    known = {f"inputs.{name}": value for name, value in given.items()}
    known["github.event.pull_request.number"] = "7"
    said = {name: repository.folder.parent / name for name in ("output", "summary")}
    for path in said.values():
        path.write_text("")
    pip = {f"PIP_{name}": "1" for name in ("NO_INDEX", "NO_DEPS", "QUIET")}
    about = pip | {
        "PIP_NO_BUILD_ISOLATION": "0",  # pip's own way to say that it is off
        "PATH": f"{repository.environment / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "GITHUB_ACTION_PATH": str(ROOT),
        "GITHUB_OUTPUT": str(said["output"]),
        "GITHUB_STEP_SUMMARY": str(said["summary"]),
    }

    def filled(text: str) -> str:
        return re.sub(r"\$\{\{ (.*?) \}\}", lambda found: known[found[1]], text)

    done = []
    for step in action["runs"]["steps"]:
        if "run" in step:
            variables = {name: filled(text) for name, text in step.get("env", {}).items()}
            words = ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"])
            done.append(repository.try_to(*words, **about, **variables))
            written = dict(line.split("=") for line in said["output"].read_text().splitlines())
            known |= {f"steps.{step.get('id')}.outputs.{k}": v for k, v in written.items()}
    return done, said["summary"].read_text()


def test_two_commits_are_gated(made: Repository) -> None:
    kept = made.backend.read_text()
    made.backend.write_text(kept.replace("return y if", "y += 1\n            return y if"))
    made.commit()
    made.run("git", "tag", "wrong")
    made.backend.write_text(kept)
    made.commit()
    quick = ("--budget", "20s", "--delta", "50")
    (cell,) = conforming(made.convbench("gate", "HEAD~2", *CELL, *quick, "--json"))["cells"]
    assert cell["verdict"] in {"equivalent", "undecided"}
    (stored,) = (made.folder / ".asv" / "evidence").glob("*/*.gate.json")
    assert conforming(stored.read_text())["cells"]


def test_the_action_refuses_what_is_wrong(made: Repository) -> None:
    made.run("git", "checkout", "--quiet", "wrong")
    try:
        steps, summary = act(made, targets="\n my_kernels@cpu,", list="ours")
    finally:
        made.run("git", "checkout", "--quiet", "main")
    *others, failed = steps
    for step in others:
        assert step.returncode == 0, step.stdout + step.stderr
    found = made.folder / "build" / "convbench"
    (cell,) = conforming((found / "comparison.json").read_text())["cells"]
    assert (cell["target"], cell["workload"], cell["verdict"]) == (
        "my_kernels@cpu", "notebook.conv", "wrong"
    )  # fmt: skip
    assert summary.startswith("**WRONG")
    assert summary == (found / "comment.md").read_text()
    assert (found / "number").read_text() == "7\n"
    assert (failed.returncode, failed.stdout) == (1, "convbench gate: exit status 2\n")


def test_a_plug_in_that_does_not_import_has_failed(made: Repository) -> None:
    kept = made.backend.read_text()
    made.backend.write_text(f"{kept}\nimport no_such_module\n")
    line = f"{made.backend}:{len(kept.splitlines()) + 2}"
    try:
        found = json.loads(made.convbench("verify", "--fill", "integers", "--json", code=2))
    finally:
        made.backend.write_text(kept)
    (reason,) = {
        check["reason"] for check in found["checks"] if check["target"] == "my_kernels@cpu"
    }
    assert reason.startswith("import failed: loading my_kernels.convbench:MyBackend raised")
    assert reason.endswith(f"No module named 'no_such_module', at {line}")


def test_what_it_raises_is_told_with_its_line(made: Repository) -> None:
    kept = made.backend.read_text()
    broken = kept.replace(
        "        def run(", "        n, h = pipeline.input_shape\n\n        def run("
    )
    made.backend.write_text(broken)
    try:
        found = json.loads(made.convbench("verify", *CELL, "--fill", "integers", "--json", code=2))
    finally:
        made.backend.write_text(kept)
    number = broken.splitlines().index("        n, h = pipeline.input_shape") + 1
    for check in found["checks"]:
        assert check["reason"].endswith(f"at {made.backend}:{number}")


def test_a_copy_that_is_installed_is_not_filed_under_head(made: Repository) -> None:
    """The last one: it installs the copy."""
    made.install(".")
    words = (str(made.environment / "bin" / "convbench"), "bench", "--bench", "notebook.conv")
    refused = made.try_to(*words)
    assert refused.returncode == 4
    copy = made.site / "my_kernels" / "convbench.py"
    assert f"the code of my_kernels is {copy}" in refused.stderr
    assert "`pip install --editable .`" in refused.stderr
    found = json.loads(made.convbench("verify", *CELL, "--fill", "integers", "--json"))
    assert found["installed_copies"]["my_kernels"]["file"] == str(copy)
