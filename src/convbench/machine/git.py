"""git, asked; what it does not know, or where it is not there, is no error."""

from __future__ import annotations

import subprocess
from pathlib import Path


def full_hash(revision: str, folder: Path | None = None) -> str | None:
    """What git makes of a name; None if it does not know it, or there is no git."""
    return git(folder, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}") or None


def git(folder: Path | None, *arguments: str) -> str:
    """What git prints; "" where it fails, or is not there."""
    try:
        found = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=False, cwd=folder
        )
    except OSError:
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
