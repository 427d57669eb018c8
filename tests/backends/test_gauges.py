"""Who is measured does not bring the scales."""

import numpy as np

from convbench.backends.gauges import gauge
from convbench.backends.numpy import NumpyBackend


class Mine(NumpyBackend):
    def memory(self):
        return lambda: 0

    def flusher(self):
        return lambda: None

    def gemm(self, n):
        return lambda left: left

    def copier(self, size_bytes):
        return lambda x: None


def test_a_plug_in_is_measured_with_our_own_on_a_cpu():
    mine = Mine("cpu")
    assert gauge(mine, "gemm")(8)(np.ones((8, 8), "float32"))[0, 0] == 8
    for name in ("flusher", "memory"):
        assert gauge(mine, name).func is getattr(NumpyBackend, name)
    assert gauge(mine, "copier").func is NumpyBackend.copier


def test_what_a_card_is_asked_with_is_the_backends_own():
    mine = Mine("cpu")
    mine.device = "gpu:0"
    assert gauge(mine, "memory")()() == 0


def test_ours_are_asked_for_their_own():
    assert gauge(NumpyBackend("cpu"), "gemm")(4) is not None
