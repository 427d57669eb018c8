"""What this machine has, found out without importing an array library.

Two questions are answered apart: what stays as it is while benchmarks run (:func:`machine_facts`),
and what does not (:func:`moment`). Whatever cannot be found out is absent from the answer.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convbench.machine.nvidia import changing, gpus, has_nvidia_driver, known
from convbench.words.numbers import integer

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


def load_with_one_thread() -> None:
    """Import NumPy so that its BLAS has one thread in this process, unless the user has said more.

    A judge has little to multiply, and threads of its own that wait for more take the cores of
    the process that it looks at. What is started afterwards chooses for itself.
    """
    ours = dict.fromkeys(THREAD_SETTINGS, "1")
    if not ours.keys().isdisjoint(os.environ):
        return
    os.environ.update(ours)
    try:
        importlib.import_module("numpy")
    finally:
        for name in ours:
            del os.environ[name]


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
    governors = {_read(path) for path in cpu.glob("cpu[0-9]*/cpufreq/scaling_governor")}
    facts: dict[str, Any] = {
        "cpu_model": _cpu_model(info),
        "logical_cores": len(_usable_cores()),
        "physical_cores": _physical_cores(cpu),
        "machine_cores": len(_cores_of(_read(cpu / "online"))) or None,
        "cpu_quota_cores": _quota_cores(root),
        "governors": sorted(governors - {""}) or None,
        "cpu_max_mhz": _mhz(_read(cpu / "cpu0/cpufreq/cpuinfo_max_freq")),
        "turbo": _turbo(cpu),
        "smt": {"1": True, "0": False}.get(_read(cpu / "smt/active")),
        "last_level_cache_bytes": _last_level_cache_bytes(cpu / "cpu0/cache"),
        "memory_bytes": memory.get("MemTotal"),
        "memory_limit_bytes": _memory_limit_bytes(root, memory.get("MemTotal")),
        "swap_bytes": memory.get("SwapTotal"),
        "clock_source": _read(clock) or None,
        "kernel": _read(root / "proc/sys/kernel/osrelease") or None,
        "os": _find(r'^PRETTY_NAME="?([^"\n]*)"?$', _read(root / "etc/os-release")),
        "virtualised": _virtualised(root, info),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "thread_settings": {name: value for name in _SETTINGS if (value := os.environ.get(name))},
    }
    if sys.platform != "linux":  # there are no such files, but Python knows the most important
        asked = {"kernel": platform.release(), "os": platform.platform(terse=True)}
        facts |= known({**asked, "cpu_model": platform.processor() or None})
    return known(facts)


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
    running = _find(r"^procs_running (\d+)", stat)
    pressure_us = _find(r"^some .*total=(\d+)", _read(root / "proc/pressure/cpu"))
    swapped = re.findall(r"^pswp(?:in|out) (\d+)", _read(root / "proc/vmstat"), re.MULTILINE)
    clocks = _clocks_mhz(root)
    facts |= {
        "running_processes": int(running) if running else None,
        "cpu_pressure_s": int(pressure_us) / 1e6 if pressure_us else None,
        "cpu_throttled_s": _throttled_s(root),
        "cpu_mhz_min": min(clocks, default=None),
        "cpu_mhz_max": max(clocks, default=None),
        "memory_available_bytes": memory.get("MemAvailable"),
        "swapped_pages": sum(map(int, swapped)) if swapped else None,
        "gpus": changing(gpus()) if has_nvidia_driver(root) else None,
    }
    if "SwapTotal" in memory and "SwapFree" in memory:
        facts["swap_used_bytes"] = memory["SwapTotal"] - memory["SwapFree"]
    return known(facts)


def _read(path: Path, limit_bytes: int = -1) -> str:
    """The text of a file of the kernel's; nothing if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(limit_bytes).decode(errors="replace").strip()
    except OSError:
        return ""


def _find(pattern: str, text: str) -> str | None:
    """The group of the first match, where ^ and $ are ends of lines."""
    found = re.search(pattern, text, re.MULTILINE)
    return found[1] if found else None


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
        if model := _find(rf"^{name}\s*:\s*(\S.*)$", info):
            return model
    # ARM's server processors give numbers only.
    implementer = _find(r"^CPU implementer\s*:\s*(\w+)$", info)
    part = _find(r"^CPU part\s*:\s*(\w+)$", info)
    return f"ARM implementer {implementer} part {part}" if implementer and part else None


def _physical_cores(cpu: Path) -> int | None:
    siblings = {_read(cpu / f"cpu{core}/topology/thread_siblings_list") for core in _usable_cores()}
    return None if "" in siblings else len(siblings)


def _mhz(khz: str) -> float | None:
    number = integer(khz)
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
        level = integer(_read(index / "level"))
        size = re.fullmatch(r"(\d+)([KM]?)", _read(index / "size"))
        if level is not None and size:
            levels[level] = int(size[1]) * {"": 1, "K": 1 << 10, "M": 1 << 20}[size[2]]
    return levels[max(levels)] if levels else None


def _meminfo(root: Path) -> dict[str, int]:
    lines = re.findall(r"^(\w+):\s+(\d+) kB$", _read(root / "proc/meminfo"), re.MULTILINE)
    return {name: int(kib) << 10 for name, kib in lines}


_VIRTUAL = re.compile(
    r"qemu|kvm|vmware|virtualbox|virtual machine|bochs|xen|amazon ec2|google compute engine"
    r"|openstack|bhyve|parallels|firecracker|cloud hypervisor",
    re.IGNORECASE,
)


def _virtualised(root: Path, info: str) -> bool | None:
    flags = _find(r"^flags\s*:(.*)$", info)
    if flags and "hypervisor" in flags.split():
        return True
    board = root / "sys/class/dmi/id"
    vendor, product = (_read(board / name) for name in ("sys_vendor", "product_name"))
    # A cloud's bare-metal machines have the cloud's name too.
    if "metal" not in product and _VIRTUAL.search(f"{vendor} {product}"):
        return True
    return False if flags is not None or product else None


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
    for folder, version in _cgroups(root, "cpu"):
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
    for folder, version in _cgroups(root, "cpu"):
        name, unit = ("throttled_usec", 1e-6) if version == 2 else ("throttled_time", 1e-9)
        if found := _find(rf"^{name} (\d+)$", _read(folder / "cpu.stat")):
            stopped.append(int(found) * unit)
    return max(stopped, default=None)


def _memory_limit_bytes(root: Path, total_bytes: int | None) -> int | None:
    limits = []
    for folder, version in _cgroups(root, "memory"):
        name = "memory.max" if version == 2 else "memory.limit_in_bytes"
        limit = integer(_read(folder / name))
        # Version 1 writes a number beyond every memory where there is no limit.
        if limit is not None and limit < (total_bytes or 1 << 60):
            limits.append(limit)
    return min(limits, default=None)


def _load(root: Path) -> dict[str, float]:
    found = re.match(r"([\d.]+) ([\d.]+) ([\d.]+) ", _read(root / "proc/loadavg"))
    loads = [float(load) for load in found.groups()] if found else []
    if not loads and sys.platform != "linux" and hasattr(os, "getloadavg"):
        loads = list(os.getloadavg())
    return dict(zip(("load_1min", "load_5min", "load_15min"), loads, strict=False))


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
