"""How NumPy computes a pipeline: a module for each algorithm, and which is taken when.

Every module has ``plan(pipeline, weights) -> Run``. All that does not depend on the input is done
there: weights are packed, shapes worked out, workspaces allocated. Weights are float32 or float64,
in native byte order and C order. The filters are somebody else's and may change after that, so that
a method keeps none of them but what it has packed. What it cannot compute is declared by a hole.

All but ``winograd`` are direct: they add the same products as the definition, in some order, and
obey its bound. That one has a bound of its own (:mod:`convbench.correctness.schemes`), and is only
taken where it is asked for.

A method is added by a module and a line in :data:`METHODS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from convbench.backends.base import Hole, Run, Weights
from convbench.backends.methods import (
    cores,
    gemm,
    im2col,
    kn2row,
    strips,
    taprows,
    taps,
    winograd,
    without_conv,
)
from convbench.stimulus.spec import PipelineSpec, present


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
    "gemm": Method("the input as a matrix, for 1x1 filters", gemm.plan, (gemm.HOLE,)),
    "im2col": Method("windows copied into a matrix, and one product", im2col.plan),
    "kn2row": Method("one product for each row of taps", kn2row.plan),
    "strips": Method("windows laid out along the width only", strips.plan, (strips.HOLE,)),
    "taprows": Method("the matrix of windows turned, for few channels", taprows.plan),
    "taps": Method("tap by tap, for depthwise convolutions", taps.plan, (taps.HOLE,)),
    "winograd": Method(
        "F(4x4,3x3) and F(2x2,3x3), which save multiplications and lose digits",
        winograd.plan,
        winograd.HOLES,
    ),
}
"""By the name of the variant that forces it."""


_FEW_CHANNELS, _FEW_TAPS = 4, 32
_FEW_GROUPS = 8
"""With more, the products of a group are too few for calls of their own."""


def plan(pipeline: PipelineSpec, weights: Weights, method: str = "") -> Run:
    """Plan a pipeline by a method; without one, by that which :func:`choose` names.

    Where there is no convolution, there is nothing to choose.
    """
    if pipeline.conv is None:
        return without_conv.plan(pipeline, weights)
    return METHODS[method or choose(pipeline)].plan(pipeline, weights)


def choose(pipeline: PipelineSpec) -> str:
    """Which method is the fastest for a convolution; ``studies/methods.py`` asks clocks.

    What is a matrix already is multiplied as it is, and what has none is added tap by tap. With few
    input channels, the runs of im2col are too short to be copied. Otherwise OpenBLAS decides: where
    it has kernels for small products, the windows are laid out along the width alone, and
    multiplied at once if they are short enough, or by the row; elsewhere one large product is the
    best there is.
    """
    conv = present(pipeline.conv)
    if gemm.suits(pipeline):
        return "gemm"
    if pipeline.depthwise:
        return "taps"
    if pipeline.c <= _FEW_CHANNELS and pipeline.reduction <= _FEW_TAPS and conv.groups == 1:
        return "taprows"
    if not cores.small_products() or conv.groups > _FEW_GROUPS:
        return "im2col"
    if conv.r > 1 and strips.suits(pipeline):
        return "strips"
    return "kn2row" if kn2row.suits(pipeline) else "im2col"
