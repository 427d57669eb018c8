"""The process of a backend that is audited, and the one without a backend beside it."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np

from convbench.auditing.zoo import plant
from convbench.backends import open_backend
from convbench.backends.attest import attest
from convbench.backends.base import Backend
from convbench.errors import Unsupported
from convbench.machine.child import Questions
from convbench.machine.failures import explain
from convbench.measuring.timing import measure
from convbench.stimulus.arrays import Weights
from convbench.stimulus.inputs import Inputs
from convbench.stimulus.spec import PipelineSpec
from convbench.stimulus.targets import Target


def serve(target: str, adversary: str, budget_s: float, pipe: Questions) -> None:
    """Open a backend, then make one claim after the other and stand by each.

    A question is a pipeline as a table and its inputs. Its answer is what was built, or why nothing
    was; then the judge says go, the claim is the answer, and the judge's orders follow.
    """
    try:
        parsed = Target.parse(target)
        backend = plant(adversary, parsed) if adversary else open_backend(parsed)
        pipe.send({"versions": backend.versions()})
    except Exception as error:  # whatever a library raises is the answer
        pipe.send(explain(error))
        return
    while (question := pipe.recv()) is not None:
        try:
            table, inputs = question
            _stand_by(backend, table, inputs, budget_s, pipe)
        except Exception as error:  # likewise, to whatever was asked last
            pipe.send(explain(error))


def _stand_by(
    backend: Backend, table: dict[str, Any], inputs: Inputs, budget_s: float, pipe: Questions
) -> None:
    pipeline, weights = PipelineSpec.from_dict(table), inputs.weights
    try:
        meter = backend.memory()
    except (OSError, Unsupported):
        meter = None
    placed = Weights(weights.dtype, weights.filters, weights.bias)
    run = backend.build(pipeline, placed)
    x = backend.to_device(inputs.x)
    run(x)  # which compiles
    backend.synchronize()
    pipe.send(
        {
            "algorithm": run.algorithm,
            "accumulation": run.accumulation,
            "scheme": run.scheme,
            "peak_bytes": None if meter is None else meter(),
        }
    )
    if pipe.recv() != "go":
        return
    timing = measure(run, x, backend.synchronize, budget_s=budget_s)
    pipe.send(
        {
            "hot_s": statistics.median(timing.samples_s),
            "mean_s": statistics.fmean(timing.samples_s),
            "calls": timing.warmup_calls + len(timing.samples_s) * timing.number,
            "spent_s": timing.spent_s,
        }
    )
    attest(pipe, backend, run)


def echo(pipe: Questions) -> None:
    """Send back what a backend would, and compute nothing: what the bytes cost."""
    while (order := pipe.recv()) is not None:
        pipe.send({"ys": [np.resize(x, (1, 1, 1, order["size"])) for x in order["xs"]]})
