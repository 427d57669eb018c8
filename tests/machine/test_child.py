"""A process that answers, that is asked again before it did, and that Ctrl-C meets as it starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from convbench.machine.child import Child
from convbench.words.status import Outcome

ROOT = Path(__file__).parents[2]


def repeat(first, pipe):
    """Say something unasked, and then each question; "die" is the last one."""
    pipe.send(first)
    while (question := pipe.recv()) != "die":
        pipe.send(question)
    sys.stderr.write("no more\n")
    sys.exit(3)


@pytest.fixture
def child():
    made = Child(repeat, ("hello",))
    yield made
    made.close()


def test_it_answers_and_says_how_it_died(child):
    assert child.receive(60.0) == "hello"
    assert child.ask("one", 60.0) == "one"
    answer = child.ask("die", 60.0)
    assert isinstance(answer, Outcome)
    assert answer.kind == "exit status 3"
    assert "no more" in answer.reason
    assert child.ask("two", 60.0).kind == "exit status 3"


def fail(first, pipe):
    """Say something unasked, then each question, and die of "die" as a library may."""
    pipe.send(first)
    while (question := pipe.recv()) != "die":
        pipe.send(question)
    sys.stderr.write("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED\n")
    sys.exit(1)


@pytest.mark.parametrize(
    ("questions", "reason"),
    [(("die",), "At the first use"), (("one", "die"), "after others had worked")],
)
def test_of_one_that_had_answered_it_is_not_said_that_it_could_not_start(questions, reason):
    failing = Child(fail, ("hello",))
    try:
        assert failing.receive(60.0) == "hello"
        *_, answer = [failing.ask(question, 60.0) for question in questions]
    finally:
        failing.close()
    assert reason in answer.reason


def test_the_answer_to_a_question_that_was_given_up_is_not_that_to_the_next(child, monkeypatch):
    assert child.receive(60.0) == "hello"

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(child, "receive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            child.ask("one", 60.0)
    assert child.ask("two", 60.0) == "two"


def test_one_that_is_late_is_ended(child):
    assert child.receive(60.0) == "hello"
    assert child.receive(0.0).kind == "timed out"


STARTING = """\
import os, signal, sys, time
if "--multiprocessing-fork" in sys.orig_argv:
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(600)
"""


@pytest.mark.parametrize("words", [("verify", "--target", "numpy@cpu"), ("doctor",)])
def test_ctrl_c_leaves_no_traceback_of_a_process_that_is_starting(tmp_path, words):
    """It comes, first to that process, when its interpreter has not got to our code yet."""
    (tmp_path / "sitecustomize.py").write_text(STARTING)
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    done = subprocess.run(
        [sys.executable, "-m", "convbench", *words],
        capture_output=True, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": path},
        timeout=300, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert done.returncode == 130
