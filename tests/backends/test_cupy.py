"""CuPy's device side, as far as it goes without a GPU: which words explain that there is none."""

from __future__ import annotations

import pytest

from convbench.backends.cupy import CupyBackend, _remedy
from convbench.errors import BackendUnavailable, Unavailability


def test_without_a_gpu_it_says_why() -> None:
    try:
        devices = CupyBackend.devices()
    except BackendUnavailable as error:
        if error.kind is Unavailability.NOT_INSTALLED:
            pytest.skip(str(error))
        assert error.kind is Unavailability.NO_DEVICE
        assert "cuda" in error.reason.lower()
        assert error.remedy
    else:
        assert devices[0] == "gpu:0"


@pytest.mark.parametrize(
    ("driver", "runtime", "words"),
    [
        (0, 12090, "There is no NVIDIA driver"),
        (12020, 12090, "supports CUDA 12.2 and CuPy needs 12.9: upgrade the driver"),
        (12090, 12090, "CUDA_VISIBLE_DEVICES"),
        (13000, 12090, "CUDA_VISIBLE_DEVICES"),
    ],
)
def test_what_to_do(driver: int, runtime: int, words: str) -> None:
    assert words in _remedy(driver, runtime)
