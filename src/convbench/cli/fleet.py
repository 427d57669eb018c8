"""``convbench fleet``."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convbench.cli.arguments import (
    add_list,
    add_scheduler,
    all_workloads,
    chosen_security,
    count,
    here,
    positive,
)
from convbench.cli.output import EXIT_CODES, say, show, until_interrupted
from convbench.errors import InputError
from convbench.stimulus.workloads import find, select
from convbench.words.numbers import count as count_of
from convbench.words.numbers import duration
from convbench.words.status import Exit

if TYPE_CHECKING:
    from rich.console import RenderableType

    from convbench.fleet.client import Fleet, Range, Security
    from convbench.fleet.received import Received
    from convbench.fleet.slots import Labels
    from convbench.fleet.units import Kind, Unit
    from convbench.measuring.asv_store import Cell, Store
    from convbench.results.rows import Row

HELP = "measure many commits over many machines, with Dask"
DESCRIPTION = """\
Each commit is checked out and measured by `convbench bench` on every kind of machine that
is connected; equal machines share the work. Results are stored here as they come, where
`convbench bench` would have stored them, and what is stored already is not measured again.
Without --scheduler one worker is started on this machine. docs/fleet.md has the rest."""
EPILOG = f"""\
examples:
  convbench fleet HEAD~20..HEAD
  convbench fleet scheduler --host 10.0.0.1 --tls-ca-file ca.pem --tls-cert me.pem --tls-key me.key
  convbench fleet worker tcp://127.0.0.1:8786
  convbench fleet v1.0..main --list standard --scheduler tcp://127.0.0.1:8786

{EXIT_CODES}"""

_COMMANDS = ("scheduler", "worker")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "range", metavar="RANGE", help="the commits, as in HEAD~20..HEAD, or one; or the word"
        " scheduler, or worker, to start one",
    )  # fmt: skip
    parser.add_argument(
        "address", metavar="ADDRESS", nargs="?", help="of a worker: its scheduler's, as in"
        " tcp://10.0.0.1:8786",
    )  # fmt: skip
    add_list(parser, default="smoke")
    for option, what in (("target", "targets"), ("workload", "workloads")):
        parser.add_argument(
            f"--{option}", action="append", metavar=option.upper(),
            help=f"of the {what} only this one; repeatable",
        )  # fmt: skip
    parser.add_argument(
        "--bench", action="append", metavar="REGEX",
        help="only what matches, as of `convbench bench`; repeatable; instead of --list",
    )  # fmt: skip
    parser.add_argument(
        "--rounds", type=count, metavar="N", help="as of `convbench bench`"
    )  # fmt: skip
    parser.add_argument(
        "--shard", type=count, metavar="N", default=40,
        help="so many cells of a commit at once, which is what a lost worker costs; default: 40",
    )  # fmt: skip
    parser.add_argument(
        "--timeout", type=positive, metavar="SECONDS", default=7200.0,
        help="what takes longer at once is ended; default: 7200",
    )  # fmt: skip
    add_scheduler(parser, "none, and one worker here")
    parser.add_argument(
        "--host", default="127.0.0.1", help="of a scheduler: where it listens; default: 127.0.0.1"
    )
    parser.add_argument(
        "--port", type=int, default=8786, help="of a scheduler; default: 8786, and 0 is any"
    )
    parser.add_argument(
        "--insecure", action="store_true", help="of a scheduler: listen beyond this machine without"
        " TLS, in a network that you trust",
    )  # fmt: skip
    parser.add_argument(
        "--cores-each", type=count, metavar="N", help="of a worker: one for each N cores of this"
        " machine; default: one with all of them, or one for each card",
    )  # fmt: skip
    parser.add_argument(
        "--folder", type=Path, metavar="FOLDER", help="of a worker: where it keeps clones and"
        " environments; default: ~/.cache/convbench/fleet",
    )  # fmt: skip
    parser.add_argument(
        "--pass", dest="passed", action="append", default=[], metavar="VARIABLE",
        help="of a worker: what is measured may see this variable, too; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--user", metavar="NAME", default="", help="of a worker that root starts: who the code that"
        " is measured runs as; default: who the worker does",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Run the command; its exit code."""
    from convbench.fleet import serve

    address = arguments.address
    security = chosen_security(arguments, arguments.scheduler, address)
    if (arguments.range == "worker") != (address is not None):
        raise InputError(
            f"fleet: what comes after {arguments.range!r} is {address!r}; expected an address after"
            " the word worker, as tcp://127.0.0.1:8786, and nothing after others. Correct it."
        )
    if arguments.range == "scheduler":
        return serve.scheduler(
            arguments.host, arguments.port, security, insecure=arguments.insecure
        )
    if arguments.range == "worker":
        more = (arguments.folder, arguments.passed, arguments.cores_each, arguments.user)
        return serve.workers(address, security, *more)
    return _measure(arguments, security)


def workers(fleet: Fleet) -> list[Labels]:
    """Those that can be asked; what is against the others is said."""
    from convbench import __version__

    found = []
    for address, labels in sorted(fleet.workers().items()):
        if labels is not None and labels.version == __version__:
            found.append(labels)
            continue
        why = "it offers nothing of ours: start it with `convbench fleet worker`"
        if labels is not None:
            why = f"it has convbench {labels.version}, and this is {__version__}: install that"
        say(f"WARNING: the worker at {address} is not used: {why}")
    if not found:
        raise InputError(
            "fleet: the workers that can be asked are none; expected one at least, of this version"
            " of convbench. Start `convbench fleet worker` where it is to measure."
        )
    return found


def _measure(arguments: argparse.Namespace, security: Security) -> int:
    from convbench.fleet.client import Fleet, Range
    from convbench.fleet.received import stored
    from convbench.fleet.units import kinds, split
    from convbench.results.folder import Folder
    from convbench.results.records import load
    from convbench.results.rows import exit_code, summarise

    project = here()
    started_s = time.monotonic()
    of = Range.of(arguments.range, project.root)
    folder = Folder.of_config(project.config)
    store, cells = _cells(arguments, of)
    done: list[Received] = []
    with Fleet(arguments.scheduler, security) as fleet:
        found = kinds(workers(fleet), folder)
        units = [*split(of.commits, found, cells, arguments.rounds, arguments.shard)]
        kept = stored(folder, units)
        left = [unit for unit in units if unit.id not in kept]
        say(
            f"{count_of(len(of.commits), 'commit')} on {count_of(len(found), 'kind')} of machine:"
            f" {count_of(len(units), 'unit')}, {len(kept)} of them stored already"
        )
        told = _Told(len(left))

        def take(received: Received) -> None:
            done.append(received)
            told(received)

        store.describe()
        measuring = fleet.measure(left, of, folder, arguments.timeout)
        interrupted = bool(left) and until_interrupted(measuring, take)
    if interrupted:
        say("interrupted: what was stored is kept, and the same command continues")

    loaded = load(folder.results, [*of.commits])
    names = {kind.machine for kind in found}
    rows = summarise(record for record in loaded.records if record.machine in names)

    def listed() -> dict[str, Any]:
        return {
            "interrupted": interrupted,
            "elapsed_s": time.monotonic() - started_s,
            "units": len(units),
            "kept": len(kept),
            "commits": [_of_commit(commit, units, kept, done, rows) for commit in of.commits],
            "machines": [_of_kind(kind, done) for kind in found],
            "problems": [_problem(one) for one in done if one.problem],
        }

    show(arguments, "fleet", listed, lambda: _table(listed()))
    if interrupted:
        return Exit.INTERRUPTED
    code = exit_code(rows)
    return Exit.INPUT if code != Exit.WRONG and any(one.problem for one in done) else code


def _cells(arguments: argparse.Namespace, of: Range) -> tuple[Store, list[Cell]]:
    """What there is to measure, by the suites of the working tree."""
    import os

    from convbench.cli.bench import selecting
    from convbench.measuring.asv_store import Store

    project = here()
    workloads = all_workloads(project)
    chosen = (
        find(workloads, arguments.workload)
        if arguments.workload
        else select(workloads, arguments.list, project.lists)
    )
    if any(workload.tier == "full" for workload in chosen):
        os.environ["CONVBENCH_FULL"] = "1"
    if not project.config.is_file():
        raise InputError(
            f"fleet: the configuration is not at {project.config}; expected an asv.conf.json."
            " `convbench init` writes it; or run in the project that has it."
        )
    listed = None if arguments.workload else arguments.list
    say("discovering the suites ...")
    store = Store(project.config, arguments.bench or [selecting(listed, chosen)], of.head)
    cells = [
        cell for cell in store.cells() if not arguments.target or cell.target in arguments.target
    ]
    if not cells:
        raise InputError(
            "fleet: what was selected is nothing; expected a benchmark that matches. `convbench"
            " workloads` and `convbench backends` list what there is."
        )
    return store, cells


class _Told:
    """Says of every unit what became of it, and where."""

    def __init__(self, total: int) -> None:
        self._left = total
        self._of: Counter[str] = Counter()

    def __call__(self, received: Received) -> None:
        unit = received.unit
        self._left -= 1
        self._of[received.worker] += 1
        became = received.problem or f"{duration(received.measured_s)} of measuring"
        say(
            f"{unit.commit[:8]} on {received.worker or unit.machine} (its"
            f" {self._of[received.worker]}.): {became};"
            f" {count_of(self._left, 'unit')} left"
        )
        if abs(received.ahead_s) > 60:
            say(
                f"WARNING: the clock of {received.worker} is {duration(abs(received.ahead_s))}"
                f" {'ahead' if received.ahead_s > 0 else 'behind'}, and so are the times that its"
                " evidence was written at; what was measured is not"
            )


def _of_commit(
    commit: str, units: list[Unit], kept: set[str], done: list[Received], rows: list[Row]
) -> dict[str, Any]:
    statuses = Counter(row.status for row in rows if row.commit == commit)
    return {
        "commit": commit,
        "units": sum(unit.commit == commit for unit in units),
        "kept": sum(unit.commit == commit and unit.id in kept for unit in units),
        "measured": sum(one.unit.commit == commit and not one.problem for one in done),
        "rows": {str(status): number for status, number in sorted(statuses.items())},
    }


def _of_kind(kind: Kind, done: list[Received]) -> dict[str, Any]:
    mine = [one for one in done if one.unit.hardware == kind.hardware and not one.problem]
    return {
        "machine": kind.machine,
        "hardware": kind.hardware,
        "names": [*kind.names],
        "workers": kind.workers,
        "units": len(mine),
        "measured_s": sum(one.measured_s for one in mine),
    }


def _problem(one: Received) -> dict[str, Any]:
    about = {"commit": one.unit.commit, "machine": one.unit.machine, "worker": one.worker}
    return {**about, "unit": one.unit.id, "cells": len(one.unit.cells), "reason": one.problem}


def _table(listed: dict[str, Any]) -> RenderableType:
    from convbench.results.folder import short
    from convbench.words.table import Column, Table, remark, stacked

    commits, kinds = listed["commits"], listed["machines"]
    counts = ("units", "kept", "measured")
    of_commits = [
        Column("commit", [short(commit["commit"]) for commit in commits], "word"),
        *(Column(name, [str(commit[name]) for commit in commits]) for name in counts),
        Column("rows", [
            ", ".join(f"{number} {status}" for status, number in commit["rows"].items())
            for commit in commits
        ], "name"),
    ]  # fmt: skip
    of_kinds = [
        Column("machine", [kind["machine"] for kind in kinds], "word"),
        Column("hardware", [kind["hardware"] for kind in kinds], "name"),
        *(Column(name, [str(kind[name]) for kind in kinds]) for name in ("workers", "units")),
        Column("measuring", [duration(kind["measured_s"]) for kind in kinds]),
    ]
    remarks = (
        part
        for one in listed["problems"]
        for part in remark(
            "NOT MEASURED", f"{short(one['commit'])} on {one['machine']}, {one['cells']} cells",
            [one["reason"]], "bold red",
        )
    )  # fmt: skip
    return stacked([Table(of_commits), Table(of_kinds), *remarks])
