# ruff: noqa: T201  (a script talks to whoever started it)
"""How often does `convbench explain` know what a message means? Prints a page in Markdown.

    .venv/bin/python studies/explain.py > reports/explain.md

The catalogue is asked about its own examples, which it must know; about messages in other wordings
that are kept apart, in studies/explain.toml, with what a right answer is; and about lines in which
nothing is wrong. A message is right if the first that is told of it is one of the right answers.
"""

from __future__ import annotations

import argparse
import io
import itertools
import random
import resource
import time
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

from convbench.machine.catalogue import catalogue, read, read_text

HELD_OUT = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
LONG_BYTES = 100_000_000


def main() -> None:
    """Ask and print."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    print("# What `convbench explain` knows\n")
    print(f"Made by `python studies/explain.py` on {time.strftime('%Y-%m-%d')}. What a right")
    print("answer is was decided by one reader, from the reports; they were found by their words,")
    print("so that they are nearer to the catalogue than what comes next will be.\n")
    own()
    held_out()
    harmless()
    long_log()


def told(text: str) -> str:
    """The first that is told of it; "unknown" if nothing is."""
    found = read_text(text).findings
    return found[0].entry.name if found else "unknown"


def own() -> None:
    """Its examples, by library."""
    right: Counter[str] = Counter()
    for entry in catalogue():
        right[entry.library] += told(entry.example) == entry.name
    entries = Counter(entry.library for entry in catalogue())
    print("## Its own examples\n\n| library | entries | right | wrong or none |\n|---|--:|--:|--:|")
    for library, count in [*entries.most_common(), ("all", entries.total())]:
        known = right.total() if library == "all" else right[library]
        print(f"| {library} | {count} | {known} | {count - known} |")


GROUPS = {
    "after": "after the catalogue was first committed",
    "before": "before: at hand while it was written",
    "mended": "after it was mended; nothing was added for these",
}


def verdict(message: dict[str, Any], answer: str) -> str:
    """Whether an answer is right, wrong, or none where there is one."""
    if answer in message["right"]:
        return "right"
    return "none" if answer == "unknown" else "wrong"


def held_out() -> None:
    """Messages that it was not made from."""
    print("\n## Messages in other wordings\n")
    print("Right, wrong and none, of the catalogue as it was first committed, and now, when what")
    print("it had not known of them has been added:\n")
    print("| looked for | messages | at first | now |\n|---|--:|--:|--:|")
    missed = []
    for group, name in GROUPS.items():
        messages = [message for message in HELD_OUT["message"] if message["found"] == group]
        first = Counter(verdict(m, m["first"]) for m in messages if "first" in m)
        now = Counter(verdict(m, told(m["says"])) for m in messages)
        cells = (
            " / ".join(str(count[kind]) for kind in ("right", "wrong", "none")) * bool(count)
            for count in (first, now)
        )
        print(f"| {name} | {len(messages)} | {' | '.join(cells)} |")
        for message in messages:
            answers = [message.get("first", ""), told(message["says"])]
            if any(answer and answer not in message["right"] for answer in answers):
                missed.append((message, answers))
    print("\nWhat was not right, at first or now:\n")
    print("| message | source | at first | now | right |\n|---|---|---|---|---|")
    for message, answers in missed:
        says = message["says"].replace("\n", " ").replace("|", "\\|")
        cells = (f"`{says[:100]}`", message["source"], *answers, ", ".join(message["right"]))
        print(f"| {' | '.join(cells)} |")


def harmless() -> None:
    """Lines in which nothing is wrong."""
    lines = HELD_OUT["harmless"]["lines"]
    readings = {line: read_text(line) for line in lines}
    accused = {line: reading.wrong for line, reading in readings.items() if reading.wrong}
    known = sum(bool(reading.findings) for reading in readings.values()) - len(accused)
    print("\n## Lines in which nothing is wrong\n")
    print("| lines | told to be harmless | nothing told | accused |\n|--:|--:|--:|--:|")
    print(f"| {len(lines)} | {known} | {len(lines) - known - len(accused)} | {len(accused)} |")
    for line, finding in accused.items():
        print(f"\nAccused of {finding.entry.name}: `{line}`")


def long_log() -> None:
    """What a long log costs, the message at its end."""

    class Log(io.RawIOBase):
        def __init__(self) -> None:
            draw = random.Random(0)  # noqa: S311
            lines = [
                f"2024-01-01 12:00:00.{draw.random()} I layer_{draw.randrange(99)}.cc:"
                f"{draw.randrange(999)}] a failed attempt, error {draw.random()}\n"
                for _ in range(9000)
            ]
            self.blocks = itertools.repeat("".join(lines).encode()[: 1 << 20], LONG_BYTES >> 20)
            self.last = [b"\nNo algorithm worked!\n"]

        def read(self, _: int = -1) -> bytes:
            return next(self.blocks, None) or (self.last.pop() if self.last else b"")

    before_s = time.process_time()
    (finding,) = read(Log()).findings
    spent_s = time.process_time() - before_s
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print("\n## A long log\n")
    print(
        f"After {LONG_BYTES / 1e6:.0f} MB `{finding.said}` is found in line {finding.line},",
        end=" ",
    )
    print(f"in {spent_s:.0f} s of CPU; the process had {peak_mib:.0f} MiB at its peak.")


if __name__ == "__main__":
    main()
