"""What a backend is measured with, where it has nothing of its own."""

from __future__ import annotations

import threading

import numpy as np

from convbench.backends import gauges
from convbench.backends.numpy import NumpyBackend
from convbench.machine.facts import machine_facts


def test_every_backend_has_those_of_a_cpu() -> None:
    backend = NumpyBackend("cpu")
    backend.flusher()()
    left = np.arange(9, dtype="float32").reshape(3, 3)
    assert np.array_equal(backend.gemm(3)(left), left @ np.ones((3, 3), "float32"))
    backend.copier(400)(np.zeros(100, "float32"))
    assert backend.memory()() >= 0
    assert backend.device_timer() is None
    assert backend.capture(None, None) is None


def test_the_threads_of_a_large_copy_end_with_it(monkeypatch) -> None:
    monkeypatch.setattr(gauges, "_SHARED_COPY_BYTES", 0)
    monkeypatch.setattr(gauges, "machine_facts", lambda: machine_facts() | {"logical_cores": 3})
    before = set(threading.enumerate())
    made = []
    monkeypatch.setattr(gauges.np, "empty", lambda *how: made.append(np.zeros(*how)) or made[-1])
    copy = NumpyBackend("cpu").copier(40)
    x = np.arange(10, dtype="float32")
    copy(x)
    assert np.array_equal(made[0], x)
    started = set(threading.enumerate()) - before
    assert 1 <= len(started) <= 3
    del copy
    assert not any(thread.is_alive() for thread in started)
