"""What the README says about the backends, the commands and the workloads is so."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from convbench.backends import backend_class
from convbench.correctness.faults import FAULTS
from convbench.stimulus.workloads import load

from .conftest import OWN

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def capabilities_row(name: str) -> str:
    """The row of the table, from what the backend declares."""
    declared = backend_class(name).capabilities
    variants = ", ".join(f"`{variant}`" for variant in declared.variants if variant)
    holes = "; ".join(
        str(hole) + f" ({', '.join(v or 'default' for v in hole.variants)})" * bool(hole.variants)
        for hole in declared.holes
    )
    cells = (f"`{name}`", variants, ", ".join(declared.devices), ", ".join(declared.dtypes), holes)
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"


@pytest.mark.parametrize("name", OWN)
def test_the_table_of_capabilities(name: str) -> None:
    assert capabilities_row(name) in README.splitlines()


def test_every_command_is_named() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "convbench", "--help"], capture_output=True, text=True, check=True
    )
    _, _, listed = done.stdout.partition("\ncommands:\n")
    commands = re.findall(r"^    ([a-z]+)\b", listed, re.MULTILINE)
    assert len(commands) >= 10
    assert set(re.findall(r"^\| `convbench (\w+)`", README, re.MULTILINE)) == set(commands)


def test_the_numbers_of_workloads() -> None:
    tiers = Counter(row.tier for row in load(ROOT / "benchmarks" / "workloads.toml"))
    assert (
        f"measures {tiers['smoke'] + tiers['standard']} layers instead of {tiers['smoke']}"
        in README
    )
    assert f"has {tiers['full']} layers more" in README


def test_the_examples() -> None:
    for block in re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL):
        if "my_package" in block:
            continue
        names: dict = {}
        exec(block.replace('backend="tensorflow"', 'backend="numpy"'), names)
        assert names["y"].shape == (1, 1, 1, 6)
    (example,) = re.findall(r"^```pycon\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    test = doctest.DocTestParser().get_doctest(example, {}, "README.md", None, None)
    assert doctest.DocTestRunner().run(test).failed == 0


def test_the_number_of_faults() -> None:
    assert f"plants {len(FAULTS)} known faults" in README


def test_every_file_that_is_linked_exists() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links
    assert all((ROOT / link).exists() for link in links)
