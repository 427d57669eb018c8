"""Our own CUDA kernel: a whole pipeline in one launch; see ``pipeline.cu``.

What is here imports no array library: how a pipeline is put into numbers for the kernel, and how
many threads it takes. The tests use the same to run the kernel on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from convbench.backends.base import Run
from convbench.stimulus.arrays import Array, Weights
from convbench.stimulus.formats import format_of
from convbench.stimulus.spec import PipelineSpec, Shape

SOURCE = Path(__file__).with_name("pipeline.cu")

BLOCK = 128
"""Threads of a block; each computes one output of a row."""

_MOST_ROWS = 65535
"""What CUDA allows of blocks along y; each then takes several rows."""

_POOLS = {"max": 1, "avg": 2}


def spec_of(pipeline: PipelineSpec) -> Array:
    """Put a pipeline into the numbers of the kernel's ``struct Spec``, in their order."""
    n, h, w, c = pipeline.input_shape
    _, p, q, k = pipeline.conv_shape
    _, high, wide, _ = pipeline.output_shape
    numbers = [n, h, w, c, p, q, k, high, wide]
    if (conv := pipeline.conv) is not None:
        rows, columns = pipeline.conv_windows
        numbers += [conv.r, conv.s, *conv.stride, *conv.dilation, rows.before, columns.before]
        numbers += [c // conv.groups, k // conv.groups]
    else:
        numbers += [0] * 10
    numbers.append(pipeline.bias)
    if (pool := pipeline.pool) is not None:
        numbers += [_POOLS[pool.op], *pool.window, *pool.stride, *pool.dilation]
        numbers += [window.before for window in pipeline.pool_windows]
        for window in pipeline.pool_windows:
            padded = pool.count_include_pad
            numbers.append(-window.before if padded else 0)
            numbers.append(window.size + (window.counted_after if padded else 0))
        numbers.append(pool.divisor_override or 0)
    else:
        numbers += [0] * 14
    return np.array(numbers, "int32")


def grid_of(pipeline: PipelineSpec) -> tuple[int, int]:
    """How many blocks along x and y compute a pipeline; it must have an output."""
    n, high, wide, k = pipeline.output_shape
    return -(-wide * k // BLOCK), min(n * high, _MOST_ROWS)


def name_of(pipeline: PipelineSpec) -> str:
    """What the kernel computes, in words."""
    stages = ["conv"] * (pipeline.conv is not None) + ["bias"] * pipeline.bias
    if pipeline.pool is not None:
        stages.append(f"{pipeline.pool.op} pool")
    return f"direct {' + '.join(stages)}"


class Kernels:
    """The kernel, compiled when it is first used."""

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._module = cupy.RawModule(code=SOURCE.read_text(encoding="utf-8"))

    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        """Plan a pipeline as a single launch, with weights on the card."""
        launch = self._launcher(pipeline, weights)
        empty, shape = self._cupy.empty, pipeline.output_shape
        storage = format_of(weights.dtype).storage

        def run(x: Any) -> Any:
            y = empty(shape, storage)
            launch(x, y)
            return y

        return Run(run, name_of(pipeline))

    def adder(self, shape: Shape, weights: Weights) -> Callable[[Any], None]:
        """What adds a bias to an array of a shape, in place: each thread reads what it writes."""
        launch = self._launcher(PipelineSpec(*shape, bias=True), weights)
        return lambda y: launch(y, y)

    def _launcher(self, pipeline: PipelineSpec, weights: Weights) -> Callable[[Any, Any], None]:
        kernel = self._module.get_function(f"pipeline_{format_of(weights.dtype).storage}")
        spec = self._cupy.asarray(spec_of(pipeline))
        grid, block = grid_of(pipeline), (BLOCK,)

        def launch(x: Any, y: Any) -> None:
            # What is absent is not read, whatever the pointer is.
            filters = y if weights.filters is None else weights.filters
            bias = y if weights.bias is None else weights.bias
            kernel(grid, block, (x, filters, bias, y, spec))

        return launch
