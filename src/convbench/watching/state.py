"""What a watch knows: one file, replaced as a whole after each step.

A step is written down when it is complete, and does no harm if it is done again: so a watch may be
killed at any moment, and goes on where it was.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from convbench import __version__
from convbench.errors import InputError
from convbench.machine.files import write
from convbench.words.numbers import finite

SCHEMA = "convbench.watch/1"
KEPT = 500
"""So many commits that are done are remembered."""


class Stage(StrEnum):
    """How far a commit is: what was completed last."""

    FOUND = "found"
    MEASURED = "measured"
    GATED = "gated"
    TRACED = "traced"
    DONE = "done"


class Verdict(StrEnum):
    """What became of a commit."""

    OPEN = "open"
    FIRST = "first"
    """There is nothing that it could be held against."""
    FINE = "fine"
    UNDECIDED = "undecided"
    STILL_WRONG = "still wrong"
    """As its base was, which has been told."""
    SLOWER = "slower"
    WRONG = "wrong"
    FAILED = "failed"
    """It could not be built, measured or gated."""


BAD = frozenset({Verdict.SLOWER, Verdict.WRONG, Verdict.FAILED})
"""What somebody is told of."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A commit, and what is known of it.

    Attributes
    ----------
    stage : Stage
    measured : bool
        Later ones may be held against it.
    base : str
        What the verdict is against; "" if there is none.
    tries : int
        How often a step has failed.
    gated : mapping of str to Verdict
        Where several commits can be to blame: what gates of those against the base said.
    spent_s : float
        On these gates.
    blamed : tuple of str
        Those that it was narrowed down to, the oldest first.
    notice : str
        The id of what is told of it; "" if nothing is.
    untold : tuple of str
        Ways in which it is still to be told.
    vanished : bool
        None of the branches has it any more.
    """

    commit: str
    subject: str
    branches: tuple[str, ...]
    found_s: float
    stage: Stage = Stage.FOUND
    measured: bool = False
    base: str = ""
    verdict: Verdict = Verdict.OPEN
    reason: str = ""
    tries: int = 0
    gated: Mapping[str, Verdict] = field(default_factory=dict)
    spent_s: float = 0.0
    blamed: tuple[str, ...] = ()
    report: bool = False
    notice: str = ""
    untold: tuple[str, ...] = ()
    vanished: bool = False
    done_s: float | None = None

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Self:
        """Read one from a file."""
        return cls(
            **{
                **plain,
                "stage": Stage(plain["stage"]),
                "verdict": Verdict(plain["verdict"]),
                "gated": {key: Verdict(value) for key, value in plain["gated"].items()},
                **{key: tuple(plain[key]) for key in ("branches", "blamed", "untold")},
            }
        )

    @property
    def waits(self) -> bool:
        """Whether something is to be done with it."""
        return self.stage is not Stage.DONE and not self.vanished


@dataclass(frozen=True, slots=True)
class Doing:
    """What the watch is at.

    Attributes
    ----------
    until_s : float
        When it will have ended in any case.
    times : int
        How often it was begun: more than once where the watch was killed at it.
    """

    step: str
    commit: str
    since_s: float
    until_s: float
    times: int


@dataclass(frozen=True, slots=True)
class State:
    """All that a watch knows.

    Attributes
    ----------
    tips : mapping of str to str
        The branches, as they were when they were looked at last.
    anchors : tuple of str
        Everything up to these has been found.
    round_s : float or None
        When the last round ended in which all went well.
    problem : str
        Why the last one did not.
    published : bool
        Whether asv's pages have all that is done.
    """

    tips: Mapping[str, str] = field(default_factory=dict)
    anchors: tuple[str, ...] = ()
    commits: tuple[Watched, ...] = ()
    doing: Doing | None = None
    round_s: float | None = None
    problem: str = ""
    published: bool = True

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Self:
        """Read it from a file."""
        doing = plain["doing"]
        return cls(
            **{
                **plain,
                "anchors": tuple(plain["anchors"]),
                "commits": tuple(map(Watched.of, plain["commits"])),
                "doing": None if doing is None else Doing(**doing),
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def read(path: Path) -> State:
    """What a watch has written; an empty one where there is none.

    Raises
    ------
    InputError
        If it cannot be read: what has been told would be told again.
    """
    try:
        plain = json.loads(path.read_bytes())
        if plain.pop("schema") != SCHEMA:
            raise ValueError("its schema is another one")
        del plain["convbench"]
        return State.of(plain)
    except FileNotFoundError:
        return State()
    except (OSError, ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise InputError(
            f"{path}: the state of the watch is unreadable ({error}); expected what"
            f" {SCHEMA} says. Move it away to begin anew: what is measured stays."
        ) from error


class Book:
    """The state, and its file.

    Parameters
    ----------
    folder : Path
        The watch's own: ``.asv/watch`` of a project.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "state.json"
        self.state = read(self.path)

    def change(self, **fields: Any) -> None:
        """Change some of it, and write it."""
        self.state = replace(self.state, **fields)
        document = {"schema": SCHEMA, "convbench": __version__, **self.state.to_dict()}
        text = json.dumps(finite(document), indent=1, allow_nan=False)
        write(self.path, f"{text}\n", parents=True)

    def put(self, commit: Watched, **fields: Any) -> Watched:
        """Change what is known of a commit, and perhaps more, and write it."""
        commits = tuple(commit if c.commit == commit.commit else c for c in self.state.commits)
        self.change(commits=commits, **fields)
        return commit


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Have a folder to oneself.

    Raises
    ------
    InputError
        If another watch has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise InputError(
                f"watch: the watch of {folder} is process {file.read().strip()}; expected one"
                " watch a folder. End that one first."
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
