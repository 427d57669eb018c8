"""What this machine has, found out without importing an array library."""

from __future__ import annotations

import ctypes
import sys

from convbench.errors import BackendUnavailable, Unavailability

_CUDA_ERROR_NO_DEVICE = 100


def nvidia_devices() -> int:
    """How many GPUs the NVIDIA driver offers to this process: at least 1.

    It takes milliseconds, where importing a library to find no GPU takes seconds. The process must
    not fork afterwards and use CUDA in the child: the driver does not survive a fork.

    Raises
    ------
    BackendUnavailable
        If there is no driver or no device.
    """
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
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
