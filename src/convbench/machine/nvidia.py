"""NVIDIA's driver and its cards, asked without an array library."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convbench.errors import BackendUnavailable, Unavailability
from convbench.words.numbers import integer

_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_CUDA_ERROR_NO_DEVICE = 100

TIMEOUT_S = 5.0
"""The driver hangs where a card does; nobody waits for its answer longer than this."""

_MOSTLY_FREE = 0.9
"""The driver keeps some of a card's memory for itself; below this share somebody else does."""

_NAMED_HOLDERS = 5

THROTTLING = {
    0x1: "gpu_idle",
    0x2: "applications_clocks_setting",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
}
"""Why a GPU does not run at its highest clock: the bits of NVML's nvmlClocksEventReasons."""


def nvidia_devices() -> int:
    """How many GPUs the NVIDIA driver offers to this process: at least 1.

    It takes milliseconds, where importing a library to find no GPU takes seconds. The process must
    not fork afterwards and use CUDA in the child: the driver does not survive a fork.

    Raises
    ------
    BackendUnavailable
        If there is no driver or no device.
    """
    try:
        driver = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise BackendUnavailable(
            Unavailability.NO_DEVICE,
            f"there is no NVIDIA driver ({_LIBRARY} cannot be loaded)",
            "Install one, or, in a container, start it with the GPU (--gpus all).",
        ) from error
    code = driver.cuInit(0)
    count = ctypes.c_int(0)
    if code == 0:
        code = driver.cuDeviceGetCount(ctypes.byref(count))
    if code not in (0, _CUDA_ERROR_NO_DEVICE):
        raise BackendUnavailable(
            Unavailability.NO_DEVICE,
            f"the NVIDIA driver does not start (CUDA error {code})",
            "See what `nvidia-smi` says about it.",
        )
    if count.value == 0:
        raise BackendUnavailable(
            Unavailability.NO_DEVICE,
            "the NVIDIA driver counts 0 GPUs",
            "If the machine has one, see whether CUDA_VISIBLE_DEVICES hides it.",
        )
    return count.value


def has_nvidia_driver(root: Path | str = "/") -> bool:
    """Whether an NVIDIA driver is there, asked without waking it.

    Parameters
    ----------
    root : path
        Where /proc and /dev are. The driver's library is looked for only if it is ``/``.
    """
    root = Path(root)
    if any((root / path).exists() for path in ("proc/driver/nvidia", "dev/nvidia0", "dev/dxg")):
        return True
    if root != Path("/"):
        return False
    try:
        ctypes.CDLL(_LIBRARY)
    except OSError:
        return False
    return True


def gpus() -> list[dict[str, Any]]:
    """Every card that the driver knows, as it is now.

    CUDA_VISIBLE_DEVICES hides none of them.

    Returns
    -------
    list of dict
        Empty without a driver, or if it fails or takes more than `TIMEOUT_S`. What a card does not
        tell is absent: ``index``, ``uuid``, ``name``, ``driver``, ``memory_total_mib``,
        ``memory_free_mib``, ``sm_clock_mhz``, ``sm_clock_max_mhz``, ``memory_clock_mhz``,
        ``memory_clock_max_mhz``, ``persistence``, ``compute_mode``, ``utilization_percent``,
        ``temperature_c``, ``power_w``, ``power_limit_w``, and ``throttling``: names in
        `THROTTLING`. Of `nvidia-smi`, which is asked where the driver's library cannot be, only
        index, uuid, name, driver and memory.
    """
    return _driver()[0]


def gpu_processes() -> list[dict[str, Any]]:
    """Every process that computes on a card, as far as it can be seen from here.

    From inside a container the processes outside it cannot.

    Returns
    -------
    list of dict
        ``pid``, ``name``, ``memory_mib`` and the card's ``gpu_uuid``; what is not told is absent.
        Empty for the reasons for which :func:`gpus` is.
    """
    return _driver()[1]


def changing(cards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """That of what :func:`gpus` gives which changes while benchmarks run."""
    return [{key: value for key, value in card.items() if key in _CHANGING} for card in cards]


def known(facts: dict[str, Any]) -> dict[str, Any]:
    """Those that could be found out."""
    return {key: value for key, value in facts.items() if value is not None}


def memory_in_words(
    cards: Sequence[Mapping[str, Any]], processes: Sequence[Mapping[str, Any]]
) -> str:
    """Say how much of the memory of each card is free, and which processes hold the rest.

    Parameters
    ----------
    cards, processes
        As :func:`gpus` and :func:`gpu_processes` give them. Of a card that does not tell its memory
        nothing is said.

    Examples
    --------
    >>> card = {"index": 0, "uuid": "GPU-1", "name": "NVIDIA H100", "memory_free_mib": 812}
    >>> memory_in_words(
    ...     [{**card, "memory_total_mib": 81559}],
    ...     [{"pid": 4711, "name": "python", "memory_mib": 79800, "gpu_uuid": "GPU-1"}],
    ... )
    'Now 812 of 81559 MiB are free on card 0 (NVIDIA H100); held by 4711 python 79800 MiB.'
    """
    sentences = []
    for card in cards:
        free_mib, total_mib = card.get("memory_free_mib"), card.get("memory_total_mib")
        if free_mib is None or not total_mib:
            continue
        where = f"card {card.get('index', '?')} ({card.get('name', 'unnamed')})"
        holders = holders_in_words(card, processes)
        if holders:
            holders = f"; held by {holders}"
        elif free_mib < _MOSTLY_FREE * total_mib:
            holders = "; the process that holds it cannot be seen from here (another container?)"
        sentences.append(f"{free_mib} of {total_mib} MiB are free on {where}{holders}.")
    return "Now " + " ".join(sentences) if sentences else ""


def holders_in_words(card: Mapping[str, Any], processes: Sequence[Mapping[str, Any]]) -> str:
    """Name the processes that hold memory of a card, the largest first: pid, name, MiB."""
    mine = [process for process in processes if process.get("gpu_uuid") == card.get("uuid")]
    mine.sort(key=lambda process: -process.get("memory_mib", 0))
    named = [
        f"{process['pid']} {process.get('name', '?').rpartition('/')[2]}"
        + (f" {process['memory_mib']} MiB" if "memory_mib" in process else "")
        + (" (this process)" if process["pid"] == os.getpid() else "")
        for process in mine[:_NAMED_HOLDERS]
    ]
    if len(mine) > _NAMED_HOLDERS:
        named.append(f"{len(mine) - _NAMED_HOLDERS} more")
    return ", ".join(named)


@dataclass(frozen=True, slots=True)
class Clocks:
    """How fast a card runs at a moment, and why not faster; None is what it does not tell."""

    sm_mhz: int | None = None
    memory_mhz: int | None = None
    throttling: tuple[str, ...] | None = None
    """Names in `THROTTLING`."""


class Watcher:
    """Asks for the clocks of one card again and again; close it in the end.

    Parameters
    ----------
    ordinal : int
        The number that CUDA has for the card in this process.
    """

    def __init__(self, ordinal: int) -> None:
        command, environment = _ours(f"follow({ordinal})")
        self._process: subprocess.Popen[bytes] | None = subprocess.Popen(
            command, env=environment, bufsize=0,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def look(self) -> Clocks | None:
        """What they are now; None, for good, once the driver has failed or was late.

        It takes some 0.1 ms, and the first time as long as the driver's library takes to be loaded.
        """
        if self._process is None:
            return None
        asked, answers = self._process.stdin, self._process.stdout
        assert asked is not None
        assert answers is not None
        with contextlib.suppress(OSError, ValueError, TypeError):
            asked.write(b"?")
            if select.select([answers], [], [], TIMEOUT_S)[0]:
                told = json.loads(os.read(answers.fileno(), 4096))
                reasons = told.get("throttling")
                return Clocks(
                    told.get("sm_clock_mhz"),
                    told.get("memory_clock_mhz"),
                    None if reasons is None else tuple(reasons),
                )
        self.close()
        return None

    def close(self) -> None:
        """End its process."""
        if self._process is not None:
            _abandon(self._process)
            self._process = None


# -- The driver's library -------------------------------------------------------------------------

_Told = tuple[list[dict[str, Any]], list[dict[str, Any]]]
"""The cards, and the processes on them."""

_COMPUTE_MODES = ("Default", "Exclusive_Thread", "Prohibited", "Exclusive_Process")

_CHANGING = {
    "index",
    "memory_free_mib",
    "sm_clock_mhz",
    "memory_clock_mhz",
    "utilization_percent",
    "temperature_c",
    "power_w",
    "throttling",
}


def _driver() -> _Told:
    """Ask the driver's library in a process of its own, or `nvidia-smi` where it cannot be loaded.

    A call into a driver that waits for a dead card cannot be ended, and a process that it is made
    in cannot end either. So it is made in one that nobody has to wait for.
    """
    if not has_nvidia_driver():
        return [], []
    said = _answer(*_ours("tell()"))
    if said is None:
        return [], []
    with contextlib.suppress(ValueError):
        cards, processes = json.loads(said)
        return cards, processes
    return _smi()


def _ours(call: str) -> tuple[list[str], dict[str, str]]:
    """The command that calls a function of this module in a process of its own; its environment."""
    path = os.pathsep.join(filter(None, sys.path))
    program = f"from convbench.machine import nvidia; nvidia.{call}"
    return [sys.executable, "-P", "-c", program], os.environ | {"PYTHONPATH": path}


def tell() -> None:
    """Write what the driver's library says to standard output; fail where it cannot be loaded."""
    import pynvml  # noqa: PLC0415  # it is asked in a process of its own alone

    def ask(question: Callable[..., Any], *of: Any) -> Any:
        with contextlib.suppress(pynvml.NVMLError, AttributeError, LookupError):
            return question(*of)
        return None

    pynvml.nvmlInit()
    cards, processes = [], []
    for index in range(pynvml.nvmlDeviceGetCount()):
        card = ask(pynvml.nvmlDeviceGetHandleByIndex, index)
        questions = {} if card is None else _questions(pynvml, card)
        told = {name: ask(question) for name, question in questions.items()}
        cards.append(known({"index": index, **told}))
        for process in ask(pynvml.nvmlDeviceGetComputeRunningProcesses, card) or ():
            bytes_used = process.usedGpuMemory
            mine = {
                "pid": process.pid,
                "name": ask(pynvml.nvmlSystemGetProcessName, process.pid),
                "memory_mib": None if bytes_used is None else bytes_used >> 20,
                "gpu_uuid": told.get("uuid"),
            }
            processes.append(known(mine))
    sys.stdout.write(json.dumps([cards, processes]))


def follow(ordinal: int) -> None:
    """Answer each byte of standard input with the clocks of a card, until there is none."""
    import pynvml  # noqa: PLC0415  # as in tell

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who asks, who then ends us
    pynvml.nvmlInit()
    questions = _questions(pynvml, _counted(pynvml, ordinal))
    while sys.stdin.buffer.read(1):
        told = {}
        for name in ("sm_clock_mhz", "memory_clock_mhz", "throttling"):
            with contextlib.suppress(pynvml.NVMLError, AttributeError):
                told[name] = questions[name]()
        sys.stdout.write(f"{json.dumps(told)}\n")
        sys.stdout.flush()


def _counted(nvml: Any, ordinal: int) -> Any:
    """The card that CUDA counts so: of those that are visible, and not in the order of NVML."""
    try:
        driver = ctypes.CDLL(_LIBRARY)
    except OSError:
        return nvml.nvmlDeviceGetHandleByIndex(ordinal)
    device, place = ctypes.c_int(), ctypes.create_string_buffer(32)
    code = driver.cuInit(0)
    code = code or driver.cuDeviceGet(ctypes.byref(device), ordinal)
    code = code or driver.cuDeviceGetPCIBusId(place, len(place), device)
    if code:
        raise OSError(f"CUDA error {code}")
    return nvml.nvmlDeviceGetHandleByPciBusId(place.value)


def _questions(nvml: Any, card: Any) -> dict[str, Callable[[], Any]]:
    return {
        "uuid": lambda: nvml.nvmlDeviceGetUUID(card),
        "name": lambda: nvml.nvmlDeviceGetName(card),
        "driver": nvml.nvmlSystemGetDriverVersion,
        "memory_total_mib": lambda: nvml.nvmlDeviceGetMemoryInfo(card).total >> 20,
        "memory_free_mib": lambda: nvml.nvmlDeviceGetMemoryInfo(card).free >> 20,
        "sm_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(card, nvml.NVML_CLOCK_SM),
        "sm_clock_max_mhz": lambda: nvml.nvmlDeviceGetMaxClockInfo(card, nvml.NVML_CLOCK_SM),
        "memory_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(card, nvml.NVML_CLOCK_MEM),
        "memory_clock_max_mhz": lambda: nvml.nvmlDeviceGetMaxClockInfo(card, nvml.NVML_CLOCK_MEM),
        "persistence": lambda: bool(nvml.nvmlDeviceGetPersistenceMode(card)),
        "compute_mode": lambda: _COMPUTE_MODES[nvml.nvmlDeviceGetComputeMode(card)],
        "utilization_percent": lambda: nvml.nvmlDeviceGetUtilizationRates(card).gpu,
        "temperature_c": lambda: nvml.nvmlDeviceGetTemperature(card, nvml.NVML_TEMPERATURE_GPU),
        "power_w": lambda: nvml.nvmlDeviceGetPowerUsage(card) / 1000,
        "power_limit_w": lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(card) / 1000,
        # Its name until driver 535; newer ones answer to it too.
        "throttling": lambda: _reasons(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(card)),
    }


def _reasons(bits: int) -> list[str]:
    return [name for bit, name in THROTTLING.items() if bits & bit]


def _smi() -> _Told:
    """The same of `nvidia-smi`, as far as it cannot be done without."""
    cards = [
        {
            "index": integer(index),
            "uuid": uuid,
            "name": name,
            "driver": driver,
            "memory_total_mib": integer(total),
            "memory_free_mib": integer(free),
        }
        for index, uuid, name, driver, total, free in _rows(
            "--query-gpu", "index,uuid,name,driver_version,memory.total,memory.free"
        )
    ]
    processes = [
        {"pid": integer(pid), "name": name, "memory_mib": integer(used), "gpu_uuid": uuid}
        for pid, uuid, used, name in _rows(
            "--query-compute-apps", "pid,gpu_uuid,used_memory,process_name"
        )
    ]
    return [*map(known, cards)], [known(found) for found in processes if found["pid"] is not None]


def _rows(query: str, fields: str) -> Iterator[list[str]]:
    program = shutil.which("nvidia-smi")
    words = (f"{query}={fields}", "--format=csv,noheader,nounits")
    said = _answer([program, *words]) if program else None
    commas = fields.count(",")
    rows = (line.split(", ", commas) for line in (said or "").splitlines())
    return (row for row in rows if len(row) == commas + 1)


def _answer(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str | None:
    """What a program writes; "" if it fails, None if it is late."""
    try:
        process = subprocess.Popen(
            command, env=environment, text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    except OSError:
        return ""
    try:
        answer, _ = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        _abandon(process)
        return None
    return answer if process.returncode == 0 else ""


def _abandon(process: subprocess.Popen[Any]) -> None:
    """End a process; one that waits for a dead card cannot be killed, and is not waited for."""
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
    for pipe in filter(None, (process.stdin, process.stdout)):
        pipe.close()
