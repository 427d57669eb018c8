"""Every command says what it is for, and answers before anything is loaded that takes time."""

from __future__ import annotations

import subprocess
import sys

import pytest

from convbench.cli import main
from convbench.stimulus.formats import FORMATS, Fill
from convbench.stimulus.workloads import TIERS

COMMANDS = [command.__name__.rpartition(".")[2] for command in main.COMMANDS]
SLOW = ("numpy", "ml_dtypes", "rich", "scipy", "pandas", "asv", "altair", "jinja2", "tensorflow")

_CODE = """
import sys
from convbench.cli.main import main
try:
    main(sys.argv[1:])
finally:
    print(*sys.modules, file=sys.stderr)
"""


def ask(*words: str) -> tuple[str, set[str]]:
    """What the help says, and what was loaded for it."""
    done = subprocess.run(
        [sys.executable, "-c", _CODE, *words, "--help"], capture_output=True, text=True, check=True
    )
    return done.stdout, set(done.stderr.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_teaches(name: str) -> None:
    text, loaded = ask(name)
    command = main.COMMANDS[COMMANDS.index(name)]
    assert command.DESCRIPTION in text
    assert len(command.DESCRIPTION) > len(command.HELP)
    assert f"\n  convbench {name}" in text[text.index("example") :]
    assert "70 a defect of convbench" in text
    assert not loaded & {*SLOW}


def test_the_help_of_all_names_each() -> None:
    text, loaded = ask()
    for name in COMMANDS:
        assert f"\n  convbench {name} " in text
    assert not loaded & {*SLOW}


CHOICES = [
    *(("verify", "--fill", fill) for fill in Fill),
    *(("verify", "--dtype", name) for name in FORMATS),
    *((command, "--list", tier) for command in ("verify", "bench", "workloads") for tier in TIERS),
]


@pytest.mark.parametrize(("command", "option", "value"), CHOICES)
def test_what_there_is_can_be_asked_for(command: str, option: str, value: str) -> None:
    arguments = main.make_parser().parse_args([command, option, value])
    found = getattr(arguments, option.removeprefix("--"))
    assert found in (value, [value])


def test_json_is_one_of_the_formats() -> None:
    parse = main.make_parser().parse_args
    assert parse(["compare", "a", "b", "--json"]) == parse(
        ["compare", "a", "b", "--format", "json"]
    )
    assert parse(["compare", "a", "b"]).format == parse(["backends"]).format == "text"
