"""The guards of verify: vacuity, blindness, determinism, the score, and what it writes for CI."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from convbench import ConvSpec, PipelineSpec, PoolSpec
from convbench.correctness.accuracy import Accuracy, digest, refer
from convbench.correctness.faults import FAULTS
from convbench.correctness.selftest import faults_shown
from convbench.correctness.verify import (
    Blind,
    Check,
    Determinism,
    Plan,
    _determinism,
    exit_code,
    verify,
)
from convbench.correctness.verify_text import junit
from convbench.stimulus.formats import Fill
from convbench.stimulus.inputs import make_inputs
from convbench.stimulus.targets import Target
from convbench.stimulus.workloads import BUILT_IN, Workload, load, select
from convbench.words.status import Status

from ..plugin import write_plugin

ROOT = Path(__file__).parents[2]
NUMPY = Target("numpy", "", "cpu")
SMALL = Workload("a.b", PipelineSpec(1, 5, 6, 3, ConvSpec(4, 3, 2), True), "smoke", "here")


def run(*arguments: str, env: dict[str, str] | None = None):
    return subprocess.run(
        [sys.executable, "-m", "convbench", "verify", *arguments],
        capture_output=True, text=True, cwd=ROOT, env=env, timeout=300, check=False,
    )  # fmt: skip


def test_every_fill_and_dtype_of_numpy() -> None:
    plan = Plan([SMALL], {NUMPY: None}, ("float64", "float32", "float16", "bfloat16"))
    checks = list(verify(plan))
    assert len(checks) == plan.cells == 20
    assert {check.status for check in checks} == {Status.OK}
    assert {check.accumulation for check in checks if check.dtype == "bfloat16"} == {"float32"}
    assert all(len(check.digest) == 16 for check in checks)
    assert exit_code(checks) == 0


def test_an_expected_output_of_zeros_is_vacuous() -> None:
    """A 1x1 input that is padded far away, and a pool of what is mostly nothing."""
    padded = ConvSpec(1, 1, 1, padding=(3, 3, 3, 3))
    hollow = PipelineSpec(1, 1, 1, 1, padded, pool=PoolSpec("max", 2, 1))
    seed = next(  # with which the one product is negative, and loses to the zeros around it
        seed
        for seed in range(100)
        if not refer(hollow, make_inputs(hollow, "float32", "normal", seed)).output.any()
    )
    rows = [Workload("a.b", hollow, "smoke", "here")]
    plan = Plan(rows, {NUMPY: None}, fills=[Fill.NORMAL], seed=seed)
    (check, _) = verify(plan)
    assert check.status is Status.FAILED
    assert check.reason == "vacuous: 100% of what is expected of the input is zero"


def test_a_check_that_sees_nothing_is_itself_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "convbench.correctness.verify.accuracy_of",
        lambda *_: Accuracy(0.0, (0, 0, 0, 0), 1.0, 1.0, 0.1),
    )
    with pytest.raises(Blind, match="planted"):
        list(verify(Plan([SMALL], {NUMPY: None})))


def test_processes_that_agree() -> None:
    plan = Plan([SMALL], {NUMPY: None}, ("float32",), processes=3)
    assert {check.determinism for check in verify(plan)} <= {
        Determinism.SAME_BITS, Determinism.WITHIN_BOUND,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([("ok", "a"), ("ok", "a"), ("ok", "a")], Determinism.SAME_BITS),
        ([("ok", "a"), ("ok", "b")], Determinism.WITHIN_BOUND),
        ([("deviates", "a"), ("deviates", "a")], Determinism.SAME_BITS),
        ([("deviates", "a"), ("deviates", "b")], Determinism.DIFFERS),
    ],
)
def test_three_answers(outcomes, expected: Determinism) -> None:
    found = _determinism([(Status(status), bits) for status, bits in outcomes])
    assert found is expected


def test_digests_name_bits() -> None:
    a = np.arange(6, dtype="f4").reshape(1, 2, 3, 1)
    assert digest(a) == digest(a.copy(order="F")) == digest(a.astype(">f4"))
    for other in (a.reshape(1, 3, 2, 1), a.astype("f8"), a + 1, a[:0]):
        assert digest(other) != digest(a)
    negative = np.zeros((1, 1, 1, 1))
    assert digest(negative) != digest(-negative), "-0.0 has other bits than 0.0"


def test_the_score_of_the_checks() -> None:
    """The figure that says how far to trust a green run: every planted fault is caught."""
    assert set(FAULTS) == set(faults_shown("float32")) | set(faults_shown("float64"))
    done = run("--self-test", "--json", "--target", "numpy@cpu")
    assert done.returncode == 0
    planted = json.loads(done.stdout)["planted"]
    assert {p["fault"] for p in planted} == set(faults_shown("float32"))
    assert all(p["caught_by"] for p in planted)
    # No fill is there for nothing: each is alone in seeing something, or sees almost everything.
    alone = {p["caught_by"][0] for p in planted if len(p["caught_by"]) == 1}
    assert {"nonfinite", "denormal"} <= alone


def test_a_backend_that_is_wrong_is_not_planted_into(tmp_path: Path) -> None:
    env = {
        **os.environ,
        "PYTHONPATH": f"{write_plugin(tmp_path)}:{os.environ.get('PYTHONPATH', '')}",
    }
    done = run("--self-test", "--target", "wrong@cpu", "--target", "not_installed@cpu", env=env)
    assert done.returncode == 2
    assert "wrong wrong@cpu: wrong without any fault" in done.stdout
    assert "skipped not_installed@cpu: not installed" in done.stdout


def test_junit(tmp_path: Path) -> None:
    path = tmp_path / "out.xml"
    done = run(
        "--target", "numpy@cpu", "--target", "cupy@gpu:0", "--workload", "notebook.conv",
        "--dtype", "float32", "--dtype", "tf32", "--junit", str(path),
    )  # fmt: skip
    suites = {suite.get("name"): suite for suite in ET.parse(path).getroot()}
    assert suites["cupy@gpu:0"].get("tests") == "10"
    # It was named: where it is absent that is no success.
    absent = suites["cupy@gpu:0"].get("skipped") == "10"
    assert done.returncode == (3 if absent else 0)
    assert ("nothing was computed by cupy@gpu:0, which was named" in done.stderr) == absent
    assert suites["numpy@cpu"].get("tests") == "10"
    assert suites["numpy@cpu"].get("skipped") == "5"  # TF32 is a GPU's
    assert suites["numpy@cpu"].get("failures") == "0"
    assert not list(tmp_path.glob(".*")), "nothing half-written is left behind"


def test_junit_of_anything() -> None:
    def check(status: Status, reason: str) -> Check:
        return Check(NUMPY, "a.b", "float32", Fill.NORMAL, 0, status, exact=False, reason=reason)

    document = junit(
        [
            check(Status.WRONG, "<script>&\x00\x1b[31m\ud800"),
            check(Status.FAILED, "it died"),
            check(Status.DEVIATES, "declared"),
            check(Status.OK, ""),
        ],
        1.5,
    )
    (suite,) = ET.fromstring(document)
    counts = [suite.get(name) for name in ("tests", "failures", "errors", "skipped")]
    assert counts == ["4", "1", "1", "1"]
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == "<script>&??[31m?"
    assert "convbench verify --target numpy@cpu" in (failure.text or "")


@pytest.mark.parametrize("sampled", [False, True])
def test_windows_that_lie_in_the_padding_are_zero_and_prove_nothing_less(sampled) -> None:
    # DeepBench has such rows: 1x1 filters and a padding of 3.
    pipeline = PipelineSpec(2, 7, 5, 3, ConvSpec(4, 1, 1, 2, padding=(3, 3, 3, 3)))
    inputs = make_inputs(pipeline, "float32", "normal", 0)
    positions = None
    if sampled:
        positions = tuple(np.array(axis) for axis in ([0, 0, 1], [0, 3, 2], [0, 2, 2]))
    expected = refer(pipeline, inputs, positions=positions)
    assert (expected.output == 0).mean() > 0.3
    assert expected.zeros == 0
    outside = replace(pipeline, conv=replace(pipeline.conv, padding=(90, 0, 0, 0)))
    nothing = refer(outside, inputs, positions=tuple(np.array([0]) for _ in range(3)))
    assert nothing.zeros == 1, "nothing that was looked at sees any input"


def test_a_pool_over_padding_proves_nothing_less() -> None:
    pipeline = PipelineSpec(1, 4, 4, 3, ConvSpec(4, 1, 1, padding=4), pool=PoolSpec("max", 2))
    expected = refer(pipeline, make_inputs(pipeline, "float32", "normal", 0))
    assert (expected.output == 0).mean() > 0.5
    assert expected.zeros == 0


def test_what_cannot_be_an_array_costs_its_row_alone() -> None:
    sizes = (PipelineSpec(100_000, 10_000, 10_000, 1000, ConvSpec(4, 3, 3)), SMALL.pipeline)
    rows = [Workload(f"a.b{i}", size, "smoke", "here") for i, size in enumerate(sizes)]
    plan = Plan(rows, {NUMPY: None}, ("float32",), (Fill.INTEGERS,))
    large, small = verify(plan)
    assert (large.status, small.status) == (Status.FAILED, Status.OK)
    assert "GiB in float64" in large.reason


def test_what_is_declared_slow_is_left_out_until_asked_for() -> None:
    pipeline = PipelineSpec(1, 64, 64, 64, ConvSpec(64, 3, 3), bias=True)
    assert pipeline.flops > 2.8e8
    big = Workload("made.up", replace(pipeline, h=80), "smoke", "made up")
    target = Target("tensorflow", "xla", "cpu")
    plan = Plan((big,), {target: None}, ("float64",), (Fill.INTEGERS,))
    (check,) = verify(plan)
    if "not installed" in check.reason:
        pytest.skip(check.reason)
    assert check.status is Status.SKIPPED
    assert "plain loops" in check.reason
    assert "--thorough" in check.remedy
    (thorough,) = verify(replace(plan, thorough=True))
    assert thorough.status is Status.OK


def test_what_is_right_only_by_a_declaration_is_said_and_wrong_if_asked_for() -> None:
    facts = {"workload": "w", "dtype": "float16", "fill": Fill.NORMAL, "seed": 0, "exact": False}
    loose = Check(NUMPY, **facts, status=Status.OK, accumulation="bfloat16", usual=162.0)
    needless = Check(NUMPY, **facts, status=Status.OK, accumulation="bfloat16", usual=0.5)
    deviates = Check(NUMPY, **facts, status=Status.DEVIATES, reason="denormals are flushed")
    assert "by the usual bound it is 162" in loose.declared
    assert needless.declared == ""
    for check in (loose, deviates):
        assert exit_code([needless, check]) == 0
        assert exit_code([needless, check], strict=True) == 2
    assert exit_code([needless], strict=True) == 0


LISTED = """
from convbench.backends.base import Run
from convbench.backends.numpy import NumpyBackend

class Listed(NumpyBackend):
    name = "listed"

    def build(self, pipeline, weights):
        run = super().build(pipeline, weights)
        listed = (pipeline.n, pipeline.h, pipeline.w, pipeline.c) in SIZES
        return run if listed else Run(lambda x: 0 * run(x), "nothing")
"""


def test_who_is_right_about_the_listed_layers_only_is_found_by_their_neighbours(
    tmp_path: Path,
) -> None:
    smoke = (row.pipeline for row in select(load(), "smoke"))
    sizes = {(p.n, p.h, p.w, p.c) for p in smoke}
    (tmp_path / "listed.py").write_text(f"SIZES = {sizes}\n{LISTED}")
    info = tmp_path / "listed-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: listed\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[convbench.backends]\nlisted = listed:Listed\n")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    arguments = ("--target", "listed@cpu", "--dtype", "float32", "--fill", "integers", "--json")
    blind = run(*arguments, "--neighbours", "0", env=env)
    rows = shutil.copy(BUILT_IN, tmp_path / "layers.toml")
    seen = run(*arguments, "--workloads", str(rows), "--neighbours", "2", env=env)
    assert [done.returncode for done in (blind, seen)] == [0, 2]
    checks = json.loads(seen.stdout)["checks"]
    wrong = [check for check in checks if check["status"] == "wrong"]
    assert wrong
    assert all("+" in check["workload"] for check in wrong)
    assert all(check["command"].endswith(f"--workloads {rows}") for check in checks)
    repeated = run(*wrong[0]["command"].split()[2:], env=env)
    assert repeated.returncode == 2
