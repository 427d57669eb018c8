"""Text from anywhere, made harmless and short."""

from __future__ import annotations

import unicodedata


def clean(text: str) -> str:
    r"""One line, without control, formatting and other invisible characters.

    Examples
    --------
    >>> clean("red:\x1b[31m\nnext")
    'red:?[31m next'
    """
    text = " ".join(text.split())
    if text.isascii() and text.isprintable():
        return text
    return "".join("?" if unicodedata.category(c)[0] in "CZ" and c != " " else c for c in text)


def clip(text: str, most: int = 500) -> str:
    """Its beginning, if it is long.

    Examples
    --------
    >>> clip("abcdef", 6), clip("a cdefg", 6)
    ('abcdef', 'a ...')
    """
    return text if len(text) <= most else f"{text[: most - 4].rstrip()} ..."
