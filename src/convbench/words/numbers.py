"""Numbers as people read them: three digits, and a unit that fits.

What is not known, None, is written as nothing, and so leaves its place in a table empty.
"""

from __future__ import annotations

import contextlib
import datetime
import math
from typing import Any


def digits(value: float | None) -> str:
    """Three significant digits, without an exponent where one can do without.

    Examples
    --------
    >>> digits(12.345), digits(999.9), digits(1234.5), digits(0.0), digits(1e30)
    ('12.3', '1000', '1234', '0', '1e+30')
    """
    if value is None:
        return ""
    size = abs(value)
    if 1e-3 <= size < 999.5:
        return f"{value:#.3g}".rstrip(".")
    return f"{value:.0f}" if 999.5 <= size < 1e6 or value == 0 else f"{value:.2g}"


_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))


def si(value: float | None, unit: str, like: float | None = None) -> str:
    """Three digits and a prefix: that of another value, if there is one that it stands beside.

    Examples
    --------
    >>> si(0.0012345, "s"), si(31_400_000, "B"), si(2.5, "s"), si(0, "B"), si(None, "s")
    ('1.23 ms', '31.4 MB', '2.50 s', '0 B', '')
    >>> si(0.0012, "s", like=0.0009)
    '1200 µs'
    """
    if value is None:
        return ""
    if not value or not math.isfinite(value):
        return f"{value:g} {unit}"
    size = abs(like or value)
    scale, prefix = next((p for p in _PREFIXES if size >= p[0] * 0.9995), _PREFIXES[-1])
    return f"{digits(value / scale)} {prefix}{unit}"


def duration(seconds: float | None, like: float | None = None) -> str:
    """As in 1.23 ms; `like` as in :func:`si`."""
    return si(seconds, "s", like)


def seconds(text: str) -> float:
    """Of a time as in 90s, 5m, 1h or 7d; a number alone is seconds.

    Raises
    ------
    ValueError
        If it is none.

    Examples
    --------
    >>> seconds("5m"), seconds("1.5")
    (300.0, 1.5)
    """
    scale = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}.get(text[-1:])
    return float(text) if scale is None else float(text[:-1]) * scale


def size(count_bytes: float | None, like: float | None = None) -> str:
    """As in 31.4 MB, which are 31 400 000 bytes; `like` as in :func:`si`."""
    return si(count_bytes, "B", like)


def share(part: float | None) -> str:
    """As in 45 %; "-" for nan.

    Examples
    --------
    >>> share(0.4512), share(0.0834), share(0.05), share(2.5), share(None)
    ('45 %', '8.3 %', '5 %', '250 %', '')
    """
    if part is None:
        return ""
    if math.isnan(part):
        return "-"
    return f"{100 * part:.2g} %" if abs(part) < 0.0995 else f"{100 * part:.0f} %"


def times(ratio: float | None) -> str:
    """A ratio of two that may be nearly alike: to three decimals or digits.

    Examples
    --------
    >>> times(1.0567), times(234.5), times(None)
    ('1.057', '234', '')
    """
    if ratio is None:
        return ""
    return f"{ratio:.3f}" if ratio < 10 else f"{ratio:.3g}"


def faster(ratio: float) -> str:
    """A ratio of two that are unlike, as in 2.50x.

    Examples
    --------
    >>> faster(2.5), faster(0.05), faster(123.4)
    ('2.50x', '0.0500x', '123x')
    """
    return f"{digits(ratio)}x"


def date(seconds: float) -> str:
    """The day and the minute in UTC; "" for the beginning of 1970, which stands for not known."""
    if seconds:
        with contextlib.suppress(ValueError, OverflowError, OSError):
            return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%d %H:%M}"
    return ""


def count(number: int, noun: str) -> str:
    """As in 1 commit or 2 commits."""
    return f"{number} {noun}{'s' * (number != 1)}"


def integer(text: str) -> int | None:
    """None if it is none."""
    with contextlib.suppress(ValueError):
        return int(text)
    return None


def finite(value: Any) -> Any:
    """Replace what JSON has no number for by the strings "inf", "-inf" and "nan".

    Examples
    --------
    >>> finite({"one": 1.0, "none": [math.inf]})
    {'one': 1.0, 'none': ['inf']}
    """
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)
