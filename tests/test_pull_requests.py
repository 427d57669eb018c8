"""The recipe for a pull request: the script, and what the workflows may do."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from .checkouts import ROOT

SCRIPT = ROOT / "reports" / "pull_request.sh"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
DOCS = ROOT / "docs" / "pull-requests.md"


class Recipe:
    """A repository with two commits, in which asv and convbench only note what they are told."""

    def __init__(self, folder):
        self.folder, self.bin, self.log = folder / "project", folder / "bin", folder / "log"
        self.bin.mkdir()
        (self.folder / "reports").mkdir(parents=True)
        (self.folder / "reports" / SCRIPT.name).write_bytes(SCRIPT.read_bytes())
        self.git("init", "--quiet", "--initial-branch", "main")
        self.commits = [self.commit(), self.commit()]
        self.command("python", "echo 0")
        self.command("asv", 'echo "asv $* < $(tr "\\n" " ")" >> "$LOG"')
        self.command("convbench", 'echo "convbench $*" | tee -a "$LOG"')

    def git(self, *words):
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        done = subprocess.run(
            ["git", "-C", str(self.folder), *identity, *words],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        return done.stdout.strip()

    def commit(self):
        self.git("commit", "--quiet", "--allow-empty", "-m", "a commit")
        return self.git("rev-parse", "HEAD")

    def command(self, name, body):
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def run(self, *words, **settings):
        self.log.write_text("")
        clean = {k: v for k, v in os.environ.items() if k not in {"BENCH", "ROUNDS", "DELTA"}}
        return subprocess.run(
            ["bash", str(self.folder / "reports" / SCRIPT.name), *words],
            env={**clean, "BIN": str(self.bin), "LOG": str(self.log), **settings},
            capture_output=True, text=True, check=False, cwd="/",
        )  # fmt: skip

    @property
    def told(self):
        return self.log.read_text().splitlines()


@pytest.fixture
def recipe(tmp_path):
    return Recipe(tmp_path)


def test_both_commits_are_measured_in_turns_and_then_compared(recipe):
    done = recipe.run("HEAD~1", "main")
    assert done.returncode == 0, done.stderr
    base, head = recipe.commits
    bench = r"bench_(pipeline|accuracy)\.Smoke\."
    asv, *compares = recipe.told
    assert asv == (
        f"asv run --interleave-rounds --launch-method forkserver --bench {bench} HASHFILE:-"
        f" < {base} {head} "
    )
    compare = f"convbench compare {base}:virtualenv {head}:virtualenv --bench {bench}"
    formats = ("", " --format markdown", " --format json", " --format junit")
    assert compares == [compare + words for words in formats]
    folder = recipe.folder / "build" / "pull-request"
    assert (folder / "comment.md").read_text() == f"{compare} --format markdown\n"
    assert {path.name for path in folder.iterdir()} == {
        "comment.md", "comparison.json", "comparison.xml"
    }  # fmt: skip


def test_settings_are_passed_on(recipe):
    recipe.command("python", "echo 1")  # a GPU
    folder = recipe.folder.parent / "out put"
    done = recipe.run("HEAD~1", "HEAD", str(folder), BENCH="a b", ROUNDS="3", DELTA="10", LAUNCH="")
    assert done.returncode == 0, done.stderr
    assert "--launch-method spawn --bench a b --attribute rounds=3" in recipe.told[0]
    assert recipe.told[1].endswith("--bench a b --delta 10")
    assert (folder / "comment.md").is_file()


@pytest.mark.parametrize("status", [0, 1, 2, 3, 4, 70])
def test_the_exit_status_is_that_of_the_comparison(recipe, status):
    recipe.command("convbench", f'echo "convbench $*" >> "$LOG"; exit {status}')
    assert recipe.run("HEAD~1", "HEAD").returncode == status
    assert len(recipe.told) == 5


@pytest.mark.parametrize(("status", "code", "lines"), [(2, 0, 5), (1, 4, 1)])
def test_failed_benchmarks_are_compared_and_a_failed_asv_is_not(recipe, status, code, lines):
    recipe.command("asv", f'echo asv >> "$LOG"; exit {status}')
    assert recipe.run("HEAD~1", "HEAD").returncode == code
    assert len(recipe.told) == lines


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "usage"),
        (("HEAD",), "usage"),
        (("HEAD", "nowhere"), "git knows no commit nowhere"),
        (("HEAD", "main"), "are the same commit"),
        (("--upload-pack=x", "HEAD"), "git knows no commit --upload-pack=x"),
    ],
)
def test_what_cannot_be_compared_is_refused(recipe, words, message):
    done = recipe.run(*words)
    assert done.returncode == 4
    assert message in done.stderr
    assert recipe.told == []


def test_make_compare_runs_the_script():
    assert "@reports/pull_request.sh $(BASE) $(HEAD)" in (ROOT / "Makefile").read_text()
    assert os.access(SCRIPT, os.X_OK)


# -- The workflows --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_and_nothing_is_granted_at_large(path: Path):
    text = path.read_text()
    used = re.findall(r"uses: (\S+)(.*)", text)
    assert used
    for action, comment in used:
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", action)
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment)
    assert re.search(r"^permissions:( \{\}|\n  contents: read)$", text, re.MULTILINE)
    assert "pull_request_target" not in text
    assert "secrets" not in text
    # What a person has named reaches a shell as a variable only, never as part of its text.
    for script in re.findall(r"run: (\|\n(?: {10}.*\n)+|.*\n)", text):
        assert "${{" not in script


def test_what_runs_the_code_of_a_pull_request_can_write_nothing():
    text = (ROOT / ".github" / "workflows" / "convbench.yml").read_text()
    assert "write" not in re.sub(r"#.*", "", text)
    assert "persist-credentials: false" in text
    assert "reports/pull_request.sh" in text


def test_what_can_write_runs_nothing_of_a_pull_request():
    text = (ROOT / ".github" / "workflows" / "convbench-comment.yml").read_text()
    assert "checkout" not in text
    assert re.findall(r"(\S+): write", text) == ["pull-requests"]
    assert "head_sha" in text


def test_the_docs_name_every_setting_of_the_script():
    settings = re.findall(r"^#   ([A-Z]+) ", SCRIPT.read_text(), re.MULTILINE)
    assert settings == ["BENCH", "ROUNDS", "DELTA", "LAUNCH", "BIN"]
    text = DOCS.read_text()
    for setting in settings[:3]:
        assert f"`{setting}`" in text
