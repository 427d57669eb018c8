"""Is this machine fit to measure? What disturbs a benchmark, with figures and what to do about it.

First the machine is looked at: what runs on it besides, and how its cores, its clocks, its memory
and its GPUs are set. Then it is tried: the same code is timed in many fresh processes. As nothing
differs between them, every difference is noise: this A/A spread is what settings only suggest.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import math
import mmap
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from convbench import environment
from convbench.backends import open_backend
from convbench.failures import Failure, holders_in_words
from convbench.inputs import Fill, make_inputs
from convbench.processes import START_TIMEOUT_S, Child
from convbench.spec import ConvSpec, PipelineSpec
from convbench.targets import Target
from convbench.timing import MIN_SAMPLE_S, Overhead, measure, overhead

FloatArray = NDArray[np.float64]

CELLS: Mapping[str, PipelineSpec] = {
    "notebook.conv": PipelineSpec(1, 5, 5, 3, conv=ConvSpec(6, 5, 5, stride=(2, 2)), bias=True),
    "mobilenet_v2.b14_dw": PipelineSpec(
        1, 14, 14, 576,
        conv=ConvSpec(576, 3, 3, stride=(2, 2), groups=576, padding=(1, 1, 1, 1)), bias=True,
    ),
    "inception_v3.6b_b7_1x7": PipelineSpec(
        1, 17, 17, 128, conv=ConvSpec(128, 1, 7, padding=(0, 0, 3, 3)), bias=True
    ),
}  # fmt: skip
"""What is timed: Python's own overhead, plain loops over memory, and BLAS."""

BUDGET_S = 0.05
"""For the samples of one cell in one process."""

LOOK_S = 1.0
"""So long the machine is watched while nothing is asked of it."""

GROUP = 5
"""Processes on each side of a comparison: what `convbench bench` takes."""

CONFIDENCE = 0.95
POWER = 0.9
"""A slow-down counts as found if it shows in so many of the comparisons."""

RESAMPLINGS = 4000

_GOOD_EFFECT, _BAD_EFFECT = 0.05, 0.20
"""Smallest slow-down that is found: what a benchmark is for, and what anybody sees without one."""

_GOOD_LOAD, _BAD_LOAD = 0.05, 0.25
"""Share of all cores that others use."""

_GOOD_STEAL, _BAD_STEAL = 0.005, 0.03
"""Share of the processor time that the host gives to others."""

_GOOD_CLOCK, _BAD_CLOCK = 1e-3, 1e-2
"""Step or cost of the clock, as a share of the shortest sample."""

_GOOD_MEMORY_BYTES, _BAD_MEMORY_BYTES = 4 << 30, 1 << 30
"""Available. Importing TensorFlow and one large layer take about 1 GiB."""

_WARM, _COLD = 0.2, 0.1
"""Share of a library's files in memory. An import reads a third of TensorFlow's."""

_COMPUTING_PERCENT = 10
_HOT_C = 85
_MOSTLY_FREE, _MOSTLY_TAKEN = 0.9, 0.1

_MOST_PROCESSES = 50
"""More of them than that nobody waits for."""

_SLOWED = {"hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown"}
_LIMITED = {"sw_power_cap", "sync_boost", "display_clock_setting"}

_LIBRARIES = ("numpy", "tensorflow", "cupy", "nvidia")


class Level(StrEnum):
    """How much a finding disturbs."""

    GOOD = "good"
    CARE = "care"
    BAD = "bad"


class Verdict(StrEnum):
    """What all findings amount to: the worst of them."""

    FIT = "fit"
    CARE = "usable with care"
    UNFIT = "unfit"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the diagnosis.

    Attributes
    ----------
    level : Level
    topic : str
        One or two words.
    found : str
        What is so, with figures.
    to_do : str
        What would change it, or what to keep in mind; empty if nothing needs to be done.
    """

    level: Level
    topic: str
    found: str
    to_do: str = ""


@dataclass(frozen=True, slots=True)
class Cached:
    """How much of a library's shared objects is in memory already."""

    library: str
    resident_bytes: int
    total_bytes: int

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return self.resident_bytes / self.total_bytes


@dataclass(frozen=True, slots=True)
class Draw:
    """One fresh process in which every cell was timed.

    Attributes
    ----------
    threads : int, optional
        What the libraries were limited to; None if they were left alone.
    medians_s, spreads : dict of str to float
        For each cell the median of its samples, and half the range between their quartiles as a
        share of it.
    cpu_s : float
        Processor time of the process, its start included.
    """

    threads: int | None
    medians_s: Mapping[str, float]
    spreads: Mapping[str, float]
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Series:
    """What fresh processes say of one cell, all of them of the same code.

    Attributes
    ----------
    threads : int, optional
        As in :class:`Draw`.
    within : float
        Spread inside a process: half the range between the quartiles, as a share of the median.
    between : float
        Robust standard deviation of the logarithm of the processes' medians.
    fastest, slowest : float
        How far the extreme processes are from the median, as a share of it: what `between` ignores.
    beyond_5, beyond_10 : float
        How often two groups of `GROUP` processes differ by more than 5 and 10 %; nan if there are
        too few processes.
    effect : float
        The smallest slow-down that such groups show; see :func:`smallest_effect`.
    """

    workload: str
    threads: int | None
    processes: int
    median_s: float
    within: float
    between: float
    fastest: float
    slowest: float
    beyond_5: float
    beyond_10: float
    effect: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that was seen, none of it judged. It grows while the machine is examined.

    Attributes
    ----------
    facts, before, after : dict
        :func:`convbench.environment.machine_facts`, and two moments `LOOK_S` apart.
    driver : bool, optional
        Whether there is an NVIDIA driver.
    gpus, gpu_processes : tuple of dict
    cached : tuple of Cached
    overhead : Overhead, optional
    asked_s : float
        How long to time; 0 for not at all.
    draws : tuple of Draw
    trial_before, trial_after : dict
        Moments before the first of the draws and after the last.
    own_cpu_s : float
        Processor time that the trial itself took between the two.
    failure : Failure, optional
        Why a process did not answer. None is started after it.
    """

    facts: Mapping[str, Any] = field(default_factory=dict)
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
    driver: bool | None = None
    gpus: tuple[Mapping[str, Any], ...] = ()
    gpu_processes: tuple[Mapping[str, Any], ...] = ()
    cached: tuple[Cached, ...] = ()
    overhead: Overhead | None = None
    asked_s: float = 0.0
    draws: tuple[Draw, ...] = ()
    trial_before: Mapping[str, Any] = field(default_factory=dict)
    trial_after: Mapping[str, Any] = field(default_factory=dict)
    own_cpu_s: float = 0.0
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """How far an examination is.

    Attributes
    ----------
    evidence : Evidence
        All there is so far.
    doing : str
        What comes next, for a person who waits.
    again : bool
        It is one of many steps that are alike.
    """

    evidence: Evidence
    doing: str
    again: bool = False


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What the evidence means."""

    evidence: Evidence
    findings: tuple[Finding, ...]
    series: tuple[Series, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of the findings decides."""
        levels = {finding.level for finding in self.findings}
        if Level.BAD in levels:
            return Verdict.UNFIT
        return Verdict.CARE if Level.CARE in levels else Verdict.FIT

    def exit_code(self) -> int:
        """1 if the machine is unfit, otherwise 0."""
        return int(self.verdict is Verdict.UNFIT)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        evidence = self.evidence
        return {
            "verdict": str(self.verdict),
            "findings": [asdict(finding) for finding in self.findings],
            "facts": dict(evidence.facts),
            "before": dict(evidence.before),
            "after": dict(evidence.after),
            "nvidia_driver": evidence.driver,
            "gpus": [dict(card) for card in evidence.gpus],
            "gpu_processes": [dict(process) for process in evidence.gpu_processes],
            "cached": [asdict(cached) for cached in evidence.cached],
            "timer": asdict(evidence.overhead) if evidence.overhead else None,
            "calibration": {
                "asked_s": evidence.asked_s,
                "group": GROUP,
                "confidence": CONFIDENCE,
                "power": POWER,
                "before": dict(evidence.trial_before),
                "after": dict(evidence.trial_after),
                "own_cpu_s": evidence.own_cpu_s,
                "failure": evidence.failure.reason if evidence.failure else None,
                "series": [asdict(series) for series in self.series],
                "draws": [asdict(draw) for draw in evidence.draws],
            },
        }


# -- looking ---------------------------------------------------------------------------------------


def examine(
    seconds: float,
    *,
    look_s: float = LOOK_S,
    draw: Callable[[int, int | None], Draw | Failure] | None = None,
) -> Generator[Step]:
    """Look at the machine, then time the same code in fresh processes, and tell after each step.

    Closing the iterator, as Ctrl-C does, ends the process that is running.

    Parameters
    ----------
    seconds : float
        For the timing; 0 leaves it out.
    look_s : float
        How long to watch what else runs.
    draw : callable
        ``(number, threads) -> Draw``, in a process of its own.
    """
    draw = draw or draw_in_process
    evidence = Evidence(asked_s=seconds)
    yield Step(evidence, "reading how the machine is set up")
    evidence = replace(
        evidence,
        facts=environment.machine_facts(),
        driver=environment.has_nvidia_driver(),
        gpus=tuple(environment.gpus()),
        gpu_processes=tuple(environment.gpu_processes()),
        cached=tuple(cached_libraries()),
    )
    yield Step(evidence, f"watching for {look_s:g} s what else runs")
    before = environment.moment()
    time.sleep(look_s)
    evidence = replace(evidence, before=before, after=environment.moment(), overhead=overhead())
    doing = f"timing {len(CELLS)} workloads in fresh processes for {seconds:g} s"
    yield Step(evidence, f"{doing} (--seconds 0 leaves it out)" if seconds else "")
    if seconds:
        yield from _trial(evidence, seconds, draw)


def _trial(
    evidence: Evidence, seconds: float, draw: Callable[[int, int | None], Draw | Failure]
) -> Generator[Step]:
    modes = thread_modes(evidence.facts)
    evidence = replace(evidence, trial_before=environment.moment())
    begin_s, begin_cpu_s = time.monotonic(), time.process_time()
    draws: list[Draw] = []
    while time.monotonic() - begin_s < seconds:
        answer = draw(len(draws), modes[len(draws) % len(modes)])
        if isinstance(answer, Failure):
            yield Step(replace(evidence, failure=answer), "gave up")
            return
        draws.append(answer)
        evidence = replace(
            evidence,
            draws=tuple(draws),
            trial_after=environment.moment(),
            own_cpu_s=time.process_time() - begin_cpu_s + sum(draw.cpu_s for draw in draws),
        )
        elapsed_s = time.monotonic() - begin_s
        doing = f"{len(draws)} processes in {elapsed_s:.0f} of {seconds:g} s"
        yield Step(evidence, doing, again=True)


def thread_modes(facts: Mapping[str, Any]) -> tuple[int | None, ...]:
    """With how many threads to time: one, and as many as the libraries like if that is more."""
    settings = facts.get("thread_settings", {})
    limited = settings.get("OPENBLAS_NUM_THREADS", settings.get("OMP_NUM_THREADS")) == "1"
    return (1,) if limited or facts.get("logical_cores", 1) == 1 else (1, None)


def draw_in_process(number: int, threads: int | None) -> Draw | Failure:
    """Time every cell in a new interpreter.

    It is not forked: libraries choose the number of their threads when they are loaded.
    """
    child = None
    try:
        with _uninterrupted():
            child = Child(_time_cells, (number,), threads)
        answer: Any = child.receive(START_TIMEOUT_S)
    finally:
        if child is not None:
            with _uninterrupted():
                child.close()
    return answer if isinstance(answer, Failure) else Draw(threads, *answer)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait until a process is started, or ended with all that belongs to it."""
    if threading.current_thread() is not threading.main_thread():
        yield  # no signal comes here
        return
    noted: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: noted.append(number))
    try:
        with _blocked():
            yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if noted:
        raise KeyboardInterrupt


@contextlib.contextmanager
def _blocked() -> Iterator[None]:
    """Let a process that is started meanwhile not die of Ctrl-C, with a traceback of its own.

    It inherits what is blocked. :mod:`multiprocessing` blocks nothing any more after it has started
    its helper, so that has to come first.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _time_cells(number: int, pipe: Connection) -> None:
    """Send the medians, the spreads and the processor time."""
    backend = open_backend(Target("numpy", "", "cpu"))
    medians_s, spreads = {}, {}
    names = list(CELLS)
    turn = number % len(names)
    for name in names[turn:] + names[:turn]:  # none of them always comes first
        inputs = make_inputs(CELLS[name], "float32", Fill.NORMAL, seed=0)
        run = backend.build(CELLS[name], inputs.weights)
        x = backend.to_device(inputs.x)
        timing = measure(run, x, backend.synchronize, budget_s=BUDGET_S)
        medians_s[name] = statistics.median(timing.samples_s)
        spreads[name] = half_range(timing.samples_s) / medians_s[name]
    pipe.send((medians_s, spreads, time.process_time()))


def cached_libraries(names: Sequence[str] = _LIBRARIES) -> Iterator[Cached]:
    """How much of the shared objects of the libraries that are installed is in memory.

    None of them is imported. What the system does not tell is left out: since Linux 5.2 only those
    who could write a file learn which of its pages are there.
    """
    for name in names:
        spec = importlib.util.find_spec(name)
        folders = [Path(place) for place in (spec and spec.submodule_search_locations) or ()]
        paths = {
            path.resolve()
            for folder in folders
            for top, pattern in (
                (folder, "*.so*"),
                (folder, "*/*.so*"),
                (folder, "*/lib/*.so*"),
                (folder.with_name(f"{name}.libs"), "*.so*"),
            )
            for path in top.glob(pattern)
        }
        counted = [pages for path in sorted(paths) if (pages := resident_bytes(path)) is not None]
        if counted:
            resident, total = (sum(numbers) for numbers in zip(*counted, strict=True))
            yield Cached(name, resident, total)


def resident_bytes(path: Path) -> tuple[int, int] | None:
    """How many bytes of a file are in memory, and how many it has; None if that is not told."""
    try:
        mincore = ctypes.CDLL(None, use_errno=True).mincore
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
            if not (facts.st_size and (facts.st_uid == os.geteuid() or os.access(path, os.W_OK))):
                return None
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                view = np.frombuffer(mapped, np.uint8)
                pages = np.zeros(-(-facts.st_size // mmap.PAGESIZE), np.uint8)
                code = mincore(
                    ctypes.c_void_p(view.ctypes.data),
                    ctypes.c_size_t(facts.st_size),
                    ctypes.c_void_p(pages.ctypes.data),
                )
                del view  # or the mapping could not be closed
    except (OSError, AttributeError, TypeError, ValueError):  # another system, or no such file
        return None
    resident = int((pages & 1).sum()) * mmap.PAGESIZE
    return None if code else (min(resident, facts.st_size), facts.st_size)


# -- counting --------------------------------------------------------------------------------------


def half_range(values: Sequence[float]) -> float:
    """Half the distance between the quartiles.

    Examples
    --------
    >>> half_range([1.0, 2.0, 3.0, 4.0, 5.0])
    1.0
    """
    low, high = np.quantile(np.asarray(values, float), [0.25, 0.75])
    return float(high - low) / 2


def robust_deviation(values: FloatArray) -> float:
    """Standard deviation from the median distance to the median, as outliers leave it alone.

    The factor 1.4826 makes it that of a normal distribution (P. J. Rousseeuw and C. Croux,
    Alternatives to the Median Absolute Deviation, J. Am. Stat. Assoc. 88, 1993).
    """
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def resample(
    logs: FloatArray, group: int = GROUP, times: int = RESAMPLINGS, seed: int = 0
) -> tuple[FloatArray, FloatArray]:
    """Split the processes at random into two groups, again and again: A/A comparisons.

    Drawn without replacement, so that the variance of a difference is that of two new groups, no
    matter how many processes there are. The order in time is lost: this is what processes show that
    alternate. Where all of one side come first, a machine that drifts adds to it.

    Parameters
    ----------
    logs : array of float
        Logarithm of each process's median, at least ``2 * group``.

    Returns
    -------
    difference, error : arrays of float of shape (times,)
        Difference of the means of the two groups, and the standard error that the two show.
    """
    random = np.random.default_rng(seed)
    order = random.permuted(np.tile(np.arange(len(logs)), (times, 1)), axis=1)
    first, second = logs[order[:, :group]], logs[order[:, group : 2 * group]]
    variance = first.var(axis=1, ddof=1) + second.var(axis=1, ddof=1)
    return second.mean(axis=1) - first.mean(axis=1), np.sqrt(variance / group)


def smallest_effect(difference: FloatArray, error: FloatArray) -> float:
    """The smallest slow-down that comparisons with this noise find, with probability `POWER`.

    A slow-down is claimed where the difference exceeds t standard errors, and t is what identical
    code exceeds in 1 - `CONFIDENCE` of the comparisons: Student's quantile, but taken from the
    resampled comparisons themselves.

    Parameters
    ----------
    difference, error : arrays of float
        From :func:`resample`.

    Returns
    -------
    float
        0.1 for a slow-down by 10 %.
    """
    error = np.maximum(error, 1e-9)
    claimed_from = np.quantile(np.abs(difference) / error, CONFIDENCE) * error
    return float(np.expm1(np.quantile(claimed_from - difference, POWER)))


def summarise(draws: Sequence[Draw]) -> Iterator[Series]:
    """Turn draws into one series for each cell and number of threads."""
    for threads in dict.fromkeys(draw.threads for draw in draws):
        alike = [draw for draw in draws if draw.threads == threads]
        for workload in CELLS:
            logs = np.log([draw.medians_s[workload] for draw in alike])
            beyond_5 = beyond_10 = effect = math.nan
            if len(alike) >= 2 * GROUP:
                difference, error = resample(logs)
                beyond_5, beyond_10 = (
                    float(np.mean(np.abs(difference) > math.log1p(share))) for share in (0.05, 0.10)
                )
                effect = smallest_effect(difference, error)
            median = np.median(logs)
            yield Series(
                workload,
                threads,
                len(alike),
                median_s=float(np.exp(median)),
                within=statistics.median(draw.spreads[workload] for draw in alike),
                between=robust_deviation(logs),
                fastest=float(np.expm1(logs.min() - median)),
                slowest=float(np.expm1(logs.max() - median)),
                beyond_5=beyond_5,
                beyond_10=beyond_10,
                effect=effect,
            )


def shares(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[float, float] | None:
    """How busy all cores of the machine were, and how often the host took them: from 0 to 1.

    None if the moments do not say.
    """
    names = ("cpu_total_jiffies", "cpu_idle_jiffies", "cpu_steal_jiffies")
    try:
        total, idle, steal = (after[name] - before[name] for name in names)
    except KeyError:
        return None
    return ((total - idle - steal) / total, steal / total) if total > 0 else None


# -- judging ---------------------------------------------------------------------------------------


def diagnose(evidence: Evidence) -> Diagnosis:
    """Judge what was seen, be it all of it or not."""
    series = tuple(summarise(evidence.draws))
    findings: list[Finding] = []
    if evidence.facts:
        findings += judge_cores(evidence)
        findings += judge_clocks(evidence.facts)
        findings += judge_memory(evidence)
        findings += judge_cached(evidence.cached)
    if evidence.driver is not None:
        findings += judge_gpus(evidence)
    if evidence.overhead is not None:
        findings.append(judge_timer(evidence, series))
    findings += judge_trial(evidence, series)
    return Diagnosis(evidence, tuple(findings), series)


def _level(value: float, good: float, bad: float) -> Level:
    """Up to `good`, up to `bad`, or beyond."""
    if value <= good:
        return Level.GOOD
    return Level.CARE if value <= bad else Level.BAD


def judge_cores(evidence: Evidence) -> Iterator[Finding]:
    """Who else uses the cores, how many there are, and how many threads will be started."""
    facts = evidence.facts
    cores = facts.get("machine_cores", facts["logical_cores"])
    watched = shares(evidence.before, evidence.after)
    tried = shares(evidence.trial_before, evidence.trial_after)
    if watched:
        quiet = watched[0] * cores
        others = [quiet]
        found = f"others use {quiet:.2f} of {cores} cores while nothing is asked of the machine"
        if tried:
            elapsed_s = evidence.trial_after["unix_s"] - evidence.trial_before["unix_s"]
            others.append(max(0.0, tried[0] * cores - evidence.own_cpu_s / elapsed_s))
            found += f", {others[1]:.2f} during the timing"
        if "load_1min" in evidence.before:
            found += f"; load average {evidence.before['load_1min']:.2f} over a minute"
            found += f", {evidence.before['load_5min']:.2f} over five"
        level = _level(max(others) / cores, _GOOD_LOAD, _BAD_LOAD)
        to_do = "See with `top` what it is, and end it or wait." if level is not Level.GOOD else ""
        yield Finding(level, "load", found, to_do)
        steal = max(share[1] for share in (watched, tried) if share)
        if steal or facts.get("virtualised"):
            yield _judge_steal(steal, evidence.before)
    yield _judge_quota(evidence)
    yield _judge_threads(facts)


def _judge_steal(steal: float, before: Mapping[str, Any]) -> Finding:
    since = before["cpu_steal_jiffies"] / max(1, before["cpu_total_jiffies"])
    found = (
        f"the host took {_percent(steal)} of the processor time for others"
        f" ({_percent(since)} since the machine was started)"
    )
    level = _level(steal, _GOOD_STEAL, _BAD_STEAL)
    to_do = "Take another hour, or a machine of your own: nothing inside this one changes it."
    return Finding(level, "steal", found, to_do if level is not Level.GOOD else "")


def _judge_quota(evidence: Evidence) -> Finding:
    facts = evidence.facts
    cores, quota = facts["logical_cores"], facts.get("cpu_quota_cores")
    pairs = ((evidence.before, evidence.after), (evidence.trial_before, evidence.trial_after))
    stopped_s = sum(
        after["cpu_throttled_s"] - before["cpu_throttled_s"]
        for before, after in pairs
        if "cpu_throttled_s" in before and "cpu_throttled_s" in after
    )
    found = f"{cores} cores may be used, "
    found += "without a quota" if quota is None else f"with a quota of {quota:g}"
    threads = max(1, math.floor(quota)) if quota else "fewer than that"
    to_do = (
        f"Set OPENBLAS_NUM_THREADS, OMP_NUM_THREADS and TF_NUM_INTRAOP_THREADS to {threads}, or"
        " start the container without a quota (--cpuset-cpus gives it cores of its own instead)."
    )
    if stopped_s > 0:
        who = "one that cannot be seen from here" if quota is None else "it"
        found += f"; {who} stopped this group for {stopped_s:.2f} s during the examination"
        return Finding(Level.BAD, "quota", found, to_do)
    if quota is None or quota >= cores:
        return Finding(Level.GOOD, "quota", found)
    found += ": with more threads than that all of them are stopped for a part of every 100 ms"
    return Finding(Level.CARE if _limit(facts) <= quota else Level.BAD, "quota", found, to_do)


def _limit(facts: Mapping[str, Any]) -> int:
    """How many threads NumPy's BLAS starts at most, as far as the environment says."""
    settings = facts.get("thread_settings", {})
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        if settings.get(name, "").isdecimal():
            return int(settings[name])
    return int(facts["logical_cores"])


def _judge_threads(facts: Mapping[str, Any]) -> Finding:
    cores, settings = facts["logical_cores"], dict(facts.get("thread_settings", {}))
    written = ", ".join(f"{name}={value}" for name, value in settings.items())
    core_type = settings.pop("OPENBLAS_CORETYPE", None)
    if not written:
        found = f"none is set: each library starts as many threads as there are cores ({cores})"
        return Finding(Level.GOOD, "threads", found)
    if any(value.isdecimal() and int(value) > cores for value in settings.values()):
        found = f"{written}: more than the {cores} cores there are, so that threads wait for others"
        return Finding(Level.BAD, "threads", found, f"Set none of them above {cores}.")
    if core_type is not None:
        return Finding(
            Level.CARE, "threads", f"{written}: OpenBLAS computes as for that processor, not this",
            "Unset OPENBLAS_CORETYPE unless it is what you measure.",
        )  # fmt: skip
    values = {settings.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    if len(values - {None}) > 1:
        return Finding(
            Level.CARE, "threads", f"{written}: libraries get different numbers of threads",
            "Give both the same number, or two libraries are compared that do not use the same.",
        )  # fmt: skip
    return Finding(Level.GOOD, "threads", written)


def judge_clocks(facts: Mapping[str, Any]) -> Iterator[Finding]:
    """How steady the cores' clocks are: governor, turbo, SMT, or the host that hides them."""
    virtual = facts.get("virtualised")
    if virtual:
        found = "a virtual machine: the clock of its cores, and who shares them, is up to the host"
        to_do = "Compare only what was measured in alternation, and believe the A/A line."
        yield Finding(Level.CARE, "host", found, to_do)
    if governors := facts.get("governors"):
        if governors == ["performance"]:
            yield Finding(Level.GOOD, "governor", "performance")
        else:
            found = f"{', '.join(governors)}: the clock follows the load, with a delay"
            to_do = "`sudo cpupower frequency-set -g performance`"
            yield Finding(Level.CARE, "governor", found, to_do)
    if facts.get("turbo"):
        fastest = f", up to {facts['cpu_max_mhz']:.0f} MHz" if "cpu_max_mhz" in facts else ""
        found = f"on{fastest}: the clock depends on the temperature and on how many cores work"
        to_do = (
            "Off is slower and steadier: `echo 1 | sudo tee"
            " /sys/devices/system/cpu/intel_pstate/no_turbo`, or `echo 0` into cpufreq/boost there."
        )
        yield Finding(Level.CARE, "turbo", found, to_do)
    elif "turbo" in facts:
        yield Finding(Level.GOOD, "turbo", "off")
    if virtual or "smt" not in facts:
        return
    if facts["smt"]:
        physical = facts.get("physical_cores", "fewer")
        found = f"on: {facts['logical_cores']} logical cores are {physical} real ones"
        to_do = (
            "Give the libraries no more threads than real cores, or turn it off: `echo off | sudo"
            " tee /sys/devices/system/cpu/smt/control`."
        )
        yield Finding(Level.CARE, "SMT", found, to_do)
    else:
        yield Finding(Level.GOOD, "SMT", "off")


def judge_memory(evidence: Evidence) -> Iterator[Finding]:
    """Whether there is enough of it, and whether the machine swaps."""
    limit = evidence.facts.get("memory_limit_bytes", math.inf)
    moments = [evidence.before, evidence.after, evidence.trial_before, evidence.trial_after]
    free = [m["memory_available_bytes"] for m in moments if "memory_available_bytes" in m]
    if not free:
        return
    least = min(*free, limit)
    total = min(evidence.facts.get("memory_bytes", math.inf), limit)
    found = f"{_gib(least)} of {_gib(total)} available"
    swapped = [m["swapped_pages"] for m in moments if "swapped_pages" in m]
    moved = swapped[-1] - swapped[0] if swapped else 0
    used = max(m.get("swap_used_bytes", 0) for m in moments)
    if moved:
        found += f"; {moved} pages were swapped in or out during the examination"
    elif used:
        found += f"; {_gib(used)} are swapped out and stayed there"
    else:
        found += ", nothing is swapped out"
    level = Level.BAD if moved else _level(-least, -_GOOD_MEMORY_BYTES, -_BAD_MEMORY_BYTES)
    to_do = (
        "End what takes it, or a benchmark measures the disk." if level is not Level.GOOD else ""
    )
    yield Finding(level, "memory", found, to_do)


def judge_cached(cached: Sequence[Cached]) -> Iterator[Finding]:
    """Whether the libraries have to be read from the disk when they are first imported."""
    if not cached:
        return
    cold = [library for library in cached if library.share < _COLD]
    partly = [library for library in cached if _COLD <= library.share < _WARM]
    said = ", ".join(
        f"{library.share * 100:.0f} % of {library.library}'s {library.total_bytes / 2**20:.0f} MiB"
        for library in cached
    )
    if not cold and not partly:
        found = f"warm: in memory are {said}; an import needs about a third"
        yield Finding(Level.GOOD, "page cache", found)
        return
    names = ", ".join(library.library for library in (*cold, *partly))
    state = "cold" if cold else "partly warm"
    found = f"{state}: in memory are {said}; the next import of {names} reads the disk"
    to_do = "Import each once before anything is timed, or what runs then is disturbed."
    yield Finding(Level.CARE, "page cache", found, to_do)


def judge_timer(evidence: Evidence, series: Sequence[Series]) -> Finding:
    """What the clock can tell apart, and what the measuring itself costs."""
    assert evidence.overhead is not None
    cost = evidence.overhead
    source = evidence.facts.get("clock_source")
    level = _level(max(cost.resolution_s, cost.clock_s) / MIN_SAMPLE_S, _GOOD_CLOCK, _BAD_CLOCK)
    found = (
        f"the clock{f' ({source})' if source else ''} steps by {cost.resolution_s * 1e9:.0f} ns and"
        f" takes {cost.clock_s * 1e9:.0f} ns to read; the loop adds {cost.call_s * 1e9:.0f} ns to"
        " a call"
    )
    if series:
        shortest_s = min(one.median_s for one in series)
        found += f", {_percent(cost.call_s / shortest_s)} of the shortest ({_time(shortest_s)})"
    to_do = (
        ""
        if level is Level.GOOD
        else "The kernel has given up its fast clock (see `dmesg | grep -i clocksource`): restart"
        " the machine, or ask the host's owner for tsc."
    )
    return Finding(level, "timer", found, to_do)


def judge_gpus(evidence: Evidence) -> Iterator[Finding]:
    """Who else is on the cards, and at which clocks they run."""
    if not evidence.driver:
        yield Finding(Level.GOOD, "GPU", "there is no NVIDIA driver; the CPU is what is measured")
        return
    if not evidence.gpus:
        yield Finding(
            Level.CARE, "GPU", "there is an NVIDIA driver, but `nvidia-smi` shows no card",
            "Run `nvidia-smi` and see why; without it clocks and other users stay unknown.",
        )  # fmt: skip
    for card in evidence.gpus:
        yield _judge_users(card, evidence.gpu_processes)
        yield _judge_speed(card)


def _judge_users(card: Mapping[str, Any], processes: Sequence[Mapping[str, Any]]) -> Finding:
    topic = f"GPU {card.get('index', '?')}"
    found = f"{card.get('name', 'unnamed')}, driver {card.get('driver', 'unknown')}"
    free, total = card.get("memory_free_mib"), card.get("memory_total_mib")
    taken = 0.0
    if free is not None and total:
        found += f", {free} of {total} MiB free"
        taken = 1 - free / total
    holders = holders_in_words(card, processes)
    busy = card.get("utilization_percent", 0)
    if not holders and taken <= 1 - _MOSTLY_FREE and busy < _COMPUTING_PERCENT:
        return Finding(Level.GOOD, topic, f"{found}; nobody else uses it")
    found += f", {busy} % busy; held by {holders or 'somebody who cannot be seen from here'}"
    bad = busy >= _COMPUTING_PERCENT or taken > 1 - _MOSTLY_TAKEN
    return Finding(
        Level.BAD if bad else Level.CARE,
        topic,
        found,
        "End that, or choose another card with CUDA_VISIBLE_DEVICES: what shares a card is neither"
        " steady nor has all of its memory.",
    )


def _judge_speed(card: Mapping[str, Any]) -> Finding:
    topic = f"GPU {card.get('index', '?')} clock"
    said = []
    if "sm_clock_mhz" in card:
        said.append(f"{card['sm_clock_mhz']} MHz now, up to {card.get('sm_clock_max_mhz', '?')}")
    if "temperature_c" in card:
        said.append(f"{card['temperature_c']} degrees C")
    if "power_w" in card:
        limit = f" of {card['power_limit_w']:.0f}" if "power_limit_w" in card else ""
        said.append(f"{card['power_w']:.0f}{limit} W")
    reasons = set(card.get("throttling", ()))
    level, to_do = Level.GOOD, []
    if slowed := sorted(reasons & _SLOWED):
        level = Level.BAD
        said.append("slowed down: " + ", ".join(slowed))
        to_do.append("Let it cool, and see to its cooling and power supply.")
    elif limited := sorted(reasons & _LIMITED):
        level = Level.CARE
        said.append("limited: " + ", ".join(limited))
        to_do.append("A lower fixed clock is steadier: `sudo nvidia-smi --lock-gpu-clocks=MHZ`.")
    elif card.get("temperature_c", 0) >= _HOT_C:
        level = Level.CARE
        to_do.append("Let it cool: it is about to lower its clock.")
    if card.get("persistence") is False:
        level = max(level, Level.CARE, key=list(Level).index)
        said.append("persistence mode off")
        to_do.append(
            "`sudo nvidia-smi -pm 1`: otherwise the first process wakes the driver each time."
        )
    return Finding(level, topic, "; ".join(said) or "not told", " ".join(to_do))


def judge_trial(evidence: Evidence, series: Sequence[Series]) -> Iterator[Finding]:
    """How far identical code differs from itself, and what can therefore be seen."""
    if evidence.failure is not None:
        found = f"a process that timed failed: {evidence.failure.reason}"
        yield Finding(Level.BAD, "A/A", found, evidence.failure.remedy)
    alike: dict[int | None, list[Series]] = {}
    for one in series:
        alike.setdefault(one.threads, []).append(one)
    worst = {threads: max(some, key=lambda one: one.effect) for threads, some in alike.items()}
    for threads, one in worst.items():
        topic = "A/A, all threads" if threads is None else f"A/A, {threads} thread"
        if one.processes < 2 * GROUP:
            found = f"{one.processes} processes are too few to draw two groups of {GROUP} from"
            yield Finding(Level.CARE, topic, found, "Give it more time: --seconds 60.")
            continue
        found = (
            f"{one.processes} processes of the same code: {_percent(one.between)} between them"
            f" (robust SD, {_range(one)} at the extremes), {_percent(one.within)} inside one."
            f" {GROUP} against {GROUP} are more than 5 % apart in {_percent(one.beyond_5)} of"
            f" comparisons, more than 10 % in {_percent(one.beyond_10)}; slow-downs from"
            f" {_percent(one.effect)} on are found (the worst of {len(alike[threads])}:"
            f" {one.workload})"
        )
        to_do = _more_processes(one.effect)
        if threads is None and 1 in worst and worst[1].effect < min(one.effect / 2, _BAD_EFFECT):
            to_do += " OPENBLAS_NUM_THREADS=1 makes this machine much steadier."
        yield Finding(_level(one.effect, _GOOD_EFFECT, _BAD_EFFECT), topic, found, to_do)


def _more_processes(effect: float) -> str:
    """The error falls with the square root of the number of processes."""
    if effect <= _GOOD_EFFECT:
        return ""
    needed = math.ceil(GROUP * (math.log1p(effect) / math.log1p(_GOOD_EFFECT)) ** 2)
    if needed > _MOST_PROCESSES:
        return "More processes do not mend that: see what disturbs it first."
    return f"To find {_percent(_GOOD_EFFECT)}, measure in {needed} processes a side."


# -- showing ---------------------------------------------------------------------------------------

_STYLE = {Level.GOOD: "green", Level.CARE: "yellow", Level.BAD: "bold red"}
_VERDICT_STYLE = {Verdict.FIT: "green", Verdict.CARE: "yellow", Verdict.UNFIT: "bold red"}


def render(diagnosis: Diagnosis, *, interrupted: bool = False) -> RenderableType:
    """Lay out the findings, the figures of the timing, and the verdict."""
    lines = Table.grid(padding=(0, 2))
    lines.add_column(no_wrap=True)
    lines.add_column(no_wrap=True)
    lines.add_column()
    for finding in diagnosis.findings:
        text = ". ".join(filter(None, (finding.found, finding.to_do)))
        lines.add_row(Text(finding.level, style=_STYLE[finding.level]), finding.topic, Text(text))
    facts = diagnosis.evidence.facts
    parts: list[RenderableType] = [Text(_machine(facts), style="bold"), lines] if facts else []
    if diagnosis.series:
        parts += [Text(), _table(diagnosis.series), Text(_LEGEND, style="dim"), Text()]
    counts = ", ".join(
        f"{sum(finding.level is level for finding in diagnosis.findings)} {level}"
        for level in reversed(Level)
    )
    verdict = f"{diagnosis.verdict}: {counts}"
    if interrupted:
        verdict += "; interrupted, so there is more that was not looked at"
    elif not diagnosis.evidence.asked_s:
        verdict += "; nothing was timed, and settings alone do not show how steady a machine is"
    parts.append(Text(verdict, style=_VERDICT_STYLE[diagnosis.verdict]))
    return Group(*parts)


def _percent(share: float) -> str:
    if math.isnan(share):
        return "-"
    return f"{share * 100:.2g} %" if share < 0.1 else f"{share * 100:.0f} %"


def _table(series: Sequence[Series]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    table.add_column("the same code", no_wrap=True)
    titles = ("threads", "n", "median", "inside", "between", "extremes", "> 5 %", "> 10 %", "finds")
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for one in series:
        shares = (one.beyond_5, one.beyond_10, one.effect)
        table.add_row(
            one.workload,
            "all" if one.threads is None else str(one.threads),
            str(one.processes),
            _time(one.median_s),
            _percent(one.within),
            _percent(one.between),
            _range(one),
            *map(_percent, shares),
        )
    return table


_LEGEND = (
    "n processes. inside: half the range between the quartiles of one. between: robust SD of their"
    f" medians. > 5 %: how often {GROUP} against {GROUP} processes are so far apart. finds: the"
    f" smallest slow-down that {GROUP} against {GROUP} show in {_percent(POWER)} of comparisons, at"
    f" {_percent(CONFIDENCE)} confidence."
)


def _machine(facts: Mapping[str, Any]) -> str:
    size = facts.get("memory_bytes")
    return ", ".join(
        str(part)
        for part in (
            facts.get("cpu_model"),
            f"{facts['logical_cores']} of {facts.get('machine_cores', '?')} cores",
            _gib(size) if size else None,
            facts.get("os"),
            facts.get("kernel"),
            facts.get("python"),
        )
        if part
    )


def _range(one: Series) -> str:
    return f"{one.fastest * 100:+.0f}..{one.slowest * 100:+.0f} %"


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"
