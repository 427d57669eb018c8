"""Processes that are forked from a template: they answer, are explained, and none is left."""

from __future__ import annotations

import contextlib
import json
import operator
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from convbench.gate import pairs
from convbench.machine import child as module
from convbench.machine import wire
from convbench.machine.child import Child, Template
from convbench.words.status import Outcome

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")

SIDE = Path(pairs.__file__).with_name("side.py")

# In place of the suites' interface: a backend is opened by doing what its target says, after the
# import that the template has made already, if that went well.
INTERFACE = """\
import os, signal, sys, time
from types import SimpleNamespace as Named

class Target:
    parse = staticmethod(str)

def open_backend(target):
    import first
    exec(target)
    return Named(versions=lambda: {"number": str(os.getpid())})

def explain(error):
    return Named(status="failed", reason=str(error))
"""

DEAF = "os.closerange(3, 64); time.sleep(600)"


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Starts templates that first do something; all that they make must be gone in the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    (tmp_path / "interface.py").write_text(INTERFACE)
    made = []

    def started(first="pass"):
        (tmp_path / "first.py").write_text(f"import os, time\n{first}\n")
        needs = json.dumps({"modules": ["first"], "variables": {}, "sources": []})
        words = (SIDE, tmp_path / "interface.py", wire.__file__, needs)
        paths = {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
        template = Template([sys.executable, "-P", *map(str, words)], paths)
        made.append(template)
        return template

    yield started
    for template in made:
        template.close()
        assert gone(template._process.pid)
        assert not children_of(template._process.pid)
    assert not [*folder.iterdir()]


def do(child, what="pass", timeout_s=60.0):
    return child.ask({"do": "open", "source": ".", "target": what, "core": None}, timeout_s)


def number_of(child):
    return int(do(child)["versions"]["number"])


def fields(number):
    """State, parent, group and session of a process."""
    return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[:4]


def gone(number):
    try:
        return fields(number)[0] == "Z"  # who has to bury it is not our concern
    except OSError:
        return True


def children_of(number):
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if fields(folder.name)[1] == str(number):
                found.append(folder.name)
        except OSError:
            continue
    return found


def test_each_fork_is_a_process_of_its_own_and_ends_when_it_is_closed(start):
    template = start()
    children = [template.fork() for _ in range(3)]
    numbers = [number_of(child) for child in children]
    assert numbers == [child.pid for child in children]
    assert len({os.getpid(), template._process.pid, *numbers}) == 5
    for child, number in zip(children, numbers, strict=True):
        _, parent, _, session = fields(number)
        assert (int(parent), int(session)) == (template._process.pid, number)
        child.close()
        assert gone(number)


def test_threads_that_order_at_once_get_their_own_answers(start):
    template = start()

    def use(_):
        child = template.fork()
        try:
            if number_of(child) != child.pid:
                return "another's"
            return do(child, "os._exit(5)").kind
        finally:
            child.close()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(use, range(40))) == {"exit status 5"}


def test_a_template_that_is_started_is_no_helper_of_what_ends_meanwhile(start, monkeypatch):
    child = start().fork()
    assert number_of(child) == child.pid
    closing = threading.Thread(target=child.close)

    def slowly(*words, **more):
        process = subprocess.Popen(*words, **more)
        closing.start()  # another thread ends a process, and whatever it has left behind
        closing.join(0.5)
        return process

    with monkeypatch.context() as patch:
        patch.setattr(module, "subprocess", SimpleNamespace(**vars(subprocess) | {"Popen": slowly}))
        template = start()
    closing.join()
    other = template.fork()
    assert number_of(other) == other.pid
    other.close()


def test_processes_that_are_started_at_once_leave_the_environment_as_it_was(monkeypatch):
    before, changed = dict(os.environ), module._environment

    @contextlib.contextmanager
    def slowly(variables):
        with changed(variables):
            time.sleep(0.1)
            yield

    monkeypatch.setattr(module, "_environment", slowly)
    with ThreadPoolExecutor(3) as pool:
        for made in pool.map(lambda _: Child(operator.not_, (), threads=1), range(3)):
            made.close()
    assert dict(os.environ) == before


def test_what_a_fork_raises_is_its_answer(start):
    child = start().fork()
    answer = do(child, "raise ValueError('no such card')")
    assert isinstance(answer, Outcome)
    assert (answer.reason, answer.kind, answer.process_lost) == (
        "no such card", "ValueError", False,
    )  # fmt: skip
    assert number_of(child) == child.pid
    child.close()


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
        ("os.abort()", "killed by SIGABRT"),
        ("os.write(2, b'no more'); os._exit(7)", "exit status 7"),
    ],
)
def test_a_fork_that_dies_is_explained(start, what, kind):
    child = start().fork()
    answer = do(child, what)
    assert (answer.kind, answer.process_lost) == (kind, True)
    assert ("no more" in answer.reason) == ("no more" in what)
    assert do(child).kind == kind
    child.close()


def test_a_fork_that_is_late_is_ended_and_no_other(start):
    template = start()
    late, other = template.fork(), template.fork()
    assert do(late, "time.sleep(600)", 0.1).kind == "timed out"
    assert number_of(other) == other.pid
    late.close()
    other.close()


def test_who_waits_for_a_fork_that_only_closed_its_pipe_keeps_nobody_waiting(start):
    template = start()
    deaf = template.fork()
    asking = threading.Thread(target=do, args=(deaf, DEAF))
    asking.start()
    while len([*Path(f"/proc/{deaf.pid}/fd").iterdir()]) > 3:
        time.sleep(0.01)
    begin_s = time.monotonic()
    other = template.fork()
    assert number_of(other) == other.pid
    other.close()
    assert time.monotonic() - begin_s < 5
    os.kill(deaf.pid, signal.SIGKILL)
    asking.join(20)
    assert not asking.is_alive()
    deaf.close()


def test_a_template_that_was_killed_forks_no_more_and_says_how_it_died(start):
    template = start()
    child = template.fork()
    os.kill(template._process.pid, signal.SIGKILL)
    with pytest.raises(ChildProcessError, match=r"killed by SIGKILL"):
        template.fork()
    assert number_of(child) == child.pid
    child.close()
    assert gone(child.pid)


def test_the_last_words_of_a_template_that_dies_as_it_imports_are_told(start):
    template = start("os.write(2, b'free(): invalid pointer'); os.abort()")
    with pytest.raises(ChildProcessError, match=r"killed by SIGABRT.*free\(\): invalid pointer"):
        template.fork()


def test_what_a_template_raises_as_it_imports_is_told_by_its_forks(start):
    with contextlib.closing(start("raise ImportError('no libcudart')").fork()) as child:
        assert "no libcudart" in do(child).reason


def test_a_template_that_does_not_answer_is_given_up(start, monkeypatch):
    template = start()
    child = template.fork()
    monkeypatch.setattr(module, "START_TIMEOUT_S", 0.5)
    os.kill(template._process.pid, signal.SIGSTOP)
    with pytest.raises(ChildProcessError, match=r"no answer within 0\.5 s"):
        template.fork()
    os.kill(template._process.pid, signal.SIGCONT)
    time.sleep(0.1)
    with pytest.raises(ChildProcessError):  # and not the answer to the first
        template.fork()
    assert number_of(child) == child.pid
    child.close()
    assert gone(child.pid)


def test_ctrl_c_while_a_template_is_waited_for_ends_it(start):
    template = start()
    child = template.fork()
    os.kill(template._process.pid, signal.SIGSTOP)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        template.fork()
    os.kill(template._process.pid, signal.SIGCONT)
    time.sleep(0.1)
    with pytest.raises(ChildProcessError):  # and not the answer to the first
        template.fork()
    assert number_of(child) == child.pid
    child.close()
    assert gone(child.pid)


def test_closing_a_template_does_not_wait_for_what_it_imports(start):
    template = start("time.sleep(600)")
    with ThreadPoolExecutor(1) as pool:
        forking = pool.submit(template.fork)
        time.sleep(0.3)
        template.close()
        with pytest.raises(ChildProcessError):
            forking.result()


def test_forks_go_on_when_their_template_is_closed(start):
    template = start()
    children = [template.fork() for _ in range(3)]
    template.close()
    template.close()
    with pytest.raises(ChildProcessError, match="has been ended"):
        template.fork()
    assert [number_of(child) for child in children] == [child.pid for child in children]
    assert do(children[0], "os._exit(7)").kind == "exit status 7"
    begin_s = time.monotonic()
    for child in children:
        child.close()
        assert gone(child.pid)
    assert time.monotonic() - begin_s < 5


def test_a_template_whose_judge_is_gone_ends_with_its_forks(start):
    template = start()
    child = template.fork()
    assert number_of(child) == child.pid
    template._socket.close()  # as the end of the judge closes all of them
    child._channel.close()
    for number in (template._process.pid, child.pid):
        while not gone(number):
            time.sleep(0.01)
    child.close()
