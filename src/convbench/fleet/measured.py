"""Checks a commit out and has `convbench bench` measure it: a unit, behind its guard.

The clone and the environments are shared by the workers of a machine; the checkout is a worker's
own. `convbench bench` is the one that it would be in a clone of that commit: convbench's own
repository measures itself, and another's is measured by what is installed here.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from convbench.errors import ConvbenchError, InputError
from convbench.gate.build import Wanted, build
from convbench.machine.files import write
from convbench.machine.git import git
from convbench.machine.project import Project
from convbench.results.folder import Folder
from convbench.words.status import Exit


def main(do: Callable[[dict[str, Any], Path, Path, Path], dict[str, Any]]) -> int:
    """Do what ``asked.json`` asks for; ``result.json`` beside it says what came of it.

    The folders are the arguments of the process: that of all workers of a user here, that of this
    one, and the home of this process, with both files.
    """
    root, own, home = map(Path, sys.argv[1:])
    try:
        measured = do(json.loads((home / "asked.json").read_bytes()), root, own, home)
    except (ConvbenchError, OSError) as error:
        say(str(error))
        return Exit.INPUT
    write(home / "result.json", json.dumps(measured, default=str))
    return Exit.OK


@contextlib.contextmanager
def cloned(asked: dict[str, Any], root: Path, home: Path) -> Iterator[Path]:
    """Have what was sent in the clone of its repository, which nobody else changes meanwhile."""
    if not re.fullmatch(r"[0-9a-f]{40}", asked["repository"]):
        raise InputError(
            f"fleet: the repository is {asked['repository']!r}; expected the hash of its first"
            " commit. Ask with `convbench fleet`."
        )
    clone = root / "repositories" / asked["repository"]
    clone.mkdir(parents=True, exist_ok=True)
    with clone.with_name(f"{clone.name}.lock").open("ab") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        _clone(clone, asked, home / "pack")
        yield clone


def _measure(asked: dict[str, Any], root: Path, own: Path, home: Path) -> dict[str, Any]:
    checkout = own / asked["repository"]
    (commit,) = asked["commits"]
    with cloned(asked, root, home) as clone:
        _check_out(commit, clone, checkout)
    built = build(Wanted(commit), clone / asked["place"], say)
    here = checkout / asked["place"]
    # The sources that are measured are those of the checkout, which has all of the commit; what
    # the gate has built says which entry points they register.
    front = here / "src" if (here / "src").is_dir() else here
    path = os.pathsep.join(
        filter(None, (str(front), str(built.source), os.environ.get("PYTHONPATH")))
    )
    rounds = ("--rounds", str(asked["rounds"])) if asked["rounds"] else ()
    cells = [word for name in asked["cells"] for word in ("--bench", f"^{re.escape(name)}$")]
    done = subprocess.run(
        [str(built.python), "-m", "convbench", "bench", *cells, *rounds],
        cwd=here, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": path, "ASV_PYTHONPATH": path},
    )  # fmt: skip
    folder = Folder.of_config(Project.find(here).config)
    found = [*folder.results.glob("*/*.json"), *folder.evidence.glob("*/*.jsonl")]
    texts = {f"{file.parent.name}/{file.name}": file.read_text("utf-8") for file in found}
    return {"code": done.returncode, "files": texts}


def _clone(clone: Path, asked: dict[str, Any], pack: Path) -> None:
    """Have all that was sent, at its head: a worker's own libraries are meant to be those of it."""
    if not (clone / ".git").is_dir():
        _git(clone, "init", "--quiet")
        _git(clone, "config", "gc.auto", "0")  # no branch holds what was sent
        # Whatever a project ignores: what measuring leaves is no change of the tree.
        write(clone / ".git" / "info" / "exclude", ".asv/\n__pycache__/\n", parents=True)
    ends = clone / ".git" / "shallow"  # of a clone that has not all of the history
    known = {*ends.read_text().split()} if ends.is_file() else set()
    if not known >= {*asked["shallow"]}:
        write(ends, "".join(f"{commit}\n" for commit in sorted(known | {*asked["shallow"]})))
    if not all(git(clone, "cat-file", "-t", each) for each in (asked["head"], *asked["commits"])):
        with pack.open("rb") as sent:
            _git(clone, "index-pack", "--stdin", "--strict", stdin=sent)
    if git(clone, "rev-parse", "--verify", "--quiet", "HEAD") != asked["head"]:
        _git(clone, "checkout", "--quiet", "--force", "--detach", asked["head"])


def _check_out(commit: str, clone: Path, checkout: Path) -> None:
    """The commit, all of it and nothing else but what Python has compiled of it."""
    common = checkout.is_dir() and git(checkout, "rev-parse", "--git-common-dir")
    if not common or Path(common) != (clone / ".git").resolve():
        _git(clone, "worktree", "prune")
        _git(clone, "worktree", "add", "--quiet", "--force", "--detach", str(checkout), commit)
        return
    compiled = ("--exclude=__pycache__",) if git(checkout, "rev-parse", "HEAD") == commit else ()
    _git(checkout, "checkout", "--quiet", "--force", "--detach", commit)
    _git(checkout, "clean", "-ffdxq", *compiled)


def _git(folder: Path, *words: str, stdin: Any = subprocess.DEVNULL) -> None:
    done = subprocess.run(
        ["git", "-c", "advice.detachedHead=false", *words],
        cwd=folder, check=False, text=True, errors="replace",
        stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if done.returncode:
        raise InputError(
            f"fleet: what `git {words[0]}` makes of {folder} is an error ({done.stdout.strip()});"
            " expected a repository with all that was sent. Make room, or remove that folder."
        )


def say(text: str) -> None:
    """Write a line for whoever has asked."""
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main(_measure))
