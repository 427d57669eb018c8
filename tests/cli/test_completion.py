"""The commands are completed in a shell, by what shtab makes of the parser."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

# What a shell does when somebody presses Tab after the words.
_PRESS = """
eval "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_shtab_convbench convbench "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script() -> str:
    pytest.importorskip("shtab", reason="the extra `completion` is not installed")
    made = subprocess.run(
        [sys.executable, "-m", "shtab", "--shell", "bash", "convbench.cli.main.make_parser"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return made.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (("co",), {"compare"}),
        (("verify", "--target", "numpy@cpu", "--juni"), {"--junit"}),
        (("verify", "--fill", "no"), {"normal", "nonfinite"}),
        (("schema", "gate"), {"gate", "gate_evidence"}),
        (("init", "--template", "cu"), {"cupy", "cuda"}),
    ],
)
def test_a_word_is_completed(script: str, words: tuple[str, ...], completed: set[str]) -> None:
    done = subprocess.run(
        ["bash", "-c", _PRESS, "bash", script, "convbench", *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert {*done.stdout.split()} == completed, done.stderr
