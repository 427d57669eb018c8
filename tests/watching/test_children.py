"""Where the code under test runs: real processes, which try to stay and to see."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from convbench.machine import watch
from convbench.watching import children, confine
from convbench.watching.children import Ended, Stopped, allowed, run

from ..checkouts import ROOT


def child(tmp_path: Path, code: str, limit_s: float = 30.0, **environment: str) -> Ended:
    words = [sys.executable, "-c", code]
    log = tmp_path / "logs" / "step"
    return run(words, tmp_path, log, limit_s, lambda: False, allowed(os.environ) | environment)


def gone(pid: int, seconds: float = 20.0) -> bool:
    """Whether a process ends in time; one that nobody has waited for has ended."""
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        try:
            if (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def test_what_it_prints_and_how_it_ends(tmp_path: Path) -> None:
    ended = child(
        tmp_path, "import sys; print('out'); print('a\\nlast\\x1b', file=sys.stderr); exit(7)"
    )
    assert (ended.code, ended.text(), ended.why) == (7, b"out\n", "last?")
    killed = child(tmp_path, "import os; os.kill(os.getpid(), 9)")
    assert (killed.code, killed.text(), killed.why) == (-signal.SIGKILL, b"", "")


def test_it_has_a_home_that_goes_with_it_and_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".asv-machine.json").write_text("{}")
    monkeypatch.setenv("HOME", str(tmp_path))
    code = (
        "import json, os, resource; print(json.dumps([os.environ['HOME'],"
        " os.listdir(os.environ['HOME']), resource.getrlimit(resource.RLIMIT_CORE),"
        " resource.getrlimit(resource.RLIMIT_FSIZE), os.getsid(0) == os.getpid()]))"
    )
    home, held, core, size, leads = json.loads(child(tmp_path, code).text())
    assert home != str(tmp_path)
    assert not Path(home).exists()
    assert held == [".asv-machine.json"]
    assert (core, size, leads) == ([0, 0], [confine.MOST_BYTES] * 2, True)


STAYS = """
import os, subprocess, sys
stays = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"],
                         start_new_session={new}, stdout=subprocess.DEVNULL)
print(stays.pid, flush=True)
{then}
"""


@pytest.mark.parametrize("new", [False, True])
@pytest.mark.parametrize("then", ["", "os.kill(os.getpid(), 9)", "import time; time.sleep(60)"])
def test_what_it_leaves_behind_is_ended(tmp_path: Path, new: bool, then: str) -> None:
    watch.adopt()
    ended = child(tmp_path, STAYS.format(new=new, then=then), limit_s=2.0)
    assert gone(int(ended.text()), 2.0)


def test_one_that_does_not_hear_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "_GRACE_S", 0.5)
    code = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
    ended = child(tmp_path, code, limit_s=1.0)
    assert ended.code == -signal.SIGKILL
    assert ended.why.startswith("it was ended after ")


def test_it_ends_when_the_watch_is_to(tmp_path: Path) -> None:
    looks = iter([False, True])
    with pytest.raises(Stopped):
        run([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path, tmp_path / "x", 60.0,
            lambda: next(looks), allowed(os.environ))  # fmt: skip


WATCH = """
import os, sys
from pathlib import Path
from convbench.watching.children import run
code = "import os, sys, time; print(os.getpid(), flush=True); time.sleep(120)"
run([sys.executable, "-c", code], Path("."), Path("x"), 60.0, lambda: False, dict(os.environ))
"""


def test_it_ends_with_a_watch_that_is_killed(tmp_path: Path) -> None:
    path = os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen(
        [sys.executable, "-c", WATCH], cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}
    )
    printed = tmp_path / "x.out"
    while not (printed.exists() and printed.read_text().endswith("\n")):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert gone(int(printed.read_text()))


def test_no_secret_is_on_the_list() -> None:
    known = {"CONVBENCH_WATCH_TOKEN": "a", "GITHUB_TOKEN": "b", "SSH_AUTH_SOCK": "c", "PATH": "d"}
    assert allowed(known) == {"PATH": "d"}
