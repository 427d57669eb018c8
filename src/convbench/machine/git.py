"""git, asked; what it does not know, or where it is not there, is no error."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path


def full_hash(revision: str, folder: Path | None = None) -> str | None:
    """What git makes of a name; None if it does not know it, or there is no git."""
    return git(folder, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}") or None


def is_shallow(folder: Path | None = None) -> bool:
    """Whether a clone lacks commits that are older than those that it has."""
    return git(folder, "rev-parse", "--is-shallow-repository") == "true"


UNSHALLOW = (
    "`git fetch --unshallow` brings the others, and `git fetch --deepen=N` the N before those"
    " that are here."
)
"""What to do about a shallow clone."""


def ancestors(commit: str, folder: Path | None = None) -> tuple[str, ...] | None:
    """What a commit was made from, the nearest first; None if git does not know it.

    First come those of its own line, from first parent to first parent, as asv follows a branch:
    what a merge has brought in is a part of what it has changed. After them come the others, none
    of them before one that was made from it.
    """
    if re.fullmatch(r"[0-9a-f]{4,64}", commit) is None:  # git takes some names for options
        return None
    line = git(folder, "rev-list", "--first-parent", commit).split()
    others = git(folder, "rev-list", "--topo-order", commit).split()
    return tuple(dict.fromkeys((*line, *others)))[1:] if line else None


def apart(older: str, newer: str, folder: Path | None = None) -> int:
    """How many commits the newer one has that the older one has not; 0 if git does not know it."""
    if not all(re.fullmatch(r"[0-9a-f]{4,64}", commit) for commit in (older, newer)):
        return 0
    return int(git(folder, "rev-list", "--count", newer, f"^{older}") or 0)


def subjects(commits: Iterable[str], folder: Path | None = None) -> dict[str, str]:
    """The first lines of the messages of those commits that git knows."""
    # Names come from files, and git takes some words on its standard input for options.
    hashes = [commit for commit in commits if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", commit)]
    if not hashes:
        return {}
    words = ("log", "--no-walk=unsorted", "--ignore-missing", "--stdin", "--format=%H %s")
    # A subject may hold what splitlines takes for the end of a line.
    lines = git(folder, *words, said="\n".join(hashes)).split("\n")
    parts = (line.partition(" ") for line in lines if line)
    return {commit: subject for commit, _, subject in parts}


def complaint(folder: Path | None = None) -> str:
    """Why git does not answer in a repository, in its words; "" if it does, or this is none."""
    try:
        import subprocess  # noqa: PLC0415  # the commands' help does not wait for it

        found = subprocess.run(
            ["git", "rev-parse", "--git-dir"],
            capture_output=True, check=False, cwd=folder, text=True, errors="replace",
        )  # fmt: skip
    except OSError as error:
        return f"git does not start: {error}"
    said = " ".join(found.stderr.split())
    return "" if found.returncode == 0 or "not a git repository" in said else f"git says: {said}"


def changes(folder: Path, but: Iterable[Path] = (), *, content: bool = False) -> str:
    """What the working tree of a repository has that HEAD has not, as git lists it.

    Parameters
    ----------
    folder : Path
        In the repository.
    but : iterable of Path
        Of what lies in these nothing is said.
    content : bool
        What differs in files that git knows, and not which files there are.
    """
    top = git(folder, "rev-parse", "--show-toplevel")
    inside = [p for p in (path.resolve() for path in but) if p.is_relative_to(top)]
    left_out = [f":(top,exclude,literal){path.relative_to(top).as_posix()}" for path in inside]
    asked = ("diff", "HEAD") if content else ("status", "--porcelain")
    return git(folder, *asked, "--", ":/", *left_out)


def git(folder: Path | None, *arguments: str, said: str = "") -> str:
    """What git prints; "" where it fails, or is not there.

    Parameters
    ----------
    said : str
        What it reads on its standard input.
    """
    found = output(folder, *arguments, said=said)
    return "" if found is None else found.decode(errors="replace").strip()


_OF_ONE_REPOSITORY = re.compile(
    "GIT_(DIR|WORK_TREE|INDEX_FILE|COMMON_DIR|OBJECT_DIRECTORY|ALTERNATE_OBJECT_DIRECTORIES|"
    "NAMESPACE|PREFIX|GRAFT_FILE|SHALLOW_FILE|INTERNAL_SUPER_PREFIX|IMPLICIT_WORK_TREE|CONFIG)"
)


def surroundings() -> dict[str, str]:
    """Our environment without what git sets in hooks and aliases, and so names another folder."""
    return {n: v for n, v in os.environ.items() if not _OF_ONE_REPOSITORY.fullmatch(n)}


def output(
    folder: Path | None, *arguments: str, said: str = "", variables: Mapping[str, str] | None = None
) -> bytes | None:
    """What git prints, as it is; None where it fails, or is not there.

    Parameters
    ----------
    variables : mapping of str to str, optional
        Of its environment, beside ours.
    """
    try:
        import subprocess  # noqa: PLC0415  # the commands' help does not wait for it

        found = subprocess.run(
            ["git", *arguments], capture_output=True, check=False, cwd=folder, input=said.encode(),
            env=(surroundings() if folder else {**os.environ}) | {**(variables or {})},
        )  # fmt: skip
    except OSError:
        return None
    return found.stdout if found.returncode == 0 else None
