# ruff: noqa: T201  (a script talks to whoever started it)
"""Is convbench at home in a repository that it has never seen? Makes some, and walks through them.

    .venv/bin/python studies/repositories.py [--libraries FOLDER] > reports/repositories.md

Each begins with an empty folder and the built wheel, as somebody's would who has a kernel in Numba,
C or PyTorch: a virtual environment, `pip install`, `convbench init --template`, their kernel in the
place of the template's, verify, measure, audit, and two commits on top of the first: one that is
slower and one that is wrong. `convbench gate` has to find both, and what it does not find makes
this script fail. Every command is run as it is printed, and timed.

Libraries are those of the Python that runs this, and of --libraries; none is installed, and a
repository whose library is absent is not made.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from flit_core.wheel import make_wheel_in

from convbench.machine import facts

ROOT = Path(__file__).parents[1]
CELLS = ("notebook.conv", "mobilenet_v2.b14_dw")
"""What is audited and gated, unless others are named: it takes microseconds and milliseconds."""
LINES_SHOWN = 8
"""Of what a command prints, at most; the verdict of each stands in the first."""


@dataclass(frozen=True, slots=True)
class Story:
    """What somebody does to a template.

    Attributes
    ----------
    name : str
        Of the repository, and so of its backend.
    template, library : str
        What it begins with, and the module that this needs.
    filled, slower, wrong : tuple of (str, str)
        What replaces what: the kernel of one's own, and then two changes of that.
    said : tuple of str
        The subjects of the two commits, which say what was planted.
    """

    name: str
    template: str
    library: str
    filled: tuple[str, str]
    slower: tuple[str, str]
    wrong: tuple[str, str]
    said: tuple[str, str]


_NUMBA = """\
                for o in range(k):
                    total, first = bias[o], o // (k // groups) * c
                    for a in range(r):
                        i = row % p * row_stride + a * row_dilation - top
                        if 0 <= i < h:
                            for b in range(s):
                                seen = j * stride + b * dilation - left
                                if 0 <= seen < w:
                                    for d in range(c):
                                        value = x[row // p, i, seen, first + d]
                                        total += value * filters[a, b, d, o]
                    y[row // p, row % p, j, o] = total
"""
_NUMBA_BY_GROUPS = """\
                each, made = k // groups, y[row // p, row % p, j]
                made[:] = bias
                for a in range(r):
                    i = row % p * row_stride + a * row_dilation - top
                    if 0 <= i < h:
                        for b in range(s):
                            seen = j * stride + b * dilation - left
                            if 0 <= seen < w:
                                for d in range(c):
                                    for g in range(groups):
                                        value = x[row // p, i, seen, g * c + d]
                                        for o in range(g * each, g * each + each):
                                            made[o] += value * filters[a, b, d, o]
"""
_CALL = "function(x, filters, bias, *numbers)"
_C = """\
      for (long d = 0; d < each; d++) for (long o = 0; o < k; o++)
        y[i * k + o] += seen[o / of_group * each + d] * f[((a * z[5] + b) * each + d) * k + o];
"""
_C_BY_GROUPS = """\
      for (long d = 0; d < each; d++) for (long g = 0; g < z[7]; g++)
        for (long o = g * of_group; o < (g + 1) * of_group; o++)
          y[i * k + o] += seen[g * each + d] * f[((a * z[5] + b) * each + d) * k + o];
"""
_TORCH = "            return y.permute(0, 2, 3, 1).contiguous()\n"

STORIES = (
    Story(
        "numba-kernel", "numba", "numba",
        filled=(_NUMBA, _NUMBA_BY_GROUPS),
        slower=(_CALL, f"({_CALL}, {_CALL})[1]"),
        wrong=("a * row_dilation - top", "(r - 1 - a) * row_dilation - top"),
        said=("Compute everything twice", "Read the rows of a filter from below"),
    ),
    Story(
        "c-kernel", "cffi", "cffi",
        filled=(_C, _C_BY_GROUPS),
        slower=('"-O3"', '"-O0"'),
        wrong=("b < z[5]; b++", "b < z[5] - (z[5] > 1); b++"),
        said=("Compile with -O0, for the debugger", "Leave out the last column of a filter"),
    ),
    Story(
        "torch-kernel", "torch", "torch",
        filled=("1).contiguous()  #", "1).contiguous(memory_format=torch.channels_last)  #"),
        slower=(_TORCH, _TORCH.replace("y.", "y.contiguous().")),
        wrong=("filters.permute(3, 2, 0, 1)", "filters.permute(3, 2, 1, 0)"),
        said=("Copy the output once more", "Swap the rows and columns of a filter"),
    ),
)  # fmt: skip


@dataclass(slots=True)
class Repository:
    """A folder in which commands are run, and what they took.

    Attributes
    ----------
    took_s : list of float
        The seconds of each command.
    missed : list of str
        What a command should have said, and did not.
    """

    folder: Path
    libraries: list[str]
    took_s: list[float] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def run(self, line: str, code: int = 0, shown: str = "") -> str:
        """Run a command and print it with what it said: the lines in which `shown` is found.

        Its first word is returned, which is the verdict of a gate.
        """
        venv = self.folder / ".venv"
        left_out = {"PYTHONPATH", "CONVBENCH_EXTRA_TARGETS", "VIRTUAL_ENV"}
        kept = {name: value for name, value in os.environ.items() if name not in left_out}
        words = shlex.split(line)
        begun_s = time.monotonic()
        done = subprocess.run(
            words, cwd=self.folder, capture_output=True, text=True, check=False,
            env=kept | {"PATH": f"{venv / 'bin'}:{Path(sys.executable).parent}:{kept['PATH']}"},
        )  # fmt: skip
        self.took_s.append(time.monotonic() - begun_s)
        said = [re.sub(r"  +", "  ", text.rstrip()) for text in done.stdout.splitlines()]
        said = [text for text in said if shown and re.search(shown, text)]
        print(f"$ {line}    # {self.took_s[-1]:.0f} s")
        print("".join(f"{text}\n" for text in said[:LINES_SHOWN]), end="")
        if len(said) > LINES_SHOWN:
            print(f"... {len(said) - LINES_SHOWN} lines more")
        if done.returncode != code:
            self.missed.append(f"`{line}` left with {done.returncode}; expected {code}")
            why = done.stderr.strip()[-2000:].replace(f"{self.folder.parent}/", "")
            print(f"{done.returncode}, expected {code}\n{why}")
        elif code:
            print(f"exit status {code}")
        return done.stdout.partition(":")[0]

    def see_libraries(self) -> None:
        """Have the environment find what is installed here, in the place of an index."""
        (site,) = self.folder.glob(".venv/lib/python*/site-packages")
        (site / "libraries.pth").write_text("\n".join(self.libraries))

    def change(self, path: Path, change: tuple[str, str], what: str) -> None:
        """Edit a file, as somebody would."""
        before, after = change
        text = path.read_text(encoding="utf-8")
        if text.count(before) != 1:
            sys.exit(f"{path.name} has {before!r} {text.count(before)} times: mend {__file__}")
        path.write_text(text.replace(before, after), encoding="utf-8")
        print(f"  (edited: {what})")

    def commit(self, subject: str) -> None:
        """All that there is."""
        self.run("git add --all")
        self.run(f"git commit --quiet --message {shlex.quote(subject)}")


def walk(
    story: Story, repository: Repository, wheel: Path, workloads: Sequence[str], budget: str
) -> list[str]:
    """Do all that a newcomer does, printing it; what the gate said of the two commits."""
    run, target = repository.run, f"{story.name.replace('-', '_')}@cpu"
    backend = repository.folder / "src" / story.name.replace("-", "_") / "convbench.py"
    offline = "--quiet --no-index --no-deps --no-build-isolation --force-reinstall"
    cells = " ".join(f"--workload {name}" for name in workloads)
    gate = f"convbench gate HEAD~1 HEAD --target {target} {cells} --budget {budget}"
    rows = r"^[A-Z]|^ .*" + re.escape(target)
    run("git init --quiet")
    run("git config user.name somebody")
    run("git config user.email somebody@example.org")
    run(f"{Path(sys.executable).name} -m venv .venv")
    repository.see_libraries()
    run(f"pip install {offline} ../{wheel.name}")
    run(f"convbench init --template {story.template}", shown="^(write|extend)")
    repository.change(backend, story.filled, "the kernel, in the place of the template's")
    run(f"pip install {offline} --editable .")
    run(f"convbench verify --target {target}", shown=r"^\d+ cells")
    repository.commit("Measure with convbench")
    measured = shlex.quote(f"pipeline.Smoke.*{target}.*{workloads[0]}")
    run(f"convbench bench --bench {measured}", shown=rows)
    run(f"convbench audit --target {target} {cells}", shown=rows)
    verdicts = []
    for subject, change, code in zip(story.said, (story.slower, story.wrong), (1, 2), strict=True):
        repository.change(backend, change, subject)
        repository.commit(subject)
        verdicts.append(run(gate, code, shown=rows))
    return verdicts


def main() -> None:
    """Make each, print what happened, and fail if anything went otherwise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--libraries", action="append", type=Path, default=[], metavar="FOLDER",
        help="where `pip install --target` has put some; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--workload", action="append", help="to audit and gate; repeatable; default: two"
    )
    parser.add_argument("--budget", default="3m", help="of each gate; default: 3m")
    parser.add_argument("--only", action="append", help="a repository; repeatable; default: all")
    options = parser.parse_args()
    libraries = [path for path in sys.path if path.endswith("site-packages")]
    libraries += [str(folder.resolve()) for folder in options.libraries]
    machine = facts.machine_facts()
    begun_load = facts.moment().get("load_1min", 0.0)
    table = [
        "| repository | commands | minutes of waiting | the slower commit | the wrong commit |"
    ]
    table += ["|---|--:|--:|---|---|"]
    missed: list[str] = []
    transcripts = io.StringIO()
    with tempfile.TemporaryDirectory(prefix="convbench-repositories-") as name:
        wheel = make_wheel_in(ROOT / "pyproject.toml", Path(name)).file
        for story in STORIES:
            if options.only and story.name not in options.only:
                continue
            with contextlib.redirect_stdout(transcripts):
                print(f"\n## {story.name}: `--template {story.template}`\n")
                if not _is_there(story.library, libraries):
                    print(f"Not made: there is no {story.library} here.")
                    continue
                repository = Repository(Path(name) / story.name, libraries)
                repository.folder.mkdir()
                print("```console")
                verdicts = walk(story, repository, wheel, options.workload or CELLS, options.budget)
                print("```")
            took = f"{len(repository.took_s)} | {sum(repository.took_s) / 60:.1f}"
            table.append(f"| {story.name} | {took} | {' | '.join(verdicts)} |")
            missed += [f"{story.name}: {what}" for what in repository.missed]
    loads = sorted((begun_load, facts.moment().get("load_15min", 0.0)))
    print("# Three repositories, made from nothing\n")
    print(f"`python studies/repositories.py`, {time.strftime('%Y-%m-%d')}:", end=" ")
    print(f"{machine.get('cpu_model')}, {machine.get('logical_cores')} cores,", end=" ")
    print(f"with a load of {loads[0]:.0f} to {loads[1]:.0f}. The libraries were there", end=" ")
    print("already: what pip takes to fetch them is not counted.\n")
    print("\n".join(table))
    print(f"\nWhat went otherwise than it should: {'; '.join(missed) or 'nothing'}.")
    print(transcripts.getvalue(), end="")
    sys.exit(bool(missed))


def _is_there(library: str, libraries: list[str]) -> bool:
    return find_spec(library) is not None or any(Path(f, library).exists() for f in libraries)


if __name__ == "__main__":
    main()
