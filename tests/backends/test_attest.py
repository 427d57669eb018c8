"""What the side of a backend answers the judge."""

from __future__ import annotations

import numpy as np
import pytest

from convbench.backends.attest import attest
from convbench.backends.base import Run


class _Channel:
    """The judge's end: some orders, and what came of them."""

    def __init__(self, *orders: dict) -> None:
        self.orders, self.answers = [*orders, {"do": "end"}], []

    def recv(self) -> dict:
        return self.orders.pop(0)

    def send(self, answer: dict) -> None:
        self.answers.append(answer)


class _Backend:
    """Notes what it is asked for, and computes twice its input."""

    def __init__(self, device: str) -> None:
        self.device, self.asked = device, []

    def to_device(self, array: np.ndarray) -> np.ndarray:
        self.asked.append("to device")
        return array.copy()

    def to_numpy(self, array: np.ndarray) -> np.ndarray:
        self.asked.append("to NumPy")
        return array

    def synchronize(self) -> None:
        self.asked.append("wait")

    def run(self, x: np.ndarray) -> np.ndarray:
        self.asked.append("run")
        return 2 * x


IN_A_ROW = [*["to device"] * 3, "wait", *["run", "wait"] * 3, *["to NumPy"] * 3]


@pytest.mark.parametrize("device", ["cpu", "gpu:0"])
def test_nothing_is_copied_between_the_runs(device: str) -> None:
    xs = [np.full((1, 2, 2, 1), i, np.float32) for i in range(3)]
    backend, channel = _Backend(device), _Channel({"do": "calls", "xs": xs})
    attest(channel, backend, Run(backend.run, "twice"))
    (answer,) = channel.answers
    assert backend.asked == IN_A_ROW
    assert len(answer["seconds"]) == 3
    assert all(np.array_equal(y, 2 * x) for x, y in zip(xs, answer["ys"], strict=True))
