"""Stored gates as the tests need them, made by hand."""

from __future__ import annotations

import json

import numpy as np

from convbench.results import gates
from convbench.results.folder import Folder

from .records import BASE, HEAD, TARGET, WORKLOAD

HELD = {"claims": [{"claim": "time", "verdict": "holds", "reason": ""}], "seed": "5eed"}
DOUBT = {"claims": [{"claim": "time", "verdict": "not supported", "reason": "it took longer"}]}


def gated_side(**fields):
    """What a gate has of one side of a cell, with what is given put into it."""
    known = {
        "check": {"status": "ok", "reason": ""}, "error_over_bound": 0.05, "outcome": None,
        "algorithm": "im2col", "receipt": HELD,
    }  # fmt: skip
    return known | fields


def gated_cell(factor=1.0, spread=0.002, number=12, *, fresh=0, base=None, head=None, **fields):
    """A cell of so many pairs, whose logarithms have exactly this mean and spread.

    The last of them, `fresh`, came in after it had seemed to differ.
    """
    noise = np.linspace(-1, 1, number) if number > 1 else np.zeros(number)
    if number > 1:
        noise /= noise.std(ddof=1)
    logs = (np.log(factor) + spread * noise).tolist()
    known = {
        "base_target": TARGET, "head_target": TARGET, "workload": WORKLOAD, "flops": 100,
        "verdict": "equivalent", "reason": "as the gate says", "effect": None,
        "state": "different" if fresh else "open",
        "pairs": [
            {"pair": i, "fresh": i > number - fresh, "log_ratio": log, "base_s": 1e-3,
             "head_s": 1e-3 * float(np.exp(log))}
            for i, log in enumerate(logs, start=1)
        ],
        "base": gated_side(**(base or {})), "head": gated_side(**(head or {})),
    }  # fmt: skip
    return known | fields


def gate_document(*cells, base=BASE, head=HEAD, ended_s=1e9, of_base=None, of_head=None, **fields):
    """All that a stored gate says that anybody reads."""
    side = {
        "changed": False, "environment": "env", "existing": "existing-py_env_bin_python",
        "versions": {TARGET: {"numpy": "2.4"}},
    }  # fmt: skip
    known = {
        "schema": gates.SCHEMA, "ended_s": ended_s, "cells": list(cells),
        "base": side | {"commit": base} | (of_base or {}),
        "head": side | {"commit": head} | (of_head or {}),
    }  # fmt: skip
    return known | fields


def store_gate(results_dir, *cells, machine="vm", **fields):
    """Store one; its path."""
    document = gate_document(*cells, **fields)
    of = (document[side]["commit"] for side in gates.SIDES)
    path = Folder(results_dir).new_gate(machine, *of, 1e9)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def load_gates(results_dir):
    """All that are stored there."""
    return gates.load(results_dir, lambda _: True)
