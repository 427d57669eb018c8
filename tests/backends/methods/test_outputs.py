"""Large arrays are lent again, and never while anybody can see them."""

from __future__ import annotations

import numpy as np
import pytest

from convbench.backends.methods import outputs as module
from convbench.backends.methods.outputs import outputs


@pytest.fixture(autouse=True)
def _everything_is_large(monkeypatch) -> None:
    monkeypatch.setattr(module, "_LARGE_BYTES", 0)


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_what_nobody_holds_is_lent_again() -> None:
    new = outputs((1, 2, 3, 4), "float32")
    first = address(new())
    again = new()
    assert (address(again), again.shape, again.dtype) == (first, (1, 2, 3, 4), np.float32)
    assert again.flags.writeable
    assert again.flags.c_contiguous


@pytest.mark.parametrize(
    "keep",
    [
        lambda array: array,
        lambda array: array[0, 1:],
        lambda array: array.reshape(-1)[::2].reshape(3, 4).T,
        memoryview,
        lambda array: np.frombuffer(array, "uint8"),
        np.from_dlpack,
        lambda array: array.view(type("Sub", (np.ndarray,), {})),
    ],
    ids=["itself", "a view", "a view of views", "buffer", "from buffer", "dlpack", "subclass"],
)
def test_what_somebody_holds_is_not(keep) -> None:
    new = outputs((1, 2, 3, 4), "float32")
    kept = keep(new())
    np.asarray(kept)[...] = 7
    for _ in range(3):
        new()[...] = 1
    assert (np.asarray(kept) == 7).all()


def test_one_at_most_is_kept() -> None:
    new = outputs((1, 2, 3, 4), "float32")
    several = [new() for _ in range(4)]
    assert len({address(array) for array in several}) == 4
    del several
    (free,) = (cell.cell_contents for cell in new.__closure__ if len(cell.cell_contents) == 1)
    assert len(free) == 1
