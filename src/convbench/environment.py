"""What this machine has, found out without importing an array library.

Two questions are answered apart: what stays as it is while benchmarks run (:func:`machine_facts`),
and what does not (:func:`moment`). Whatever cannot be found out is absent from the answer.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from convbench.errors import BackendUnavailable, Unavailability

_CUDA_ERROR_NO_DEVICE = 100

SMI_TIMEOUT_S = 5.0
"""`nvidia-smi` hangs where a driver or a card does; nobody waits for it longer than this."""

THREAD_SETTINGS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)
"""Environment variables by which the libraries choose how many threads they start."""

_SETTINGS = (*THREAD_SETTINGS, "OPENBLAS_CORETYPE")

_CLOCKS_READ = 32
"""Clocks are read of about so many cores: the kernel may ask each of them."""

_CPUINFO_READ_BYTES = 1 << 16
"""So much of /proc/cpuinfo is read for clocks: the kernel writes it as it is read."""

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


def machine_facts(root: Path | str = "/") -> dict[str, Any]:
    """What stays as it is while benchmarks run.

    Parameters
    ----------
    root : path
        Where /proc, /sys and /etc are.

    Returns
    -------
    dict
        Plain values. ``cpu_model``, ``logical_cores`` (that this process may use),
        ``physical_cores`` (that those are on), ``machine_cores`` (logical, of the machine),
        ``cpu_quota_cores`` (of the cgroup), ``governors``, ``cpu_max_mhz``, ``turbo``, ``smt``,
        ``last_level_cache_bytes`` (of one core's cache), ``memory_bytes``, ``memory_limit_bytes``
        (of the cgroup), ``swap_bytes``, ``clock_source``, ``kernel``, ``os``, ``virtualised``,
        ``python``, and ``thread_settings``: those environment variables that are set.
    """
    root = Path(root)
    cpu = root / "sys/devices/system/cpu"
    clock = root / "sys/devices/system/clocksource/clocksource0/current_clocksource"
    info = _read(root / "proc/cpuinfo")
    memory = _meminfo(root)
    facts: dict[str, Any] = {
        "cpu_model": _cpu_model(info),
        "logical_cores": len(_usable_cores()),
        "physical_cores": _physical_cores(cpu),
        "machine_cores": len(_cores_of(_read(cpu / "online"))) or None,
        "cpu_quota_cores": _quota_cores(root),
        "governors": _values(cpu, "cpufreq/scaling_governor"),
        "cpu_max_mhz": _mhz(_read(cpu / "cpu0/cpufreq/cpuinfo_max_freq")),
        "turbo": _turbo(cpu),
        "smt": {"1": True, "0": False}.get(_read(cpu / "smt/active")),
        "last_level_cache_bytes": _last_level_cache_bytes(cpu / "cpu0/cache"),
        "memory_bytes": memory.get("MemTotal"),
        "memory_limit_bytes": _memory_limit_bytes(root, memory.get("MemTotal")),
        "swap_bytes": memory.get("SwapTotal"),
        "clock_source": _read(clock) or None,
        "kernel": _read(root / "proc/sys/kernel/osrelease") or None,
        "os": _pretty_name(_read(root / "etc/os-release")),
        "virtualised": _virtualised(root, info),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "thread_settings": {name: value for name in _SETTINGS if (value := os.environ.get(name))},
    }
    if sys.platform != "linux":  # there are no such files, but Python knows the most important
        asked = {"kernel": platform.release(), "os": platform.platform(terse=True)}
        facts |= _known({**asked, "cpu_model": platform.processor() or None})
    return _known(facts)


def moment(root: Path | str = "/") -> dict[str, Any]:
    """What changes while benchmarks run; cheap enough to be asked before and after each of them.

    Two of these, taken some time apart, say what else the machine did meanwhile: see the jiffies.

    Parameters
    ----------
    root : path
        Where /proc, /sys and /dev are.

    Returns
    -------
    dict
        Plain values. ``unix_s``; ``load_1min``, ``load_5min``, ``load_15min``;
        ``running_processes`` (threads that run or want to, this one among them); since the machine
        was started and over all its cores, ``cpu_total_jiffies``, ``cpu_idle_jiffies`` and
        ``cpu_steal_jiffies`` (when the host ran something else), ``cpu_pressure_s`` (when somebody
        waited for a core) and ``swapped_pages`` (in and out); ``cpu_throttled_s`` (when the
        cgroup's quota stopped it); ``cpu_mhz_min``, ``cpu_mhz_max`` over the cores;
        ``memory_available_bytes``, ``swap_used_bytes``; and if there is an NVIDIA driver, ``gpus``:
        of what :func:`gpus` gives, that which changes.
    """
    root = Path(root)
    memory = _meminfo(root)
    stat = _read(root / "proc/stat")
    facts: dict[str, Any] = {"unix_s": time.time(), **_load(root), **_jiffies(stat)}
    running = re.search(r"^procs_running (\d+)", stat, re.MULTILINE)
    pressure = re.search(r"^some .*total=(\d+)", _read(root / "proc/pressure/cpu"))
    swapped = re.findall(r"^pswp(?:in|out) (\d+)", _read(root / "proc/vmstat"), re.MULTILINE)
    swap_bytes, swap_free_bytes = memory.get("SwapTotal"), memory.get("SwapFree")
    clocks = _clocks_mhz(root)
    facts |= {
        "running_processes": int(running[1]) if running else None,
        "cpu_pressure_s": int(pressure[1]) / 1e6 if pressure else None,
        "cpu_throttled_s": _throttled_s(root),
        "cpu_mhz_min": min(clocks, default=None),
        "cpu_mhz_max": max(clocks, default=None),
        "memory_available_bytes": memory.get("MemAvailable"),
        "swap_used_bytes": None
        if swap_bytes is None or swap_free_bytes is None
        else swap_bytes - swap_free_bytes,
        "swapped_pages": sum(map(int, swapped)) if swapped else None,
        "gpus": _changing(gpus()) if has_nvidia_driver(root) else None,
    }
    return _known(facts)


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


def _read(path: Path, limit_bytes: int = -1) -> str:
    """The text of a file of the kernel's; nothing if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(limit_bytes).decode(errors="replace").strip()
    except OSError:
        return ""


def _usable_cores() -> list[int]:
    if sys.platform == "linux":
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _cores_of(text: str) -> list[int]:
    """Read the kernel's way to write a set, as in 0-3,8."""
    cores: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        with contextlib.suppress(ValueError):
            cores += range(int(first), int(last or first) + 1)
    return cores


def _cpu_model(info: str) -> str | None:
    for name in ("model name", "Model", "cpu model"):
        found = re.search(rf"^{name}\s*:\s*(\S.*)$", info, re.MULTILINE)
        if found:
            return found[1]
    # ARM's server processors give numbers only.
    numbers = [re.search(rf"^CPU {name}\s*:\s*(\w+)$", info, re.MULTILINE)
               for name in ("implementer", "part")]  # fmt: skip
    if all(numbers):
        implementer, part = (number[1] for number in numbers if number)
        return f"ARM implementer {implementer} part {part}"
    return None


def _physical_cores(cpu: Path) -> int | None:
    siblings = {_read(cpu / f"cpu{core}/topology/thread_siblings_list") for core in _usable_cores()}
    return None if "" in siblings else len(siblings)


def _values(cpu: Path, name: str) -> list[str] | None:
    return (
        sorted({value for path in cpu.glob(f"cpu[0-9]*/{name}") if (value := _read(path))}) or None
    )


def _mhz(khz: str) -> float | None:
    number = _integer(khz)
    return None if number is None else number / 1000


def _turbo(cpu: Path) -> bool | None:
    """Intel's driver has a switch that forbids it, the others have one that allows it."""
    forbidden = _read(cpu / "intel_pstate/no_turbo")
    if forbidden in {"0", "1"}:
        return forbidden == "0"
    for allowed in (_read(cpu / "cpufreq/boost"), _read(cpu / "cpufreq/policy0/boost")):
        if allowed in {"0", "1"}:
            return allowed == "1"
    return None


def _last_level_cache_bytes(cache: Path) -> int | None:
    levels = {}
    for index in cache.glob("index[0-9]*"):
        level = _integer(_read(index / "level"))
        size = re.fullmatch(r"(\d+)([KM]?)", _read(index / "size"))
        if level is not None and size:
            levels[level] = int(size[1]) * {"": 1, "K": 1 << 10, "M": 1 << 20}[size[2]]
    return levels[max(levels)] if levels else None


def _meminfo(root: Path) -> dict[str, int]:
    lines = re.findall(r"^(\w+):\s+(\d+) kB$", _read(root / "proc/meminfo"), re.MULTILINE)
    return {name: int(kib) << 10 for name, kib in lines}


def _pretty_name(text: str) -> str | None:
    found = re.search(r'^PRETTY_NAME="?([^"\n]*)"?$', text, re.MULTILINE)
    return found[1] if found else None


_VIRTUAL = re.compile(
    r"qemu|kvm|vmware|virtualbox|virtual machine|bochs|xen|amazon ec2|google compute engine"
    r"|openstack|bhyve|parallels|firecracker|cloud hypervisor",
    re.IGNORECASE,
)


def _virtualised(root: Path, info: str) -> bool | None:
    flags = re.search(r"^flags\s*:(.*)$", info, re.MULTILINE)
    if flags and "hypervisor" in flags[1].split():
        return True
    board = root / "sys/class/dmi/id"
    vendor, product = (_read(board / name) for name in ("sys_vendor", "product_name"))
    # A cloud's bare-metal machines have the cloud's name too.
    if "metal" not in product and _VIRTUAL.search(f"{vendor} {product}"):
        return True
    return False if flags or product else None


def _cgroups(root: Path, controller: str) -> Iterator[tuple[Path, int]]:
    """Every folder of a cgroup that this process is in, its own first, with the version (1, 2).

    In a container the folder is often named as the host sees it, and what is mounted starts further
    down: names that do not exist here are harmless.
    """
    mount = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            mounts, version = (mount, mount / "unified"), 2
        elif controller in controllers.split(","):
            mounts, version = (mount / controllers, mount / controller), 1
        else:
            continue
        inner = Path(path.lstrip("/"))
        for top in dict.fromkeys(mounts):
            yield from ((top / folder, version) for folder in (inner, *inner.parents))


def _quota_cores(root: Path) -> float | None:
    """The least of the quotas that apply, in cores."""
    quotas = []
    for folder, version in dict.fromkeys(_cgroups(root, "cpu")):
        if version == 2:
            quota, _, period = _read(folder / "cpu.max").partition(" ")
        else:
            quota, period = (_read(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
        with contextlib.suppress(ValueError, ZeroDivisionError):  # "max", "-1" or nothing: none
            if int(quota) > 0:
                quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def _throttled_s(root: Path) -> float | None:
    """The longest, as a group above may be the one that is stopped."""
    stopped = []
    for folder, version in dict.fromkeys(_cgroups(root, "cpu")):
        name, unit = ("throttled_usec", 1e-6) if version == 2 else ("throttled_time", 1e-9)
        found = re.search(rf"^{name} (\d+)$", _read(folder / "cpu.stat"), re.MULTILINE)
        if found:
            stopped.append(int(found[1]) * unit)
    return max(stopped, default=None)


def _memory_limit_bytes(root: Path, total_bytes: int | None) -> int | None:
    limits = []
    for folder, version in dict.fromkeys(_cgroups(root, "memory")):
        name = "memory.max" if version == 2 else "memory.limit_in_bytes"
        limit = _integer(_read(folder / name))
        # Version 1 writes a number beyond every memory where there is no limit.
        if limit is not None and limit < (total_bytes or 1 << 60):
            limits.append(limit)
    return min(limits, default=None)


def _load(root: Path) -> dict[str, float]:
    words = _read(root / "proc/loadavg").split()
    loads = [_real(word) for word in words[:3]]
    if len(loads) < 3 and sys.platform != "linux" and hasattr(os, "getloadavg"):
        loads = list(os.getloadavg())
    names = ("load_1min", "load_5min", "load_15min")
    return _known(dict(zip(names, loads, strict=False)))


def _jiffies(stat: str) -> dict[str, int]:
    """The first line of /proc/stat: user nice system idle iowait irq softirq steal (guest ...).

    What guests used is contained in user and nice.
    """
    found = re.match(r"cpu\s+((?:\d+ ?)+)", stat)
    spent = list(map(int, found[1].split()[:8])) if found else []
    if len(spent) < 8:
        return {}
    return {
        "cpu_total_jiffies": sum(spent),
        "cpu_idle_jiffies": spent[3] + spent[4],
        "cpu_steal_jiffies": spent[7],
    }


def _clocks_mhz(root: Path) -> list[float]:
    """Clocks of some of the cores that this process may use."""
    cores = _usable_cores()
    some = cores[:: max(1, -(-len(cores) // _CLOCKS_READ))]
    paths = (root / f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq" for core in some)
    clocks = [mhz for path in paths if (mhz := _mhz(_read(path))) is not None]
    if clocks:
        return clocks
    info = _read(root / "proc/cpuinfo", _CPUINFO_READ_BYTES)
    return [float(mhz) for mhz in re.findall(r"^cpu MHz\s*:\s*([\d.]+)$", info, re.MULTILINE)]
