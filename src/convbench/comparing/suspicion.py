"""Whether what is slower is slower because the machine was.

A cause is only named where it explains what is seen: a clock that was lower by a tenth explains a
time that is longer by a tenth, and none that has doubled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from convbench.comparing.comparison import ComparedCell, Effect, Rule, Verdict
from convbench.results.sessions import Card, Health
from convbench.words.numbers import integer, share, times

LOWER_CPU, LOWER_GPU = 1.1, 1.03
"""A clock that is lower by less than this factor is as usual: a CPU's moves with its load."""

MORE_LOAD = 1.0
"""So many more processes that want to run, and a quarter of the cores, are another load."""

MORE_STOLEN, MORE_STOPPED = 0.02, 0.01
"""Of the processor time, and of the time: less than that is as usual."""

LEAST_ALIKE = 6
"""Cells that have to be slower before it can be said that everything is."""

NEARLY_ALL = 0.8


@dataclass(frozen=True, slots=True)
class Excuse:
    """What was worse about the machine for head than for base.

    Attributes
    ----------
    said : str
        With the figures of both.
    factor : float
        So many times as long may it have made head take at most.
    """

    said: str
    factor: float


def excuses(base: Health, head: Health, device: str, names: tuple[str, str]) -> list[Excuse]:
    """What slowed head down, and not base, as far as their processes tell.

    Parameters
    ----------
    device : str
        Of the target: "cpu", "gpu:0".
    names : (str, str)
        What base and head are called.
    """
    one, other = names
    if device.startswith("gpu"):
        index = integer(device[4:]) or 0
        return _of_card(base.card(index), head.card(index), names)
    found: list[Excuse] = []
    if base.cpu_mhz and head.cpu_mhz and (ratio := base.cpu_mhz / head.cpu_mhz) > LOWER_CPU:
        said = f"{other} ran at {head.cpu_mhz:.0f} MHz, {one} at {base.cpu_mhz:.0f} MHz"
        found.append(Excuse(said, ratio))
    if base.load is not None and head.load is not None:
        more = head.load - base.load
        if more >= max(MORE_LOAD, (head.cores or 1) / 4):
            said = f"the load was {head.load:.1f} for {other} and {base.load:.1f} for {one}"
            found.append(Excuse(said, 1 + more))
    for what, least, before_, after_, cores in (
        # The host may take all of it from the one core that counts.
        ("the host took", MORE_STOLEN, base.stolen, head.stolen, head.cores or 1),
        ("the quota stopped", MORE_STOPPED, base.stopped, head.stopped, 1),
    ):
        if before_ is not None and after_ is not None and after_ - before_ >= least:
            said = f"{what} {share(after_)} of the time of {other}, {share(before_)} of {one}'s"
            left = 1 - cores * (after_ - before_)
            found.append(Excuse(said, 1 / max(left, 0.1)))
    return found


def _of_card(base: Card, head: Card, names: tuple[str, str]) -> list[Excuse]:
    one, other = names
    new = sorted(head.slowed - base.slowed)
    clocks, ratio = "", math.inf  # what slows down by an unknown factor explains anything
    if base.sm_mhz and head.sm_mhz:
        ratio = base.sm_mhz / head.sm_mhz
        clocks = f"{other} ran at {head.sm_mhz:.0f} MHz, {one} at {base.sm_mhz:.0f} MHz"
    if not new and not LOWER_GPU < ratio < math.inf:
        return []
    return [Excuse(", ".join(filter(None, (clocks, *new))), ratio)]


def excused(cell: ComparedCell, found: Sequence[Excuse], rule: Rule) -> ComparedCell:
    """What has regressed, as a suspect if the excuses together explain it."""
    low = cell.effect.low if cell.effect else None
    if not found or low is None or cell.verdict is not Verdict.REGRESSED:
        return cell
    said = "; ".join(excuse.said for excuse in found)
    if low > math.prod(excuse.factor for excuse in found) * (1 + rule.minimum_effect):
        return replace(cell, notes=(*cell.notes, f"{said}: that does not explain it"))
    return _suspected(cell, said)


def _suspected(cell: ComparedCell, why: str) -> ComparedCell:
    """With a note, which many cells have in common, and not in the reason, which each has."""
    return replace(cell, verdict=Verdict.SUSPECT, notes=(*cell.notes, why))


def torn(cell: ComparedCell, rule: Rule) -> ComparedCell:
    """What is undecided, as a suspect if one session of head was slower and another was not.

    Who measures again until nothing is slower has found that out, and nothing else.
    """
    base, runs = cell.base.value, [run.value for run in cell.head.runs if run.counted]
    if cell.verdict is not Verdict.UNDECIDED or len(runs) < 2 or not base:
        return cell
    most = 1 + rule.delta
    if not (max(runs) > most * base and max(runs) > most * min(runs)):
        return cell
    delta = f"{100 * rule.delta:g} %"
    why = f"one session of head is slower than base by more than {delta}, and another is not so"
    return _suspected(cell, f"its sessions do not agree: {why}")


def alike(cells: Sequence[ComparedCell], rule: Rule) -> tuple[list[ComparedCell], list[str]]:
    """Take what all cells on a kind of device have in common for a doing of the machine.

    Where nearly all times that were measured apart have moved to the same side, and by about the
    same factor, so that none is surely outside delta once their median has been taken off, those
    that are slower are suspects: no change of one kernel does that, but another clock does, and so
    does what all kernels share. A cell that sticks out beyond it has regressed all the same.

    Returns
    -------
    list of ComparedCell, list of str
        The cells in their order, and what is to be said of them.
    """
    judged, remarks = [*cells], []
    for kind in ("cpu", "gpu"):
        effects = {
            i: cell.effect for i, cell in enumerate(judged)
            if cell.kind == "time" and not cell.pairs and cell.effect and cell.effect.low
            and cell.target.partition("@")[2].startswith(kind)
        }  # fmt: skip
        if not effects:
            continue
        shift = median(effect.ratio for effect in effects.values())
        common = [i for i, effect in effects.items() if _is_alike(effect, shift, rule)]
        moved = Verdict.REGRESSED if shift > 1 else Verdict.IMPROVED
        claimed = [i for i in common if judged[i].verdict is moved]
        if len(claimed) < LEAST_ALIKE or len(common) < NEARLY_ALL * len(effects):
            continue
        said = (
            f"{len(common)} of {len(effects)} times on a {kind.upper()} are"
            f" {times(max(shift, 1 / shift))}x {'slower' if shift > 1 else 'faster'} alike: that is"
            " the machine, or something that all of them share"
        )
        remarks.append(f"{said}; a gate tells them apart")
        if moved is Verdict.REGRESSED:
            for i in claimed:
                judged[i] = _suspected(judged[i], "it is slower as nearly all of them are")
    return judged, remarks


def _is_alike(effect: Effect, shift: float, rule: Rule) -> bool:
    if effect.low is None or effect.high is None or (effect.ratio > 1) != (shift > 1):
        return False
    return effect.low / shift < 1 + rule.delta and effect.high / shift > 1 / (1 + rule.delta)
