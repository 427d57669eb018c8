"""`convbench results`: which commit it shows, and what it opens for that."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from convbench.cli.main import main
from convbench.results import folder

from ..results.test_records import COMMIT, TIME, Project

OTHER = "f" * 40


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    project = Project(tmp_path)
    for i, commit in enumerate((COMMIT, OTHER)):
        project.add(TIME, [0.1] * 4, commit=commit)
        path = project.results_dir / "here" / f"{commit[:8]}-env.json"
        os.utime(path, (1000 + i, 1000 + i))
    return project


def shown(capsys, *words):
    code = main(["results", "--json", "--results-dir", "results", *words])
    out, err = capsys.readouterr()
    return code, {row["commit"] for row in json.loads(out)["rows"]} if out else set(), err


def test_by_default_it_is_the_commit_that_was_measured_last_and_no_other_is_opened(
    project, capsys, monkeypatch
):
    read, opened = folder.content, []
    monkeypatch.setattr(folder, "content", lambda path: opened.append(path) or read(path))
    assert shown(capsys)[:2] == (0, {OTHER})
    assert {path.name[:8] for path in opened} == {OTHER[:8]}


def test_a_revision_is_resolved_as_compare_does_it(project, capsys):
    assert shown(capsys, COMMIT[:5])[:2] == (0, {COMMIT})
    code, _, said = shown(capsys, "nonsense")
    assert code == 4
    assert "results: the revision is 'nonsense'" in said
    assert "ffffffff, 01234567" in said


def test_where_nothing_was_measured_that_is_said(tmp_path, capsys):
    code = main(["results", "--results-dir", str(tmp_path)])
    assert code == 3
    assert "nothing was measured of any commit" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [("results", "HEAD~1"), ("compare", "HEAD~1", "HEAD"), ("report", "HEAD~1")]
)
def test_a_shallow_clone_is_named_as_one(words, project, tmp_path, monkeypatch, capsys):
    def git(*words, folder):
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)

    whole, shallow = tmp_path / "whole", tmp_path / "shallow"
    whole.mkdir()
    git("init", "--quiet", folder=whole)
    for message in ("one", "two"):
        git("commit", "--quiet", "--allow-empty", "-m", message, folder=whole)
    git("clone", "--quiet", "--depth=1", f"file://{whole}", str(shallow), folder=tmp_path)
    for folder_of_git, hint in ((shallow, True), (whole, False)):
        monkeypatch.chdir(folder_of_git)
        last = words[1] if hint else "nonsense"
        command = [words[0], last, *words[2:], "--results-dir", str(project.results_dir)]
        assert main(command) == 4
        said = capsys.readouterr().err
        assert "unknown to git" in said
        assert ("`git fetch --unshallow`" in said) is hint
