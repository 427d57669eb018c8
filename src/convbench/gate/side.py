"""One side of a gate, in the interpreter of its commit: it obeys, and decides nothing.

    python -P side.py INTERFACE WIRE NEEDS SOCKET

This file, the suites' `interface.py` and `machine/wire.py` are the working tree's, for both sides,
and are loaded by their paths; all else that is called convbench here is the commit's. Therefore
nothing of convbench is imported by name: what this file calls of it is what any commit answers to
(:mod:`convbench.frozen`, and the older names that the interface knows).

The process that is started imports what NEEDS names, runs nothing of it, and forks: each fork is
one process of a pair, of either side, and only there is code of a commit loaded. See
:class:`convbench.machine.child.Template` for its orders, and :class:`Worker` for those of a fork.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import json
import os
import signal
import socket
import struct
import sys
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import Any

import numpy as np

ORDER, ANSWER = struct.Struct("!cq"), struct.Struct("!q")


def load(name: str, path: str) -> ModuleType:
    """Load a file as a module of a name that nothing else has."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class Worker:
    """A process of a pair. Each of its methods without a leading _ is an order.

    Parameters
    ----------
    interface : str
        Where the suites' interface to any commit is.
    """

    def __init__(self, interface: str) -> None:
        self._interface = interface
        self._convbench: Any = None
        self._backend: Any = None
        self._events: Any = None
        self._run: Any = None
        self._x: Any = None
        self._y: Any = None

    def needs(self, source: str, backend: str) -> dict[str, Any]:
        """What a backend imports, and which variables it sets before; nothing is imported for it.

        What the side has in its own sources is not among it.
        """
        self._come_from(source)
        known = self._convbench.backend_class(backend)
        before = dict(os.environ)
        modules = [name for name in known.requires if name.partition(".")[0] not in own(source)]
        for name in modules:  # an import of these finds them
            sys.modules.setdefault(name, ModuleType(name))
        with contextlib.suppress(Exception):  # one that wants more of them sets no more than this
            known.library()
        variables = {k: v for k, v in os.environ.items() if before.get(k) != v}
        return {"modules": modules, "variables": variables}

    def open(self, source: str, target: str, core: int | None) -> dict[str, Any]:
        """Take a core, and open the backend, whose threads then are as many as that has."""
        if core is not None and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {core})
        self._come_from(source)
        self._backend = self._convbench.open_backend(self._convbench.Target.parse(target))
        module = sys.modules[type(self._backend).__module__]
        file = str(getattr(module, "__file__", ""))
        self._events = getattr(self._backend, "device_timer", lambda: None)()
        versions = dict(self._backend.versions())
        gc.collect()
        gc.freeze()  # what has been loaded stays
        return {"versions": versions, "file": file, "events": self._events is not None}

    def compute(self, *, thorough: bool, **cell: Any) -> dict[str, Any]:
        """Compute a cell as it is checked: after a run on nan, where the commit can do that."""
        pipeline, inputs = self._inputs(**cell)
        declared = self._declared(pipeline, cell["dtype"], cell["fill"])
        if "slow" in declared and not thorough:
            outcome = {"status": "skipped", "reason": declared["slow"]}
            return {"outcome": outcome | {"remedy": "`convbench verify --thorough` computes it."}}
        compute = self._convbench.compute
        poison = {"poison": True} if "poison" in compute.__code__.co_varnames else {}
        done = compute(self._backend, pipeline, inputs, **poison)
        names = ("output", "algorithm", "accumulation", "second", "later", "scheme")
        found = {name: getattr(done, name, None) for name in names}  # `second` of older commits
        return found | {"deviation": declared.get("deviates", "")}

    def build(self, **cell: Any) -> dict[str, Any]:
        """Build a cell, and say how long a call takes once it is warm."""
        pipeline, inputs = self._inputs(**cell)
        self._run = self._y = None
        self._run = self._backend.build(pipeline, inputs.weights)
        self._x = self._backend.to_device(inputs.x)
        for _ in range(3):
            self._call()
        calls, begin_s = 0, perf_counter()
        while perf_counter() - begin_s < 0.005 or calls < 2:
            self._call()
            calls += 1
        return {
            "call_s": (perf_counter() - begin_s) / calls,
            "algorithm": self._run.algorithm,
            "accumulation": getattr(self._run, "accumulation", None),
            "scheme": getattr(self._run, "scheme", None),
        }

    def block(self, calls: int, *, events: bool = False) -> dict[str, Any]:
        """Time some calls, after one that warms the caches, which the other side has used.

        With `events`, as many more by those of the device: each from where it begins to be asked,
        with nothing before it, to the end of its work. What is left out is that the host wakes up.
        """
        self._call()
        run, x, synchronize = self._run, self._x, self._backend.synchronize
        begin_s = perf_counter()
        for _ in range(calls):
            y = run(x)
            synchronize()
        found = {"seconds": perf_counter() - begin_s}
        if events:
            start, stop_s, card_s = self._events.start, self._events.stop_s, 0.0
            for _ in range(calls):
                start()
                y = run(x)
                card_s += stop_s()
            synchronize()
            found["card_s"] = card_s
        self._y = y
        return found

    def output(self) -> Any:
        """What the last timed call gave."""
        return np.asarray(self._backend.to_numpy(self._y))

    def calls(self, xs: list[Any]) -> dict[str, Any]:
        """Compute each from the host and back; see :mod:`convbench.backends.attest`."""
        backend, ys, seconds = self._backend, [], []
        for part in [[x] for x in xs] if backend.device == "cpu" else [xs]:
            placed = [backend.to_device(x) for x in part]
            backend.synchronize()
            computed = []
            for each in placed:
                begin_s = perf_counter()
                y = self._run(each)
                backend.synchronize()
                seconds.append(perf_counter() - begin_s)
                computed.append(y)
            ys += [backend.to_numpy(y) for y in computed]
        return {"ys": ys, "seconds": seconds}

    def copies(self, xs: list[Any], size: int) -> dict[str, Any]:
        """Only copy there and back."""
        backend, ys = self._backend, []
        for x in xs:
            backend.to_device(x)
            backend.synchronize()
            y = backend.to_device(np.resize(x, (1, 1, 1, size)))
            backend.synchronize()
            ys.append(backend.to_numpy(y))
        return {"ys": ys}

    def explained(self, error: Exception) -> dict[str, Any]:
        """What a library has raised, in the commit's words."""
        if self._convbench is None:  # it cannot be loaded: how the process ends says why
            raise error
        known = self._convbench.explain(error)
        names = ("status", "reason", "remedy", "kind", "process_lost")
        plain = {name: getattr(known, name, "") for name in names}
        return plain | {"kind": plain["kind"] or type(error).__name__}

    def _come_from(self, source: str) -> None:
        """Load the code of a side."""
        sys.path.insert(0, source)
        self._convbench = load("_convbench_interface", self._interface)

    def _call(self) -> None:
        self._y = self._run(self._x)
        self._backend.synchronize()

    def _declared(self, pipeline: Any, dtype: str, fill: str) -> dict[str, str]:
        """What the backend says of this cell, by the kind of the hole."""
        known = self._backend.capabilities
        where = self._backend.variant, self._backend.device
        if hasattr(known, "hole"):
            covering = (h for h in known.holes if h.covers(pipeline, dtype, *where, fill))
            return {str(hole.kind): str(hole) for hole in covering}
        # Before holes had a kind they were asked for by it, and in the first commits none computes.
        slow, deviation = (getattr(known, name, lambda *_: None) for name in ("slow", "deviation"))
        found = {
            "slow": slow(pipeline, dtype, *where),
            "deviates": deviation(pipeline, dtype, fill, *where),
        }
        return {kind: str(hole) for kind, hole in found.items() if hole is not None}

    def _inputs(
        self, pipeline: dict[str, Any], dtype: str, fill: str, x: Any, filters: Any, bias: Any
    ) -> tuple[Any, Any]:
        """The pipeline and its inputs as the commit has them, with the numbers that were sent."""
        built = self._convbench.PipelineSpec.from_dict(pipeline)
        inputs = self._convbench.make_inputs(built, dtype, fill, 0)
        weights = replace(inputs.weights, filters=filters, bias=bias)
        return built, replace(inputs, x=x, weights=weights)


def own(source: str) -> set[str]:
    """The names of what can be imported from there."""
    return {path.name.partition(".")[0] for path in Path(source).iterdir()}


def serve(channel: Any, worker: Worker) -> None:
    """Obey until there is nobody any more who gives orders."""
    while True:
        try:
            message = channel.receive()
        except EOFError:
            return
        order = dict(message["question"])
        kind = order.pop("do")
        if kind == "end":  # of a conversation with the judge: it has no answer
            continue
        try:
            answer = getattr(worker, kind)(**order)
            channel.send({"to": message["number"], "answer": answer})
        except Exception as error:  # whatever a library raises is the answer
            outcome = worker.explained(error)
            channel.send({"to": message["number"], "answer": {"outcome": outcome}})


def _fork(wire: ModuleType, interface: str, orders: socket.socket, descriptors: list[int]) -> int:
    """Fork a process that serves; its number."""
    number = os.fork()
    if number:
        for descriptor in descriptors:
            os.close(descriptor)
        return number
    code = 1
    try:
        orders.close()  # which has to break when the template ends
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the judge's, who then ends us
        os.setsid()  # what it starts stays in its session, and is found there
        pipe, stderr = descriptors
        os.dup2(stderr, 2)
        os.dup2(stderr, 1)
        serve(wire.Channel(Connection(pipe)), Worker(interface))
        code = 0
    except BaseException:  # it must not become a second template
        with contextlib.suppress(Exception):
            sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def main(interface: str, wire: str, needs: str, number: str) -> None:
    """Be a template, until its socket is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    wanted = json.loads(needs)
    os.environ.update(wanted["variables"])
    gc.disable()  # a fifth of the time that TensorFlow takes to import, and there is no garbage yet
    transport = load("_convbench_wire", wire)
    for name in wanted["modules"]:
        with contextlib.suppress(Exception):  # each of its processes will say why
            importlib.import_module(name)
    if any(name in sys.modules for source in wanted["sources"] for name in own(source)):
        # An installation of what the sides have in their sources: these have to import it.
        nothing = json.dumps({"variables": {}, "modules": [], "sources": []})
        command = [sys.executable, "-P", __file__, interface, wire, nothing, number]
        os.execv(sys.executable, command)  # noqa: S606
    gc.enable()
    gc.collect()
    gc.freeze()  # or each fork copies what the collector touches
    orders = socket.socket(fileno=int(number))
    while True:
        message, descriptors, _, _ = socket.recv_fds(orders, ORDER.size, 2)
        if not message:
            return
        kind, process = ORDER.unpack(message)
        if kind == b"F":
            answer = _fork(transport, interface, orders, descriptors)
        else:
            ended, status = os.waitpid(process, os.WNOHANG)
            answer = status if ended else -1
        orders.sendall(ANSWER.pack(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
