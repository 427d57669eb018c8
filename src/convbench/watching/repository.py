"""The watch's own clone: what is new on the branches, and one commit after the other checked out.

It lies below the folder of the watch, and so do the results: the checkout that somebody works in is
left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from convbench.errors import InputError
from convbench.machine.git import ancestors, git, output, surroundings
from convbench.watching.children import run

# What the code under test may have left in the clone is not run by us.
_PLAIN = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "gc.auto=0")
_REMOTE = "watched"


@dataclass(frozen=True, slots=True)
class Clone:
    """A clone, with its HEAD detached.

    Attributes
    ----------
    origin : str
        The address or the folder that it fetches from; it may hold a password.
    patterns : tuple of str
        The branches that are watched, as in ``main``, ``release/*`` or ``refs/pull/*/head``.
    """

    folder: Path
    origin: str = field(repr=False)
    patterns: tuple[str, ...]
    limit_s: float
    stopping: Callable[[], object]

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for lock in self.folder.glob(".git/**/*.lock"):  # whom it belonged to was killed with us
            lock.unlink(missing_ok=True)
        self._asked("init", "--quiet", ".")
        exclude = self.folder / ".git" / "info" / "exclude"
        exclude.parent.mkdir(exist_ok=True)
        exclude.write_text(".asv\n", encoding="utf-8")

    def fetch(self) -> str:
        """Fetch all branches; what went wrong, or ""."""
        # In a variable, so that neither a list of processes nor the clone's configuration shows it.
        address = {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"remote.{_REMOTE}.url",
            "GIT_CONFIG_VALUE_0": self.origin,
            "GIT_TERMINAL_PROMPT": "0",
        }
        refs = [name for name in self.patterns if name.startswith("refs/")]
        words = ("fetch", "--quiet", "--prune", "--update-head-ok", _REMOTE)
        done = run(
            ["git", *_PLAIN, *words, *(f"+{name}:{name}" for name in ("refs/heads/*", *refs))],
            self.folder, self.folder.parent / "logs" / "fetch", self.limit_s, self.stopping,
            surroundings() | address,
        )  # fmt: skip
        if done.code == 0:
            return ""
        return f"git fetch ended with {done.code}: {hidden(done.why, self.origin)}"

    def tips(self) -> dict[str, str]:
        """The branches that are watched, and their commits, in the order of the patterns."""
        found: dict[str, str] = {}
        for name in self.patterns:
            pattern = name if name.startswith("refs/") else f"refs/heads/{name}"
            listed = self._asked("for-each-ref", "--format=%(objectname) %(refname)", pattern)
            for line in listed.splitlines():
                commit, _, reference = line.partition(" ")
                found.setdefault(reference.removeprefix("refs/heads/"), commit)
        return found

    def new(self, tips: Mapping[str, str], anchors: Collection[str]) -> dict[str, list[str]]:
        """Commits that are reachable from no anchor, the oldest first, with their branches.

        What a merge has brought in is a part of what it has changed. Without an anchor, as at
        first, the tips alone are new.
        """
        known = [f"^{anchor}" for anchor in self.there(anchors)]
        found: dict[str, list[str]] = {}
        for branch, tip in tips.items():
            words = (
                ("--reverse", "--first-parent", tip, *known) if known else ("--max-count=1", tip)
            )
            for commit in self._asked("rev-list", *words).split():
                found.setdefault(commit, []).append(branch)
        return found

    def independent(self, commits: Iterable[str]) -> tuple[str, ...]:
        """Those of them from which all others can be reached."""
        there = self.there(commits)
        return tuple(self._asked("merge-base", "--independent", *there).split()) if there else ()

    def gone(self, commits: Iterable[str], tips: Iterable[str]) -> set[str]:
        """Those of some commits that none of the tips has."""
        there = self.there(commits)
        words = ("rev-list", *there, *(f"^{tip}" for tip in tips))
        return {*commits} - {*there} | ({*self._asked(*words).split()} if there else set())

    def there(self, commits: Iterable[str]) -> list[str]:
        """Those of some commits that the clone has."""
        words = ("cat-file", "--batch-check=%(objectname) %(objecttype)")
        lines = git(self.folder, *words, said="\n".join(dict.fromkeys(commits))).splitlines()
        return [line.split()[0] for line in lines if line.endswith(" commit")]

    def range(self, base: str, head: str) -> tuple[str, ...]:
        """What lies after the one and up to the other, the oldest first."""
        words = ("rev-list", "--reverse", "--first-parent", head, f"^{base}")
        return tuple(self._asked(*words).split()) or (head,)

    def nearest(self, commit: str, of: Collection[str]) -> str:
        """The nearest ancestor of a commit that is one of these; "" if none is."""
        return next((c for c in ancestors(commit, self.folder) or () if c in of), "")

    def fork(self, base: str, commit: str) -> str:
        """Where a commit has left a base; "" if that is nowhere, or the commit itself."""
        found = git(self.folder, "merge-base", "--end-of-options", base, commit)
        return "" if found == commit else found

    def check_out(self, commit: str) -> None:
        """Have its files in the folder, and nothing else but the results.

        Raises
        ------
        InputError
            If that cannot be.
        """
        self._asked("checkout", "--quiet", "--force", "--detach", commit)
        self._asked("clean", "--quiet", "-ffdx", "--exclude=.asv")

    def _asked(self, *words: str) -> str:
        found = output(self.folder, *_PLAIN, *words)
        if found is None:
            raise InputError(
                f"{self.folder}: the answer of git {' '.join(words[:1])} is an error; expected a"
                " clone with all that was fetched, and room for it. Remove it: it is made again."
            )
        return found.decode(errors="replace").strip()


def origin_of(root: Path, named: str) -> str:
    """Where a project is fetched from: what it names, or its origin, or itself."""
    address = named or git(root, "remote", "get-url", "origin") or str(root)
    return str(root / address) if (root / address).exists() else address


def hidden(text: str, address: str) -> str:
    """A text, without what of an address may be secret.

    Examples
    --------
    >>> hidden("no https://me:word@host/x.git", "https://me:word@host/x.git")
    'no https://host/x.git'
    """
    return re.sub(
        r"(?<=://)[^/@\\s]*@", "", text.replace(address, re.sub(r"(?<=://)[^/@]*@", "", address))
    )
