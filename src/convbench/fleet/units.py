"""What a worker is asked for at once: some cells of one commit, on one kind of machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from convbench import __version__
from convbench.fleet.slots import Labels
from convbench.measuring.asv_store import Cell
from convbench.results import machines
from convbench.results.folder import Folder

SHARD = 40
"""Cells: in five processes each these take some minutes, which is what a lost worker costs."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Some cells of a commit, measured on one machine, in one go.

    Attributes
    ----------
    commit : str
        The full hash.
    lock : str
        A digest of what its libraries are installed from.
    machine, hardware : str
        What the results are filed under, and the kind of machine that they are of.
    device : str
        "cpu" or "gpu": what it has to have for itself.
    cells : tuple of str
        As asv calls them: ``bench_pipeline.Smoke.track_time('numpy@cpu', 'notebook.conv')``.
    rounds : int, optional
        As of `convbench bench`.
    """

    commit: str
    lock: str
    machine: str
    hardware: str
    device: str
    cells: tuple[str, ...]
    rounds: int | None = None

    @property
    def id(self) -> str:
        """What it is known by: two that ask for the same of the same convbench are one."""
        text = json.dumps([__version__, asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    @property
    def resources(self) -> dict[str, float]:
        """What Dask has to find at a worker, of which no other unit has any meanwhile."""
        return dict.fromkeys((self.device, Labels.KIND + self.hardware, Labels.OURS), 1)


@dataclass(frozen=True, slots=True)
class Kind:
    """Machines that are equal, for what is measured on them.

    Attributes
    ----------
    hardware : str
        Its fingerprint.
    machine : str
        The name that results are filed under, one for all of them.
    names : tuple of str
        What asv calls each.
    workers : int
    cards : bool
        Whether they have GPUs.
    """

    hardware: str
    machine: str
    names: tuple[str, ...]
    workers: int
    cards: bool


def kinds(workers: Iterable[Labels], folder: Folder) -> list[Kind]:
    """Put equal machines together, and choose their names.

    The name is one that there are results of already, or else the first of theirs: whoever joins
    later, results stay in one place.
    """
    together: dict[str, list[Labels]] = {}
    for labels in workers:
        together.setdefault(labels.hardware, []).append(labels)
    stored = [path.name for path in sorted(folder.results.glob("*/"))]
    found = []
    for hardware, same in sorted(together.items()):
        names = sorted({labels.machine for labels in same})
        known = [name for name in stored if machines.hardware(folder, name) == hardware]
        machine = next(iter([n for n in known if n in names] or known or names))
        cards = any(labels.card for labels in same)
        found.append(Kind(hardware, machine, tuple(names), len(same), cards))
    return found


def split(
    commits: Mapping[str, str],
    kinds: Sequence[Kind],
    cells: Sequence[Cell],
    rounds: int | None = None,
    shard: int = SHARD,
) -> Iterator[Unit]:
    """All units: of each commit on each kind of machine, so many cells at once.

    A workload stays whole, so that its targets take turns. Where there is a card, what needs one
    is asked for apart; where there is none it is asked for with the rest, which notes why not.

    Parameters
    ----------
    commits : mapping of str to str
        To the digest of the lock of each.
    """
    for commit, lock in commits.items():
        for kind in kinds:
            for device in ("cpu", "gpu") if kind.cards else ("cpu",):
                mine = [cell for cell in cells if not kind.cards or cell.kind == device]
                for names in _shards(mine, shard):
                    yield Unit(commit, lock, kind.machine, kind.hardware, device, names, rounds)


def called(cell: Cell) -> str:
    """As asv calls it, to whom a parameter is what its repr() is."""
    return f"{cell.benchmark}({', '.join(map(repr, cell.params))})"


def _shards(cells: Sequence[Cell], size: int) -> Iterator[tuple[str, ...]]:
    of_workload: dict[Any, list[str]] = {}
    for cell in cells:
        of_workload.setdefault(cell.params[1:2], []).append(called(cell))
    names: list[str] = []
    for some in of_workload.values():
        if names and len(names) + len(some) > size:
            yield tuple(names)
            names = []
        names += some
    if names:
        yield tuple(names)
