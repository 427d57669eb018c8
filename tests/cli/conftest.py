"""A machine on which faulty backends are installed."""

from __future__ import annotations

import os

import pytest

from ..plugin import write_plugin


@pytest.fixture(scope="session")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a machine on which the faulty backends are installed."""
    folder = write_plugin(tmp_path_factory.mktemp("plugin"))
    paths = [str(folder), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
