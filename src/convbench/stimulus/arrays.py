"""What an array is, on the host and on a device, and the weights of a pipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convbench.errors import ArrayError, BrokenContract
from convbench.stimulus.spec import PipelineSpec, Shape

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


# -- in which order the axes are ------------------------------------------------------------------

DATA_ORDERS = ("NHWC", "NCHW")
FILTER_ORDERS = ("HWIO", "OIHW", "OHWI", "HWOI", "IHWO", "HWCM")
"""The last one is that of a depthwise convolution in Keras: its C and M together are O."""

_USUAL = {"NHWC": "HWIO", "NCHW": "OIHW"}
_OF_LIBRARIES = {
    "channels_first": "NCHW/HWIO",  # Keras' name, whose filters stay as they are
    "channels_last": "NHWC",
    "keras": "NHWC",
    "onnx": "NCHW",
    "pytorch": "NCHW",
    "tensorflow": "NHWC",
    "tflite": "NHWC/OHWI",
    "torch": "NCHW",
}


@dataclass(frozen=True, slots=True)
class Layout:
    """In which order the axes of somebody's arrays are; inside convbench they are NHWC and HWIO.

    Attributes
    ----------
    data : str
        Of the input and the output: a name in `DATA_ORDERS`.
    filters : str
        A name in `FILTER_ORDERS`.
    """

    data: str = "NHWC"
    filters: str = "HWIO"

    @classmethod
    def parse(cls, text: str) -> Layout:
        """Read "NCHW", whose filters are OIHW; "NCHW/HWIO"; "OHWI" alone; or a library's name.

        Raises
        ------
        ArrayError
            If it is none of these.

        Examples
        --------
        >>> Layout.parse("torch")
        Layout(data='NCHW', filters='OIHW')
        >>> Layout.parse("tflite") == Layout.parse("NHWC/OHWI") == Layout.parse("ohwi")
        True
        """
        orders = _OF_LIBRARIES.get(text.lower(), text.upper())
        data, _, filters = orders.partition("/")
        if orders in FILTER_ORDERS:
            data, filters = "NHWC", orders
        filters = filters or _USUAL.get(data, "")
        if data not in DATA_ORDERS or filters not in FILTER_ORDERS:
            raise ArrayError(
                f"arrays: the layout is {text!r}; expected {' or '.join(DATA_ORDERS)}, followed by "
                f"/ and one of {', '.join(FILTER_ORDERS)} where the filters are not HWIO or OIHW"
                f", or one of {', '.join(_OF_LIBRARIES)}. Choose one."
            )
        return cls(data, filters)

    def __str__(self) -> str:
        return self.data if _USUAL[self.data] == self.filters else f"{self.data}/{self.filters}"

    def data_shape(self, shape: Shape) -> tuple[int, ...]:
        """What a shape in NHWC is in this order."""
        return tuple(shape["NHWC".index(axis)] for axis in self.data)

    def filter_shape(self, pipeline: PipelineSpec) -> tuple[int, ...] | None:
        """Which shape filters in this order have, or None if there are none."""
        if pipeline.filter_shape is None:
            return None
        sizes = dict(zip("HWIO", pipeline.filter_shape, strict=True))
        if self.filters == "HWCM":
            if sizes["I"] != 1:
                return None
            sizes |= {"C": pipeline.c, "M": sizes["O"] // pipeline.c}
        return tuple(sizes[axis] for axis in self.filters)

    def read_data(self, array: Array) -> Array:
        """See an array in this order as NHWC."""
        return array.transpose(_axes(self.data, "NHWC"))

    def write_data(self, array: Array) -> Array:
        """See an array in NHWC in this order."""
        return array.transpose(_axes("NHWC", self.data))

    def read_filters(self, array: Array) -> Array:
        """See filters in this order as HWIO."""
        if self.filters == "HWCM":
            return array.reshape(*array.shape[:2], 1, -1)
        return array.transpose(_axes(self.filters, "HWIO"))


def _axes(given: str, wanted: str) -> tuple[int, ...]:
    return tuple(given.index(axis) for axis in wanted)


def turned(name: str, given: str, wanted: str, shape: tuple[int, ...]) -> str:
    """The expression that brings an array from one order into another.

    Parameters
    ----------
    name : str
        What the array is called.
    shape : tuple of int
        What comes out.

    Examples
    --------
    >>> turned("x", "NCHW", "NHWC", (1, 5, 5, 3))
    'x.transpose(0, 2, 3, 1)'
    >>> turned("filters", "HWCM", "OIHW", (6, 1, 3, 3))
    'filters.reshape(3, 3, 1, 6).transpose(3, 2, 0, 1)'
    """
    if given == "HWCM":
        sizes = dict(zip(wanted, shape, strict=True))
        name += f".reshape({', '.join(str(sizes[axis]) for axis in 'HWIO')})"
        given = "HWIO"
    if wanted == "HWCM":
        name = turned(name, given, "HWIO", shape)
        return f"{name}.reshape{shape}"
    return name if given == wanted else f"{name}.transpose{_axes(given, wanted)}"


# -- how they lie in memory ------------------------------------------------------------------------


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
