"""What became of a cell: one word, the reason, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


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
