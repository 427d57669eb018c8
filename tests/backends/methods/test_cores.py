"""What is read from the environment, and threads."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from convbench.backends.methods import cores


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, 6),
        ({"OPENBLAS_NUM_THREADS": "2"}, 2),
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "3"}, 2),
        ({"OPENBLAS_NUM_THREADS": "0", "OMP_NUM_THREADS": "3,2"}, 3),
        ({"OPENBLAS_NUM_THREADS": "all"}, 6),
        ({"OMP_NUM_THREADS": "64"}, 6),
    ],
)
def test_threads_are_those_of_the_blas(variables, expected: int, monkeypatch) -> None:
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cores.threads() == expected


@pytest.mark.parametrize(("core", "small"), [("SkylakeX", True), ("HASWELL", False)])
def test_a_named_core_decides(core: str, small: bool, monkeypatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", core)
    name = {"Build Dependencies": {"blas": {"name": "scipy-openblas"}}}
    monkeypatch.setattr(cores.np, "show_config", lambda mode: name)
    assert cores.small_products.__wrapped__() is small
    name["Build Dependencies"]["blas"]["name"] = "mkl"
    assert cores.small_products.__wrapped__() is False


def test_shares_are_the_whole_in_order() -> None:
    for count in range(1, 8):
        for length in range(12):
            parts = cores.shares(range(length), count)
            assert [i for part in parts for i in part] == [*range(length)]
            assert len(parts) == min(count, length)


def test_what_is_raised_in_a_thread_is_raised_here_when_all_have_ended() -> None:
    ended = []

    def fails() -> None:
        raise ValueError("no")

    for parts in ([lambda: None, fails, lambda: ended.append(1)], [fails, lambda: ended.append(1)]):
        with pytest.raises(ValueError, match="no"):
            cores.side_by_side(parts)
    assert ended == [1, 1]


def test_the_settings_for_errors_hold_in_every_thread() -> None:
    def overflow() -> None:
        np.float32(3e38) * np.float32(10)

    with np.errstate(over="ignore"):
        cores.side_by_side([lambda: None, overflow])
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        cores.side_by_side([lambda: None, overflow])


def test_a_forked_child_has_threads_of_its_own() -> None:
    """The parent's are not in it; to wait for one of them would last for ever."""
    script = (
        "import os; from convbench.backends.methods.cores import side_by_side as go\n"
        "parts = [lambda: None, lambda: None]\n"
        "go(parts); child = os.fork()\n"
        "if not child: go(parts); os._exit(7)\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], timeout=60, check=False)
    assert done.returncode == 7
