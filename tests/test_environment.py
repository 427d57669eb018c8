"""Whether there is a GPU, asked of a driver that is made up."""

from __future__ import annotations

import ctypes

import pytest

from convbench.environment import nvidia_devices
from convbench.errors import BackendUnavailable, Unavailability


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
