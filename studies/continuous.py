# ruff: noqa: T201  (a script talks to whoever started it)
"""What does the gate save over `asv continuous`? Prints Markdown.

    .venv/bin/python studies/continuous.py [--turns N] [--budget S] [--target TARGET]...

Two commits of equal code are compared in turns, in clones of this repository: by `asv
continuous`, which builds both and then measures them, and by `convbench gate`. What each claims is
a false alarm. How well `asv continuous` knows a ratio is how far its ratio of one cell scatters
over the turns, since it gives no interval. From that follows how many runs of it, and how much
machine time, would give the mean of that cell an interval as wide as the gate's: n runs narrow it
by the root of n. Building is counted for neither.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from scipy.stats import binomtest, t

from convbench.machine import facts

ROOT = Path(__file__).parents[1]
IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@example.org")

Ratios = dict[str, list[float]]
"""By cell, head / base of each turn."""


def call(folder: Path, *words: object, good: tuple[int, ...] = (0,)) -> str:
    """Run a command there, and return what it prints."""
    done = subprocess.run(
        [*map(str, words)], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode not in good:
        sys.exit(
            f"{words} ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        )
    return done.stdout


def prepare(folder: Path) -> None:
    """Clone this repository, with one more commit, and let asv's environments see our libraries.

    What an environment of asv's installs is then the commit alone: what it depends on is the same.
    """
    call(ROOT, "git", "clone", "--quiet", "--shared", ROOT, folder)
    call(folder, "git", *IDENTITY, "commit", "--quiet", "--allow-empty", "-m", "equal code")
    libraries = next(path for path in sys.path if path.endswith("site-packages"))
    link = (
        "import pathlib, sysconfig;"
        f" pathlib.Path(sysconfig.get_path('purelib'), 'z.pth').write_text({libraries!r})"
    )
    (folder / "link.py").write_text(link + "\n", encoding="utf-8")
    configuration = (folder / "asv.conf.json").read_text(encoding="utf-8")
    linked = configuration.replace(
        '"in-dir={build_dir} python requirements/install.py"',
        f'"in-dir={{build_dir}} python {folder / "link.py"}"',
    ).replace("--no-build-isolation ", "")
    assert linked.count("link.py") == 1
    (folder / "asv.conf.json").write_text(linked, encoding="utf-8")


def continuous(folder: Path, bench: str, factor: float) -> tuple[float, dict[str, float], int]:
    """One `asv continuous`: its seconds, head / base by cell, and how many cells it claims."""
    begin_s = time.monotonic()
    said = call(
        folder, sys.executable, "-m", "asv", "continuous", "--factor", factor, "--bench", bench,
        "HEAD~1", "HEAD", good=(0, 1),
    )  # fmt: skip
    seconds = time.monotonic() - begin_s
    printed = call(
        folder, sys.executable, "-m", "asv", "compare", "HEAD~1", "HEAD", "--factor", factor
    )
    ratios = {}
    for line in printed.splitlines():
        if row := re.match(
            r"\|\s*[-+x!]?\s*\|[^|]+\|[^|]+\|\s*~?([\d.]+)\s*\|\s*(\S.*\S)\s*\|", line
        ):
            ratios[row[2]] = float(row[1])
    return seconds, ratios, len(re.findall(r"^\| [+-] ", said, re.MULTILINE))


def gate(folder: Path, targets: list[str], budget_s: float) -> tuple[float, list[dict[str, Any]]]:
    """One gate: its seconds, and its cells."""
    begin_s = time.monotonic()
    words = [word for target in targets for word in ("--target", target)]
    printed = call(
        folder, sys.executable, "-m", "convbench", "gate", "HEAD~1", "HEAD", *words,
        "--budget", f"{budget_s:g}s", "--json", good=(0, 1),
    )  # fmt: skip
    cells = [c for c in json.loads(printed)["cells"] if c["kind"] == "time"]
    return time.monotonic() - begin_s, cells


def part(found: int, of: int) -> str:
    """As in "3 of 400: 0.8 % (0.2 to 2.2 %)"."""
    low, high = binomtest(found, of).proportion_ci()  # Clopper and Pearson's
    return f"{found} of {of}: {100 * found / of:.3g} % ({100 * low:.2g} to {100 * high:.3g} %)"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--budget", type=float, default=60.0, help="of a gate; default: 60 s")
    parser.add_argument("--factor", type=float, default=1.05, help="of asv; default: 1.05")
    parser.add_argument("--target", action="append", help="default: numpy@cpu")
    options = parser.parse_args()
    targets = options.target or ["numpy@cpu"]
    bench = rf"bench_pipeline\.Smoke.*'({'|'.join(map(re.escape, targets))})'"
    asv_s: list[float] = []
    gate_s: list[float] = []
    ratios: Ratios = defaultdict(list)
    widths: Ratios = defaultdict(list)
    claims = {"asv": 0, "gate": 0}
    cells = {"asv": 0, "gate": 0}
    with tempfile.TemporaryDirectory(prefix="convbench-continuous-") as made:
        # A clone each: what a gate stores is in `asv compare` as another environment's.
        folder, gated = Path(made) / "asv", Path(made) / "gate"
        for each in (folder, gated):
            prepare(each)
        # Whatever is built is built now, for both.
        continuous(folder, bench + ", 'notebook.pool'", options.factor)
        gate(gated, targets, 1.0)
        for turn in range(options.turns):
            seconds, found, claimed = continuous(folder, bench, options.factor)
            asv_s.append(seconds)
            claims["asv"] += claimed
            cells["asv"] += len(found)
            for cell, ratio in found.items():
                ratios[cell.partition("(")[2]].append(ratio)
            seconds, judged = gate(gated, targets, options.budget)
            gate_s.append(seconds)
            cells["gate"] += len(judged)
            for cell in judged:
                claims["gate"] += cell["verdict"] in {"regressed", "improved"}
                effect = cell["effect"]
                name = f"'{cell['target']}', '{cell['workload']}')"
                if effect and effect["low"] and math.isfinite(effect["high"]):
                    widths[name].append(math.log(effect["high"] / effect["low"]) / 2)
            taken = f"asv {asv_s[-1]:.0f} s, gate {gate_s[-1]:.0f} s"
            print(f"turn {turn + 1}: {taken}; claims {claims}", file=sys.stderr, flush=True)
    report(ratios, widths, asv_s, gate_s, claims, cells, options)


def report(
    ratios: Ratios, widths: Ratios, asv_s: list[float], gate_s: list[float],
    claims: dict[str, int], cells: dict[str, int], options: argparse.Namespace,
) -> None:  # fmt: skip
    """Print it."""
    print("# The gate beside `asv continuous`\n")
    machine, targets = facts.machine_facts()["cpu_model"], options.target or ["numpy@cpu"]
    print(
        f"`studies/continuous.py` on {machine}; {options.turns} turns, equal code,"
        f" {', '.join(targets)}, the smoke list.\n"
    )
    print("| | seconds a run | cells claimed |\n|---|--:|---|")
    for name, seconds in (("asv", asv_s), ("gate", gate_s)):
        print(f"| {name} | {statistics.median(seconds):.0f} | {part(claims[name], cells[name])} |")
    print(
        "\n| cell | scatter of asv's ratio (SD) | half width of the gate's interval |"
        " runs of asv for the same | machine time over the gate's |\n|---|--:|--:|--:|--:|"
    )
    factors = []
    for cell, found in sorted(ratios.items()):
        if cell not in widths or len(found) < 3:
            continue
        scatter = statistics.stdev(map(math.log, found))
        width = statistics.median(widths[cell])
        runs = max(1.0, (t.ppf(0.975, len(found) - 1) * scatter / width) ** 2)
        factor = runs * statistics.median(asv_s) / statistics.median(gate_s)
        factors.append(factor)
        print(f"| {cell.rstrip(')')} | {scatter:.2%} | {width:.2%} | {runs:.1f} | {factor:.1f} |")
    if factors:
        print(f"\nGeometric mean of the last column: {statistics.geometric_mean(factors):.1f}.")


if __name__ == "__main__":
    main()
