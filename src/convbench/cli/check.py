"""``convbench check``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, get_args

from convbench.cli.output import EXIT_CODES, show
from convbench.errors import InputError
from convbench.stimulus.formats import FORMATS, Precision
from convbench.words.status import Exit

HELP = "say whether an output from elsewhere is right, and if not, why"
DESCRIPTION = """\
The pipeline is a TOML or JSON file with the tables conv and pool and the flag bias, as
in a row of workloads.toml; n, h, w and c are those of the input. Arrays are .npy files:
NHWC, filters (R, S, C // groups, K)."""
EPILOG = f"""\
example:
  convbench check --pipeline spec.toml --input x.npy --filters w.npy --bias b.npy --output y.npy

{EXIT_CODES}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--pipeline", type=Path, required=True, metavar="FILE")
    parser.add_argument("--input", type=Path, required=True, metavar="X.npy")
    parser.add_argument("--filters", type=Path, metavar="W.npy")
    parser.add_argument("--bias", type=Path, metavar="B.npy")
    parser.add_argument("--output", type=Path, required=True, metavar="Y.npy", help="to be checked")
    parser.add_argument("--dtype", choices=FORMATS, help="default: that of the input")
    parser.add_argument(
        "--precision", choices=get_args(Precision), default="ieee",
        help="tf32 if float32 products may be of factors rounded to 11 bits; default: ieee",
    )  # fmt: skip
    parser.add_argument(
        "--accumulation", choices=FORMATS,
        help="the format of the sums; default: float32 for 16-bit formats, else the dtype",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Run the command; its exit code."""
    from convbench.correctness.check import check, render
    from convbench.stimulus.spec import PipelineSpec

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
    show(arguments, "check", report.to_dict, lambda: render(report))
    return Exit.OK if report.ok else Exit.WRONG


def _load_array(path: Path) -> Any:
    """Read a .npy file; one that would run code to be read is refused."""
    import ml_dtypes
    import numpy as np

    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r")
    except (ValueError, EOFError) as error:
        raise InputError(
            f"{path}: the file is unreadable ({error}); expected an array that numpy.save has "
            "written. Write it again; arrays of objects cannot be read."
        ) from error
    # The format has no name for bfloat16: numpy.save writes two nameless bytes an element.
    return array.view(ml_dtypes.bfloat16) if array.dtype == np.dtype("V2") else array


def _load_table(path: Path) -> dict[str, Any]:
    """Read a TOML or JSON file that holds one table."""
    import tomllib

    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:  # both decoders' errors are
        raise InputError(
            f"{path}: the file is unreadable ({error}); expected TOML, or JSON if it is named "
            ".json. Correct it."
        ) from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: the content is no table; expected conv, bias, pool. Write one.")
    return data
