"""The numbers that a pipeline is computed on: their formats, and what they are drawn to be.

Nothing here needs NumPy: the command line offers these names before it is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from convbench.errors import ArrayError

Precision = Literal["ieee", "tf32"]
"""How float32 is multiplied: as IEEE says, or with factors that are rounded to 11 bits."""


class Fill(StrEnum):
    """What the arrays are filled with."""

    INTEGERS = "integers"
    """Small integers, none of them zero, whose partial sums are all exact."""
    NORMAL = "normal"
    """N(0, 1), for the input, the filters and the bias."""
    ADVERSARIAL = "adversarial"
    """Sums that cancel, outliers of 1e6, denormal numbers and -0.0, all in one input."""
    DENORMAL = "denormal"
    """Every result is below the smallest normal number, and must not be flushed to zero."""
    NONFINITE = "nonfinite"
    """Integers with some inf, -inf and nan, which must reach the results that see them only."""


@dataclass(frozen=True, slots=True)
class Format:
    """How numbers are stored, multiplied and added.

    Attributes
    ----------
    storage : str
        The dtype of the input, the weights and the output, as NumPy (with ml_dtypes) calls it.
    digits : int
        Bits of the significand of a stored number, the hidden one included.
    factor_digits : int
        Bits that are left of a factor when it is multiplied: fewer than `digits` in TF32.
    accumulation : str
        The format in which products are added, unless a backend says otherwise.
    tiny : float
        The smallest normal number of the storage.
    """

    name: str
    storage: str
    digits: int
    factor_digits: int
    accumulation: str
    tiny: float

    @property
    def smallest(self) -> float:
        """The smallest positive number of the storage."""
        return self.tiny * 2.0 ** (1 - self.digits)

    @property
    def unit_roundoff(self) -> float:
        """Largest relative error of one rounding to nearest on storing: u = 2^-digits."""
        return 2.0**-self.digits

    @property
    def largest(self) -> float:
        """The largest finite number of the storage: (2 - 2^(1 - digits)) 2^emax."""
        return (2 - 2.0 ** (1 - self.digits)) / (self.tiny / 2)

    @property
    def overflow(self) -> float:
        """From here on a number is rounded to infinity: half a step beyond the largest.

        Examples
        --------
        >>> FORMATS["float16"].largest, FORMATS["float16"].overflow
        (65504.0, 65520.0)
        """
        return self.largest + 2.0**-self.digits / (self.tiny / 2)

    @property
    def exact_limit(self) -> int:
        """Every integer of magnitude up to this one is stored exactly."""
        return 1 << self.digits


FLOAT64 = Format("float64", "float64", 53, 53, "float64", 2.0**-1022)
FLOAT32 = Format("float32", "float32", 24, 24, "float32", 2.0**-126)
FLOAT16 = Format("float16", "float16", 11, 11, "float32", 2.0**-14)
BFLOAT16 = Format("bfloat16", "bfloat16", 8, 8, "float32", 2.0**-126)
TF32 = replace(FLOAT32, name="tf32", factor_digits=11)
"""NVIDIA's: float32 arrays whose elements are rounded to 11 bits when they are multiplied."""

FORMATS = {f.name: f for f in (FLOAT64, FLOAT32, TF32, FLOAT16, BFLOAT16)}


def format_of(name: str) -> Format:
    """Look a format up.

    Raises
    ------
    ArrayError
        If convbench does not know it.
    """
    if name not in FORMATS:
        raise ArrayError(
            f"pipeline: the dtype is {name}; expected one of {', '.join(FORMATS)}. Convert the "
            "arrays."
        )
    return FORMATS[name]
