"""The command ``convbench``: chooses one of the files beside it, and says how it ended.

Each of those has a line of help, its arguments and a function that runs it. Everything that takes
time to import is imported there, when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import traceback
from collections.abc import Sequence

from convbench import __version__
from convbench.cli import (
    audit,
    backends,
    bench,
    check,
    compare,
    doctor,
    explain,
    fleet,
    gate,
    init,
    notebook,
    report,
    results,
    schema,
    verify,
    watch,
    workloads,
)
from convbench.cli.arguments import Formatter, Parser, add_command
from convbench.cli.output import EXIT_CODES, say
from convbench.errors import Blind, ConvbenchError, InputError
from convbench.machine.git import complaint
from convbench.words.status import Exit
from convbench.words.text import harmless

COMMANDS = (
    init,
    doctor,
    backends,
    workloads,
    notebook,
    verify,
    check,
    audit,
    bench,
    results,
    compare,
    gate,
    fleet,
    watch,
    report,
    explain,
    schema,
)

_DESCRIPTION = """\
Is the convolution still right, is it slower, and how sure are we?

  convbench init              make a repository ready: a backend, its test, asv, a workflow
  convbench doctor            is this machine fit to measure, and what disturbs it?
  convbench backends          what can compute here, and why the rest cannot
  convbench workloads         what is computed and timed, with sizes
  convbench notebook          the 5x5x3 example, on everything that is present
  convbench verify            every target against the float64 oracle
  convbench check             an output from elsewhere: is it right, and if not, why?
  convbench audit             does what can be seen support what a target claims?
  convbench bench             measure: the suites of asv, each cell in several fresh processes
  convbench results           the table of what asv measured
  convbench compare A B       what became wrong or slower between two measured commits
  convbench gate A [B]        measure two commits side by side: is B wrong, or slower?
  convbench fleet RANGE       measure many commits over many machines, with Dask
  convbench watch             measure and gate what is new on some branches, and tell
  convbench report            one page that shows all of it, to open in a browser
  convbench explain MESSAGE   what an error message or a log means, and what to do
  convbench schema NAME       the JSON Schema of what a command prints
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started us, as in `convbench ... >&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
        elif isinstance(stream, io.TextIOWrapper):  # a console that knows ASCII only costs a letter
            stream.reconfigure(errors="replace")
    parser = make_parser()
    words = sys.argv[1:] if argv is None else argv
    if not words:
        parser.print_help(sys.stderr)
        return Exit.INPUT
    arguments = parser.parse_args(words)
    code = _run(arguments)
    return _for_bisect(code) if getattr(arguments, "bisect", False) else code


def _run(arguments: argparse.Namespace) -> int:
    """Run a command; what it raises becomes a message and its exit code."""
    try:
        code: int = arguments.command(arguments)
    except KeyboardInterrupt:
        say("interrupted")
        return Exit.INTERRUPTED
    except InputError as error:
        say(str(error))
        if why := complaint():  # a repository of another user's looks as if there were no commit
            say(why)
        return Exit.INPUT
    except Blind as error:
        say(str(error))
        return Exit.WRONG
    except OSError as error:
        where, why = error.filename or "what is written to", error.strerror or str(error)
        say(
            f"{where}: it is not usable ({why}); expected a place to read and to write, with room."
            " Name another, or mend that one."
        )
        return Exit.INPUT
    except ConvbenchError as error:
        say(f"{type(error).__name__}: {error}")
        return Exit.INPUT
    except Exception:
        # Python's own 1 would say that something is slower.
        sys.stderr.write(harmless(traceback.format_exc()))
        say("this is a defect of convbench, and no verdict")
        return Exit.DEFECT
    return code


def _for_bisect(code: int) -> int:
    """As `git bisect run` reads it: 125 leaves a commit out, and from 128 on it ends.

    What is wrong or could not be measured may be slow or not: it is neither good nor bad.
    """
    known: dict[int, int] = {Exit.OK: 0, Exit.SLOWER: 1, Exit.WRONG: 125, Exit.NOTHING: 125}
    return known.get(code, 128 | code)


def make_parser() -> argparse.ArgumentParser:
    """All commands and their arguments; shtab completes shells by it, too."""
    parser = Parser(
        "convbench", description=_DESCRIPTION, epilog=EXIT_CODES, formatter_class=Formatter
    )
    parser.add_argument("--version", action="version", version=f"convbench {__version__}")
    parser.set_defaults(format="text")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        add_command(commands, command.__name__.rpartition(".")[2], command)
    return parser
