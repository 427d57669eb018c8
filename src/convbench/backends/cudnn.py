"""cuDNN, through NVIDIA's cudnn-frontend: a convolution and its bias as one graph.

Which engines a graph has is cuDNN's answer, asked in the order of its heuristics. Left out are
those that are not direct methods, or round more than the format does: Winograd, FFT, sums in
16 bits, factors that are narrowed. What is left that uses tensor cores is TF32 for float32 arrays.

Run on an H200 with cuDNN 9.19 and cudnn-frontend 1.28 and 1.32 (reports/gpu.md, reports/cudnn.md).
"""

from __future__ import annotations

import functools
import importlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from convbench.backends.base import Run
from convbench.errors import BackendUnavailable, Unavailability, Unsupported
from convbench.stimulus.arrays import DeviceArray, Weights
from convbench.stimulus.formats import format_of
from convbench.stimulus.spec import PipelineSpec, present

INSTALL = 'pip install "convbench[cupy-gpu]"'

WORKSPACE_BYTES = 1 << 30
"""No engine may ask for more."""

_WORTH_TRYING_FLOPS = 1e9
"""Above this the first `_TRIED` engines are candidates; below, the first one is."""

_TRIED = 4

_DATA_TYPES = {"float64": "DOUBLE", "float32": "FLOAT", "float16": "HALF", "bfloat16": "BFLOAT16"}

# Other error laws than that of a direct method, or other results from one call to the next.
_BARRED = (
    "WINOGRAD",
    "WINOGRAD_TILE_4x4",
    "WINOGRAD_TILE_6x6",
    "WINOGRAD_TILE_13x13",
    "FFT",
    "REDUCED_PRECISION_REDUCTION",
    "DOWN_CONVERT_INPUTS",
    "NONDETERMINISTIC",
)

# Engines that are right on numbers and not on the rest, as studies/cudnn_engines.py has seen them
# (reports/cudnn.md): groups as a dense convolution with zeros, where 0 * inf is nan in the other
# groups, and denormal numbers taken for zeros. In float16 those with a knob k6 give 0 where -inf is
# right.
_GROUPS_AS_DENSE = {(engine, dtype) for engine in ("eng10", "eng22", "eng67") for dtype in
                    ("tf32", "float16", "bfloat16")}  # fmt: skip
_FLUSHING = {(engine, "bfloat16") for engine in ("eng45", "eng46", "eng52")}

# What the tensors of a graph are called.
_X, _FILTERS, _BIAS, _Y = 1, 2, 3, 4


@dataclass(frozen=True, slots=True)
class Plan:
    """One engine of cuDNN's for one graph, compiled.

    Attributes
    ----------
    index : int
        Its place among the engines of the graph.
    name : str
        As cuDNN calls it: the engine's number and its knobs.
    """

    graph: Any
    index: int
    name: str
    workspace_bytes: int


def plans(frontend: Any, pipeline: PipelineSpec, dtype: str, **where: Any) -> Iterator[Plan]:
    """Compile the engines for a convolution (and a bias), the most promising first.

    Parameters
    ----------
    frontend : module
        ``cudnn``.
    pipeline : PipelineSpec
        Without a pool.
    where
        What to plan for: ``handle``, or ``device_property`` where there is no card.

    Raises
    ------
    Unsupported
        If cuDNN knows no engine for the graph.
    """
    unsupported = frontend.cudnnGraphNotSupportedError
    note = frontend.numerical_note
    barred = [*_BARRED, *(["TENSOR_CORE"] if dtype == "float32" else [])]
    try:
        graph = _graph(frontend, pipeline, dtype, where)
        graph.validate()
        graph.build_operation_graph()
        graph.create_execution_plans([frontend.heur_mode.A, frontend.heur_mode.FALLBACK])
    except unsupported as error:
        raise Unsupported(f"cuDNN has no engine for it: {error}") from error
    # These mark the engines that there are, so they come after.
    graph.deselect_numeric_notes([getattr(note, name) for name in barred])
    graph.deselect_workspace_greater_than(WORKSPACE_BYTES)
    for index in range(graph.get_execution_plan_count()):
        try:
            graph.build_plan_at_index(index)
        except (unsupported, ValueError):  # a barred one is refused by either
            continue
        name = graph.get_plan_name_at_index(index)
        yield Plan(graph, index, name, graph.get_workspace_size_plan_at_index(index))


def _graph(frontend: Any, pipeline: PipelineSpec, dtype: str, where: Mapping[str, Any]) -> Any:
    """Describe the convolution and the bias: in NCHW, with the strides of NHWC."""
    conv = present(pipeline.conv)
    storage = getattr(frontend.data_type, _DATA_TYPES[format_of(dtype).storage])
    wide = getattr(frontend.data_type, _DATA_TYPES[format_of(dtype).accumulation])
    graph = frontend.pygraph(
        io_data_type=storage, intermediate_data_type=wide, compute_data_type=wide, **where
    )

    def dense(n: int, h: int, w: int, c: int) -> dict[str, Any]:
        return {"dim": [n, c, h, w], "stride": [h * w * c, 1, w * c, c], "data_type": storage}

    rows, columns = pipeline.conv_windows
    x = graph.tensor(name="x", uid=_X, **dense(*pipeline.input_shape))
    depth = pipeline.c // conv.groups  # fewer than the image's: that is what makes groups
    filters = graph.tensor(name="filters", uid=_FILTERS, **dense(conv.k, conv.r, conv.s, depth))
    y = graph.conv_fprop(
        image=x,
        weight=filters,
        pre_padding=[rows.before, columns.before],
        post_padding=[rows.after, columns.after],
        stride=list(conv.stride),
        dilation=list(conv.dilation),
    )
    if pipeline.bias:
        bias = graph.tensor(name="bias", uid=_BIAS, **dense(1, 1, 1, conv.k))
        y = graph.bias(name="add", input=y, bias=bias)
    out = dense(*pipeline.output_shape)
    y.set_output(True).set_data_type(storage)
    y.set_dim(out["dim"]).set_stride(out["stride"]).set_uid(_Y)
    return graph


class Cudnn:
    """The library, with a handle for one device.

    Parameters
    ----------
    cupy : module
    device : int
        The current device of CuPy.

    Raises
    ------
    BackendUnavailable
        If cudnn-frontend is not installed, or if cuDNN does not start.
    """

    def __init__(self, cupy: Any, device: int) -> None:
        self._cupy = cupy
        try:
            self._frontend: Any = importlib.import_module("cudnn")
        except Exception as error:  # an import runs anything, and may raise anything
            if not isinstance(error, ModuleNotFoundError) or error.name != "cudnn":
                raise _broken("`import cudnn` raised", error) from error
            raise BackendUnavailable(
                Unavailability.NOT_INSTALLED,
                "there is no module named cudnn, which is NVIDIA's cudnn-frontend",
                f"Install it: {INSTALL}",
            ) from error
        try:
            self._handle = _handle(self._frontend, device)
        except Exception as error:  # it is C++ that raises here
            raise _broken("cuDNN gives no handle:", error) from error

    def versions(self) -> dict[str, str]:
        """Of cuDNN and of the frontend."""
        number = self._frontend.backend_version()  # 92800 is 9.28.0
        return {
            "cudnn": f"{number // 10000}.{number // 100 % 100}.{number % 100}",
            "cudnn_frontend": str(self._frontend.__version__),
        }

    def candidates(
        self, pipeline: PipelineSpec, weights: Weights, add_bias: Callable[[DeviceArray], None]
    ) -> list[Run]:
        """Plan a convolution (and a bias) in each of the ways that may be the fastest.

        Parameters
        ----------
        pipeline : PipelineSpec
            Without a pool, with a batch of at least 1.
        weights : Weights
            Holding arrays of the card, in the layouts of the contract.
        add_bias : callable
            Adds the bias to an output, in place.

        Raises
        ------
        Unsupported
            If cuDNN knows no engine that computes it directly, in the precision that was asked for.
        """
        runs = self._runs(pipeline, weights)
        if pipeline.bias and weights.dtype == "float32":
            # For IEEE float32 cuDNN has faster engines that add no bias.
            bare = replace(pipeline, bias=False), replace(weights, bias=None)
            runs += [_with_bias(run, add_bias) for run in self._runs(*bare)]
        if not runs:
            raise Unsupported(
                f"cuDNN has no engine for {pipeline} in {weights.dtype} that is a direct method"
                f" and takes a workspace of at most {WORKSPACE_BYTES >> 20} MiB"
            )
        return runs

    def _runs(self, pipeline: PipelineSpec, weights: Weights) -> list[Run]:
        found = plans(self._frontend, pipeline, weights.dtype, handle=self._handle)
        # Each that is looked at is compiled: in a small pipeline that is not made up for.
        most = _TRIED if pipeline.flops > _WORTH_TRYING_FLOPS else 1
        true = (plan for plan in found if _is_true(plan, pipeline, weights.dtype))
        return [
            Run(self._runner(plan, pipeline, weights), f"cuDNN {plan.name}")
            for plan in itertools.islice(true, most)
        ]

    def _runner(
        self, plan: Plan, pipeline: PipelineSpec, weights: Weights
    ) -> Callable[[DeviceArray], DeviceArray]:
        cupy, frontend, handle = self._cupy, self._frontend, self._handle
        storage, shape = format_of(weights.dtype).storage, pipeline.output_shape
        filters = cupy.ascontiguousarray(present(weights.filters).transpose(3, 0, 1, 2))
        workspace = cupy.empty(max(1, plan.workspace_bytes), "uint8")
        kept = {_FILTERS: filters.data.ptr}
        if weights.bias is not None:
            kept[_BIAS] = weights.bias.data.ptr
        held = (filters, weights.bias, workspace)  # pointers alone would not keep them

        def run(x: DeviceArray) -> DeviceArray:
            y = cupy.empty(shape, storage)
            frontend.set_stream(handle=handle, stream=cupy.cuda.get_current_stream().ptr)
            pointers = {**kept, _X: x.data.ptr, _Y: y.data.ptr}
            plan.graph.execute_plan_at_index(pointers, held[2].data.ptr, plan.index, handle=handle)
            return y

        return run


@functools.cache
def _handle(frontend: Any, device: int) -> Any:  # noqa: ARG001  # it is for the current one
    """One for each device of this process."""
    return frontend.create_handle()


def _is_true(plan: Plan, pipeline: PipelineSpec, dtype: str) -> bool:
    """Whether an engine obeys the definition on inf, nan and denormal numbers, too."""
    engine, *knobs = plan.name.split("_")
    if dtype == "float16" and any(knob.startswith("k6=") for knob in knobs):
        return False
    grouped = pipeline.conv is not None and pipeline.conv.groups > 1
    return (engine, dtype) not in _FLUSHING | (_GROUPS_AS_DENSE if grouped else set())


def _with_bias(conv: Run, add_bias: Callable[[DeviceArray], None]) -> Run:
    """Add the bias in a pass of its own. In float32 it rounds no more: the sum is one already."""

    def run(x: DeviceArray) -> DeviceArray:
        y = conv(x)
        add_bias(y)
        return y

    return Run(run, f"{conv.algorithm} + bias")


def _broken(what: str, error: Exception) -> BackendUnavailable:
    return BackendUnavailable(
        Unavailability.IMPORT_FAILED,
        f"{what} {type(error).__name__}: {error}",
        f"cuDNN or CUDA's libraries are missing or do not fit the driver; reinstall: {INSTALL}",
    )
