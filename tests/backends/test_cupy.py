"""CuPy's device side, as far as it goes without a GPU: which words explain that there is none."""

from __future__ import annotations

import pytest

from convbench.backends.cupy import CupyBackend, _remedy
from convbench.errors import BackendUnavailable, Unavailability


def absence() -> BackendUnavailable | None:
    try:
        CupyBackend.devices()
    except BackendUnavailable as error:
        return error
    return None


def test_without_a_gpu_it_says_why() -> None:
    found = absence()
    if found is None or found.kind is not Unavailability.NO_DEVICE:
        pytest.skip(f"only where CuPy is installed and there is no GPU: {found or 'there is one'}")
    assert "cuda" in found.reason.lower()
    assert found.remedy


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
