"""asv's folder of results, and the evidence beside it: what the names mean, and asv's files.

asv's files are read as they lie on the disk (version 2 of its format) and asv is not imported, nor
is any backend: what was measured elsewhere can be read anywhere. Of suites that are none of ours
all is read, too, but for what only the evidence has.
"""

from __future__ import annotations

import datetime
import json
import math
import re
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any, Self

from convbench.results.journal import (
    UNREADABLE,
    Kind,
    content,
    impossible,
    kind_of,
    listed,
    number,
    unreadable,
)
from convbench.words.numbers import count
from convbench.words.text import clip

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
    def kept(self) -> tuple[Path, Path]:
        """What is no part of what was measured, where git knows of it."""
        return self.results, self.evidence

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
        """All that there are, by their names, and when the later of the two was last written to.

        But for those of asv's that are of another version of its format.
        """
        found: dict[Filed, float] = {}
        for path in (*self.results.glob("*/*.json"), *self.evidence.glob("*/*.jsonl")):
            filed = Filed.of(path)
            if filed is not None and _version(path) in {None, ASV_VERSION}:
                found[filed] = max(found.get(filed, 0.0), path.lstat().st_mtime)
        return dict(sorted(found.items()))

    def measured_commits(self) -> list[str]:
        """The starts of the hashes of all commits that have results, the latest file first."""
        latest_first = sorted(self.files().items(), key=lambda item: -item[1])
        return [*dict.fromkeys(filed.commit for filed, _ in latest_first)]

    def named_commits(self) -> list[str]:
        """Those, and then what only has files that are not read."""
        others = sorted(filed.commit for filed in self._others())
        return [*dict.fromkeys((*self.measured_commits(), *others))]

    def unread(self) -> list[str]:
        """How many of asv's files are of another version of its format, and what to do about it."""
        found = Counter(self._others().values())
        return [
            f"{self.results}: {count(files, 'file')} of version {version} of asv's format, where"
            f" version {ASV_VERSION} is read."
            f" {'`asv update` converts' if version < ASV_VERSION else 'A newer convbench may read'}"
            " them."
            for version, files in sorted(found.items())
        ]

    def _others(self) -> dict[Filed, int]:
        found = ((Filed.of(path), _version(path)) for path in self.results.glob("*/*.json"))
        return {
            filed: version
            for filed, version in found
            if filed is not None and version not in {None, ASV_VERSION}
        }


_VERSION = re.compile(rb'"version"\s*:\s*([0-9]{1,9})\s*\}\s*\Z')
_TAIL = 64


def _version(path: Path) -> int | None:
    """Of asv's format, which asv writes at the end of a file; None where that is not plain.

    It is a glance: a folder has thousands of files, and few of them are read.
    """
    if path.suffix != ".json":
        return None
    try:
        status = path.stat()
        return _version_of(path, status.st_size, status.st_mtime_ns)
    except OSError:
        return None


@lru_cache(maxsize=1 << 16)
def _version_of(path: Path, size: int, _changed: int) -> int | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        file.seek(max(0, size - _TAIL))
        found = _VERSION.search(file.read(_TAIL))
    return int(found[1]) if found else None


_COMMENT = re.compile(r'("(?:[^"\\\n]|\\.)*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_RESULTS_DIR = re.compile(r"""\bresults_dir\b["']?\s*:\s*(["'])(.*?)\1""")


# -- asv's files -----------------------------------------------------------------------------------

Cell = tuple[str, str, str]
"""Target, workload and, where there is one, stage. Of a benchmark that is none of ours the target
is "", and the workload is what asv calls it, with its parameters."""

MOST_CELLS = 100_000
"""In one file."""

_MOST_PARAMETERS = 32
_MOST_KEPT = 5000
_MOST_NAME, _MOST_WORDS, _MOST_WORD = 300, 400, 100
"""Letters: of a name; of a benchmark with its parameters; of one of these."""


@dataclass(frozen=True, slots=True)
class Column:
    """What asv has of one benchmark, for a commit on a machine, in an environment.

    Attributes
    ----------
    commit : str
        The full hash.
    commit_time_s, measured_at_s : float
        When the commit was made and the benchmark started, in seconds since 1970; 0 if unknown.
    values : tuple of float, optional
        One a cell: nan is n/a, and None is failed, or impossible.
    impossible : mapping of int to str
        By the number of the cell, why what the file says of it cannot be true.
    facts : tuple of mapping
        One a cell, of a benchmark that is none of ours: its ``unit``; and of asv's statistics
        ``quartiles_s``, seconds, and the number of ``samples`` that were kept.
    """

    machine: str
    commit: str
    environment: str
    commit_time_s: float
    benchmark: str
    version: str
    measured_at_s: float
    kind: Kind
    cells: tuple[Cell, ...]
    values: tuple[float | None, ...]
    impossible: Mapping[int, str] = field(default_factory=dict)
    facts: tuple[Mapping[str, Any], ...] = ()


def read_asv(path: Path) -> tuple[list[Column], list[str]]:
    """What one of asv's files has, and what of it could not be read, and why.

    What is damaged costs only itself.
    """
    try:
        file = json.loads(content(path))
        if file["version"] != ASV_VERSION:
            raise ValueError(f"its version is {file['version']!r:.80}, not {ASV_VERSION}")
        filed = Filed.of(path)
        commit = _name(file["commit_hash"], "commit_hash")
        if filed is None or re.fullmatch(r"[0-9a-f]{8,64}", commit) is None:
            raise ValueError(f"its commit is {commit!r:.80}, which is no hash")
        if short(commit) != filed.commit:
            raise ValueError(f"it is of {commit}, and its name says {filed.commit}")
        machine = (file.get("params") or {}).get("machine") or filed.machine
        environment = file.get("env_name") or filed.environment
        origin = (_name(machine, "machine"), commit, _name(environment, "env_name"))
        commit_time_s = number(file["date"], "date") / 1000
        names, benchmarks = list(file["result_columns"]), dict(file["results"])
    except FileNotFoundError:
        return [], []
    except UNREADABLE as error:
        return [], [f"{path}: left out, because {unreadable(error)}"]
    columns: list[Column] = []
    problems: list[str] = []
    room = MOST_CELLS
    for benchmark, values in benchmarks.items():
        try:
            row = dict(zip(names, listed(values, "it"), strict=False))
            column = _column(path, _name(benchmark, "a benchmark"), row, room, problems)
        except UNREADABLE as error:
            name = clip(str(benchmark), _MOST_NAME)
            problems.append(f"{path}: {name} left out, because {unreadable(error)}")
            continue
        room -= len(column["cells"])
        columns.append(Column(*origin, commit_time_s, benchmark, **column))
    return columns, problems


def _column(
    path: Path, benchmark: str, row: Mapping[str, Any], room: int, problems: list[str]
) -> dict[str, Any]:
    lists = [listed(texts, "a parameter") for texts in listed(row["params"], "params")]
    # How many there are is known before any of them is made.
    if len(lists) > _MOST_PARAMETERS:
        raise ValueError(f"it has {len(lists)} parameters, and {_MOST_PARAMETERS} are read")
    cells = math.prod(map(len, lists))
    # asv writes None for a list of nothing but None.
    stored = None if row["result"] is None else listed(row["result"], "result")
    if stored is not None and len(stored) != cells:
        raise ValueError(f"it has {len(stored)} values for {cells} parameters")
    if cells > room:
        raise ValueError(
            f"it has {cells} combinations of parameters; {MOST_CELLS} are read of a file"
        )
    kind = kind_of(benchmark)
    ours = kind is not None and _is_ours(lists)
    unit, texts = "", lists
    if kind is None or not ours:
        kind, unit = _measured(path, benchmark, problems)
        texts = [[_shown(text) for text in texts] for texts in lists]
    # All files have the same few; what is large is not kept for the next.
    product_of = _cells if cells <= _MOST_KEPT else _cells.__wrapped__
    values: list[float | None] = []
    wrong: dict[int, str] = {}
    for i, value in enumerate([None] * cells if stored is None else stored):
        known, why = _value(kind, value)
        values.append(known)
        if why:
            wrong[i] = why
    facts = [] if ours else [_facts(row, i, kind, unit, wrong) for i in range(cells)]
    return {
        "version": str(row.get("version"))[:_MOST_NAME],
        "measured_at_s": number(row.get("started_at") or 0, "started_at") / 1000,
        "kind": kind,
        "cells": product_of("" if ours else benchmark, json.dumps(texts)),
        "values": tuple(None if i in wrong else value for i, value in enumerate(values)),
        "impossible": wrong,
        "facts": tuple(facts),
    }


def _value(kind: Kind, value: Any) -> tuple[float | None, str]:
    """A number, nan for n/a, or None; and why it cannot be one."""
    if value is None:
        return None, ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None, f"the file says {value!r:.80}, which is no number"
    if math.isnan(value):
        return math.nan, ""
    return float(value), impossible(kind, float(value))


def _name(value: Any, what: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _MOST_NAME:
        raise ValueError(f"{what} is {value!r:.80}; expected 1 to {_MOST_NAME} letters")
    return value


# -- The cells of a benchmark ----------------------------------------------------------------------

_WORD = re.compile(r"""'([^'\\]+)'|"([^"\\]+)\"""")
"""The repr() of a name of ours."""


def _is_ours(lists: Sequence[Sequence[Any]]) -> bool:
    """Whether these are targets and workloads, and perhaps stages.

    Another suite may call its benchmark ``track_time``, too.
    """
    texts = [text for texts in lists for text in texts]
    names = all(
        isinstance(text, str) and len(text) <= _MOST_NAME and _WORD.fullmatch(text)
        for text in texts
    )
    return len(lists) in {2, 3} and names and all("@" in target for target in lists[0])


@lru_cache(maxsize=1024)
def _cells(benchmark: str, params: str) -> tuple[Cell, ...]:
    """The product of the parameters, of which asv stores the repr(); all files have the same.

    `benchmark` is the name of one that is none of ours.
    """
    lists: list[list[str]] = json.loads(params)
    if not benchmark:
        names = [[text[1:-1] for text in texts] for texts in lists]
        names += [[""]] * (3 - len(names))
        return tuple((target, workload, stage) for target, workload, stage in product(*names))
    cells: dict[str, None] = {}
    met: Counter[str] = Counter()
    for words in product(*lists):
        name = clip(f"{benchmark}({', '.join(words)})" if words else benchmark, _MOST_WORDS)
        said = name
        while said in cells:  # not all versions of asv number what looks alike
            met[name] += 1
            said = f"{name} #{met[name] + 1}"
        cells[said] = None
    return tuple(("", name, "") for name in cells)


def _shown(text: object) -> str:
    # The address of an object is another in every process.
    return clip(re.sub(r" at 0x[0-9a-fA-F]+", "", str(text)[:1000]), _MOST_WORD)


# -- Benchmarks that are none of ours --------------------------------------------------------------

_TIME = re.compile(r"(time|timeraw)_.+|Time(raw)?[A-Z_].+")
_MEMORY = re.compile(r"(mem|peakmem)_.+|(Mem|PeakMem)[A-Z_].+")
"""By these names asv knows what a benchmark measures."""

_KINDS: dict[str, Kind] = {"seconds": "time", "bytes": "memory"}


def _measured(path: Path, benchmark: str, problems: list[str]) -> tuple[Kind, str]:
    """What a benchmark measures, and the unit of what is neither a time nor a memory.

    Its unit stands in asv's ``benchmarks.json``; where that is not, its name tells.
    """
    described = path.parent.parent / "benchmarks.json"
    try:
        changed = described.stat().st_mtime_ns
    except OSError:
        changed = 0
    units, problem = _units(described, changed)
    if problem and problem not in problems:
        problems.append(problem)
    unit = units.get(benchmark, "")
    name = benchmark.rpartition(".")[2]
    if unit in _KINDS:
        return _KINDS[unit], ""
    if not unit and _TIME.fullmatch(name):
        return "time", ""
    if not unit and _MEMORY.fullmatch(name):
        return "memory", ""
    return "number", "" if unit == "unit" else unit  # which is asv's word for none


@lru_cache(maxsize=8)
def _units(path: Path, _changed: int) -> tuple[dict[str, str], str]:
    """The unit of each benchmark, as asv has described it; and why that cannot be read."""
    try:
        file = json.loads(content(path)).items()
        described = [(name, about) for name, about in file if isinstance(about, Mapping)]
    except FileNotFoundError:
        return {}, ""
    except UNREADABLE as error:
        return {}, f"{path}: left out, because {unreadable(error)}"
    units = {name: about.get("unit") for name, about in described}
    return {name: clip(unit, 30) for name, unit in units.items() if isinstance(unit, str)}, ""


def _facts(
    row: Mapping[str, Any], i: int, kind: Kind, unit: str, wrong: dict[int, str]
) -> dict[str, Any]:
    """What asv has of a cell beside its value; what of it cannot be true goes into `wrong`."""
    facts: dict[str, Any] = {"unit": unit} if unit else {}
    of_cell = {
        name: values[i]
        for name in ("stats_q_25", "stats_q_75", "stats_number", "stats_repeat", "samples")
        if isinstance(values := row.get(name), list) and i < len(values) and values[i] is not None
    }
    samples = of_cell.pop("samples", [])
    quartiles = [of_cell.get(name) for name in ("stats_q_25", "stats_q_75")]
    try:
        for name in ("stats_number", "stats_repeat"):
            if number(of_cell.get(name, 1), name.removeprefix("stats_")) < 1:
                raise ValueError(f"{name.removeprefix('stats_')} is {of_cell[name]!r:.80}")
        for value in (*listed(samples, "samples"), *(q for q in quartiles if q is not None)):
            if impossible(kind, number(value, "a sample", finite=False)):
                raise ValueError(f"a sample is {value:g}")
    except UNREADABLE as error:
        wrong.setdefault(i, f"of what the file has beside its value, {unreadable(error)}")
        return facts
    if kind == "time" and None not in quartiles:
        facts["quartiles_s"] = [*map(float, filter(None, quartiles))]
    if samples:
        facts["samples"] = len(samples)
    return facts
