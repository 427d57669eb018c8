"""What all JUnit XML of ours has in common: CI systems show it, a suite a target, a case a cell."""

from __future__ import annotations

import re
from collections import Counter
from xml.etree import ElementTree as ET

_COUNTED = {"failures": "failure", "errors": "error", "skipped": "skipped"}


def printable(text: str) -> str:
    """Replace the characters that XML forbids."""
    return re.sub("[^\t\n -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", text)


def write(root: ET.Element) -> bytes:
    """Count the cases of each suite of a document, and write it as UTF-8."""
    for suite in root:
        counts = Counter(kind.tag for case in suite for kind in case)
        suite.set("tests", str(len(suite)))
        for attribute, tag in _COUNTED.items():
            suite.set(attribute, str(counts[tag]))
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document
