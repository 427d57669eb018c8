"""One call for people: NumPy arrays in, NumPy arrays out, on any backend."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from convbench.backends import open_backend
from convbench.backends.base import Array, Backend, Weights
from convbench.errors import ArrayError
from convbench.inputs import Inputs
from convbench.numerics import format_of
from convbench.spec import PipelineSpec
from convbench.targets import Target


def run(
    pipeline: PipelineSpec,
    x: Array,
    filters: Array | None = None,
    bias: Array | None = None,
    backend: str = "numpy",
    device: str = "cpu",
) -> Array:
    """Compute a pipeline once.

    Parameters
    ----------
    pipeline : PipelineSpec
    x : array of shape (N, H, W, C)
        Its dtype, float32 or float64, is that of the computation and of the result.
    filters : array of shape (R, S, C // groups, K), optional
    bias : array of shape (K,), optional
        Both of the dtype of `x`, and given exactly where the pipeline has the stage.
    backend : str
        A registered name, with a variant after a dot if one is wanted: ``"tensorflow.xla"``.
    device : str
        ``"cpu"``, ``"gpu:0"``, ...

    Returns
    -------
    array of shape (N, P, Q, K)

    Raises
    ------
    ArrayError
        If an array is missing, superfluous, or of the wrong shape or dtype.
    TargetError, BackendUnavailable, Unsupported
        If that backend cannot do it here; the message says why.

    Examples
    --------
    >>> import numpy as np
    >>> from convbench import PipelineSpec, PoolSpec
    >>> x = np.arange(16.0).reshape(1, 4, 4, 1)
    >>> run(PipelineSpec(1, 4, 4, 1, pool=PoolSpec("max", 2)), x)[0, :, :, 0]
    array([[ 5.,  7.],
           [13., 15.]])
    """
    x = np.asarray(x)
    format_of(x.dtype.name)
    _check("x", x, pipeline.input_shape, x.dtype)
    weights = Weights(
        x.dtype.name,
        _check("filters", filters, pipeline.filter_shape, x.dtype),
        _check("bias", bias, pipeline.bias_shape, x.dtype),
    )
    opened = open_backend(Target.parse(f"{backend}@{device}"))
    return compute(opened, pipeline, Inputs(x, weights)).output


@dataclass(frozen=True, slots=True)
class Computed:
    """The output of a pipeline as (N, P, Q, K), and the algorithm that computed it."""

    output: Array
    algorithm: str


def compute(backend: Backend, pipeline: PipelineSpec, inputs: Inputs) -> Computed:
    """Build, copy there, run, and copy back."""
    run = backend.build(pipeline, inputs.weights)
    output = run(backend.to_device(inputs.x))
    backend.synchronize()
    return Computed(backend.to_numpy(output), run.algorithm)


def _check(
    what: str, array: Array | None, shape: tuple[int, ...] | None, dtype: np.dtype[np.generic]
) -> Array | None:
    if (array is None) != (shape is None):
        got, expected = ("missing", f"an array of shape {shape}") if shape else ("given", "none")
        raise ArrayError.of(
            "run", what, got, expected, "Give exactly the weights that the pipeline has."
        )
    if array is None:
        return None
    array = np.asarray(array)
    if array.shape != shape:
        raise ArrayError.of(
            "run", f"the shape of {what}", array.shape, str(shape),
            "Arrays are NHWC and filters (R, S, C // groups, K).",
        )  # fmt: skip
    if array.dtype != dtype:
        raise ArrayError.of(
            "run", f"the dtype of {what}", array.dtype.name, f"{dtype.name}, as x has",
            f"Convert it with .astype({dtype.name!r}).",
        )  # fmt: skip
    return array
