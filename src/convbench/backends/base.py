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
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import ModuleType
from typing import ClassVar

import numpy as np

from convbench.backends.gauges import Gauges
from convbench.errors import (
    BackendUnavailable,
    BrokenContract,
    TargetError,
    Unavailability,
    Unsupported,
)
from convbench.machine.failures import explain
from convbench.stimulus.arrays import Array, DeviceArray, Weights
from convbench.stimulus.spec import PipelineSpec

__all__ = ["Array", "Backend", "Capabilities", "DeviceArray", "Hole", "HoleKind", "Run", "Weights"]
"""All that the module of a backend imports from here, besides the pipeline and the errors."""


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
    scheme : str, optional
        What saves multiplications, if they are not those of the definition: a name in
        :data:`convbench.correctness.schemes.SCHEMES`, as in "winograd F(4x4,3x3)". The error bound
        is that of the scheme.
    """

    function: Callable[[DeviceArray], DeviceArray]
    algorithm: str
    accumulation: str | None = None
    scheme: str | None = None

    def __call__(self, x: DeviceArray) -> DeviceArray:
        """Compute once."""
        return self.function(x)


class HoleKind(StrEnum):
    """What happens in a hole."""

    MISSING = "missing"
    """It is refused with Unsupported."""
    DEVIATES = "deviates"
    """It is computed, and known to differ from the definition."""
    SLOW = "slow"
    """It is computed, and rightly, but so slowly that it is only verified on demand."""


@dataclass(frozen=True, slots=True)
class Hole:
    """Something that a backend does not compute as it should, always with its reason.

    Attributes
    ----------
    what : str
        In a few words, for the table in docs/backends.md.
    reason : str
        Why not, and what would change it.
    applies : callable
        ``(pipeline, dtype) -> bool``.
    variants, devices, dtypes : tuple of str
        Where it is; empty means everywhere. Devices by kind: ``cpu``, ``gpu``.
    fills : tuple of str
        The inputs for which it is, where the kind is not MISSING (see
        :class:`convbench.stimulus.formats.Fill`); empty means all.
    above_flops : float
        It is only where there are more operations than this.
    """

    what: str
    reason: str
    applies: Callable[[PipelineSpec, str], bool] = lambda pipeline, dtype: True  # noqa: ARG005
    kind: HoleKind = HoleKind.MISSING
    variants: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    fills: tuple[str, ...] = ()
    above_flops: float = -1.0

    def __post_init__(self) -> None:
        if self.fills and self.kind is HoleKind.MISSING:
            raise BrokenContract(
                f"the hole {self.what!r} is of the kind MISSING and has fills; a pipeline is"
                " refused whatever its input is. If only the results differ, it is DEVIATES."
            )

    def __str__(self) -> str:
        return f"{self.what}: {self.reason}"

    def covers(
        self, pipeline: PipelineSpec, dtype: str, variant: str, device: str, fill: str = ""
    ) -> bool:
        """Whether this is in the hole."""
        where = (
            (self.variants, variant),
            (self.devices, device.partition(":")[0]),
            (self.dtypes, dtype),
            (self.fills, fill),
        )
        return (
            all(value in some for some, value in where if some)
            and self.above_flops < pipeline.flops
            and self.applies(pipeline, dtype)
        )


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do; it drives test marks, asv skips and the table in docs/backends.md.

    Attributes
    ----------
    devices : tuple of str
        The kinds of device: ``cpu``, ``gpu``.
    variants : mapping of str to str
        Each name after the dot in a target, with one line about it; "" is the default.
    """

    devices: tuple[str, ...]
    dtypes: tuple[str, ...] = ("float64", "float32")
    variants: Mapping[str, str] = field(default_factory=lambda: {"": "the default"})
    holes: tuple[Hole, ...] = ()

    def hole(
        self,
        kind: HoleKind,
        pipeline: PipelineSpec,
        dtype: str,
        variant: str = "",
        device: str = "cpu",
        fill: str = "",
    ) -> Hole | None:
        """The first hole of this kind that this is in, or None."""
        holes = (hole for hole in self.holes if hole.kind is kind)
        return next((h for h in holes if h.covers(pipeline, dtype, variant, device, fill)), None)

    def missing(
        self, pipeline: PipelineSpec, dtype: str, variant: str = "", device: str = "cpu"
    ) -> str | None:
        """Why this cannot be computed, or None if it can."""
        if dtype not in self.dtypes:
            return f"{dtype} is not computed by this backend; it has {', '.join(self.dtypes)}"
        hole = self.hole(HoleKind.MISSING, pipeline, dtype, variant, device)
        return None if hole is None else str(hole)


class Backend(Gauges, ABC):
    """One array library. See the module's text for how it is used.

    Its :class:`.gauges.Gauges`, with which it is measured, are those of a CPU.

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
    """Modules that must be importable, the one that pip installs first."""
    install: ClassVar[str]
    """The command that would install it."""
    capabilities: ClassVar[Capabilities]
    environment: ClassVar[Mapping[str, str]] = {}
    """Variables that the library reads as it is loaded. What the user has set stays."""

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
        for name, value in cls.environment.items():
            os.environ.setdefault(name, value)
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
        return weights.each(self.to_device)

    def check(self, pipeline: PipelineSpec, dtype: str) -> None:
        """Raise Unsupported if this pipeline is in one of the declared holes."""
        reason = self.capabilities.missing(pipeline, dtype, self.variant, self.device)
        if reason is not None:
            raise Unsupported(reason)

    def synchronize(self) -> None:
        """Wait until everything that was asked for is done."""

    def versions(self) -> dict[str, str]:
        """Versions and settings that decide the result, for the evidence."""
        return {"numpy": np.__version__}
