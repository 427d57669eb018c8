"""Arguments that several commands have, and what they may be."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from convbench.errors import InputError
from convbench.stimulus.workloads import BUILT_IN, TIERS, Workload, find, load, select
from convbench.words.numbers import seconds
from convbench.words.status import Exit
from convbench.words.text import clean

if TYPE_CHECKING:
    from convbench.backends import Origin
    from convbench.comparing.comparison import Demands
    from convbench.fleet.client import Security
    from convbench.machine.project import Project
    from convbench.results.folder import Folder

N = TypeVar("N", int, float)


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Epilogues as they are written, and room for long options."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32)


class Parser(argparse.ArgumentParser):
    """One that leaves with our exit code."""

    def error(self, message: str) -> NoReturn:
        """Leave with 4: argparse's own 2 means "wrong" here."""
        self.print_usage(sys.stderr)
        if found := re.search(r"invalid choice: '(.+?)' \(choose from (.+)\)", message):
            near = get_close_matches(found[1], re.findall(r"[\w-]+", found[2]))
            message += f". Did you mean {' or '.join(near)}?" if near else ""
        self.exit(Exit.INPUT, f"{self.prog}: {clean(message)}\n")


def add_command(commands: Any, name: str, command: Any) -> None:
    """Give a parser's `commands` one more: that of a module beside this one."""
    sub = commands.add_parser(
        name,
        help=command.HELP,
        description=f"{command.HELP[0].upper()}{command.HELP[1:]}.\n\n{command.DESCRIPTION}",
        epilog=command.EPILOG,
        formatter_class=Formatter,
    )
    sub.set_defaults(command=command.run)
    sub.add_argument(
        "--json", dest="format", action="store_const", const="json", default=argparse.SUPPRESS,
        help="print JSON, for programs",
    )  # fmt: skip
    getattr(command, "add_arguments", lambda _: None)(sub)


def add_list(parser: argparse.ArgumentParser, default: str) -> None:
    """How many workloads."""
    parser.add_argument(
        "--list", default=default,
        help=f"of workloads: {', '.join(TIERS)}, each of which contains the one before, or one of"
        f" the project's own; default: {default}",
    )  # fmt: skip


def add_selection(parser: argparse.ArgumentParser, default: str) -> None:
    """Which workloads."""
    add_list(parser, default)
    parser.add_argument(
        "--workload", action="append", metavar="NAME", help="only this one; repeatable"
    )
    parser.add_argument(
        "--workloads", type=Path, metavar="FILE",
        help="instead of convbench's own and those that the project adds",
    )  # fmt: skip


def add_delta(parser: argparse.ArgumentParser) -> None:
    """How small a difference does not matter."""
    parser.add_argument(
        "--delta", type=percent, default=0.05, metavar="PERCENT",
        help="slower or faster by at most this is equivalent; default: 5",
    )  # fmt: skip


def add_demands(parser: argparse.ArgumentParser, *, suspects: bool = True) -> None:
    """What has to be so beyond that nothing is wrong or surely slower."""
    parser.add_argument(
        "--strict", action="store_true", help="exit with 3 if anything is undecided"
    )
    parser.add_argument(
        "--require-power", type=percent, metavar="PERCENT",
        help="exit with 3 if a slow-down of so much would have gone unseen, as in 5%%",
    )  # fmt: skip
    if suspects:
        parser.add_argument(
            "--suspects", choices=("fail", "undecided", "pass"), default="undecided",
            help="what is slower where the machine was, too: exit with 1, 3 or 0; default:"
            " undecided, which is 3",
        )  # fmt: skip


def add_against(parser: argparse.ArgumentParser) -> None:
    """What else head is held against."""
    parser.add_argument(
        "--against", metavar="best|REVISION",
        help="hold it against the best of all measured ancestors, or a pinned commit, too: small"
        " steps add up",
    )  # fmt: skip


def add_scheduler(parser: argparse.ArgumentParser, default: str) -> None:
    """Where the workers of a fleet are asked for, and by whom."""
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help=f"as in tls://10.0.0.1:8786; default: {default}"
    )
    for name, of in (("ca-file", "the authority"), ("cert", "this side"), ("key", "this side")):
        parser.add_argument(
            f"--tls-{name}", type=Path, metavar="FILE",
            help=f"the {'key' if name == 'key' else 'certificate'} of {of}, for tls://",
        )  # fmt: skip


def chosen_security(arguments: argparse.Namespace, *addresses: str | None) -> Security:
    """The certificates that were given, which the addresses have to ask for.

    Raises
    ------
    InputError
        If they do not go together.
    """
    from convbench.fleet.client import Security

    security = Security(arguments.tls_ca_file, arguments.tls_cert, arguments.tls_key)
    files = (security.ca_file, security.cert, security.key)
    there = [file is not None and file.is_file() for file in files]
    if any(files) and not all(there):
        named = ", ".join(map(str, files))
        raise InputError(
            f"fleet: --tls-ca-file, --tls-cert and --tls-key are {named}; expected three files that"
            " are there, or none of them. Name all of them."
        )
    for address in filter(None, addresses):
        if address.startswith("tls://") != bool(security):
            given = "with" if security else "without"
            raise InputError(
                f"fleet: the scheduler is {address!r}, {given} certificates; expected tls:// with"
                " them, and another address without. Give --tls-ca-file, --tls-cert and --tls-key,"
                " or correct the address."
            )
    return security


def chosen_demands(arguments: argparse.Namespace) -> Demands:
    """Those that were made."""
    from convbench.comparing.comparison import Demands, Suspects

    suspects = Suspects(getattr(arguments, "suspects", Suspects.UNDECIDED))
    return Demands(arguments.strict, arguments.require_power, suspects)


def add_results_dir(parser: argparse.ArgumentParser) -> None:
    """Where the results are."""
    parser.add_argument(
        "--results-dir", type=Path, metavar="FOLDER",
        help="default: what asv.conf.json says, or .asv/results",
    )  # fmt: skip


def chosen_folder(arguments: argparse.Namespace) -> Folder:
    """The folder of results that was named, or that of the checkout here."""
    from convbench.results.folder import Folder

    if arguments.results_dir is not None:
        return Folder(arguments.results_dir)
    return Folder.of_config(here().config)


def add_target(parser: argparse.ArgumentParser) -> None:
    """Which targets."""
    parser.add_argument(
        "--target", action="append", metavar="TARGET",
        help="backend[.variant]@device, as in tensorflow.xla@cpu; repeatable; default: what the"
        " project asks for, or all",
    )  # fmt: skip


def here() -> Project:
    """The project that this is run in."""
    from convbench.machine.project import Project

    return Project.find()


def all_workloads(project: Project) -> tuple[Workload, ...]:
    """Load those that come with convbench, and what a project has beside them."""
    return load(BUILT_IN, *project.workloads)


def chosen_workloads(arguments: argparse.Namespace) -> tuple[Workload, ...]:
    """Load those that were selected."""
    project = here()
    file = arguments.workloads
    workloads = all_workloads(project)
    if file is not None:
        workloads = tuple(replace(workload, file=str(file)) for workload in load(file))
    if arguments.workload:
        return tuple(find(workloads, arguments.workload))
    return tuple(select(workloads, arguments.list, project.lists))


def chosen_targets(arguments: argparse.Namespace) -> list[str]:
    """Those that were named, or else those that the project asks for; empty for all."""
    return arguments.target or list(here().targets)


def installed_copies(project: Project, names: Iterable[str]) -> dict[str, Origin]:
    """Of backends that the project itself registers, those whose code is not what lies in it.

    What is installed from it without ``--editable`` is a copy of some earlier state, and what is
    installed from another checkout has never been in it.
    """
    from convbench.backends import registered
    from convbench.backends.survey import origins
    from convbench.machine.project import normalised

    entries = registered()
    own = [
        name
        for name in dict.fromkeys(names)
        if name in entries
        and (dist := entries[name].dist) is not None
        and normalised(dist.name) == project.name
    ]
    found = origins(own)
    return {name: it for name, it in found.items() if not project.holds(Path(it.file))}


def add_require(parser: argparse.ArgumentParser) -> None:
    """What must not be absent."""
    parser.add_argument(
        "--require", action="append", default=[], metavar="TARGET",
        help="exit with 3 unless this target has a result; repeatable",
    )  # fmt: skip


def _number(kind: Callable[[str], N], least: float, most: float) -> Callable[[str], N]:
    """What reads a number from a text, and refuses one that is out of its range."""

    def read(text: str) -> N:
        with contextlib.suppress(ValueError):
            number = kind(text)
            if least <= number <= most:
                return number
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least:g} to {most:.10g}")

    return read


seed = _number(int, 0, 2**32 - 1)
count = _number(int, 1, 10_000)
positive = _number(float, 1e-3, 1e9)
duration = _number(float, 0, 86_400)
"""Seconds, at most a day."""


def percent(text: str) -> float:
    """A share; 5 is 5 %, and 0.05 is refused: it would be mistaken for it."""
    return _number(float, 0.5, 1000)(text.removesuffix("%")) / 100


def budget(text: str) -> float:
    """Seconds, at most a day, of a time as in 90s, 5m or 1h; a number alone is seconds."""
    return _number(seconds, 1, 86_400)(text)
