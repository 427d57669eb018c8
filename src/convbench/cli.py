"""The command ``convbench``: reads arguments, calls one function, prints what it returns.

Everything that takes time to import is imported by the command that needs it, so that ``--help``
answers at once.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
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

EXIT_OK, EXIT_WRONG, EXIT_NOTHING, EXIT_INPUT, EXIT_INTERRUPTED = 0, 2, 3, 4, 130

_DESCRIPTION = """\
Is the convolution still right, is it slower, and how sure are we?

  convbench backends          what can compute here, and why the rest cannot
  convbench notebook          the 5x5x3 example, on everything that is present
  convbench verify            every target against the float64 oracle
  convbench check             an output from elsewhere: is it right, and if not, why?
  asv run -b Smoke            measure; `make bench` does it and shows the results
  convbench results           the table of what asv measured
"""

_EXIT_CODES = """\
exit codes: 0 fine, 2 something is wrong or failed, 3 nothing was measured,
4 bad input or could not set up, 130 interrupted"""


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
        "results",
        _results,
        "show what asv measured: time, GFLOP/s, error over bound, status",
        "examples:\n  convbench results            the commit that was measured last\n"
        "  convbench results HEAD --json\n\n" + _EXIT_CODES,
    )
    sub.add_argument("commit", nargs="?", help="default: the one that was measured last")
    sub.add_argument("--svg", type=Path, metavar="FILE", help="also draw the table as a picture")
    sub.add_argument(
        "--results-dir", type=Path, default=Path(".asv", "results"), metavar="FOLDER",
        help="default: .asv/results",
    )  # fmt: skip
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


def _results(arguments: argparse.Namespace) -> int:
    from convbench.results import exit_code, latest_commit, load, render, summarise, to_dict

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


def _full_hash(revision: str) -> str | None:
    """What git makes of a name; None if it does not know it, or there is no git."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    except OSError:
        return None
    return found.stdout.strip() or None


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
    finally:
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
