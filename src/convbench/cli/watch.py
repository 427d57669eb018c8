"""``convbench watch``."""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from convbench.cli.arguments import budget, here
from convbench.cli.output import say, show
from convbench.errors import InputError
from convbench.words.numbers import date, duration
from convbench.words.status import Exit
from convbench.words.table import Column, Table

if TYPE_CHECKING:
    from convbench.watching.rounds import Rounds
    from convbench.watching.serve import Server
    from convbench.watching.state import State, Watched

HELP = "measure, gate and report what is new on some branches, and tell who wants to know"
DESCRIPTION = """\
What it does is in [tool.convbench.watch]; what it knows is in .asv/watch of the project, one
file that survives whatever ends it. New commits are measured in a clone of its own, the oldest
first, each is gated against the nearest that was measured, and where several can be to blame
they are halved. docs/watch.md says more, and how systemd keeps it."""
EPILOG = """\
examples:
  convbench watch --once                        look once, do all that is to be done, and leave
  convbench watch --every 10m --serve 127.0.0.1:8042

exit codes: of --once 2 a commit is wrong; else 1 one is slower; else 3 one has failed, or
something has not gone well; else 0. 4 bad input, another watch has the folder or nothing can be
written, 70 a defect of convbench, 130 interrupted, 143 ended by SIGTERM"""

_LOOK_S = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--every", type=budget, metavar="TIME",
        help="between two looks, as in 90s or 10m; default: what the project says, or 10m",
    )  # fmt: skip
    parser.add_argument("--once", action="store_true", help="look once")
    parser.add_argument(
        "--serve", metavar="HOST:PORT", help="show the last runs and all pages there, and /healthz"
    )
    parser.add_argument(
        "--public", action="store_true", help="others may reach them; needs a token"
    )
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE",
        help="of mode 600, with what POST /check wants to be shown; default: the variable"
        " CONVBENCH_WATCH_TOKEN",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Run the command; its exit code."""
    from convbench.machine import watch
    from convbench.watching.notify import TOKEN, ways
    from convbench.watching.repository import Clone, origin_of
    from convbench.watching.rounds import Rounds
    from convbench.watching.state import Book, alone

    project = here()
    asked = project.watch
    every_s = arguments.every or asked.every_s
    folder = project.root / ".asv" / "watch"
    loop = _Loop(every_s)
    with ExitStack() as stack:
        stack.enter_context(loop.signals())
        begin = _site(arguments, folder, loop) if arguments.serve else None
        os.environ.pop(TOKEN, None)
        told = ways(asked.webhook, asked.command)
        stack.enter_context(alone(folder))
        watch.adopt()  # what a child leaves behind is found, and ends with it
        book = Book(folder)
        if begin is not None:
            stack.callback((server := begin()).shutdown)
            say(f"serving at {server.address}")
        origin = origin_of(project.root, asked.repository)
        clone = Clone(folder / "clone", origin, asked.branches, asked.limit_s, lambda: loop.stopped)
        rounds = Rounds(folder, asked, clone, book, told, say, lambda: loop.stopped)
        code = loop.run(rounds, once=arguments.once)
    show(arguments, "watch", book.state.to_dict, lambda: _table(book.state))
    return code


class _Loop:
    """Round after round, until somebody wants it to end."""

    def __init__(self, every_s: float) -> None:
        self.every_s = every_s
        self.stopped = 0
        self.asked = False

    def look(self) -> None:
        """Begin the next round now."""
        self.asked = True

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Note Ctrl-C and SIGTERM, which are heard where nothing is half done."""

        def note(number: int, _: FrameType | None) -> None:
            self.stopped = number

        before = {each: signal.signal(each, note) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def run(self, rounds: Rounds, *, once: bool) -> int:
        """The exit code."""
        from convbench.watching.children import Stopped

        while True:
            begun_s, self.asked = time.monotonic(), False
            try:
                problem = rounds.round()
            except Stopped:
                rounds.book.change(doing=None)
                break
            except (InputError, OSError) as error:
                if once:
                    raise
                problem = str(error)
            if problem:
                say(problem)
            if once:
                return _outcome(rounds.handled, problem)
            rounds.handled.clear()
            say(f"the next look is in {duration(self.every_s)}, or when it is asked for")
            while not (self.stopped or self.asked):
                if time.monotonic() - begun_s >= self.every_s:
                    break
                time.sleep(_LOOK_S)
            if self.stopped:
                break
        say("ended: what is complete is kept, and the same command goes on")
        return Exit.TERMINATED if self.stopped == signal.SIGTERM else Exit.INTERRUPTED


def _site(arguments: argparse.Namespace, folder: Path, loop: _Loop) -> Callable[[], Server]:
    """What starts to serve, when the folder is ours; the token is out of the environment then."""
    try:
        from convbench.watching import serve
    except ModuleNotFoundError as error:
        raise InputError(
            f"--serve: the library that serves is not installed ({error.name}); expected bottle."
            " Install it: pip install 'convbench[watch]'"
        ) from error

    token = serve.token(arguments.token_file)
    host, port = serve.address(arguments.serve, public=arguments.public, token=token)
    site = serve.Site(folder, loop.every_s, loop.look, token, arguments.public)
    return lambda: serve.start(site, host, port)


def _outcome(handled: list[Watched], problem: str) -> Exit:
    from convbench.watching.state import Verdict

    verdicts = {commit.verdict for commit in handled}
    if Verdict.WRONG in verdicts:
        return Exit.WRONG
    if Verdict.SLOWER in verdicts:
        return Exit.SLOWER
    return Exit.NOTHING if problem or Verdict.FAILED in verdicts else Exit.OK


def _table(state: State) -> Table:
    from convbench.results.folder import short
    from convbench.watching.rounds import in_words

    shown = state.commits[-20:]
    return Table((
        Column("when", [date(c.done_s or c.found_s) for c in shown], "word"),
        Column("commit", [short(c.commit) for c in shown], "word"),
        Column("branches", [", ".join(c.branches) for c in shown], "name"),
        Column("verdict", [in_words(c) for c in shown], "name"),
        Column("subject", [c.subject for c in shown], "name"),
    ))  # fmt: skip
