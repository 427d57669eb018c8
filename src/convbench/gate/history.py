"""Files what either side of a gate has taken where asv keeps its history.

A gate measures on one core with one thread, and so does one suite alone: that of the benchmarks
named here. Of a side that is what lies in a commit, in an environment that asv has a name for, the
evidence and asv's file get what `convbench bench` would have written of it: a process of each pair,
and its median.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convbench.comparing.pairs import LEAST_PAIRS, State
from convbench.gate.build import Built
from convbench.gate.pairs import DTYPE, SIDES, Found
from convbench.gate.verdicts import Gate
from convbench.machine.facts import moment
from convbench.measuring.asv_store import Cell, Store, environments
from convbench.measuring.evidence import known_machine
from convbench.results.journal import append_all, read
from convbench.results.records import ONE_CORE
from convbench.words.numbers import count
from convbench.words.status import Standing

METHOD = "wall time of run + synchronize on one core with one thread, in turns with another process"
"""What a sample is, in that suite as well. Samples of two methods are not comparable."""

_Side = tuple[str, Built]


def file_times(gate: Gate, config: Path, before: Mapping[str, Any]) -> Iterator[str]:
    """File the times of both sides; what was filed and what was not, in words.

    Parameters
    ----------
    config : Path
        ``asv.conf.json``.
    before : mapping
        :func:`convbench.machine.facts.moment`, when the gate began.

    Raises
    ------
    InputError
        If the suites or asv's files cannot be read, or nothing can be written there.
    """
    together: dict[tuple[str, str], list[_Side]] = {}
    for name, built in zip(SIDES, (gate.base, gate.head), strict=True):
        if not _timed(gate, name):
            continue
        if built.changed:
            yield f"{name} is not filed for asv: it is not what lies in its commit"
        elif (environment := _asvs(built, config)) is None:
            yield f"{name} is not filed for asv: its environment is the gate's own"
        else:
            # Two sides that are one commit in one environment are one session of it.
            together.setdefault((built.commit, environment), []).append((name, built))
    after = moment()
    for (commit, environment), sides in together.items():
        store = Store(config, [rf"^bench_{ONE_CORE}\."], commit, environment)
        number = _file(gate, store, [name for name, _ in sides], before, after)
        names = " and ".join(name for name, _ in sides)
        yield f"{count(number, 'cell')} of {names} filed for asv in {store.file}"


def _timed(gate: Gate, side: str) -> list[Found]:
    """What a side has a time of that can be trusted, from as many pairs as a gate has to have."""
    return [
        found
        for found in (gate.pairs.found if gate.pairs else ())
        if len(_counted(found, side)) >= LEAST_PAIRS
        and side not in found.outcomes
        and found.standing(side) is not Standing.DOUBTED
    ]


def _counted(found: Found, side: str) -> dict[int, float]:
    """Of each pair that counts, the seconds: what has only seemed to differ did so by chance."""
    only_fresh = found.monitor.state is State.FLAGGED
    medians = found.medians(side).items()
    return {n: time_s for n, time_s in medians if not only_fresh or n in found.monitor.fresh}


def _asvs(built: Built, config: Path) -> str | None:
    """What asv calls the environment of a side, as its ``--environment``; None if it cannot."""
    if config.parent / ".asv" / "gate" in built.python.parents:
        return None
    if built.environment in environments(config):
        return built.environment
    return f"existing:{built.python}"


def _file(
    gate: Gate,
    store: Store,
    sides: Sequence[str],
    before: Mapping[str, Any],
    after: Mapping[str, Any],
) -> int:
    """Write all of them as one run; how many cells there are."""
    known = {cell.params: cell for cell in store.cells()}
    run = uuid.uuid4().hex[:12]
    lines: list[tuple[str, dict[str, Any]]] = []
    told: set[str] = set()
    filed: set[Cell] = set()
    assert gate.pairs is not None
    for side in sides:
        place = SIDES.index(side)
        for found in _timed(gate, side):
            target = found.cell.targets[place]
            if (cell := known.get((str(target), found.cell.workload))) is None:
                continue  # the suites have no such target, or not in the list that asv knows
            filed.add(cell)
            receipt = found.receipts.get(side)
            for pair, median_s in _counted(found, side).items():
                process = f"{run}-{side}-{pair}"
                if process not in told:
                    told.add(process)
                    lines.append(("process", {
                        "run": run, "process": process, "launch": "gate",
                        "machine": known_machine(), "before": before, "after": after,
                        "versions": gate.pairs.versions[side].get(found.cell.target, {}),
                    }))  # fmt: skip
                # The samples of a process depend on each other: its median is all that counts.
                lines.append(("cell", {
                    "run": run, "process": process, "round": 2 * pair + place,
                    "benchmark": cell.benchmark, "params": cell.params, "status": "ok",
                    "version": cell.version, "samples_s": [float(f"{median_s:.5g}")], "number": 1,
                    "method": METHOD, "algorithm": found.algorithms.get(side, ""), "dtype": DTYPE,
                    "flops": found.cell.pipeline.flops,
                    "bytes": found.cell.pipeline.bytes(np.dtype(DTYPE).itemsize),
                    **({"receipt": receipt} if receipt else {}),
                }))  # fmt: skip
                receipt = None
    if not filed:
        return 0
    lines.append(("run", {
        "run": run, "state": "finished", "clean": True, "front": "convbench gate",
        "machine": store.machine["machine"], "commit": store.commit,
        "environment": store.environment, "commit_time_s": store.commit_time_s,
    }))  # fmt: skip
    append_all(store.evidence, lines)
    notes = [note for note in read(store.evidence).notes if note.run == run]
    store.save(filed, notes)
    return len(filed)
