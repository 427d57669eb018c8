"""The number formats that a pipeline is computed in, and what each of them can hold exactly."""

from __future__ import annotations

from dataclasses import dataclass

from convbench.errors import ArrayError


@dataclass(frozen=True, slots=True)
class Format:
    """A floating-point format.

    Attributes
    ----------
    name : str
        As NumPy calls it.
    digits : int
        Bits of the significand, the hidden one included.
    itemsize : int
        Bytes of one element.
    """

    name: str
    digits: int
    itemsize: int

    @property
    def unit_roundoff(self) -> float:
        """Largest relative error of one rounding to nearest: u = 2^-digits."""
        return 2.0**-self.digits

    @property
    def exact_limit(self) -> int:
        """Every integer of magnitude up to this one is represented exactly."""
        return 1 << self.digits


FLOAT32 = Format("float32", digits=24, itemsize=4)
FLOAT64 = Format("float64", digits=53, itemsize=8)
FORMATS = {f.name: f for f in (FLOAT32, FLOAT64)}


def format_of(dtype: str) -> Format:
    """Look a format up by its NumPy name.

    Raises
    ------
    ArrayError
        If convbench does not know the format.
    """
    if dtype not in FORMATS:
        raise ArrayError.of(
            "pipeline", "the dtype", dtype, f"one of {', '.join(FORMATS)}", "Convert the arrays."
        )
    return FORMATS[dtype]
