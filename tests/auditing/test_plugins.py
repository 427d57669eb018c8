"""`convbench audit` and `convbench verify` with a third party's backends that are not honest."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from ..checkouts import ROOT
from .crooked import write_plugin

WORKLOAD = "mobilenet_v2.conv_last"

AUDITED = {
    "by_identity": "time",
    "by_content": "time",
    "in_to_device": "time",
    "no_wait": "time",
    "promise": "time",
    "thread": "error",  # of two calls in a row it computes one
    "zeros": "time",
    "helper": "threads",
    "own_meters": "memory",
    "stale": "error",
}
"""What of each is not supported."""

TAKEOVERS = ("subclass", "reduces")
HONEST = "pool"


@pytest.fixture(scope="module")
def convbench(tmp_path_factory):
    """Run a command with these backends registered; what it printed, and how it ended."""
    path = write_plugin(tmp_path_factory.mktemp("plugins"))

    def run(*words):
        done = subprocess.run(
            [sys.executable, "-m", "convbench", *words, "--workload", WORKLOAD, "--json"],
            env=os.environ | {"PYTHONPATH": str(path)}, cwd=ROOT,
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.stdout, done.stderr
        return json.loads(done.stdout), done.returncode

    return run


def targets(*names):
    return [word for name in names for word in ("--target", f"{name}@cpu")]


# -- convbench verify -----------------------------------------------------------------------------


def verify(convbench, *names):
    words = ("verify", "--fill", "normal", "--dtype", "float32", *targets(*names))
    document, code = convbench(*words)
    return {check["target"].partition("@")[0]: check for check in document["checks"]}, code


@pytest.fixture(scope="module")
def verified(convbench):
    return verify(convbench, *TAKEOVERS, "own_verdict", "numpy")


@pytest.mark.parametrize("name", [*TAKEOVERS, "own_verdict"])
def test_zeros_are_not_right_whatever_class_they_are_of(verified, name):
    checks, code = verified
    assert code == 2
    assert checks[name]["status"] in {"wrong", "failed"}, checks[name]


def test_what_else_is_verified_in_the_same_run_is_judged_as_ever(verified, convbench):
    alone, code = verify(convbench, "numpy")
    assert (code, alone["numpy"]["status"]) == (0, "ok")
    assert verified[0]["numpy"] == alone["numpy"]


# -- convbench audit ------------------------------------------------------------------------------


def audit(convbench, *names):
    document, code = convbench("audit", *targets(*names))
    return {a["target"].partition("@")[0]: a for a in document["audited"]}, code


def doubted(audited):
    return [c["claim"] for c in audited["claims"] if c["verdict"] == "not supported"]


@pytest.fixture(scope="module")
def audited(convbench):
    return audit(convbench, *AUDITED, *TAKEOVERS)


@pytest.mark.parametrize("name", AUDITED)
def test_what_it_does_is_seen(audited, name):
    found, code = audited
    assert code == 2
    assert AUDITED[name] in doubted(found[name]), found[name]


@pytest.mark.parametrize("name", TAKEOVERS)
def test_a_takeover_is_answered_by_nobody(audited, name):
    found, _ = audited
    assert doubted(found[name]) or found[name]["outcome"]["status"] == "failed", found[name]


def test_really_asynchronous_and_honest_is_not_accused(convbench):
    for _ in range(3):  # whatever else ran: a defect would show again
        found, code = audit(convbench, HONEST)
        if code == 0:
            break
    assert doubted(found[HONEST]) == []
    assert code == 0
    assert {c["claim"] for c in found[HONEST]["claims"] if c["verdict"] == "holds"} >= {
        "time", "error", "threads",
    }  # fmt: skip
