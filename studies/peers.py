"""How fast is NumPy on the CPU beside TensorFlow, PyTorch and JAX? Writes a page and a picture.

    make bench-peers
    .venv/bin/python studies/peers.py [--list standard] [--workload NAME]... [--rounds 3]
        [--threads 1] [--target TARGET]... [--output reports/peers.md] [--json]

Every variant of numpy@cpu, tensorflow@cpu, torch@cpu and jax@cpu, but for torch.compile@cpu, which
has to be asked for, because it takes seconds to compile each layer in each round, compute the same
rows on the same N(0,1) numbers. In each round the numbers are others, and everybody has a new
process; all of these are there at once. Row by row, in an order that is drawn anew in each round,
each result is first held against the float64 oracle; what is right is then timed in turns, in an
order that is drawn anew for each turn. Beside them a process measures what the machine itself does:
the product of matrices that the layer comes down to, and a copy of as many bytes as it has to move.
All processes are pinned to the same cores, as many as the threads that each of them may use.

The time of a round is that of the fastest of its turns, each of which is a median of samples; that
of a row is the geometric mean over the rounds, and a library counts with the variant that is
fastest there. A ratio is the time of a peer over ours: above 1, ours is faster. Ratios are taken
within each round. The interval of a mean is Student's over the rounds' means of the logarithms: it
says how well this machine was measured and not what another would do.

Without PyTorch or JAX the rest is measured, and the page says so; `make peers` installs them.
Ctrl-C ends the measuring, and what there is by then is written.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import cache
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convbench.backends import backend_class, open_backend
from convbench.backends.base import Backend, Run
from convbench.backends.gauges import Gauges
from convbench.cli.arguments import Formatter, Parser, add_selection, chosen_workloads, count
from convbench.cli.arguments import duration as seconds_of_a_day
from convbench.cli.output import EXIT_CODES, as_json, emit, say, until_interrupted, with_progress
from convbench.comparing.markdown import code, prose
from convbench.comparing.stats import intervals, paired
from convbench.correctness.accuracy import Reference, accuracy_of, refer_for
from convbench.correctness.sample import sample
from convbench.correctness.worker import Worker
from convbench.errors import ArrayError, BrokenContract, InputError
from convbench.machine import facts, files
from convbench.measuring.timing import measure
from convbench.stimulus.arrays import exactly_an_array
from convbench.stimulus.formats import Fill, format_of
from convbench.stimulus.inputs import Inputs, make_inputs
from convbench.stimulus.spec import PipelineSpec
from convbench.stimulus.targets import Target
from convbench.stimulus.workloads import Workload
from convbench.words.numbers import count as counted
from convbench.words.numbers import digits, duration, share
from convbench.words.status import Exit, Outcome

if TYPE_CHECKING:
    from convbench.report.parts import Chart

ROOT = Path(__file__).parents[1]
OURS, PEERS = "numpy", ("tensorflow", "torch", "jax")
ON_DEMAND = {Target("torch", "compile", "cpu")}
CEILING = Target("ceiling", "", "cpu")
KINDS = (
    "3x3, C >= 64", "3x3, fewer channels", "1x1", "C <= 4", "depthwise", "grouped", "pooling",
    "others",
)  # fmt: skip
TURNS = 3
"""In each round: noise lasts 1 to 100 ms, and who takes turns meets the same."""

TURN_S = 0.03
"""For the warm-up of a turn, and again for its samples."""

ANSWER_S = 120.0
PEAK_N, COPY_BYTES = 2048, 64 << 20
MOST_FACTOR_ELEMENTS = 1 << 27
"""Of the larger factor of a product: a taller one is not faster, and need not fit the memory."""

CONFIDENCE = 0.95
QUIET = 0.95
"""Of a core's time; an idle machine leaves more than this to who is timed."""

READ_THIS = """\
All computed the same numbers, and each result was right by the float64 oracle before it was timed.
Ratios are times of the best way of a peer over that of the best of ours: **above 1, ours is
faster**. In brackets is the interval of 95 %, Student's over the rounds: how well it was measured
here, and not what another machine would show. The *ceiling* is what this machine did in the same
turns: a copy of as many bytes as the layer reads and writes, or, if that takes longer, its products
by NumPy's SGEMM, at the speed of matrices of its own shape or of large square ones. What needs
fewer operations can pass it."""
WRONG = "wrong, and so not timed: "


# -- In the processes ------------------------------------------------------------------------------


class Contender:
    """A backend, and the row that it is at."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._at: tuple[Run, Any] | None = None

    def prepare(self, pipeline: PipelineSpec, inputs: Inputs) -> dict[str, Any]:
        """Build a row, and compute it once."""
        self._at = None  # or the memory of two rows is needed
        run = self._backend.build(pipeline, inputs.weights)
        x = self._backend.to_device(inputs.x)
        y = run(x)
        self._backend.synchronize()
        self._at = run, x
        output = exactly_an_array(self._backend.to_numpy(y))
        return {
            "output": output, "algorithm": run.algorithm, "accumulation": run.accumulation,
            "scheme": run.scheme,
        }  # fmt: skip

    def time(self, budget_s: float) -> dict[str, float]:
        """Seconds a call; and the seconds of this turn, by the clock and of a core."""
        if self._at is None:
            raise BrokenContract("the row was prepared in a process that has ended since")
        run, x = self._at
        begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
        call_s = _median_s(run, x, self._backend.synchronize, budget_s)
        spent_s, cpu_s = time.perf_counter() - begun_s, time.process_time() - begun_cpu_s
        return {"call": call_s, "spent": spent_s, "cpu": cpu_s}

    def versions(self) -> dict[str, str]:
        """Those of the library."""
        return self._backend.versions()


class Ceilings:
    """What NumPy and the machine do with the matrices and the bytes that a row comes down to."""

    def __init__(self) -> None:
        self._at: dict[str, tuple[Callable[[Any], object], float]] = {}

    def prepare(self, pipeline: PipelineSpec) -> None:
        """Allocate them."""
        self._at = {}
        if (shape := product_of(pipeline)) is not None:
            groups, m, k, n = shape
            rows = min(m, max(1, MOST_FACTOR_ELEMENTS // (groups * k)))
            left, right = (np.ones((groups, *s), "float32") for s in ((rows, k), (k, n)))
            out = np.empty((groups, rows, n), "float32")
            self._at["product"] = (lambda _: np.matmul(left, right, out=out)), m / rows
        # Half is read and half is written.
        source = np.ones(max(1, pipeline.bytes(4) // 8), "float32")
        into = np.empty_like(source)
        self._at["copy"] = (lambda _: np.copyto(into, source)), 1.0

    def time(self, budget_s: float) -> dict[str, float]:
        """Seconds of the product and of the copy."""
        return {
            name: scale * _median_s(call, None, lambda: None, budget_s)
            for name, (call, scale) in self._at.items()
        }

    def peak(self, budget_s: float) -> dict[str, float]:
        """GFLOP/s of a large product, and GB/s, read and written, of a large copy."""
        gauges = Gauges()
        x = np.ones((PEAK_N, PEAK_N), "float32")
        product_s = _median_s(gauges.gemm(PEAK_N), x, lambda: None, budget_s)
        x = np.ones(COPY_BYTES // 4, "float32")
        copy_s = _median_s(gauges.copier(COPY_BYTES), x, lambda: None, budget_s)
        return {"gflops": 2e-9 * PEAK_N**3 / product_s, "gb_per_s": 2e-9 * COPY_BYTES / copy_s}


def product_of(pipeline: PipelineSpec) -> tuple[int, int, int, int] | None:
    """The products of matrices that a convolution comes down to: how many, and M, K and N of each.

    None without a convolution, and where they are vectors, as of a depthwise one.
    """
    conv = pipeline.conv
    if conv is None or (n := conv.k // conv.groups) == 1 < conv.groups:
        return None
    return conv.groups, math.prod(pipeline.conv_shape[:3]), pipeline.reduction, n


def _flops(pipeline: PipelineSpec) -> int:
    shape = product_of(pipeline)
    return 2 * math.prod(shape) if shape else 0


def opened(target: Target) -> Contender | Ceilings:
    """What computes in the process of a target."""
    if target == CEILING:
        return Ceilings()
    return Contender(open_backend(target))


def _median_s(
    call: Callable[[Any], object], x: object, wait: Callable[[], None], budget_s: float
) -> float:
    return statistics.median(measure(call, x, wait, budget_s=budget_s).samples_s)


# -- Measuring -------------------------------------------------------------------------------------


@dataclass
class Row:
    """What was found of one workload.

    Attributes
    ----------
    product_flops : int
        Of the products that :func:`product_of` gives; 0 without any.
    seconds : dict
        By target and by round, the fastest turn; ``ceiling product`` and ``ceiling copy`` are among
        the targets.
    error : dict
        By target, the largest error over bound.
    absent : dict
        By target, why there is no time, or none of some round.
    """

    workload: str
    kind: str
    pipeline: str
    product_flops: int
    seconds: dict[str, dict[int, float]] = field(default_factory=dict)
    algorithm: dict[str, str] = field(default_factory=dict)
    error: dict[str, float] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)


Limits = Mapping[str, float | None]
"""By workload, :func:`ceiling_s`."""


def kind_of_layer(pipeline: PipelineSpec) -> str:
    """The first of `KINDS` by which one would describe it; how it is computed depends on that."""
    conv = pipeline.conv
    if conv is None:
        return "others" if pipeline.pool is None else "pooling"
    if conv.groups > 1:
        return "depthwise" if conv.groups == pipeline.c else "grouped"
    if pipeline.c <= 4:
        return "C <= 4"
    if (conv.r, conv.s) == (1, 1):
        return "1x1"
    if (conv.r, conv.s) == (3, 3):
        return "3x3, C >= 64" if pipeline.c >= 64 else "3x3, fewer channels"
    return "others"


def all_targets() -> list[Target]:
    """Every variant of ours and of the peers on the CPU."""
    classes = map(backend_class, (OURS, *PEERS))
    return [Target(c.name, variant, "cpu") for c in classes for variant in c.capabilities.variants]


class Study:
    """One run: what is measured, and what was found so far.

    Parameters
    ----------
    seed : int
        Of the orders that are drawn.
    """

    def __init__(
        self,
        workloads: Sequence[Workload],
        targets: Sequence[Target],
        rounds: int,
        threads: int,
        budget_s: float,
        seed: int,
    ) -> None:
        self.workloads = {workload.name: workload for workload in workloads}
        self.targets = list(targets)
        self.rounds, self.threads, self.budget_s, self.seed = rounds, threads, budget_s, seed
        self.rows = {
            w.name: Row(w.name, kind_of_layer(w.pipeline), str(w.pipeline), _flops(w.pipeline))
            for w in workloads
        }
        self.versions: dict[str, dict[str, str]] = {}
        self.absent: dict[str, str] = {}
        self.peaks: list[dict[str, float]] = []
        self.done = 0
        self.elapsed_s = self.spent_s = self.cpu_s = 0.0
        self.begun_s = time.monotonic()
        self._chance = random.Random(seed)  # noqa: S311  # an order, not a secret

    @property
    def had(self) -> float:
        """The share of a core that who was timed had of its clock's time; 1 where nobody disturbs.

        Of several threads it counts as if they were one: they need not all be busy.
        """
        return self.cpu_s / self.spent_s if self.spent_s else math.nan

    @property
    def total(self) -> int:
        """How many rows are visited in all rounds."""
        return self.rounds * len(self.rows)

    def measure(self) -> Generator[str]:
        """Measure round by round, and say after each row what was done and how long the rest takes.

        Closing it, as Ctrl-C does, keeps what was measured.
        """
        try:
            for number in range(1, self.rounds + 1):
                with ExitStack() as stack:
                    workers = self._start(stack)
                    for name in self._drawn(self.rows):
                        if time.monotonic() - self.begun_s > self.budget_s:
                            return
                        self._visit(number, name, workers)
                        self.done += 1
                        spent_s = time.monotonic() - self.begun_s
                        left_s = spent_s / self.done * (self.total - self.done)
                        left = f"{left_s / 60:.0f} min" if left_s > 90 else f"{left_s:.0f} s"
                        yield f"round {number} of {self.rounds}, {name}; about {left} left"
        finally:
            self.elapsed_s = time.monotonic() - self.begun_s

    def _drawn(self, of: Any) -> list[Any]:
        return self._chance.sample(list(of), len(of))

    def _start(self, stack: ExitStack) -> dict[Target, Worker]:
        """A new process each."""
        workers = {}
        for target in self._drawn([*self.targets, CEILING]):
            if str(target) in self.absent:
                continue
            worker = Worker(target, ANSWER_S, threads=self.threads, opening=opened)
            stack.callback(worker.close)
            if (absence := worker.start()) is not None:
                self.absent[str(target)] = _reason(absence)
                say(f"{target} is absent: {_reason(absence)}")
                continue
            workers[target] = worker
            if target == CEILING:
                peak = worker.ask(methodcaller("peak", TURN_S))
                self.peaks += [] if isinstance(peak, Outcome) else [peak]
            elif str(target) not in self.versions:
                found = worker.ask(methodcaller("versions"))
                self.versions[str(target)] = {} if isinstance(found, Outcome) else found
        return workers

    def _visit(self, number: int, name: str, workers: dict[Target, Worker]) -> None:
        """Have everybody compute a row, and time in turns those that are right."""
        row, pipeline = self.rows[name], self.workloads[name].pipeline
        inputs = make_inputs(pipeline, "float32", Fill.NORMAL, seed=number)

        @cache
        def expected(accumulation: str, scheme: str | None) -> Reference:
            positions = sample(pipeline, seed=number)
            return refer_for(pipeline, inputs, Fill.NORMAL, accumulation, positions, scheme)

        ready = []
        for target in self._drawn(workers):
            if target == CEILING:
                answer = workers[target].ask(methodcaller("prepare", pipeline))
                why = _reason(answer) if isinstance(answer, Outcome) else ""
            elif row.absent.get(str(target), "").startswith(WRONG):
                continue  # what is wrong once is wrong
            else:
                answer = workers[target].ask(methodcaller("prepare", pipeline, inputs))
                why = judge(row, target, answer, expected)
            if why:
                row.absent[str(target)] = why
                if why.startswith(WRONG):  # nor are its times of earlier rounds worth anything
                    row.seconds.pop(str(target), None)
            else:
                ready.append(target)
        turns: dict[str, list[float]] = {}
        for _ in range(TURNS):
            for target in self._drawn(ready):
                answer = workers[target].ask(methodcaller("time", TURN_S))
                if isinstance(answer, Outcome):
                    row.absent[str(target)] = _reason(answer)
                    ready.remove(target)
                    continue
                if target == CEILING:
                    times = {f"{CEILING.backend} {what}": s for what, s in answer.items()}
                else:
                    times = {str(target): answer["call"]}
                    self.spent_s += answer["spent"]
                    self.cpu_s += min(answer["cpu"], answer["spent"])
                for key, seconds in times.items():
                    turns.setdefault(key, []).append(seconds)
        for key, found in turns.items():
            if len(found) == TURNS:
                row.seconds.setdefault(key, {})[number] = min(found)


def judge(
    row: Row, target: Target, answer: Any, expected: Callable[[str, str | None], Reference]
) -> str:
    """Why a result is not timed; "" if it is right.

    Parameters
    ----------
    answer : dict or Outcome
        What :meth:`Contender.prepare` returns.
    expected : callable
        What the oracle says, for a way of adding and a scheme.
    """
    if isinstance(answer, Outcome):
        return _reason(answer)
    accumulation = str(answer["accumulation"] or format_of("float32").accumulation)
    try:
        expected_here = expected(accumulation, answer.get("scheme"))
        found = accuracy_of(exactly_an_array(answer["output"]), expected_here)
    except (ArrayError, BrokenContract) as error:
        return f"{WRONG}{error}"
    row.algorithm[str(target)] = str(answer["algorithm"])
    row.error[str(target)] = max(found.ratio, row.error.get(str(target), 0.0))
    return "" if found.ok else f"{WRONG}error / bound {found.ratio:.3g} {found}"


def _reason(outcome: Outcome) -> str:
    return ". ".join(filter(None, (outcome.reason, outcome.remedy)))


# -- Statistics ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mean:
    """The geometric mean of ratios, and its interval; nan where there are not two rounds."""

    ratio: float
    low: float
    high: float
    rows: int


def mean_s(of: dict[int, float]) -> float:
    """The geometric mean over the rounds."""
    return statistics.geometric_mean(of.values())


def ways(row: Row, library: str) -> list[str]:
    """The targets of a library that have times in a row, the fastest first; "" for all peers."""
    libraries = {library} if library else {*PEERS}
    found = [t for t in row.seconds if t.partition("@")[0].partition(".")[0] in libraries]
    return sorted(found, key=lambda target: mean_s(row.seconds[target]))


def log_ratios(row: Row, library: str) -> dict[int, float]:
    """By round, the logarithm of their best way's time over that of ours."""
    ours, theirs = ways(row, OURS), ways(row, library)
    if not (ours and theirs):
        return {}
    base, head = row.seconds[ours[0]], row.seconds[theirs[0]]
    return {number: math.log(head[number] / base[number]) for number in sorted(base & head.keys())}


def mean_ratio(rows: Sequence[Row], library: str) -> Mean | None:
    """The geometric mean over the rows that both have, in the rounds that all of these have.

    The rows are those that there are and no sample of more: they are averaged over within each
    round, and the interval is Student's over the rounds (:func:`.stats.paired`).
    """
    found = [ratios for row in rows if (ratios := log_ratios(row, library))]
    common = set.intersection(*map(set, found)) if found else set()
    if not common:
        return None
    mean = paired([[statistics.fmean(ratios[n] for ratios in found) for n in sorted(common)]])
    (low,), (high,) = intervals(mean, CONFIDENCE)
    return Mean(float(mean.ratio[0]), float(low), float(high), len(found))


def ceiling_s(row: Row, peak_gflops: float) -> float | None:
    """The least that a row should take: its bytes copied, or its products as fast as NumPy can.

    That is the speed at which NumPy multiplies these very matrices, or large square ones if that is
    higher: thin ones suit no BLAS.
    """
    product, copy = (row.seconds.get(f"{CEILING.backend} {what}") for what in ("product", "copy"))
    if copy is None:
        return None
    least_s = mean_s(copy)
    if product is None or not row.product_flops:
        return least_s
    return max(least_s, min(mean_s(product), row.product_flops / (1e9 * peak_gflops)))


def peak_gflops(study: Study) -> float:
    """Of large products, the geometric mean over the rounds; nan if there was none."""
    found = [peak["gflops"] for peak in study.peaks]
    return statistics.geometric_mean(found) if found else math.nan


def groups(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """The kinds that there are, and all of them, and all but the notebook's."""
    for kind in KINDS:
        if of_kind := [row for row in rows if row.kind == kind]:
            yield kind, of_kind
    yield "all", list(rows)
    larger = [row for row in rows if not row.workload.startswith("notebook.")]
    if 0 < len(larger) < len(rows):
        yield "all but the notebook's", larger


# -- Telling ---------------------------------------------------------------------------------------


def document(study: Study) -> dict[str, Any]:
    """All that was found, in plain values."""
    return {
        "rounds": study.rounds, "turns": TURNS, "threads": study.threads, "seed": study.seed,
        "visits": study.done, "visits_planned": study.total,
        "elapsed_s": round(study.elapsed_s, 1), "core_share": study.had,
        "machine": facts.machine_facts(), "moment": facts.moment(), "settings": settings(),
        "versions": study.versions, "absent": study.absent, "peaks": study.peaks,
        "rows": [asdict(row) for row in study.rows.values()],
    }  # fmt: skip


def settings() -> dict[str, str]:
    """What the environment tells OpenBLAS: it can be the kernels of another CPU."""
    return {name: value for name, value in os.environ.items() if name.startswith("OPENBLAS_")}


def markdown(study: Study, picture: str, *, interrupted: bool) -> Iterator[str]:
    """The page, line by line.

    Parameters
    ----------
    picture : str
        Its file, as seen from the page.
    """
    rows = [row for row in study.rows.values() if row.seconds]
    known = facts.machine_facts()
    limits = {row.workload: ceiling_s(row, peak_gflops(study)) for row in rows}
    yield "# NumPy beside TensorFlow, PyTorch and JAX, on a CPU"
    yield ""
    yield (
        f"`studies/peers.py` on {prose(str(known.get('cpu_model', 'a CPU')))},"
        f" {time.strftime('%Y-%m-%d', time.gmtime())}: {counted(len(rows), 'layer')},"
        f" {counted(study.rounds, 'round')} of {counted(TURNS, 'turn')} in"
        f" {study.elapsed_s / 60:.0f} min; {counted(study.threads, 'thread')} each, pinned to"
        f" {study.threads} of {known.get('machine_cores', '?')} cores. Who was timed had"
        f" {share(study.had)} of a core's time: the rest went to other work on this machine, or was"
        " waited."
    )
    if study.had < QUIET:
        yield ""
        yield "**The machine was busy: no time is its own, and the ratios are less sure for it.**"
    if study.done < study.total:
        why = "It was interrupted" if interrupted else "The time ran out"
        yield ""
        yield f"**{why}: {study.done} of {study.total} visits of a row were made.**"
    said = {f"{key} {value}" for of in study.versions.values() for key, value in of.items()}
    set_ = [f"{key}={value}" for key, value in sorted(settings().items())]
    yield ""
    yield (
        f"Versions and settings: {', '.join(map(code, sorted(said)))}. OpenBLAS chose its kernels"
        f" {'under ' + ', '.join(map(code, set_)) if set_ else 'by itself'}."
    )
    yield ""
    yield READ_THIS
    yield ""
    yield f"![{picture_alt(rows)}]({picture})"
    yield ""
    yield "## Geometric means"
    yield ""
    yield from _table(
        ("kind", "layers", *(f"{peer} / {OURS}" for peer in PEERS), f"best peer / {OURS}",
         *(f"{name}, of its ceiling" for name in (OURS, *PEERS))),
        [_mean_row(name, of, limits) for name, of in groups(rows)],
    )  # fmt: skip
    yield ""
    yield "## Each layer"
    yield ""
    yield "The best way of each library, and which it is where there are several."
    yield ""
    yield from _table(
        ("layer", "kind", OURS, *PEERS, *(f"{peer} / {OURS}" for peer in PEERS),
         *(f"{name}, of its ceiling" for name in (OURS, *PEERS)), "error / bound, worst"),
        [_layer_row(row, limits) for row in sorted(rows, key=lambda row: KINDS.index(row.kind))],
        names=2,
    )  # fmt: skip
    yield ""
    yield "## Every way"
    yield ""
    targets = [t for t in map(str, study.targets) if any(t in row.seconds for row in rows)]
    product, copy = (f"{CEILING.backend} {what}" for what in ("product", "copy"))
    yield from _table(
        ("layer", *map(code, targets), "product", "GFLOP/s", "copy"),
        [
            (
                code(row.workload),
                *(_time(row, t) for t in targets),
                _time(row, product),
                _rate(row, product),
                _time(row, copy),
            )
            for row in rows
        ],
    )
    yield ""
    yield from _peaks(study.peaks)
    absent = {f"{code(name)}: {prose(why)}" for name, why in study.absent.items()}
    absent |= {
        f"{code(name)} on {code(row.workload)}: {prose(why)}"
        for row in study.rows.values()
        for name, why in row.absent.items()
    }
    if absent:
        yield ""
        yield "## What was not measured"
        yield ""
        yield from (f"- {line}" for line in sorted(absent))


def _peaks(peaks: Sequence[dict[str, float]]) -> Iterator[str]:
    if not peaks:
        return
    spans = []
    for name in ("gflops", "gb_per_s"):
        found = sorted(peak[name] for peak in peaks)
        spans.append(f"{found[0]:.0f} to {found[-1]:.0f}")
    yield (
        f"In the rounds, a product of two matrices of {PEAK_N} x {PEAK_N} by NumPy reached"
        f" {spans[0]} GFLOP/s, and a copy of {COPY_BYTES >> 20} MiB {spans[1]} GB/s, read and"
        " written."
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], names: int = 1) -> Iterator[str]:
    """Of which the first columns are names, and the others numbers."""
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * names}{'--:|' * (len(header) - names)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def _interval(mean: Mean | None) -> str:
    """As in 0.77 (0.75 to 0.79)."""
    if mean is None:
        return "-"
    if math.isnan(mean.low):
        return f"{mean.ratio:.2f}"
    return f"{mean.ratio:.2f} ({mean.low:.2f} to {mean.high:.2f})"


def _shares(rows: Sequence[Row], limits: Limits) -> Iterator[str]:
    """Of each library, how near its best way comes to the ceiling: a geometric mean."""
    for library in (OURS, *PEERS):
        found = [
            limit / mean_s(row.seconds[best[0]])
            for row in rows
            if (best := ways(row, library)) and (limit := limits[row.workload])
        ]
        yield share(statistics.geometric_mean(found)) if found else "-"


def _mean_row(name: str, rows: Sequence[Row], limits: Limits) -> tuple[str, ...]:
    means = (_interval(mean_ratio(rows, library)) for library in (*PEERS, ""))
    title = f"**{name}**" if name.startswith("all") else name.replace("<", "&lt;")
    return (title.replace(">", "&gt;"), str(len(rows)), *means, *_shares(rows, limits))


def _layer_row(row: Row, limits: Limits) -> tuple[str, ...]:
    times = []
    for library in (OURS, *PEERS):
        best = ways(row, library)
        variant = best[0].partition("@")[0].partition(".")[2] if best else ""
        times.append((f"{_time(row, best[0])} {variant}").strip() if best else "-")
    ratios = (_interval(mean_ratio([row], peer)) for peer in PEERS)
    kind = row.kind.replace("<", "&lt;").replace(">", "&gt;")
    worst = digits(max(row.error.values(), default=None))
    return (code(row.workload), kind, *times, *ratios, *_shares([row], limits), worst)


def _time(row: Row, name: str) -> str:
    return duration(mean_s(row.seconds[name])) if name in row.seconds else "-"


def _rate(row: Row, name: str) -> str:
    return (
        f"{row.product_flops / mean_s(row.seconds[name]) / 1e9:.0f}" if name in row.seconds else "-"
    )


def picture_alt(rows: Sequence[Row]) -> str:
    """What the picture says, in a sentence."""
    means = [f"{mean.ratio:.2f} of {peer}'s" for peer in PEERS if (mean := mean_ratio(rows, peer))]
    return f"Over all layers the speed of {OURS} is {' and '.join(means) or 'compared with none'}"


def chart(rows: Sequence[Row]) -> Chart:
    """The ratio of each layer, and the mean of each kind with its interval."""
    import altair as alt  # noqa: PLC0415  # only for this

    from convbench.report.charts import LIGHT  # noqa: PLC0415
    from convbench.report.parts import Chart  # noqa: PLC0415

    names, dots, means = [], [], []
    for name, of in groups(rows):
        names.append(title := f"{name} ({len(of)})")
        for peer in PEERS:
            if (mean := mean_ratio(of, peer)) is None:
                continue
            ends = {k: v for k, v in (("low", mean.low), ("high", mean.high)) if math.isfinite(v)}
            means.append({"kind": title, "peer": peer, "ratio": mean.ratio, **ends})
            if not name.startswith("all"):
                dots += [
                    {"kind": title, "peer": peer, "ratio": one.ratio}
                    for row in of
                    if (one := mean_ratio([row], peer))
                ]
    shown = [item["ratio"] for item in (*dots, *means)] + [1.0]
    low, high = min(shown) / 1.15, max(shown) * 1.15
    steps = [digit * 10.0**power for power in range(-3, 4) for digit in (1, 2, 3, 5, 7)]
    axis = alt.Axis(format="~g", values=[at for at in steps if low <= at <= high])
    scale = alt.Scale(type="log", nice=False, domain=[low, high], clamp=True)
    x = alt.X("ratio:Q", scale=scale, axis=axis)
    x = x.title(
        f"time of a peer / time of {OURS}, the best way of each: right of 1, ours is faster"
    )
    # Who draws it may have wider letters than who has measured them.
    names_axis = alt.Axis(ticks=False, domain=False, grid=True, minExtent=190)
    y = alt.Y("kind:N", sort=names, title=None, axis=names_axis)
    offset = alt.YOffset("peer:N", sort=[*PEERS], scale=alt.Scale(paddingInner=0.2))
    color = alt.Color("peer:N").scale(domain=[*PEERS], range=[*LIGHT.series[: len(PEERS)]])
    common: dict[str, Any] = {"y": y, "yOffset": offset, "color": color}
    each = alt.Chart(alt.InlineData(values=dots)).mark_point(filled=True, size=26, opacity=0.5)
    mean_of = alt.Chart(alt.InlineData(values=means))
    spans = mean_of.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q"), x2="high:Q", **common)
    marks = mean_of.mark_point(filled=True, size=80, opacity=1, shape="diamond")
    one = alt.Chart(alt.InlineData(values=[{"at": 1}])).mark_rule(
        color=LIGHT.tones[""], strokeWidth=2
    )
    layers = one.encode(x=alt.X("at:Q")) + each.encode(x=x, **common) + spans
    spec = (layers + marks.encode(x=x, **common)).properties(height=34 * len(names)).to_dict()
    del spec["config"]
    spec |= {"autosize": {"type": "fit-x", "contains": "padding"}}
    return Chart(
        "peers",
        f"How many times as fast {OURS} is as its peers, by kind of layer",
        picture_alt(rows),
        spec,
        hint="A diamond is the geometric mean of a kind, with its 95 % interval over the rounds; a"
        " dot is a layer. In brackets how many layers there are.",
    )


# -- The command -----------------------------------------------------------------------------------


def pin(threads: int) -> None:
    """Keep this process, and all that it starts, on so many cores.

    Raises
    ------
    InputError
        If there are not so many.
    """
    cores = sorted(os.sched_getaffinity(0))
    if threads > len(cores):
        raise InputError(
            f"peers: the number of threads is {threads}; expected at most the {len(cores)} cores"
            " that this process may use. Ask for fewer."
        )
    os.sched_setaffinity(0, cores[-threads:])  # the first core serves most interrupts


def chosen_targets(names: Sequence[str] | None) -> list[Target]:
    """Those that were named, and ours.

    Raises
    ------
    TargetError, InputError
        If one is none of those that there are.
    """
    known = all_targets()
    wanted = set(map(Target.parse, names)) if names else {*known} - ON_DEMAND
    if unknown := sorted(wanted - {*known}):
        raise InputError(
            f"peers: the target is {unknown[0]}; expected one of {', '.join(map(str, known))}."
            " Choose one."
        )
    return [target for target in known if target in wanted or target.backend == OURS]


EXAMPLES = """\
examples:
  peers.py --workload vgg16.conv5_3 --workload unet.out     two layers, in half a minute
  peers.py --list smoke --threads 2 --output build/two.md   on two cores, and elsewhere
  peers.py --target torch.contiguous@cpu                    ours and that alone
  env -u OPENBLAS_CORETYPE peers.py                         with OpenBLAS's kernels for this CPU

"""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    head, _, rest = (__doc__ or "").partition("\n")
    _, _, taught = rest.partition("[--json]\n")
    parser = Parser(
        description=f"{head}\n{taught}", epilog=EXAMPLES + EXIT_CODES, formatter_class=Formatter
    )
    add_selection(parser, "standard")
    parser.add_argument("--rounds", type=count, default=3, help="of new processes; default: 3")
    parser.add_argument(
        "--threads", type=count, default=1, metavar="N", help="of each library; default: 1"
    )
    parser.add_argument(
        "--target", action="append", metavar="TARGET",
        help=f"measure this one, as in torch.contiguous@cpu, and {OURS}; repeatable;"
        " default: all but those that compile for seconds",
    )  # fmt: skip
    parser.add_argument(
        "--budget", type=seconds_of_a_day, default=840.0, metavar="S",
        help="begin no row after so many seconds; default: 840",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, help="of the orders; default: the clock's")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "reports" / "peers.md", metavar="FILE",
        help="the page; the picture is beside it, as .svg; default: reports/peers.md",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print every number, as JSON, too")
    return parser.parse_args()


def main() -> int:
    """Measure, write the page and the picture, and return the exit code."""
    options = arguments()
    try:
        workloads = chosen_workloads(options)
        targets = chosen_targets(options.target)
        pin(options.threads)
        if os.environ.get("OPENBLAS_CORETYPE"):
            say("OPENBLAS_CORETYPE is set, so NumPy may use the kernels of another CPU; unset it")
        seed = time.time_ns() if options.seed is None else options.seed
        study = Study(workloads, targets, options.rounds, options.threads, options.budget, seed)
        steps = with_progress(study.measure(), study.total, str)
        interrupted = until_interrupted(steps)
        rows = [row for row in study.rows.values() if row.seconds]
        if rows:
            from convbench.report.charts import svg  # noqa: PLC0415  # altair takes a second

            picture = options.output.with_suffix(".svg")
            files.write(picture, svg(chart(rows)), parents=True)
            page = markdown(study, picture.name, interrupted=interrupted)
            files.write(options.output, "\n".join([*page, ""]))
            say(f"{options.output} and {picture} are written")
        if options.json:
            emit(as_json("peers", document(study)))
    except InputError as error:
        say(str(error))
        return Exit.INPUT
    if interrupted:
        return Exit.INTERRUPTED
    wrong = any(why.startswith(WRONG) for row in rows for why in row.absent.values())
    return Exit.WRONG if wrong else Exit.OK if rows else Exit.NOTHING


if __name__ == "__main__":
    sys.exit(main())
