"""asv's folder of results, and the evidence beside it: what the names mean, and asv's files.

asv's files are read as they lie on the disk (version 2 of its format) and asv is not imported, nor
is any backend: what was measured elsewhere can be read anywhere.
"""

from __future__ import annotations

import ast
import datetime
import itertools
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from convbench.results.journal import UNREADABLE, kind_of, unreadable

SHORT = 8
"""asv names its files after so many digits of a commit's hash."""

ASV_VERSION = 2


def short(commit: str) -> str:
    """The hash as asv writes it in names of files."""
    return commit[:SHORT]


def is_existing(environment: str) -> bool:
    """Whether asv found the environment instead of building it."""
    return environment.startswith("existing-py")


def environment_in_words(environment: str) -> str:
    """The rest of the name of an existing environment is the path of its interpreter: left out."""
    return "existing environment" if is_existing(environment) else environment


# -- Names ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class Filed:
    """What the results of a commit, in an environment, on a machine, are filed under.

    Attributes
    ----------
    commit : str
        The first eight digits of its hash.
    environment : str
        As in the name of the file, where asv writes a digest for a very long one.
    """

    machine: str
    commit: str
    environment: str

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """What a path ends with: ``<machine>/<commit>-<environment>.json`` or ``.jsonl``."""
        commit, _, environment = path.stem.partition("-")
        if re.fullmatch(rf"[0-9a-f]{{{SHORT}}}", commit) is None:
            return None
        return cls(path.parent.name, commit, environment)


@dataclass(frozen=True, slots=True, order=True)
class FiledGate:
    """A file about two commits that were measured side by side on a machine.

    Attributes
    ----------
    base, head : str
        The first eight digits of their hashes.
    """

    machine: str
    base: str
    head: str
    path: Path

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """What a path ends with: ``<machine>/<base>-<head>-<when>-<any>.gate.json``."""
        digits = rf"([0-9a-f]{{{SHORT}}})"
        found = re.fullmatch(rf"{digits}-{digits}-[\w-]+\.gate\.json", path.name)
        return None if found is None else cls(path.parent.name, found[1], found[2], path)


@dataclass(frozen=True, slots=True)
class Folder:
    """Where asv keeps its results, usually ``.asv/results``, and we the evidence."""

    results: Path

    @classmethod
    def of_config(cls, config: Path) -> Self:
        """The one that an ``asv.conf.json`` names; asv's usual one where it cannot be read.

        A process that asv has started has no library for JSON with comments, and needs one word.
        """
        try:
            text = config.read_text(encoding="utf-8")
        except (OSError, ValueError):
            text = ""
        text = _COMMENT.sub(lambda match: match[1] or " ", text)
        found = _RESULTS_DIR.search(text)
        return cls(config.parent / (found[2] if found else ".asv/results"))

    def gates(self) -> list[FiledGate]:
        """All gates that are stored, by machine, commits and when they ended."""
        found = (FiledGate.of(path) for path in self.evidence.glob("*/*.gate.json"))
        return sorted(filed for filed in found if filed is not None)

    @property
    def evidence(self) -> Path:
        """Beside the results: ``.asv/evidence`` for ``.asv/results``."""
        named = self.results.name not in ("", "..")
        return (self.results if named else self.results.resolve()).parent / "evidence"

    def results_of(self, filed: Filed) -> Path:
        """The file of asv."""
        return self.results / filed.machine / f"{filed.commit}-{filed.environment}.json"

    def evidence_of(self, filed: Filed) -> Path:
        """Ours."""
        return self.evidence / filed.machine / f"{filed.commit}-{filed.environment}.jsonl"

    def new_gate(self, machine: str, base: str, head: str, ended_s: float) -> Path:
        """A name that no other gate has, not even one that ends in the same second."""
        ended = f"{datetime.datetime.fromtimestamp(ended_s, datetime.UTC):%Y%m%dT%H%M%S}"
        name = f"{short(base)}-{short(head)}-{ended}-{secrets.token_hex(4)}.gate.json"
        return self.evidence / machine / name

    def files(self) -> dict[Filed, float]:
        """All that there are, by their names, and when the later of the two was last written to."""
        found: dict[Filed, float] = {}
        for path in (*self.results.glob("*/*.json"), *self.evidence.glob("*/*.jsonl")):
            if (filed := Filed.of(path)) is not None:
                found[filed] = max(found.get(filed, 0.0), path.stat().st_mtime)
        return dict(sorted(found.items()))

    def measured_commits(self) -> list[str]:
        """The starts of the hashes of all commits that have results, the latest file first."""
        latest_first = sorted(self.files().items(), key=lambda item: -item[1])
        return [*dict.fromkeys(filed.commit for filed, _ in latest_first)]


_COMMENT = re.compile(r'("(?:[^"\\\n]|\\.)*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_RESULTS_DIR = re.compile(r"""\bresults_dir\b["']?\s*:\s*(["'])(.*?)\1""")


# -- asv's files -----------------------------------------------------------------------------------

_Cells = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Column:
    """What asv has of one benchmark, for a commit on a machine, in an environment.

    Attributes
    ----------
    commit : str
        The full hash.
    commit_time_s, measured_at_s : float
        When the commit was made and the benchmark started, in seconds since 1970; 0 if unknown.
    cells : tuple of tuple of str
        The parameters of each cell: the target, the workload and, where there is one, the stage.
    values : tuple of float, optional
        One a cell: nan is n/a, and None is failed.
    """

    machine: str
    commit: str
    environment: str
    commit_time_s: float
    benchmark: str
    version: str
    measured_at_s: float
    cells: _Cells
    values: tuple[float | None, ...]


def read_asv(path: Path) -> tuple[list[Column], list[str]]:
    """What one of asv's files has of our benchmarks, and what of it could not be read, and why.

    What is damaged costs only itself.
    """
    try:
        file = json.loads(path.read_bytes())
        if file["version"] != ASV_VERSION:
            raise ValueError(f"its version is {file['version']!r}, not {ASV_VERSION}")
        origin = (str(file["params"]["machine"]), str(file["commit_hash"]), str(file["env_name"]))
        commit_time_s = float(file["date"]) / 1000
        names, benchmarks = list(file["result_columns"]), dict(file["results"])
    except FileNotFoundError:
        return [], []
    except UNREADABLE as error:
        return [], [f"{path}: left out, because {unreadable(error)}"]
    columns, problems = [], []
    for benchmark, values in benchmarks.items():
        if kind_of(benchmark) is None:
            continue
        try:
            row = dict(zip(names, values, strict=False))
            columns.append(Column(*origin, commit_time_s, benchmark, **_column(row)))
        except UNREADABLE as error:
            problems.append(f"{path}: {benchmark} left out, because {unreadable(error)}")
    return columns, problems


def _column(row: Mapping[str, Any]) -> dict[str, Any]:
    cells = _cells(json.dumps(row["params"]))
    # asv writes None for a list of nothing but None.
    values = [None] * len(cells) if row["result"] is None else row["result"]
    if len(values) != len(cells):
        raise ValueError(f"it has {len(values)} values for {len(cells)} parameters")
    return {
        "version": str(row.get("version")),
        "measured_at_s": float(row.get("started_at") or 0) / 1000,
        "cells": cells,
        "values": tuple(None if value is None else float(value) for value in values),
    }


@lru_cache(maxsize=1024)
def _cells(params: str) -> _Cells:
    """The product of the parameters, of which asv stores the repr(); all files have the same."""
    lists = [[str(ast.literal_eval(text)) for text in texts] for texts in json.loads(params)]
    if len(lists) < 2:
        raise ValueError(f"it has {len(lists)} parameters, and not a target and a workload")
    return tuple(itertools.product(*lists))
