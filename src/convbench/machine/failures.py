"""What went wrong, in words that a person can act on.

A library's exception, or the way a process died, becomes an Outcome: one sentence about what
happened and one about what to do. The original message is always kept. What is known of messages
is in :mod:`convbench.machine.catalogue`.
"""

from __future__ import annotations

import signal
import sysconfig
import traceback
from dataclasses import replace
from pathlib import Path

from convbench.errors import (
    BackendUnavailable,
    BrokenContract,
    ConvbenchError,
    Unavailability,
    Unsupported,
)
from convbench.machine import nvidia
from convbench.machine.catalogue import Advice, Entry, When, of_signal, read_text, words
from convbench.words.status import Outcome, Status

_LONGEST_MESSAGE = 500

_here = {"when": When.START}
"""Of this process: whether anything has been computed in it."""


def note_success() -> None:
    """Remember that this process has computed something: what fails now is not the first use."""
    _here["when"] = When.MIDDLE


def explain(error: BaseException, when: When | None = None) -> Outcome:
    """Put an exception into words; those of :mod:`convbench.errors` mean what they say.

    Parameters
    ----------
    when : When, optional
        Whether anything had worked before; by default what :func:`note_success` knows.

    Examples
    --------
    >>> explain(RuntimeError("Blas SGEMM launch failed : m=1, n=6, k=75"), When.START).reason[:34]
    'cuBLAS could not start on the GPU.'
    """
    kind = type(error).__name__
    match error:
        case BackendUnavailable():
            # What is there and broken is nobody's absence.
            broken = error.kind is Unavailability.IMPORT_FAILED
            status = Status.FAILED if broken else Status.SKIPPED
            return Outcome(status, f"{error.kind}: {error.reason}", error.remedy, kind)
        case Unsupported():
            return Outcome(Status.SKIPPED, str(error), kind=kind)
        case BrokenContract():
            remedy = "Correct the backend: convbench/backends/base.py states the contract."
            return Outcome(Status.FAILED, str(error), remedy, kind)
    message = _shorten(str(error)) or "no message"
    if where := place(error):
        message += f", at {where}"
    if found := read_text(f"{kind}: {error}").wrong:
        entry, (_, advice) = found.entry, found.entry.advice(when or _here["when"])[0]
        reason = f"{advice.cause} ({kind}: {message})"
        return Outcome(Status.FAILED, reason, with_the_card(entry, advice), kind, entry.lost)
    return Outcome(Status.FAILED, f"{kind}: {message}", kind=kind)


def place(error: BaseException) -> str:
    """Where it was raised, as FILE:LINE, in what somebody may be writing; "" if nowhere there.

    That is the innermost line that is not ours, nor of the standard library, nor installed.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    others = [Path(__file__).parents[1], Path(sysconfig.get_path("stdlib"))]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        installed = {"site-packages", "dist-packages"} & {*path.parts}
        if path.is_file() and not installed and not any(map(path.is_relative_to, others)):
            return f"{frame.filename}:{frame.lineno}"
    return ""


def explain_at_length(error: Exception) -> Outcome:
    """Likewise, with the traceback: for who mends a backend."""
    outcome = explain(error)
    if isinstance(error, ConvbenchError):
        return outcome
    lines = "".join(traceback.format_exception(error))
    return replace(outcome, reason=f"{outcome.reason}\n{lines}")


def explain_exit(exit_code: int, stderr: str, *, worked: bool = False) -> Outcome:
    """Put the end of a process that should have answered into words.

    Parameters
    ----------
    exit_code : int
        As in :attr:`multiprocessing.Process.exitcode`: negative for a signal.
    stderr : str
        The last of what it wrote.
    worked : bool
        It had answered other questions well.
    """
    kind, last = _exit_kind(exit_code), _shorten(stderr)
    said = f"; its last words: {last}" if last else ""
    when = When.MIDDLE if worked else When.START
    found = read_text(stderr).wrong
    if found and not found.entry.signal:
        _, advice = found.entry.advice(when)[0]
        return _lost(kind, advice.cause + said, with_the_card(found.entry, advice))
    reason = f"the process ended before it answered ({kind})"
    if ended := of_signal(-exit_code):
        _, advice = ended.advice(when)[0]
        cause = advice.cause[0].upper() + advice.cause[1:]
        return _lost(kind, f"{reason}{said}. {cause}", advice.remedy)
    alone = "The other cells are not affected; run this one alone to see more."
    return _lost(kind, reason + said, alone)


def with_the_card(entry: Entry, advice: Advice) -> str:
    """What to do, with what `nvidia-smi` says now if that matters. Slow only where it does."""
    cards = [] if entry.card == "no" else nvidia.gpus()
    if not cards:
        return advice.remedy
    facts = nvidia.memory_in_words(cards, nvidia.gpu_processes())
    more = (words()["free_the_card"], facts) if entry.card == "maybe" else (facts,)
    return " ".join(filter(None, (advice.remedy, *more)))


def explain_timeout(limit_s: float) -> Outcome:
    """Put a cell that was ended for taking too long into words."""
    return _lost(
        "timed out",
        f"no answer within {limit_s:g} s, so the process was ended",
        "If the cell is only slow, allow more with --timeout, or timeout_s in Python.",
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
