# ruff: noqa: T201, E402, S311  (a script talks to whoever started it, and finds its package)
"""Time the same layers with convbench, PyTorch and JAX on the same card, in turns.

    .venv/bin/python studies/gpu_peers.py [--output FOLDER] [--dtype NAME]... [--list standard]
    python studies/gpu_peers.py --device cpu --list smoke --batch 1   # a dry run of every code path

It needs a clone of this repository, NumPy with ml_dtypes, CuPy for a card, and of PyTorch and JAX
what is to be compared; no installation of convbench. Every row is computed by our backends of all
three on the same N(0,1) numbers, in NHWC (PyTorch in channels_last). They take turns, in an order
drawn anew for each turn: a turn is some calls, each waited for, and what counts is the median over
the turns. Before that each result is held against ours, so that nobody is timed for computing
something else. Where the time runs out, the rows that are left are named.

`make bench-gpu` runs it after the tests; reports/gpu.md has what it said of an H200.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
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

from convbench.backends.base import Backend, Run
from convbench.backends.cupy import CupyBackend
from convbench.backends.jax import JaxBackend
from convbench.backends.numpy import NumpyBackend
from convbench.backends.torch import TorchBackend
from convbench.errors import BackendUnavailable, Unsupported
from convbench.machine import facts, nvidia
from convbench.machine.failures import explain
from convbench.stimulus.arrays import Weights
from convbench.stimulus.formats import format_of
from convbench.stimulus.spec import PipelineSpec
from convbench.stimulus.workloads import load, select

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


# -- The contenders --------------------------------------------------------------------------------


def opened(device: str, said: dict[str, str]) -> dict[str, Backend]:
    """Ours, then the peers that are here; what is not is `said`.

    Raises
    ------
    BackendUnavailable
        If ours is not.
    """
    ours, where = (NumpyBackend, "cpu") if device == "cpu" else (CupyBackend, "gpu:0")
    found: dict[str, Backend] = {OURS: ours(where)}
    for name, kind in (
        ("torch", TorchBackend),
        ("torch.compile", TorchBackend),
        ("jax", JaxBackend),
    ):
        try:
            found[name] = kind(where, name.partition(".")[2])
        except Exception as error:  # whatever a library raises
            known = isinstance(error, BackendUnavailable)
            said[name] = f"not compared: {error if known else explain(error).reason}"
    if "torch" in found:  # ours chooses by time, too
        found["torch"].library().backends.cudnn.benchmark = True
    return found


def made(backend: Backend, pipeline: PipelineSpec, dtype: str, arrays: Arrays) -> tuple[Call, Run]:
    """A call that computes and waits, and what it runs."""
    storage = format_of(dtype).storage
    x, filters, bias = (None if a is None else a.astype(storage) for a in arrays)
    run, wait = backend.build(pipeline, Weights(dtype, filters, bias)), backend.synchronize
    on_device = backend.to_device(x)

    def call() -> Any:
        y = run(on_device)
        wait()
        return y

    return call, run


def forget(backend: Backend) -> None:
    """Give the memory of a row back."""
    library: Any = backend.library()
    match backend.name:
        case "cupy":
            library.get_default_memory_pool().free_all_blocks()
        case "torch":
            library.compiler.reset()
            library.cuda.empty_cache()
        case "jax":
            library.clear_caches()


Arrays = tuple[Any, Any, Any]


def arrays_of(pipeline: PipelineSpec) -> Arrays:
    """N(0,1), as float32; large arrays, so not from the generator that is frozen and slow."""
    chance = np.random.default_rng(0)

    def draw(shape: tuple[int, ...] | None) -> Any:
        return None if shape is None else chance.standard_normal(shape, "float32")

    return draw(pipeline.input_shape), draw(pipeline.filter_shape), draw(pipeline.bias_shape)


# -- Measuring -------------------------------------------------------------------------------------


def compete(row: Row, pipeline: PipelineSpec, contenders: dict[str, Backend], options: Any) -> None:
    """Fill a row: each contender in turn, round after round."""
    arrays = arrays_of(pipeline)
    calls: dict[str, Call] = {}
    expected = None
    for name, backend in contenders.items():
        try:
            call, run = made(backend, pipeline, row.dtype, arrays)
            got = backend.to_numpy(call()).astype("float32")
            if name == OURS:
                expected, row.algorithm = got, run.algorithm
            elif expected is not None and (off := difference(got, expected)) > AGREES[row.dtype]:
                row.absent[name] = f"its result differs from ours by {off:.2g} of the RMS"
                continue
            calls[name] = call
        except Exception as error:  # whatever a library raises
            known = isinstance(error, Unsupported)
            row.absent[name] = str(error) if known else explain(error).reason
    numbers = {name: _calibrate(call, options.sample_s) for name, call in calls.items()}
    samples: dict[str, list[float]] = {name: [] for name in calls}
    chance = random.Random(row.workload)
    for _ in range(options.rounds):
        for name in chance.sample(list(calls), len(calls)):
            samples[name].append(_sample_s(calls[name], numbers[name]))
    row.seconds = {name: statistics.median(times) for name, times in samples.items()}
    calls.clear()
    for backend in contenders.values():
        forget(backend)


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


def ceilings(contenders: dict[str, Backend], options: Any) -> dict[str, str]:
    """What the card itself does: products in every format, a copy, and the launch of nothing."""
    found: dict[str, str] = {}
    n, size = (8192, 1 << 30) if options.device == "gpu" else (256, 1 << 22)
    backend, torch = contenders[OURS], contenders.get("torch")
    matmul: Any = torch and torch.library().backends.cuda.matmul

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
        matmul.fp32_precision = "tf32" if dtype == "tf32" else "ieee"
        drawn = np.random.default_rng(0).standard_normal((n, n), "float32")
        a: Any = torch.to_device(drawn.astype(format_of(dtype).storage))
        return lambda: (a @ a, torch.synchronize()), 2 * n**3 / 1e12, "TFLOP/s"

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
    if torch is not None:
        matmul.fp32_precision = "ieee"  # as the backend has set it
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
    said: dict[str, str] = {}
    try:
        contenders = opened(options.device, said)
    except BackendUnavailable as error:
        sys.exit(f"gpu_peers: nothing was measured. {error}")
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
            *lines(rows, list(contenders), said, left),
        ]
    )
    if options.output is not None:
        document = {
            "method": "median over interleaved turns of the wall time of run + synchronize",
            "machine": facts.machine_facts(), "moment": facts.moment(),
            "gpus": nvidia.gpus(),
            "versions": {name: backend.versions() for name, backend in contenders.items()},
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
