"""git, asked, and absent."""

from __future__ import annotations

import subprocess

from convbench.machine.git import apart, changes, complaint, full_hash, git, output, subjects


def test_it_answers_from_a_folder_and_reads_what_it_is_told(tmp_path):
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    git(tmp_path, *identity, "commit", "--quiet", "--allow-empty", "-m", "one")
    commit = full_hash("HEAD", tmp_path)
    assert commit is not None
    assert git(tmp_path, "log", "--stdin", "--format=%s", said=commit) == "one"
    assert output(tmp_path, "log", "--format=%s") == b"one\n"


def test_it_counts_what_a_commit_has_more_than_another(tmp_path):
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    commits = []
    for subject in ("one", "two", "three"):
        git(tmp_path, *identity, "commit", "--quiet", "--allow-empty", "-m", subject)
        commits.append(full_hash("HEAD", tmp_path))
    first, _, third = commits
    assert [apart(first, each, tmp_path) for each in commits] == [0, 1, 2]
    assert apart(third, first, tmp_path) == 0
    assert apart("0" * 40, first, tmp_path) == apart("--all", first, tmp_path) == 0


def test_what_is_kept_in_a_working_tree_is_no_change_of_it(tmp_path):
    """Whether git knows of it or not, and from a folder below its root."""
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    below, results = tmp_path / "below", tmp_path / "below" / "re[s]ults"
    results.mkdir(parents=True)
    (results / "old.json").write_text("1")
    git(tmp_path, "add", "--all")
    git(tmp_path, *identity, "commit", "--quiet", "-m", "one")
    (results / "old.json").write_text("2")
    (results / "new.json").write_text("3")
    for content in (False, True):
        assert changes(below, [results, tmp_path.parent], content=content) == ""
        assert "old.json" in changes(below, content=content)
    (tmp_path / "other").write_text("4")
    assert changes(below, [results]) == "?? other"


def test_a_repository_that_git_does_not_trust_is_told(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    assert complaint(tmp_path) == ""
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert full_hash("HEAD", tmp_path) is None
    assert complaint(tmp_path).startswith("git says: fatal: detected dubious ownership")
    assert "safe.directory" in complaint(tmp_path)
    monkeypatch.setenv("PATH", "")
    assert complaint(tmp_path).startswith("git does not start")


def test_what_it_does_not_know_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    assert full_hash("HEAD", tmp_path) is None
    assert subjects(["0" * 40]) == {}
    assert output(tmp_path, "log") is None
    monkeypatch.setenv("PATH", "")
    assert git(tmp_path, "status") == ""
