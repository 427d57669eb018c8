"""What crosses from a process arrives as it was; what does not fit harms nobody who reads it."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import pickle
import struct
import threading
import time

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from convbench.machine import wire
from convbench.machine.wire import Channel, Late, Malformed, decode, encode

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
DTYPES = st.sampled_from([*map(np.dtype, wire._DTYPES.values()), np.dtype(">f4"), np.dtype(">i8")])
ARRAYS = DTYPES.flatmap(
    lambda dtype: hnp.arrays(
        np.uint8, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
    ).map(lambda a: a.astype(dtype))
)
VALUES = st.recursive(
    PLAIN | ARRAYS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)


def same(a, b) -> bool:
    if isinstance(a, np.ndarray):
        return type(b) is np.ndarray and a.shape == b.shape and a.tolist() == b.tolist()
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return type(a) is type(b) and a == b


@pytest.fixture
def ends():
    ours, theirs = multiprocessing.Pipe()
    yield Channel(ours), theirs.fileno()
    if not ours.closed:
        ours.close()
    theirs.close()


@given(VALUES)
def test_what_is_sent_arrives_as_it_was(value):
    text, arrays = encode(value)
    assert same(value, decode(text, memoryview(b"".join(arrays))))


def test_an_array_of_any_layout_arrives():
    x = np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1)[::2]
    text, arrays = encode({"x": x, "y": np.ones(3, ml_dtypes.bfloat16)})
    back = decode(text, memoryview(b"".join(arrays)))
    assert back["x"].tolist() == x.tolist()
    assert back["y"].dtype == ml_dtypes.bfloat16


class Subclass(np.ndarray):
    pass


@pytest.mark.parametrize(
    "value",
    [
        np.zeros(3).view(Subclass),
        np.array([object()]),
        np.array(["text"]),
        np.zeros(2, "f4,i4"),
        np.ma.zeros(3),
        object(),
        {1, 2},
        b"bytes",
        print,
    ],
    ids=lambda value: type(value).__name__,
)
def test_neither_objects_nor_subclasses_are_sent(value):
    with pytest.raises(Malformed):
        encode([value])


def message(text: object, data: bytes = b"", length: int | None = None, total: int | None = None):
    raw = text if isinstance(text, bytes) else json.dumps(text).encode()
    announced = len(raw) if length is None else length, len(data) if total is None else total
    return struct.pack("!QQ", *announced) + raw + data


def array(dtype: object = "float32", shape: object = (2,)) -> dict[str, object]:
    return {wire._ARRAY: 0, "dtype": dtype, "shape": shape}


class Bomb:
    def __reduce__(self):
        return os._exit, (1,)


HOSTILE = {
    "a pickle that runs code": message(pickle.dumps(Bomb())),
    "no text": message(b"\xff\xfe\x00"),
    "half of a text": message(b'{"a": [1, 2'),
    "nothing": message(b""),
    "deep": message(b"[" * 200_000 + b"]" * 200_000),
    "an integer without end": message(b"9" * 100_000),
    "a huge announced text": message([], length=1 << 62),
    "huge announced arrays": message([], total=1 << 62),
    "both": struct.pack("!QQ", 2**64 - 1, 2**64 - 1),
    "a larger array than is sent": message(array(shape=(1 << 40,)), b"1234"),
    "a product that overflows": message(array(shape=[1 << 40] * 40), b"1234"),
    "a size of 10^300": message(array(shape=[0, 10**300])),
    "dimensions without end": message(array(shape=[1] * 100_000), b"1234"),
    "a negative size": message(array(shape=[-1, -4]), b"1234"),
    "a fraction as a size": message(array(shape=[1.5])),
    "true as a size": message(array(shape=[True]), b"1234"),
    "objects": message(array("object"), b"12345678" * 2),
    "objects by letter": message(array("O"), b"12345678" * 2),
    "records": message(array("f4,O"), b"1" * 24),
    "a subarray": message(array("(1000,1000)f4"), b"1" * 8),
    "dates": message(array("datetime64[s]"), b"1" * 16),
    "text": message(array("U1000000"), b"1" * 8),
    "no dtype": message(array("no such"), b"1" * 8),
    "a dtype that is a list": message(array([["a", "O"]]), b"1" * 8),
    "bytes of no array": message({"a": 1}, b"1234"),
    "the same bytes twice": message([array(), array()], b"1" * 8),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_messages_are_refused(name, ends):
    ours, theirs = ends
    sent = threading.Thread(target=write_all, args=(theirs, HOSTILE[name]), daemon=True)
    sent.start()  # it may be more than a pipe holds
    with pytest.raises(Malformed):
        ours.receive(60.0)
    ours.close()
    sent.join(60.0)
    assert not sent.is_alive()


def write_all(number, data):
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(number, data) :]


@given(st.binary(max_size=300), st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(text, data):
    with contextlib.suppress(Malformed):
        decode(text, memoryview(data))


@given(st.integers(0, 1 << 20), st.data())
def test_a_message_that_was_changed_is_read_or_refused(seed, data):
    text, arrays = encode([{"x": np.arange(6.0).reshape(2, 3)}, "words", 1.5, None])
    raw = bytearray(text)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Malformed):
        decode(bytes(raw), memoryview(b"".join(arrays)))


def test_a_text_that_would_fill_the_memory_is_refused_unread(ends):
    ours, theirs = ends
    os.write(theirs, struct.pack("!QQ", wire.MOST_JSON_BYTES + 1, 0))
    with pytest.raises(Malformed, match="larger"):
        ours.receive(60.0)


def test_arrays_of_more_than_the_reader_allows_are_refused_unread(ends):
    ours, theirs = ends
    os.write(theirs, struct.pack("!QQ", 2, 1025))
    with pytest.raises(Malformed, match="larger"):
        ours.receive(60.0, most_bytes=1024)


@pytest.mark.parametrize("sent", [b"", b"\0" * 7, message([1], length=100), message([], total=8)])
def test_who_stalls_is_late_and_who_leaves_is_gone(sent):
    ours, theirs = multiprocessing.Pipe()
    channel = Channel(ours)
    os.write(theirs.fileno(), sent)
    with pytest.raises(Late):
        channel.receive(0.01)
    theirs.close()
    ours.close()
    ours, theirs = multiprocessing.Pipe()
    os.write(theirs.fileno(), sent)
    theirs.close()
    with pytest.raises(EOFError):
        Channel(ours).receive(60.0)
    ours.close()


def test_who_writes_a_byte_at_a_time_does_not_move_the_deadline(ends):
    ours, theirs = ends
    done = threading.Event()

    def drip():
        for byte in message([], total=1000) + b"\0" * 900:
            if done.wait(0.01):
                return
            os.write(theirs, bytes([byte]))

    writer = threading.Thread(target=drip)
    writer.start()
    begun_s = time.monotonic()
    with pytest.raises(Late):
        ours.receive(0.1)
    done.set()
    writer.join()
    assert time.monotonic() - begun_s < 60.0


def test_who_does_not_read_is_not_waited_for(ends):
    ours, _ = ends
    with pytest.raises(Late):
        ours.send(np.zeros(1 << 22), timeout_s=0.01)
    with pytest.raises(Late):
        ours.send_object(bytes(1 << 22), timeout_s=0.01)


def test_what_is_received_can_run_nothing_and_is_only_what_it_seems(ends):
    ours, theirs = ends
    os.write(theirs, message({wire._ARRAY: 0, "dtype": "float32"}))
    assert ours.receive(60.0) == {wire._ARRAY: 0, "dtype": "float32"}  # no array, and no error
