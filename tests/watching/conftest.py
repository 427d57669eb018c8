"""A repository that is watched, and the watch of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from .scene import Scene


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """With one commit on main."""
    return Scene(tmp_path)
