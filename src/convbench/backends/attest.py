"""The side of a backend in a conversation with the judge: it obeys, and decides nothing.

After a run has been timed the judge asks for calls on numbers that nobody has seen before, and
holds its own clock against the claim. What is answered here is not believed, it is looked at: every
output goes back whole, and :mod:`convbench.auditing` says what it is worth.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np

from convbench.backends.base import Backend, Run
from convbench.machine.child import Questions
from convbench.stimulus.arrays import Array, exactly_an_array


def attest(channel: Questions, backend: Backend, run: Run) -> None:
    """Obey the judge until it has seen enough.

    Parameters
    ----------
    channel : Questions
        To the judge. Each order is a dictionary with the key "do", and has one answer:

        - ``calls``: compute each of the arrays ``xs`` from the host and back; the outputs ``ys``
          and the seconds of each run by this process's clock.
        - ``copies``: only copy arrays there and back; as many as ``xs``, of ``size`` elements each.
        - ``end``: no answer.
    """
    while True:
        order = channel.recv()
        match order["do"]:
            case "calls":
                channel.send(_calls(backend, run, order["xs"]))
            case "copies":
                channel.send(_copies(backend, order["xs"], order["size"]))
            case _:
                return


def _calls(backend: Backend, run: Run, xs: list[Array]) -> dict[str, Any]:
    """Compute each, and time the runs alone: all are copied first, and computed in a row.

    Just after it has copied megabytes a host takes three times as long to ask a card for anything,
    since none of what it needs for that is in its caches any more (from 33 to 96 us on an H200,
    reports/gpu.md). On a CPU the threads of a library sleep by then: it takes them 300 us to wake
    up (reports/audit.md), which is more than a small layer; the second in a row does without.
    """
    placed = [backend.to_device(x) for x in xs]
    backend.synchronize()
    computed, seconds = [], []
    for each in placed:
        begin_s = perf_counter()
        y = run(each)
        backend.synchronize()
        seconds.append(perf_counter() - begin_s)
        computed.append(y)
    return {"ys": [exactly_an_array(backend.to_numpy(y)) for y in computed], "seconds": seconds}


def _copies(backend: Backend, xs: list[Array], size: int) -> dict[str, Any]:
    ys = []
    for x in xs:
        backend.to_device(x)
        backend.synchronize()
        y = backend.to_device(np.resize(x, (1, 1, 1, size)))
        backend.synchronize()
        ys.append(exactly_an_array(backend.to_numpy(y)))
    return {"ys": ys}
