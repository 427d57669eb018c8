"""Everything convbench raises or warns of on purpose.

::

    ConvbenchError
    +-- InputError              the caller's mistake: exit code 4
    |   +-- SpecError           a pipeline that cannot be computed
    |   +-- WorkloadError       a workload row or list that cannot be read
    |   +-- TargetError         a target that no backend answers to
    |   +-- ArrayError          an array whose shape or dtype does not fit the pipeline
    +-- BackendUnavailable      not installed, import failed, or no device
    +-- BrokenContract          a backend that does what the contract forbids
    +-- Blind                   a check that passes what is known to be wrong: exit code 2
    +-- Unsupported             a hole in a backend that it has declared, with the reason

    UserWarning
    +-- DeviationWarning        an output that differs from the definition, as was declared

An exception that a library raises while it computes is none of these: it is caught where cells are
run and becomes a failed cell (:mod:`convbench.machine.failures`).
"""

from __future__ import annotations

from enum import StrEnum


class ConvbenchError(Exception):
    """Base of every exception that convbench raises on purpose."""


class InputError(ConvbenchError, ValueError):
    """The caller asked for something that cannot be done as asked.

    Every message is of one shape, which tests/test_errors.py holds:
    ``<where>: <what> is <got>; expected <rule>. <what to do>``.
    """


class SpecError(InputError):
    """A pipeline that cannot be computed."""


class WorkloadError(InputError):
    """A workload file, row, name or list that cannot be read."""


class TargetError(InputError):
    """A target that is malformed, or that no backend answers to."""


class ArrayError(InputError):
    """An array whose shape or dtype does not fit the pipeline."""


class Unavailability(StrEnum):
    """Why a backend is absent on this machine."""

    NOT_INSTALLED = "not installed"
    IMPORT_FAILED = "import failed"
    NO_DEVICE = "no device"


class BackendUnavailable(ConvbenchError, RuntimeError):
    """A backend cannot be used here.

    Parameters
    ----------
    kind : Unavailability
        Which of the three reasons it is.
    reason : str
        What was found, in words.
    remedy : str
        What a person can do about it.
    """

    def __init__(self, kind: Unavailability, reason: str, remedy: str) -> None:
        super().__init__(kind, reason, remedy)
        self.kind = kind
        self.reason = reason
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}. {self.remedy}"


class BrokenContract(ConvbenchError, RuntimeError):
    """A backend changed its input or an earlier output, returned no array, or declared nonsense."""


class Blind(ConvbenchError):
    """A check passed an output that is known to be wrong: nothing that it says can be trusted."""


class Unsupported(ConvbenchError, NotImplementedError):
    """A backend has declared that it does not compute this, and why."""


class DeviationWarning(UserWarning):
    """An output differs from the definition, in a way that its backend has declared."""
