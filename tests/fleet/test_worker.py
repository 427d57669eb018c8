"""What a worker takes of what somebody else's code has left in its folder."""

from __future__ import annotations

import json
import os

import pytest

from convbench.fleet import worker


def linked(path):
    (path.parent / "another").write_text("{}")
    path.symlink_to(path.parent / "another")


def many(path):
    with path.open("wb") as file:
        file.truncate(worker.MOST_BYTES + 1)


LEFT = {
    "nothing": lambda path: None,
    "a link": linked,
    "a pipe": os.mkfifo,
    "a folder": lambda path: path.mkdir(),
    "too much": many,
    "no JSON": lambda path: path.write_text("{"),
    "no text": lambda path: path.write_bytes(b"\xff\xfe{}"),
    "too deep": lambda path: path.write_text("[" * 100_000),
    "no object": lambda path: path.write_text("[1]"),
}


def test_what_was_written_is_read(tmp_path):
    (tmp_path / "result.json").write_text(json.dumps({"code": 0}))
    assert worker._written(tmp_path / "result.json", os.getuid()) == {"code": 0}


@pytest.mark.parametrize("what", LEFT)
def test_what_is_no_result_is_not_waited_for_and_not_taken(tmp_path, what):
    LEFT[what](tmp_path / "result.json")
    assert worker._written(tmp_path / "result.json", os.getuid()) is None


def test_another_users_file_is_not_taken(tmp_path):
    (tmp_path / "result.json").write_text("{}")
    assert worker._written(tmp_path / "result.json", os.getuid() + 1) is None
