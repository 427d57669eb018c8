"""Numbers, dates and names as the page writes them."""

from __future__ import annotations

import datetime
import math

from convbench.failures import Status
from convbench.sides import SHORT
from convbench.summary import digits

from .parts import Cell, Tone

_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))

TONES: dict[Status, Tone] = {
    Status.WRONG: "bad",
    Status.FAILED: "bad",
    Status.INVALID: "bad",
    Status.DEVIATES: "care",
    Status.OK: "good",
    Status.SKIPPED: "",
}


def si(value: float | None, unit: str) -> str:
    """Three digits and a prefix.

    Examples
    --------
    >>> si(0.0012345, "s"), si(31_400_000, "B"), si(2.5, "s"), si(0, "B"), si(None, "s")
    ('1.23 ms', '31.4 MB', '2.50 s', '0 B', '')
    """
    if value is None:
        return ""
    if not value or not math.isfinite(value):
        return f"{value:g} {unit}"
    for scale, prefix in _PREFIXES:
        if abs(value) >= scale * 0.9995:
            return f"{digits(value / scale)} {prefix}{unit}"
    scale, prefix = _PREFIXES[-1]
    return f"{value / scale:.2g} {prefix}{unit}"


def share(part: float | None) -> str:
    """As in 45 %.

    Examples
    --------
    >>> share(0.4512), share(0.0123), share(None)
    ('45 %', '1.2 %', '')
    """
    return "" if part is None else f"{100 * part:.0f} %" if part >= 0.1 else f"{100 * part:.1f} %"


def faster(ratio: float) -> str:
    """As in 2.5x.

    Examples
    --------
    >>> faster(2.5), faster(0.05), faster(123.4)
    ('2.50x', '0.0500x', '123x')
    """
    return f"{digits(ratio)}x"


def date(seconds: float) -> str:
    """The day and the minute in UTC; "" for the beginning of 1970, which stands for not known."""
    if not seconds:
        return ""
    try:
        found = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return ""
    return f"{found:%Y-%m-%d %H:%M}"


def short(commit: str) -> str:
    """The hash as asv writes it in names of files."""
    return commit[:SHORT]


def name(workload: str, stage: str = "") -> str:
    """A workload, or a stage of it."""
    return f"{workload} {stage}".strip()


def clip(text: str, most: int = 500) -> str:
    """Its beginning, if it is long.

    Examples
    --------
    >>> clip("abcdef", 6), clip("abcdefg", 6)
    ('abcdef', 'ab ...')
    """
    return text if len(text) <= most else f"{text[: most - 4]} ..."


def status(of: Status) -> Cell:
    """A status with its tone."""
    return Cell(str(of), TONES[of])


def count(number: int, noun: str) -> str:
    """As in 1 commit or 2 commits."""
    return f"{number} {noun}{'s' * (number != 1)}"
