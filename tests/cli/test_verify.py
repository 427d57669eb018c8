"""`convbench verify`, with faulty backends beside ours."""

from __future__ import annotations

import json
import signal
import subprocess

from ..plugin import FAULTS
from .command import COMMAND, ROOT, run


def verify(*arguments: str, env: dict[str, str] | None = None) -> tuple[int, dict[str, list[dict]]]:
    """Exit code, and the checks of each target."""
    done = run("verify", "--json", "--dtype", "float32", *arguments, env=env)
    assert done.stdout, done.stderr
    by_target: dict[str, list[dict]] = {}
    for check in json.loads(done.stdout)["checks"]:
        by_target.setdefault(check["target"], []).append(check)
    return done.returncode, by_target


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
        "raises": ("failed", "a product on cuBLAS failed, after others had worked"),
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


def test_ctrl_c_shows_what_is_finished() -> None:
    process = subprocess.Popen(
        [*COMMAND, "verify", "--json", "--list", "full", "--target", "numpy@cpu"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert process.stderr is not None
    while "/" not in process.stderr.readline():  # a check is finished
        pass
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    data = json.loads(stdout)
    assert data["interrupted"] is True
    assert data["checks"]
