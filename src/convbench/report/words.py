"""Numbers, dates and names as the page writes them."""

from __future__ import annotations

from convbench.words.status import Status

from .parts import TableCell, Tone

TONES: dict[Status, Tone] = {
    Status.WRONG: "bad",
    Status.FAILED: "bad",
    Status.INVALID: "bad",
    Status.DEVIATES: "care",
    Status.OK: "good",
    Status.SKIPPED: "",
}


def name(workload: str, stage: str = "") -> str:
    """A workload, or a stage of it."""
    return f"{workload} {stage}".strip()


def status(of: Status) -> TableCell:
    """A status with its tone."""
    return TableCell(str(of), TONES[of])
