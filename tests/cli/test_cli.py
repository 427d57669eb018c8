"""The commands as a person runs them, with faulty backends beside the real ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..plugin import FAULTS, write_plugin

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "convbench"]


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a machine on which the faulty backends are installed."""
    folder = write_plugin(tmp_path_factory.mktemp("plugin"))
    paths = [str(folder), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def run(*arguments: str, env: dict[str, str] | None = None, cwd: Path = ROOT):
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=300, env=env, cwd=cwd,
        check=False,
    )  # fmt: skip


def verify(*arguments: str, env: dict[str, str] | None = None) -> tuple[int, dict[str, list[dict]]]:
    """Exit code, and the checks of each target."""
    done = run("verify", "--json", "--dtype", "float32", *arguments, env=env)
    assert done.stdout, done.stderr
    by_target: dict[str, list[dict]] = {}
    for check in json.loads(done.stdout)["checks"]:
        by_target.setdefault(check["target"], []).append(check)
    return done.returncode, by_target


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
        ([], "required"),
    ],
)
def test_bad_input_is_named_and_exits_with_4(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 4
    assert message in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_outside_a_checkout(tmp_path: Path) -> None:
    done = run("workloads", cwd=tmp_path)
    assert done.returncode == 4
    assert "--workloads" in done.stderr
    assert run("notebook", "--target", "numpy@cpu", cwd=tmp_path).returncode == 0


def test_numpy_verifies() -> None:
    done = run("verify", "--target", "numpy@cpu")
    assert done.returncode == 0
    for nothing in ("0 wrong", "0 failed", "0 skipped"):
        assert nothing in done.stdout
    assert "\x1b" not in done.stdout


def test_each_faulty_backend_costs_its_own_cells_only(faulty: dict[str, str]) -> None:
    targets = [f"{name}@cpu" for name in FAULTS]
    code, checks = verify(
        *(word for target in targets for word in ("--target", target)),
        "--target", "numpy@cpu", "--fill", "normal", "--timeout", "10",
        "--workload", "notebook.conv", "--workload", "notebook.pool",
        "--workload", "inception_v3.6b_b7_1x7", env=faulty,
    )  # fmt: skip
    assert code == 2
    reasons = {}
    for target, cells in checks.items():
        conv, pool, after = cells
        assert conv["status"] == after["status"] == "ok", target
        reasons[target.removesuffix("@cpu")] = (pool["status"], pool["reason"])
        if pool["status"] != "ok":
            assert pool["command"].startswith(f"convbench verify --target {target}")
    assert reasons.pop("numpy") == reasons.pop("prints") == ("ok", "")
    expected = {
        "raises": ("failed", "cuBLAS could not start"),
        "exits": ("failed", "exit status 7"),
        "killed": ("failed", "killed by SIGKILL"),
        "segfaults": ("failed", "killed by SIGSEGV"),
        "hangs": ("failed", "no answer within 10 s"),
        "no_memory": ("failed", "memory is full"),
        "wrong": ("wrong", "error / bound"),
        "nan": ("wrong", "got nan"),
        "misshapen": ("wrong", "the shape is"),
        "double": ("wrong", "the output is float64; expected float32"),
        "sticky": ("failed", "the GPU's context is lost"),
        "returns_none": ("failed", "to_numpy returned NoneType"),
        "changes_input": ("failed", "the run changed its input"),
        "one_buffer": ("failed", "changed the output of an earlier call"),
    }
    assert reasons.keys() == expected.keys()
    for name, (status, words) in expected.items():
        assert reasons[name][0] == status
        assert words in reasons[name][1]


def test_backends_says_why_not(faulty: dict[str, str]) -> None:
    done = run("backends", "--json", env=faulty)
    assert done.returncode == 0
    backends = {b["name"]: b for b in json.loads(done.stdout)["backends"]}
    assert backends["numpy"]["targets"] == ["numpy@cpu"]
    assert backends["numpy"]["versions"]["numpy"]

    def missing(name: str) -> tuple[str, str]:
        (entry,) = backends[name]["missing"]
        return entry["reason"], entry["remedy"]

    assert missing("not_installed") == (
        "not installed: there is no module named no_such_module_at_all",
        "Install it: pip install no-such-module",
    )
    assert "import failed" in missing("broken_import")[0]
    assert "libfaulty.so.3" in missing("broken_import")[0]
    assert "SIGABRT" in missing("dies_at_import")[0]
    assert "free(): invalid pointer" in missing("dies_at_import")[0]
    assert "import failed: loading faulty:nothing" in missing("no_class")[0]
    text = run("backends", env=faulty)
    assert text.returncode == 0
    assert "pip install no-such-module" in text.stdout


def test_only_absent_backends_measure_nothing(faulty: dict[str, str]) -> None:
    code, checks = verify("--target", "not_installed@cpu", env=faulty)
    assert code == 3
    assert {c["status"] for c in checks["not_installed@cpu"]} == {"skipped"}


def test_the_table_shows_what_is_wrong_first(faulty: dict[str, str]) -> None:
    done = run(
        "verify", "--target", "wrong@cpu", "--target", "raises@cpu", "--workload", "notebook.pool",
        env=faulty,
    )  # fmt: skip
    assert done.returncode == 2
    first, *_ = done.stdout.splitlines()
    assert first.startswith(
        "WRONG wrong@cpu notebook.pool float32 integers: error / bound inf at ["
    )
    assert "FAILED raises@cpu notebook.pool float32 integers and 9 more cells" in done.stdout
    assert "nvidia-smi" in done.stdout
    assert "convbench verify --target wrong@cpu --workload notebook.pool" in done.stdout


def test_notebook() -> None:
    done = run("notebook", "--seed", "3", "--target", "numpy@cpu")
    assert done.returncode == 0
    for words in (
        "input, shape (1, 5, 5, 3)",
        "filters, shape (5, 5, 3, 6)",
        "convolution + bias, shape (1, 1, 1, 6)",
        "max pool, shape (1, 2, 2, 3)",
        "average pool, shape (1, 2, 2, 3)",
        "which turns 5x5 into 1x1",
    ):
        assert words in done.stdout
    data = json.loads(run("notebook", "--seed", "3", "--target", "numpy@cpu", "--json").stdout)
    assert data["schema"] == "convbench.notebook/1"
    pool = data["pipelines"]["max pool"]
    x = pool["input"][0]
    assert pool["output"][0][1][1][2] == max(x[i][j][2] for i in (2, 3) for j in (2, 3))
    assert data == json.loads(
        run("notebook", "--seed", "3", "--target", "numpy@cpu", "--json").stdout
    )


def test_workloads() -> None:
    data = json.loads(run("workloads", "--list", "standard", "--json").stdout)
    names = [w["name"] for w in data["workloads"]]
    assert names[:3] == ["notebook.conv", "notebook.pool", "notebook.avg_pool"]
    assert data["workloads"][0]["flops"] == 906
    assert "vgg16.conv1_2" in run("workloads").stdout


def test_ctrl_c_shows_what_is_finished() -> None:
    process = subprocess.Popen(
        [*COMMAND, "verify", "--json", "--list", "full", "--target", "numpy@cpu"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert process.stderr is not None
    while "/" not in process.stderr.readline():
        pass
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    data = json.loads(stdout)
    assert data["interrupted"] is True
    assert data["checks"]


def test_a_closed_pipe_is_no_error() -> None:
    shell = f"{' '.join(COMMAND)} workloads | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", shell], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
