"""Is this machine fit to measure? What disturbs a benchmark, with figures and what to do about it.

First the machine is looked at: what runs on it besides, and how its cores, its clocks, its memory
and its GPUs are set. Then it is tried: the same code is timed in many fresh processes. As nothing
differs between them, every difference is noise: this A/A spread is what settings only suggest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from convbench.machine.nvidia import holders_in_words
from convbench.measuring.doctor.evidence import (
    GROUP,
    Diagnosis,
    Evidence,
    Finding,
    Level,
    Noise,
    blas_threads,
)
from convbench.measuring.doctor.noise import summarise
from convbench.measuring.doctor.show import extremes
from convbench.measuring.timing import MIN_SAMPLE_S, Overhead
from convbench.results.sessions import SLOWED
from convbench.words.numbers import duration, share, size

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

_COMPUTING_PERCENT = 10
_HOT_C = 85
_MOSTLY_FREE, _MOSTLY_TAKEN = 0.9, 0.1

_MOST_PROCESSES = 50
"""More of them than that nobody waits for."""

_LIMITED = {"sw_power_cap", "sync_boost", "display_clock_setting"}


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


def diagnose(evidence: Evidence) -> Diagnosis:
    """Judge what was seen, be it all of it or not."""
    noise = tuple(summarise(evidence.draws))
    findings: list[Finding] = []
    if evidence.facts:
        findings += judge_cores(evidence)
        findings += judge_clocks(evidence.facts)
        findings += judge_memory(evidence)
    if evidence.driver is not None:
        findings += judge_gpus(evidence)
    if evidence.overhead is not None:
        findings.append(judge_timer(evidence.overhead, evidence.facts.get("clock_source"), noise))
    findings += judge_trial(evidence, noise)
    return Diagnosis(evidence, tuple(findings), noise)


def _level(value: float, good: float, bad: float) -> Level:
    """Up to `good`, up to `bad`, or beyond."""
    if value <= good:
        return Level.GOOD
    return Level.CARE if value <= bad else Level.BAD


def _finding(level: Level, topic: str, found: str, to_do: str) -> Finding:
    """One that asks for nothing where all is well."""
    return Finding(level, topic, found, "" if level is Level.GOOD else to_do)


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
        yield _finding(level, "load", found, "See with `top` what it is, and end it or wait.")
        steal = max(moment[1] for moment in (watched, tried) if moment)
        if steal or facts.get("virtualised"):
            yield _judge_steal(steal, evidence.before)
    yield _judge_quota(evidence)
    yield _judge_threads(facts)


def _judge_steal(steal: float, before: Mapping[str, Any]) -> Finding:
    since = before["cpu_steal_jiffies"] / max(1, before["cpu_total_jiffies"])
    found = (
        f"the host took {share(steal)} of the processor time for others"
        f" ({share(since)} since the machine was started)"
    )
    level = _level(steal, _GOOD_STEAL, _BAD_STEAL)
    to_do = "Take another hour, or a machine of your own: nothing inside this one changes it."
    return _finding(level, "steal", found, to_do)


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
    return Finding(Level.CARE if blas_threads(facts) <= quota else Level.BAD, "quota", found, to_do)


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
    found = f"{size(least)} of {size(total)} available"
    swapped = [m["swapped_pages"] for m in moments if "swapped_pages" in m]
    moved = swapped[-1] - swapped[0] if swapped else 0
    used = max(m.get("swap_used_bytes", 0) for m in moments)
    if moved:
        found += f"; {moved} pages were swapped in or out during the examination"
    elif used:
        found += f"; {size(used)} are swapped out and stayed there"
    else:
        found += ", nothing is swapped out"
    level = Level.BAD if moved else _level(-least, -_GOOD_MEMORY_BYTES, -_BAD_MEMORY_BYTES)
    to_do = "End what takes it, or a benchmark measures the disk."
    yield _finding(level, "memory", found, to_do)


def judge_timer(cost: Overhead, source: str | None, noise: Sequence[Noise]) -> Finding:
    """What the clock can tell apart, and what the measuring itself costs."""
    level = _level(max(cost.resolution_s, cost.clock_s) / MIN_SAMPLE_S, _GOOD_CLOCK, _BAD_CLOCK)
    found = (
        f"the clock{f' ({source})' if source else ''} steps by {cost.resolution_s * 1e9:.0f} ns and"
        f" takes {cost.clock_s * 1e9:.0f} ns to read; the loop adds {cost.call_s * 1e9:.0f} ns to"
        " a call"
    )
    if noise:
        shortest_s = min(one.median_s for one in noise)
        found += f", {share(cost.call_s / shortest_s)} of the shortest ({duration(shortest_s)})"
    to_do = (
        "The kernel has given up its fast clock (see `dmesg | grep -i clocksource`): restart the"
        " machine, or ask the host's owner for tsc."
    )
    return _finding(level, "timer", found, to_do)


def judge_gpus(evidence: Evidence) -> Iterator[Finding]:
    """Who else is on the cards, and at which clocks they run."""
    if not evidence.driver:
        yield Finding(Level.GOOD, "GPU", "there is no NVIDIA driver; the CPU is what is measured")
        return
    if not evidence.gpus:
        yield Finding(
            Level.CARE, "GPU", "there is an NVIDIA driver, but it shows no card",
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
    to_do = (
        "End that, or choose another card with CUDA_VISIBLE_DEVICES: what shares a card is neither"
        " steady nor has all of its memory."
    )
    return Finding(Level.BAD if bad else Level.CARE, topic, found, to_do)


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
    if slowed := sorted(reasons & SLOWED):
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


def judge_trial(evidence: Evidence, noise: Sequence[Noise]) -> Iterator[Finding]:
    """How far identical code differs from itself, and what can therefore be seen."""
    if evidence.failure is not None:
        found = f"a process that timed failed: {evidence.failure.reason}"
        yield Finding(Level.BAD, "A/A", found, evidence.failure.remedy)
    alike: dict[int | None, list[Noise]] = {}
    for one in noise:
        alike.setdefault(one.threads, []).append(one)
    worst = {threads: max(some, key=lambda one: one.effect) for threads, some in alike.items()}
    for threads, one in worst.items():
        topic = "A/A, all threads" if threads is None else f"A/A, {threads} thread"
        if one.processes < 2 * GROUP:
            found = f"{one.processes} processes are too few to draw two groups of {GROUP} from"
            yield Finding(Level.CARE, topic, found, "Give it more time: --seconds 60.")
            continue
        found = (
            f"{one.processes} processes of the same code: {share(one.between)} between them"
            f" (robust SD, {extremes(one)} at the extremes), {share(one.within)} inside one."
            f" {GROUP} against {GROUP} are more than 5 % apart in {share(one.beyond_5)} of"
            f" comparisons, more than 10 % in {share(one.beyond_10)}; slow-downs from"
            f" {share(one.effect)} on are found (the worst of {len(alike[threads])}:"
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
    return f"To find {share(_GOOD_EFFECT)}, measure in {needed} processes a side."
