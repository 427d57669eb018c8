"""Which positions of a large output are checked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convbench.stimulus.spec import PipelineSpec

Positions = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]
"""Indices (n, p, q) into an output, one array each."""

SAMPLE_FLOPS, SAMPLE_ELEMENTS = 500_000_000, 2_000_000
"""An output that costs more operations, or has more elements, is checked at a sample only."""


def sample(
    pipeline: PipelineSpec,
    seed: int,
    flops: float = SAMPLE_FLOPS,
    elements: float = SAMPLE_ELEMENTS,
) -> Positions | None:
    """Choose output positions whose oracle costs about so much; None if that is all of them.

    The corners of the first and the last image are always among them, then positions along the
    edges, and the rest is drawn at random without replacement. A fault that touches a share f of
    the positions is missed with probability (1 - f)**samples, at most.

    Parameters
    ----------
    flops, elements : float
        What the oracle may spend, and how large its output may be.
    """
    n, p, q, k = pipeline.output_shape
    whole = n * p * q
    if pipeline.flops <= flops and whole * k <= elements:
        return None
    number = max(int(min(flops / pipeline.window_flops, elements / k)), _FEWEST_SAMPLES)
    if number >= whole // 2:
        return None
    random = np.random.RandomState([seed, 3])
    corners = np.ix_([0, n - 1], [0, p - 1], [0, q - 1])
    image, row, column = (random.randint(0, size, number // 8) for size in (n, p, q))
    edges = (image, 0, column), (image, p - 1, column), (image, row, 0), (image, row, q - 1)
    chosen = [np.ravel_multi_index(positions, (n, p, q)).ravel() for positions in (corners, *edges)]
    chosen.append(random.randint(0, whole, number))
    first, second, third = np.unravel_index(np.unique(np.concatenate(chosen)), (n, p, q))
    return first, second, third


_FEWEST_SAMPLES = 256
