"""What went wrong, in words that a person can act on.

A library's exception, or the way a process died, becomes an Outcome: one sentence about what
happened and one about what to do. The original message is always kept.
"""

from __future__ import annotations

import signal

from convbench.errors import BackendUnavailable, BrokenContract, Unsupported
from convbench.machine.known_failures import recognise
from convbench.words.status import Outcome, Status

_LONGEST_MESSAGE = 500


def explain(error: BaseException) -> Outcome:
    """Put an exception into words; those of :mod:`convbench.errors` mean what they say.

    Examples
    --------
    >>> explain(RuntimeError("Blas SGEMM launch failed : m=1, n=6, k=75")).reason[:34]
    'cuBLAS could not start on the GPU.'
    """
    kind = type(error).__name__
    match error:
        case BackendUnavailable():
            return Outcome(Status.SKIPPED, f"{error.kind}: {error.reason}", error.remedy, kind)
        case Unsupported():
            return Outcome(Status.SKIPPED, str(error), kind=kind)
        case BrokenContract():
            remedy = "Correct the backend: convbench/backends/base.py states the contract."
            return Outcome(Status.FAILED, str(error), remedy, kind)
    message = _shorten(str(error)) or "no message"
    if known := recognise(f"{kind}: {error}"):
        reason = f"{known.reason} ({kind}: {message})"
        return Outcome(Status.FAILED, reason, known.advice(), kind, known.process_lost)
    return Outcome(Status.FAILED, f"{kind}: {message}", kind=kind)


def explain_exit(exit_code: int, stderr: str) -> Outcome:
    """Put the end of a process that should have answered into words.

    Parameters
    ----------
    exit_code : int
        As in :attr:`multiprocessing.Process.exitcode`: negative for a signal.
    stderr : str
        The last of what it wrote.
    """
    kind, last = _exit_kind(exit_code), _shorten(stderr)
    said = f"; its last words: {last}" if last else ""
    if known := recognise(stderr):
        return _lost(kind, known.reason + said, known.advice())
    remedy = "The other cells are not affected; run this one alone to see more."
    if exit_code == -signal.SIGKILL:
        remedy = (
            "Usually the kernel ended it because the machine's memory was full (see `dmesg`):"
            " take a smaller batch or end other processes."
        )
    return _lost(kind, f"the process ended before it answered ({kind}){said}", remedy)


def explain_timeout(limit_s: float) -> Outcome:
    """Put a cell that was ended for taking too long into words."""
    return _lost(
        "timed out",
        f"no answer within {limit_s:g} s, so the process was ended",
        "If the cell is only slow, allow more with --timeout.",
    )


def _lost(kind: str, reason: str, remedy: str) -> Outcome:
    return Outcome(Status.FAILED, reason, remedy, kind, process_lost=True)


def _exit_kind(exit_code: int) -> str:
    if exit_code >= 0:
        return f"exit status {exit_code}"
    try:
        return f"killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"killed by signal {-exit_code}"


def _shorten(text: str) -> str:
    """One line of at most 500 characters: the start, and the end where the cause often stands."""
    text = " ".join(text.split())
    if len(text) <= _LONGEST_MESSAGE:
        return text
    half = _LONGEST_MESSAGE // 2
    return f"{text[:half]} ... {text[-half:]}"
