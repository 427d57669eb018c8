"""What a machine has: asked of a driver, of /proc and /sys, and of a driver, all made up."""

from __future__ import annotations

import ctypes
import inspect
import json
import os
import re
import stat
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from convbench.errors import BackendUnavailable, Unavailability
from convbench.machine import facts, nvidia
from convbench.machine.facts import machine_facts, moment
from convbench.machine.nvidia import gpu_processes, gpus, has_nvidia_driver, nvidia_devices

# -- the driver ------------------------------------------------------------------------------------


class Driver:
    def __init__(self, started=0, counted=0, devices=0):
        self.codes = started, counted
        self.devices = devices

    def cuInit(self, flags):  # noqa: N802
        return self.codes[0]

    def cuDeviceGetCount(self, count):  # noqa: N802
        count._obj.value = self.devices
        return self.codes[1]


@pytest.mark.parametrize("devices", [1, 8])
def test_devices_are_counted(monkeypatch, devices):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(devices=devices))
    assert nvidia_devices() == devices


@pytest.mark.parametrize(
    ("driver", "reason"),
    [
        (Driver(devices=0), "counts 0 GPUs"),
        (Driver(started=100), "counts 0 GPUs"),  # CUDA_VISIBLE_DEVICES is empty
        (Driver(started=999), "does not start (CUDA error 999)"),
        (Driver(counted=3), "does not start (CUDA error 3)"),
    ],
)
def test_without_a_device_there_is_a_reason(monkeypatch, driver, reason):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    with pytest.raises(BackendUnavailable) as raised:
        nvidia_devices()
    assert raised.value.kind is Unavailability.NO_DEVICE
    assert reason in raised.value.reason
    assert raised.value.remedy


def test_without_a_driver_there_is_a_reason(monkeypatch):
    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(BackendUnavailable, match="there is no NVIDIA driver"):
        nvidia_devices()


# -- /proc and /sys --------------------------------------------------------------------------------

XEON = """\
processor	: 0
model name	: Intel(R) Xeon(R) Gold 6230 CPU @ 2.10GHz
cpu MHz		: 2095.077
flags		: fpu vme de sse2 avx512f
"""
MEMINFO = """\
MemTotal:       24684084 kB
MemFree:        19235748 kB
MemAvailable:   20194628 kB
SwapTotal:       2097148 kB
SwapFree:        2000000 kB
HugePages_Total:       0
"""
STAT = """\
cpu  68311 100 22161 74865 333 7 83 642 50 20
cpu0 68311 100 22161 74865 333 7 83 642 50 20
ctxt 115315
procs_running 3
procs_blocked 1
"""
BARE_METAL = {
    "proc/cpuinfo": XEON,
    "proc/meminfo": MEMINFO,
    "proc/stat": STAT,
    "proc/loadavg": "1.67 2.07 1.76 4/128 5037\n",
    "proc/pressure/cpu": "some avg10=3.66 avg60=4.17 avg300=16.16 total=299751705\n",
    "proc/vmstat": "nr_free_pages 9\npswpin 12\npswpout 30\n",
    "proc/sys/kernel/osrelease": "6.1.0-18-amd64\n",
    "proc/self/cgroup": "0::/user.slice/user-1000.slice\n",
    "etc/os-release": 'NAME="Debian GNU/Linux"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    "sys/devices/system/cpu/online": "0-3,8\n",
    "sys/devices/system/cpu/smt/active": "1\n",
    "sys/devices/system/cpu/intel_pstate/no_turbo": "0\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "performance\n",
    "sys/devices/system/cpu/cpu2/cpufreq/scaling_governor": "powersave\n",
    "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "3900000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1200000\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "3700000\n",
    "sys/devices/system/cpu/cpu0/topology/thread_siblings_list": "0-1\n",
    "sys/devices/system/cpu/cpu1/topology/thread_siblings_list": "0-1\n",
    "sys/devices/system/cpu/cpu0/cache/index0/level": "1\n",
    "sys/devices/system/cpu/cpu0/cache/index0/size": "32K\n",
    "sys/devices/system/cpu/cpu0/cache/index3/level": "3\n",
    "sys/devices/system/cpu/cpu0/cache/index3/size": "28160K\n",
    "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc\n",
    "sys/class/dmi/id/sys_vendor": "Dell Inc.\n",
    "sys/class/dmi/id/product_name": "PowerEdge R640\n",
}


def plant(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    monkeypatch.setattr(facts, "_usable_cores", lambda: [0, 1])
    for name in facts._SETTINGS:
        monkeypatch.delenv(name, raising=False)


def test_the_facts_of_a_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    monkeypatch.setenv("OPENBLAS_CORETYPE", "SKYLAKEX")
    facts = machine_facts(plant(tmp_path, BARE_METAL))
    assert facts == {
        "cpu_model": "Intel(R) Xeon(R) Gold 6230 CPU @ 2.10GHz",
        "logical_cores": 2,
        "physical_cores": 1,
        "machine_cores": 5,
        "governors": ["performance", "powersave"],
        "cpu_max_mhz": 3900.0,
        "turbo": True,
        "smt": True,
        "last_level_cache_bytes": 28160 << 10,
        "memory_bytes": 24684084 << 10,
        "swap_bytes": 2097148 << 10,
        "clock_source": "tsc",
        "kernel": "6.1.0-18-amd64",
        "os": "Debian GNU/Linux 12 (bookworm)",
        "virtualised": False,
        "python": facts["python"],
        "thread_settings": {"OMP_NUM_THREADS": "4", "OPENBLAS_CORETYPE": "SKYLAKEX"},
    }
    assert facts["python"].startswith("CPython 3.")


def test_a_moment(tmp_path):
    before_s = time.time()
    now = moment(plant(tmp_path, BARE_METAL))
    assert before_s <= now.pop("unix_s") <= time.time()
    assert now == {
        "load_1min": 1.67,
        "load_5min": 2.07,
        "load_15min": 1.76,
        "running_processes": 3,
        "cpu_total_jiffies": 68311 + 100 + 22161 + 74865 + 333 + 7 + 83 + 642,
        "cpu_idle_jiffies": 74865 + 333,
        "cpu_steal_jiffies": 642,
        "cpu_pressure_s": 299.751705,
        "cpu_mhz_min": 1200.0,
        "cpu_mhz_max": 3700.0,
        "memory_available_bytes": 20194628 << 10,
        "swap_used_bytes": (2097148 - 2000000) << 10,
        "swapped_pages": 42,
    }


def test_what_is_unknown_is_absent(tmp_path):
    assert set(machine_facts(tmp_path)) == {"logical_cores", "python", "thread_settings"}
    assert set(moment(tmp_path)) == {"unix_s"}


def test_nonsense_is_unknown(tmp_path):
    nonsense = dict.fromkeys(BARE_METAL, "\xff ?\n")
    facts = machine_facts(plant(tmp_path, nonsense))
    for name in ("turbo", "smt", "memory_bytes", "cpu_max_mhz", "last_level_cache_bytes"):
        assert name not in facts
    assert "cpu_total_jiffies" not in moment(tmp_path)


def test_this_machine(monkeypatch):
    monkeypatch.undo()
    facts, now = machine_facts(), moment()
    assert json.loads(json.dumps([facts, now])) == [facts, now]
    assert facts["logical_cores"] >= 1
    if sys.platform == "linux":
        assert facts["memory_bytes"] > now["memory_available_bytes"] > 0
        assert now["running_processes"] >= 1


@pytest.mark.parametrize(
    ("files", "facts"),
    [
        # Control groups, version 2: the least quota on the way up counts.
        ({"sys/fs/cgroup/user.slice/cpu.max": "150000 100000\n"}, {"cpu_quota_cores": 1.5}),
        ({"sys/fs/cgroup/user.slice/cpu.max": "max 100000\n"}, {}),
        (
            {
                "sys/fs/cgroup/user.slice/cpu.max": "max 100000\n",
                "sys/fs/cgroup/user.slice/user-1000.slice/cpu.max": "400000 100000\n",
                "sys/fs/cgroup/user.slice/user-1000.slice/memory.max": "2147483648\n",
                "sys/fs/cgroup/user.slice/memory.max": "max\n",
            },
            {"cpu_quota_cores": 4.0, "memory_limit_bytes": 2 << 30},
        ),
        # In a container the path is the host's, and what is mounted is the container's.
        (
            {
                "proc/self/cgroup": "0::/system.slice/docker-1234.scope\n",
                "sys/fs/cgroup/cpu.max": "50000 100000\n",
            },
            {"cpu_quota_cores": 0.5},
        ),
        # Version 1.
        (
            {
                "proc/self/cgroup": "5:cpu,cpuacct:/job\n4:memory:/job\n0::/job\n",
                "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "1073741824\n",
            },
            {"cpu_quota_cores": 2.0, "memory_limit_bytes": 1 << 30},
        ),
        (
            {
                "proc/self/cgroup": "5:cpu:/\n4:memory:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            {},
        ),
    ],
)
def test_the_limits_of_control_groups(tmp_path, files, facts):
    found = machine_facts(plant(tmp_path, BARE_METAL | files))
    names = ("cpu_quota_cores", "memory_limit_bytes")
    assert {name: found[name] for name in names if name in found} == facts


@pytest.mark.parametrize(
    ("files", "stopped_s"),
    [
        ({"sys/fs/cgroup/user.slice/cpu.stat": "usage_usec 9\nthrottled_usec 2500000\n"}, 2.5),
        (
            {
                "proc/self/cgroup": "5:cpu:/job\n",
                "sys/fs/cgroup/cpu/job/cpu.stat": "nr_throttled 3\nthrottled_time 250000000\n",
            },
            0.25,
        ),
    ],
)
def test_how_long_a_quota_stopped_it(tmp_path, files, stopped_s):
    found = moment(plant(tmp_path, BARE_METAL | files))
    assert found["cpu_throttled_s"] == pytest.approx(stopped_s)


CPU = "sys/devices/system/cpu"


@pytest.mark.parametrize(
    ("files", "turbo"),
    [
        ({f"{CPU}/intel_pstate/no_turbo": "1"}, False),
        ({f"{CPU}/intel_pstate/no_turbo": "0"}, True),
        ({f"{CPU}/cpufreq/boost": "1"}, True),
        ({f"{CPU}/cpufreq/policy0/boost": "0"}, False),
        ({}, None),
    ],
)
def test_turbo(tmp_path, files, turbo):
    assert machine_facts(plant(tmp_path, files)).get("turbo") is turbo


@pytest.mark.parametrize(
    ("files", "virtualised"),
    [
        ({"proc/cpuinfo": "flags\t\t: fpu hypervisor sse2\n"}, True),
        ({"proc/cpuinfo": "flags\t\t: fpu sse2\n"}, False),
        ({"proc/cpuinfo": "Features\t: fp asimd\n"}, None),
        ({"sys/class/dmi/id/sys_vendor": "QEMU"}, True),
        ({"sys/class/dmi/id/sys_vendor": "Amazon EC2",
          "sys/class/dmi/id/product_name": "c7g.metal"}, False),
        ({"sys/class/dmi/id/product_name": "PowerEdge R640"}, False),
    ],
)  # fmt: skip
def test_a_virtual_machine(tmp_path, files, virtualised):
    assert machine_facts(plant(tmp_path, files)).get("virtualised") is virtualised


def test_a_processor_without_a_name(tmp_path):
    info = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd4f\n"
    facts = machine_facts(plant(tmp_path, {"proc/cpuinfo": info}))
    assert facts["cpu_model"] == "ARM implementer 0x41 part 0xd4f"


def test_clocks_without_a_driver_for_them(tmp_path):
    now = moment(plant(tmp_path, {"proc/cpuinfo": "cpu MHz\t\t: 2095.0\ncpu MHz : 3000.5\n"}))
    assert (now["cpu_mhz_min"], now["cpu_mhz_max"]) == (2095.0, 3000.5)


def test_neither_needs_an_array_library():
    code = (
        "import sys; from convbench.machine.facts import machine_facts, moment;"
        " machine_facts(); moment();"
        " sys.exit(any(name in sys.modules for name in ('numpy', 'tensorflow', 'cupy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- the driver's library --------------------------------------------------------------------------

CARD = {
    "index": 0,
    "uuid": "GPU-0",
    "name": "NVIDIA H100 80GB HBM3",
    "driver": "570.86.15",
    "memory_total_mib": 81559,
    "memory_free_mib": 81037,
    "sm_clock_mhz": 345,
    "sm_clock_max_mhz": 1980,
    "memory_clock_mhz": 2619,
    "memory_clock_max_mhz": 2619,
    "persistence": True,
    "compute_mode": "Default",
    "utilization_percent": 0,
    "temperature_c": 31,
    "power_w": 69.85,
    "power_limit_w": 700.0,
    "throttling": 0x1,
}
READ = CARD | {"throttling": ["gpu_idle"]}

PYNVML = """\
import json, time
from types import SimpleNamespace
cards, processes, sleep_s, loads = json.loads({data!r})
NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
class NVMLError(Exception): pass
def told(card, key):
    if card.get(key) is None: raise NVMLError("Not Supported")
    return card[key]
def nvmlInit():
    time.sleep(sleep_s)
    if not loads: raise NVMLError("NVML Shared Library Not Found")
def nvmlDeviceGetCount(): return len(cards)
def nvmlDeviceGetHandleByIndex(index):
    if cards[index] is None: raise NVMLError("GPU is lost")
    return cards[index]
def nvmlSystemGetDriverVersion(): return told(cards[0], "driver")
def nvmlDeviceGetUUID(card): return told(card, "uuid")
def nvmlDeviceGetName(card): return told(card, "name")
def nvmlDeviceGetMemoryInfo(card):
    names = ("memory_total_mib", "memory_free_mib")
    total, free = ((told(card, name) << 20) + 5 for name in names)
    return SimpleNamespace(total=total, free=free)
def nvmlDeviceGetClockInfo(card, of):
    return told(card, ("", "sm_clock_mhz", "memory_clock_mhz")[of])
def nvmlDeviceGetMaxClockInfo(card, of):
    return told(card, ("", "sm_clock_max_mhz", "memory_clock_max_mhz")[of])
def nvmlDeviceGetPersistenceMode(card): return int(told(card, "persistence"))
def nvmlDeviceGetComputeMode(card):
    return ["Default", "", "Prohibited", "Exclusive_Process"].index(told(card, "compute_mode"))
def nvmlDeviceGetUtilizationRates(card):
    return SimpleNamespace(gpu=told(card, "utilization_percent"))
def nvmlDeviceGetTemperature(card, of): return told(card, "temperature_c")
def nvmlDeviceGetPowerUsage(card): return round(told(card, "power_w") * 1000)
def nvmlDeviceGetEnforcedPowerLimit(card): return round(told(card, "power_limit_w") * 1000)
def nvmlDeviceGetCurrentClocksThrottleReasons(card): return told(card, "throttling")
def nvmlDeviceGetComputeRunningProcesses(card):
    return [
        SimpleNamespace(pid=pid, usedGpuMemory=None if mib is None else mib << 20)
        for pid, uuid, mib, name in processes if uuid == told(card, "uuid")
    ]
def nvmlSystemGetProcessName(number):
    return told({{pid: name for pid, _, _, name in processes}}, number)
"""


def plant_driver(folder, monkeypatch, cards=(CARD,), processes=(), sleep_s=0, loads=True):
    """Make the driver's library have these cards, and (pid, uuid, MiB, name) on them."""
    data = json.dumps([list(cards), list(processes), sleep_s, loads])
    (folder / "pynvml.py").write_text(PYNVML.format(data=data))
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(nvidia, "has_nvidia_driver", lambda root="/": True)
    monkeypatch.setenv("PATH", str(folder))  # and not the machine's nvidia-smi
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # it may be planted twice in a second


def test_cards(tmp_path, monkeypatch):
    plant_driver(tmp_path, monkeypatch, [CARD, CARD | {"index": 1, "uuid": "GPU-1"}])
    assert gpus() == [READ, READ | {"index": 1, "uuid": "GPU-1"}]
    assert json.loads(json.dumps(gpus())) == gpus()


def test_what_a_card_does_not_tell_is_absent(tmp_path, monkeypatch):
    silent = {name: None for name in CARD if name not in {"index", "name"}}
    plant_driver(tmp_path, monkeypatch, [CARD | silent, None])
    assert gpus() == [{"index": 0, "name": "NVIDIA H100 80GB HBM3"}, {"index": 1}]


@pytest.mark.parametrize(
    ("bits", "reasons"),
    [
        (0x0, []),
        (0x24, ["sw_power_cap", "sw_thermal_slowdown"]),
        (0xC8, ["hw_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown"]),
    ],
)
def test_why_a_card_is_slow(tmp_path, monkeypatch, bits, reasons):
    plant_driver(tmp_path, monkeypatch, [CARD | {"throttling": bits}])
    assert gpus()[0]["throttling"] == reasons


def test_processes(tmp_path, monkeypatch):
    on = [(4711, "GPU-0", 79800, "/opt/a, b/python"), (12, "GPU-1", None, None)]
    plant_driver(tmp_path, monkeypatch, [CARD, CARD | {"uuid": "GPU-1"}], on)
    assert gpu_processes() == [
        {"pid": 4711, "name": "/opt/a, b/python", "memory_mib": 79800, "gpu_uuid": "GPU-0"},
        {"pid": 12, "gpu_uuid": "GPU-1"},
    ]


def test_one_that_hangs_is_not_waited_for(tmp_path, monkeypatch):
    plant_driver(tmp_path, monkeypatch, sleep_s=600)
    plant_smi(tmp_path, ["0, GPU-0, NVIDIA H100, 570.86.15, 81559, 81037"])
    monkeypatch.setattr(nvidia, "TIMEOUT_S", 0.2)
    assert gpus() == gpu_processes() == []


def test_without_a_driver_no_process_is_started(tmp_path, monkeypatch):
    plant_driver(tmp_path, monkeypatch)
    monkeypatch.setattr(nvidia, "has_nvidia_driver", lambda root="/": False)
    monkeypatch.setattr(subprocess, "Popen", None)
    assert gpus() == gpu_processes() == []


# -- A card that is watched ------------------------------------------------------------------------


@pytest.fixture
def watched():
    """Watchers that are closed in the end, and leave no process."""
    watchers = []

    def watch(ordinal=0):
        watchers.append(nvidia.Watcher(ordinal))
        return watchers[-1]

    yield watch
    for watcher in watchers:
        process = watcher._process
        watcher.close()
        watcher.close()
        assert watcher.look() is None
        assert process is None or process.poll() is not None


def test_the_clocks_of_a_card_are_told_again_and_again(tmp_path, monkeypatch, watched):
    plant_driver(tmp_path, monkeypatch, [CARD, CARD | {"sm_clock_mhz": 1980, "throttling": 0x48}])
    idle = nvidia.Clocks(345, 2619, ("gpu_idle",))
    hot = nvidia.Clocks(1980, 2619, ("hw_slowdown", "hw_thermal_slowdown"))
    one, other = watched(0), watched(1)
    assert [one.look(), other.look(), one.look()] == [idle, hot, idle]


def test_clocks_that_a_card_does_not_tell_are_not_made_up(tmp_path, monkeypatch, watched):
    plant_driver(tmp_path, monkeypatch, [CARD | {"sm_clock_mhz": None, "throttling": None}])
    assert watched().look() == nvidia.Clocks(None, 2619, None)


@pytest.mark.parametrize(
    "driver", [{"sleep_s": 600}, {"loads": False}, {"cards": [None]}], ids=["hangs", "no", "lost"]
)
def test_a_driver_that_fails_is_asked_once(tmp_path, monkeypatch, watched, driver):
    plant_driver(tmp_path, monkeypatch, **driver)
    if "sleep_s" in driver:
        monkeypatch.setattr(nvidia, "TIMEOUT_S", 0.2)
    watcher = watched()
    assert watcher.look() is None
    monkeypatch.setattr(nvidia, "select", None)
    assert watcher.look() is None


class Numbered:
    """CUDA's second card lies in another place than NVML's."""

    def __init__(self, code=0):
        self.code = code

    def cuInit(self, flags):  # noqa: N802
        return 0

    def cuDeviceGet(self, device, ordinal):  # noqa: N802
        device._obj.value = 10 + ordinal
        return self.code

    def cuDeviceGetPCIBusId(self, place, size, device):  # noqa: N802
        place.value = b"0000:%02d:00.0" % device.value
        return 0


def test_cards_are_counted_as_cuda_counts_them(monkeypatch):
    nvml = SimpleNamespace(nvmlDeviceGetHandleByPciBusId=lambda place: ("at", place))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Numbered())
    assert nvidia._counted(nvml, 1) == ("at", b"0000:11:00.0")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Numbered(code=101))
    with pytest.raises(OSError, match="CUDA error 101"):
        nvidia._counted(nvml, 1)


def test_the_real_library_has_what_is_asked_of_it():
    pynvml = pytest.importorskip("pynvml")
    names = set(re.findall(r"\b(?:py)?nvml\.(\w+)", inspect.getsource(nvidia)))
    assert len(names) > 15
    assert [name for name in names if not hasattr(pynvml, name)] == []


# -- nvidia-smi, where the library cannot be loaded ------------------------------------------------


def plant_smi(folder, cards=(), processes=(), code=0):
    """Put an nvidia-smi on PATH that writes these lines."""
    said = {"--query-gpu": cards, "--query-compute-apps": processes}
    path = folder / "nvidia-smi"
    path.write_text(
        f"#!{sys.executable}\nimport sys\n"
        f"assert sys.argv[2] == '--format=csv,noheader,nounits'\n"
        f"print(chr(10).join({said!r}[sys.argv[1].partition('=')[0]]))\nsys.exit({code})\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_nvidia_smi_tells_the_most_important(tmp_path, monkeypatch):
    plant_driver(tmp_path, monkeypatch, loads=False)
    plant_smi(
        tmp_path,
        ["0, GPU-0, NVIDIA H100, 570.86.15, 81559, 81037", "1, GPU-1, GT, 470.1, [N/A], [N/A]"],
        [
            "4711, GPU-0, 79800, /opt/a, b/python",
            "12, GPU-1, [N/A], x",
            "[Insufficient Permissions], GPU-1, 3, x",
        ],
    )
    shown = ("index", "uuid", "driver", "memory_total_mib", "memory_free_mib")
    first = {key: CARD[key] for key in shown} | {"name": "NVIDIA H100"}
    assert gpus() == [first, {"index": 1, "uuid": "GPU-1", "name": "GT", "driver": "470.1"}]
    assert gpu_processes() == [
        {"pid": 4711, "name": "/opt/a, b/python", "memory_mib": 79800, "gpu_uuid": "GPU-0"},
        {"pid": 12, "name": "x", "gpu_uuid": "GPU-1"},
    ]


def test_without_either_there_is_nothing(tmp_path, monkeypatch):
    plant_driver(tmp_path, monkeypatch, loads=False)
    assert gpus() == gpu_processes() == []
    plant_smi(tmp_path, ["0, GPU-0, NVIDIA H100, 570.86.15, 81559, 81037"], code=9)
    assert gpus() == gpu_processes() == []
    (tmp_path / "nvidia-smi").write_text("this is no program")
    assert gpus() == gpu_processes() == []


@pytest.mark.parametrize("driver", ["proc/driver/nvidia/version", "dev/nvidia0", "dev/dxg", None])
def test_a_moment_asks_the_card_only_if_there_is_a_driver(tmp_path, monkeypatch, driver):
    (tmp_path / "bin").mkdir()
    plant_driver(tmp_path / "bin", monkeypatch)
    root = plant(tmp_path, BARE_METAL | ({driver: ""} if driver else {}))
    assert has_nvidia_driver(root) is (driver is not None)
    changing = {
        "index": 0,
        "memory_free_mib": 81037,
        "sm_clock_mhz": 345,
        "memory_clock_mhz": 2619,
        "utilization_percent": 0,
        "temperature_c": 31,
        "power_w": 69.85,
        "throttling": ["gpu_idle"],
    }
    assert moment(root).get("gpus") == ([changing] if driver else None)


def test_a_driver_is_found_by_its_library(monkeypatch):
    monkeypatch.setattr(nvidia.Path, "exists", lambda path: False)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver())
    assert has_nvidia_driver()

    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert not has_nvidia_driver()


# -- Threads of a judge ----------------------------------------------------------------------------

JUDGE = """
import os, re, sys
import convbench.cli.main
from convbench.machine.facts import load_with_one_thread
assert "numpy" not in sys.modules
before = dict(os.environ)
load_with_one_thread()
assert dict(os.environ) == before
import numpy
a = numpy.ones((600, 600))
a @ a
print(re.search(r"^Threads:\\s+(\\d+)$", open("/proc/self/status").read(), re.M)[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted as Linux tells them")
@pytest.mark.skipif(len(facts._usable_cores()) < 2, reason="BLAS has one thread on one core anyway")
@pytest.mark.parametrize(("asked", "threads"), [({}, 1), ({"OPENBLAS_NUM_THREADS": "2"}, 2)])
def test_a_judge_multiplies_on_one_thread_unless_the_user_says_more(asked, threads):
    inherited = {k: v for k, v in os.environ.items() if k not in facts.THREAD_SETTINGS}
    done = subprocess.run(
        [sys.executable, "-c", JUDGE], env=inherited | asked,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, str(threads)), done.stderr
