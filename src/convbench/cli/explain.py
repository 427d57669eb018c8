"""``convbench explain``."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from convbench.cli.output import show
from convbench.errors import InputError
from convbench.words.status import Exit
from convbench.words.table import Column, Table, line, stacked

if TYPE_CHECKING:
    from rich.console import RenderableType

    from convbench.machine.catalogue import Advice, Entry, Finding, Reading, When

HELP = "say what an error message or a log means, and what to do"
DESCRIPTION = """\
The message is given as it was seen, or a log of any length comes on standard input. What
is known of TensorFlow, PyTorch, JAX, CuPy, CUDA, cuDNN, cuBLAS, oneDNN, drivers and
signals is looked for in it; the root comes first, then what comes of it, then what is
harmless. A failed cell is explained in the same words. A message may mean one thing at the
first use and another after a thousand good steps: the log tells which where it can, --when
says so, and else both are told."""
EPILOG = """\
examples:
  convbench explain "Blas SGEMM launch failed : m=1, n=6, k=75" --when middle
  convbench explain "exit code 137"
  python train.py 2>&1 | tee train.log; convbench explain < train.log
  convbench explain --list

exit codes: 0 something in it is known, 3 nothing is, 4 bad input: there was no text,
70 a defect of convbench, 130 interrupted"""

_CASES = {None: "", "start": "If it was the first use: ", "middle": "If others had worked: "}
_UNKNOWN = (
    "Look for the first error in the log and not for the last, and search the library's issues"
    " for its words without paths and numbers.",
    "A report that can be answered has: the first error with the ten lines before it, what"
    " `convbench backends` and `nvidia-smi` print, the lines of `dmesg` from that minute, and the"
    " smallest call that shows it.",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "message", nargs="?", default="-", metavar="MESSAGE",
        help="as it was seen; - or none: a log on standard input; a number: an exit status",
    )  # fmt: skip
    parser.add_argument(
        "--when",
        choices=("start", "middle"),
        help="it came at the first use, or after others had worked; default: what the log shows",
    )
    parser.add_argument("--list", action="store_true", help="print all that is known, with sources")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; its exit code."""
    from convbench.machine.catalogue import When, catalogue, read

    if arguments.list:
        entries = catalogue()
        show(
            arguments, "messages",
            lambda: {"messages": [_plain(entry) for entry in entries]}, lambda: _table(entries),
        )  # fmt: skip
        return Exit.OK
    reading = read(_text(arguments.message))
    if reading.empty:
        raise InputError(
            "convbench explain: the text is empty; expected a message or a log. Give it in quotes,"
            " or on standard input."
        )
    when = None if arguments.when is None else When(arguments.when)
    known = reading.wrong is not None or (bool(reading.findings) and not reading.error)

    def listed() -> dict[str, Any]:
        return {
            "known": known,
            "error": reading.error,
            "findings": [_plain(f.entry) | _found(f, when) for f in reading.findings],
        }

    show(arguments, "explain", listed, lambda: stacked(_paragraphs(reading, when, known)))
    return Exit.OK if known else Exit.NOTHING


def _text(message: str) -> BinaryIO:
    if message == "-":
        if sys.stdin is None or sys.stdin.isatty():
            raise InputError(
                "convbench explain: standard input is a terminal; expected a message or a log."
                " Give the message in quotes, or `< FILE`."
            )
        return sys.stdin.buffer
    if message.strip().removeprefix("-").isdecimal():
        message = f"exit status {message.strip()}"
    return io.BytesIO(message.encode(errors="replace"))


def _advice(finding: Finding, when: When | None) -> list[tuple[When | None, Advice]]:
    return finding.entry.advice(when or finding.when)


def _paragraphs(reading: Reading, when: When | None, known: bool) -> Iterator[RenderableType]:
    from convbench.machine.failures import with_the_card

    if not known:
        yield line(("unknown", "bold yellow"), "Nothing that is wrong in it is known to convbench.")
        for sentence in (f"it says: {reading.error}" * bool(reading.error), *_UNKNOWN):
            if sentence:
                yield line(sentence, indent=4)
    elif reading.wrong is None:
        yield line(("fine", "bold green"), "Nothing in it is known to be wrong.")
    titles = {0: ("wrong", "bold red"), 1: ("wrong", "bold red"), 2: ("harmless", "green")}
    told: set[str] = set()  # two messages of one thing are explained once
    for finding in reading.findings:
        entry = finding.entry
        title = titles[entry.rank]
        if entry.rank < 2 and finding is not reading.wrong:
            title = ("also", "yellow")
        yield line(title, f"{entry.name} ({entry.library}, {entry.kind}), line {finding.line}:")
        yield line(finding.said, indent=4, style="dim")
        cases = [(case, one) for case, one in _advice(finding, when) if one.cause not in told]
        for case, advice in cases:
            told.add(advice.cause)
            yield line(_CASES[case if len(cases) > 1 else None] + advice.cause + ".", indent=4)
            yield line(("what to do:", "bold"), with_the_card(entry, advice), indent=4)
        yield line(f"source: {entry.source}", indent=4, style="dim")


def _found(finding: Finding, when: When | None) -> dict[str, Any]:
    decided = when or finding.when
    told = [case for case, _ in _advice(finding, when)]
    return {
        "line": finding.line,
        "said": finding.said,
        "when": decided,
        "advice": [entry for entry in _cases(finding.entry) if entry["when"] in told],
    }


def _cases(entry: Entry) -> list[dict[str, Any]]:
    return [
        {"when": case, "cause": advice.cause, "remedy": advice.remedy}
        for case, advice in entry.advice(None)
    ]


def _plain(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "library": entry.library,
        "kind": entry.kind,
        "symptom": entry.symptom,
        "advice": _cases(entry),
        "example": entry.example,
        "source": entry.source,
    }


def _table(entries: tuple[Entry, ...]) -> Table:
    return Table(
        (
            Column("name", [entry.name for entry in entries], "name"),
            Column("library", [entry.library for entry in entries], "word"),
            Column("kind", [entry.kind for entry in entries], "word"),
            Column("what went wrong", [entry.start.cause for entry in entries], "name"),
            Column("example", [entry.example for entry in entries], "name"),
            Column("source", [entry.source for entry in entries], "name"),
        ),
        ("example", "kind"),
    )
