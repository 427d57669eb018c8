"""Which results a person means: ``REVISION[:ENVIRONMENT[:MACHINE]]`` to the records of a side."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from convbench.errors import InputError
from convbench.machine.git import UNSHALLOW, is_shallow
from convbench.results.folder import SHORT, Folder, short
from convbench.results.machines import names
from convbench.results.records import Place, Record, load

_LISTED = 10


@dataclass(frozen=True, slots=True)
class Coordinate:
    """``REVISION[:ENVIRONMENT[:MACHINE]]``, as a person writes a side of a comparison.

    Examples
    --------
    >>> Coordinate.parse("HEAD~1::vm", "compare")
    Coordinate(revision='HEAD~1', environment='', machine='vm')
    """

    revision: str
    environment: str = ""
    machine: str = ""

    @classmethod
    def parse(cls, text: str, command: str) -> Self:
        """Read one, as the command that is named in the message got it.

        Raises
        ------
        InputError
            If there is no revision.
        """
        parts = [part.strip() for part in text.split(":", maxsplit=2)]
        if not parts[0]:
            raise InputError(
                f"{command}: a side is {text!r}; expected REVISION[:ENVIRONMENT[:MACHINE]]. Name a "
                "commit, as in HEAD~1 or 1a2b3c4d:py3.12:."
            )
        return cls(*parts)

    def called(self, called: Mapping[str, str]) -> Self:
        """The same with the machine's one name; see :func:`convbench.results.machines.names`."""
        return replace(self, machine=called.get(self.machine, self.machine))

    def __str__(self) -> str:
        return ":".join((self.revision, self.environment, self.machine)).rstrip(":")


@dataclass(frozen=True, slots=True)
class Side:
    """Where one side of a comparison was measured, and what.

    The hash is in full if any of it was measured. Environment and machine are "" if not, and where
    the other side of a comparison was not.
    """

    commit: str
    environment: str
    machine: str
    records: tuple[Record, ...] = field(default=(), repr=False)

    @property
    def name(self) -> str:
        """As a coordinate, to be pasted into a shell."""
        return _pasted(self.commit, self.environment, self.machine)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the records."""
        return {"commit": self.commit, "environment": self.environment, "machine": self.machine}


def find_commit(
    revision: str, measured: Sequence[str], full_hash: Callable[[str], str | None], command: str
) -> str:
    """The hash, or its first eight digits, of the commit that a revision means.

    Parameters
    ----------
    revision : str
        Anything that git understands, or the start of the hash of a commit that was measured.
    measured : sequence of str
        See :meth:`~convbench.results.folder.Folder.named_commits`.
    full_hash : callable
        What git makes of a revision; None if it cannot. What it knows need not be measured.
    command : str
        Which one was run: the message begins with it.

    Raises
    ------
    InputError
        If it means nothing, or several commits.
    """
    full = full_hash(revision)
    if full is not None and short(full) in measured:
        return full
    start = revision.lower()
    hexadecimal = re.fullmatch(r"[0-9a-f]{1,40}", start)
    matches = [prefix for prefix in measured if hexadecimal and prefix.startswith(short(start))]
    if len(matches) == 1:
        return start if len(start) > SHORT else matches[0]
    if full is not None:
        return full
    if matches:
        raise InputError(
            f"{command}: the revision is {revision!r}, which several commits begin with; expected "
            f"one of {listed(matches)}. Give more of the hash."
        )
    clone, to_do = "git", "`convbench results` shows what is there."
    if is_shallow():
        clone, to_do = "git, whose clone here is shallow,", UNSHALLOW
    raise InputError(
        f"{command}: the revision is {revision!r}, unknown to {clone} and the start of no result; "
        f"expected a revision, or one of what was measured: {listed(measured)}. {to_do}"
    )


_LOOKED_UP = 20


def unmeasured_head(
    measured: Sequence[str], full_hash: Callable[[str], str | None], *, elsewhere: bool
) -> str:
    """HEAD of git if nothing was measured of it; "" if something was, or git has none.

    Parameters
    ----------
    measured, full_hash
        As for :func:`find_commit`.
    elsewhere : bool
        The folder of results was named, and may be of another repository than the one here: it is
        if git knows none of its latest commits, and then HEAD has nothing to do with it.
    """
    here = full_hash("HEAD")
    if not here or short(here) in measured:
        return ""
    return "" if elsewhere and not any(map(full_hash, measured[:_LOOKED_UP])) else here


def choose_sides(
    base: Coordinate,
    head: Coordinate,
    commits: tuple[str, str],
    records: Iterable[Record],
    here: str,
    command: str,
) -> tuple[Side, Side]:
    """Find out which results the coordinates mean.

    Where they leave a choice, the machine is the one that both sides have, or this one if it is
    among several; and the environment is the one that both sides have. Two machines, or two
    environments, are only compared if both sides name theirs.

    Parameters
    ----------
    commits : (str, str)
        What :func:`find_commit` found for either.
    records : iterable of Record
        Of those commits, and perhaps of others. Where one has none, no place is chosen for the
        other, and its machine and environment are "".
    here : str
        This machine's name.

    Raises
    ------
    InputError
        If a name is not among what was measured, or leaves a choice. The message lists what can be
        chosen, ready to be pasted.
    """
    everything = list(records)
    found = [[r for r in everything if r.commit.startswith(commit)] for commit in commits]
    hashes = [rs[0].commit if rs else commit for commit, rs in zip(commits, found, strict=True)]
    if not all(found):
        first, second = (Side(of, "", "", tuple(rs)) for of, rs in zip(hashes, found, strict=True))
        return first, second
    options = [
        fitting(side, commit, rs, command)
        for side, commit, rs in zip((base, head), hashes, found, strict=True)
    ]
    named = bool(base.machine and head.machine)
    options = _agree(command, "machine", hashes, options, named_both=named, here=here)
    named = bool(base.environment and head.environment)
    options = _agree(command, "environment", hashes, options, named_both=named)
    chosen = [
        Side(commit, place[1], place[0], tuple(r for r in rs if r.place == place))
        for commit, rs, (place,) in zip(hashes, found, options, strict=True)
    ]
    if chosen[0].name == chosen[1].name:
        raise InputError(
            f"{command}: either side is {chosen[0].name}; expected two different sides. Name "
            "another commit, or two environments of this one."
        )
    return chosen[0], chosen[1]


def fitting(asked: Coordinate, commit: str, records: Iterable[Record], command: str) -> list[Place]:
    """Where a commit was measured, as far as a coordinate admits it.

    Raises
    ------
    InputError
        If that is nowhere. The message lists the places that there are.
    """
    places = sorted({record.place for record in records})
    found = places
    for i, name in enumerate((asked.machine, asked.environment)):
        exact = [place for place in found if place[i] == name]
        found = exact or [place for place in found if name in place[i]]
    if not found:
        raise InputError(
            f"{command}: a side is {str(asked)!r}, where this commit was not measured; expected "
            f"one of {_candidates(commit, places)}. Name one of these."
        )
    return found


BEST = "best"

MOST_REFERENCES = 30
"""Of more ancestors so many are taken, evenly; each of them costs all the others some power."""


def references(
    asked: str,
    head: Side,
    folder: Folder,
    full_hash: Callable[[str], str | None],
    ancestors: Callable[[str], Sequence[str] | None],
    command: str,
) -> list[Side]:
    """What head is to be held against beside its base, as far as it was measured where head was.

    Parameters
    ----------
    asked : str
        A revision, or "best" for all ancestors.

    Raises
    ------
    InputError
        If the revision means nothing, or git does not know the ancestors.
    """
    if asked != BEST:
        commits = [find_commit(asked, folder.measured_commits(), full_hash, command)]
    else:
        known = ancestors(head.commit)
        if known is None:
            raise InputError(
                f"--against: git does not know here what {short(head.commit)} was made from, and"
                " the best of that is asked for; expected a commit of this repository. Name the"
                " commit to be held against, or run it there."
            )
        called = names(folder)
        here = {
            filed.commit
            for filed in folder.files()
            if called.get(filed.machine, filed.machine) == head.machine
        }
        commits = [commit for commit in known if short(commit) in here]
        step = -(-len(commits) // MOST_REFERENCES) or 1
        commits = commits[::-1][::step]
    loaded = load(folder.results, commits).records if commits else ()
    sides = []
    for commit in commits:
        records = tuple(
            record for record in loaded
            if record.commit.startswith(commit) and record.place == (head.machine, head.environment)
        )  # fmt: skip
        if records and not head.commit.startswith(commit):
            sides.append(Side(records[0].commit, head.environment, head.machine, records))
    return sides


def _agree(
    command: str,
    what: Literal["machine", "environment"],
    commits: Sequence[str],
    options: Sequence[Sequence[Place]],
    *,
    named_both: bool,
    here: str | None = None,
) -> list[list[Place]]:
    """The options of either side on the one machine, or in the one environment, that is meant."""
    i = 0 if what == "machine" else 1
    names = [sorted({place[i] for place in places}) for places in options]
    if named_both:
        for commit, places, some in zip(commits, options, names, strict=True):
            if len(some) > 1:
                raise InputError(
                    f"{command}: the {what} of {short(commit)} is given by a part of several "
                    f"names; expected one of {_candidates(commit, places)}. Name it in full."
                )
        return [list(places) for places in options]
    common = [name for name in names[0] if name in names[1]]
    if len(common) > 1 and here in common:
        common = [str(here)]
    if len(common) == 1:
        return [[place for place in places if place[i] == common[0]] for places in options]
    got, to_do = "none has both", f"Unlike {what}s are compared if both sides name theirs."
    if common:
        got, to_do = "several have both", "Paste two of these."
        options = [[place for place in places if place[i] in common] for places in options]
    offered = [_candidates(*pair) for pair in zip(commits, options, strict=True)]
    raise InputError(
        f"{command}: the {what} is not named on both sides, and {got}; expected one for each side: "
        f"{'; and '.join(offered)}. {to_do}"
    )


def _candidates(commit: str, places: Iterable[Place]) -> str:
    return listed([_pasted(commit, environment, machine) for machine, environment in places])


def _pasted(commit: str, environment: str, machine: str) -> str:
    return shlex.quote(str(Coordinate(short(commit), environment, machine)))


def what_is_there(folder: Folder) -> str:
    """Of which commits a folder has results that can be read, in words."""
    return f"{folder.results} has results of {listed(folder.measured_commits())}"


def listed(names: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    more = len(names) - _LISTED
    some = ", ".join(names[:_LISTED]) or "nothing"
    return f"{some} and {more} more" if more > 0 else some
