"""What is printed is what its schema says; of gates and of bench, in test_another_repository."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator, ValidationError

from convbench.cli.schema import NAMES, schema
from convbench.stimulus.workloads import BUILT_IN

from ..repositories import Repository
from ..schemas import conforming
from .command import run


@pytest.mark.parametrize("name", NAMES)
def test_it_is_a_schema(name: str) -> None:
    Draft202012Validator.check_schema(schema(name))


def test_one_is_printed() -> None:
    done = run("schema", "verify")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == schema("verify")
    assert run("schema", "nothing").returncode == 4


CELL = ("--target", "numpy@cpu", "--workload", "notebook.conv")


@pytest.mark.parametrize(
    "words",
    [
        ("workloads",),
        ("verify", *CELL, "--processes", "2"),
        ("audit", *CELL),
        ("doctor", "--seconds", "1"),
        ("explain", "Blas SGEMM launch failed"),
        ("explain", "--list"),
    ],
    ids=" ".join,
)
def test_a_command_prints_it(words: tuple[str, ...]) -> None:
    conforming(run(*words, "--json").stdout)


def test_so_does_init(tmp_path: Path) -> None:
    Repository(tmp_path)
    conforming(run("init", "--dry-run", "--json", cwd=tmp_path).stdout)


@pytest.mark.parametrize("off", [0.0, 1.0])
def test_so_does_check(tmp_path: Path, off: float) -> None:
    (tmp_path / "spec.toml").write_text("n = 1\nh = 2\nw = 2\nc = 3\nbias = true\n")
    x, bias = np.ones((1, 2, 2, 3), np.float32), np.arange(3, dtype=np.float32)
    for name, array in {"x": x, "b": bias, "y": x + bias + np.float32(off)}.items():
        np.save(tmp_path / f"{name}.npy", array)
    done = run("check", "--pipeline", "spec.toml", "--input", "x.npy", "--bias", "b.npy",
               "--output", "y.npy", "--json", cwd=tmp_path)  # fmt: skip
    assert conforming(done.stdout)["ok"] is (off == 0)


def test_so_does_what_reads_results(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    (tmp_path / "asv.conf.json").write_text('{"version": 1, "results_dir": ".asv/results"}')
    repository.measure(repository.commit())
    repository.measure(repository.commit(), 1.3)
    repository.measure(repository.commit(), 1.5)
    for words in (
        ("results",),
        ("compare", "HEAD~1", "HEAD"),
        ("compare", "HEAD~1", "HEAD", "--against", "best", "--require-power", "0.6%"),
        ("report", "--output", "page.html"),
    ):
        conforming(run(*words, "--json", cwd=tmp_path).stdout)
    for path in repository.results.parent.glob("evidence/*/*.jsonl"):
        for line in filter(None, path.read_text().splitlines()):
            conforming(line, "journal")


# -- The schemas can fail -------------------------------------------------------------------------


def test_a_field_that_nobody_has_described_is_seen() -> None:
    text = run("workloads", "--workload", "notebook.conv", "--json").stdout
    plain: dict[str, Any] = json.loads(text)
    for edited in (plain | {"more": 1}, {**plain, "workloads": [{"name": "a"}]}):
        with pytest.raises(ValidationError):
            conforming(json.dumps(edited))


def rows() -> Any:
    return tomllib.loads(BUILT_IN.read_text("utf-8"))


def test_the_workloads_are_a_file_of_them() -> None:
    Draft202012Validator(schema("workloads-file")).validate(rows())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", "No Name"),
        ("tier", "huge"),
        ("source", ""),
        ("colour", "red"),
        ("pipeline", {"n": 1, "h": 5, "w": 5}),
        ("pipeline", {"n": 1, "h": 5, "w": 5, "c": -1}),
        ("pipeline", {"n": 1, "h": 5, "w": 5, "c": 1, "pool": {"op": "sum", "window": 2}}),
        ("pipeline", {"n": 1, "h": 5, "w": 5, "c": 1, "pool": {"op": "max", "window": [2]}}),
    ],
)
def test_what_is_no_row_is_refused(name: str, value: object) -> None:
    row = rows()["workload"][0] | {name: value}
    assert not Draft202012Validator(schema("workloads-file")).is_valid({"workload": [row]})
