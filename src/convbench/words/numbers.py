"""Numbers as people read them: three digits, and a unit that fits."""

from __future__ import annotations

import contextlib
import datetime
import math


def duration(seconds: float | None) -> str:
    """As in 1.23 ms.

    Examples
    --------
    >>> duration(0.0012345), duration(2.5), duration(None)
    ('1.23 ms', '2.50 s', '')
    """
    if seconds is None:
        return ""
    scale, unit = _unit(seconds)
    return f"{digits(seconds * scale)} {unit}"


def _unit(seconds: float) -> tuple[float, str]:
    for scale, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if seconds * scale >= 1:
            return scale, unit
    return 1e9, "ns"


def digits(value: float | None) -> str:
    """Three significant digits, without an exponent where one can do without.

    Examples
    --------
    >>> digits(12.345), digits(123.4), digits(1234.5), digits(0.0), digits(1e30)
    ('12.3', '123', '1234', '0', '1e+30')
    """
    if value is None:
        return ""
    if 1e-3 <= value < 1000:
        return f"{value:#.3g}".rstrip(".")
    return f"{value:.0f}" if 1000 <= value < 1e6 or value == 0 else f"{value:.2g}"


def percent(share: float) -> str:
    """As in 8.3 %.

    Examples
    --------
    >>> percent(0.0834), percent(0.5), percent(2.5)
    ('8.3 %', '50 %', '250 %')
    """
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %"


def times(ratio: float) -> str:
    """A ratio, to three decimals or digits.

    Examples
    --------
    >>> times(1.0567), times(234.5)
    ('1.057', '234')
    """
    return f"{ratio:.3f}" if ratio < 10 else f"{ratio:.3g}"


def count_cells(count: int) -> str:
    """As in 1 cell or 2 cells."""
    return f"{count} cell{'s' * (count != 1)}"


_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))


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


def count(number: int, noun: str) -> str:
    """As in 1 commit or 2 commits."""
    return f"{number} {noun}{'s' * (number != 1)}"


def integer(text: str) -> int | None:
    """None if it is none."""
    with contextlib.suppress(ValueError):
        return int(text)
    return None


def real(text: str) -> float | None:
    """None if it is none."""
    with contextlib.suppress(ValueError):
        return float(text)
    return None
