# ruff: noqa: T201  (a script talks to whoever started it)
"""Makes reports/example: a page with all that convbench has to show, of commits made for it.

    .venv/bin/python studies/example.py [--list standard] [--keep FOLDER] [--output FOLDER]

In a clone of this repository commits are made of which one is wrong, is mended, and one is 30 %
slower, among others that change nothing. `convbench bench` measures some of them: base and head
with every suite, the others with the pipelines alone. `convbench gate` measures base and head side
by side, and `convbench report` writes the page, the chart of the gate and, where a Chromium is, a
picture of the first screen. The names of this machine's folders are left out.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from planted import CHANGES, IDENTITY, ROOT, SOURCES, TWICE, call

TARGETS = ("numpy@cpu", "numpy.winograd@cpu", "tensorflow@cpu", "tensorflow.xla@cpu")
PIPELINES = r"bench_(pipeline|accuracy)\.Smoke\."
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SCREEN = 1280, 900


class Clone:
    """A clone of this repository, whose own sources its commands run.

    Parameters
    ----------
    folder : Path
        Where it is made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        call(ROOT, "git", "clone", "--quiet", "--shared", str(ROOT), str(folder))
        with (folder / "pyproject.toml").open("a", encoding="utf-8") as project:
            project.write(f"\n[tool.convbench]\ntargets = {[*TARGETS]!r}\n")
        self.commit(f"Measure {len(TARGETS)} targets")

    def commit(self, subject: str) -> None:
        """All that has changed, or nothing."""
        words = ("commit", "--quiet", "--allow-empty", "-am", subject)
        call(self.folder, "git", *IDENTITY, *words)

    def change(self, place: int, subject: str = "") -> None:
        """Commit one of the changes of studies/planted.py."""
        said, name, before, after = CHANGES[place]
        path = self.folder / SOURCES / name
        text = path.read_text(encoding="utf-8").replace(before, after)
        path.write_text(text + (TWICE if "_often_twice" in after else ""), encoding="utf-8")
        self.commit(subject or said)

    def run(self, *words: str, codes: tuple[int, ...] = (0, 1, 2, 3)) -> None:
        """Run a command of convbench there, and say how long it took."""
        begun_s = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "convbench", *words], cwd=self.folder, check=False,
            env=os.environ | {"PYTHONPATH": str(self.folder / "src")},
        )  # fmt: skip
        print(f"convbench {' '.join(words)}: {done.returncode},"
              f" {time.monotonic() - begun_s:.0f} s", flush=True)  # fmt: skip
        if done.returncode not in codes:
            sys.exit(f"it left with {done.returncode}, which is none of {codes}")


def make(clone: Clone, options: argparse.Namespace) -> None:
    """Commit, measure and gate."""
    whole = ("--bench", options.bench) if options.bench else ("--list", options.list)
    pipelines = ("--bench", options.bench or PIPELINES)
    clone.run("bench", *pipelines)
    clone.change(0)
    clone.run("bench", *pipelines)
    clone.change(2)
    clone.run("bench", *pipelines)
    call(clone.folder, "git", *IDENTITY, "revert", "--no-edit", "HEAD")
    clone.run("bench", *whole)
    for subject in ("Name what a block is not (no change)", ""):
        clone.commit(subject) if subject else clone.change(1)
    clone.commit("Say what is left to do (no change)")
    clone.run("bench", *whole)
    workloads = [word for name in options.workload or () for word in ("--workload", name)]
    clone.run("gate", "HEAD~3", "HEAD", "--target", "numpy@cpu", "--budget", options.budget,
              *workloads, codes=(0, 1, 3))  # fmt: skip


def write(clone: Clone, output: Path) -> None:
    """Write the page and its pictures there, without the paths of this machine."""
    drawn = {"report.html": "html", "gate.svg": "svg:gate-1"}
    output.mkdir(parents=True, exist_ok=True)
    for name, form in drawn.items():
        clone.run("report", "--format", form, "--output", str(output / name))
        text = (output / name).read_text(encoding="utf-8")
        text = re.sub(r"existing-py[\w.-]+", "existing-py", text)  # asv's name of a path
        (output / name).write_text(text, encoding="utf-8")
        if str(clone.folder) in text or str(ROOT) in text:
            sys.exit(f"{name} names a folder of this machine")
    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if chromium is None:
        print("There is no Chromium: the picture of the first screen is left as it is.")
        return
    size, picture = f"--window-size={SCREEN[0]},{SCREEN[1]}", f"--screenshot={output / 'first.png'}"
    words = ("--headless", "--no-sandbox", "--hide-scrollbars", "--virtual-time-budget=10000")
    done = call(output, chromium, *words, size, picture, (output / "report.html").as_uri())
    if done.returncode:
        sys.exit(done.stderr)


def main() -> None:
    """Make the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", default="standard", help="of workloads; default: standard")
    parser.add_argument("--bench", help="only what matches, instead, of every commit: to try it")
    parser.add_argument("--workload", action="append", help="to gate; repeatable; default: smoke")
    parser.add_argument("--budget", default="5m", help="of the gate; default: 5m")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave the clone there")
    parser.add_argument("--output", type=Path, default=ROOT / "reports" / "example")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="convbench-example-") as name:
        clone = Clone((options.keep or Path(name) / "convbench").resolve())
        make(clone, options)
        write(clone, options.output.resolve())


if __name__ == "__main__":
    main()
