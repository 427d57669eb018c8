"""The command ``convbench``: reads arguments, calls one function, prints what it returns.

Everything that takes time to import is imported by the command that needs it, so that ``--help``
answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import platform
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from convbench import __version__
from convbench.errors import ConvbenchError, InputError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from convbench.verify import Check
    from convbench.workloads import Workload

T = TypeVar("T")

_LISTS = ("smoke", "standard", "full")

EXIT_OK, EXIT_WRONG, EXIT_NOTHING, EXIT_INPUT, EXIT_INTERRUPTED = 0, 2, 3, 4, 130

_DESCRIPTION = """\
Is the convolution still right, is it slower, and how sure are we?

  convbench doctor            is this machine fit to measure, and what disturbs it?
  convbench backends          what can compute here, and why the rest cannot
  convbench notebook          the 5x5x3 example, on everything that is present
  convbench verify            every target against the float64 oracle
  convbench check             an output from elsewhere: is it right, and if not, why?
  convbench bench             measure: the suites of asv, each cell in several fresh processes
  convbench results           the table of what asv measured
  convbench compare A B       what became wrong or slower between two measured commits
  convbench report            one page that shows all of it, to open in a browser
"""

_EXIT_CODES = """\
exit codes: 0 fine, 1 something is slower (or, for doctor, the machine is unfit),
2 something is wrong or failed, 3 nothing was measured, 4 bad input or could not set up,
130 interrupted"""

_COMPARE_EXIT_CODES = """\
exit codes: 2 head is wrong, failed or skipped where base was right; else 1 something is slower;
else 3 nothing could be compared, or a cell of base is missing in head; else 0; 4 bad input.
0 with every time undecided does not say that nothing is slower: --strict makes that 3"""


_REPORT_EXIT_CODES = """\
exit codes: 2 head is wrong or failed; else 3 nothing was measured; else as `convbench compare`,
if there is a base; else 0; 4 bad input. The page is written in any case but 4"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.command(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("convbench: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader, `head` perhaps, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except InputError as error:
        print(f"convbench: {error}", file=sys.stderr)
        return EXIT_INPUT
    except (ConvbenchError, OSError) as error:
        print(f"convbench: {type(error).__name__}: {error}", file=sys.stderr)
        return EXIT_INPUT
    return code


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Leave with 4: argparse's own 2 means "wrong" here."""
        self.print_usage(sys.stderr)
        self.exit(EXIT_INPUT, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        "convbench",
        description=_DESCRIPTION,
        epilog=_EXIT_CODES,
        formatter_class=_Formatter,
    )
    parser.add_argument("--version", action="version", version=f"convbench {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, function: Any, text: str, epilog: str = "") -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + ".", epilog=epilog,
            formatter_class=_Formatter,
        )  # fmt: skip
        sub.set_defaults(command=function)
        sub.add_argument("--json", action="store_true", help="print JSON, for programs")
        return sub

    sub = command(
        "notebook", _notebook, "do what the notebook meant to do, on every backend present"
    )
    sub.add_argument("--seed", type=_seed, default=0, metavar="N", help="default: 0")
    _add_target(sub)

    command(
        "doctor",
        _doctor,
        "say whether this machine is fit to measure, and what disturbs it",
        "Each finding is good, care or bad. After a look at the settings the same code is timed\n"
        "in fresh processes. Whatever differs between them is noise, and shows which slow-downs\n"
        "can be found here with 5 processes a side.\n\n"
        "examples:\n  convbench doctor --seconds 120\n"
        "  convbench doctor --seconds 0 && make bench\n\n"
        "exit codes: 0 fit, or usable with care, 1 unfit: something is bad,\n"
        "4 bad input or could not set up, 130 interrupted",
    ).add_argument(
        "--seconds", type=_duration, default=30.0, metavar="S",
        help="how long to time the same code in fresh processes; 0 leaves it out; default: 30",
    )  # fmt: skip

    command("backends", _backends, "list backends and devices, or why they cannot be used")

    sub = command("workloads", _workloads, "list the workloads with their sizes")
    _add_selection(sub, default="full")

    sub = command(
        "verify",
        _verify,
        "check targets against the float64 oracle",
        "examples:\n  convbench verify --list standard\n"
        "  convbench verify --target numpy@cpu --target tensorflow.xla@cpu --fill integers\n\n"
        + _EXIT_CODES,
    )
    _add_selection(sub, default="smoke")
    _add_target(sub)
    sub.add_argument(
        "--dtype", action="append", choices=("float64", "float32", "tf32", "float16", "bfloat16"),
        help="repeatable; default: float32 and float64",
    )  # fmt: skip
    sub.add_argument(
        "--fill", action="append",
        choices=("integers", "normal", "adversarial", "denormal", "nonfinite"),
        help="repeatable; default: all. Integers whose sums are exact must come out bit for bit",
    )  # fmt: skip
    sub.add_argument(
        "--processes", type=_count, default=1, metavar="N",
        help="compute each cell in N fresh processes with different numbers of threads, and say"
        " whether they give the same bits; default: 1",
    )  # fmt: skip
    sub.add_argument(
        "--thorough", action="store_true",
        help="check large outputs whole, not at a sample of their positions, with denormal numbers"
        " too, and what a backend declares to be slow",
    )  # fmt: skip
    sub.add_argument(
        "--self-test", action="store_true",
        help="instead, plant every known fault into every target and see that it is caught",
    )  # fmt: skip
    sub.add_argument("--junit", type=Path, metavar="FILE", help="also write JUnit XML, for CI")
    sub.add_argument("--seed", type=_seed, default=0, metavar="N", help="default: 0")
    sub.add_argument(
        "--timeout", type=_positive, default=600.0, metavar="SECONDS",
        help="one computation that takes longer has failed; default: 600",
    )  # fmt: skip
    sub = command(
        "check",
        _check,
        "say whether an output from elsewhere is right, and if not, why",
        "The pipeline is a TOML or JSON file with the tables conv and pool and the flag bias, as\n"
        "in a row of workloads.toml; n, h, w and c are those of the input. Arrays are .npy files:\n"
        "NHWC, filters (R, S, C // groups, K).\n\n"
        "example:\n  convbench check --pipeline spec.toml --input x.npy --filters w.npy"
        " --bias b.npy --output y.npy\n\n" + _EXIT_CODES,
    )
    sub.add_argument("--pipeline", type=Path, required=True, metavar="FILE")
    sub.add_argument("--input", type=Path, required=True, metavar="X.npy")
    sub.add_argument("--filters", type=Path, metavar="W.npy")
    sub.add_argument("--bias", type=Path, metavar="B.npy")
    sub.add_argument("--output", type=Path, required=True, metavar="Y.npy", help="to be checked")
    sub.add_argument("--dtype", metavar="NAME", help="default: that of the input")
    sub.add_argument(
        "--precision", choices=("ieee", "tf32"), default="ieee",
        help="tf32 if float32 products may be of factors rounded to 11 bits; default: ieee",
    )  # fmt: skip
    sub.add_argument(
        "--accumulation", metavar="NAME",
        help="the format of the sums; default: float32 for 16-bit formats, else the dtype",
    )  # fmt: skip

    sub = command(
        "bench",
        _bench,
        "measure the working tree with asv's suites, each cell in several fresh processes",
        "Results are filed under HEAD, where asv finds them, after every round; a run that was\n"
        "interrupted is continued by the next one. `asv run` measures other commits.\n\n"
        "examples:\n  convbench bench --list standard\n"
        "  convbench bench --bench 'bench_pipeline.*numpy@cpu' --rounds 10\n\n" + _EXIT_CODES,
    )
    sub.add_argument(
        "--list", choices=("smoke", "standard", "full"), default="smoke",
        help="which classes of the suites; each contains the one before; default: smoke",
    )  # fmt: skip
    sub.add_argument(
        "--bench", action="append", metavar="REGEX",
        help="only what matches, as in `asv run --bench`; repeatable; instead of --list",
    )  # fmt: skip
    sub.add_argument(
        "--rounds", type=_count, metavar="N",
        help="so many processes a cell for times, and no more for the rest; default: what each"
        " benchmark says, 5 for times",
    )  # fmt: skip
    sub.add_argument(
        "--timeout", type=_positive, metavar="SECONDS",
        help="a cell that takes longer in a process has failed; default: what asv.conf.json says",
    )  # fmt: skip
    sub.add_argument(
        "--fresh", action="store_true", help="do not continue a run that was interrupted"
    )
    sub.add_argument(
        "--config", type=Path, default=Path("asv.conf.json"), metavar="FILE",
        help="default: asv.conf.json",
    )  # fmt: skip

    sub = command(
        "results",
        _results,
        "show what asv measured: time, GFLOP/s, error over bound, status",
        "examples:\n  convbench results            the commit that was measured last\n"
        "  convbench results HEAD --json\n\n" + _EXIT_CODES,
    )
    sub.add_argument("commit", nargs="?", help="default: the one that was measured last")
    sub.add_argument("--svg", type=Path, metavar="FILE", help="also draw the table as a picture")
    _add_results_dir(sub)

    sub = command(
        "compare",
        _compare,
        "say what became wrong, slower or better between two measured commits, and how sure",
        "A side is REVISION[:ENVIRONMENT[:MACHINE]]; parts of the names do if they are unique.\n"
        "docs/comparing.md says what the verdicts mean.\n\n"
        "examples:\n  convbench compare HEAD~1 HEAD\n"
        "  convbench compare HEAD:2.20 HEAD:2.21 --delta 2\n"
        "  convbench compare main HEAD --format markdown > comment.md\n\n" + _COMPARE_EXIT_CODES,
    )
    _add_comparison(sub)

    sub = command(
        "report",
        _report,
        "write one page that shows what was measured of a commit, against an earlier one",
        "The page is one file of HTML that needs no network. HEAD and the base are coordinates as\n"
        "for `convbench compare`: REVISION[:ENVIRONMENT[:MACHINE]]. docs/report.md says more.\n\n"
        "examples:\n  convbench report\n  convbench report HEAD --base main --output report.html\n"
        "  convbench report --charts pictures    the charts as SVG and PNG, too\n\n"
        + _REPORT_EXIT_CODES,
    )
    _add_report(sub)
    return parser


def _add_selection(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--list", choices=("smoke", "standard", "full"), default=default,
        help=f"each contains the one before; default: {default}",
    )  # fmt: skip
    parser.add_argument(
        "--workload", action="append", metavar="NAME", help="only this one; repeatable"
    )
    parser.add_argument(
        "--workloads", type=Path, metavar="FILE",
        help="default: benchmarks/workloads.toml, here or in a folder above",
    )  # fmt: skip


def _add_comparison(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("base", metavar="BASE", help="measured before")
    parser.add_argument("head", metavar="HEAD", help="measured after")
    _add_delta(parser)
    parser.add_argument(
        "--bench", metavar="REGEX", help="only what matches, as in `asv run --bench`"
    )
    parser.add_argument(
        "--format", choices=("text", "markdown", "json", "junit"), default="text",
        help="markdown fits a comment on GitHub; default: text",
    )  # fmt: skip
    parser.add_argument("--all", action="store_true", help="show the cells that are equal, too")
    parser.add_argument(
        "--strict", action="store_true", help="exit with 3 if every time is undecided"
    )
    _add_results_dir(parser)


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "head", nargs="?", metavar="HEAD",
        help="default: git's HEAD if it was measured, else the newest commit that was",
    )  # fmt: skip
    parser.add_argument(
        "--base", metavar="COORDINATE",
        help="default: the commit measured before it on the same machine and environment",
    )  # fmt: skip
    parser.add_argument(
        "--baseline", metavar="TARGET",
        help="what the other targets are held against; default: numpy@cpu",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, default=Path(".asv", "report.html"), metavar="FILE",
        help="default: .asv/report.html",
    )  # fmt: skip
    parser.add_argument(
        "--charts", type=Path, metavar="FOLDER", help="also write each chart as SVG and PNG"
    )
    _add_delta(parser)
    _add_results_dir(parser)


def _add_delta(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--delta", type=_percent, default=0.05, metavar="PERCENT",
        help="slower or faster by at most this is equivalent; default: 5",
    )  # fmt: skip


def _add_results_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--results-dir", type=Path, default=Path(".asv", "results"), metavar="FOLDER",
        help="default: .asv/results",
    )  # fmt: skip


def _add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--target", action="append", metavar="TARGET",
        help="backend[.variant]@device, as in tensorflow.xla@cpu; repeatable; default: all",
    )  # fmt: skip


# -- commands --------------------------------------------------------------------------------------


def _notebook(arguments: argparse.Namespace) -> int:
    from convbench.notebook import render, run_notebook
    from convbench.verify import choose_targets

    _say("looking for backends ...")
    notebook = run_notebook(arguments.seed, choose_targets(arguments.target))
    _show(arguments, "notebook", notebook.to_dict, lambda: render(notebook))
    return notebook.exit_code()


def _doctor(arguments: argparse.Namespace) -> int:
    from convbench.doctor import diagnose, examine, render

    steps = examine(arguments.seconds)
    evidence = None
    said_s = -math.inf
    interrupted = False
    try:
        for step in steps:
            evidence = step.evidence
            if step.doing and (not step.again or time.monotonic() - said_s > 5):
                said_s = time.monotonic()
                _say(step.doing)
    except KeyboardInterrupt:  # what is known is shown all the same
        interrupted = True
        steps.close()
    assert evidence is not None
    diagnosis = diagnose(evidence)

    def listed() -> dict[str, Any]:
        return {"interrupted": interrupted, **diagnosis.to_dict()}

    _show(arguments, "doctor", listed, lambda: render(diagnosis, interrupted=interrupted))
    return EXIT_INTERRUPTED if interrupted else diagnosis.exit_code()


def _backends(arguments: argparse.Namespace) -> int:
    from convbench.workers import survey

    _say("looking for backends ...")
    presences = survey()

    def listed() -> dict[str, Any]:
        return {
            "backends": [
                {
                    "name": p.name,
                    "devices": list(p.devices),
                    "variants": list(p.variants),
                    "versions": dict(p.versions),
                    "targets": [str(target) for target in p.targets()],
                    "missing": [
                        {"target": str(t), "reason": a.reason, "remedy": a.remedy}
                        for t, a in p.missing().items()
                    ],
                }
                for p in presences
            ]
        }

    def table() -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        parts: list[RenderableType] = []
        for p in presences:
            parts.append(Text(p.name, style="bold"))
            parts += [Text(f"  {target}", style="green") for target in p.targets()]
            if p.versions:
                versions = ", ".join(f"{name} {value}" for name, value in p.versions.items())
                parts.append(Text(f"    {versions}"))
            for target, absence in p.missing().items():
                parts.append(Text(f"  {target}  {absence.reason}", style="yellow"))
                parts += [Text(f"    {absence.remedy}")] if absence.remedy else []
        return Group(*parts)

    _show(arguments, "backends", listed, table)
    return EXIT_OK if any(p.devices for p in presences) else EXIT_NOTHING


def _workloads(arguments: argparse.Namespace) -> int:
    chosen = _chosen_workloads(arguments)

    def listed() -> dict[str, Any]:
        return {
            "workloads": [
                {
                    "name": w.name,
                    "tier": w.tier,
                    "source": w.source,
                    "pipeline": w.pipeline.to_dict(),
                    "output_shape": list(w.pipeline.output_shape),
                    "flops": w.pipeline.flops,
                    "bytes_float32": w.pipeline.bytes(4),
                }
                for w in chosen
            ]
        }

    def table() -> RenderableType:
        from rich.table import Table

        rows = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("workload", "tier", "pipeline", "output"):
            rows.add_column(title, no_wrap=True)
        for title in ("GFLOP", "MB"):
            rows.add_column(title, justify="right")
        for w in chosen:
            rows.add_row(
                w.name, w.tier, str(w.pipeline), "x".join(map(str, w.pipeline.output_shape)),
                f"{w.pipeline.flops / 1e9:.3g}", f"{w.pipeline.bytes(4) / 1e6:.3g}",
            )  # fmt: skip
        return rows

    _show(arguments, "workloads", listed, table)
    return EXIT_OK


def _verify(arguments: argparse.Namespace) -> int:
    from convbench.inputs import Fill
    from convbench.verify import Plan, choose_targets, exit_code, junit, render, verify

    if arguments.self_test:
        return _self_test(arguments)
    workloads = _chosen_workloads(arguments)
    if arguments.junit and not arguments.junit.parent.is_dir():  # not after an hour of computing
        raise InputError.of(
            str(arguments.junit), "its folder", "not there", "one that exists", "Make it first."
        )
    _say("looking for backends ...")
    plan = Plan(
        workloads,
        choose_targets(arguments.target),
        arguments.dtype or ["float32", "float64"],
        [Fill(fill) for fill in arguments.fill or Fill],
        arguments.seed,
        arguments.timeout,
        arguments.processes,
        thorough=arguments.thorough,
    )
    checks: list[Check] = []
    interrupted = False
    started = time.monotonic()
    try:
        running = _with_progress(verify(plan), plan.cells, lambda c: f"{c.target} {c.workload}")
        checks.extend(running)
    except KeyboardInterrupt:  # what is finished is shown all the same
        interrupted = True
    elapsed_s = time.monotonic() - started
    if arguments.junit:
        _write(arguments.junit, junit(checks, elapsed_s))

    def listed() -> dict[str, Any]:
        return {
            "interrupted": interrupted,
            "cells": plan.cells,
            "elapsed_s": elapsed_s,
            "checks": [check.to_dict() for check in checks],
        }

    _show(arguments, "verify", listed, lambda: render(checks))
    if interrupted:
        _say(f"interrupted after {len(checks)} of {plan.cells} cells")
    _say(f"{elapsed_s:.1f} s")
    return EXIT_INTERRUPTED if interrupted else exit_code(checks)


def _check(arguments: argparse.Namespace) -> int:
    from convbench.checking import check, render
    from convbench.spec import PipelineSpec

    x = _load_array(arguments.input)
    data = _load_table(arguments.pipeline)
    if x.ndim == 4:
        data = dict(zip("nhwc", x.shape, strict=True)) | data
    report = check(
        _load_array(arguments.output),
        PipelineSpec.from_dict(data),
        x,
        *(path and _load_array(path) for path in (arguments.filters, arguments.bias)),
        dtype=arguments.dtype,
        precision=arguments.precision,
        accumulation=arguments.accumulation,
    )
    _show(arguments, "check", report.to_dict, lambda: render(report))
    return EXIT_OK if report.ok else EXIT_WRONG


def _bench(arguments: argparse.Namespace) -> int:
    from convbench.asv_store import Store
    from convbench.bench import Bench, Done
    from convbench.results import load
    from convbench.summary import exit_code, render, summarise, to_dict

    config = arguments.config.resolve()
    if not config.is_file():
        raise InputError.of(
            "bench", "the configuration", f"not at {config}", "asv.conf.json of a checkout",
            "Run it where that file is, or pass --config FILE.",
        )  # fmt: skip
    commit = _full_hash("HEAD", config.parent)
    if commit is None:
        raise InputError.of(
            "bench", "the commit", "none", "a git repository with a commit",
            "Results are filed under one: commit first.",
        )  # fmt: skip
    if _git(config.parent, "status", "--porcelain"):
        _say(
            "WARNING: the working tree is not clean: what is measured is the tree as it is, but it"
            f" is filed under HEAD ({commit[:8]})"
        )
    if arguments.list == "full":
        os.environ["CONVBENCH_FULL"] = "1"
    tiers = "|".join(("Smoke", "Standard", "Full")[: _LISTS.index(arguments.list) + 1])
    _say("discovering the suites ...")
    store = Store(config, arguments.bench or [rf"\.({tiers})\."], commit)
    bench = Bench(store, arguments.rounds, arguments.timeout, fresh=arguments.fresh)
    left = len(bench.left())
    if not bench.cells:
        raise InputError.of(
            "bench", "what was selected", "nothing", "a benchmark that matches",
            "`asv run --bench just-discover` writes what there is to benchmarks.json.",
        )  # fmt: skip
    if bench.continued:
        _say(f"continuing run {bench.run}, which was interrupted; --fresh starts anew")
    _say(f"{len(bench.cells)} cells, {left} measurements in up to {bench.rounds} rounds")

    def name(done: Done) -> str:
        return f"round {done.round} {done.cell.target} {' '.join(done.cell.params[1:])}"

    interrupted = False
    running = bench.measure()
    try:
        for _ in _with_progress(running, left, name):
            pass
    except KeyboardInterrupt:
        interrupted = True
        running.close()
        _say("interrupted: what was measured is kept, and the same command continues")
    loaded = load(store.conf.results_dir, [commit])
    for problem in loaded.problems:
        _say(problem)
    rows = summarise(r for r in loaded.records if r.environment == store.environment)
    terminal = _console()

    def listed() -> dict[str, Any]:
        return {
            "interrupted": interrupted,
            "run": bench.run,
            "elapsed_s": bench.elapsed_s,
            "measured_s": bench.measured_s(),
            **to_dict(rows, loaded.problems),
        }

    _show(
        arguments,
        "bench",
        listed,
        lambda: render(rows, width=terminal.width, color=terminal.is_terminal),
    )
    share = bench.measured_s() / bench.elapsed_s if bench.elapsed_s else 0.0
    _say(f"{bench.elapsed_s:.0f} s, {share:.0%} of it spent measuring")
    return EXIT_INTERRUPTED if interrupted else exit_code(rows)


def _results(arguments: argparse.Namespace) -> int:
    from convbench.results import latest_commit, load
    from convbench.summary import exit_code, render, summarise, to_dict

    loaded = load(arguments.results_dir)
    for problem in loaded.problems:
        _say(problem)
    measured = sorted({record.commit for record in loaded.records})
    latest = latest_commit(loaded.records)
    if arguments.commit is None:
        commits = [latest] if latest else []
    else:
        name = _full_hash(arguments.commit) or arguments.commit
        commits = [commit for commit in measured if commit.startswith(name)]
    if len(commits) > 1:
        raise InputError.of(
            "results", "the commit", repr(arguments.commit),
            f"the start of one of {', '.join(c[:12] for c in commits)}", "Give more of the hash.",
        )  # fmt: skip
    rows = summarise(record for record in loaded.records if record.commit in commits)
    if not rows:
        _say(
            f"nothing measured for {arguments.commit or 'any commit'} in {arguments.results_dir};"
            f" it has {', '.join(c[:8] for c in measured) or 'no results'}. `make bench` measures."
        )
    if arguments.svg:
        _write(arguments.svg, _picture(render(rows, width=160, color=True)).encode())
    terminal = _console()
    _show(
        arguments,
        "results",
        lambda: to_dict(rows, loaded.problems),
        lambda: render(rows, width=terminal.width, color=terminal.is_terminal),
    )
    return exit_code(rows)


def _compare(arguments: argparse.Namespace) -> int:
    from convbench.compare import compare
    from convbench.comparison import Rule
    from convbench.results import load
    from convbench.sides import Coordinate, choose_sides, find_commit, measured_commits

    asked = Coordinate.parse(arguments.base), Coordinate.parse(arguments.head)
    rule = Rule(delta=arguments.delta)
    measured = measured_commits(arguments.results_dir)
    base, head = (find_commit(side.revision, measured, _full_hash) for side in asked)
    loaded = load(arguments.results_dir, {base, head})
    for problem in loaded.problems:
        _say(problem)
    sides = choose_sides(*asked, (base, head), loaded.records, platform.node())
    comparison = compare(*sides, rule, arguments.bench)
    if not all(side.records for side in sides):
        known = f"{', '.join(measured[:10]) or 'nothing'}{', ...' * (len(measured) > 10)}"
        _say(f"{arguments.results_dir} has results of {known}; `convbench bench` measures")

    def rendered() -> str:
        from convbench.comparison_text import junit, markdown, render

        match arguments.format:
            case "markdown":
                return markdown(comparison)
            case "junit":
                return junit(comparison, strict=arguments.strict).decode()
        terminal = _console()
        return render(
            comparison, width=terminal.width, color=terminal.is_terminal, everything=arguments.all
        )

    arguments.json = arguments.json or arguments.format == "json"
    _show(
        arguments,
        "compare",
        lambda: comparison.to_dict(strict=arguments.strict) | {"problems": [*loaded.problems]},
        rendered,
    )
    return comparison.exit_code(strict=arguments.strict)


def _report(arguments: argparse.Namespace) -> int:
    from convbench.comparison import Rule

    try:
        from convbench.report import charts, page
        from convbench.report.data import Request, gather
    except ModuleNotFoundError as error:
        raise InputError.of(
            "report", "a library that draws", f"not installed ({error.name})",
            "Altair, Jinja2 and vl-convert", "Install them: pip install 'convbench[report]'",
        ) from error  # fmt: skip
    started_s = time.monotonic()

    def progress(text: str) -> None:
        if time.monotonic() - started_s > 2:
            _say(f"{text} ...")

    data = gather(
        Request(
            arguments.results_dir, arguments.head, arguments.base, arguments.baseline,
            Rule(delta=arguments.delta), platform.node(),
        ),
        _full_hash,
        progress,
    )  # fmt: skip
    for problem in data.problems:
        _say(problem)
    progress("making the page")
    sections = page.sections(data)
    written = {arguments.output: page.render(data, sections).encode()}
    if arguments.charts is not None:
        progress("drawing the charts")
        for chart in (chart for section in sections for chart in section.charts):
            written[arguments.charts / f"{chart.id}.svg"] = charts.svg(chart).encode()
            written[arguments.charts / f"{chart.id}.png"] = charts.png(chart)
    for path, content in written.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, content)
    page_path, *chart_paths = map(str, written)

    def listed() -> dict[str, Any]:
        return {
            "exit_code": data.exit_code(),
            "reason": data.outcome(),
            "page": page_path,
            "charts": chart_paths,
            "head": data.head.to_dict(),
            "base": data.comparison and data.comparison.base.to_dict(),
            "remarks": list(data.remarks),
            "problems": list(data.problems),
        }

    def rendered() -> str:
        pictures = f" and {len(chart_paths)} pictures in {arguments.charts}" if chart_paths else ""
        return f"{data.outcome()}\nwrote {page_path}{pictures}\n"

    _show(arguments, "report", listed, rendered)
    return data.exit_code()


def _self_test(arguments: argparse.Namespace) -> int:
    from convbench.faults import FAULTS
    from convbench.selftest import Planted, Unfit, exit_code, render, self_test
    from convbench.verify import choose_targets

    _say("looking for backends ...")
    targets = choose_targets(arguments.target)
    present = sum(absence is None for absence in targets.values())
    _say(f"planting {len(FAULTS)} faults into each of {present} targets")
    total = present * len(FAULTS) + len(targets) - present
    running = self_test(targets, arguments.timeout)
    results = list(_with_progress(running, total, lambda result: str(result.target)))

    def listed() -> dict[str, Any]:
        return {
            "planted": [r.to_dict() for r in results if isinstance(r, Planted)],
            "unfit": [r.to_dict() for r in results if isinstance(r, Unfit)],
        }

    _show(arguments, "self-test", listed, lambda: render(results))
    return exit_code(results)


# -- what they share -------------------------------------------------------------------------------


def _chosen_workloads(arguments: argparse.Namespace) -> tuple[Workload, ...]:
    from convbench.workloads import find, load, select

    workloads = load(arguments.workloads)
    if arguments.workload:
        return tuple(find(workloads, arguments.workload))
    return tuple(select(workloads, arguments.list))


def _load_array(path: Path) -> Any:
    """Read a .npy file; one that would run code to be read is refused."""
    import ml_dtypes
    import numpy as np

    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r")
    except (ValueError, EOFError) as error:
        raise InputError.of(
            str(path), "the file", f"unreadable ({error})", "an array that numpy.save has written",
            "Write it again; arrays of objects cannot be read.",
        ) from error  # fmt: skip
    # The format has no name for bfloat16: numpy.save writes two nameless bytes an element.
    return array.view(ml_dtypes.bfloat16) if array.dtype == np.dtype("V2") else array


def _load_table(path: Path) -> dict[str, Any]:
    """Read a TOML or JSON file that holds one table."""
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:  # both decoders' errors are
        raise InputError.of(
            str(path), "the file", f"unreadable ({error})", "TOML, or JSON if it is named .json",
            "Correct it.",
        ) from error  # fmt: skip
    if not isinstance(data, dict):
        raise InputError.of(str(path), "the content", "no table", "conv, bias, pool", "Write one.")
    return data


def _full_hash(revision: str, folder: Path | None = None) -> str | None:
    """What git makes of a name; None if it does not know it, or there is no git."""
    return _git(folder, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}") or None


def _git(folder: Path | None, *arguments: str) -> str:
    """What git prints; "" where it fails, or is not there."""
    try:
        found = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=False, cwd=folder
        )
    except OSError:
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""


def _show(arguments: argparse.Namespace, name: str, listed: Any, rendered: Any) -> None:
    """Print the one or the other; only that which is printed is made."""
    if arguments.json:
        document = {"schema": f"convbench.{name}/1", "convbench": __version__, **listed()}
        print(json.dumps(_finite(document), indent=2, allow_nan=False))
    else:
        made = rendered()
        if isinstance(made, str):
            print(made, end="")
        else:
            _console().print(made)


def _picture(text: str) -> str:
    """Draw what a terminal would show, as SVG."""
    from rich._export_format import CONSOLE_SVG_FORMAT
    from rich.console import Console
    from rich.text import Text

    # Rich's own template loads its font from elsewhere; any monospaced one does.
    template = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    console = Console(record=True, width=160, file=io.StringIO())
    console.print(Text.from_ansi(text), end="")
    return console.export_svg(title="convbench results", code_format=template)


def _console() -> Console:
    from rich.console import Console

    # A pipe has no width: nothing is cut to one.
    return Console(highlight=False, width=None if sys.stdout.isatty() else 10_000, soft_wrap=False)


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        raise InputError.of(
            str(path), "the file", f"not writable ({error.strerror})", "a place to write to",
            "Choose another.",
        ) from error  # fmt: skip
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _say(text: str) -> None:
    """Tell how it goes, where it disturbs no one."""
    print(f"convbench: {text}", file=sys.stderr, flush=True)


def _with_progress(items: Iterator[T], total: int, name: Callable[[T], str]) -> Iterator[T]:
    """Show which item was the last, on standard error: a bar on a terminal, else some lines."""
    if not sys.stderr.isatty():
        shown = 0.0
        for done, item in enumerate(items, start=1):
            if time.monotonic() - shown > 5 or done == total:
                shown = time.monotonic()
                _say(f"{done}/{total} {name(item)}")
            yield item
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
            bar.update(task, advance=1, description=name(item))
            yield item


def _finite(value: Any) -> Any:
    """Replace what JSON has no number for by the strings "inf", "-inf" and "nan"."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)


def _seed(text: str) -> int:
    return int(_number(text, int, 0, 2**32 - 1))


def _count(text: str) -> int:
    return int(_number(text, int, 1, 10_000))


def _positive(text: str) -> float:
    return _number(text, float, 1e-3, 1e9)


def _percent(text: str) -> float:
    """A share; 5 is 5 %, and 0.05 is refused: it would be mistaken for it."""
    return _number(text.removesuffix("%"), float, 0.5, 1000) / 100


def _duration(text: str) -> float:
    return _number(text, float, 0, 86_400)


def _number(text: str, kind: type[int] | type[float], least: float, most: float) -> float:
    try:
        number = kind(text)
    except ValueError:
        number = kind(-1)
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least:g} to {most:.10g}")
    return number


if __name__ == "__main__":
    raise SystemExit(main())
