"""What became of a cell: one word, the reason, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import IntEnum, StrEnum
from typing import Self


class Status(StrEnum):
    """What became of a cell, the worst first."""

    WRONG = "wrong"
    FAILED = "failed"
    INVALID = "invalid"
    """A measurement that cannot be true: above what the device can do."""
    DEVIATES = "deviates"
    """Wrong, and the backend declares it, with the reason."""
    OK = "ok"
    SKIPPED = "skipped"

    @property
    def rank(self) -> int:
        """0 for the worst."""
        return list(Status).index(self)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a cell that has no result, or none to be trusted.

    Attributes
    ----------
    remedy : str
        What to do; empty if nothing better is known than to read the reason.
    kind : str
        The type of the exception, "killed by SIGSEGV", "exit status 3" or "timed out".
    process_lost : bool
        The process is gone, or can use its device no more: what is computed next needs a new one.
    """

    status: Status
    reason: str
    remedy: str = ""
    kind: str = ""
    process_lost: bool = False

    @classmethod
    def malformed(cls, error: object) -> Self:
        """Of a process that does not answer as our own code in it would."""
        reason = f"what its process sent cannot be read: {error}"
        return cls(Status.FAILED, reason, kind="malformed answer", process_lost=True)

    def to_dict(self) -> dict[str, str | bool]:
        """Plain values, as they cross from a process."""
        return asdict(self) | {"status": str(self.status)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, object]) -> Self:
        """Read them back, whoever sent them.

        Raises
        ------
        KeyError, ValueError
        """
        reason, remedy, kind = (str(plain.get(name, "")) for name in ("reason", "remedy", "kind"))
        lost = plain.get("process_lost") is True
        return cls(Status(str(plain["status"])), reason, remedy, kind, lost)


class Standing(StrEnum):
    """What stands behind a time."""

    CLAIM = "claim"
    """Nobody has looked at what was computed while it was taken."""
    HELD = "held"
    """A receipt: outputs of its process were verified, and its time was held against our clock."""
    DOUBTED = "doubted"
    """A receipt that does not support it."""


class Exit(IntEnum):
    """What every command leaves with."""

    OK = 0
    SLOWER = 1
    """Something is slower; of `doctor`, the machine is unfit."""
    WRONG = 2
    """Something is wrong or has failed."""
    NOTHING = 3
    """Nothing was measured, or nothing could be compared."""
    INPUT = 4
    """Bad input, or it could not be set up."""
    DEFECT = 70
    """An error that nobody foresaw: EX_SOFTWARE of BSD's sysexits.h."""
    INTERRUPTED = 130
    TERMINATED = 143
    """Of `watch`: by SIGTERM."""
