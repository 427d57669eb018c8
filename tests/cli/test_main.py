"""How a command ends, whatever happens in it."""

import os
import subprocess
import sys

import pytest

from convbench.cli import main, workloads
from convbench.errors import Blind
from convbench.words.status import Exit


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError("nobody foresaw it"), Exit.DEFECT),
        (Blind("it passes what is wrong"), Exit.WRONG),
        (OSError("the disk is full"), Exit.INPUT),
        (KeyboardInterrupt(), Exit.INTERRUPTED),
    ],
)
def test_an_error_that_ends_a_command_is_not_taken_for_a_slow_down(
    monkeypatch, capsys, error, code
):
    def fail(_):
        raise error

    monkeypatch.setattr(workloads, "run", fail)
    assert main.main(["workloads"]) == code
    assert code != Exit.SLOWER
    said = capsys.readouterr().err
    assert ("Traceback" in said) == (code is Exit.DEFECT)


def run(*words, **options):
    return subprocess.run(
        [sys.executable, "-m", "convbench", *words],
        stderr=subprocess.PIPE, text=True, check=False, **options,
    )  # fmt: skip


def test_a_closed_output_is_no_crash():
    done = run("workloads", "--list", "smoke", preexec_fn=lambda: os.close(1))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_has_gone_is_no_verdict():
    read, write = os.pipe()
    os.close(read)
    try:
        done = run("workloads", stdout=write)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_console_that_knows_ascii_only_is_no_crash(tmp_path):
    spec = "[[workload]]\nname = 'b.umlaut'\ntier = 'smoke'\nsource = 'von Hand: \u00fc'\n"
    spec += "pipeline = {n = 1, h = 2, w = 2, c = 1, bias = true}\n"
    (tmp_path / "w.toml").write_text(spec, encoding="utf-8")
    done = run(
        "workloads", "--workloads", str(tmp_path / "w.toml"), "--workload", "b.umlaut\u00fc",
        env=os.environ | {"PYTHONIOENCODING": "ascii"}, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert done.returncode == Exit.INPUT
    assert "b.umlaut" in done.stderr
    assert "Traceback" not in done.stderr
