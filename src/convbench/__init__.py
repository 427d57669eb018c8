"""Answers whether a convolution is still right, whether it is slower, and how sure that is.

The pipeline is described by :class:`PipelineSpec`, computed by a backend through :func:`run`, and
checked against a float64 oracle by ``convbench verify``. Importing this package imports no array
library at all: ``run`` is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from convbench.errors import (
    BackendUnavailable,
    ConvbenchError,
    DeviationWarning,
    SpecError,
    Unsupported,
)
from convbench.stimulus.spec import ConvSpec, PipelineSpec, PoolSpec

if TYPE_CHECKING:
    from convbench.backends.compute import run
    from convbench.correctness.check import check

__version__ = "0.1.0"

__all__ = [
    "BackendUnavailable",
    "ConvSpec",
    "ConvbenchError",
    "DeviationWarning",
    "PipelineSpec",
    "PoolSpec",
    "SpecError",
    "Unsupported",
    "check",
    "run",
]


# They need NumPy, which `convbench --help` should not wait for.
_LATE = {"check": "convbench.correctness.check", "run": "convbench.backends.compute"}


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return getattr(import_module(_LATE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
