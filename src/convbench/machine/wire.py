"""What crosses between the judge and the process of a backend.

What a backend's process sends is one value of None, bool, int, float, str, list, dict and arrays.
It travels as JSON in which each array is a place, and the bytes of the arrays after it: nothing in
it can run code where it is read, be of a class of its own, or be larger than the reader allows. And
a reader never waits beyond its deadline, whatever the other side sends or holds open. Only what the
judge sends may be any object, pickled: a process is what its judge has started.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import select
import struct
import time
from multiprocessing.connection import Connection
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

MOST_JSON_BYTES = 8 << 20  # read, it takes some 25 times as much
MOST_ARRAY_BYTES = 8 << 30

_ARRAY = "\0array"
_LENGTH = struct.Struct("!QQ")
"""Of the JSON, and of the bytes of all arrays."""

_DTYPES = {
    dtype.name: dtype for dtype in (*map(np.dtype, "?bhilBHILefdFD"), np.dtype(ml_dtypes.bfloat16))
}
_MOST_DIMENSIONS = 64
_PIECE = 1 << 20


class Malformed(ValueError):
    """A message that is not of our form, too large, or an array that is none."""


class Late(TimeoutError):
    """The other side did not read or write in time."""


def encode(value: Any) -> tuple[bytes, list[memoryview]]:
    """Turn a value into JSON and the bytes of its arrays.

    Raises
    ------
    Malformed
        If part of it is neither plain nor an array of numbers. A subclass of ndarray is none: what
        it is asked for may run its own code.
    """
    arrays: list[memoryview] = []
    text = json.dumps(_plain(value, arrays), separators=(",", ":"))
    return text.encode(), arrays


def _plain(value: Any, arrays: list[memoryview]) -> Any:
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if kind in (list, tuple):
        return [_plain(item, arrays) for item in value]
    if kind is dict:
        return {str(key): _plain(item, arrays) for key, item in value.items()}
    if kind is np.ndarray:
        return _placed(value, arrays)
    if isinstance(value, str):  # an enum
        return str(value)
    if isinstance(value, np.bool_ | np.integer | np.floating):
        return value.item()
    raise Malformed(f"a {kind.__name__} is neither a plain value nor a numpy.ndarray itself")


def _placed(array: NDArray[Any], arrays: list[memoryview]) -> dict[str, Any]:
    name = array.dtype.name
    if name not in _DTYPES:
        raise Malformed(f"an array of {array.dtype} holds no numbers")
    native = array.astype(array.dtype.newbyteorder("="), order="C", copy=False)
    arrays.append(native.reshape(-1).view(np.uint8).data if array.size else memoryview(b""))
    return {_ARRAY: len(arrays) - 1, "dtype": name, "shape": list(array.shape)}


def decode(text: bytes, data: memoryview) -> Any:
    """Turn it back.

    Raises
    ------
    Malformed
    """
    try:
        rest = [data]
        value = _restored(json.loads(text), rest)
    except Malformed:
        raise
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise Malformed(f"{type(error).__name__}: {error}") from error
    if len(rest[0]):
        raise Malformed(f"{len(rest[0])} bytes belong to no array")
    return value


def _restored(value: Any, rest: list[memoryview]) -> Any:
    match value:
        case list():
            return [_restored(item, rest) for item in value]
        case {"\0array": _, "dtype": str(name), "shape": list(shape)}:
            dtype = _DTYPES.get(name)
            if dtype is None:
                raise Malformed(f"an array of {name[:80]} holds no numbers")
            if len(shape) > _MOST_DIMENSIONS:
                raise Malformed(f"an array has {len(shape)} dimensions")
            if not all(type(size) is int and 0 <= size < 1 << 48 for size in shape):
                raise Malformed("a size of an array is none")
            size_bytes = math.prod(shape) * dtype.itemsize
            if size_bytes > len(rest[0]):
                raise Malformed(f"{size_bytes} bytes of an array are announced, and not sent")
            mine, rest[0] = rest[0][:size_bytes], rest[0][size_bytes:]
            return np.frombuffer(mine, dtype).reshape(shape)
        case dict():
            return {key: _restored(item, rest) for key, item in value.items()}
    return value


class Channel:
    """One end of a pipe, on which whole messages are sent and received.

    Parameters
    ----------
    pipe : Connection
        Of a :func:`multiprocessing.Pipe`; nothing else may use it.
    """

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def send(self, value: Any, timeout_s: float = math.inf) -> None:
        """Send a value.

        Raises
        ------
        Malformed
            If it cannot be sent.
        Late
            If the other side does not take it in time.
        OSError
            If there is no other side any more.
        """
        text, arrays = encode(value)
        deadline_s = time.monotonic() + timeout_s
        total = sum(len(array) for array in arrays)
        for part in (memoryview(_LENGTH.pack(len(text), total) + text), *arrays):
            self._write(part, deadline_s)

    def receive(self, timeout_s: float = math.inf, most_bytes: int = MOST_ARRAY_BYTES) -> Any:
        """Wait for a value.

        Parameters
        ----------
        most_bytes : int
            What the arrays of a message may amount to.

        Raises
        ------
        EOFError
            If there is no other side any more.
        Late, Malformed
        """
        deadline_s = time.monotonic() + timeout_s
        length, total = _LENGTH.unpack(self._read(_LENGTH.size, deadline_s))
        if length > MOST_JSON_BYTES or total > most_bytes:
            raise Malformed(f"a message of {length} and {total} bytes is larger than expected")
        text = self._read(length, deadline_s)
        return decode(bytes(text), self._read(total, deadline_s))

    def send_object(self, value: object, timeout_s: float = math.inf) -> None:
        """Send anything, to a process of ours. The same errors as :meth:`send`."""
        text = pickle.dumps(value, protocol=5)
        message = memoryview(_LENGTH.pack(len(text), 0) + text)
        self._write(message, time.monotonic() + timeout_s)

    def receive_object(self) -> Any:
        """Wait for anything, from the process that has started this one; EOFError at its end."""
        length, _ = _LENGTH.unpack(self._read(_LENGTH.size, math.inf))
        return pickle.loads(self._read(length, math.inf))  # noqa: S301  # of our own making

    def close(self) -> None:
        """Close this end."""
        self._pipe.close()

    def _read(self, size: int, deadline_s: float) -> memoryview:
        buffer = memoryview(bytearray(size))
        done, number = 0, self._pipe.fileno()
        while done < size:
            if not select.select([number], [], [], _left(deadline_s))[0]:
                raise Late("nothing came in time")
            try:
                got = os.read(number, min(size - done, _PIECE))
            except BlockingIOError:
                continue
            if not got:
                raise EOFError
            buffer[done : done + len(got)] = got
            done += len(got)
        return buffer

    def _write(self, data: memoryview, deadline_s: float) -> None:
        number = self._pipe.fileno()
        os.set_blocking(number, False)
        while data:
            if not select.select([], [number], [], _left(deadline_s))[1]:
                raise Late("the other side does not read")
            try:
                data = data[os.write(number, data[:_PIECE]) :]
            except BlockingIOError:
                continue


def _left(deadline_s: float) -> float | None:
    return None if math.isinf(deadline_s) else max(0.0, deadline_s - time.monotonic())
