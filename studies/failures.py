# ruff: noqa: T201  (a script talks to whoever started it)
"""What does a person see when something breaks? Prints a table in Markdown.

    .venv/bin/python studies/failures.py > reports/failures.md

Backends that raise, crash, hang, run out of memory or compute nonsense are registered beside NumPy,
as another distribution would, and `convbench bench` measures a pool on each of them, which breaks,
and a convolution, which does not.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.checkouts import Checkout  # noqa: E402  # the tests' own faulty distribution
from tests.plugin import FAULTS  # noqa: E402

from convbench.results.records import load  # noqa: E402
from convbench.results.rows import summarise  # noqa: E402
from convbench.words.status import Status  # noqa: E402

FAULTY = (*FAULTS, "dies_at_import", "not_installed", "broken_import", "no_class")


def main() -> None:
    """Measure and print."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    with tempfile.TemporaryDirectory(prefix="convbench-failures-") as name:
        checkout = Checkout(Path(name), FAULTY)
        configuration = checkout.folder / "asv.conf.json"
        text = configuration.read_text()
        configuration.write_text(text.replace('benchmark_timeout": 600', 'benchmark_timeout": 5'))
        checkout.commit()
        checkout.convbench(
            "bench", "--rounds", "2",
            "--bench", r"(pipeline|accuracy)\.Smoke\..*@cpu', 'notebook\.(pool|conv)'",
        )  # fmt: skip
        rows = summarise(load(checkout.results_dir).records)
    cells = {(row.target, row.workload): row for row in rows}
    print("# What breaks, what it costs, and what a person is told\n")
    print(
        f"Made by `python studies/failures.py` on {time.strftime('%Y-%m-%d')}. The fault is in",
        end=" ",
    )
    print(
        "the pool of each backend (or in opening it); the convolution beside it must still be",
        end=" ",
    )
    print("measured, in two processes, where the backend can be opened at all.\n")
    print("| injected | the pool | the convolution | reason | what to do |")
    print("|---|---|---|---|---|")
    for fault in FAULTY:
        pool, conv = (cells.get((f"{fault}@cpu", f"notebook.{w}")) for w in ("pool", "conv"))
        if pool is None:
            print(f"| {fault} | not run | | | |")
            continue
        cause = next((c for _, c in pool.outcomes if c.status is not Status.OK), None)
        reason, remedy = (cause.reason, cause.remedy) if cause else ("", "")
        beside = f"{conv.status}, {conv.processes} processes" if conv else ""
        words = [fault, str(pool.status), beside, reason, remedy]
        print("| " + " | ".join(word.replace("|", "\\|") for word in words) + " |")


if __name__ == "__main__":
    main()
