"""Stands in for `convbench`, `asv` and a command that is told: what it says is in the commits.

    python fake.py FOLDER (bench | fleet | gate | report | publish | told) ...

The file `quality` of a commit says what is to be said of it: a number, how long it takes; or
`wrong`; or `broken`, which cannot be measured; or `once`, which cannot the first time; or
`mute`, which cannot be gated; or `2 unmeasured`, which can be gated alone,
and with `dawdles` takes a while. Each call is a line of FOLDER/calls. FOLDER/kill names a step, and
whether the watch is killed before or after it is done.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


class Fake:
    """One call."""

    def __init__(self, folder: str, step: str, *words: str) -> None:
        self.folder, self.step, self.words = Path(folder), step, words

    def run(self) -> int:
        with (self.folder / "calls").open("a") as file:
            file.write(json.dumps([self.step, *self.words, sorted(os.environ)]) + "\n")
        if Path("suite").exists():  # it would be run: suites are discovered where they lie
            (self.folder / "suites-that-lay-there").open("a").write(f"{self.step}\n")
        self.kill("before")
        code: int = getattr(self, self.step)()
        sys.stdout.flush()
        self.kill("after")
        return code

    def kill(self, when: str) -> None:
        order = self.folder / "kill"
        if order.exists() and order.read_text() == f"{self.step} {when}":
            order.unlink()
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60 * (when == "before"))  # whoever was killed has us killed

    def say(self, document: dict[str, object]) -> None:
        sys.stdout.write(json.dumps({"schema": f"convbench.{self.step}/1", **document}))

    def bench(self) -> int:
        commit = git("rev-parse", "HEAD")
        said = quality(commit)
        assert git("status", "--porcelain") == ""
        assert Path(os.environ["PYTHONPATH"].split(os.pathsep)[0], "pkg", "__init__.py").is_file()
        seen = self.folder / f"seen-{commit}"
        if said == "broken" or "unmeasured" in said or (said == "once" and not seen.exists()):
            seen.touch()
            sys.stderr.write("it does not compile: \x1b[31m\n")
            return 4
        if said == "hangs":
            time.sleep(60)
        self.say({"rows": []})
        return 2 if said == "wrong" else 0

    def fleet(self) -> int:
        self.say({"commits": []})
        return 0

    def gate(self) -> int:
        base, head = (quality(commit).split()[0] for commit in self.words[:2])
        if quality(self.words[1]).endswith("dawdles"):
            time.sleep(1.1)
        if {"mute", "broken"} & {base, head}:
            return 70
        if head == "wrong":
            code, counts = 2, {"still wrong" if base == "wrong" else "wrong": 1}
        elif base == "wrong":
            code, counts = 0, {"fixed": 1}
        else:
            slower = float(head.replace("once", "1")) > float(base.replace("once", "1"))
            code, counts = int(slower), {"regressed" if slower else "equivalent": 1}
        self.say({"summary": f"{head} after {base}", "counts": counts, "interrupted": False})
        return code

    def report(self) -> int:
        page = Path(self.words[self.words.index("--output") + 1])
        page.write_text(f"<p>{self.words[0]}</p>")
        return 0

    def publish(self) -> int:
        made = Path(self.words[self.words.index("--html-dir") + 1])
        made.mkdir()
        (made / "index.html").write_text("<p>asv's pages</p>")
        return 0

    def told(self) -> int:
        notice = json.load(sys.stdin)
        with (self.folder / "told").open("a") as file:
            file.write(json.dumps(notice) + "\n")
        return 0


def git(*words: str) -> str:
    return subprocess.run(
        ["git", *words], capture_output=True, text=True, check=True
    ).stdout.strip()


def quality(commit: str) -> str:
    return git("show", f"{commit}:quality")


if __name__ == "__main__":
    sys.exit(Fake(*sys.argv[1:]).run())
