"""What went wrong, in words that a person can act on.

A library's exception, or the way a process died, becomes a :class:`Failure`: one sentence about
what happened and one about what to do. The original message is always kept.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from enum import StrEnum

_LONGEST_MESSAGE = 500


class Status(StrEnum):
    """What became of a cell, the worst first."""

    WRONG = "wrong"
    FAILED = "failed"
    DEVIATES = "deviates"
    """Wrong, and the backend declares it, with the reason."""
    OK = "ok"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a cell has no result.

    Attributes
    ----------
    kind : str
        The exception's type, "killed by SIGSEGV", "exit status 3" or "timed out".
    reason : str
        What happened.
    remedy : str
        What to do; empty if nothing better is known than to read the reason.
    """

    kind: str
    reason: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class _Known:
    pattern: re.Pattern[str]
    reason: str
    remedy: str


_FREE_THE_CARD = (
    "`nvidia-smi` shows how much is free and which process holds it: end that process, choose"
    " another card with CUDA_VISIBLE_DEVICES, or take a smaller batch."
)

# The first that matches wins: the particular before the general.
_KNOWN = tuple(
    _Known(re.compile(pattern, re.IGNORECASE), reason, remedy)
    for pattern, reason, remedy in (
        (
            r"Blas \w+ launch failed|CUBLAS_STATUS_(NOT_INITIALIZED|ALLOC_FAILED)"
            r"|failed to create cublas handle",
            "cuBLAS could not start on the GPU. That is nearly always because no memory is left on"
            " the card: another process, often a forgotten notebook, has reserved all of it",
            _FREE_THE_CARD,
        ),
        (
            r"CUDNN_STATUS_(NOT_INITIALIZED|ALLOC_FAILED|INTERNAL_ERROR)"
            r"|could not create cudnn handle|failed to get convolution algorithm",
            "cuDNN could not start on the GPU: either no memory is left on the card, or this cuDNN"
            " does not fit the driver",
            _FREE_THE_CARD + " If the card is free, compare the cuDNN and driver versions that"
            " `convbench backends` prints.",
        ),
        (
            r"cudaErrorInsufficientDriver|driver version is insufficient",
            "the NVIDIA driver is missing or older than this CUDA needs",
            "Install or upgrade the driver; `nvidia-smi` shows which CUDA it supports.",
        ),
        (
            r"cudaErrorNoDevice|no CUDA-capable device",
            "CUDA finds no GPU",
            "See whether `nvidia-smi` finds one and CUDA_VISIBLE_DEVICES does not hide it.",
        ),
        (
            r"cudaErrorIllegalAddress|illegal memory access|CUDA_ERROR_ILLEGAL_ADDRESS"
            r"|cudaErrorLaunchFailure|unspecified launch failure",
            "a kernel read or wrote outside its arrays, and the GPU's context is lost",
            "The cells after it run in a new process. Reproduce this one alone under"
            " `compute-sanitizer`.",
        ),
        (
            r"CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|OutOfMemoryError",
            "the GPU's memory is full",
            _FREE_THE_CARD,
        ),
        (
            r"RESOURCE_EXHAUSTED|ResourceExhaustedError|OOM when allocating",
            "the device's memory is full",
            "Take a smaller batch or free memory. " + _FREE_THE_CARD,
        ),
        (
            r"MemoryError|Unable to allocate|std::bad_alloc|Cannot allocate memory",
            "the machine's memory is full",
            "Take a smaller batch, end other processes, or use a machine with more memory.",
        ),
    )
)


def explain(error: BaseException) -> Failure:
    """Put an exception into words.

    Examples
    --------
    >>> explain(RuntimeError("Blas SGEMM launch failed : m=1, n=6, k=75")).reason[:34]
    'cuBLAS could not start on the GPU.'
    """
    kind = type(error).__name__
    message = _shorten(str(error)) or "no message"
    for known in _KNOWN:
        if known.pattern.search(f"{kind}: {error}"):
            return Failure(kind, f"{known.reason} ({kind}: {message})", known.remedy)
    return Failure(kind, f"{kind}: {message}")


def explain_exit(exit_code: int, stderr: str) -> Failure:
    """Put the end of a process that should have answered into words.

    Parameters
    ----------
    exit_code : int
        As in :attr:`multiprocessing.Process.exitcode`: negative for a signal.
    stderr : str
        The last of what it wrote.
    """
    last = _shorten(stderr)
    said = f"; its last words: {last}" if last else ""
    for known in _KNOWN:
        if known.pattern.search(stderr):
            return Failure(_exit_kind(exit_code), known.reason + said, known.remedy)
    kind = _exit_kind(exit_code)
    remedy = "The other cells are not affected; run this one alone to see more."
    if exit_code == -signal.SIGKILL:
        remedy = (
            "Usually the kernel ended it because the machine's memory was full (see `dmesg`):"
            " take a smaller batch or end other processes."
        )
    return Failure(kind, f"the process ended before it answered ({kind}){said}", remedy)


def explain_timeout(limit_s: float) -> Failure:
    """Put a cell that was ended for taking too long into words."""
    return Failure(
        "timed out",
        f"no answer within {limit_s:g} s, so the process was ended",
        "If the cell is only slow, allow more with --timeout.",
    )


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
