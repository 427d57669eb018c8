# ruff: noqa: T201  (a script talks to whoever started it)
"""Does a watch name every bad commit and no good one? An hour of a team's, compressed.

    .venv/bin/python studies/watch.py [--fleet] [--minutes 60] [--seed N] > reports/watch.md

A repository that `convbench init` has made gets 20 commits on two branches, in pushes as people
make them: several at once, the same commit on two branches, some pushed away again. Five are bad:
slower, wrong, or not to be imported. A real `convbench watch` looks at it all the while, with the
real `bench` and `gate` on one cell, and is killed three times (SIGKILL, at a random moment) and
begun again. What it told is held against what was planted; anything else than all of it, once each,
makes this script fail. A push comes when the last one is done, which is 20 minutes and more in all;
with --minutes it comes when its time has come, too, so that they are spread over so long. With
--fleet a scheduler and a worker for each core measure and gate, and not the watch's own machine,
which here is the same.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.fleet.commits import cluster

from convbench import __version__
from convbench.machine import facts

IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@example.org")
CONVBENCH = (sys.executable, "-m", "convbench")
LAST = '        return Run(run, "tap by tap")\n'
PLANTED = {
    "good": "",
    "slow": "        once = run\n        run = lambda x: (once(x), once(x), once(x))[0]\n",
    "wrong": "        right = run\n        run = lambda x: right(x) + 1\n",
    "broken": "        import no_such_module\n",
}
TOLD = "import sys, time; open(sys.argv[1], 'a').write(f'{time.time()} {sys.stdin.read()}\\n')"
LATEST_S = 1800.0

# Each push: what each commit is, and what is done before and after. A state holds until another
# follows: what comes after `slow` is still slow, and not to be blamed for it.
STORY = (
    ("main", ["good"], "", ""),
    ("main", ["slow!", "slow"], "", "kill"),
    ("main", ["good"], "", ""),
    ("feature", ["good", "wrong!"], "branch", ""),
    ("main", ["good"], "", "both"),
    ("main", ["wrong!", "wrong"], "", "kill"),
    ("main", ["good"], "reset 2", ""),
    ("main", ["broken!"], "", ""),
    ("main", ["good"], "", ""),
    ("main", ["slow!", "slow", "good"], "", "kill"),
    ("main", ["good"], "", ""),
    ("main", ["good"], "reset 1", ""),
    ("feature", ["good"], "", ""),
    ("main", ["good", "good"], "", ""),
)


@dataclass(slots=True)
class Commit:
    """What was planted, and when it was pushed."""

    name: str
    number: int
    branch: str
    kind: str
    bad: bool
    how: str
    pushed_s: float = 0.0


@dataclass
class Hour:
    """A repository, a project that watches it, and the watch."""

    folder: Path
    more: str = ""
    commits: list[Commit] = field(default_factory=list)
    killed: list[str] = field(default_factory=list)
    watch: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.remote, self.project = self.folder / "kernels", self.folder / "project"
        self.told = self.folder / "told"
        for folder in (self.remote, self.project):
            folder.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch", "main")
        subprocess.run([*CONVBENCH, "init", "--template", "numpy"], cwd=self.remote, check=True,
                       capture_output=True)  # fmt: skip
        with (self.remote / "pyproject.toml").open("a") as file:
            file.write('\n[tool.convbench.lists]\nours = ["notebook.conv"]\n')
        self.file = self.remote / "src" / "kernels" / "convbench.py"
        self.text = self.file.read_text()
        if LAST not in self.text:
            sys.exit(f"the template has no {LAST!r} any more: mend LAST in {__file__}")
        self.git("add", ".")
        self.git("commit", "--quiet", "-m", "begin")
        command = json.dumps([sys.executable, "-c", TOLD, str(self.told)])
        (self.project / "pyproject.toml").write_text(
            "[tool.convbench.watch]\n"
            'branches = ["main", "feature", "other"]\nevery = "3s"\nlist = "ours"\n'
            f'targets = ["kernels@cpu"]\ngate = "30s"\nrepository = "{self.remote}"\n'
            f"notify = {{command = {command}}}\n{self.more}"
        )

    def git(self, *words: str) -> str:
        """In the repository that is watched."""
        done = subprocess.run(["git", *IDENTITY, *words], cwd=self.remote, check=True,
                              capture_output=True, text=True)  # fmt: skip
        return done.stdout.strip()

    def start(self) -> None:
        """Begin to watch."""
        with (self.folder / "log").open("ab") as log:
            self.watch = subprocess.Popen([*CONVBENCH, "watch"], cwd=self.project, stderr=log,
                                          stdout=log)  # fmt: skip

    def state(self) -> dict[str, Any]:
        """As it lies in the file."""
        path = self.project / ".asv" / "watch" / "state.json"
        return json.loads(path.read_text()) if path.exists() else {"commits": [], "tips": {}}

    def kill(self, after_s: float) -> None:
        """Kill it when it has been at work for a while, and begin again."""
        assert self.watch is not None
        self.wait(lambda state: state.get("doing") is not None)
        time.sleep(after_s)
        doing = self.state().get("doing") or {"step": "nothing"}
        self.watch.send_signal(signal.SIGKILL)
        self.watch.wait()
        self.killed.append(f"{doing['step']}, after {after_s:.0f} s")
        self.start()

    def wait(self, until: Any) -> None:
        """Until the state is so."""
        end_s = time.monotonic() + LATEST_S
        while not until(self.state()):
            if time.monotonic() > end_s or (self.watch and self.watch.poll() is not None):
                sys.exit(f"the watch has ended, or hangs: {self.folder / 'log'}")
            time.sleep(0.5)

    def idle(self, since_s: float) -> None:
        """Until all that was pushed is done and told."""

        def done(state: dict[str, Any]) -> bool:
            waits = any(
                c["untold"] or (c["stage"] != "done" and not c["vanished"])
                for c in state["commits"]
            )
            return not waits and (state.get("round_s") or 0.0) > since_s + 1

        self.wait(done)

    def push(self, branch: str, kinds: list[str], before: str, after: str) -> None:
        """Make commits; the last thing that is done is what shows them."""
        if before == "branch":
            self.git("checkout", "--quiet", "-b", branch)
        else:
            self.git("checkout", "--quiet", "--detach", branch)
        reset = int(before.partition(" ")[2] or 0)
        if reset:
            self.git("reset", "--quiet", "--hard", f"HEAD~{reset}")
        elif before == "branch":
            self.git("checkout", "--quiet", "--detach")
            self.git("branch", "--quiet", "-D", branch)
        for kind in kinds:
            planted, number = kind.rstrip("!"), len(self.commits) + 1
            line = f"        # change {number}\n"
            self.file.write_text(self.text.replace(LAST, line + PLANTED[planted] + LAST))
            self.git("commit", "--quiet", "-am", f"{number}: {planted}")
            name = self.git("rev-parse", "HEAD")
            how = ["force-pushed"] * bool(reset) + ["on two branches at once"] * (after == "both")
            how += [f"one of {len(kinds)} at once"] * (len(kinds) > 1)
            self.commits.append(
                Commit(name, number, branch, planted, "!" in kind, ", ".join(how), time.time())
            )
        shown = [branch, *(["other"] if after == "both" else [])]
        self.git("fetch", "--quiet", ".", *(f"+HEAD:refs/heads/{name}" for name in shown))


def main() -> None:
    """Push, kill, hold what was told against what was planted, and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="leave everything here")
    parser.add_argument("--seed", type=int, default=1, help="of the moments of the kills")
    parser.add_argument("--fleet", action="store_true", help="measure on a worker for each core")
    parser.add_argument(
        "--minutes", type=float, metavar="M", default=0.0, help="spread the pushes over so long"
    )
    options = parser.parse_args()
    chance = random.Random(options.seed)  # noqa: S311  # no secret
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    with contextlib.ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="convbench-watch-"))
        more = ""
        if options.fleet:
            (folder := Path(name) / "workers").mkdir()
            made = stack.enter_context(cluster(folder, {**os.environ}))
            made.scheduler()
            made.worker("--cores-each", "1")
            more = f'scheduler = "{made.address}"\n'
        hour = Hour(options.keep or Path(name) / "hour", more)
        begun_s = time.time()
        hour.start()
        try:
            hour.idle(begun_s)
            for place, (branch, kinds, before, after) in enumerate(STORY):
                due_s = begun_s + options.minutes * 60 * place / (len(STORY) - 1)
                time.sleep(max(0.0, due_s - time.time()))
                hour.push(branch, kinds, before, after)
                if after == "kill":
                    hour.kill(chance.uniform(1, 25))
                hour.idle(time.time())
                print(f"{len(hour.commits)} of 20", file=sys.stderr, flush=True)
        finally:
            if hour.watch is not None:
                hour.watch.terminate()
                hour.watch.wait()
        how = f"--seed {options.seed}{' --fleet' * options.fleet}"
        how += f" --minutes {options.minutes:g}" * bool(options.minutes)
        ok = show(hour, time.time() - begun_s, how)
    sys.exit(0 if ok else 1)


def show(hour: Hour, elapsed_s: float, options: str) -> bool:
    """Print the table; whether all is as it should be."""
    state = {commit["commit"]: commit for commit in hour.state()["commits"]}
    told: dict[str, list[tuple[float, dict[str, Any]]]] = {}
    for line in hour.told.read_text().splitlines():
        time_s, _, text = line.partition(" ")
        notice = json.loads(text)
        told.setdefault(notice["commit"], []).append((float(time_s), notice))
    bad = {commit.name for commit in hour.commits if commit.bad}
    good = {commit.name for commit in hour.commits} - bad
    blamed = {name for of in told.values() for _, notice in of for name in notice["blamed"]}
    ids = Counter(notice["id"] for of in told.values() for _, notice in of)
    named = bad & told.keys() & blamed
    ok = named == bad and not good & (told.keys() | blamed) and max(ids.values()) == 1
    machine = facts.machine_facts()
    version = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True)
    print("# A watch of 20 commits: every bad one named, no good one blamed?\n")
    print(f"Made by `python studies/watch.py {options}` on {time.strftime('%Y-%m-%d')}:", end=" ")
    print(f"convbench {__version__}, Python {platform.python_version()},", end=" ")
    print(f"{version.stdout.strip()}, {machine.get('cpu_model')},", end=" ")
    print(
        f"{machine.get('logical_cores')} cores, load {facts.moment().get('load_1min', '?')} at",
        end=" ",
    )
    print(f"the end; it took {elapsed_s / 60:.0f} minutes.\n")
    print(
        "One cell, `kernels@cpu` of `notebook.conv`, the kernel of the template `numpy`. *slow*",
        end=" ",
    )
    print(
        "computes three times, *wrong* adds 1, *broken* imports what is not there; what is in",
        end=" ",
    )
    print("brackets was so before, and is nobody's fault.\n")
    print(f"- bad commits named: {len(named)} of {len(bad)}")
    print(f"- good commits told of or blamed: {len(good & (told.keys() | blamed))} of {len(good)}")
    print(f"- notices: {sum(ids.values())}, with {len(ids)} ids")
    print(f"- killed with SIGKILL {len(hour.killed)} times: at {'; at '.join(hour.killed)}\n")
    print("| # | commit | branch | planted | pushed | verdict | told after |")
    print("|--:|---|---|---|---|---|--:|")
    for commit in hour.commits:
        known = state.get(commit.name)
        verdict = "never seen" if known is None else known["verdict"]
        gone = ", later pushed away" if known and known["vanished"] else ""
        planted = f"**{commit.kind}**" if commit.bad else commit.kind
        if not commit.bad and commit.kind != "good":
            planted = f"({commit.kind})"
        after = "".join(f"{t - commit.pushed_s:.0f} s" for t, _ in told.get(commit.name, ()))
        print(f"| {commit.number} | {commit.name[:8]} | {commit.branch} | {planted} |", end=" ")
        print(f"{commit.how} | {verdict}{gone} | {after} |")
    return ok


if __name__ == "__main__":
    main()
