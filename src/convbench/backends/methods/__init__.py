"""How NumPy computes a pipeline: a module for each algorithm, and which is taken when.

Every module has ``plan(pipeline, weights) -> Run``. All that does not depend on the input is done
there: weights are packed, shapes worked out, workspaces allocated. Weights are float32 or float64,
in native byte order and C order. What a method cannot compute is declared by a hole.

A method is added by a module and a line in :data:`METHODS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from convbench.backends.base import Hole, Run, Weights
from convbench.backends.methods import im2col
from convbench.stimulus.spec import PipelineSpec


@dataclass(frozen=True, slots=True)
class Method:
    """A way to compute.

    Attributes
    ----------
    what : str
        In a few words, for the list of variants.
    plan : callable
        ``(pipeline, weights) -> Run``.
    holes : tuple of Hole
        What it cannot compute or computes otherwise; the variant is filled in here.
    """

    what: str
    plan: Callable[[PipelineSpec, Weights], Run]
    holes: tuple[Hole, ...] = ()


METHODS: dict[str, Method] = {
    "im2col": Method("windows copied into a matrix, and one product", im2col.plan),
}
"""By the name of the variant that forces it."""


def choose(pipeline: PipelineSpec) -> str:  # noqa: ARG001
    """Which method is the fastest for a pipeline, as far as is known."""
    return "im2col"
