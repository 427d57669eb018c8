"""What a process has started is found, whatever it did to be forgotten, and ended."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from convbench.machine import watch
from convbench.machine.child import Child

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")

SLEEP = [sys.executable, "-c", "import time; time.sleep(120)"]


def nothing():
    return 0


def child_of_ours():
    return subprocess.Popen(SLEEP).pid


def daemon(wipe: bool = False):
    """Two forks and a session of its own; its number comes back through a pipe."""
    read, write = os.pipe()
    first = os.fork()
    if first == 0:
        os.setsid()
        if os.fork() == 0:
            if wipe:
                fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
                ctypes.memset(int(fields[47]), 0, int(fields[48]) - int(fields[47]))
            os.write(write, str(os.getpid()).encode())
            time.sleep(120)
        os._exit(0)
    os.waitpid(first, 0)
    return int(os.read(read, 20))


def daemon_without_a_trace():
    return daemon(wipe=True)


STARTS = [child_of_ours, daemon, daemon_without_a_trace]


def starter(start, pipe):
    pipe.send(start())
    while pipe.recv() != "end":
        pipe.send(sum(i * i for i in range(300_000)))


@pytest.fixture(autouse=True)
def adopted():
    watch.adopt()


def gone(number: int) -> bool:
    for _ in range(1000):
        try:
            state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":  # who has to bury it is not our concern
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("start", STARTS)
def test_a_helper_is_found_and_ended_with_its_process(start):
    child = Child(starter, (start,))
    try:
        number = child.receive(120.0)
        seen = child.look()
        assert list(seen.helpers) == [number]
    finally:
        child.close()
    assert gone(number)


@pytest.mark.parametrize("start", STARTS)
def test_a_helper_does_not_outlive_a_process_that_has_died(start):
    child = Child(starter, (start,))
    try:
        number = child.receive(120.0)
        os.kill(child.pid, 9)  # the pipe stays open: the helper has it, too
    finally:
        child.close()
    assert gone(number)


def test_one_of_our_processes_is_no_helper_of_another():
    one, two = Child(starter, (nothing,)), Child(starter, (nothing,))
    try:
        assert one.receive(120.0) == two.receive(120.0) == 0
        assert one.look().helpers == two.look().helpers == {}
    finally:
        one.close()
        assert two.ask("go on", 60.0) > 0
        two.close()


def test_what_is_spent_is_seen_from_outside():
    child = Child(starter, (nothing,))
    try:
        assert child.receive(120.0) == 0
        before, looked = watch.spent(child.pid), child.look()
        child.ask("work", 60.0)
        after = watch.spent(child.pid)
        assert after.cpu_s > before.cpu_s > 0
        assert after.waited_s >= before.waited_s
        assert looked.threads >= 1
        assert looked.peak_bytes >= looked.resident_bytes > 0
    finally:
        child.close()


def test_a_process_that_is_not_there_is_not_seen():
    child = Child(starter, (nothing,))
    child.receive(120.0)
    pid = child.pid
    child.close()
    assert watch.look(pid) is None
    assert watch.spent(pid) == watch.Spent()
    assert watch.end(pid) == []


def test_who_was_stopped_can_be_told_to_go_on():
    child = Child(starter, (nothing,))
    try:
        assert child.receive(120.0) == 0
        os.kill(child.pid, 19)
        child.go_on()
        assert child.ask("work", 60.0) > 0
    finally:
        child.close()
