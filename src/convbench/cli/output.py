"""What commands print, and how: JSON or text, progress on standard error, exit codes."""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from convbench import __version__

if TYPE_CHECKING:
    from rich.console import Console


T = TypeVar("T")

EXIT_CODES = """\
exit codes: 0 fine, 1 something is slower (or, for doctor, the machine is unfit),
2 something is wrong or failed, 3 nothing was measured, 4 bad input or could not set up,
70 a defect of convbench, 130 interrupted"""


def show(arguments: argparse.Namespace, name: str, listed: Any, rendered: Any) -> None:
    """Print the one or the other; only that which is printed is made."""
    if arguments.json:
        document = {"schema": f"convbench.{name}/1", "convbench": __version__, **listed()}
        text = json.dumps(_finite(document), indent=2, allow_nan=False) + "\n"
    elif not isinstance(text := rendered(), str):
        terminal = console()
        with terminal.capture() as captured:  # rich itself leaves with 1 if its reader has gone
            terminal.print(text)
        text = captured.get()
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:  # the reader, `head` perhaps, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def picture(text: str) -> str:
    """Draw what a terminal would show, as SVG."""
    from rich._export_format import CONSOLE_SVG_FORMAT
    from rich.console import Console
    from rich.text import Text

    # Rich's own template loads its font from elsewhere; any monospaced one does.
    template = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    console = Console(record=True, width=160, file=io.StringIO())
    console.print(Text.from_ansi(text), end="")
    return console.export_svg(title="convbench results", code_format=template)


def console() -> Console:
    """Standard output, coloured on a terminal only."""
    from rich.console import Console

    # A pipe has no width: nothing is cut to one.
    return Console(highlight=False, width=None if sys.stdout.isatty() else 10_000, soft_wrap=False)


def say(text: str) -> None:
    """Tell how it goes, where it disturbs no one."""
    print(f"convbench: {text}", file=sys.stderr, flush=True)


def with_progress(items: Iterator[T], total: int, name: Callable[[T], str]) -> Iterator[T]:
    """Show which item was the last, on standard error: a bar on a terminal, else some lines."""
    if not sys.stderr.isatty():
        shown = 0.0
        for done, item in enumerate(items, start=1):
            yield item  # before it is told: what was told is kept, whenever Ctrl-C comes
            if time.monotonic() - shown > 5 or done == total:
                shown = time.monotonic()
                say(f"{done}/{total} {name(item)}")
        return

    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        MofNCompleteColumn(), BarColumn(), TimeRemainingColumn(), TextColumn("{task.description}"),
        console=Console(stderr=True), transient=True,
    )  # fmt: skip
    with bar:
        task = bar.add_task("", total=total)
        for item in items:
            yield item
            bar.update(task, advance=1, description=name(item))


def _finite(value: Any) -> Any:
    """Replace what JSON has no number for by the strings "inf", "-inf" and "nan"."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)
