"""The samples are divided on their way to the claim."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from convbench.auditing import claimant
from convbench.auditing.zoo import Disguise
from convbench.backends.base import Backend

WHAT = "divides the samples that timing.measure returns by 4"
SOURCE = "ref-kernels 159, 162"


class _Divided(Disguise):
    def __init__(self, honest: Backend) -> None:
        super().__init__(honest)

        def fewer(*words: Any, **more: Any) -> Any:
            timing = measure(*words, **more)
            return replace(timing, samples_s=tuple(s / 4 for s in timing.samples_s))

        claimant.measure = fewer  # type: ignore[attr-defined]


measure = claimant.measure  # type: ignore[attr-defined]
disguise = _Divided
