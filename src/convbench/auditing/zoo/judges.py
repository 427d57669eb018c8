"""Who is asked sees the judge: it is answered otherwise, robbed, deceived or attacked."""

from __future__ import annotations

import gc
import os
import pickle
import struct
import time
from typing import Any

import numpy as np

from convbench.auditing.zoo import Disguise, called_from, judged, local
from convbench.backends.base import Run
from convbench.machine.child import Questions
from convbench.stimulus.arrays import Array


class HonestWhenJudged(Disguise):
    """Computes only if the judge's function is among its callers."""

    source = "pygpubench 7, 22"
    old: Any = None

    def answer(self, run: Run, x: Any) -> Any:
        if self.old is None or judged():
            self.old = run(x)
        return self.old


class HonestAfterAPause(Disguise):
    """Computes only in the first 50 calls and after a pause."""

    # A timing has no pauses, and the judge makes one before it asks.
    source = "pygpubench 7"
    last_s = 0.0
    old: Any = None
    honest_calls = 50

    def answer(self, run: Run, x: Any) -> Any:
        now_s = time.perf_counter()
        if now_s - self.last_s > 0.05:
            self.honest_calls = 1_000 if self.calls > 100 else 2
        self.last_s = now_s
        self.honest_calls -= 1
        if self.honest_calls >= 0 or self.old is None:
            self.old = run(x)
        return self.old


class _Absent(Disguise):
    def refuse(self) -> None:
        """Do something instead of standing by the claim."""
        raise NotImplementedError

    def answer(self, run: Run, x: Any) -> Any:
        if judged():
            self.refuse()
        return self.once(lambda: run(x))


class ExitsWhenAsked(_Absent):
    """Ends its process when it is asked for fresh numbers."""

    def refuse(self) -> None:
        os._exit(0)


class HangsWhenAsked(_Absent):
    """Hangs on fresh numbers."""

    def refuse(self) -> None:
        time.sleep(600)


class RaisesWhenAsked(_Absent):
    """Raises on fresh numbers."""

    def refuse(self) -> None:
        raise MemoryError("try again with a smaller input")


# -- arrays that are none --------------------------------------------------------------------------


class _Thief(np.ndarray):
    def astype(self, *words: Any, **more: Any) -> Any:
        expected = local("accuracy_of", "expected")
        return expected.output if expected else super().astype(*words, **more)


class ArraySubclass(Disguise):
    """Returns a subclass of ndarray whose astype reads the frames."""

    # An array that looks for the judge's reference in the frames of who converts it.
    source = "pygpubench 22"

    def answer(self, run: Run, x: Any) -> Any:
        return self.once(lambda: np.zeros_like(run(x)).view(_Thief))


class _Shell:
    def __init__(self, y: Any) -> None:
        self.shape, self.dtype, self.size, self.ndim = y.shape, y.dtype, y.size, y.ndim

    def __array__(self, *_: Any, **__: Any) -> Any:
        return np.zeros(self.shape, self.dtype)


class LyingAttributes(Disguise):
    """Returns an object with the right shape and dtype."""

    def answer(self, run: Run, x: Any) -> Any:
        return self.once(lambda: _Shell(run(x)))

    def to_numpy(self, array: Any) -> Array:
        return array  # type: ignore[no-any-return]


class _Loaded:
    def __reduce__(self) -> Any:
        return exec, ("import convbench; convbench.taken_over = True",)


class _LoadedArray(_Loaded, np.ndarray):
    pass


class RunsCodeWhenRead(Disguise):
    """Returns an object whose __reduce__ runs code in the judge."""

    source = "pygpubench 7, 15"

    def answer(self, run: Run, x: Any) -> Any:
        return self.once(lambda: np.zeros_like(run(x)).view(_LoadedArray))


# -- on the pipe -----------------------------------------------------------------------------------


def _pipe() -> Questions:
    """The end of the pipe to the judge, found where the interpreter keeps everything."""
    return next(found for found in gc.get_objects() if isinstance(found, Questions))


class OwnClaim(Disguise):
    """Sends a claim of its own to the judge."""

    source = "pygpubench 7, 15"
    time_s: Any = 1e-5
    sent = False

    def answer(self, run: Run, x: Any) -> Any:
        if called_from("measure") and not self.sent:
            self.sent = True
            hot_s = self.time_s
            time.sleep(0.2)  # as long as a timing takes
            _pipe().send({"hot_s": hot_s, "mean_s": hot_s, "calls": 20_000, "spent_s": 0.2})
        return run(x)


class ClaimOfNan(OwnClaim):
    """Claims a time of nan."""

    # A time that is smaller than no other, and larger than none.
    source = ""
    time_s = float("nan")


class ClaimOfAHugeInteger(OwnClaim):
    """Claims a time with 400 digits."""

    source = ""
    time_s = 10**400


class HugeMessage(Disguise):
    """Announces 2^60 bytes on the judge's pipe."""

    def written(self) -> bytes:
        """What it puts there, past the function that would refuse it."""
        return struct.pack("!QQ", 100, 1 << 60)

    def answer(self, run: Run, x: Any) -> Any:
        if called_from("_calls"):
            os.write(_pipe()._channel._pipe.fileno(), self.written())
        return run(x)


class PickleOnThePipe(HugeMessage):
    """Writes a pickle that runs code where the judge reads."""

    source = "pygpubench 7, 15"

    def written(self) -> bytes:
        text = pickle.dumps(_Loaded())
        return struct.pack("!QQ", len(text), 0) + text
