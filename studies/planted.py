# ruff: noqa: T201  (a script talks to whoever started it)
"""Does the whole chain see what was done? Measures five real commits, and compares them in pairs.

    .venv/bin/python studies/planted.py [--keep FOLDER] > reports/planted.md

In a clone of this repository, four commits are made on top of the one that is checked out: one that
changes nothing, one that makes NumPy about 30 % slower, one that makes it wrong, and one that makes
it faster and wrong. Plain `asv run` builds and measures all five, `convbench compare` says what
became of each, and the transcript is printed as Markdown.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from convbench.machine import facts

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@example.org")
SOURCES = Path("src", "convbench", "backends")
BENCH = r"(pipeline|accuracy)\.Smoke\..*'numpy@cpu'"

_PLANNED = (
    "        return in_float32(partial(plan, pipeline, method=self.variant), self.place(weights))"
)
CHANGES = (
    (
        "Say what a block is (no change)",
        "methods/blocks.py",
        "_Block = tuple",
        "# A part of the output.\n_Block = tuple",
    ),
    (
        "Compute three calls of ten twice (30 % slower)",
        "numpy.py",
        _PLANNED,
        _PLANNED.replace("return", "made =")
        + "\n        return replace(made, function=_often_twice(made.function))",
    ),
    (
        "Turn the filters by a column (wrong)",
        "numpy.py",
        "        if filters is not None:\n",
        "        if filters is not None:\n            filters = np.roll(filters, 1, axis=1)\n",
    ),
    (
        "Leave out the last quarter of every block (faster, and wrong)",
        "methods/blocks.py",
        "                self._compute(images, a, b, out)",
        "                b -= (b - a) // 4\n"
        "                self._compute(images, a, b, out[:, : b - a])",
    ),
)
TWICE = """

def _often_twice(run: Any) -> Any:
    calls = iter(range(1 << 62))

    def slower(x: Any) -> Any:
        if next(calls) % 10 < 3:
            run(x)
        return run(x)

    return slower
"""


def call(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command there."""
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)


def plant(folder: Path) -> list[str]:
    """Make the commits, each on top of the first alone: their hashes, the first one's too."""
    commits = [call(folder, "git", "rev-parse", "HEAD").stdout.strip()]
    for subject, name, before, after in CHANGES:
        call(folder, "git", "checkout", "--quiet", commits[0], "--", ".")
        path = folder / SOURCES / name
        right = path.read_text()
        if before not in right:
            sys.exit(f"{name} has no {before!r} any more: mend CHANGES in {__file__}")
        text = right.replace(before, after)
        if "_often_twice" in text:
            text += TWICE
        path.write_text(text)
        call(folder, "git", *IDENTITY, "commit", "--quiet", "-am", subject)
        commits.append(call(folder, "git", "rev-parse", "HEAD").stdout.strip())
    return commits


def show(words: str, done: subprocess.CompletedProcess[str], seconds: float | None = None) -> None:
    """Print a command as a person would have typed it, with what it printed."""
    took = "" if seconds is None else f"    # {seconds:.0f} s"
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    print(f"```console\n$ {words}; echo $?{took}")
    print("\n".join(line for line in lines if line) or done.stderr.strip())
    print(f"{done.returncode}\n```\n")


def main() -> None:
    """Plant, measure, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="leave the clone, with its results, here")
    options = parser.parse_args()
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # on a busy machine two threads wait for each other
    with tempfile.TemporaryDirectory(prefix="convbench-planted-") as name:
        folder = options.keep or Path(name) / "project"
        call(ROOT, "git", "clone", "--quiet", "--shared", str(ROOT), str(folder))
        commits = plant(folder)
        (folder / "commits").write_text("\n".join(commits) + "\n")
        begun = time.monotonic()
        measured = call(
            folder, str(BIN / "asv"), "run", "--launch-method", "forkserver",
            "--bench", BENCH, "HASHFILE:commits",
        )  # fmt: skip
        seconds = time.monotonic() - begun
        if measured.returncode not in (0, 2):
            sys.exit(measured.stdout + measured.stderr)
        machine, now = facts.machine_facts(), facts.moment()
        print("# Five real commits: one unchanged, one slower, one wrong, one faster and wrong\n")
        print(f"Made by `python studies/planted.py` on {time.strftime('%Y-%m-%d')}:", end=" ")
        print(f"{machine.get('cpu_model')}, {machine.get('logical_cores')} cores, load", end=" ")
        print(f"{now.get('load_1min', '?')} at the end, OPENBLAS_NUM_THREADS=1.\n")
        print(f'`asv run --bench "{BENCH}"` built and measured them in {seconds:.0f} s.', end=" ")
        print(f"They are in a clone, on top of {commits[0][:8]}.\n")
        for commit, (subject, _, _) in zip(commits[1:], CHANGES, strict=True):
            print(f"## {subject}\n")
            done = call(folder, str(BIN / "convbench"), "compare", commits[0], commit)
            show(f"convbench compare {commits[0][:8]} {commit[:8]}", done)


if __name__ == "__main__":
    main()
