"""Does the judge see what it should? Every adversary of the zoo, planted; and none."""

from __future__ import annotations

import math
from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convbench.auditing.audit import Auditor
from convbench.auditing.claims import Support
from convbench.auditing.zoo import adversaries
from convbench.stimulus.spec import ConvSpec, PipelineSpec, PoolSpec
from convbench.stimulus.targets import Target
from convbench.stimulus.workloads import Workload
from convbench.words.numbers import times
from convbench.words.status import Exit
from convbench.words.table import Column, Table, line, stacked

if TYPE_CHECKING:
    from rich.console import RenderableType

TARGET = Target("numpy", "", "cpu")

PIPELINE = PipelineSpec(
    2, 31, 29, 24, conv=ConvSpec(40, 3, 3, padding="SAME"), bias=True, pool=PoolSpec("max", (2, 2))
)
"""About a millisecond: what is hidden of it shows."""

NEUTRAL = 1.4
"""A claim that is at most so many times below what was seen is the honest number."""


@dataclass(frozen=True, slots=True)
class Planted:
    """What became of one adversary.

    Attributes
    ----------
    name, what : str
        "" for the honest backend.
    seen_by : tuple of str
        The claims that were not supported.
    gain : float
        What it has gained in the end: what was seen of its time, or what the honest backend takes,
        over what stands in the row.
    reason : str
        Of the first of those claims; or why there is no row at all.
    """

    name: str
    what: str
    seen_by: tuple[str, ...]
    gain: float
    reason: str

    @property
    def caught(self) -> bool:
        """Whether it was flagged, or has gained nothing."""
        return bool(self.seen_by) or self.gain <= NEUTRAL

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "adversary": self.name,
            "what": self.what,
            "seen_by": list(self.seen_by),
            "gain": self.gain,
            "reason": self.reason,
            "caught": self.caught,
        }


def self_test(names: Collection[str] = ()) -> Generator[Planted]:
    """Plant adversaries into NumPy's process, as it is done; the honest backend comes first.

    Parameters
    ----------
    names : collection of str
        Only these; all by default.
    """
    with Auditor() as auditor:
        honest, best_s = _audit(auditor)
        yield honest
        for name, adversary in adversaries().items():
            if names and name not in names:
                continue
            found, _ = _audit(auditor, name, adversary.what(), best_s)
            if not found.caught:  # load may hide what is there, and make the honest look slow
                best_s = min(best_s, _audit(auditor)[1])
                found, _ = _audit(auditor, name, adversary.what(), best_s)
            yield found


def _audit(
    auditor: Auditor, name: str = "", what: str = "", honest_s: float = 0.0
) -> tuple[Planted, float]:
    """What became of one, and the time that stands in its row."""
    workload = Workload("self-test", PIPELINE, "smoke", "")
    (audited,) = auditor.audit(TARGET, [workload], name)
    receipt = audited.receipt
    doubted = [c for c in receipt.claims if c.verdict is Support.NOT_SUPPORTED]
    seen_by = tuple(claim.claim for claim in doubted)
    reason = doubted[0].reason if doubted else ""
    if audited.outcome is not None:  # no row is no gain
        return Planted(name, what, (*seen_by, "contract"), 0.0, audited.outcome.reason), math.inf
    # By what was seen of itself, and of the honest: the judge may have been deceived about the one.
    gain = max(receipt.end_to_end_s, honest_s) / receipt.hot_s
    return Planted(name, what, seen_by, gain, reason), receipt.hot_s


def exit_code(results: Sequence[Planted]) -> Exit:
    """WRONG if an adversary was missed or the honest backend accused."""
    honest, *planted = results
    if honest.seen_by or not all(result.caught for result in planted):
        return Exit.WRONG
    return Exit.OK if planted else Exit.NOTHING


def render(results: Sequence[Planted]) -> RenderableType:
    """Which adversary was seen by what, and the score."""
    honest, *planted = results
    words = [
        ", ".join(p.seen_by) or (f"no gain: {times(p.gain)}" if p.caught else "NOT SEEN")
        for p in planted
    ]
    table = Table(
        [
            Column("adversary", [p.name for p in planted], "name"),
            Column("what it does", [p.what for p in planted], "name"),
            Column(
                "seen by",
                [
                    (w, "green" if p.caught else "bold red")
                    for w, p in zip(words, planted, strict=True)
                ],
                "name",
            ),
        ]
    )
    flagged = sum(bool(p.seen_by) for p in planted)
    neutral = sum(not p.seen_by and p.caught for p in planted)
    accused = f"accused of {', '.join(honest.seen_by)}" if honest.seen_by else "not accused"
    score = f"{flagged} of {len(planted)} flagged, {neutral} brought back to the honest number"
    return stacked([table, line(f"{score}; the honest backend was {accused}.")])
