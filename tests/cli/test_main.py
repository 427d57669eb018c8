"""What all commands share: their help, how bad input is named, and how they end."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from convbench.cli import gate, main, workloads
from convbench.errors import Blind, InputError
from convbench.words.status import Exit

from .command import COMMAND, run


def test_help_teaches() -> None:
    done = run("--help")
    assert done.returncode == 0
    for word in ("notebook", "backends", "workloads", "verify", "exit codes"):
        assert word in done.stdout
    for name in ("notebook", "backends", "workloads", "verify"):
        assert run(name, "--help").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verify", "--target", "numpie@cpu"], "the backend is 'numpie'"),
        (["verify", "--target", "numpy"], "the name is 'numpy'"),
        (["verify", "--target", "numpy.fast@cpu"], "the variant is 'fast'"),
        (["verify", "--target", "numpy@gpu:0"], "the device is 'gpu'"),
        (["verify", "--workload", "notebook.cnov"], "notebook.conv"),
        (["verify", "--seed", "-1"], "'-1' is not a number from 0 to 4294967295"),
        (["verify", "--timeout", "0"], "'0' is not a number from 0.001"),
        (["verify", "--fill", "zeros"], "invalid choice"),
        (["verify", "--workloads", "nowhere.toml"], "nowhere.toml"),
        (["frobnicate"], "invalid choice"),
        (["verfy"], "Did you mean verify"),
        (["verify", "--workload", "vgg16.conv1"], "Did you mean vgg16.conv1_1 or vgg16.conv1_2?"),
        (["bench", "--bench", "("], "no regular expression (missing )"),
        (["report", "--output", "/proc/none/r.html"], "/proc/none"),
        ([], "convbench gate A [B]"),
    ],
)
def test_bad_input_is_named_and_exits_with_4(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 4
    assert message in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


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


WITHOUT_POSIX = """
import sys
sys.modules["fcntl"] = None
from convbench.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "words",
    [
        ["gate", "HEAD"], ["verify", "--list", "smoke"], ["audit"], ["bench"], ["notebook"],
        ["backends"], ["doctor"],
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_what_needs_processes_says_so_on_a_system_that_has_other_ones(words: list[str]) -> None:
    """As on Windows, where :mod:`fcntl` cannot be imported either."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_POSIX, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == Exit.INPUT, done.stdout + done.stderr
    assert "expected Linux or macOS" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        (Exit.OK, 0), (Exit.SLOWER, 1), (Exit.WRONG, 125), (Exit.NOTHING, 125),
        (InputError("no such target"), 132), (RuntimeError("nobody foresaw it"), 198),
        (KeyboardInterrupt(), 130),
    ],
)  # fmt: skip
def test_git_bisect_takes_no_failure_for_a_bad_commit(monkeypatch, ends, code):
    def run(_):
        if isinstance(ends, BaseException):
            raise ends
        return ends

    monkeypatch.setattr(gate, "run", run)
    assert main.main(["gate", "HEAD", "--bisect"]) == code


def run_into(*words, **options):
    return subprocess.run(
        [*COMMAND, *words],
        stderr=subprocess.PIPE, text=True, check=False, **options,
    )  # fmt: skip


def test_a_closed_output_is_no_crash():
    done = run_into("workloads", "--list", "smoke", preexec_fn=lambda: os.close(1))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_has_gone_is_no_verdict():
    read, write = os.pipe()
    os.close(read)
    try:
        done = run_into("workloads", stdout=write)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_console_that_knows_ascii_only_is_no_crash(tmp_path):
    spec = "[[workload]]\nname = 'b.umlaut'\ntier = 'smoke'\nsource = 'von Hand: \u00fc'\n"
    spec += "pipeline = {n = 1, h = 2, w = 2, c = 1, bias = true}\n"
    (tmp_path / "w.toml").write_text(spec, encoding="utf-8")
    done = run_into(
        "workloads", "--workloads", str(tmp_path / "w.toml"), "--workload", "b.umlaut\u00fc",
        env=os.environ | {"PYTHONIOENCODING": "ascii"}, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert done.returncode == Exit.INPUT
    assert "b.umlaut" in done.stderr
    assert "Traceback" not in done.stderr
