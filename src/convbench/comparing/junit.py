"""A comparison as JUnit XML for CI."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from convbench.comparing.comparison import Comparison, Verdict
from convbench.words.junit import printable, write
from convbench.words.status import Exit

# -- JUnit -----------------------------------------------------------------------------------------


def junit(comparison: Comparison, *, strict: bool = False) -> bytes:
    """Write JUnit XML: a suite a target, a case a cell, and one case for the comparison itself.

    What is wrong or slower is a failure; what is failed, skipped or vanished is an error, and so is
    that nothing was measured; what is undecided or not comparable is skipped.
    """
    root = ET.Element("testsuites", name="convbench compare")
    whole = ET.SubElement(root, "testsuite", name="comparison")
    case = ET.SubElement(whole, "testcase", classname="comparison", name="something was measured")
    summary = printable("\n".join((comparison.summary(), *comparison.warnings)))
    if comparison.exit_code(strict=strict) is Exit.NOTHING:
        ET.SubElement(case, "error", message=printable(comparison.summary())).text = summary
    else:
        ET.SubElement(case, "system-out").text = summary
    suites = {"comparison": whole}
    for cell in sorted(comparison.cells, key=lambda cell: cell.target):
        if cell.target not in suites:
            suites[cell.target] = ET.SubElement(root, "testsuite", name=printable(cell.target))
        case = ET.SubElement(
            suites[cell.target], "testcase", classname=printable(cell.target),
            name=printable(cell.name if cell.kind == "time" else f"{cell.name} {cell.kind}"),
        )  # fmt: skip
        text = printable("\n".join((f"{cell.verdict}: {cell.reason}", *cell.notes)))
        if (tag := _TAGS.get(cell.verdict)) is not None:
            message = printable(f"{cell.verdict}: {cell.reason}")
            ET.SubElement(case, tag, message=message).text = text
        else:
            ET.SubElement(case, "system-out").text = text
    return write(root)


_TAGS = {
    Verdict.WRONG: "failure",
    Verdict.STILL_WRONG: "failure",
    Verdict.REGRESSED: "failure",
    Verdict.FAILED: "error",
    Verdict.STILL_FAILED: "error",
    Verdict.SKIPPED: "error",
    Verdict.VANISHED: "error",
    Verdict.NOT_COMPARABLE: "skipped",
    Verdict.UNDECIDED: "skipped",
    Verdict.NOT_MEASURED: "skipped",
}
