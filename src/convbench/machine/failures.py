"""What went wrong, in words that a person can act on.

A library's exception, or the way a process died, becomes an Outcome: one sentence about what
happened and one about what to do. The original message is always kept.
"""

from __future__ import annotations

import re
import signal
import traceback
from dataclasses import dataclass, replace
from typing import Literal

from convbench.errors import BackendUnavailable, BrokenContract, ConvbenchError, Unsupported
from convbench.machine import nvidia
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
    if known := _recognise(f"{kind}: {error}"):
        reason = f"{known.reason} ({kind}: {message})"
        return Outcome(Status.FAILED, reason, known.advice(), kind, known.process_lost)
    return Outcome(Status.FAILED, f"{kind}: {message}", kind=kind)


def explain_at_length(error: Exception) -> Outcome:
    """Likewise, with the traceback: for who mends a backend."""
    outcome = explain(error)
    if isinstance(error, ConvbenchError):
        return outcome
    lines = "".join(traceback.format_exception(error))
    return replace(outcome, reason=f"{outcome.reason}\n{lines}")


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
    if known := _recognise(stderr):
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


@dataclass(frozen=True, slots=True)
class _Known:
    """A pattern in what libraries say, and what it means.

    Attributes
    ----------
    card : str
        Whether what is missing is the memory of a card, so that its state belongs to the remedy;
        "maybe" where it is if there is a card at all.
    """

    pattern: str
    reason: str
    remedy: str
    card: Literal["no", "maybe", "yes"] = "no"
    process_lost: bool = False

    def advice(self) -> str:
        """What to do, with what `nvidia-smi` says now if that matters. Slow only where it does."""
        cards = [] if self.card == "no" else nvidia.gpus()
        if not cards:
            return self.remedy
        facts = nvidia.memory_in_words(cards, nvidia.gpu_processes())
        more = (_FREE_THE_CARD, facts) if self.card == "maybe" else (facts,)
        return " ".join(filter(None, (self.remedy, *more)))


_FREE_THE_CARD = (
    "`nvidia-smi` shows how much is free and which process holds it: end that process, choose"
    " another card with CUDA_VISIBLE_DEVICES, or take a smaller batch."
)
_FREE_THE_MACHINE = "Take a smaller batch, end other processes, or use a machine with more memory."
_INSTALL_CUDA = (
    "Install those that belong to this version: pip install 'convbench[tensorflow-gpu,cupy-gpu]'"
    " (`make` does, from the lock, where a driver shows a GPU); or add the folder that has them to"
    " LD_LIBRARY_PATH."
)
_CUDA_LIBRARY = r"lib(?:cudart|cublas|cudnn|cufft|curand|cusolver|cusparse|nvrtc|nvjitlink|cupti)"

_KNOWN = (
    _Known(
        rf"{_CUDA_LIBRARY}[\w.-]*: cannot open shared object file"
        rf"|(?:could not load|failed to load|unable to load|failure finding).*{_CUDA_LIBRARY}"
        r"|failed to (?:open|load) (?:libnvrtc-)?builtins"
        r"|CUDNN_STATUS_SUBLIBRARY_LOADING_FAILED|Cannot load symbol cublas",
        "a library of CUDA's is missing, or is there in another major version only",
        _INSTALL_CUDA,
    ),
    _Known(
        r"Loaded runtime CuDNN library.* but source was compiled with"
        r"|CUDNN_STATUS_(SUBLIBRARY_)?VERSION_MISMATCH",
        "cuDNN has another version than the library was built for",
        _INSTALL_CUDA,
    ),
    _Known(
        r"Blas \w+ launch failed|CUBLAS_STATUS_(NOT_INITIALIZED|ALLOC_FAILED)"
        r"|failed to create cublas handle",
        "cuBLAS could not start on the GPU. That is nearly always because no memory is left on"
        " the card: another process, often a forgotten notebook, has reserved all of it",
        _FREE_THE_CARD,
        "yes",
    ),
    _Known(
        r"CUDNN_STATUS_(NOT_INITIALIZED|ALLOC_FAILED|INTERNAL_ERROR)"
        r"|could not create cudnn handle|cudnnHandle Create failed"
        r"|failed to get convolution algorithm",
        "cuDNN could not start on the GPU: either no memory is left on the card, or this cuDNN"
        " does not fit the driver",
        _FREE_THE_CARD + " If the card is free, compare the cuDNN and driver versions that"
        " `convbench backends` prints.",
        "yes",
    ),
    _Known(
        r"driver/library version mismatch|does not match DSO version"
        r"|unsupported display driver / cuda driver combination|SYSTEM_DRIVER_MISMATCH",
        "the parts of the NVIDIA driver have two versions: it was upgraded while it ran",
        "Restart the machine, or load the driver's kernel modules anew.",
    ),
    _Known(
        r"cudaErrorInsufficientDriver|driver version is insufficient"
        r"|driver on your system is too old|libcuda\.so[\w.]*: cannot open shared object file"
        r"|forward compatibility was attempted on non supported HW",
        "the NVIDIA driver is missing or older than this CUDA needs",
        "Install or upgrade the driver; `nvidia-smi` shows which CUDA it supports.",
    ),
    _Known(
        r"unsupported toolchain|UNSUPPORTED_PTX_VERSION|cudaErrorUnsupportedPtxVersion",
        "the kernel was compiled by a CUDA that is newer than the NVIDIA driver knows",
        "Upgrade the driver, or install CUDA libraries that are no newer than what `nvidia-smi`"
        " shows as its CUDA version.",
    ),
    _Known(
        r"no kernel image is available|NO_BINARY_FOR_GPU|cudaErrorNoKernelImageForDevice"
        r"|invalid value for --gpu-architecture",
        "this version of the library or of CUDA has no kernels for this model of card: one of"
        " the two is too old, or too new, for the other",
        "See its compute capability (`nvidia-smi --query-gpu=name,compute_cap --format=csv`)"
        " and install versions of the library and of CUDA that list it.",
    ),
    _Known(
        r"cannot open source file|could not open source file|libdevice not found"
        r"|can't find libdevice|failed to auto-detect CUDA root",
        "a kernel could not be compiled because CUDA's headers or libdevice were not found",
        "Install them: pip install 'convbench[tensorflow-gpu,cupy-gpu]'; or let CUDA_PATH name"
        " the folder of a CUDA toolkit.",
    ),
    _Known(
        r"CompileException|NVRTC_ERROR|NVRTCError|nvrtc: error|ptxas (?:fatal|error)",
        "a kernel could not be compiled on this machine",
        "The compiler's words are in the reason. If they are about the kernel's own source, it"
        " is a fault of the backend; otherwise compare the versions that `convbench backends`"
        " prints, and empty the cache of kernels (~/.cupy/kernel_cache).",
    ),
    _Known(
        r"cudaErrorInitializationError|CUDA_ERROR_NOT_INITIALIZED",
        "CUDA could not start in this process, most likely because it was forked from one that"
        " had used CUDA",
        "Start processes anew instead: `asv run --launch-method spawn`.",
    ),
    _Known(
        r"busy or unavailable|CUDA_ERROR_DEVICE_UNAVAILABLE|cudaErrorDevices?Unavailable",
        "the card lets nobody in: another process has it to itself (compute mode"
        " Exclusive_Process), or it has to be reset",
        "End the process that has it, or choose another card with CUDA_VISIBLE_DEVICES."
        " `nvidia-smi --query-gpu=compute_mode --format=csv` shows the mode.",
        "yes",
    ),
    _Known(
        r"cudaErrorNoDevice|no CUDA-capable device",
        "CUDA finds no GPU",
        "See whether `nvidia-smi` finds one and CUDA_VISIBLE_DEVICES does not hide it.",
    ),
    _Known(
        r"uncorrectable (?:ECC|NVLink)|ECC_?UNCORRECTABLE|GPU is lost|fallen off the bus"
        r"|GPU requires reset",
        "the card has a fault in its hardware, and the GPU's context is lost",
        "Trust none of its results since the last that was verified. See `dmesg` for lines with"
        " Xid and `nvidia-smi -q -d ECC`; the card has to be reset or replaced.",
        process_lost=True,
    ),
    _Known(
        r"cudaErrorLaunchTimeout|CUDA_ERROR_LAUNCH_TIMEOUT|launch timed out and was terminated",
        "a kernel ran for longer than a card with a display allows, and the GPU's context is lost",
        "Take a smaller batch, or a card without a display.",
        process_lost=True,
    ),
    _Known(
        r"cudaErrorIllegalAddress|illegal memory access|CUDA_ERROR_ILLEGAL_ADDRESS"
        r"|cudaErrorLaunchFailure|CUDA_ERROR_LAUNCH_FAILED|unspecified launch failure"
        r"|misaligned.?address|illegal instruction was encountered|device-side assert"
        r"|CUDA_ERROR_ASSERT|hardware stack error|invalid program counter"
        r"|context.?is.?destroyed",
        "a kernel read or wrote outside its arrays or broke another rule, and the GPU's context"
        " is lost: whatever this process asks of the card from now on fails likewise",
        "Reproduce this cell alone under `compute-sanitizer`, and run those again that failed after"
        " it.",
        process_lost=True,
    ),
    _Known(
        r"CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|OutOfMemoryError"
        r"|OOM when allocating .* by allocator GPU",
        "the GPU's memory is full",
        _FREE_THE_CARD,
        "yes",
    ),
    _Known(
        r"OOM when allocating .* by allocator (?:mkl_?)?cpu",
        "the machine's memory is full",
        _FREE_THE_MACHINE,
    ),
    _Known(
        r"RESOURCE.EXHAUSTED|ResourceExhausted|OOM when allocating",
        "the device's memory is full",
        "Take a smaller batch or free memory.",
        "maybe",
    ),
    _Known(
        r"No space left on device|Disk quota exceeded",
        "a disk is full, or your share of it is",
        "`df -h . /tmp /dev/shm` shows which (`df -i` if there is room: then there are too many"
        " files). Free it, or let TMPDIR name a folder on another one.",
    ),
    _Known(
        r"Too many open files",
        "no more files may be opened",
        "`ulimit -n` shows how many one process may open; raise it in the shell that starts"
        ' this: `ulimit -n 4096`. If it says "in system", end what holds them (`lsof`).',
    ),
    _Known(
        # ... but not "cannot allocate memory in static TLS block", which is about the loader.
        r"MemoryError|Unable to allocate|std::bad_alloc|Cannot allocate memory(?! in static)",
        "the machine's memory is full",
        _FREE_THE_MACHINE,
    ),
)
"""The first that matches wins: the particular before the general."""


def _recognise(text: str) -> _Known | None:
    """What is known of a message, whatever the case of its letters."""
    found = (known for known in _KNOWN if re.search(known.pattern, text, re.IGNORECASE))
    return next(found, None)
