"""What is measured does not outlive the worker, and is alone on its cores."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from convbench.fleet import guard

WORKER = """
import sys
from pathlib import Path
from convbench.fleet import guard
with guard.alone(Path(sys.argv[1]), ["core-0.lock"]) as held:
    guard.run([sys.executable, "-c", sys.argv[2], sys.argv[1]], Path(sys.argv[1]),
              Path(sys.argv[1], "said"), variables=%r, timeout_s=60, held=held)
"""
MEASURED = """
import os, subprocess, sys, time
# One that stays, one that leaves its session and its parents behind, and what both start.
sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
started = [subprocess.Popen(sleeper), subprocess.Popen(sleeper, start_new_session=True)]
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        started.append(subprocess.Popen(sleeper))
        open(sys.argv[1] + "/pids-2", "w").write(f"{os.getpid()} {started[-1].pid} ")
        time.sleep(600)
    os._exit(0)
open(sys.argv[1] + "/pids-1", "w").write(" ".join(str(p.pid) for p in started) + f" {os.getpid()} ")
time.sleep(600)
"""
VARIABLES = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def when(true):
    end_s = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def test_all_of_it_ends_with_its_worker_and_then_the_cores_are_free(tmp_path):
    worker = subprocess.Popen([sys.executable, "-c", WORKER % VARIABLES, str(tmp_path), MEASURED])
    names = [tmp_path / "pids-1", tmp_path / "pids-2"]
    when(lambda: all(name.exists() and name.read_text().endswith(" ") for name in names))
    pids = [int(pid) for name in names for pid in name.read_text().split()]
    assert len(pids) == 5
    assert all(map(running, pids))
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    with guard.alone(tmp_path, ["core-0.lock"]):
        assert not any(map(running, pids)), "somebody is on the cores still"


def test_what_takes_too_long_is_ended(tmp_path):
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    code = guard.run(
        command, tmp_path, tmp_path / "said", variables=VARIABLES, timeout_s=0.2, held=[]
    )
    assert code == guard.TIMED_OUT


def test_it_sees_the_variables_that_are_named_and_dumps_no_core(tmp_path):
    command = [
        sys.executable, "-c",
        "import os, resource; print(sorted(os.environ), resource.getrlimit(resource.RLIMIT_CORE))",
    ]  # fmt: skip
    variables = VARIABLES | {"A_SETTING": "x"}
    code = guard.run(
        command, tmp_path, tmp_path / "said", variables=variables, timeout_s=60, held=[]
    )
    said = (tmp_path / "said").read_text()
    seen = sorted({*variables} | ({"LC_CTYPE"} if "LC_CTYPE" in said else set()))
    assert (code, said.strip()) == (0, f"{seen} (0, 0)")
