"""Every message about a caller's mistake is of one shape, as it stands in the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from convbench import errors

SOURCE = Path(errors.__file__).parent
MISTAKES = {
    name
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.InputError)
}

# <where>: <what> is <got>; expected <rule>. <what to do>, where {} is what is put in.
SHAPE = re.compile(
    r"(?P<where>[^:;]+): (?P<what>[^;]+?) (?:is|are) (?P<got>.+?); expected (?P<rule>.+?)"
    r"\. (?P<to_do>[A-Z`{0-9].*)"
)
PASSED_ON = "{}, {}"
"""The place before a message that has the shape already."""


def written(node: ast.expr) -> str | None:
    """A text as it stands in the source, with {} for each value; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = (v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)
        return "".join(map(str, parts))
    return None


def raised(tree: ast.AST) -> Iterator[tuple[int, str | None]]:
    """Line and message of every mistake that is made there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            name = getattr(function, "attr", getattr(function, "id", ""))
            if name in MISTAKES:
                message = written(node.args[0]) if len(node.args) == 1 else None
                yield node.lineno, message


MESSAGES = [
    pytest.param(message, id=f"{path.relative_to(SOURCE)}:{line}")
    for path in sorted(SOURCE.rglob("*.py"))
    for line, message in raised(ast.parse(path.read_text(encoding="utf-8")))
]


def test_the_messages_are_found() -> None:
    assert {"SpecError", "WorkloadError", "TargetError", "ArrayError"} < MISTAKES
    assert len(MESSAGES) > 50
    assert sum(message.values[0] == PASSED_ON for message in MESSAGES) <= 1


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_says_where_what_got_the_rule_and_what_to_do(message: str | None) -> None:
    assert message is not None, "write the message where it is raised, as one text"
    assert message == PASSED_ON or SHAPE.fullmatch(message), message


@pytest.mark.parametrize(
    "message",
    [
        "no file",
        "pool: op is {}; expected max.",
        "pool: op {}; expected max. Choose it.",
        "op is {}; expected max. Choose it.",
        "pool: op is {}, not max. Choose it.",
        "pool: op is {}; expected max. choose it.",
    ],
)
def test_other_shapes_are_noticed(message: str) -> None:
    assert SHAPE.fullmatch(message) is None
