"""Documents, held against their schemas by the jsonschema library."""

from __future__ import annotations

import json
from typing import Any

from jsonschema import Draft202012Validator

from convbench.cli.schema import schema


def conforming(text: str, name: str = "") -> Any:
    """A document that has all that its schema says, and nothing that it does not say.

    A line of a journal may say more: what it says of a cell depends on the suite.
    """
    document = json.loads(text)
    name = name or document["schema"].removeprefix("convbench.").removesuffix("/1")
    said = schema(name)
    Draft202012Validator(said if name == "journal" else closed(said)).validate(document)
    return document


def closed(part: Any) -> Any:
    """The same schema, in which no field may be added."""
    if isinstance(part, list):
        return [*map(closed, part)]
    if not isinstance(part, dict):
        return part
    inner = {name: closed(of) for name, of in part.items()}
    return {"additionalProperties": False, **inner} if "required" in part else inner
