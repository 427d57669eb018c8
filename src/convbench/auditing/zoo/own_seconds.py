"""The seconds of fresh calls fit the judge's clock in sum, and the claim in most of them."""

from __future__ import annotations

import time
from typing import Any

from convbench.auditing.zoo import Disguise
from convbench.backends import attest
from convbench.backends.base import Backend, Run

WHAT = "puts all seconds of a batch into one of its calls, and computes in to_numpy"
SOURCE = "pygpubench 7"


class _Seconds(Disguise):
    def __init__(self, honest: Backend) -> None:
        super().__init__(honest)

        def calls(*words: Any) -> Any:
            begin_s = time.perf_counter()
            answer = honest_calls(*words)
            answer["seconds"] = [1e-6] * len(answer["ys"])
            answer["seconds"][0] = time.perf_counter() - begin_s
            return answer

        vars(attest)["_calls"] = calls

    def answer(self, run: Run, x: Any) -> Any:
        return lambda: run(x)


honest_calls = attest._calls
disguise = _Seconds
