"""``convbench check``."""

from __future__ import annotations

import argparse
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from convbench.cli.output import EXIT_CODES, show
from convbench.errors import ArrayError, InputError, SpecError
from convbench.stimulus.formats import FORMATS, Precision
from convbench.words.status import Exit

if TYPE_CHECKING:
    from convbench.stimulus.spec import PipelineSpec

HELP = "say whether an output from elsewhere is right, and if not, why"
DESCRIPTION = """\
The pipeline is a TOML or JSON file with the tables conv and pool and the flag bias, as
in a row of workloads.toml; n, h, w and c are those of the input. Arrays are .npy files:
NHWC, filters (R, S, C // groups, K), unless --layout says otherwise.

Padding is "VALID", "SAME", "SAME_LOWER", one number, [height, width],
[[top, bottom], [left, right]] or [top, bottom, left, right]. ONNX's pads have another
order and are named: padding = {onnx = [top, left, bottom, right]}."""
EPILOG = f"""\
examples:
  convbench check --pipeline spec.toml --input x.npy --filters w.npy --bias b.npy --output y.npy
  convbench check --pipeline spec.toml --input x.npy --filters w.npy --output y.npy --layout torch

{EXIT_CODES}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--pipeline", type=Path, required=True, metavar="FILE")
    parser.add_argument("--input", type=Path, required=True, metavar="X.npy")
    parser.add_argument("--filters", type=Path, metavar="W.npy")
    parser.add_argument("--bias", type=Path, metavar="B.npy")
    parser.add_argument("--output", type=Path, required=True, metavar="Y.npy", help="to be checked")
    parser.add_argument(
        "--layout", default="NHWC", metavar="ORDER",
        help="in which order the axes of the input and the output, and of the filters, are: NCHW"
        " (filters OIHW), NCHW/HWIO, NHWC/OHWI, ..., or that of torch, onnx, keras, tensorflow,"
        " tflite; default: NHWC, filters HWIO",
    )  # fmt: skip
    parser.add_argument("--dtype", choices=FORMATS, help="default: that of the input")
    parser.add_argument(
        "--precision", choices=get_args(Precision), default="ieee",
        help="tf32 if float32 products may be of factors rounded to 11 bits; default: ieee",
    )  # fmt: skip
    parser.add_argument(
        "--accumulation", choices=FORMATS,
        help="the format of the sums; default: float32 for 16-bit formats, else the dtype",
    )  # fmt: skip
    parser.add_argument(
        "--scheme", metavar="NAME",
        help='how multiplications were saved, as in "winograd F(4x4,3x3)"; default: they were not',
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Run the command; its exit code."""
    from convbench.correctness.check import check, render

    x = _load_array(arguments.input)
    filters, bias = (
        None if path is None else _load_array(path) for path in (arguments.filters, arguments.bias)
    )
    report = check(
        _load_array(arguments.output),
        _pipeline(_load_table(arguments.pipeline), x, filters, arguments.layout),
        x,
        filters,
        bias,
        dtype=arguments.dtype,
        precision=arguments.precision,
        accumulation=arguments.accumulation,
        layout=arguments.layout,
        scheme=arguments.scheme,
    )
    show(arguments, "check", report.to_dict, lambda: render(report))
    return Exit.OK if report.ok else Exit.WRONG


def _pipeline(data: dict[str, Any], x: Any, filters: Any, text: str) -> PipelineSpec:
    """The pipeline of a table, with the sizes of the input where it has none.

    Which size is which depends on the layout: where the filters fit no pipeline so, and fit in
    another layout, that one is named.
    """
    from convbench.stimulus.arrays import DATA_ORDERS, FILTER_ORDERS, Layout
    from convbench.stimulus.spec import PipelineSpec

    given = Layout.parse(text)
    if x.ndim != 4:
        raise ArrayError(
            f"x: the shape is {x.shape}; expected 4 axes, as {given.data} has them. Give it all of"
            " them: `x[np.newaxis]` adds the one of the batch."
        )

    def sized(layout: Layout) -> PipelineSpec:
        sizes = dict(zip(layout.data.lower(), x.shape, strict=True))
        return PipelineSpec.from_dict(sizes | data)

    def fits(layout: Layout) -> bool:
        try:
            shape = layout.filter_shape(sized(layout))
        except SpecError:
            return False
        return shape == (None if filters is None else filters.shape)

    usual = map(Layout.parse, DATA_ORDERS)
    others = (Layout(d, f) for d in DATA_ORDERS for f in FILTER_ORDERS)
    fitting = next(filter(fits, (given, *usual, *others)), given)
    if not {"n", "h", "w", "c"} & set(data) and fitting.data != given.data:
        raise ArrayError(
            f"arrays: the layout is {given}; expected {fitting}, in which they fit the pipeline. "
            f"Add --layout {fitting}."
        )
    return sized(given)


def _load_array(path: Path) -> Any:
    """Read a .npy file; one that would run code to be read is refused."""
    import ml_dtypes
    import numpy as np

    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r")
        if not isinstance(array, np.ndarray):
            names = ", ".join(array.files)
            raise ValueError(f"it is an archive of {names or 'nothing'}")  # noqa: TRY004
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: the file is unreadable ({error}); expected an array that numpy.save has "
            "written. Write it again, one array a file; arrays of objects cannot be read."
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
