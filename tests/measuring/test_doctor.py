"""Is a machine fit to measure: judged on machines that are made up, and once on this one."""

from __future__ import annotations

import io
import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from convbench.machine import facts, nvidia
from convbench.measuring.doctor import calibrate, evidence, trial
from convbench.measuring.doctor.evidence import CELLS, GROUP, Draw, Evidence, Fitness, Level
from convbench.measuring.doctor.judge import diagnose, shares
from convbench.measuring.doctor.noise import resample, robust_deviation, smallest_effect, summarise
from convbench.measuring.doctor.show import render
from convbench.measuring.doctor.trial import draw_in_process, examine, thread_modes
from convbench.measuring.timing import Overhead
from convbench.results.calibration import Calibration
from convbench.results.folder import Folder
from convbench.stimulus.targets import Target
from convbench.stimulus.workloads import load
from convbench.words.status import Outcome, Status

from ..machine.test_facts import BARE_METAL, CARD, CPU, plant, plant_driver

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "convbench", "doctor"]

QUIET = {
    "unix_s": 1000.0,
    "load_1min": 0.02,
    "load_5min": 0.05,
    "cpu_total_jiffies": 100_000,
    "cpu_idle_jiffies": 99_000,
    "cpu_steal_jiffies": 0,
    "memory_available_bytes": 20 << 30,
    "swap_used_bytes": 0,
    "swapped_pages": 7,
}
FACTS = {
    "logical_cores": 2,
    "machine_cores": 2,
    "memory_bytes": 24 << 30,
    "python": "CPython 3.13.1",
    "thread_settings": {},
}


def later(seconds=1.0, busy=0.0, steal=0.0, cores=2, **changes):
    """A moment some time after `QUIET`, with a share of all cores busy or taken by the host."""
    total = round(seconds * 100 * cores)
    return QUIET | {
        "unix_s": QUIET["unix_s"] + seconds,
        "cpu_total_jiffies": QUIET["cpu_total_jiffies"] + total,
        "cpu_idle_jiffies": QUIET["cpu_idle_jiffies"] + round(total * (1 - busy - steal)),
        "cpu_steal_jiffies": QUIET["cpu_steal_jiffies"] + round(total * steal),
        **changes,
    }


def draws(spread=0.01, processes=40, threads=1, seed=1, times=1.0):
    """Processes whose medians differ by chance alone."""
    random = np.random.default_rng(seed)
    return tuple(
        Draw(
            threads,
            {name: times * 1e-3 * math.exp(random.normal(0, spread)) for name in CELLS},
            dict.fromkeys(CELLS, 0.004),
            cpu_s=0.5,
        )
        for _ in range(processes)
    )


GOOD = Evidence(
    facts=FACTS,
    before=QUIET,
    after=later(),
    driver=False,
    overhead=Overhead(40e-9, 50e-9, 60e-9),
    asked_s=30.0,
    draws=draws(),
    trial_before=QUIET,
    trial_after=later(30.0, busy=0.33),
    own_cpu_s=20.0,
)


def found(evidence, topic):
    """The one finding about a topic."""
    (finding,) = [f for f in diagnose(evidence).findings if f.topic == topic]
    return finding


# -- counting --------------------------------------------------------------------------------------


def test_the_cells_are_workloads() -> None:
    rows = {row.name: row for row in load()}
    for name, pipeline in CELLS.items():
        assert rows[name].pipeline == pipeline
        assert rows[name].tier == "smoke"


def test_the_robust_deviation() -> None:
    values = np.random.default_rng(0).normal(3, 0.2, 10_000)
    assert robust_deviation(values) == pytest.approx(0.2, rel=0.05)
    values[:1000] += 100
    assert robust_deviation(values) == pytest.approx(0.2, rel=0.2)


def truth(deviation, times=100_000):
    """Comparisons of two groups that are drawn anew each time."""
    random = np.random.default_rng(5)
    first, second = random.normal(0, deviation, (2, times, GROUP))
    variance = first.var(axis=1, ddof=1) + second.var(axis=1, ddof=1)
    return second.mean(axis=1) - first.mean(axis=1), np.sqrt(variance / GROUP)


@pytest.mark.parametrize("processes", [2 * GROUP, 15, 40])
@pytest.mark.parametrize("deviation", [0.01, 0.05])
def test_resampling_some_processes_is_like_drawing_new_ones(processes, deviation) -> None:
    random = np.random.default_rng(7)
    sets = [resample(random.normal(0, deviation, processes), times=500) for _ in range(100)]
    difference, _ = truth(deviation)
    assert np.std([d for d, _ in sets]) == pytest.approx(np.std(difference), rel=0.1)
    effect = smallest_effect(*truth(deviation))
    assert np.mean([smallest_effect(d, e) for d, e in sets]) == pytest.approx(effect, rel=0.15)


def test_a_slow_down_of_the_smallest_effect_is_found_as_often_as_promised() -> None:
    from scipy.stats import t

    difference, error = truth(0.05)
    slower = difference + math.log1p(smallest_effect(difference, error))
    claimed = slower / error > t.ppf(0.975, 2 * GROUP - 2)
    assert claimed.mean() == pytest.approx(evidence.POWER, abs=0.01)


def test_processes_that_agree_show_everything() -> None:
    assert smallest_effect(*resample(np.zeros(10))) == pytest.approx(0, abs=1e-6)


def test_resampling_is_repeatable() -> None:
    logs = np.log(np.arange(1.0, 21.0))
    assert np.array_equal(resample(logs), resample(logs))


def test_series() -> None:
    mixed = draws(0.05) + draws(0.2, threads=None, seed=2)
    series = {(one.workload, one.threads): one for one in summarise(mixed)}
    assert len(series) == 2 * len(CELLS)
    for name in CELLS:
        quiet, noisy = series[name, 1], series[name, None]
        assert quiet.processes == noisy.processes == 40
        assert quiet.within == 0.004
        assert quiet.median_s == pytest.approx(1e-3, rel=0.05)
        assert quiet.between == pytest.approx(0.05, rel=0.5)
        assert -0.3 < quiet.fastest < 0 < quiet.slowest < 0.3
        for measure in ("between", "slowest", "beyond_5", "beyond_10", "effect"):
            assert getattr(quiet, measure) < getattr(noisy, measure)
        assert 0 <= quiet.beyond_10 < quiet.beyond_5 < 1


def test_too_few_processes_are_not_resampled() -> None:
    for one in summarise(draws(processes=2 * GROUP - 1)):
        assert one.median_s > 0
        assert math.isnan(one.beyond_5)
        assert math.isnan(one.effect)


def test_shares() -> None:
    assert shares(QUIET, later(busy=0.25, steal=0.1)) == pytest.approx((0.25, 0.1))
    assert shares(QUIET, QUIET) is None
    assert shares({}, later()) is None


# -- judging ---------------------------------------------------------------------------------------


def test_a_quiet_machine_is_fit() -> None:
    diagnosis = diagnose(GOOD)
    assert {finding.level for finding in diagnosis.findings} == {Level.GOOD}
    assert diagnosis.fitness is Fitness.FIT
    assert diagnosis.exit_code() == 0


def test_the_worst_finding_decides() -> None:
    careful = replace(GOOD, facts=FACTS | {"virtualised": True})
    assert diagnose(careful).fitness is Fitness.CARE
    assert diagnose(careful).exit_code() == 0
    unfit = replace(careful, after=later(busy=0.5))
    assert diagnose(unfit).fitness is Fitness.UNFIT
    assert diagnose(unfit).exit_code() == 1


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({}, Level.GOOD, "others use 0.00 of 2 cores while nothing is asked of the machine, 0.00"),
        ({"after": later(busy=0.1)}, Level.CARE, "others use 0.20 of 2 cores"),
        ({"after": later(busy=0.6)}, Level.BAD, "others use 1.20 of 2 cores"),
        # 0.9 * 2 cores were busy for 30 s, and the timing itself took 34 s of that.
        ({"trial_after": later(30, busy=0.9), "own_cpu_s": 34.0}, Level.BAD, "0.67 during"),
        ({"trial_after": later(30, busy=0.9), "own_cpu_s": 53.0}, Level.GOOD, "0.03 during"),
        ({"trial_after": {}}, Level.GOOD, "while nothing is asked of the machine; load average"),
    ],
)  # fmt: skip
def test_load(changes, level, words) -> None:
    finding = found(replace(GOOD, **changes), "load")
    assert finding.level is level
    assert words in finding.found
    assert bool(finding.to_do) == (level is not Level.GOOD)


@pytest.mark.parametrize(
    ("steal", "level"), [(0.0, Level.GOOD), (0.01, Level.CARE), (0.2, Level.BAD)]
)
def test_steal(steal, level) -> None:
    virtual = replace(GOOD, facts=FACTS | {"virtualised": True})
    during = found(replace(virtual, trial_after=later(30, steal=steal)), "steal")
    assert during.level is level
    assert f"took {100 * steal:.2g} %" in during.found


def quota(cores, **settings):
    return FACTS | {"logical_cores": 8, "cpu_quota_cores": cores, "thread_settings": settings}


@pytest.mark.parametrize(
    ("facts", "stopped_s", "level", "words"),
    [
        (FACTS, None, Level.GOOD, "without a quota"),
        (FACTS, 0.25, Level.BAD, "without a quota; one that cannot be seen from here stopped"),
        (quota(8.0), 0.0, Level.GOOD, "8 cores may be used, with a quota of 8"),
        (quota(2.5), 0.0, Level.BAD, "8 cores may be used, with a quota of 2.5"),
        (quota(2.5, OMP_NUM_THREADS="2"), 0.0, Level.CARE, "every 100 ms"),
        (quota(2.5, OPENBLAS_NUM_THREADS="4"), 0.0, Level.BAD, "every 100 ms"),
        (quota(8.0), 0.25, Level.BAD, "stopped this group for 0.25 s"),
    ],
)
def test_quota(facts, stopped_s, level, words) -> None:
    before, after = QUIET, later()
    if stopped_s is not None:
        before, after = (
            before | {"cpu_throttled_s": 9.0},
            after | {"cpu_throttled_s": 9 + stopped_s},
        )
    finding = found(replace(GOOD, facts=facts, before=before, after=after), "quota")
    assert finding.level is level
    assert words in finding.found
    if facts.get("cpu_quota_cores") == 2.5 and level is not Level.GOOD:
        assert "to 2, or" in finding.to_do


@pytest.mark.parametrize(
    ("settings", "level", "words"),
    [
        ({}, Level.GOOD, "as many threads as there are cores (2)"),
        ({"OMP_NUM_THREADS": "1"}, Level.GOOD, "OMP_NUM_THREADS=1"),
        ({"OMP_NUM_THREADS": "16"}, Level.BAD, "more than the 2 cores"),
        ({"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "1"}, Level.CARE, "different numbers"),
        ({"OPENBLAS_CORETYPE": "HASWELL"}, Level.CARE, "OPENBLAS_CORETYPE=HASWELL"),
    ],
)
def test_threads(settings, level, words) -> None:
    finding = found(replace(GOOD, facts=FACTS | {"thread_settings": settings}), "threads")
    assert finding.level is level
    assert words in finding.found


@pytest.mark.parametrize(
    ("files", "topic", "level", "words"),
    [
        ({}, "governor", Level.CARE, "performance, powersave"),
        (
            {f"{CPU}/cpu{n}/cpufreq/scaling_governor": "performance" for n in range(3)},
            "governor", Level.GOOD, "performance",
        ),
        ({}, "turbo", Level.CARE, "on, up to 3900 MHz"),
        ({f"{CPU}/intel_pstate/no_turbo": "1"}, "turbo", Level.GOOD, "off"),
        ({}, "SMT", Level.CARE, "2 logical cores are 1 real ones"),
        ({f"{CPU}/smt/active": "0"}, "SMT", Level.GOOD, "off"),
        ({"proc/cpuinfo": "flags\t: hypervisor\n"}, "host", Level.CARE, "a virtual machine"),
    ],
)  # fmt: skip
def test_clocks(tmp_path, monkeypatch, files, topic, level, words) -> None:
    monkeypatch.setattr(facts, "_usable_cores", lambda: [0, 1])
    finding = found(
        replace(GOOD, facts=facts.machine_facts(plant(tmp_path, BARE_METAL | files))), topic
    )
    assert finding.level is level
    assert words in finding.found
    assert bool(finding.to_do) == (level is not Level.GOOD)


def test_what_a_host_hides_is_not_judged() -> None:
    facts = FACTS | {"virtualised": True, "smt": False}
    topics = {finding.topic for finding in diagnose(replace(GOOD, facts=facts)).findings}
    assert "host" in topics
    assert not topics & {"SMT", "governor", "turbo"}


@pytest.mark.parametrize(
    ("changes", "limit", "level", "words"),
    [
        ({}, None, Level.GOOD, "21.5 GB of 25.8 GB available, nothing is swapped out"),
        ({}, 2 << 30, Level.CARE, "2.15 GB of 2.15 GB"),
        ({"memory_available_bytes": 3 << 30}, None, Level.CARE, "3.22 GB"),
        ({"memory_available_bytes": 1 << 29}, None, Level.BAD, "537 MB"),
        ({"swap_used_bytes": 1 << 30}, None, Level.GOOD, "1.07 GB are swapped out and stayed"),
        ({"swapped_pages": 12}, None, Level.BAD, "5 pages were swapped in or out"),
    ],
)
def test_memory(changes, limit, level, words) -> None:
    facts = FACTS | ({"memory_limit_bytes": limit} if limit else {})
    end = later(30, busy=0.33, **changes)
    finding = found(replace(GOOD, facts=facts, trial_after=end), "memory")
    assert finding.level is level
    assert words in finding.found


@pytest.mark.parametrize(
    ("cost", "level"),
    [
        (Overhead(40e-9, 50e-9, 60e-9), Level.GOOD),
        (Overhead(1e-6, 2e-6, 3e-6), Level.CARE),
        (Overhead(40e-9, 3e-6, 3e-6), Level.CARE),
        (Overhead(15.6e-3, 50e-9, 60e-9), Level.BAD),
    ],
)
def test_the_timer(cost, level) -> None:
    finding = found(replace(GOOD, overhead=cost, facts=FACTS | {"clock_source": "hpet"}), "timer")
    assert finding.level is level
    assert f"(hpet) steps by {cost.resolution_s * 1e9:.0f} ns" in finding.found
    assert "of the shortest (" in finding.found


# -- cards -----------------------------------------------------------------------------------------

HOLDER = (4711, "GPU-0", 79800, "/usr/bin/python")
XORG = (12, "GPU-0", 300, "Xorg")
FREE = {"memory.free": "81037"}


@pytest.mark.parametrize(
    ("card", "processes", "topic", "level", "words"),
    [
        ({}, [], "GPU 0", Level.GOOD, "81037 of 81559 MiB free; nobody else uses it"),
        ({}, [XORG], "GPU 0", Level.CARE, "0 % busy; held by 12 Xorg 300 MiB"),
        ({"memory_free_mib": 812}, [HOLDER], "GPU 0", Level.BAD, "held by 4711 python 79800 MiB"),
        ({"memory_free_mib": 60000}, [], "GPU 0", Level.CARE, "somebody who cannot be seen"),
        ({"utilization_percent": 97}, [], "GPU 0", Level.BAD, "97 % busy"),
        ({}, [], "GPU 0 clock", Level.GOOD, "345 MHz now, up to 1980; 31 degrees C; 70 of 700 W"),
        ({"throttling": 0x40}, [], "GPU 0 clock", Level.BAD,
         "slowed down: hw_thermal_slowdown"),
        ({"throttling": 0x4}, [], "GPU 0 clock", Level.CARE,
         "limited: sw_power_cap"),
        ({"temperature_c": 88}, [], "GPU 0 clock", Level.CARE, "88 degrees C"),
        ({"persistence": False}, [], "GPU 0 clock", Level.CARE, "persistence mode off"),
        (dict.fromkeys(set(CARD) - {"index"}), [], "GPU 0 clock", Level.GOOD, "not told"),
        (dict.fromkeys(set(CARD) - {"index"}), [], "GPU 0", Level.GOOD, "unnamed"),
    ],
)  # fmt: skip
def test_cards(tmp_path, monkeypatch, card, processes, topic, level, words) -> None:
    plant_driver(tmp_path, monkeypatch, [CARD | card], processes)
    seen = (tuple(nvidia.gpus()), tuple(nvidia.gpu_processes()))
    finding = found(replace(GOOD, driver=True, gpus=seen[0], gpu_processes=seen[1]), topic)
    assert finding.level is level
    assert words in finding.found
    assert bool(finding.to_do) == (level is not Level.GOOD)


def test_a_driver_without_a_card() -> None:
    assert found(replace(GOOD, driver=True), "GPU").level is Level.CARE
    assert found(GOOD, "GPU").found == "there is no NVIDIA driver; the CPU is what is measured"


# -- the timing ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spread", "level", "to_do"),
    [
        (0.005, Level.GOOD, ""),
        (0.04, Level.CARE, "To find 5 %, measure in"),
        (0.5, Level.BAD, "More processes do not mend that"),
    ],
)
def test_the_spread_of_identical_code(spread, level, to_do) -> None:
    finding = found(replace(GOOD, draws=draws(spread)), "A/A, 1 thread")
    assert finding.level is level
    assert finding.found.startswith("40 processes of the same code: ")
    assert "5 against 5 are more than 5 % apart in" in finding.found
    assert "are found (the worst of 3: " in finding.found
    assert finding.to_do.startswith(to_do)


def test_one_thread_may_be_steadier() -> None:
    noisy = draws(0.2, threads=None)
    advice = "OPENBLAS_NUM_THREADS=1"
    together = found(replace(GOOD, draws=draws(0.01) + noisy), "A/A, all threads")
    assert advice in together.to_do
    alike = found(replace(GOOD, draws=draws(0.2, seed=2) + noisy), "A/A, all threads")
    assert advice not in alike.to_do


def test_too_few_processes_ask_for_more_time() -> None:
    finding = found(replace(GOOD, draws=draws(processes=9)), "A/A, 1 thread")
    assert finding.level is Level.CARE
    assert "--seconds" in finding.to_do


@pytest.mark.parametrize(
    ("facts", "modes"),
    [
        ({"logical_cores": 1}, (1,)),
        ({"logical_cores": 2}, (1, None)),
        ({"logical_cores": 2, "thread_settings": {"OMP_NUM_THREADS": "1"}}, (1,)),
        (
            {"logical_cores": 2,
             "thread_settings": {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "2"}},
            (1, None),
        ),
    ],
)  # fmt: skip
def test_the_numbers_of_threads(facts, modes) -> None:
    assert thread_modes(facts) == modes


def test_an_examination_tells_more_with_each_step(monkeypatch) -> None:
    known = facts.machine_facts() | {"logical_cores": 2, "thread_settings": {}}
    monkeypatch.setattr(facts, "machine_facts", lambda: known)
    asked = []

    def draw(number, threads):
        asked.append((number, threads))
        return draws(processes=1, threads=threads)[0]

    steps = examine(600, look_s=0, draw=draw)
    said, findings = [], []
    for step in steps:
        said.append(step.doing)
        findings.append(len(diagnose(step.evidence).findings))
        if len(step.evidence.draws) == 4:
            break
    steps.close()
    assert asked == [(0, 1), (1, None), (2, 1), (3, None)]
    assert findings[0] == 0
    assert findings == sorted(findings)
    assert "3 workloads in fresh processes for 600 s" in said[2]
    assert said[3].startswith("1 processes in ")
    assert step.evidence.own_cpu_s > 4 * 0.5
    assert not [step for step in examine(0, look_s=0, draw=draw) if step.evidence.draws]


def test_an_examination_asks_the_cards(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(facts, "has_nvidia_driver", lambda root="/": True)
    full = CARD | {"memory_free_mib": 812, "utilization_percent": 97}
    plant_driver(tmp_path, monkeypatch, [full], [HOLDER])
    *_, step = examine(0, look_s=0)
    finding = found(step.evidence, "GPU 0")
    assert finding.level is Level.BAD
    assert "97 % busy; held by 4711 python 79800 MiB" in finding.found
    assert step.evidence.after["gpus"][0]["memory_free_mib"] == 812


def test_a_process_that_fails_ends_the_timing() -> None:
    failure = Outcome(Status.FAILED, "the process ended before it answered", "Run it alone.")
    *_, step = examine(600, look_s=0, draw=lambda number, threads: failure)
    finding = found(step.evidence, "A/A")
    assert finding.level is Level.BAD
    assert "ended before it answered" in finding.found
    assert diagnose(step.evidence).to_dict()["calibration"]["failure"] == failure.reason


def test_a_real_process() -> None:
    drawn = draw_in_process(1, 1)
    assert isinstance(drawn, Draw)
    assert drawn.threads == 1
    assert set(drawn.medians_s) == set(drawn.spreads) == set(CELLS)
    assert all(0 < seconds < 60 for seconds in drawn.medians_s.values())
    assert drawn.cpu_s > 0


def test_a_real_process_that_dies(monkeypatch) -> None:
    monkeypatch.setattr(trial, "_time_cells", _die)
    failure = draw_in_process(0, None)
    assert isinstance(failure, Outcome)
    assert failure.kind == "exit status 7"


def _die(number, target, pipe):
    os._exit(7)


# -- showing ---------------------------------------------------------------------------------------


def shown(diagnosis, **options) -> list[str]:
    console = Console(file=io.StringIO(), width=2000)
    console.print(render(diagnosis, **options))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_each_finding_is_one_line() -> None:
    diagnosis = diagnose(replace(GOOD, facts=FACTS | {"virtualised": True}))
    first, *lines = shown(diagnosis)
    assert first == f"2 of 2 cores, 25.8 GB, {FACTS['python']}"
    for line, finding in zip(lines, diagnosis.findings, strict=False):
        assert line.split()[0] == finding.level
        assert finding.topic in line
        assert finding.found in line
        assert line.endswith(finding.to_do or finding.found)
    assert lines[-1] == f"usable with care: 0 bad, 1 care, {len(diagnosis.findings) - 1} good"
    assert any("  notebook.conv " in line for line in lines)


def test_what_was_left_out_is_said() -> None:
    untimed = diagnose(replace(GOOD, asked_s=0.0, draws=()))
    assert "nothing was timed" in shown(untimed)[-1]
    assert "interrupted" in shown(diagnose(GOOD), interrupted=True)[-1]


def test_all_of_it_is_plain_values() -> None:
    text = json.dumps(diagnose(replace(GOOD, gpus=({"index": 0},), driver=True)).to_dict())
    data = json.loads(text)
    assert data["verdict"] == "fit"
    assert len(data["calibration"]["draws"]) == 40
    assert data["calibration"]["series"][0]["workload"] in CELLS


# -- the command -----------------------------------------------------------------------------------


def test_the_command() -> None:
    done = subprocess.run(
        [*COMMAND, "--json", "--seconds", "0"], capture_output=True, text=True, check=False
    )
    data = json.loads(done.stdout)
    assert data["schema"] == "convbench.doctor/1"
    assert data["interrupted"] is False
    assert data["facts"]["logical_cores"] >= 1
    assert data["calibration"]["draws"] == []
    levels = {finding["level"] for finding in data["findings"]}
    assert done.returncode == ("bad" in levels)
    assert (data["verdict"] == "unfit") == ("bad" in levels)


def test_a_duration_that_is_none() -> None:
    done = subprocess.run(
        [*COMMAND, "--seconds", "-1"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 4
    assert "'-1' is not a number from 0 to 86400" in done.stderr


def test_ctrl_c_shows_what_is_known() -> None:
    process = subprocess.Popen(
        [*COMMAND, "--json", "--seconds", "600"], text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    while "processes in" not in process.stderr.readline():
        pass
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the process that times gets it too
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    data = json.loads(stdout)
    assert data["interrupted"] is True
    assert data["calibration"]["draws"]


# -- Calibration ----------------------------------------------------------------------------------


NUMPY, BROKEN = Target("numpy", "", "cpu"), Target("broken", "", "cpu")


def drawing(shifts, asked):
    """Processes whose times are those of the session that they are in, and one broken target."""

    def draw(number, threads, target):
        asked.append((number, threads, target))
        if target == BROKEN:
            return Outcome(Status.FAILED, "it is broken")
        times = shifts[sum(t == NUMPY for *_, t in asked[:-1]) // GROUP]
        (one,) = draws(0.001, processes=1, seed=len(asked), times=times)
        return replace(one, versions={"numpy": "2"})

    return draw


def test_each_session_is_stored_as_it_ends_and_adds_to_those_that_there_are(tmp_path, monkeypatch):
    monkeypatch.setattr(calibrate, "machine_name", lambda: "vm")
    folder, asked = Folder(tmp_path / "results"), []
    path = tmp_path / "evidence" / "vm" / "calibration.json"
    shifts = [1.0, 1.1, 1.0, 1.1]
    steps = calibrate.calibrate([NUMPY, BROKEN], 3, folder, draw=drawing(shifts, asked))
    first = next(steps)
    assert [(target, why.reason) for target, why in first.failures] == [(BROKEN, "it is broken")]
    assert first.calibration == Calibration.read(path)
    assert [number for number, _, target in asked if target == NUMPY] == [*range(GROUP)]
    assert {threads for _, threads, _ in asked} == {None}
    assert next(steps).calibration.spreads()["numpy@cpu"].freedom == 1
    steps.close()  # Ctrl-C
    assert len(Calibration.read(path).sessions) == 2
    again = calibrate.calibrate([NUMPY], 2, folder, draw=drawing(shifts[2:], []))
    *_, last = again
    (known,) = last.calibration.spreads().values()
    assert known.freedom == 3
    assert known.deviation == pytest.approx(np.std(np.log(shifts), ddof=1), rel=0.05)
    assert json.loads(path.read_text())["targets"]["numpy@cpu"]["freedom"] == 3


def test_other_hardware_begins_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(calibrate, "machine_name", lambda: "vm")
    folder = Folder(tmp_path / "results")
    for hardware in ("one", "another"):
        monkeypatch.setattr(calibrate, "known_machine", lambda it=hardware: {"fingerprint": it})
        (done,) = calibrate.calibrate([NUMPY], 1, folder, draw=drawing([1.0], []))
    assert (done.calibration.fingerprint, len(done.calibration.sessions)) == ("another", 1)


def test_the_command_calibrates_this_machine(tmp_path):
    words = ["--calibrate", "2", "--target", "numpy@cpu", "--results-dir", str(tmp_path / "r")]
    done = subprocess.run([*COMMAND, *words, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["schema"] == "convbench.doctor.calibration/1"
    assert told["targets"]["numpy@cpu"]["freedom"] == 1
    (path,) = tmp_path.glob("evidence/*/calibration.json")
    assert f"stored in {path}" in done.stderr
    (measured,) = Calibration.read(path).sessions[0].targets.values()
    assert {*measured.medians_s} == {*CELLS}
    assert {len(medians) for medians in measured.medians_s.values()} == {GROUP}
