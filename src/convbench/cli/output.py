"""What commands print, and how: JSON or text, progress on standard error, exit codes."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from convbench import __version__
from convbench.words.numbers import finite
from convbench.words.table import UNLIMITED
from convbench.words.text import clean, harmless

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment


T = TypeVar("T")

EXIT_CODES = """\
exit codes: 0 fine, 1 something is slower (or, for doctor, the machine is unfit),
2 something is wrong or failed, 3 nothing was measured, 4 bad input or could not set up,
70 a defect of convbench, 130 interrupted"""


def show(
    arguments: argparse.Namespace,
    name: str,
    listed: Callable[[], dict[str, Any]],
    rendered: Callable[[], RenderableType],
) -> None:
    """Print the one as JSON or draw the other; only that which is printed is made."""
    if arguments.format == "json":
        emit(as_json(name, listed()))
        return
    from rich.console import Console

    # A pipe has no width: nothing is cut to one.
    terminal = Console(highlight=False, width=None if sys.stdout.isatty() else UNLIMITED)
    with terminal.capture() as captured:  # rich itself leaves with 1 if its reader has gone
        terminal.print(_Harmless(rendered()))
    _print(captured.get())  # its colours are ours


def as_json(name: str, listed: dict[str, Any]) -> str:
    """Write a document of a schema."""
    document = {"schema": f"convbench.{name}/1", "convbench": __version__, **listed}
    return json.dumps(finite(document), indent=2, allow_nan=False) + "\n"


@dataclass(frozen=True, slots=True)
class _Harmless:
    """What is drawn, whoever wrote its words: none of them does anything to a terminal."""

    drawing: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        from rich.segment import Segment

        for segment in console.render(self.drawing, options):
            if not segment.control:
                yield Segment(harmless(segment.text), segment.style)


def emit(text: str) -> None:
    """Print text, whoever wrote it: none of it does anything to a terminal."""
    _print(harmless(text))


def _print(text: str) -> None:
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:  # the reader, `head` perhaps, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def picture(drawing: RenderableType, title: str) -> str:
    """Draw what a terminal would show, as SVG."""
    from rich.console import Console

    console = Console(record=True, width=160, file=io.StringIO(), highlight=False)
    console.print(_Harmless(drawing))
    return console.export_svg(title=title, code_format=_SVG)


_SVG = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font: {char_height}px/{line_height}px monospace; }}
.{unique_id}-title {{ font: bold 18px sans-serif; }}
{styles}
</style>
<defs>{lines}</defs>
{chrome}
<g class="{unique_id}-matrix" transform="translate({terminal_x}, {terminal_y})">
{backgrounds}
{matrix}
</g>
</svg>
"""
"""What rich fills in. Its own template loads a font from elsewhere; any monospaced one does."""


def say(text: str) -> None:
    """Tell how it goes, where it disturbs no one."""
    print(f"convbench: {clean(text)}", file=sys.stderr, flush=True)


def until_interrupted(items: Generator[T], take: Callable[[T], object] = lambda _: None) -> bool:
    """Take one after the other; whether Ctrl-C ended that. What was taken can still be shown."""
    with contextlib.closing(items):
        try:
            for item in items:
                take(item)
        except KeyboardInterrupt:
            return True
    return False


def with_progress(items: Generator[T], total: int, name: Callable[[T], str]) -> Generator[T]:
    """Show which item was the last, on standard error: a bar on a terminal, else some lines."""
    with contextlib.closing(items), (_bar if sys.stderr.isatty() else _lines)(total) as told:
        for done, item in enumerate(items, start=1):
            yield item  # before it is told: what was told is kept, whenever Ctrl-C comes
            told(done, clean(name(item)))


@contextlib.contextmanager
def _lines(total: int) -> Iterator[Callable[[int, str], None]]:
    shown_s = 0.0

    def told(done: int, name: str) -> None:
        nonlocal shown_s
        if time.monotonic() - shown_s > 5 or done == total:
            shown_s = time.monotonic()
            say(f"{done}/{total} {name}")

    yield told


@contextlib.contextmanager
def _bar(total: int) -> Iterator[Callable[[int, str], None]]:
    from rich import progress
    from rich.console import Console

    bar = progress.Progress(
        progress.MofNCompleteColumn(),
        progress.BarColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.description}", markup=False),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task("", total=total)
        yield lambda done, name: bar.update(task, completed=done, description=name)
