"""A gate that ends is on the disk, as `convbench compare` reads it, or says that it is not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from asv.config import Config
from asv.environment import ExistingEnvironment

from convbench.comparing.judge import compare
from convbench.comparing.sides import Side
from convbench.measuring.asv_run import existing
from convbench.results import gates
from convbench.words.status import Exit, Standing, Status

from ..checkouts import ROOT

CELL = ("--target", "numpy@cpu", "--workload", "notebook.pool", "--cores", "1")


class Clone:
    """A clone of the last commit, in which gates are run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "project"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(self.folder)], check=True)
        self.results = self.folder / ".asv" / "results"
        described = dict.fromkeys(("os", "arch", "cpu", "num_cpu", "ram"), "x")
        machine = {"bench": {"machine": "bench", **described}, "version": 1}
        (folder / ".asv-machine.json").write_text(json.dumps(machine))
        self.environment = os.environ | {"HOME": str(folder), "CONVBENCH_LOCK": "cpu"}

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "convbench", "gate", *words], cwd=self.folder, text=True,
            env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def gates(self) -> gates.LoadedGates:
        return gates.load(self.results, lambda _: True)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return Clone(tmp_path_factory.mktemp("stored"))


@pytest.fixture(scope="module")
def done(clone: Clone) -> tuple[dict, str]:
    """The JSON and the progress of one short gate."""
    process = clone.start("HEAD", "HEAD", *CELL, "--budget", "60s", "--delta", "50", "--json")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out), err


def test_what_it_prints_is_what_it_has_stored(clone: Clone, done: tuple[dict, str]) -> None:
    printed, err = done
    (path,) = (clone.folder / ".asv/evidence/bench").glob("*.gate.json")
    assert f"stored in {path}" in err
    stored = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert stored["schema"] == gates.SCHEMA
    assert (stored["interrupted"], stored["budget_s"]) == (False, 60.0)
    assert stored["machine"]["logical_cores"] > 0
    assert stored["before"]["unix_s"] < stored["after"]["unix_s"] <= stored["ended_s"] + 1
    assert stored["rule"] == printed["rule"]
    for name in gates.SIDES:
        assert stored[name]["commit"] == printed[name]["commit"]
        assert stored[name]["environment"] == printed[name]["environment"]
        assert stored[name]["existing"] == existing(sys.executable)
        assert (stored[name]["changed"], len(stored[name]["tree"])) == (False, 16)
        assert "numpy" in stored[name]["versions"]["numpy@cpu"]
    (cell,), (shown,) = stored["cells"], printed["cells"]
    for name in ("workload", "verdict", "reason", "effect"):
        assert cell[name] == shown[name]
    assert len(cell["pairs"]) == shown["pairs"]
    assert (cell["events"], cell["discarded"], cell["cards"]) == (False, None, [])
    assert {*cell["pairs"][0]} == {"pair", "fresh", "log_ratio", "base_s", "head_s"}
    for name in gates.SIDES:
        assert cell[name]["receipt"]["seed"]
        assert cell[name]["error_over_bound"] == shown[name]["error_over_bound"]


def test_what_is_stored_is_read_and_compared(clone: Clone, done: tuple[dict, str]) -> None:
    (gate,), problems = clone.gates().gates, clone.gates().problems
    assert problems == ()
    (cell,) = gate.cells.values()
    assert [record.standing for record in cell.times] == [Standing.HELD] * 2
    assert [check.status for check in cell.checks] == [Status.OK] * 2
    commit = done[0]["base"]["commit"]
    found = compare(Side(commit, "", ""), Side(commit, "", ""), gates=[gate])
    (compared,) = found.cells
    assert compared.pairs == done[0]["cells"][0]["pairs"]
    assert compared.effect.ratio == pytest.approx(done[0]["cells"][0]["effect"]["ratio"])


def test_an_interpreter_has_the_name_that_asv_gives_it() -> None:
    found = ExistingEnvironment(Config(), sys.executable, {}, {})
    assert existing(sys.executable) == found.name


def test_where_it_cannot_be_stored_the_verdict_is_still_given(
    clone: Clone, done: tuple[dict, str], tmp_path: Path
) -> None:
    """Ctrl-C, and a file where the folder should be."""
    evidence = clone.folder / ".asv/evidence"
    evidence.rename(tmp_path / "evidence")
    evidence.write_text("in the way")
    try:
        code, out, err = interrupted(clone)
    finally:
        evidence.unlink()
        (tmp_path / "evidence").rename(evidence)
    assert code == Exit.INTERRUPTED, err
    assert "WARNING: this gate is not stored: " in err
    assert json.loads(out)["interrupted"] is True


def test_what_was_interrupted_is_stored_as_far_as_it_is_known(
    clone: Clone, done: tuple[dict, str]
) -> None:
    code, _, err = interrupted(clone)
    assert code == Exit.INTERRUPTED, err
    assert "WARNING" not in err
    paths = (clone.folder / ".asv/evidence/bench").glob("*.gate.json")
    stored = [json.loads(path.read_text()) for path in paths]
    assert sorted(document["interrupted"] for document in stored) == [False, True]
    assert clone.gates().problems == ()


def interrupted(clone: Clone) -> tuple[int, str, str]:
    """Run a gate that has the time of the world, and end it when it has begun to measure."""
    process = clone.start("HEAD", "HEAD", *CELL, "--budget", "1h", "--delta", "0.6", "--json")
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if "against" in line:
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, "".join(said) + err
