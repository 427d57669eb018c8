"""Writes a gate down, beside the evidence; :mod:`convbench.results.gates` reads it again."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from convbench import __version__
from convbench.comparing.comparison import ComparedCell
from convbench.gate.build import Built
from convbench.gate.pairs import DTYPE, FILL, SIDES, Cell, Found
from convbench.gate.verdicts import Verdicts
from convbench.machine.files import write
from convbench.measuring.asv_run import existing
from convbench.results.folder import Folder
from convbench.results.gates import SCHEMA
from convbench.words.numbers import finite


def store(
    gate: Verdicts,
    folder: Folder,
    there: tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]],
    *,
    budget_s: float,
    interrupted: bool,
) -> Path:
    """Write what is known of a gate into a file of its own, whole; its path.

    Parameters
    ----------
    there : tuple of mapping
        Where it was measured: :func:`convbench.measuring.evidence.known_machine`, and
        :func:`convbench.machine.facts.moment`, when it began and when it ended.
    budget_s : float
        For the timing.

    Raises
    ------
    InputError
        If it cannot be written there.
    """
    ended_s, (machine, before, after) = time.time(), there
    pairs = gate.pairs
    document = {
        "schema": SCHEMA,
        "convbench": __version__,
        "ended_s": round(ended_s, 3),
        "interrupted": interrupted,
        "budget_s": budget_s,
        "elapsed_s": pairs.elapsed_s if pairs else 0.0,
        "rule": asdict(gate.rule),
        "machine": machine,
        "before": before,
        "after": after,
        **{
            name: _side(built, pairs.versions[name] if pairs else {})
            for name, built in zip(SIDES, (gate.base, gate.head), strict=True)
        },
        "cells": [
            _cell(gate, cell, found, told)
            for cell, found, told in gate.judged()
            if told is not None
        ],
    }
    path = folder.new_gate(gate.machine, gate.base.commit, gate.head.commit, ended_s)
    write(path, json.dumps(finite(document), default=str) + "\n", parents=True)
    return path


def _side(built: Built, versions: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    return {
        "name": built.name,
        "commit": built.commit,
        "changed": built.changed,
        "tree": built.tree,
        "environment": built.environment,
        "existing": existing(str(built.python)),
        "versions": versions,
    }


def _cell(gate: Verdicts, cell: Cell, found: Found | None, told: ComparedCell) -> dict[str, Any]:
    base, head = map(str, cell.targets)
    pairs: list[dict[str, Any]] = []
    if found:
        of_side = {f"{side}_s": found.medians(side) for side in SIDES}
        pairs = [
            {"pair": number, "fresh": number in found.monitor.fresh, "log_ratio": log_ratio}
            | {name: medians[number] for name, medians in of_side.items()}
            for number, log_ratio in (found.monitor.first | found.monitor.fresh).items()
        ]
    return {
        "base_target": base,
        "head_target": head,
        "workload": cell.workload,
        "pipeline": cell.pipeline.to_dict(),
        "flops": cell.pipeline.flops,
        "dtype": DTYPE,
        "fill": str(FILL),
        "verdict": str(told.verdict),
        "reason": told.reason,
        "effect": asdict(told.effect) if told.effect else None,
        "state": str(found.monitor.state) if found else "",
        "pairs": pairs,
        "events": found.events if found else False,
        "discarded": asdict(told.discarded) if told.discarded else None,
        "cards": [
            {"pair": number} | asdict(card) | {"throttling": sorted(card.throttling)}
            for number, card in (found.cards.items() if found else ())
        ],
        **{side: _of_side(gate, side, cell, found, told) for side in SIDES},
    }


def _of_side(
    gate: Verdicts, side: str, cell: Cell, found: Found | None, told: ComparedCell
) -> dict[str, Any]:
    measured = told.base if side == "base" else told.head
    outcome = found.outcomes.get(side) if found else None
    checked = measured.correct and {
        "status": str(measured.correct), "reason": gate.why(side, cell),
    }  # fmt: skip
    return {
        "check": checked,
        "error_over_bound": measured.error_over_bound,
        "outcome": outcome and {"status": str(outcome.status), "reason": outcome.reason},
        "algorithm": measured.algorithm,
        "receipt": found.receipts.get(side) if found else None,
    }
