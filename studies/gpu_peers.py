# ruff: noqa: T201, E402, S311  (a script talks to whoever started it, and finds its package)
"""Time the same layers with convbench, PyTorch and JAX on the same card, in turns.

    .venv/bin/python studies/gpu_peers.py [--output FOLDER] [--dtype NAME]... [--list standard]
    python studies/gpu_peers.py --device cpu --list smoke --batch 1   # a dry run of every code path

It needs a clone of this repository, NumPy with ml_dtypes, CuPy for a card, and of PyTorch and JAX
what is to be compared; no installation of convbench. Every row is computed by all of them on the
same N(0,1) numbers, NHWC (channels_last in PyTorch). They take turns, in an order drawn anew for
each turn: a turn is some calls, each waited for, and what counts is the median over the turns.
Before that each result is held against ours, so that nobody is timed for computing something else.
Where the time runs out, the rows that are left are named.

`make bench-gpu` runs it after the tests; reports/gpu.md has what it said of an H200.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import math
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
if not importlib.util.find_spec("convbench"):
    sys.path.insert(0, str(ROOT / "src"))

import ml_dtypes  # noqa: F401  # teaches NumPy the name "bfloat16"
import numpy as np

from convbench.backends.base import Backend
from convbench.backends.cupy import CupyBackend
from convbench.backends.numpy import NumpyBackend
from convbench.errors import BackendUnavailable, Unsupported
from convbench.machine import facts, nvidia
from convbench.machine.failures import explain
from convbench.stimulus.arrays import Weights
from convbench.stimulus.formats import format_of
from convbench.stimulus.spec import PipelineSpec
from convbench.stimulus.workloads import load, select

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX would take the whole card

DTYPES = ("bfloat16", "float16", "tf32", "float32")
OURS = "convbench"
# What results may differ by, in units of their root mean square: far above rounding, far below
# another convolution.
AGREES = {"float32": 1e-3, "tf32": 2e-2, "float16": 5e-2, "bfloat16": 2e-1}

Call = Callable[[], Any]


@dataclass
class Row:
    """One workload in one format: seconds a call by contender, or why there are none."""

    workload: str
    dtype: str
    pipeline: str
    has_pool: bool
    flops: int
    algorithm: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)


# -- The contenders: each makes a call that computes and waits, and another for the output. --------


class Ours:
    """Our own backend, as it chooses by itself."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.names = (OURS,)
        self.algorithm = ""

    def make(self, _: str, pipeline: PipelineSpec, dtype: str, arrays: Arrays) -> tuple[Call, Call]:
        """Plan it."""
        self.algorithm = ""
        storage = format_of(dtype).storage
        x, filters, bias = (None if a is None else a.astype(storage) for a in arrays)
        run = self.backend.build(pipeline, Weights(dtype, filters, bias))
        self.algorithm = run.algorithm
        on_device, wait = self.backend.to_device(x), self.backend.synchronize

        def call() -> Any:
            y = run(on_device)
            wait()
            return y

        return call, lambda: self.backend.to_numpy(call()).astype("float32")

    def forget(self) -> None:
        """Give the memory back."""
        if isinstance(self.backend, CupyBackend):
            self.backend.library().get_default_memory_pool().free_all_blocks()


class Torch:
    """PyTorch with cuDNN, eager and compiled."""

    names = ("torch", "torch.compile")

    def __init__(self, device: str) -> None:
        self.torch: Any = importlib.import_module("torch")
        self.device = "cuda" if device == "gpu" else "cpu"
        if device == "gpu" and not self.torch.cuda.is_available():
            raise RuntimeError("this PyTorch sees no GPU")
        self.torch.backends.cudnn.benchmark = True

    def make(
        self, name: str, pipeline: PipelineSpec, dtype: str, arrays: Arrays
    ) -> tuple[Call, Call]:
        """Put the pipeline into PyTorch's operations."""
        torch = self.torch
        torch.backends.cudnn.allow_tf32 = dtype == "tf32"
        kind = getattr(torch, format_of(dtype).storage)
        x, filters, bias = arrays

        def placed(array: Any, *axes: int) -> Any:
            tensor = torch.from_numpy(array).permute(*axes).to(self.device, kind)
            return tensor.contiguous(memory_format=torch.channels_last)

        image = placed(x, 0, 3, 1, 2)
        weight = None if filters is None else placed(filters, 3, 2, 0, 1)
        offset = None if bias is None else torch.from_numpy(bias).to(self.device, kind)
        function = torch_function(torch, pipeline, weight, offset)
        if name == "torch.compile":
            torch.compiler.reset()  # or the ninth shape is silently not compiled
            function = torch.compile(function, dynamic=False, fullgraph=True)
        wait = torch.cuda.synchronize if self.device == "cuda" else lambda: None

        def call() -> Any:
            with torch.inference_mode():
                y = function(image)
            wait()
            return y

        return call, lambda: call().permute(0, 2, 3, 1).float().cpu().numpy()

    def forget(self) -> None:
        """Give the memory back."""
        if self.device == "cuda":
            self.torch.cuda.empty_cache()


def torch_function(torch: Any, pipeline: PipelineSpec, weight: Any, bias: Any) -> Call:
    """The pipeline in PyTorch's operations, padded by themselves where they can."""
    functional, conv, pool = torch.nn.functional, pipeline.conv, pipeline.pool

    def split(windows: Any) -> tuple[tuple[int, int], tuple[int, int, int, int] | None]:
        rows, columns = windows
        # It pads both sides alike; where that makes no other window, the last reads less of it.
        if all((w.size + 2 * w.before - w.extent) // w.stride + 1 == w.out for w in windows):
            return (rows.before, columns.before), None
        return (0, 0), (columns.before, columns.after, rows.before, rows.after)

    conv_pad, conv_explicit = split(pipeline.conv_windows) if conv else ((0, 0), None)
    pool_pad, pool_explicit = split(pipeline.pool_windows) if pool else ((0, 0), None)
    if pool and pool.op == "avg" and (pool_explicit or pool.dilation != (1, 1)):
        raise Unsupported("PyTorch has no such average pool")

    def compute(x: Any) -> Any:
        if conv is not None:
            if conv_explicit:
                x = functional.pad(x, conv_explicit)
            x = functional.conv2d(
                x, weight, bias, conv.stride, conv_pad, conv.dilation, conv.groups
            )
        elif bias is not None:
            x = x + bias[:, None, None]
        if pool is None:
            return x
        if pool.op == "avg":
            return functional.avg_pool2d(
                x, pool.window, pool.stride, pool_pad, False, pool.count_include_pad,
                pool.divisor_override,
            )  # fmt: skip
        if pool_explicit:
            x = functional.pad(x, pool_explicit, value=-math.inf)
        return functional.max_pool2d(x, pool.window, pool.stride, pool_pad, pool.dilation)

    return compute


class Jax:
    """JAX, compiled by XLA."""

    names = ("jax",)

    def __init__(self, device: str) -> None:
        self.jax: Any = importlib.import_module("jax")
        self.device = self.jax.devices("gpu" if device == "gpu" else "cpu")[0]

    def make(self, _: str, pipeline: PipelineSpec, dtype: str, arrays: Arrays) -> tuple[Call, Call]:
        """Put the pipeline into JAX's operations."""
        storage = format_of(dtype).storage
        x, filters, bias = (
            None if a is None else self.jax.device_put(a.astype(storage), self.device)
            for a in arrays
        )
        function = self.jax.jit(jax_function(self.jax, pipeline, dtype))
        return (
            lambda: function(x, filters, bias).block_until_ready(),
            lambda: np.asarray(function(x, filters, bias)).astype("float32"),
        )

    def forget(self) -> None:
        """Give the memory back."""
        self.jax.clear_caches()


def jax_function(jax: Any, pipeline: PipelineSpec, dtype: str) -> Callable[..., Any]:
    """The pipeline in JAX's operations."""
    lax, conv, pool = jax.lax, pipeline.conv, pipeline.pool
    precision = lax.Precision.HIGHEST if dtype == "float32" else lax.Precision.DEFAULT
    pads = [(w.before, w.after) for w in pipeline.conv_windows] if conv else []

    def compute(x: Any, filters: Any, bias: Any) -> Any:
        if conv is not None:
            x = lax.conv_general_dilated(
                x, filters, conv.stride, pads, rhs_dilation=conv.dilation,
                dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=conv.groups,
                precision=precision,
            )  # fmt: skip
        if bias is not None:
            x = x + bias
        if pool is None:
            return x
        rows, columns = pipeline.pool_windows
        padding = ((0, 0), (rows.before, rows.after), (columns.before, columns.after), (0, 0))
        start, combine = (-np.inf, lax.max) if pool.op == "max" else (0.0, lax.add)
        x = lax.reduce_window(
            x, np.array(start, x.dtype)[()], combine, (1, *pool.window, 1), (1, *pool.stride, 1),
            padding, window_dilation=(1, *pool.dilation, 1),
        )  # fmt: skip
        if pool.op == "max":
            return x
        high, wide = pipeline.pool_divisors
        return x / np.outer(high, wide)[:, :, None].astype(x.dtype)

    return compute


Arrays = tuple[Any, Any, Any]


def arrays_of(pipeline: PipelineSpec) -> Arrays:
    """N(0,1), as float32; large arrays, so not from the generator that is frozen and slow."""
    chance = np.random.default_rng(0)

    def draw(shape: tuple[int, ...] | None) -> Any:
        return None if shape is None else chance.standard_normal(shape, "float32")

    return draw(pipeline.input_shape), draw(pipeline.filter_shape), draw(pipeline.bias_shape)


# -- Measuring -------------------------------------------------------------------------------------


def compete(row: Row, pipeline: PipelineSpec, contenders: list[Any], options: Any) -> None:
    """Fill a row: each contender in turn, round after round."""
    arrays = arrays_of(pipeline)
    calls: dict[str, Call] = {}
    expected = None
    for contender in contenders:
        for name in contender.names:
            try:
                call, output = contender.make(name, pipeline, row.dtype, arrays)
                got = output()
                expected = got if name == OURS else expected
                if (
                    expected is not None
                    and (differs := difference(got, expected)) > AGREES[row.dtype]
                ):
                    row.absent[name] = f"its result differs from ours by {differs:.2g} of the RMS"
                    continue
                calls[name] = call
            except Exception as error:  # whatever a library raises
                known = isinstance(error, Unsupported)
                row.absent[name] = str(error) if known else explain(error).reason
            if name == OURS:
                row.algorithm = contender.algorithm
    numbers = {name: _calibrate(call, options.sample_s) for name, call in calls.items()}
    samples: dict[str, list[float]] = {name: [] for name in calls}
    chance = random.Random(row.workload)
    for _ in range(options.rounds):
        for name in chance.sample(list(calls), len(calls)):
            samples[name].append(_sample_s(calls[name], numbers[name]))
    row.seconds = {name: statistics.median(times) for name, times in samples.items()}
    calls.clear()
    for contender in contenders:
        contender.forget()


def difference(got: Any, expected: Any) -> float:
    """The largest difference, in units of the root mean square."""
    if got.shape != expected.shape:
        return math.inf
    rms = math.sqrt(float(np.mean(np.square(expected, dtype="float64")))) or 1.0
    return float(np.abs(got - expected).max()) / rms


def _sample_s(call: Call, number: int) -> float:
    start = time.perf_counter()
    for _ in range(number):
        call()
    return (time.perf_counter() - start) / number


def _calibrate(call: Call, sample_s: float) -> int:
    _sample_s(call, 2)
    return max(1, math.ceil(sample_s / max(_sample_s(call, 2), 1e-7)))


def ceilings(contenders: list[Any], options: Any) -> dict[str, str]:
    """What the card itself does: products in every format, a copy, and the launch of nothing."""
    found: dict[str, str] = {}
    n, size = (8192, 1 << 30) if options.device == "gpu" else (256, 1 << 22)
    torch = next((c for c in contenders if isinstance(c, Torch)), None)

    def note(name: str, make: Callable[[], tuple[Call, float, str]]) -> None:
        try:
            call, amount, unit = make()
            number = _calibrate(call, options.sample_s)
            best = min(_sample_s(call, number) for _ in range(options.rounds))
            found[name] = f"{amount / best:.4g} {unit}" if amount else f"{best * 1e6:.2f} us"
        except Unsupported as reason:
            found[name] = f"not measured: {reason}"
        except Exception as error:
            found[name] = explain(error).reason

    def product(dtype: str) -> tuple[Call, float, str]:
        if torch is None:
            raise Unsupported("the products of every format are timed through PyTorch")
        torch.torch.backends.cuda.matmul.allow_tf32 = dtype == "tf32"
        kind = getattr(torch.torch, format_of(dtype).storage)
        a, b = (torch.torch.randn(n, n, device=torch.device, dtype=kind) for _ in "ab")
        wait = torch.torch.cuda.synchronize if torch.device == "cuda" else lambda: None
        return lambda: (a @ b, wait()), 2 * n**3 / 1e12, "TFLOP/s"

    backend = contenders[0].backend

    def ours(n: int) -> tuple[Call, float, str]:
        run, x = backend.gemm(n), backend.to_device(np.ones((n, n), "float32"))
        return lambda: (run(x), backend.synchronize()), 2 * n**3 / 1e12, "TFLOP/s"

    def copy() -> tuple[Call, float, str]:
        run, x = backend.copier(size), backend.to_device(np.ones(size // 4, "float32"))
        return lambda: (run(x), backend.synchronize()), 2 * size / 1e9, "GB/s"

    def replay(workload: str | None) -> tuple[Call, float, str]:
        rows = {row.name: row.pipeline for row in load()}
        # The bias of a single number is as near to an empty kernel as a pipeline comes.
        pipeline = rows[workload] if workload else PipelineSpec(1, 1, 1, 1, bias=True)
        x, filters, bias = arrays_of(pipeline)
        run = backend.build(pipeline, Weights("float32", filters, bias))
        if (call := backend.capture(run, backend.to_device(x))) is None:
            raise Unsupported(f"{backend.name} does not record CUDA graphs")
        return lambda: (call(), backend.synchronize()), 0.0, ""

    for dtype in options.dtype:
        note(f"product of {n}, {dtype} (torch)", lambda dtype=dtype: product(dtype))
    note(f"product of {n}, float32 ({backend.name})", lambda: ours(n))
    note(f"copy of {size >> 20} MiB, read + written", copy)
    note("graph replay of (almost) nothing", lambda: replay(None))
    note("graph replay of notebook.conv", lambda: replay("notebook.conv"))
    return found


# -- Telling ---------------------------------------------------------------------------------------


def lines(
    rows: list[Row], names: list[str], said: dict[str, str], left: list[str]
) -> Iterator[str]:
    """The table: our time, and how many times longer each of the others takes."""
    others = [name for name in names if name != OURS]
    width = max((len(row.workload) for row in rows), default=8)
    yield f"{'workload':{width}} {'format':8} {OURS:>10}" + "".join(f"{n:>15}" for n in others)
    for row in rows:
        mine = row.seconds.get(OURS)
        cells = [f"{mine * 1e6:8.1f}us" if mine else f"{'-':>10}"]
        for name in others:
            theirs = row.seconds.get(name)
            cells.append(f"{theirs / mine:14.2f}x" if mine and theirs else f"{'-':>15}")
        yield f"{row.workload:{width}} {row.dtype:8} {''.join(cells)}  {row.algorithm}"
    yield ""
    yield "Geometric means of their time over ours (above 1: we are faster):"
    pooled = [row for row in rows if row.has_pool]
    for what, chosen in (("all rows", rows), ("with a pool", pooled)):
        for dtype in dict.fromkeys(row.dtype for row in chosen):
            means = [f"{n} {mean(chosen, dtype, n)}" for n in others]
            if means:
                yield f"  {what:12} {dtype:9} {'; '.join(means)}"
    reasons = {f"{name}: {why}" for row in rows for name, why in row.absent.items()}
    for text in [*sorted(reasons), *(f"{name}: {why}" for name, why in said.items())]:
        yield f"  {text}"
    if left:
        yield f"  The time ran out before: {', '.join(left)}"


def mean(rows: list[Row], dtype: str, name: str) -> str:
    """The geometric mean over the rows that both have computed, and how many those are."""
    ratios = [
        row.seconds[name] / row.seconds[OURS]
        for row in rows
        if row.dtype == dtype and {name, OURS} <= row.seconds.keys()
    ]
    return f"{statistics.geometric_mean(ratios):.2f}x of {len(ratios)}" if ratios else "-"


def main() -> None:
    """Measure, write what was found into the folder, and print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, help="a folder for peers.json and peers.txt")
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu", help="cpu: a dry run")
    parser.add_argument("--list", choices=("smoke", "standard", "full"), default="standard")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--dtype", choices=DTYPES, action="append")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--sample-s", type=float, default=2e-3)
    parser.add_argument("--budget-s", type=float, default=240.0)
    options = parser.parse_args()
    options.dtype = options.dtype or list(DTYPES)
    begun_s = time.monotonic()
    backend: Backend
    try:
        backend = NumpyBackend("cpu") if options.device == "cpu" else CupyBackend("gpu:0")
    except BackendUnavailable as error:
        sys.exit(f"gpu_peers: nothing was measured. {error}")
    contenders: list[Any] = [Ours(backend)]
    said: dict[str, str] = {}
    for kind in (Torch, Jax):
        try:
            contenders.append(kind(options.device))
        except ImportError as error:
            said[kind.names[0]] = f"not compared, because it is not installed ({error})"
        except Exception as error:
            said[kind.names[0]] = f"not compared: {explain(error).reason}"
    limits = ceilings(contenders, options)
    rows: list[Row] = []
    left: list[str] = []
    for workload in select(load(), options.list):
        pipeline = workload.pipeline.with_batch(options.batch)
        for dtype in options.dtype:
            if time.monotonic() - begun_s > options.budget_s:
                left.append(f"{workload.name} {dtype}")
                continue
            if options.device == "cpu" and dtype == "tf32":
                continue
            row = Row(
                workload.name, dtype, str(pipeline), pipeline.pool is not None, pipeline.flops
            )
            try:
                compete(row, pipeline, contenders, options)
            except Exception as error:
                row.absent["this row"] = explain(error).reason
            rows.append(row)
            print(
                f"{time.monotonic() - begun_s:6.1f} s  {row.workload} {row.dtype}", file=sys.stderr
            )
    text = "\n".join(
        [
            *(f"{name}: {value}" for name, value in limits.items()),
            "",
            *lines(rows, [n for c in contenders for n in c.names], said, left),
        ]
    )
    if options.output is not None:
        document = {
            "method": "median over interleaved turns of the wall time of run + synchronize",
            "machine": facts.machine_facts(), "moment": facts.moment(),
            "gpus": nvidia.gpus(), "versions": backend.versions(),
            "peers": {c.names[0]: str(getattr(c, c.names[0]).__version__) for c in contenders[1:]},
            "ceilings": limits, "said": said, "left": left, "rows": [asdict(row) for row in rows],
        }  # fmt: skip
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "peers.json").write_text(
            json.dumps(document, indent=1, default=str) + "\n"
        )
        (options.output / "peers.txt").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
