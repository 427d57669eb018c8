"""Builds, checks and measures a part of a gate: what a worker does for one, behind its guard.

Both sides are built here, as `convbench gate` builds them, and a judge is beside what is measured.
Nothing is decided: :mod:`convbench.fleet.gates` does that where the gate was asked for.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import convbench
from convbench.machine.facts import load_with_one_thread, moment

if TYPE_CHECKING:
    from convbench.gate.verdicts import Gate


def part(asked: dict[str, Any], root: Path, _own: Path, home: Path) -> dict[str, Any]:
    """Do the step that is asked for: ``build``, ``check``, or, for some seconds, ``measure``."""
    from convbench.fleet.measured import cloned, say
    from convbench.gate import slices
    from convbench.gate.build import Wanted, build
    from convbench.gate.verdicts import Gate
    from convbench.measuring.evidence import known_machine
    from convbench.stimulus.spec import PipelineSpec
    from convbench.stimulus.targets import Target
    from convbench.stimulus.workloads import Workload

    before = moment()
    with cloned(asked, root, home) as clone:
        pass
    sides = tuple(
        build(Wanted(commit, environment), clone / asked["place"], say)
        for commit, environment in zip(asked["commits"], asked["environments"], strict=True)
    )
    told: dict[str, Any] = {"machine": known_machine(), "before": before}
    if asked["step"] == "build":
        told["sides"] = [slices.of_built(side) for side in sides]
    else:
        targets = [(Target.parse(b), Target.parse(h)) for b, h in asked["targets"]]
        workloads = [
            Workload(name, PipelineSpec.from_dict(pipeline), "", "")
            for name, pipeline in asked["workloads"]
        ]
        interface = Path(convbench.__file__).parent / "suites" / "interface.py"
        base, head = sides
        with Gate(base, head, workloads, targets, interface) as gate:
            told |= _checked(gate) if asked["step"] == "check" else _measured(gate, asked)
    return {"code": 0, "told": told | {"after": moment()}}


def _checked(gate: Gate) -> dict[str, Any]:
    from convbench.gate import slices

    for _ in gate.check():
        pass
    return {"checks": [slices.of_check(side, check) for side, check in gate.checks()]}


def _measured(gate: Gate, asked: dict[str, Any]) -> dict[str, Any]:
    from convbench.auditing.judge import Judge
    from convbench.gate import slices
    from convbench.gate.pairs import cores

    cells = [gate.cells[place] for place in asked["cells"]]  # in the order of who decides on them
    used = min(asked["cores"] or len(cores()), len(cores()))
    with contextlib.ExitStack() as stack:
        judges = [stack.enter_context(Judge()) for _ in range(used)]
        for judge in judges:
            judge.pipelines = {cell.workload: cell.pipeline for cell in cells}
        return slices.measure(gate.templates, cells, asked["open"], asked["slice_s"], judges)


if __name__ == "__main__":
    load_with_one_thread()
    from convbench.fleet.measured import main

    sys.exit(main(part))
