"""Windows copied into a matrix, a block of output rows at a time, and multiplied by the filters.

K. Chellapilla, S. Puri, P. Simard, "High Performance Convolutional Neural Networks for Document
Processing", 2006.
"""

from __future__ import annotations

import numpy as np

from convbench.backends import array_kernels
from convbench.backends.base import Run, Weights
from convbench.stimulus.spec import PipelineSpec

_BLOCK_BYTES = 1 << 20
"""About what one core's second-level cache holds."""


def plan(pipeline: PipelineSpec, weights: Weights) -> Run:
    """Plan a pipeline; see :mod:`convbench.backends.array_kernels`."""
    return array_kernels.build(np, pipeline, weights, _BLOCK_BYTES)
