"""What was seen of a machine, and what it amounts to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from convbench.measuring.timing import Overhead
from convbench.stimulus.spec import ConvSpec, PipelineSpec
from convbench.words.status import Exit, Outcome

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

GROUP = 5
"""Processes on each side of a comparison: what `convbench bench` takes."""

CONFIDENCE = 0.95
POWER = 0.9
"""A slow-down counts as found if it shows in so many of the comparisons."""


def blas_threads(facts: Mapping[str, Any]) -> int:
    """How many threads NumPy's BLAS starts at most, as far as the environment says."""
    cores, settings = int(facts["logical_cores"]), facts.get("thread_settings", {})
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        if settings.get(name, "").isdecimal():
            return min(int(settings[name]), cores)
    return cores


class Level(StrEnum):
    """How much a finding disturbs."""

    GOOD = "good"
    CARE = "care"
    BAD = "bad"


class Fitness(StrEnum):
    """What all findings amount to: the worst of them."""

    FIT = "fit"
    CARE = "usable with care"
    UNFIT = "unfit"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the diagnosis: what is so, with figures, and what would change it."""

    level: Level
    topic: str
    found: str
    to_do: str = ""


@dataclass(frozen=True, slots=True)
class Draw:
    """One fresh process in which every cell was timed.

    Attributes
    ----------
    threads : int, optional
        What the libraries were limited to; None if they were left alone.
    spreads : dict of str to float
        For each cell half the range between the quartiles of its samples, as a share of the median.
    cpu_s : float
        Processor time of the process, its start included.
    versions : dict of str to str
        Of the libraries.
    """

    threads: int | None
    medians_s: Mapping[str, float]
    spreads: Mapping[str, float]
    cpu_s: float
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Noise:
    """What fresh processes say of one cell, all of them of the same code.

    Attributes
    ----------
    within : float
        The median of `Draw.spreads`.
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
    before, after : dict
        Moments before and after a while in which nothing was asked of the machine.
    driver : bool, optional
        Whether there is an NVIDIA driver.
    asked_s : float
        How long to time; 0 for not at all.
    trial_before, trial_after : dict
        Moments before the first of the draws and after the last.
    own_cpu_s : float
        Processor time that the trial itself took between the two.
    failure : Outcome, optional
        Why a process did not answer. None is started after it.
    """

    facts: Mapping[str, Any] = field(default_factory=dict)
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
    driver: bool | None = None
    gpus: tuple[Mapping[str, Any], ...] = ()
    gpu_processes: tuple[Mapping[str, Any], ...] = ()
    overhead: Overhead | None = None
    asked_s: float = 0.0
    draws: tuple[Draw, ...] = ()
    trial_before: Mapping[str, Any] = field(default_factory=dict)
    trial_after: Mapping[str, Any] = field(default_factory=dict)
    own_cpu_s: float = 0.0
    failure: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """How far an examination is.

    Attributes
    ----------
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
    noise: tuple[Noise, ...]

    @property
    def fitness(self) -> Fitness:
        """The worst of the findings decides."""
        levels = {finding.level for finding in self.findings}
        if Level.BAD in levels:
            return Fitness.UNFIT
        return Fitness.CARE if Level.CARE in levels else Fitness.FIT

    def exit_code(self) -> Exit:
        """SLOWER, which is 1, if the machine is unfit."""
        return Exit.SLOWER if self.fitness is Fitness.UNFIT else Exit.OK

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        evidence = self.evidence
        return {
            "verdict": str(self.fitness),
            "findings": [asdict(finding) for finding in self.findings],
            "facts": evidence.facts,
            "before": evidence.before,
            "after": evidence.after,
            "nvidia_driver": evidence.driver,
            "gpus": evidence.gpus,
            "gpu_processes": evidence.gpu_processes,
            "timer": asdict(evidence.overhead) if evidence.overhead else None,
            "calibration": {
                "asked_s": evidence.asked_s,
                "group": GROUP,
                "confidence": CONFIDENCE,
                "power": POWER,
                "before": evidence.trial_before,
                "after": evidence.trial_after,
                "own_cpu_s": evidence.own_cpu_s,
                "failure": evidence.failure.reason if evidence.failure else None,
                "series": [asdict(noise) for noise in self.noise],
                "draws": [asdict(draw) for draw in evidence.draws],
            },
        }
