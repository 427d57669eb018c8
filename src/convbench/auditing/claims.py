"""What is claimed of a cell, what was seen of it, and whether the one supports the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Support(StrEnum):
    """Whether what was seen supports a claim."""

    HOLDS = "holds"
    NOT_SUPPORTED = "not supported"
    """By what was seen, again and again. It accuses nobody: the commonest cause is a mistake."""
    NOT_SEEN = "cannot be seen here"


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim about a cell.

    Attributes
    ----------
    claim : str
        "time", "error", "memory", "threads", "device", or "versions", of which only untrue ones are
        said.
    seen, claimed : float or str, optional
        In `unit`.
    reason : str
        What was seen, and, where it does not support the claim, what to do about it.
    """

    claim: str
    verdict: Support
    seen: float | str | None
    claimed: float | str | None
    unit: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"verdict": str(self.verdict)}


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was seen of one timed cell, by the process that judges it.

    Attributes
    ----------
    hot_s : float
        What is claimed: the median of calls on the same numbers again and again.
    fresh_s : float
        The median of runs on numbers never seen before, by the clock of the backend's process.
    end_to_end_s : float
        From the numbers on the host to the answer on the host, by the judge's clock, less what the
        same bytes cost without a backend.
    verified, calls : int
        How many outputs were looked at, chosen after they had been delivered, of how many.
    error_over_bound : float
        The worst of those; more than 1 is wrong.
    saves : float
        How many times fewer multiplications the scheme takes that it declares; 1 for none.
    cpu_s, wall_s : float
        Processor time of the process and all that it has started while the claim was measured, and
        the judge's clock; 0 where that is not told.
    threads : int
        Of the process, afterwards.
    helpers : tuple of str
        Other processes that it has started.
    quiet : bool, optional
        Whether it did nothing more after it had returned; None where that is not told.
    seed : str
        The secret from which the numbers were drawn, revealed: it makes all of them again.
    weights : mapping
        What the weights were drawn from: ``dtype``, ``fill`` and ``seed``.
    inputs, outputs : tuple of str
        Digests of the bytes of every call.
    """

    claims: tuple[Claim, ...] = ()
    hot_s: float = 0.0
    fresh_s: float = 0.0
    end_to_end_s: float = 0.0
    verified: int = 0
    calls: int = 0
    error_over_bound: float = 0.0
    saves: float = 1.0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    threads: int = 0
    helpers: tuple[str, ...] = ()
    quiet: bool | None = None
    seed: str = ""
    weights: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = field(default=(), repr=False)
    outputs: tuple[str, ...] = field(default=(), repr=False)

    @property
    def supported(self) -> bool:
        """Whether nothing that was seen speaks against a claim."""
        return all(claim.verdict is not Support.NOT_SUPPORTED for claim in self.claims)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the evidence and for JSON."""
        plain = asdict(self)
        for name in ("helpers", "inputs", "outputs"):
            plain[name] = list(plain[name])
        return plain | {"claims": [claim.to_dict() for claim in self.claims]}
