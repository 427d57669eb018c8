"""NVIDIA's driver and its cards, asked without an array library."""

from __future__ import annotations

import contextlib
import ctypes
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from convbench.errors import BackendUnavailable, Unavailability

_CUDA_ERROR_NO_DEVICE = 100

SMI_TIMEOUT_S = 5.0
"""`nvidia-smi` hangs where a driver or a card does; nobody waits for it longer than this."""

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
    name = _driver_library()
    try:
        driver = ctypes.CDLL(name)
    except OSError as error:
        raise BackendUnavailable(
            Unavailability.NO_DEVICE,
            f"there is no NVIDIA driver ({name} cannot be loaded)",
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
        ctypes.CDLL(_driver_library())
    except OSError:
        return False
    return True


def gpus() -> list[dict[str, Any]]:
    """Every card that `nvidia-smi` shows, as it is now.

    CUDA_VISIBLE_DEVICES hides none of them.

    Returns
    -------
    list of dict
        Empty without `nvidia-smi`, or if it fails or takes more than `SMI_TIMEOUT_S`. What a card
        does not tell is absent: ``index``, ``uuid``, ``name``, ``driver``, ``memory_total_mib``,
        ``memory_free_mib``, ``sm_clock_mhz``, ``sm_clock_max_mhz``, ``memory_clock_mhz``,
        ``memory_clock_max_mhz``, ``persistence``, ``compute_mode``, ``utilization_percent``,
        ``temperature_c``, ``power_w``, ``power_limit_w``, and ``throttling``: names in
        `THROTTLING`.
    """
    fields = dict(_GPU_FIELDS)
    while fields:
        answer = _smi("--query-gpu", fields)
        unknown = _UNKNOWN_FIELD.search(answer)
        if unknown is None:
            return [_card(fields, row) for row in _rows(answer, len(fields))]
        fields = _without(fields, unknown[1])
    return []


def gpu_processes() -> list[dict[str, Any]]:
    """Every process that computes on a card, as far as it can be seen from here.

    From inside a container the processes outside it cannot.

    Returns
    -------
    list of dict
        ``pid``, ``name``, ``memory_mib`` and the card's ``gpu_uuid``; what is not told is absent.
        Empty for the reasons for which :func:`gpus` is.
    """
    answer = _smi("--query-compute-apps", ("pid", "gpu_uuid", "used_memory", "process_name"))
    return [
        _known(
            {
                "pid": _integer(row[0]),
                "name": _word(", ".join(row[3:])),
                "memory_mib": _integer(row[2]),
                "gpu_uuid": _word(row[1]),
            }
        )
        for row in _rows(answer, 4)
        if _integer(row[0]) is not None
    ]


# -- nvidia-smi ------------------------------------------------------------------------------------


def _word(text: str) -> str | None:
    """What a field says; None for [N/A], [Not Supported], [Unknown Error], ERR! and the like."""
    absent = not text or text.startswith("[") or text in {"N/A", "ERR!"}
    return None if absent else text


def _integer(text: str) -> int | None:
    with contextlib.suppress(ValueError):
        return int(text)
    return None


def _real(text: str) -> float | None:
    with contextlib.suppress(ValueError):
        return float(text)
    return None


def _switch(text: str) -> bool | None:
    return {"Enabled": True, "Disabled": False}.get(text)


def _reasons(text: str) -> list[str] | None:
    try:
        bits = int(text, 16)
    except ValueError:
        return None
    return [name for bit, name in THROTTLING.items() if bits & bit]


_Fields = dict[str, tuple[str, Callable[[str], Any]]]
"""What nvidia-smi calls it; what it is called here, and how it is read."""

_GPU_FIELDS: _Fields = {
    "index": ("index", _integer),
    "uuid": ("uuid", _word),
    "name": ("name", _word),
    "driver_version": ("driver", _word),
    "memory.total": ("memory_total_mib", _integer),
    "memory.free": ("memory_free_mib", _integer),
    "clocks.sm": ("sm_clock_mhz", _integer),
    "clocks.max.sm": ("sm_clock_max_mhz", _integer),
    "clocks.mem": ("memory_clock_mhz", _integer),
    "clocks.max.mem": ("memory_clock_max_mhz", _integer),
    "persistence_mode": ("persistence", _switch),
    "compute_mode": ("compute_mode", _word),
    "utilization.gpu": ("utilization_percent", _integer),
    "temperature.gpu": ("temperature_c", _integer),
    "power.draw": ("power_w", _real),
    "enforced.power.limit": ("power_limit_w", _real),
    # Its name until driver 535, which takes both; newer ones may take the new one alone.
    "clocks_throttle_reasons.active": ("throttling", _reasons),
}
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
_OTHER_NAMES = {"clocks_throttle_reasons.active": "clocks_event_reasons.active"}
_UNKNOWN_FIELD = re.compile(r'Field "([^"]+)" is not a valid field to query')


def _without(fields: _Fields, unknown: str) -> _Fields:
    """Ask for it by its other name, or else no more; for nothing if it was not asked for."""
    if unknown not in fields:
        return {}
    names = {name: _OTHER_NAMES.get(name, "") if name == unknown else name for name in fields}
    return {name: fields[old] for old, name in names.items() if name}


def _smi(query: str, fields: Iterable[str]) -> str:
    """What `nvidia-smi` answers; nothing if it is absent, fails or is late."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    try:
        process = subprocess.Popen(
            [program, f"{query}={','.join(fields)}", "--format=csv,noheader,nounits"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace",
        )  # fmt: skip
    except OSError:
        return ""
    try:
        answer, _ = process.communicate(timeout=SMI_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        # One that waits for a dead card cannot be killed, and must not be waited for either.
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        if process.stdout is not None:
            process.stdout.close()
        return ""
    return answer if process.returncode == 0 or _UNKNOWN_FIELD.search(answer) else ""


def _rows(answer: str, least: int) -> Iterator[list[str]]:
    rows = ([field.strip() for field in line.split(",")] for line in answer.splitlines())
    return (row for row in rows if len(row) >= least)


def _changing(cards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in card.items() if key in _CHANGING} for card in cards]


def _card(fields: _Fields, row: list[str]) -> dict[str, Any]:
    read = zip(fields.values(), row, strict=False)
    return _known({key: convert(text) for (key, convert), text in read})


# -- /proc and /sys --------------------------------------------------------------------------------


def _driver_library() -> str:
    return "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


def _known(facts: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in facts.items() if value is not None}
