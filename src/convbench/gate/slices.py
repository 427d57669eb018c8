"""A slice of a gate: pairs that one process measures and another decides on, in plain values.

Whoever decides says of each open cell what is known of it (`open_cells`), a process measures all of
them for some seconds (`measure`) and says what it saw (`told`), and that is taken in (`take`) as if
it had been seen here. What is told is of another process: it is text, and of what it is meant to be
of nothing is believed that is not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from convbench.comparing.comparison import Rule
from convbench.correctness.accuracy import Accuracy
from convbench.correctness.verify import Check
from convbench.gate.build import Built
from convbench.gate.pairs import SIDES, Card, Cell, Found, Pairs, Pooled, Templates
from convbench.measuring.bench import Examiner
from convbench.results.gates import MOST_LOG
from convbench.results.journal import listed, number, table
from convbench.stimulus.formats import Fill
from convbench.stimulus.targets import Target
from convbench.words.status import Outcome, Standing, Status

_OF_BUILT = ("name", "commit", "environment", "tree")
_CLOCKS = ("sm_mhz", "memory_mhz")

_MOST_PAIRS = 100_000


def of_built(built: Built) -> dict[str, Any]:
    """What there is to say of a side, for who will not run it."""
    return {name: getattr(built, name) for name in _OF_BUILT} | {"python": str(built.python)}


def built(plain: Mapping[str, Any]) -> Built:
    """Read it; its sources are nowhere here."""
    name, commit, environment, tree = (str(plain[each]) for each in _OF_BUILT)
    return Built(name, commit, False, Path(plain["python"]), Path(), environment, tree)


def of_check(side: str, check: Check) -> dict[str, Any]:
    """A check of a side."""
    worst = check.accuracy and asdict(check.accuracy)
    return {"side": side, **asdict(check), "target": str(check.target), "accuracy": worst}


def check(plain: Mapping[str, Any]) -> tuple[str, Check]:
    """Read a check, and whose it is.

    Raises
    ------
    AttributeError, LookupError, TypeError, ValueError
        If it is none.
    """
    known = {field.name: plain[field.name] for field in fields(Check)}
    known |= {
        "target": Target.parse(plain["target"]), "fill": Fill(plain["fill"]),
        "status": Status(plain["status"]), "determinism": None,
        "accuracy": plain["accuracy"] and _accuracy(plain["accuracy"]),
    }  # fmt: skip
    return SIDES[SIDES.index(plain["side"])], Check(**known)


def open_cells(pooled: Pooled) -> list[dict[str, Any]]:
    """Of each cell that is to be measured on, its place and what is known of it."""
    return [
        {
            "cell": place,
            "tries": found.tries,
            "held": [side for side in SIDES if found.standing(side) is Standing.HELD],
            "doubted": [side for side in SIDES if found.standing(side) is Standing.DOUBTED],
        }
        for place, found in enumerate(pooled.found)
        if found.open
    ]


def measure(
    templates: Templates,
    cells: Sequence[Cell],
    asked: Sequence[Mapping[str, Any]],
    slice_s: float,
    examiners: Sequence[Examiner],
) -> dict[str, Any]:
    """Measure what is open for some seconds, and decide nothing; what there is to tell."""
    pairs = Pairs(templates, [cells[a["cell"]] for a in asked], Rule(), slice_s, examiners)
    for found, about in zip(pairs.found, asked, strict=True):
        found.monitor.decides = False
        found.resume(about["tries"], about["held"], about["doubted"])
    for _ in pairs.measure():
        pass
    told = [
        {"cell": about["cell"], **_told(found)}
        for found, about in zip(pairs.found, asked, strict=True)
    ]
    of_all = {name: getattr(pairs, name) for name in ("pairs", "pair_s", "versions")}
    return {**of_all, "cells": told}


def _told(found: Found) -> dict[str, Any]:
    counted = found.monitor.counted
    base, head = (found.medians(side) for side in SIDES)
    return {
        "pairs": [
            {"pair": pair, "base_s": base[pair], "head_s": head[pair], "log_ratio": counted[pair]}
            for pair in found.samples
            if pair in counted
        ],
        "events": found.events,
        "tries": found.tries,
        "verified": found.verified,
        "outcomes": {side: outcome.to_dict() for side, outcome in found.outcomes.items()},
        "worst": {side: asdict(worst) for side, worst in found.worst.items()},
        "receipts": found.receipts,
        "algorithms": found.algorithms,
        "cards": [
            {"pair": pair, **asdict(card), "throttling": sorted(card.throttling)}
            for pair, card in found.cards.items()
        ],
    }


def take(pooled: Pooled, told: Mapping[str, Any]) -> None:
    """Take in what a slice has told; all of it, or nothing.

    Raises
    ------
    AttributeError, LookupError, TypeError, ValueError
        If that is not what it is meant to be.
    """
    first, share = pooled.pairs, pooled.share
    of_slice = int(number(told["pairs"], "pairs"))
    if not 0 <= of_slice <= _MOST_PAIRS:
        raise ValueError(f"it has {of_slice} pairs")
    seen = [
        (pooled.found[_place(each["cell"])], _Seen.of(each, of_slice)) for each in told["cells"]
    ]
    pair_s = {str(name): number(took, "pair_s") for name, took in told["pair_s"].items()}
    versions = {side: _versions(told["versions"][side]) for side in SIDES}
    for side in SIDES:
        for target, said in versions[side].items():
            if said != (before := pooled.versions[side].get(target, said)):
                raise ValueError(f"{side}'s {target} is of {said} there, and of {before} elsewhere")
    for found, each in seen:
        each.into(found, first, share)
    pooled.pairs += of_slice
    pooled.pair_s |= pair_s
    for side in SIDES:
        pooled.versions[side] |= versions[side]


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a slice has seen of a cell."""

    pairs: Sequence[tuple[int, float, float, float]]
    cards: Mapping[int, Card]
    events: bool
    tries: int
    verified: int
    outcomes: Mapping[str, Outcome]
    worst: Mapping[str, Accuracy]
    receipts: Mapping[str, dict[str, Any]]
    algorithms: Mapping[str, str]

    @classmethod
    def of(cls, told: Mapping[str, Any], of_slice: int) -> _Seen:
        """Look at all of it."""
        pairs = []
        for each in listed(told["pairs"], "pairs"):
            base_s, head_s, log_ratio = (
                number(each[name], name) for name in ("base_s", "head_s", "log_ratio")
            )
            if not (base_s > 0 and head_s > 0 and abs(log_ratio) <= MOST_LOG):
                raise ValueError(f"a pair took {base_s} and {head_s} s, {log_ratio}")
            pairs.append((_pair(each, of_slice), base_s, head_s, log_ratio))
        return cls(
            pairs,
            {_pair(each, of_slice): _card(each) for each in told["cards"]},
            told["events"] is True,
            int(number(told["tries"], "tries")),
            int(number(told["verified"], "verified")),
            {side: Outcome.from_dict(each) for side, each in _by_side(told["outcomes"])},
            {side: _accuracy(each) for side, each in _by_side(told["worst"])},
            {side: table(each, "a receipt") for side, each in _by_side(told["receipts"])},
            {side: str(each) for side, each in _by_side(told["algorithms"])},
        )

    def into(self, found: Found, first: int, share: float) -> None:
        """Add it to what is known; `first` is the number of the last pair before."""
        found.tries, found.verified = self.tries, found.verified + self.verified
        found.begun += len(self.pairs)
        found.algorithms |= self.algorithms
        found.cards |= {first + pair: card for pair, card in self.cards.items()}
        for side, worst in self.worst.items():
            known = found.worst.get(side)
            if known is None or worst.ratio > known.ratio:
                found.worst[side] = worst
        for side, receipt in self.receipts.items():
            found.received(side, receipt)
        for side, outcome in self.outcomes.items():
            found.outcomes.setdefault(side, outcome)
        for pair, base_s, head_s, _ in self.pairs:
            found.events = self.events
            found.samples[first + pair] = [base_s], [head_s]
        if self.pairs and not found.outcomes:
            log_ratios = {first + pair: log_ratio for pair, *_, log_ratio in self.pairs}
            found.monitor.extend(log_ratios, share)


def _place(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"a cell is {value!r:.80}")
    return value


def _pair(told: Mapping[str, Any], of_slice: int) -> int:
    pair = told["pair"]
    if type(pair) is not int or not 0 < pair <= of_slice:
        raise ValueError(f"a pair is {pair!r:.80}, of {of_slice}")
    return pair


def _by_side(told: Mapping[str, Any]) -> list[tuple[str, Any]]:
    if strange := told.keys() - {*SIDES}:
        raise ValueError(f"it has sides {strange}")
    return [*told.items()]


def _accuracy(plain: Mapping[str, Any]) -> Accuracy:
    index = plain["index"]
    numbers = ("ratio", "got", "expected", "bound")
    return Accuracy(
        index=None if index is None else tuple(int(each) for each in index),
        wrong=int(plain["wrong"]), of=int(plain["of"]),
        **{name: number(plain[name], name, finite=False) for name in numbers},
    )  # fmt: skip


def _card(plain: Mapping[str, Any]) -> Card:
    sm, memory = ([int(number(mhz, name)) for mhz in plain[name]] for name in _CLOCKS)
    why = {str(reason) for reason in plain["throttling"]}
    quartets, discarded = int(plain["quartets"]), int(plain["discarded"])
    return Card(quartets, discarded, sm, memory, why, plain["told"] is True)


def _versions(plain: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    return {
        str(target): {str(name): str(version) for name, version in said.items()}
        for target, said in plain.items()
    }
