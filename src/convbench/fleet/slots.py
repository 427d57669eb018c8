"""What a worker of Dask has for itself here, cores and a card, and how it says so.

Dask loads this into a worker, ``--preload convbench.fleet.slots``: the worker then offers what
units ask for, as resources. There is one of each, so that one unit has all of it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from convbench import __version__
from convbench.machine.nvidia import gpus, has_nvidia_driver
from convbench.measuring.asv_store import machine_name
from convbench.measuring.evidence import known_machine

PASSED = "CONVBENCH_FLEET_PASSED"
"""Names of variables, besides the usual ones, that what is measured here may see."""

FOLDER = "CONVBENCH_FLEET_FOLDER"
"""Where a worker keeps clones, checkouts and environments."""

USER = "CONVBENCH_FLEET_USER"
"""Who runs what is measured here, if not the worker's user."""


@dataclass(frozen=True, slots=True)
class Labels:
    """What a worker says of itself, in the names of its resources.

    Attributes
    ----------
    hardware : str
        The fingerprint of its machine, with so many of its cores.
    machine : str
        What asv files its results under; what has not all of the cores has another name.
    version : str
        Of convbench.
    card : str
        The name of its GPU; "" if it has none.
    """

    hardware: str
    machine: str
    version: str
    card: str = ""

    KIND: ClassVar[str] = "kind:"
    MACHINE: ClassVar[str] = "machine:"
    VERSION: ClassVar[str] = "convbench:"
    CARD: ClassVar[str] = "gpu:"
    OURS: ClassVar[str] = f"{VERSION}{__version__}"

    @classmethod
    def here(cls) -> Self:
        """Those of this process, of which the cores are those that it may use."""
        known = known_machine()
        cores, of = known["logical_cores"], known.get("machine_cores", 0)
        name = machine_name() + (f"-{cores}-of-{of}-cores" if cores < of else "")
        shown = os.environ.get("CUDA_VISIBLE_DEVICES")
        cards = [
            str(card.get("name", "unnamed"))
            for card in (gpus() if has_nvidia_driver() else ())
            if shown is None or {str(card.get("uuid")), str(card.get("index"))} & {shown}
        ]
        return cls(known["fingerprint"], name, __version__, cards[0] if cards else "")

    def resources(self) -> dict[str, float]:
        """What Dask is told."""
        names = ["cpu", self.KIND + self.hardware, self.MACHINE + self.machine]
        names += [self.VERSION + self.version]
        names += ["gpu", self.CARD + self.card] if self.card else []
        return dict.fromkeys(names, 1)

    @classmethod
    def of(cls, resources: Mapping[str, float]) -> Self | None:
        """Read them back; None of a worker that is none of ours."""
        found = {}
        for prefix in (cls.KIND, cls.MACHINE, cls.VERSION, cls.CARD):
            of_it = (name.removeprefix(prefix) for name in resources if name.startswith(prefix))
            found[prefix] = next(of_it, "")
        hardware, machine, version, card = found.values()
        return cls(hardware, machine, version, card) if hardware and machine else None


def shares(cores_each: int | None) -> list[tuple[frozenset[int], dict[str, str]]]:
    """The cores of each worker on this machine, and its variables, which show it its card alone.

    Parameters
    ----------
    cores_each : int, optional
        By default one worker has all cores or, where there are cards, each card's has its share.
    """
    usable = sorted(os.sched_getaffinity(0))
    cards = [str(card["uuid"]) for card in gpus() if "uuid" in card] if has_nvidia_driver() else []
    number = len(cards) or 1
    each = cores_each or max(1, len(usable) // number)
    if not cards:
        number = max(1, len(usable) // each)
    some = [frozenset(usable[i * each : (i + 1) * each]) for i in range(number)]
    return [
        (cores, {"CUDA_VISIBLE_DEVICES": cards[i]} if cards else {})
        for i, cores in enumerate(some)
        if len(cores) == min(each, len(usable))
    ]


async def dask_setup(worker: Any) -> None:
    """Offer what this process has; Dask calls it before it tells the scheduler of the worker."""
    offered = Labels.here().resources()
    worker.state.total_resources.update(offered)
    worker.state.available_resources.update(offered)
