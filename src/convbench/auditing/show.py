"""What was audited, for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from convbench.auditing.audit import Audited
from convbench.auditing.claims import Claim, Support
from convbench.words.numbers import duration
from convbench.words.table import Column, Styled, Table, line, remark, stacked

if TYPE_CHECKING:
    from rich.console import RenderableType

_STYLES = {Support.HOLDS: "green", Support.NOT_SUPPORTED: "bold red", Support.NOT_SEEN: "yellow"}
_CLAIMS = ("time", "error", "threads", "memory", "device")


def render(found: Sequence[Audited]) -> RenderableType:
    """What is not supported first, then a row for each workload, then what was not audited."""
    parts: list[RenderableType] = []
    for audited in found:
        for claim in audited.receipt.claims:
            if claim.verdict is Support.NOT_SUPPORTED:
                where = f"{audited.target} {audited.workload}: {claim.claim}"
                parts += remark("NOT SUPPORTED", where, [claim.reason], "bold red")
    shown = [audited for audited in found if audited.receipt.claims]
    parts.append(_table(shown))
    for audited in found:
        if (why := audited.outcome) is not None:
            where = f"{audited.target} {audited.workload}".strip()
            parts += remark(str(why.status), where, [why.reason, why.remedy], "yellow")
    counts = [claim.verdict for audited in shown for claim in audited.receipt.claims]
    listed = ", ".join(f"{counts.count(s)} {s}" for s in Support if s in counts) or "nothing"
    verified = sum(audited.receipt.verified for audited in shown)
    parts.append(line(f"{len(shown)} cells: {listed}; {verified} outputs of calls were verified."))
    return stacked(parts)


def _table(shown: Sequence[Audited]) -> Table:
    receipts = [audited.receipt for audited in shown]
    names = [str(audited.target) for audited in shown]
    claims = [{claim.claim: claim for claim in receipt.claims} for receipt in receipts]
    return Table(
        [
            Column("workload", [audited.workload for audited in shown], "name"),
            Column("target", names, "name"),
            Column("hot", [duration(receipt.hot_s) for receipt in receipts]),
            Column("fresh", [duration(receipt.fresh_s) for receipt in receipts]),
            Column("end to end", [duration(receipt.end_to_end_s) for receipt in receipts]),
            Column("verified", [f"{r.verified} of {r.calls}" for r in receipts]),
            *(
                Column(name, [_word(found.get(name)) for found in claims], "word")
                for name in _CLAIMS
            ),
        ],
        dispensable=("device", "memory", "verified", "fresh"),
    )


def _word(claim: Claim | None) -> Styled:
    return (str(claim.verdict), _STYLES[claim.verdict]) if claim else ""
