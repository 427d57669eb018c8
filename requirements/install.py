# ruff: noqa: T201  (a script talks to whoever started it)
"""Install the locked requirements that fit this machine into the Python that runs this script.

    python requirements/install.py [--dev]      install
    python requirements/install.py --gpus       only print how many GPUs the NVIDIA driver shows

gpu.txt is taken where an NVIDIA driver shows a GPU, cpu.txt elsewhere; CONVBENCH_LOCK=cpu or gpu in
the environment decides instead. pip accepts nothing whose hash is not in the lock.

To try another version of one library, CONVBENCH_REPLACE="tensorflow==2.20.0" installs that over
the lock, without its dependencies and without a hash. As a variable of asv's matrix it makes an
environment of its own.

The Makefile runs this for .venv, and asv runs the copy in each commit that it measures, so that a
commit which moves TensorFlow is measured with that TensorFlow. Keep the command line as it is: old
commits cannot follow a change.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
OLDEST, TOO_NEW = (3, 11), (3, 14)  # requires-python of pyproject.toml; a test compares them
PIP = (
    "-m", "pip", "install",
    "--require-hashes",
    "--only-binary=:all:",  # a build from source would fetch build tools that no lock names
    "--no-input",
    "--disable-pip-version-check",
)  # fmt: skip


def gpu_count() -> int:
    """Ask the driver itself: a toolkit or a device file can be there without a usable GPU."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def choose_lock() -> str:
    """Return ``cpu`` or ``gpu``, and say why."""
    wanted = os.environ.get("CONVBENCH_LOCK", "")
    if wanted not in {"", "cpu", "gpu"}:
        sys.exit(f"install.py: CONVBENCH_LOCK is {wanted!r}; expected cpu or gpu. Set or unset it.")
    if wanted:
        lock, reason = wanted, "CONVBENCH_LOCK says so"
    elif gpus := gpu_count():
        lock, reason = "gpu", f"the NVIDIA driver shows {gpus} GPU(s)"
    else:
        lock, reason = "cpu", "no NVIDIA driver shows a GPU"
    print(f"Requirements: {lock}.txt, because {reason}.", flush=True)
    return lock


def install(locks: list[str]) -> int:
    """Run pip once over all locks, show only what takes long, and return its exit status."""
    command = [sys.executable, *PIP]
    for lock in locks:
        command += ["-r", f"{lock}.txt"]
    with subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, text=True) as pip:
        assert pip.stdout is not None
        for line in map(str.strip, pip.stdout):
            if line.startswith("Downloading ") and line.endswith("MB)"):
                print(f"  {line}", flush=True)
            elif line.startswith("Installing collected packages: "):
                print(f"  Installing {line.count(',') + 1} package(s)", flush=True)
    return pip.returncode


def replace(requirements: list[str]) -> int:
    """Install these over what the lock has put there, and nothing that they depend on."""
    print(f"Instead of the lock's: {', '.join(requirements)}.", flush=True)
    command = [sys.executable, *PIP[:3], *PIP[4:], "--no-deps", "--quiet", *requirements]
    return subprocess.run(command, check=False).returncode


def main() -> int:
    """Install, or count GPUs."""
    parser = argparse.ArgumentParser(description="Install the locked requirements.")
    parser.add_argument("--dev", action="store_true", help="also what the tests and checks need")
    parser.add_argument("--gpus", action="store_true", help="only print the number of GPUs")
    options = parser.parse_args()
    if options.gpus:
        print(gpu_count())
        return 0
    if not OLDEST <= sys.version_info[:2] < TOO_NEW:
        sys.exit(
            f"install.py: {sys.executable} is Python {sys.version.split()[0]}; expected"
            f" >={OLDEST[0]}.{OLDEST[1]},<{TOO_NEW[0]}.{TOO_NEW[1]}."
            " Run this script with such a Python."
        )
    started_s = time.monotonic()
    status = install([choose_lock(), *(["dev"] if options.dev else [])])
    if not status and (replaced := os.environ.get("CONVBENCH_REPLACE", "").split()):
        status = replace(replaced)
    if status:
        sys.exit(f"install.py: pip failed with exit status {status}; its message is above.")
    print(f"Requirements are in place after {time.monotonic() - started_s:.0f} s.", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
