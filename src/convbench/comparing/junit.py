"""A comparison as JUnit XML for CI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from convbench.comparing.comparison import Comparison, Suspects, Verdict
from convbench.words.junit import Case
from convbench.words.junit import junit as write
from convbench.words.status import Exit

_KINDS: Mapping[Verdict, Literal["failure", "error", "skipped"]] = {
    Verdict.WRONG: "failure",
    Verdict.STILL_WRONG: "failure",
    Verdict.REGRESSED: "failure",
    Verdict.FAILED: "error",
    Verdict.STILL_FAILED: "error",
    Verdict.SKIPPED: "error",
    Verdict.VANISHED: "error",
    Verdict.SUSPECT: "skipped",
    Verdict.NOT_COMPARABLE: "skipped",
    Verdict.UNDECIDED: "skipped",
    Verdict.NOT_MEASURED: "skipped",
}


def junit(comparison: Comparison) -> bytes:
    """Write JUnit XML: a suite a target, a case a cell, and one case for the comparison itself.

    What is wrong or slower is a failure; what is failed, skipped or vanished is an error, and so is
    that nothing was measured or too little is known; what is undecided, suspect or not comparable
    is skipped, unless suspects are to fail.
    """
    summary = comparison.summary()
    proposed = [f"gate it: {comparison.gate_it}"] if comparison.gate_it else []
    text = "\n".join((summary, *comparison.warnings, *comparison.remarks, *proposed))
    cases = [Case("comparison", "something was measured", text=text)]
    if comparison.exit_code() is Exit.NOTHING:
        cases = [Case("comparison", "something was measured", "error", summary, text)]
    for cell in sorted(comparison.cells, key=lambda cell: cell.target):
        name = cell.name if cell.kind == "time" else f"{cell.name} {cell.kind}"
        why = f"{cell.verdict}: {cell.reason}"
        text = "\n".join((why, *cell.notes))
        kind = _KINDS.get(cell.verdict)
        if cell.verdict is Verdict.SUSPECT and comparison.demands.suspects is Suspects.FAIL:
            kind = "failure"
        if kind:
            cases.append(Case(cell.target, name, kind, why, text))
        else:
            cases.append(Case(cell.target, name, text=text))
    return write("convbench compare", cases)
