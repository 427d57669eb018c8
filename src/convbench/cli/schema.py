"""``convbench schema``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from convbench.cli.output import emit
from convbench.words.status import Exit

HELP = "print the JSON Schema of what a command prints, of evidence, or of workloads"
DESCRIPTION = """\
Made from the classes that are printed, in the dialect of 2020-12. Fields may be added to a
schema; a change of what one means makes it /2."""
EPILOG = """\
examples:
  convbench schema verify
  convbench schema workloads-file      of a TOML file of workloads, once it is read

exit codes: 0 printed, 4 bad input, 70 a defect of convbench"""

NAMES = (
    "audit", "backends", "bench", "check", "compare", "doctor", "explain", "fleet", "gate",
    "gate_evidence", "init", "journal", "messages", "notebook", "report", "results", "verify",
    "watch", "watch_notice", "workloads", "workloads-file",
)  # fmt: skip

Shape = Any
"""A type; the fields of an object; a list, of the shape of its items; a tuple, of alternatives."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("name", choices=NAMES, metavar="NAME", help=", ".join(NAMES))


def run(arguments: argparse.Namespace) -> int:
    """Run the command; its exit code."""
    emit(json.dumps(schema(arguments.name), indent=2) + "\n")
    return Exit.OK


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema of a document."""
    about = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": name}
    if name == "workloads-file":
        return about | _workloads_file()
    if name == "journal":
        return about | {"oneOf": _lines()}
    head: dict[str, Shape] = {"schema": Literal[f"convbench.{name}/1"], "convbench": str}
    return about | described(head | _documents()[name])


def described(shape: Shape) -> dict[str, Any]:
    """The JSON Schema of a shape, as :func:`dataclasses.asdict` and JSON leave it.

    Examples
    --------
    >>> described({"n": int, "names": [str]})["required"]
    ['n', 'names']
    >>> described(float | None)["anyOf"][1]
    {'type': 'null'}
    """
    if isinstance(shape, dict):
        properties = {name: described(of) for name, of in shape.items()}
        return {"type": "object", "properties": properties, "required": [*shape]}
    if isinstance(shape, list):
        return {"type": "array", "items": described(shape[0])}
    if isinstance(shape, tuple):
        return {"anyOf": [*map(described, shape)]}
    if is_dataclass(shape):
        hints = get_type_hints(shape)
        return described({field.name: hints[field.name] for field in fields(shape)})
    origin: Any = get_origin(shape)
    of = get_args(shape)
    if origin in {Union, UnionType}:
        return {"anyOf": [described(one) for one in of]}
    if origin is Literal:
        return {"enum": [*of]}
    if origin is tuple and (len(of) != 2 or of[1] is not ...):
        return {"type": "array", "prefixItems": [*map(described, of)], "items": False}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": described(of[1])}
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return {"type": "array", "items": described(of[0])}
    if isinstance(shape, type) and issubclass(shape, Enum):
        return {"enum": [str(one.value) for one in shape]}
    return dict(_PLAIN[shape])


_PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    # What JSON has no number for.
    float: {"anyOf": [{"type": "number"}, {"enum": ["inf", "-inf", "nan"]}]},
    None: {"type": "null"},
    NoneType: {"type": "null"},
    Any: {},
    Mapping: {"type": "object"},
}


def _but(shape: type, without: Sequence[str] = (), **more: Shape) -> dict[str, Shape]:
    """The fields of a class, but for some, and others."""
    hints = get_type_hints(shape)
    kept = {field.name: hints[field.name] for field in fields(shape) if field.name not in without}
    return kept | more


def _documents() -> dict[str, dict[str, Shape]]:
    """What the commands print, and a gate stores; classes are imported when they are asked for."""
    from convbench.auditing.claims import Receipt
    from convbench.backends import Origin
    from convbench.comparing.comparison import (
        Change,
        ComparedCell,
        Effect,
        Mean,
        Rule,
        Suspects,
        Verdict,
    )  # fmt: skip
    from convbench.measuring.doctor import evidence as doctor
    from convbench.measuring.timing import Overhead
    from convbench.results.gates import Discarded
    from convbench.results.rows import Row
    from convbench.stimulus.workloads import TIERS
    from convbench.watching.state import State
    from convbench.watching.state import Verdict as Became
    from convbench.words.status import Outcome, Status

    worst = {"index": [int], "got": float, "expected": float, "bound": float}
    worst |= {"wrong_elements": int, "elements": int}
    side = {"commit": str, "environment": str, "machine": str}
    place = {"target": str, "workload": str, "stage": str, "suite": str, "kind": str}
    against = {
        "asked": str,
        "commits": [str],
        "compared": int,
        "slower": [_but(ComparedCell, commit=str)],
    }
    power = {
        "required": float,
        "satisfied": bool,
        "cells": [{**place, "smallest_effect": float | None}],
    }
    compared: dict[str, Shape] = {
        "summary": str, "exit_code": int, "base": side, "head": side, "unmeasured": [str],
        "unlike_machines": bool, "undecided_everywhere": bool, "rule": Rule, "strict": bool,
        "suspects": Suspects, "power": (power, None), "counts": Mapping[str, int],
        "skipped_on_both_sides": int, "warnings": [str], "remarks": [str], "gate_it": str,
        "against": (against, None), "cells": [_but(ComparedCell, smallest_effect=float | None)],
        "geometric_means": [Mean], "changes": [Change],
    }  # fmt: skip
    cause = {"part": str, "status": Status, "reason": str, "remedy": str}
    rows = {"rows": [_but(Row, ["outcomes"], causes=[cause])], "problems": [str]}
    check: dict[str, Shape] = {
        "target": str, "workload": str, "dtype": str, "fill": str, "seed": int, "status": Status,
        "exact": bool, "error_over_bound": float | None, "worst": (worst, None),
        "algorithm": str, "accumulation": str, "scheme": str,
        "error_over_usual_bound": float | None, "declared": str, "digest": str,
        "determinism": str | None, "sampled_positions": int | None, "reason": str, "remedy": str,
        "command": str,
    }  # fmt: skip
    advice = [{"when": str | None, "cause": str, "remedy": str}]
    entry = {"name": str, "library": str, "kind": str, "symptom": bool, "advice": advice}
    entry |= {"example": str, "source": str}
    side_of_a_cell = {
        "check": ({"status": Status, "reason": str}, None),
        "error_over_bound": float | None,
        "outcome": ({"status": Status, "reason": str}, None),
        "algorithm": str,
        "receipt": Mapping[str, Any] | None,
    }
    pair = {"pair": int, "fresh": bool, "log_ratio": float, "base_s": float, "head_s": float}
    card = {"pair": int, "quartets": int, "discarded": int, "sm_mhz": [int], "memory_mhz": [int]}
    card |= {"throttling": [str], "told": bool}
    gated_side = {
        "name": str, "commit": str, "changed": bool, "tree": str, "environment": str,
        "existing": str, "versions": Mapping[str, Mapping[str, str]],
    }  # fmt: skip
    pipeline = Mapping[str, Any]
    return {
        "audit": {
            "interrupted": bool, "seed": str,
            "audited": [_but(Receipt, target=str, workload=str, algorithm=str,
                             outcome=Outcome | None)],
        },
        "backends": {"backends": [{
            "name": str, "devices": [str], "variants": [str], "versions": Mapping[str, str],
            "origin": Origin | None, "targets": [str],
            "missing": [{"target": str, "reason": str, "remedy": str}],
        }]},
        "bench": {
            "interrupted": bool, "run": str, "elapsed_s": float, "measured_s": float, **rows
        },
        "check": {
            "ok": bool, "reason": str, "arithmetic": str, "error_over_bound": float | None,
            "worst": (worst, None), "largest_relative_error": float, "expected_there": float,
            "sampled_positions": int | None, "place": str | None, "beyond_the_range": int,
            "in_order": bool,
            "causes": [{"name": str, "what": str, "ratio": float}],
        },
        "compare": compared | {"problems": [str]},
        "doctor": {
            "interrupted": bool, "verdict": doctor.Fitness, "findings": [doctor.Finding],
            "facts": Mapping[str, Any], "before": Mapping[str, Any], "after": Mapping[str, Any],
            "nvidia_driver": bool | None, "gpus": [Mapping[str, Any]],
            "gpu_processes": [Mapping[str, Any]], "timer": Overhead | None,
            "calibration": {
                "asked_s": float, "group": int, "confidence": float, "power": float,
                "before": Mapping[str, Any], "after": Mapping[str, Any], "own_cpu_s": float,
                "failure": str | None, "series": [doctor.Noise], "draws": [doctor.Draw],
            },
        },
        "explain": {
            "known": bool, "error": str,
            "findings": [entry | {"line": int, "said": str, "when": str | None}],
        },
        "fleet": {
            "interrupted": bool, "elapsed_s": float, "units": int, "kept": int,
            "commits": [{"commit": str, "units": int, "kept": int, "measured": int,
                         "rows": Mapping[str, int]}],
            "machines": [{"machine": str, "hardware": str, "names": [str], "workers": int,
                          "units": int, "measured_s": float}],
            "problems": [{"commit": str, "machine": str, "worker": str, "unit": str,
                          "cells": int, "reason": str}],
        },
        "gate": compared | {"interrupted": bool, "again": str},
        "gate_evidence": {
            "ended_s": float, "interrupted": bool, "budget_s": float, "elapsed_s": float,
            "rule": Rule, "machine": Mapping[str, Any], "before": Mapping[str, Any],
            "after": Mapping[str, Any], "base": gated_side, "head": gated_side,
            "cells": [{
                "base_target": str, "head_target": str, "workload": str, "pipeline": pipeline,
                "flops": int, "dtype": str, "fill": str, "verdict": Verdict, "reason": str,
                "effect": Effect | None, "state": str, "pairs": [pair],
                "events": bool, "discarded": Discarded | None, "cards": [card],
                "base": side_of_a_cell, "head": side_of_a_cell,
            }],
        },
        "init": {
            "root": str, "package": str, "template": str | None, "targets": [str],
            "dry_run": bool, "files": [{"path": str, "what": str, "text": str}],
            "by_hand": [str], "next": [str],
        },
        "messages": {"messages": [entry]},
        "notebook": {
            "seed": int,
            "pipelines": Mapping[str, Any],
            "agreement": [{
                "target": str, "pipeline": str, "status": Status,
                "error_over_bound": float | None,
                "same_bits": bool, "reason": str, "remedy": str,
            }],
            "conv_then_pool": str,
        },
        "report": {
            "exit_code": int, "reason": str, "page": str, "charts": [str], "head": side,
            "base": (side, None), "unmeasured": str | None, "power": (power, None),
            "suspects": int, "against": (against, None), "drifts": [Mapping[str, Any]],
            "gate_it": str, "remarks": [str], "problems": [str],
        },
        "results": {"exit_code": int, "unmeasured": str | None, **rows},
        "verify": {
            "interrupted": bool, "cells": int, "elapsed_s": float, "checks": [check],
            "installed_copies": Mapping[str, Origin],
        },
        "watch": _but(State),
        "watch_notice": {
            "id": str, "text": str, "verdict": Became, "commit": str, "subject": str,
            "branches": [str], "base": str, "blamed": [str], "reason": str, "report": str,
            "done_s": float | None,
        },
        "workloads": {"workloads": [{
            "name": str, "tier": Literal[TIERS], "source": str, "pipeline": pipeline,
            "output_shape": [int], "flops": int, "bytes_float32": int,
        }]},
    }  # fmt: skip


def _lines() -> list[dict[str, Any]]:
    """The lines of a journal, as docs/evidence.md has them."""
    facts, texts = Mapping[str, Any], Mapping[str, str]
    return [
        _line(
            "run",
            {"run": str, "state": Literal["begun", "finished"]},
            {"plan": str, "clean": bool, "machine": str, "commit": str, "environment": str,
             "commit_time_s": float, "strangers": [str], "elapsed_s": float, "measured_s": float,
             "unit": str, "worker": str},
        ),
        _line(
            "process",
            {"run": str, "process": str},
            {"launch": str, "versions": texts, "origin": facts, "machine": facts, "before": facts,
             "after": facts},
        ),
        _line(
            "cell",
            {"run": str, "process": str, "round": int, "benchmark": str, "params": [str],
             "status": Literal["started", "ok", "skipped", "failed"]},
            {"reason": str, "remedy": str, "error": str, "samples_s": [float], "number": int,
             "device_samples_s": ([float], None), "method": str, "algorithm": str, "dtype": str,
             "flops": int, "bytes": int},
        ),
    ]  # fmt: skip


def _line(kind: str, always: dict[str, Shape], also: dict[str, Shape]) -> dict[str, Any]:
    head: dict[str, Shape] = {"schema": Literal[2], "kind": Literal[kind], "time_s": float}
    line = described(head | always)
    line["properties"] |= described(also)["properties"]
    return line


def _workloads_file() -> dict[str, Any]:
    from convbench.stimulus.workloads import NAME, TIERS, Workload

    row = _given(Workload)
    row["properties"]["name"]["pattern"] = f"^{NAME.pattern}$"
    row["properties"]["source"]["minLength"] = 1
    row["properties"]["tier"] = {"enum": [*TIERS]}
    rows = {"type": "array", "minItems": 1, "items": row}
    return {
        "type": "object",
        "properties": {"workload": rows},
        "required": ["workload"],
        "additionalProperties": False,
    }


def _given(kind: Any) -> dict[str, Any]:
    """What a class is made from that somebody writes down: nothing but its fields, some left out.

    That its numbers can be computed with is not part of it: `convbench workloads` says that.
    """
    hints = get_type_hints(kind)
    return {
        "type": "object",
        "properties": {field.name: _value(hints[field.name]) for field in fields(kind)},
        "required": [field.name for field in fields(kind) if field.default is MISSING],
        "additionalProperties": False,
    }


def _value(hint: Any) -> dict[str, Any]:
    if is_dataclass(hint):
        return _given(hint)
    of = [one for one in get_args(hint) if one is not NoneType]
    if get_origin(hint) in {Union, UnionType}:
        return _value(of[0]) if len(of) == 1 else {"anyOf": [*map(_value, of)]}
    if get_origin(hint) is tuple:
        size = {"minItems": len(of), "maxItems": len(of)}
        several = {"type": "array", "items": {"type": "integer", "minimum": 0}, **size}
        # One number along the height and the width is enough.
        return {"anyOf": [_value(int), several]} if len(of) == 2 else several
    return described(hint) | ({"minimum": 0} if hint is int else {})
