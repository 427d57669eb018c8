"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from convbench.errors import InputError
from convbench.machine.files import write


def test_text_and_bytes_are_written_and_nothing_is_left_beside_them(tmp_path):
    write(tmp_path / "a", "\u00e9\n")
    write(tmp_path / "a", b"\xff")
    assert (tmp_path / "a").read_bytes() == b"\xff"
    write(tmp_path / "a", "\u00e9\n")
    assert (tmp_path / "a").read_bytes() == b"\xc3\xa9\n"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_a_file_keeps_its_permissions_and_a_new_one_has_the_usual(tmp_path):
    usual, kept = tmp_path / "usual", tmp_path / "kept"
    usual.touch()
    write(tmp_path / "new", "")
    assert (tmp_path / "new").stat().st_mode == usual.stat().st_mode
    kept.touch()
    kept.chmod(0o640)
    write(kept, "x")
    assert kept.stat().st_mode & 0o777 == 0o640


def test_a_link_stays_one(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write(tmp_path / "link", "x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "x"


def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write(tmp_path / "pipe", "x")
    assert os.read(reader, 9) == b"x"
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()


def test_folders_are_made_if_that_is_asked_for(tmp_path):
    path = tmp_path / "a" / "b" / "c"
    with pytest.raises(InputError, match="the file is not writable"):
        write(path, "x")
    write(path, "x", parents=True)
    assert path.read_text() == "x"


def test_where_it_cannot_be_written_it_says_so_and_keeps_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a"
    write(path, "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(InputError, match=r"a: .*\(No space left on device\)"):
        write(path, "new")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
