"""`convbench gate` as a person or a CI runs it: what it prints, its exit codes, and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
import xml.etree.ElementTree as ET
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import pytest

from convbench.cli import gate as command
from convbench.comparing.comparison import ComparedCell, Comparison, Measured, Rule, Verdict
from convbench.comparing.sides import Side
from convbench.measuring.asv_run import existing

from ..checkouts import Checkout
from .sides import NOTHING, SLOWER, WRONG, branches, called, later, write
from .test_build import wheel

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="cores are taken as Linux does it")

CELL = ("--target", "numpy@cpu", "--workload", "notebook.conv")
DECIDED = (*CELL, "--budget", "30s", "--delta", "50")
NEVER_DECIDED = (*CELL, "--budget", "10m", "--delta", "0.6")

PLANTED = {
    "slower": SLOWER,
    "wrong": WRONG,
    "hangs": "        time.sleep(600)\n",
    "hangs-later": later("time.sleep(600)"),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return branches(tmp_path_factory.mktemp("gate"), PLANTED)


@pytest.fixture(autouse=True)
def nothing_is_left(project: Checkout, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No process that has inherited the environment of the command."""
    mark = uuid.uuid4().hex
    monkeypatch.setitem(project.environment, "MARK_OF_THE_TEST", mark)
    yield
    assert not marked(mark)


def marked(mark: str) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text())
        except OSError:
            continue
    return found


def gate(project: Checkout, *words: str, code: int) -> subprocess.CompletedProcess[str]:
    done = project.convbench("gate", *words)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


# -- Upgrades -------------------------------------------------------------------------------------

# What a commit's own script installs: here all that is installed for the tests.
INSTALL = """\
import pathlib, sysconfig
pathlib.Path(sysconfig.get_path("purelib"), "ours.pth").write_text({ours!r})
"""

THING = """
import time
def call(run, x):
{body}
"""


def test_two_versions_of_a_library_are_installed_and_held_against_each_other(
    project: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = "\n".join(path for path in sys.path if path.endswith("site-packages"))
    project.git("checkout", "--quiet", "-b", "upgrade", "main")
    try:
        (project.folder / "requirements/install.py").write_text(INSTALL.format(ours=ours))
        planted = "        import thing\n        return thing.call(run, x)\n"
        write(project.folder / "src", called(planted))
        project.commit()
    finally:
        project.git("checkout", "--quiet", "main")
    for version, body in (("1.0", "    return run(x)"), ("2.0", SLOWER)):
        wheel(tmp_path, version, THING.format(body=body))
    for name, value in (("PIP_NO_INDEX", "1"), ("PIP_FIND_LINKS", str(tmp_path))):
        monkeypatch.setitem(project.environment, name, value)
    versions = ("--base-env", "thing==1.0", "--head-env", "thing==2.0")
    done = gate(project, "upgrade", "upgrade", *DECIDED, *versions, "--json", code=1)
    assert done.stderr.count("installing the environment of upgrade:thing==") == 2
    found = json.loads(done.stdout)
    assert [found[side]["environment"][-11:] for side in ("base", "head")] == [
        "-thing==1.0", "-thing==2.0",
    ]  # fmt: skip
    assert found["cells"][0]["verdict"] == "regressed"
    assert "both sides are the same code" not in done.stderr + done.stdout


# -- What it prints -------------------------------------------------------------------------------


def test_equal_code_as_json(project: Checkout) -> None:
    done = gate(project, "main", "main", *DECIDED, "--json", code=0)
    assert "1 cell of base and head filed for asv in bench/" in done.stderr
    found = json.loads(done.stdout)
    assert found["schema"] == "convbench.gate/1"
    assert (found["exit_code"], found["interrupted"]) == (0, False)
    assert found["base"]["commit"] == found["head"]["commit"] == project.git("rev-parse", "main")
    assert found["rule"]["delta"] == 0.5
    assert found["warnings"] == ["both sides are the same code: whatever is found is noise"]
    (cell,) = found["cells"]
    assert (cell["kind"], cell["target"], cell["workload"]) == (
        "time", "numpy@cpu", "notebook.conv",
    )  # fmt: skip
    assert cell["verdict"] in {"equivalent", "undecided"}
    assert cell["pairs"] >= 1
    effect = cell["effect"]
    assert effect["low"] < effect["ratio"] < effect["high"]
    assert effect["smallest_effect"] > 0
    assert 0 < effect["p_value"] <= 1
    (mean,) = found["geometric_means"]
    assert (mean["target"], mean["cells"]) == ("numpy@cpu", 1)


def test_slower_as_markdown_whatever_becomes_of_the_history(project: Checkout) -> None:
    commit = project.git("rev-parse", "slower")
    path = project.results_dir / "bench" / f"{commit[:8]}-{existing(sys.executable)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("damaged")
    done = gate(project, "main", "slower", *DECIDED, "--format", "markdown", code=1)
    assert "1 cell of base filed for asv in bench/" in done.stderr
    assert "WARNING: asv's history has not all of this gate: " in done.stderr
    assert path.read_text() == "damaged"
    assert "REGRESSED: 1 regressed, of 1 cell" in done.stdout
    (row,) = (line for line in done.stdout.splitlines() if "notebook.conv" in line and "|" in line)
    assert "regressed" in row


def test_wrong_as_text_and_junit(project: Checkout) -> None:
    text = gate(project, "main", "wrong", *DECIDED, code=2)
    assert text.stdout.startswith("WRONG: 1 wrong, of 1 cell\n")
    assert "nothing was timed, since head is not right" in text.stdout
    assert "for at most" not in text.stderr
    junit = gate(project, "main", "wrong", *DECIDED, "--format", "junit", code=2)
    cases = ET.fromstring(junit.stdout).iter("testcase")
    failures = {case.get("name"): case.find("failure") for case in cases}
    assert failures["something was measured"] is None
    failure = failures["notebook.conv accuracy"]
    assert failure is not None
    assert (failure.get("message") or "").startswith("wrong: head: error / bound")


def test_bisecting_finds_the_slow_commit_past_a_wrong_one(project: Checkout) -> None:
    """The working tree stays as it is; what is wrong or cannot be built may be slow or not."""
    sources, last = project.folder / "src", project.git("rev-parse", "main")
    project.git("checkout", "--quiet", "-b", "history", "main")
    made = {}
    try:
        for name, body in (
            ("good", NOTHING), ("wrong", WRONG), ("mended", NOTHING), ("slow", SLOWER),
            ("on top", f"        # and no faster\n{SLOWER}"), ("head", SLOWER),
        ):  # fmt: skip
            project.git("checkout", "--quiet", "main", "--", "src")
            write(sources, called(body))
            made[name] = project.commit()
        project.git("checkout", "--quiet", "main")
        project.git("bisect", "start", "--no-checkout", made["head"], made["good"])
        done = subprocess.run(
            ["git", "bisect", "run", sys.executable, "-m", "convbench", "gate", made["good"],
             "BISECT_HEAD", *DECIDED, "--bisect"],
            cwd=project.folder, env=project.environment, capture_output=True, text=True,
            check=False, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert gate(project, made["good"], made["wrong"], *DECIDED, "--bisect", code=125)
        assert f"{made['slow']} is the first bad commit" in done.stdout
        assert project.git("rev-parse", "HEAD") == last
        assert not project.git("status", "--porcelain")
    finally:
        project.git("bisect", "reset")
        project.git("checkout", "--quiet", "--force", "main")
        project.git("branch", "-D", "history")


def test_what_cannot_be_built_is_left_out_of_a_bisection(project: Checkout) -> None:
    project.git("checkout", "--quiet", "-b", "nameless", "main")
    try:
        (project.folder / "pyproject.toml").write_text("[project]\n")
        project.commit()
    finally:
        project.git("checkout", "--quiet", "main")
    gate(project, "main", "nameless", *DECIDED, code=4)
    gate(project, "main", "nameless", *DECIDED, "--bisect", code=125)
    gate(project, "nameless", "main", *DECIDED, "--bisect", code=132)


def test_the_head_that_is_left_out_is_the_working_tree(project: Checkout) -> None:
    file = project.folder / "src/convbench/backends/numpy.py"
    kept = file.read_text()
    try:
        write(project.folder / "src", called(WRONG))
        done = gate(project, "main", *DECIDED, "--json", code=2)
    finally:
        file.write_text(kept)
    found = json.loads(done.stdout)
    assert "head is the working tree, which differs from its commit" in found["warnings"]
    assert found["cells"][0]["verdict"] == "wrong"
    assert found["cells"][0]["effect"] is None


def test_a_budget_that_is_too_short_is_said(project: Checkout) -> None:
    # One core and a second: less than the fewest pairs that are looked at.
    short = ("main", "main", *CELL, "--budget", "1", "--delta", "0.6", "--cores", "1")
    done = gate(project, *short, code=0)
    assert done.stdout.startswith("UNDECIDED: this does not say that nothing is slower: 1 undecid")
    strict = gate(project, *short, "--strict", "--json", code=3)
    (cell,) = json.loads(strict.stdout)["cells"]
    assert cell["to_decide_s"] > 0
    assert "more on it would decide" in cell["reason"]


# -- Bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("mian",), "git knows no such commit; expected a commit, a branch or a tag, such as main"),
        (("main", "HEAD:nowhere"), "the environment is 'nowhere', which fits 0 of asv's"),
        (("main", "--base-env", "./nowhere"), "where NumPy cannot be imported"),
        (("--head-target", "numpy@cpu", "main"), "there are 0 of --target; expected one"),
        (
            ("main", "--target", "a@cpu", "--target", "b@cpu", "--head-target", "c@cpu"),
            "there are 2 of --target; expected one",
        ),
        (("main", "--target", "numpy"), "numpy"),
        (
            ("main", *CELL[2:], "--target", "nunpy@cpu"),
            "the target is nunpy@cpu, which neither side has",
        ),
        (("main", "--workload", "net.conv"), "net.conv"),
        (("main", "--budget", "soon"), "--budget"),
        (("main", "--budget", "0"), "--budget"),
        (("main", "--budget", "nan"), "--budget"),
        (("main", "--delta", "0.5"), "--delta: the difference that does not matter is 0.5 %"),
        (("main", "--cores", "0"), "--cores"),
        ((), "the following arguments are required: BASE"),
    ],
)
def test_bad_input_is_told_with_what_to_do(
    project: Checkout, words: tuple[str, ...], message: str
) -> None:
    done = gate(project, *words, code=4)
    assert message in done.stderr
    assert done.stdout == ""


def test_away_from_a_repository_it_says_where_to_go(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "convbench", "gate", "main"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 4
    assert "expected a git repository with a commit" in done.stderr


# -- Ctrl-C ---------------------------------------------------------------------------------------


def interrupted(project: Checkout, head: str, after: str, more_s: float = 0.0) -> str:
    """What the command printed when Ctrl-C came so long after a line on standard error."""
    process = project.start("gate", "main", head, *NEVER_DECIDED, "--json")
    assert process.stderr is not None
    for line in process.stderr:
        if after in line:
            break
    time.sleep(more_s)
    assert process.poll() is None
    begin_s = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert time.monotonic() - begin_s < 20
    assert "interrupted: this is what is known so far" in stderr
    assert "Traceback" not in stderr
    assert process.returncode == 130, stdout + stderr
    return stdout


def test_ctrl_c_shows_what_was_measured(project: Checkout) -> None:
    found = json.loads(interrupted(project, "main", "0 of 1 cells are decided"))
    assert found["interrupted"] is True
    (cell,) = found["cells"]
    assert cell["verdict"] == "undecided"
    assert cell["base"]["correct"] == cell["head"]["correct"] == "ok"


@pytest.mark.parametrize(
    ("head", "after"),
    [("main", "is main right?"), ("hangs", "is hangs right?"), ("hangs-later", "for at most")],
    ids=["as it is checked", "as it hangs in a check", "as it hangs in a timing"],
)
def test_ctrl_c_waits_for_no_side(project: Checkout, head: str, after: str) -> None:
    stdout = interrupted(project, head, after, 1.5 if head != "main" else 0.0)
    assert json.loads(stdout)["interrupted"] is True


AT_ONCE = """
import os, signal, sys
from convbench.cli import gate, main

def say(text, say=gate.say):
    say(text)
    if {after!r} in text:
        os.kill(os.getpid(), signal.SIGINT)

gate.say = say
sys.exit(main.main())
"""


@pytest.mark.parametrize("after", ["is main right?", "for at most"])
def test_ctrl_c_at_once_after_a_line_is_answered_like_any_other(
    project: Checkout, after: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_ONCE.format(after=after), "gate", "main", "main", *DECIDED],
        cwd=project.folder, env=project.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "interrupted: this is what is known so far" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 130, done.stdout + done.stderr


def test_only_what_is_open_is_measured_again() -> None:
    cells = [
        ComparedCell(
            "time", "pipeline", "numpy@cpu", workload, "", verdict, "", Measured(), Measured(),
            pairs=4, to_decide_s=seconds,
        )
        for workload, verdict, seconds in (
            ("net.a", Verdict.UNDECIDED, 70.2), ("net.b", Verdict.EQUIVALENT, None),
            ("net.c", Verdict.UNDECIDED, 30.0),
        )
    ]  # fmt: skip
    arguments = Namespace(
        base="main", head="", base_env="", head_env="an env", head_target=None, workloads=None
    )
    comparison = Comparison(Side("a", "", ""), Side("b", "", ""), Rule(), tuple(cells))
    assert command._again(arguments, comparison) == (
        "convbench gate main --head-env 'an env' --target numpy@cpu --workload net.a"
        " --workload net.c --budget 101s"
    )
    decided = Comparison(Side("a", "", ""), Side("b", "", ""), Rule(), (cells[1],))
    assert command._again(arguments, decided) == ""
