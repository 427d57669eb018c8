"""What pytest loads: ``pytest --convbench my_package.convbench:MyBackend``.

It runs the conformance suite (:mod:`convbench.testing`) on backends by their places, beside the
tests that are named, or alone. Nothing is imported unless it is asked for.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the option."""
    parser.getgroup("convbench").addoption(
        "--convbench", action="append", default=[], metavar="PACKAGE.MODULE:CLASS",
        help="run convbench's conformance suite on this backend; repeatable",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Without tests that are named, run those of the backends alone."""
    config.addinivalue_line("markers", "gpu: needs a GPU")
    if config.getoption("convbench") and config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args = []


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add the tests."""
    if places := config.getoption("convbench"):
        suites = _Suites.from_parent(session, path=Path(__file__), nodeid="convbench")
        suites.places = places
        items += session.genitems(suites)


class _Suites(pytest.Module):
    """A module that is not in a file."""

    places: list[str]

    def _getobj(self) -> ModuleType:
        from convbench.testing import conformance_suite  # noqa: PLC0415

        module = ModuleType("convbench_suites", "The conformance suite.")
        for number, place in enumerate(self.places):
            suite = conformance_suite(place)
            suite.__module__ = module.__name__
            setattr(module, f"{suite.__name__}_{number}" if number else suite.__name__, suite)
        return module
