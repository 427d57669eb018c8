"""Today's suites measure yesterday's commits: what they call is what those answer to."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from convbench.results import records
from convbench.results.records import Record
from convbench.words.status import Standing, Status

from .checkouts import ROOT, Checkout

# One cell of each suite, on NumPy: target, workload and, where there are any, stages.
SELECT = (
    r"(pipeline|accuracy|cold|memory)\.Smoke\..*'numpy@cpu', 'notebook\.pool'",
    r"stages\.Smoke\..*'numpy@cpu', 'notebook\.conv', 'conv'",
    r"sweep\..*'numpy@cpu', 'sweep\.c_1'",
    r"transfer\..*'numpy@cpu', 'transfer\.4kb', 'to_device'",
    r"first_call\..*'numpy@cpu', .*'build'",
    r"ceiling\..*'numpy@cpu', 'ceiling\.(gemm|copy_cached)'",
    r"graph\..*'cupy@gpu:0', 'notebook\.pool'",
    r"one_core\..*'numpy@cpu', 'notebook\.pool'",
)


def git(*words: str) -> bytes:
    done = subprocess.run(["git", "-C", str(ROOT), *words], check=True, capture_output=True)
    return done.stdout


def commit_that_added(path: str, text: str = "") -> str:
    """The first one in which a file is, or has a text in it.

    Skip, with the reason, where there is no history to find it in.
    """
    try:
        top, shallow = git("rev-parse", "--show-toplevel", "--is-shallow-repository").split()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no clone: there are no old commits")
    if Path(top.decode()) != ROOT:
        pytest.skip("the repository around this folder is another project's")
    if shallow == b"true":
        pytest.skip("this clone is shallow: `git fetch --unshallow` brings the old commits")
    how = f"-S{text}" if text else "--diff-filter=A"
    return git("log", how, "--format=%H", "--", path).decode().split()[-1]


def measure(folder: Path, commit: str, *, door: bool = False) -> dict[str, Record]:
    """What all of `SELECT` gives with the sources of that commit."""
    with tarfile.open(fileobj=io.BytesIO(git("archive", commit, "src"))) as archive:
        archive.extractall(folder, filter="data")
    assert (folder / "src" / "convbench" / "frozen.py").exists() == door
    return measured(folder, SELECT)


def measured(folder: Path, select: Iterable[str]) -> dict[str, Record]:
    """One process for each cell, as `asv run` starts it with the sources in a folder."""
    package = folder / "src" / "convbench"
    with (package / "__init__.py").open("a") as file:
        file.write("\n__import__('pathlib').Path(__file__).with_name('imported').touch()\n")
    checkout = Checkout(folder, ())
    checkout.environment["ASV_PYTHONPATH"] = str(folder / "src")
    done = checkout.asv(
        "run", "-E", f"existing:{sys.executable}", "--set-commit-hash", checkout.commit(),
        "--machine", "bench", "--launch-method", "forkserver", "--attribute", "rounds=1",
        *(word for bench in select for word in ("--bench", bench)),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (package / "imported").exists(), "it was not the old commit that was measured"
    loaded = records.load(checkout.results_dir)
    assert loaded.problems == ()
    return {
        f"{record.benchmark.partition('.')[0]} {record.workload}": record
        for record in loaded.records
    }


MEASURED = {
    "bench_accuracy notebook.pool",
    "bench_first_call inception_v3.7a_3x3b",
    "bench_one_core notebook.pool",
    "bench_pipeline notebook.pool",
    "bench_stages notebook.conv",
    "bench_sweep sweep.c_1",
    "bench_transfer transfer.4kb",
}
CAME_LATER = {
    "bench_ceiling ceiling.copy_cached": "copier",
    "bench_ceiling ceiling.gemm": "gemm",
    "bench_cold notebook.pool": "flusher",
    "bench_memory notebook.pool": "memory",
}
ON_A_GPU = "bench_graph notebook.pool"


def expect_measured(found: dict[str, Record], names: Iterable[str]) -> None:
    for name in names:
        record = found[name]
        assert (record.status, record.reason) == (Status.OK, ""), name
        assert record.value is not None, name
        assert 0 <= record.value < 1e9, name


def test_the_first_commit_that_was_ever_measured(tmp_path: Path) -> None:
    found = measure(tmp_path, commit_that_added("benchmarks/common.py"))
    assert found.keys() == {*MEASURED, *CAME_LATER, ON_A_GPU}
    expect_measured(found, MEASURED)
    assert found["bench_accuracy notebook.pool"].value == 0
    for name, lacks in CAME_LATER.items():
        reason = f"this commit is from before {lacks}, which the cell needs"
        assert (found[name].status, found[name].reason) == (Status.SKIPPED, reason)


def test_the_last_commit_without_the_door(tmp_path: Path) -> None:
    found = measure(tmp_path, f"{commit_that_added('src/convbench/frozen.py')}^")
    assert found.keys() == {*MEASURED, *CAME_LATER, ON_A_GPU}
    expect_measured(found, {*MEASURED, *CAME_LATER})
    assert found["bench_accuracy notebook.pool"].value == 0


def test_the_last_commit_without_a_judge(tmp_path: Path) -> None:
    with_a_judge = commit_that_added("src/convbench/frozen.py", "stand_by")
    found = measure(tmp_path, f"{with_a_judge}^", door=True)
    assert found.keys() == {*MEASURED, *CAME_LATER, ON_A_GPU}
    expect_measured(found, {*MEASURED, *CAME_LATER})
    assert found["bench_pipeline notebook.pool"].standing is Standing.CLAIM


def test_a_commit_that_has_suites_of_its_own_is_measured_by_todays(tmp_path: Path) -> None:
    cache = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=cache)
    package = tmp_path / "src" / "convbench"
    for file in (package / "suites").glob("*.py"):
        file.write_text("raise AssertionError('these are the suites of the commit')\n")
    (package / "stimulus" / "workloads.toml").write_text("these are its workloads\n")
    found = measured(tmp_path, [r"pipeline\.Smoke\..*'numpy@cpu', 'notebook\.pool'"])
    expect_measured(found, ["bench_pipeline notebook.pool"])
