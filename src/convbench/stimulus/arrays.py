"""What an array is, on the host and on a device, and the weights of a pipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convbench.errors import BrokenContract

Array = NDArray[Any]
DeviceArray = Any
"""Whatever the backend's library calls an array."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What a pipeline is given besides its input: NumPy arrays, or the device's once placed.

    Attributes
    ----------
    dtype : str
        The format that everything is computed in; of the input and the output too.
    filters : array of shape (R, S, C // groups, K), optional
    bias : array of shape (K,), optional
    """

    dtype: str
    filters: DeviceArray | None = None
    bias: DeviceArray | None = None

    def each(self, change: Callable[[DeviceArray], DeviceArray]) -> Weights:
        """Change the arrays that there are; the format stays named."""
        filters, bias = (
            None if array is None else change(array) for array in (self.filters, self.bias)
        )
        return Weights(self.dtype, filters, bias)


def layouts(x: Array) -> dict[str, Array]:
    """The same values, laid out in every way that a caller may come with."""
    wide = np.zeros((*x.shape[:3], 2 * x.shape[3]), x.dtype)
    wide[..., ::2] = x
    read_only = x.copy()
    read_only.flags.writeable = False
    return {
        "strided": wide[..., ::2],
        "reversed": np.ascontiguousarray(x[:, ::-1, ::-1])[:, ::-1, ::-1],
        "Fortran": np.asfortranarray(x),
        "NCHW underneath": np.ascontiguousarray(x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1),
        "read-only": read_only,
        "big-endian": x.astype(x.dtype.newbyteorder(">")),
    }


def exactly_an_array(array: object) -> Array:
    """See that what a backend calls an array of NumPy is one, and not of a class of its own.

    Raises
    ------
    BrokenContract
    """
    if type(array) is not np.ndarray:
        raise BrokenContract(
            f"to_numpy returned {type(array).__name__}; it has to return a numpy.ndarray itself"
        )
    return array
