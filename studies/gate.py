# ruff: noqa: T201  (a script talks to whoever started it)
"""How often does the gate cry wolf, and what does it find? Prints Markdown.

    make calibrate
    .venv/bin/python studies/gate.py [--part aa,planted,noise] [--runs N] [--budget S] [--delta P]

A/A: both sides are the working tree, and whatever is claimed is a false alarm. Planted: on the side
of head every run of every backend takes 2, 5 or 10 % longer, in three ways. Noise: the numbers of
the A/A pairs, and simulated ones, are drawn again in thousands of gates. Beside each, what a
Mann-Whitney test of all samples says, which asv uses, of the very same samples. The pairs are kept
as JSON lines in --data, and a study that is started again goes on with them; reports/gate.md is
what it printed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest, mannwhitneyu

from convbench.auditing.judge import Judge
from convbench.comparing.comparison import Rule, Verdict
from convbench.comparing.pairs import Monitor, State, adjusted_p_values
from convbench.gate.build import Built, Wanted, build
from convbench.gate.verdicts import Gate
from convbench.machine import facts
from convbench.stimulus.targets import Target
from convbench.stimulus.workloads import load, select

ROOT = Path(__file__).parents[1]
TARGETS = ("numpy@cpu", "tensorflow@cpu", "tensorflow.eager@cpu", "tensorflow.xla@cpu")
PLANTED = (0.02, 0.05, 0.10)
PEER_P = 0.002
"""asv's own: a Mann-Whitney test below it, and a ratio of medians beyond its factor."""

PEER_FACTORS = (1.0, 1.05)
PICTURED_S = (60.0, 240.0)
TRIALS = 10_000

# What is planted: each run of t leaves a debt of share * t, less what keeping the account takes;
# work of the kind is done until it is paid, since a step of work is longer than 2 % of a small run.
_WORK = {
    "spin": "pass",
    "memory": "_begin = (_begin + _STEP) % _SIZE; _into[:] = _from[_begin : _begin + _STEP]",
    "arithmetic": "_square @ _square",
}
_PLANT = """

# -- planted by studies/gate.py --
import time as _time
import numpy as _numpy
_STEP, _SIZE = 1 << 14, 1 << 22
_from = _numpy.ones(_SIZE, _numpy.float32)
_into = _numpy.empty(_STEP, _numpy.float32)
_square = _numpy.ones((64, 64), _numpy.float32)
_begin, _debt_s, _account_s = 0, 0.0, 0.0
def _slowed(function, self, x):
    global _begin, _debt_s
    begin_s = _time.perf_counter()
    y = function(self, x)
    wait = getattr(getattr(y, "device", None), "synchronize", None)
    if wait is not None:  # of a card; otherwise the work would be done beside the card's own
        wait()
    end_s = _time.perf_counter()
    # What was paid too much for a small cell is no credit of the next one.
    _debt_s = max(_debt_s + {share} * (end_s - begin_s) - _account_s, -_account_s)
    while _debt_s > 0:
        {work}
        now_s = _time.perf_counter()
        _debt_s -= now_s - end_s
        end_s = now_s
    return y
def _measured():
    taken_s = []
    for _ in range(7):
        begin_s = _time.perf_counter()
        for _ in range(1000):
            _slowed(_nothing, None, None)
        taken_s.append((_time.perf_counter() - begin_s) / 1000)
    return min(taken_s)
def _nothing(self, x):
    return x
_account_s = _measured() / (1 + {share})
_debt_s = 0.0
_as_it_was = Run.__call__
def _slower(self, x):
    return _slowed(_as_it_was, self, x)
Run.__call__ = _slower
"""


def part(found: int, of: int) -> str:
    """As in "3 of 400: 0.8 % (0.2 to 2.2 %)"."""
    if not of:
        return "none"
    low, high = binomtest(found, of).proportion_ci()  # Clopper and Pearson's
    return f"{found} of {of}: {100 * found / of:.3g} % ({100 * low:.2g} to {100 * high:.3g} %)"


def plant(built: Built, folder: Path, kind: str, share: float) -> Built:
    """A copy of a side in which every run takes longer."""
    shutil.copytree(built.source, folder)
    file = folder / "convbench" / "backends" / "base.py"
    text = _PLANT.format(share=share, work=_WORK[kind])
    file.write_text(file.read_text(encoding="utf-8") + text, encoding="utf-8")
    return Built(
        f"{kind} {share:.0%}", built.commit, True, built.python, folder, built.environment, kind
    )


def run_gate(
    base: Built, head: Built, targets: Sequence[str], budget_s: float, delta: float
) -> dict[str, Any]:
    """One gate; what became of each cell, and its pairs."""
    workloads = select(load(), "smoke")
    both = [(Target.parse(target),) * 2 for target in targets]
    with ExitStack() as stack:
        interface = ROOT / "src" / "convbench" / "suites" / "interface.py"
        gate = stack.enter_context(Gate(base, head, workloads, both, interface, Rule(delta=delta)))
        # Both sides are known to be right: only the timing is studied.
        judges = [stack.enter_context(Judge()) for _ in os.sched_getaffinity(0)]
        for judge in judges:
            judge.pipelines = {workload.name: workload.pipeline for workload in workloads}
        for _ in gate.measure(budget_s, judges, checked=False):
            pass
        cells = {(c.target, c.workload): c for c in gate.comparison().cells}
        assert gate.pairs is not None
        found = []
        for each in gate.pairs.found:
            cell = cells[each.cell.target, each.cell.workload]
            samples = [[x for both in each.samples.values() for x in both[i]] for i in (0, 1)]
            peer, peer_ratio = 1.0, 1.0
            if all(samples):
                peer = float(mannwhitneyu(*samples).pvalue)
                peer_ratio = statistics.median(samples[1]) / statistics.median(samples[0])
            found.append({
                "target": cell.target, "workload": cell.workload, "verdict": str(cell.verdict),
                "reason": cell.reason,
                "pairs": [*each.monitor.first.values(), *each.monitor.fresh.values()],
                "ratio": cell.effect.ratio if cell.effect else None,
                "smallest_effect": cell.effect.smallest_effect if cell.effect else None,
                "standing": [str(each.standing(side)) for side in ("base", "head")],
                "peer_p": peer,
                "peer_ratio": peer_ratio,
            })  # fmt: skip
        return {"elapsed_s": gate.pairs.elapsed_s, "pairs": gate.pairs.pairs, "cells": found}


def collected(
    data: Path, study: dict[str, Any], once: Callable[[], dict[str, Any]], runs: int
) -> list[dict[str, Any]]:
    """The runs of a study: those that are kept, and what is missing."""
    file = data / ("-".join(str(value) for value in study.values()) + ".jsonl")
    kept = []
    if file.is_file():
        kept = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    while len(kept) < runs:
        begun = os.getloadavg()[0]
        run = once() | {"load": begun}
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(run) + "\n")
        kept.append(run)
        verdicts = Counter(cell["verdict"] for cell in run["cells"])
        print(
            f"{study} run {len(kept)}: {run['elapsed_s']:.0f} s, {dict(verdicts)}", file=sys.stderr
        )
    return kept[:runs]


def claims(runs: Sequence[dict[str, Any]]) -> Iterator[tuple[str, int, int, int]]:
    """By who claims: cells that were claimed, all of them, and runs in which any was."""
    claimed = (Verdict.REGRESSED, Verdict.IMPROVED)

    def gate(cell: dict[str, Any]) -> bool:
        return cell["verdict"] in claimed

    def peer(factor: float) -> Callable[[dict[str, Any]], bool]:
        def claim(cell: dict[str, Any]) -> bool:
            ratio = max(cell["peer_ratio"], 1 / cell["peer_ratio"])
            return bool(cell["peer_p"] < PEER_P and ratio > factor)

        return claim

    whos = [("the gate", gate)]
    whos += [
        (
            f"Mann-Whitney, p < {PEER_P}" + (f", {f:g}x" if f > 1 else ""),
            peer(f),
        )
        for f in PEER_FACTORS
    ]
    for name, claim in whos:
        hits = [sum(map(claim, run["cells"])) for run in runs]
        yield name, sum(hits), sum(len(run["cells"]) for run in runs), sum(hit > 0 for hit in hits)


def report_aa(runs: Sequence[dict[str, Any]], budget_s: float, delta: float) -> None:
    """False alarms, and what was decided."""
    cells = [cell for run in runs for cell in run["cells"]]
    verdicts = Counter(cell["verdict"] for cell in cells)
    print(f"\n## A/A: {len(runs)} gates of at most {budget_s:g} s, delta {100 * delta:g} %\n")
    print(f"Load average at the beginning of a run: {loads(runs)}. ")
    took = [run["elapsed_s"] for run in runs]
    print(
        f"A gate took {statistics.median(took):.0f} s (median; {min(took):.0f} to {max(took):.0f})."
    )
    print("\n| who | false alarms, cells (95 % interval) | runs with any |\n|---|---|---|")
    for name, hits, of, bad in claims(runs):
        print(f"| {name} | {part(hits, of)} | {part(bad, len(runs))} |")
    print(
        "\nOf the cells "
        + ", ".join(f"{n} {verdict}" for verdict, n in verdicts.most_common())
        + "."
    )
    print(f"Undecided: {part(verdicts[Verdict.UNDECIDED], len(cells))}.")
    others = [c for c in cells if c["verdict"] not in {"equivalent", "undecided"}]
    for cell in others:
        print(f"\n- {cell['target']} {cell['workload']}: {cell['verdict']}, {cell['reason']}")
    deviations = [statistics.stdev(c["pairs"]) for c in cells if len(c["pairs"]) > 2]
    if deviations:
        low, middle, high = statistics.quantiles(deviations, n=4)
        print(
            f"\nA pair deviates by {100 * middle:.2g} % (median over cells; quartiles"
            f" {100 * low:.2g} and {100 * high:.2g} %)."
        )


def loads(runs: Sequence[dict[str, Any]]) -> str:
    """The load averages, in words."""
    seen = [run["load"] for run in runs]
    return f"{statistics.median(seen):.1f} ({min(seen):.1f} to {max(seen):.1f})"


def report_planted(found: dict[tuple[str, float], list[dict[str, Any]]], budget_s: float) -> None:
    """What was found of what was planted."""
    print(f"\n## Planted slow-downs: gates of at most {budget_s:g} s\n")
    print(
        "| kind | planted | runs x cells | found | undecided | equivalent | improved |"
        " Mann-Whitney, factor 1.05 |"
    )
    print("|---|--:|--:|---|--:|--:|--:|--:|")
    totals: dict[float, Counter[str]] = {}
    for (kind, share), runs in found.items():
        cells = [cell for run in runs for cell in run["cells"]]
        counts = Counter(cell["verdict"] for cell in cells)
        totals.setdefault(share, Counter()).update(counts)
        *_, (_, peer, _, _) = claims(runs)
        print(
            f"| {kind} | {100 * share:g} % | {len(runs)} x {len(runs[0]['cells'])} |"
            f" {part(counts['regressed'], len(cells))} | {counts['undecided']} |"
            f" {counts['equivalent']} | {counts['improved']} | {peer} |"
        )
    for share, counts in totals.items():
        print(
            f"\n{100 * share:g} % of all kinds: found {part(counts['regressed'], counts.total())}."
        )


def picture(data: Path, file: Path) -> None:
    """Draw what was claimed of what was planted, by who, from all that is kept."""
    import altair as alt  # noqa: PLC0415  # only for this

    from convbench.report.charts import LIGHT, svg  # noqa: PLC0415
    from convbench.report.parts import Chart  # noqa: PLC0415

    points: dict[tuple[str, float], list[int]] = {}
    for kept in sorted([*data.glob("aa-*.jsonl"), *data.glob("planted-*.jsonl")]):
        study, budget, *what = kept.stem.split("-")
        share = float(what[-1]) if study == "planted" else 0.0
        runs = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()]
        for name, hits, of, _ in claims(runs):
            own = name == "the gate"
            if not own and (study == "aa" or float(budget) != PICTURED_S[-1]):
                who = name if study == "aa" else ""
            else:
                who = f"gate, {float(budget) / 60:g} min" if own else name
            if own and study == "aa":  # equal code is claimed to differ at no budget more than here
                for seconds in PICTURED_S:
                    _add(points, f"gate, {seconds / 60:g} min", share, hits, of)
            elif who:
                _add(points, who, share, hits, of)
    rows = []
    for (who, share), (hits, of) in points.items():
        low, high = binomtest(hits, of).proportion_ci()
        rows.append({
            "who": who, "planted": share, "claimed": hits / of, "low": low, "high": high, "of": of,
        })  # fmt: skip
    names = sorted({row["who"] for row in rows}, key=lambda who: (not who.startswith("gate"), who))
    whose = {
        "color": alt.Color("who:N", title=None).scale(
            domain=names, range=[*LIGHT.series[: len(names)]]
        ),
        "strokeDash": alt.StrokeDash("who:N", title=None).scale(domain=names),
    }
    percents = alt.Axis(format="~%")
    x = alt.X("planted:Q", title="planted: so much longer, every run", axis=percents)
    y = alt.Y("claimed:Q", title="claimed to be slower", axis=percents)
    every = alt.Chart(alt.Data(values=rows)).encode(x=x)
    lines = every.mark_line(point=True).encode(y=y, **whose)
    spans = every.mark_rule().encode(y="low:Q", y2="high:Q", color=whose["color"])
    spec = (spans + lines).properties(height=260).to_dict()
    chart = Chart(
        "power",
        "What is found of a planted slow-down, and claimed of none",
        "Share of cells claimed to be slower over how much slower they are, by who claims it",
        spec,
        hint="Share of the cells that are claimed to differ, with its 95 % interval. At 0 % the"
        " code is the same. Mann-Whitney: over all samples of the same gates, as asv compares.",
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(svg(chart), encoding="utf-8")


def _add(
    points: dict[tuple[str, float], list[int]], who: str, share: float, hits: int, of: int
) -> None:
    known = points.setdefault((who, share), [0, 0])
    known[0] += hits
    known[1] += of


def simulate(
    draw: Callable[[int], np.ndarray],
    pairs: int,
    cells: int,
    effect: float,
    delta: float,
    trials: int,
) -> Counter[str]:
    """So many cells in gates of so many, of which each may have this many pairs."""
    counts: Counter[str] = Counter()
    rule = Rule(delta=delta)
    for _ in range(math.ceil(trials / cells)):
        monitors = [Monitor(rule, cells) for _ in range(cells)]
        for monitor in monitors:
            for number, value in enumerate(draw(pairs)):
                if not monitor.open:
                    break
                monitor.add(number, math.log1p(effect) + float(value), (number + 1) / pairs)
            monitor.finish()
        for monitor, p in zip(monitors, adjusted_p_values(monitors), strict=True):
            if p <= 1 - rule.confidence:
                counts["claimed"] += 1
            else:
                counts["equivalent" if monitor.state is State.EQUIVALENT else "undecided"] += 1
    return counts


def noises(recorded: Sequence[Sequence[float]]) -> dict[str, Callable[[int], np.ndarray]]:
    """Ways in which pairs differ."""
    chance = np.random.default_rng(20261126)

    def again(number: int) -> np.ndarray:
        own = np.asarray(recorded[chance.integers(len(recorded))])
        centred = own - np.median(own)
        return chance.choice(centred, number) * chance.choice([-1, 1], number)

    def bursts(number: int) -> np.ndarray:
        return chance.normal(0, 0.005, number) * np.where(chance.random(number) < 0.1, 10, 1)

    def drift(number: int) -> np.ndarray:
        steps = chance.normal(0, 0.003, number)
        for i in range(1, number):
            steps[i] += 0.5 * steps[i - 1]
        return steps

    def frequency(number: int) -> np.ndarray:
        # In a pair during which the clock changes, some of its quartets have seen both.
        return chance.normal(0, 0.004, number) + np.where(
            chance.random(number) < 0.05, chance.choice([-0.1, 0.1], number), 0
        )

    found = {"recorded, signs drawn": again} if recorded else {}
    return found | {
        "normal, 0.5 %": lambda n: chance.normal(0, 0.005, n),
        "normal, 2 %": lambda n: chance.normal(0, 0.02, n),
        "heavy tails (t with 3)": lambda n: 0.005 * chance.standard_t(3, n),
        "bursts: 1 pair in 10 ten times as noisy": bursts,
        "drift from pair to pair (AR 0.5)": drift,
        "frequency steps: 1 pair in 20 by 10 %": frequency,
    }


def report_noise(recorded: Sequence[Sequence[float]], trials: int) -> None:
    """False alarms and power on noise that is drawn again."""
    print(
        f"\n## Noise that is recorded or simulated: {trials} cells in gates of 36, of up to 24"
        " pairs, delta 2 %\n"
    )
    print(
        "| noise | equal: claimed | equal: undecided | +2 %: found | +2 %: equivalent |"
        " +5 %: found |"
    )
    print("|---|---|--:|--:|--:|--:|")
    for name, draw in noises(recorded).items():
        equal = simulate(draw, 24, 36, 0.0, 0.02, trials)
        small = simulate(draw, 24, 36, 0.02, 0.02, trials // 10)
        large = simulate(draw, 24, 36, 0.05, 0.02, trials // 10)
        share = [f"{100 * n / counts.total():.2g} %" for n, counts in (
            (equal["undecided"], equal), (small["claimed"], small), (small["equivalent"], small),
            (large["claimed"], large))]  # fmt: skip
        print(f"| {name} | {part(equal['claimed'], equal.total())} | {' | '.join(share)} |")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], usage="gate.py [--part P] [--runs N] [--budget S]"
    )
    parser.add_argument("--part", default="aa,planted,noise", help="which of these; default: all")
    parser.add_argument("--runs", type=int, default=28, help="A/A gates; default: 28, 1008 cells")
    parser.add_argument("--planted-runs", type=int, default=2, help="of each plant; default: 2")
    parser.add_argument("--share", type=float, action="append", help="planted; default: all")
    parser.add_argument("--kind", choices=[*_WORK], action="append", help="likewise; default: all")
    parser.add_argument("--budget", type=float, default=120.0, help="seconds; default: 120")
    parser.add_argument("--delta", type=float, default=0.03, help="of A/A; default: 0.03")
    parser.add_argument("--target", action="append", help="default: NumPy and three TensorFlow's")
    parser.add_argument("--picture", type=Path, metavar="SVG", help="draw what --data has, as well")
    parser.add_argument("--data", type=Path, default=ROOT / "build" / "gate-study")
    arguments = parser.parse_args()
    parts = arguments.part.split(",")
    targets = arguments.target or TARGETS
    data = arguments.data
    data.mkdir(parents=True, exist_ok=True)
    known = facts.machine_facts()
    begun_s = time.monotonic()
    base = build(Wanted(None), ROOT, lambda text: print(text, file=sys.stderr))
    print("# What the gate claims, and what it misses\n")
    print(
        f"`studies/gate.py` on {known['cpu_model']}, {os.cpu_count()} cores; targets"
        f" {', '.join(targets)}; the smoke list."
    )
    recorded: list[list[float]] = []
    if "aa" in parts:
        study = {"study": "aa", "budget": arguments.budget, "delta": arguments.delta}
        runs = collected(
            data,
            study,
            lambda: run_gate(base, base, targets, arguments.budget, arguments.delta),
            arguments.runs,
        )
        report_aa(runs, arguments.budget, arguments.delta)
        recorded = [c["pairs"] for run in runs for c in run["cells"] if len(c["pairs"]) >= 6]
    if "planted" in parts:
        found = {}
        with tempfile.TemporaryDirectory(prefix="convbench-study-") as made:
            for share in arguments.share or PLANTED:
                for kind in arguments.kind or _WORK:
                    head = plant(base, Path(made) / f"{kind}{share}", kind, share)
                    study = {
                        "study": "planted",
                        "budget": arguments.budget,
                        "kind": kind,
                        "share": share,
                    }
                    found[kind, share] = collected(
                        data, study,
                        lambda head=head: run_gate(base, head, targets[:2], arguments.budget, 0.02),
                        arguments.planted_runs,
                    )  # fmt: skip
        report_planted(found, arguments.budget)
    if "noise" in parts:
        report_noise(recorded, TRIALS)
    if arguments.picture:
        picture(data, arguments.picture)
    print(f"\nAll of it took {(time.monotonic() - begun_s) / 60:.0f} minutes.", file=sys.stderr)


if __name__ == "__main__":
    main()
