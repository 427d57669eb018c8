"""`convbench explain`."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from convbench.machine.catalogue import catalogue

from .command import COMMAND, ROOT, run

LAUNCH = "InternalError: Blas SGEMM launch failed : m=1, n=6, k=75"


def explain(log: str | bytes, *words: str) -> subprocess.CompletedProcess[str]:
    """Give it a log on standard input."""
    raw = log.encode() if isinstance(log, str) else log
    done = subprocess.run(
        [*COMMAND, "explain", *words], input=raw, capture_output=True, timeout=60, check=False,
        cwd=ROOT,
    )  # fmt: skip
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


def test_a_message_that_means_two_things() -> None:
    done = run("explain", LAUNCH)
    assert done.returncode == 0
    assert "If it was the first use: cuBLAS could not start" in done.stdout
    assert "If others had worked: a product on cuBLAS failed" in done.stdout
    assert "tensorflow#11301" in done.stdout
    start, middle = (run("explain", LAUNCH, "--when", when).stdout for when in ("start", "middle"))
    assert "could not start" in start
    assert "could not start" not in middle
    assert "It could start" in middle


def test_the_log_says_which() -> None:
    done = explain(f"step 65700, loss = 0.03\n{LAUNCH}\n")
    assert "line 2" in done.stdout
    assert "could not start" not in done.stdout
    assert "could not start" in explain(f"Epoch 1/15\n{LAUNCH}\n").stdout
    assert (
        "could not start"
        in explain(f"step 65700, loss = 0.03\n{LAUNCH}\n", "--when", "start").stdout
    )


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("137", "sigkill"), ("-11", "sigsegv"), ("exit code 132", "sigill"),
        ("Process finished with exit code 139", "sigsegv"), ("signal 4", "sigill"),
        ("Segmentation fault (core dumped)", "sigsegv"), ("Killed", "sigkill"),
        ("subprocess.CalledProcessError: ... died with <Signals.SIGABRT: 6>.", "sigabrt"),
        ("exitcode  : -7 (pid: 4711)", "sigbus"), ("exit status 136", "sigfpe"),
        ("Command '['python']' returned non-zero exit status 134.", "sigabrt"),
    ],
)  # fmt: skip
def test_an_exit_status_is_a_message(message: str, name: str) -> None:
    data = json.loads(explain("", message, "--json").stdout) if message == "-11" else None
    data = data or json.loads(run("explain", "--json", "--", message).stdout)
    assert data["findings"][0]["name"] == name


@pytest.mark.parametrize("message", ["exit status 1", "line 137 of train.py", "it was killed off"])
def test_what_only_looks_like_one_is_not(message: str) -> None:
    assert run("explain", message).returncode == 3


def test_what_is_not_known_is_said_to_be() -> None:
    done = run("explain", "Traceback:\nValueError: the cat sat on it")
    assert done.returncode == 3
    assert "it says: ValueError: the cat sat on it" in done.stdout
    assert "convbench backends" in done.stdout


def test_harmless_lines_do_not_hide_an_error_that_is_not_known() -> None:
    harmless = "I Could not find cuda drivers on your machine, GPU will not be used.\n"
    assert (fine := explain(harmless)).returncode == 0
    assert "Nothing in it is known to be wrong" in fine.stdout
    unknown = explain(harmless + "ValueError: the cat\n")
    assert unknown.returncode == 3
    assert "harmless tensorflow-no-drivers" in unknown.stdout


@pytest.mark.parametrize("words", [["explain", ""], ["explain", " \n"], ["explain"]])
def test_nothing_is_bad_input(words: list[str]) -> None:
    done = subprocess.run(
        [*COMMAND, *words], input="", capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 4
    assert "the text is empty; expected a message or a log" in done.stderr


def test_json() -> None:
    data = json.loads(explain(f"step 65700, loss = 0.03\n{LAUNCH}\n", "--json").stdout)
    assert data["schema"] == "convbench.explain/1"
    assert data["known"] is True
    (found,) = data["findings"]
    assert (found["name"], found["line"], found["when"]) == ("blas-launch", 2, "middle")
    assert [advice["when"] for advice in found["advice"]] == ["middle"]
    (found,) = json.loads(explain(LAUNCH, "--json").stdout)["findings"]
    assert [advice["when"] for advice in found["advice"]] == ["start", "middle"]


def test_the_list_has_every_entry_with_its_source() -> None:
    listed = run("explain", "--list")
    assert listed.returncode == 0
    messages = json.loads(run("explain", "--list", "--json").stdout)["messages"]
    assert [message["name"] for message in messages] == [entry.name for entry in catalogue()]
    for message in messages:
        assert re.search(rf"\b{re.escape(message['name'])} ", listed.stdout)
        assert message["source"]


def test_what_a_log_holds_does_not_reach_the_terminal() -> None:
    done = explain(b"\x1b]0;owned\x07\x1b[2J\x9b31m No algorithm worked!\x1bc [bold red]x[/]\n")
    assert done.returncode == 0
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", done.stdout)
    assert "[bold red]x[/]" in done.stdout
