"""A distribution of backends that look faster or more right than they are, and of honest ones.

Put the folder that :func:`write_plugin` returns on PYTHONPATH and its backends are there, as a
third party would register them.
"""

from __future__ import annotations

from pathlib import Path

_MODULE = '''
import glob, json, os, subprocess, sys, threading, time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from convbench.backends.numpy import NumpyBackend
from convbench.measuring import evidence


class Wrapped(NumpyBackend):
    """Computes as NumPy's backend does; a subclass says what becomes of a call."""

    def build(self, pipeline, weights):
        run = super().build(pipeline, weights)
        self.shape = pipeline.output_shape
        return replace(run, function=self.wrap(run))

    def wrap(self, run):
        return run


# -- Time -----------------------------------------------------------------------------------------

class ByIdentity(Wrapped):
    name = "by_identity"
    def wrap(self, run):
        known = {}
        def cached(x):
            if id(x) not in known:
                known[id(x)] = x, run(x)
            return known[id(x)][1].copy()
        return cached


class Once(ByIdentity):
    """The first process of a run does so, as if something had disturbed it."""
    name = "once"
    def wrap(self, run):
        try:
            open(".asv/once", "x").close()
        except FileExistsError:
            return run
        return super().wrap(run)


class ByContent(Wrapped):
    name = "by_content"
    def wrap(self, run):
        known = {}
        def cached(x):
            key = x[0, :, :2].tobytes()
            if key not in known:
                known[key] = run(x)
            return known[key].copy()
        return cached


class NoWait(Wrapped):
    name = "no_wait"
    def wrap(self, run):
        pool, asked = ThreadPoolExecutor(1), []
        def ask(x):
            if len(asked) == 32:
                asked.pop(0).cancel()  # or the queue fills the memory
            asked.append(pool.submit(run, x))
            return asked[-1]
        return ask
    def to_numpy(self, array):
        return super().to_numpy(array.result() if isinstance(array, Future) else array)


class Promise(Wrapped):
    name = "promise"
    def wrap(self, run):
        return lambda x: lambda: run(x)
    def to_numpy(self, array):
        return super().to_numpy(array() if callable(array) else array)


class Thread(Wrapped):
    name = "thread"
    def wrap(self, run):
        def start(x):
            y = np.empty(self.shape, x.dtype)
            def work():
                y[...] = run(x)
            if not hasattr(self, "last") or not self.last.is_alive():  # or there are thousands
                self.last = threading.Thread(target=work)
                self.last.start()
                self.of = y, self.last
            return y
        return start
    def to_numpy(self, array):
        if (of := getattr(self, "of", None)) and of[0] is array:
            of[1].join()
        return super().to_numpy(array)


class Helper(Wrapped):
    name = "helper"
    def wrap(self, run):
        read, write = os.pipe()
        back, answer = os.pipe()
        def work():
            while size := os.read(read, 8):
                left, data = int.from_bytes(size, "big"), b""
                while left > len(data):
                    data += os.read(read, left - len(data))
                x = np.frombuffer(data, "f4").reshape(self.given)
                y = run(x).tobytes()
                while y:
                    y = y[os.write(answer, y):]
        def ask(x):
            if not hasattr(self, "given"):
                self.given = x.shape
                if os.fork() == 0:
                    try:
                        work()
                    finally:
                        os._exit(0)
            data = x.nbytes.to_bytes(8, "big") + x.tobytes()
            while data:
                data = data[os.write(write, data):]
            left, data = 4 * int(np.prod(self.shape)), b""
            while left > len(data):
                data += os.read(back, left - len(data))
            return np.frombuffer(data, "f4").reshape(self.shape).copy()
        return ask


class InToDevice(Wrapped):
    name = "in_to_device"
    def wrap(self, run):
        self.run, self.done = run, {}
        return lambda x: self.done[id(x)][1].copy() if id(x) in self.done else run(x)
    def to_device(self, array):
        placed = super().to_device(array)
        if hasattr(self, "run") and array.shape[1:3] != (1, 1):
            self.done[id(placed)] = placed, self.run(placed)
        return placed


class Zeros(Wrapped):
    name = "zeros"
    def wrap(self, run):
        seen = []
        def timed(x):
            if any(x is other for other in seen):
                return np.zeros(self.shape, x.dtype)
            seen.append(x)
            return run(x)
        return timed


class Redrawn(Wrapped):
    """It draws the numbers that it will be given again, and has the answer ready."""
    name = "redrawn"
    def build(self, pipeline, weights):
        from convbench.stimulus.inputs import make_inputs
        run = super().build(pipeline, weights)
        known = {}
        for seed in (0, 20240607):
            x = make_inputs(pipeline, weights.dtype, "normal", seed).x
            known[x.tobytes()[:256]] = run(x)
        def redrawn(x):
            found = known.get(x.tobytes()[:256])
            return run(x) if found is None else found.copy()
        return replace(run, function=redrawn)


# -- Outputs --------------------------------------------------------------------------------------

class Stale(Wrapped):
    name = "stale"
    def wrap(self, run):
        calls = []
        def stale(x):
            if len(calls) < 8:
                calls.append(run(x))
            return calls[-1].copy()
        return stale


class Oracle(np.ndarray):
    def astype(self, *args, **kwargs):
        frame = sys._getframe(1)
        while frame:
            for value in frame.f_locals.values():
                if value is not self and np.shape(value) == self.shape:
                    return np.asarray(value).astype(*args, **kwargs)
            frame = frame.f_back
        return np.asarray(self).astype(*args, **kwargs)
    def __array_ufunc__(self, *args, **kwargs):
        return True


class Subclass(Wrapped):
    name = "subclass"
    def to_numpy(self, array):
        return np.zeros_like(array).view(Oracle)


class Patch:
    def __reduce__(self):
        code = ("from convbench.correctness import accuracy as a, verify as v\\n"
                "a.accuracy_of = lambda *_, **__: a.Accuracy(0.0)\\n"
                "v.accuracy_of = a.accuracy_of")
        return exec, (code,)


class Reduces(Wrapped):
    name = "reduces"
    def to_numpy(self, array):
        y = np.zeros(array.shape, object)
        y[...] = Patch()
        return y


# -- What is said ---------------------------------------------------------------------------------

class OwnMeters(Wrapped):
    name = "own_meters"
    def wrap(self, run):
        kept = []
        def wasteful(x):
            if not kept:
                kept.append(np.ones(16 << 20))  # 128 MiB
            return run(x)
        return wasteful
    def memory(self):
        return lambda: 1024


class Divides(Wrapped):
    """It stands by its time, and then says another."""
    name = "divides"
    def build(self, pipeline, weights):
        write = evidence.Relay.write
        def divided(self, *words, **facts):
            if "samples_s" in facts:
                facts["samples_s"] = [s / 3 for s in facts["samples_s"]]
            write(self, *words, **facts)
        if write.__name__ != "divided":
            evidence.Relay.write = divided
        return super().build(pipeline, weights)


class OwnReceipt(Wrapped):
    name = "own_receipt"
    def build(self, pipeline, weights):
        write = evidence.Relay.write
        def with_receipt(self, *words, **facts):
            if "samples_s" in facts:
                facts["receipt"] = {"claims": [], "hot_s": 1.0, "end_to_end_s": 1.0}
            write(self, *words, **facts)
        if write.__name__ != "with_receipt":
            evidence.Relay.write = with_receipt
        return super().build(pipeline, weights)


class StandsAside(Wrapped):
    name = "stands_aside"
    def build(self, pipeline, weights):
        evidence.Relay.attest = lambda *_: None
        return super().build(pipeline, weights)


class OwnVerdict(Wrapped):
    name = "own_verdict"
    def build(self, pipeline, weights):
        evidence.Relay.judged = lambda *_: {"value": 0.0, "worst": "none"}
        return super().build(pipeline, weights)
    def to_numpy(self, array):
        return super().to_numpy(array) * (array.shape != self.shape)


class OtherCell(Wrapped):
    """It says on its pipe what became of a rival."""
    name = "other_cell"
    def build(self, pipeline, weights):
        if isinstance(evidence._writer, evidence.Relay):
            evidence._writer.write(RIVAL, ["numpy@cpu", WORKLOAD], "ok", samples_s=[1.0], number=1)
        return super().build(pipeline, weights)


RIVAL, WORKLOAD = "bench_pipeline.Smoke.track_time", "mobilenet_v2.conv_last"


class Forges(Wrapped):
    """It writes into the evidence of the run: as it, as one of its own, and as an old one."""
    name = "forges"
    def build(self, pipeline, weights):
        for path in glob.glob(".asv/evidence/*/*.jsonl"):
            lines = [json.loads(l) for l in open(path).read().split("\\n") if l.strip()]
            runs = [line["run"] for line in lines if line["kind"] == "run"]
            rival = {"schema": 2, "kind": "cell", "time_s": time.time() + 60, "process": "p",
                     "round": 1, "benchmark": RIVAL, "params": ["numpy@cpu", WORKLOAD],
                     "status": "ok", "version": "1", "samples_s": [1.0], "number": 1}
            mine = {**lines[0], "run": "mine", "state": "finished", "clean": True}
            one = {k: v for k, v in rival.items() if k not in ("kind", "process", "round")}
            with open(path, "a") as file:
                for line in (mine, *({**rival, "run": run} for run in (*runs, "mine")),
                             {**one, "schema": 1}):
                    file.write("\\n" + json.dumps(line))
        return super().build(pipeline, weights)


class Erases(Wrapped):
    """It takes everything that was measured so far out of the evidence."""
    name = "erases"
    def build(self, pipeline, weights):
        for path in glob.glob(".asv/evidence/*/*.jsonl"):
            open(path, "w").close()
        return super().build(pipeline, weights)


# -- Honest ---------------------------------------------------------------------------------------

class Pool(Wrapped):
    """Really asynchronous: a call returns at once, and synchronize() waits for all of them."""
    name = "pool"
    def wrap(self, run):
        self.pool, self.asked = ThreadPoolExecutor(1), []
        def ask(x):
            y = np.empty(self.shape, x.dtype)
            self.asked.append(self.pool.submit(lambda: y.__setitem__(..., run(x))))
            return y
        return ask
    def synchronize(self):
        for future in getattr(self, "asked", ()):
            future.result()
        self.asked = []
    def to_numpy(self, array):
        self.synchronize()
        return super().to_numpy(array)
'''

BACKENDS = {
    "by_identity": "ByIdentity",
    "once": "Once",
    "by_content": "ByContent",
    "no_wait": "NoWait",
    "promise": "Promise",
    "thread": "Thread",
    "helper": "Helper",
    "in_to_device": "InToDevice",
    "zeros": "Zeros",
    "redrawn": "Redrawn",
    "stale": "Stale",
    "subclass": "Subclass",
    "reduces": "Reduces",
    "own_meters": "OwnMeters",
    "divides": "Divides",
    "own_receipt": "OwnReceipt",
    "stands_aside": "StandsAside",
    "own_verdict": "OwnVerdict",
    "other_cell": "OtherCell",
    "forges": "Forges",
    "erases": "Erases",
    "pool": "Pool",
}
"""Name -> class; `pool` is honest."""


def write_plugin(folder: Path) -> Path:
    """Write the module and its entry points into a new folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "crooked.py").write_text(_MODULE)
    info = folder / "crooked-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: crooked\nVersion: 1.0\n")
    lines = [f"{name} = crooked:{value}" for name, value in BACKENDS.items()]
    (info / "entry_points.txt").write_text("\n".join(["[convbench.backends]", *lines, ""]))
    return folder
