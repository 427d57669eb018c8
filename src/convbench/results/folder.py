"""asv's folder of results, and the evidence beside it: what its names mean."""

from __future__ import annotations

import re
from pathlib import Path

SHORT = 8
"""asv names its files after so many digits of a commit's hash."""


def measured_commits(results_dir: Path | str) -> list[str]:
    """The starts of the hashes of all commits that have a file of results, the latest file first.

    No file is opened.
    """
    results_dir = Path(results_dir)
    latest: dict[str, float] = {}
    evidence = (results_dir.parent / "evidence").glob("*/*.jsonl")  # of a run that goes on
    for path in (*results_dir.glob("*/*.json"), *evidence):
        prefix = path.stem[:SHORT]
        if re.fullmatch(r"[0-9a-f]{8}", prefix):
            latest[prefix] = max(latest.get(prefix, 0.0), path.stat().st_mtime)
    return sorted(latest, key=lambda prefix: -latest[prefix])


def short(commit: str) -> str:
    """The hash as asv writes it in names of files."""
    return commit[:SHORT]
