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


def harmless(text: str) -> str:
    r"""The same lines, without what does anything to a terminal but write.

    Examples
    --------
    >>> harmless("red:\x1b[31m\n\tnext")
    'red:?[31m\n\tnext'
    """
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(map(_written, text))


def _written(letter: str) -> str:
    category = unicodedata.category(letter)
    acts = category[0] == "C" or category in {"Zl", "Zp"}
    return "?" if acts and letter not in "\n\t" else letter


def clip(text: str, most: int = 500) -> str:
    """Its beginning, if it is long.

    Examples
    --------
    >>> clip("abcdef", 6), clip("a cdefg", 6)
    ('abcdef', 'a ...')
    """
    return text if len(text) <= most else f"{text[: most - 4].rstrip()} ..."
