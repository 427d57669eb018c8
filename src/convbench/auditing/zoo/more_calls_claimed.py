"""Four times the calls in the same time: samples, calls and clock agree with each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from convbench.auditing import claimant
from convbench.auditing.zoo import Disguise
from convbench.backends.base import Backend

WHAT = "claims to have made four times the calls that it made"
SOURCE = "pygpubench 7"


class _More(Disguise):
    def __init__(self, honest: Backend) -> None:
        super().__init__(honest)

        def more(*words: Any, **named: Any) -> Any:
            timing = measure(*words, **named)
            samples_s = tuple(s / 4 for s in timing.samples_s)
            warmup_calls = 4 * timing.warmup_calls
            return replace(
                timing, samples_s=samples_s, number=4 * timing.number, warmup_calls=warmup_calls
            )

        claimant.measure = more  # type: ignore[attr-defined]


measure = claimant.measure  # type: ignore[attr-defined]
disguise = _More
