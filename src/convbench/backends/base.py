"""The contract of a backend. Adding one is a class like this and an entry point.

A backend is a class whose variables can be read without its library, whose ``__init__`` imports the
library and takes a device, and whose :meth:`Backend.build` turns a pipeline and its weights into
something that can be called again and again::

    backend = NumpyBackend("cpu")
    run = backend.build(pipeline, weights)  # placing, permuting, compiling: untimed
    x = backend.to_device(array)
    y = run(x)                              # timed, with the synchronisation
    backend.synchronize()
    array = backend.to_numpy(y)

It is registered by one line of its distribution's ``pyproject.toml``::

    [project.entry-points."convbench.backends"]
    numpy = "convbench.backends.numpy:NumpyBackend"
"""

from __future__ import annotations

import importlib
import importlib.metadata
import itertools
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import ClassVar, Protocol

import numpy as np

from convbench.errors import BackendUnavailable, TargetError, Unavailability, Unsupported
from convbench.machine.facts import machine_facts
from convbench.machine.failures import explain
from convbench.stimulus.arrays import Array, DeviceArray, Weights
from convbench.stimulus.spec import PipelineSpec

_LARGE_CACHE_BYTES = 256 << 20
"""Taken for the last level of cache where the system does not tell it."""


_SHARED_COPY_BYTES = 16 << 20
"""Larger copies are shared among the cores; for smaller ones that would cost more than it gains."""


@dataclass(frozen=True, slots=True)
class Run:
    """A pipeline that is ready to run: ``y = run(x)``, on arrays of the device.

    Attributes
    ----------
    function : callable
        The input is (N, H, W, C), the output (N, P, Q, K). It never changes its input, and every
        call returns an array of its own.
    algorithm : str
        What really computes, for the evidence: "im2col", "1x1 GEMM", a cuDNN engine.
    accumulation : str, optional
        The format in which products are added, if it is not the usual one of the dtype
        (:attr:`convbench.stimulus.formats.Format.accumulation`). The error bound follows it.
    """

    function: Callable[[DeviceArray], DeviceArray]
    algorithm: str
    accumulation: str | None = None

    def __call__(self, x: DeviceArray) -> DeviceArray:
        """Compute once."""
        return self.function(x)


@dataclass(frozen=True, slots=True)
class Hole:
    """Something that a backend does not compute, always with its reason.

    Attributes
    ----------
    what : str
        In a few words, for the table in the README.
    reason : str
        Why not, and what would change it.
    applies : callable
        ``(pipeline, dtype) -> bool``.
    variants, devices, dtypes : tuple of str
        Where it applies; empty means everywhere. Devices by kind: ``cpu``, ``gpu``.
    fills : tuple of str
        If there are any, the pipeline is computed, and only the results for these fills (see
        :class:`convbench.stimulus.formats.Fill`) are known to differ from the definition.
    above_flops : float
        If positive, the pipeline is computed, and rightly, but so slowly that with more operations
        than this it is only verified on demand.
    """

    what: str
    reason: str
    applies: Callable[[PipelineSpec, str], bool] = lambda pipeline, dtype: True  # noqa: ARG005
    variants: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    fills: tuple[str, ...] = ()
    above_flops: float = 0.0

    def __str__(self) -> str:
        return f"{self.what}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do; it drives test marks, asv skips and the README's table.

    Attributes
    ----------
    devices : tuple of str
        The kinds of device: ``cpu``, ``gpu``.
    dtypes : tuple of str
    variants : mapping of str to str
        Each name after the dot in a target, with one line about it; "" is the default.
    holes : tuple of Hole
    """

    devices: tuple[str, ...]
    dtypes: tuple[str, ...] = ("float64", "float32")
    variants: Mapping[str, str] = field(default_factory=lambda: {"": "the default"})
    holes: tuple[Hole, ...] = ()

    def missing(
        self, pipeline: PipelineSpec, dtype: str, variant: str = "", device: str = "cpu"
    ) -> str | None:
        """Why this cannot be computed, or None if it can."""
        if dtype not in self.dtypes:
            return f"{dtype} is not computed by this backend; it has {', '.join(self.dtypes)}"
        found = self._holes(pipeline, dtype, variant, device)
        return next((str(hole) for hole in found if not (hole.fills or hole.above_flops)), None)

    def deviation(
        self, pipeline: PipelineSpec, dtype: str, fill: str, variant: str = "", device: str = "cpu"
    ) -> Hole | None:
        """Why the result for this fill is known to differ from the definition, or None."""
        found = self._holes(pipeline, dtype, variant, device)
        return next((hole for hole in found if fill in hole.fills), None)

    def slow(
        self, pipeline: PipelineSpec, dtype: str, variant: str = "", device: str = "cpu"
    ) -> Hole | None:
        """Why this takes too long to be verified every time, or None."""
        found = self._holes(pipeline, dtype, variant, device)
        return next((hole for hole in found if 0 < hole.above_flops < pipeline.flops), None)

    def _holes(
        self, pipeline: PipelineSpec, dtype: str, variant: str, device: str
    ) -> Iterator[Hole]:
        where = (("variants", variant), ("devices", device.partition(":")[0]), ("dtypes", dtype))
        for hole in self.holes:
            here = all(value in (getattr(hole, name) or (value,)) for name, value in where)
            if here and hole.applies(pipeline, dtype):
                yield hole


class Backend(ABC):
    """One array library. See the module's text for how it is used.

    Parameters
    ----------
    device : str
        One of :meth:`devices`.
    variant : str
        A key of ``capabilities.variants``.

    Raises
    ------
    BackendUnavailable
        If the library or the device is not there.
    TargetError
        If there is no such variant.
    """

    name: ClassVar[str]
    requires: ClassVar[tuple[str, ...]]
    """Modules that must be importable, the one that is `pip install`ed first."""
    install: ClassVar[str]
    """The command that would install it."""
    capabilities: ClassVar[Capabilities]

    def __init__(self, device: str, variant: str = "") -> None:
        if variant not in self.capabilities.variants:
            known = ", ".join(v for v in self.capabilities.variants if v) or "none"
            raise TargetError(
                f"{self.name}: the variant is {variant!r}; expected one of: {known}. Leave it "
                "out for the default."
            )
        if device not in (present := self.devices()):
            raise BackendUnavailable(
                Unavailability.NO_DEVICE,
                f"{self.name} has no {device} here, only {', '.join(present)}",
                "Choose one of those, or see `convbench backends` for what hides the others.",
            )
        self.device = device
        self.variant = variant

    @classmethod
    @abstractmethod
    def devices(cls) -> tuple[str, ...]:
        """The devices that can compute here, as in ``("cpu", "gpu:0")``.

        Raises
        ------
        BackendUnavailable
            If there is none, with the reason.
        """

    @classmethod
    def library(cls) -> ModuleType:
        """Import the library, or say why that cannot be done."""
        for module in cls.requires:
            try:
                imported = importlib.import_module(module)
            except ModuleNotFoundError as error:
                if (error.name or "").partition(".")[0] != module.partition(".")[0]:
                    raise cls._import_failed(module, error) from error
                raise BackendUnavailable(
                    Unavailability.NOT_INSTALLED,
                    f"there is no module named {module}",
                    f"Install it: {cls.install}",
                ) from error
            except Exception as error:  # an import runs anything, and may raise anything
                raise cls._import_failed(module, error) from error
        return imported

    @classmethod
    def _import_failed(cls, module: str, error: Exception) -> BackendUnavailable:
        known = explain(error)
        broken = "Its installation is broken or does not fit this machine; reinstall it:"
        return BackendUnavailable(
            Unavailability.IMPORT_FAILED,
            f"`import {module}` raised {type(error).__name__}: {error}",
            known.remedy or f"{broken} {cls.install}",
        )

    @abstractmethod
    def to_device(self, array: Array) -> DeviceArray:
        """Copy a NumPy array to the device."""

    @abstractmethod
    def to_numpy(self, array: DeviceArray) -> Array:
        """Copy an array of the device to NumPy, waiting for it."""

    @abstractmethod
    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        """Place, permute and compile everything that does not depend on the input.

        Raises
        ------
        Unsupported
            If `capabilities` says so; :meth:`check` does it.
        """

    def place(self, weights: Weights) -> Weights:
        """Copy weights to the device."""
        filters, bias = (
            None if array is None else self.to_device(array)
            for array in (weights.filters, weights.bias)
        )
        return Weights(weights.dtype, filters, bias)

    def check(self, pipeline: PipelineSpec, dtype: str) -> None:
        """Raise Unsupported if this pipeline is in one of the declared holes."""
        reason = self.capabilities.missing(pipeline, dtype, self.variant, self.device)
        if reason is not None:
            raise Unsupported(reason)

    # What follows has defaults, which are those of a CPU.

    def synchronize(self) -> None:  # noqa: B027  # nothing to wait for
        """Wait until everything that was asked for is done."""

    def device_timer(self) -> DeviceTimer | None:
        """Events on the device's own clock, if it has any that can be reached."""
        return None

    def capture(self, run: Run, x: DeviceArray) -> Callable[[], DeviceArray] | None:  # noqa: ARG002
        """Record what ``run(x)`` asks of the device, to be replayed without asking again.

        Returns
        -------
        callable or None
            Each call replays, and returns the same array, written anew. None if this backend
            cannot record.

        Raises
        ------
        Unsupported
            If it can, and not this run.
        """
        return None

    def flusher(self) -> Callable[[], object]:
        """Something to call that leaves nothing of the inputs in the caches."""
        # Twice the last level, so that whatever its policy of replacement is, it is overwritten.
        last_level_bytes = machine_facts().get("last_level_cache_bytes") or _LARGE_CACHE_BYTES
        buffer = np.zeros(2 * last_level_bytes // 8)
        return lambda: np.add(buffer, 1.0, out=buffer)

    def gemm(self, n: int) -> Callable[[DeviceArray], DeviceArray]:
        """Multiply a float32 matrix of n x n by another: the ceiling of the device's arithmetic."""
        right, out = np.ones((n, n), "float32"), np.empty((n, n), "float32")
        return lambda left: np.matmul(left, right, out=out)

    def copier(self, size_bytes: int) -> Callable[[DeviceArray], object]:
        """Copy an array of float32 of so many bytes: the ceiling of the device's memory."""
        out = np.empty(size_bytes // 4, "float32")
        if size_bytes < _SHARED_COPY_BYTES:
            return lambda x: np.copyto(out, x)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        pool = ThreadPoolExecutor(cores)  # one core alone does not use all of the memory's width
        cuts = [round(i * out.size / cores) for i in range(cores + 1)]
        parts = [slice(*cut) for cut in itertools.pairwise(cuts)]
        return lambda x: list(pool.map(lambda part: np.copyto(out[part], x[part]), parts))

    def memory(self) -> Callable[[], int]:
        """Start to watch: what is returned tells the peak of memory since now, beyond that of now.

        The default is the memory of the process, in bytes, as Linux counts it.

        Raises
        ------
        Unsupported
            Where the system does not keep that count.
        """
        try:
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        except OSError as error:
            raise Unsupported(f"the peak of memory cannot be watched here: {error}") from error
        before = _memory_bytes("VmRSS")
        return lambda: max(0, _memory_bytes("VmHWM") - before)

    def versions(self) -> dict[str, str]:
        """Versions and settings that decide the result, for the evidence."""
        return {"numpy": np.__version__}


def _memory_bytes(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition(f"{field}:")[2].split()[0])


def installed_version(*distributions: str) -> str:
    """The version of the first of these distributions that is installed, or ""."""
    for name in distributions:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


class DeviceTimer(Protocol):
    """Two events on the stream that the device's work goes to; see :meth:`Backend.device_timer`."""

    def start(self) -> None:
        """Mark the start, without waiting for anything."""

    def stop_s(self) -> float:
        """Mark the end, wait for it, and return the seconds that the device has taken."""
