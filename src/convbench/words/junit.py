"""JUnit XML, which CI systems show: a suite a target, a case a cell."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree as ET

_COUNTED = {"failures": "failure", "errors": "error", "skipped": "skipped"}


@dataclass(frozen=True, slots=True)
class Case:
    """One case.

    Attributes
    ----------
    kind : str
        What is the matter; "system-out" if nothing is.
    message, text : str
        In a line, and all there is to say.
    classname : str
        By which some systems group the cases; that of the suite by default.
    """

    suite: str
    name: str
    kind: Literal["failure", "error", "skipped", "system-out"] = "system-out"
    message: str = ""
    text: str = ""
    classname: str = ""


def junit(name: str, cases: Iterable[Case], **attributes: str) -> bytes:
    """Write the cases as UTF-8, the suites in the order in which they first come."""
    root = ET.Element("testsuites", {"name": name, **attributes})
    suites: dict[str, ET.Element] = {}
    for case in cases:
        if case.suite not in suites:
            suites[case.suite] = ET.SubElement(root, "testsuite", name=_printable(case.suite))
        of_class, of_case = _printable(case.classname or case.suite), _printable(case.name)
        written = ET.SubElement(suites[case.suite], "testcase", classname=of_class, name=of_case)
        if case.message or case.text:
            message = {"message": _printable(case.message)} if case.message else {}
            ET.SubElement(written, case.kind, message).text = _printable(case.text)
    for suite in root:
        counts = Counter(kind.tag for case in suite for kind in case)
        suite.set("tests", str(len(suite)))
        for attribute, tag in _COUNTED.items():
            suite.set(attribute, str(counts[tag]))
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def _printable(text: str) -> str:
    """Replace the characters that XML forbids."""
    return re.sub("[^\t\n -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", text)
