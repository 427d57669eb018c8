"""What the tests share: which targets are here, and why the others are not."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from convbench.backends import backend_class, open_backend, registered
from convbench.backends.base import Backend
from convbench.errors import BackendUnavailable
from convbench.stimulus.targets import Target

# A slow example is not a wrong one. CI tries the same examples every time, so that a merge is held
# up by its own change only; `make fuzz` is what explores.
settings.register_profile(
    "convbench", deadline=None, print_blob=True, derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("convbench")

# Started in the background, as CI may be, a shell has us ignore Ctrl-C, and so would the commands
# that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

OWN = ("cupy", "jax", "numpy", "tensorflow", "torch")


def every_target() -> list[Target]:
    """All variants of our backends on one device of each kind, present or not.

    Of NumPy only the default, which takes each of its methods for some layer, and of PyTorch only
    the default: what is compiled takes seconds for each pipeline.
    """
    return [
        Target(name, variant, device if device == "cpu" else f"{device}:0")
        for name in OWN
        for device in backend_class(name).capabilities.devices
        for variant in backend_class(name).capabilities.variants
        if name not in {"numpy", "torch"} or not variant
    ]


def _parameter(target: Target):
    marks = [pytest.mark.gpu] if target.device.startswith("gpu") else []
    return pytest.param(target, id=str(target), marks=marks)


@pytest.fixture(scope="session", params=map(_parameter, every_target()))
def backend(request: pytest.FixtureRequest) -> Backend:
    """Every target, one after the other; one that is not here is skipped with the reason."""
    try:
        return open_backend(request.param)
    except BackendUnavailable as error:
        pytest.skip(f"{request.param}: {error}")


LONG = (
    "measuring/test_bench.py",
    "backends/test_conformance.py",
    "auditing/test_plugins.py",
    "auditing/test_receipts.py",
    "test_benchmarks.py",
    "gate/test_gate.py",
    "fleet/test_fleet.py",
    "fleet/test_gates.py",
    "auditing/test_zoo.py",
    "test_old_commits.py",
    "gate/test_command.py",
)
"""What takes longest. Begun last, one process would be at it while the other has nothing to do."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path, len(LONG)))


def pytest_report_header() -> list[str]:
    """Say which backends the run covers."""
    return [f"backends registered: {', '.join(sorted(registered()))}"]
