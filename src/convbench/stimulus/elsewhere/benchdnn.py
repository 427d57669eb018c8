"""Problems of benchdnn, the benchmark of oneDNN, as in ``ic16ih7oc16oh7kh3ph1n"net:conv"``.

Source: oneDNN, tests/benchdnn/doc, ``driver_conv.md`` and ``driver_pool.md``. A dilation of 0 is
none there, and the batch is 2 unless the problem says otherwise.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Literal

from convbench.errors import SpecError, WorkloadError
from convbench.stimulus.elsewhere.layers import Layer, layer, pipeline, two_axes, with_output
from convbench.stimulus.spec import ConvSpec, PipelineSpec, PoolSpec

_FIELD = re.compile(r"(g|mb|[io]c|[ioskpd][dhw])(\d{1,9})_?")  # none of them has the n of the name
_SIZES = re.compile(rf"_?(?:{_FIELD.pattern})+")
_DEFAULTS = {"dir": "FWD_B", "alg": "max", "mb": "0"}
_POOLS: dict[str, tuple[Literal["max", "avg"], bool]] = {
    "max": ("max", False),
    "pooling_max": ("max", False),
    "avg_np": ("avg", False),
    "pooling_avg_exclude_padding": ("avg", False),
    "avg_p": ("avg", True),
    "pooling_avg_include_padding": ("avg", True),
}
"""The operation, and whether padding counts in the average."""


def is_problem(text: str) -> bool:
    """Whether the last word is a problem: what stands before it may be knobs."""
    word = text.rpartition(" ")[2]
    return "ic" in word and _SIZES.fullmatch(word.partition("n")[0]) is not None


def read(text: str, source: str) -> Iterator[Layer]:
    """Yield the layers of lines of knobs and problems; a knob holds for all that comes after it.

    ``--dir`` says whether there is a bias, ``--alg`` which pool it is and ``--mb`` the batch, as
    many of them as are listed; what changes no shape is passed over.

    Raises
    ------
    WorkloadError
        If a word is neither a knob nor a problem.
    """
    knobs, driver = dict(_DEFAULTS), ""
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise WorkloadError(
                f"{source}, line {number}: the quotation is broken ({error}); expected knobs and "
                "problems of benchdnn. Correct it."
            ) from error
        for word in words:
            knob, _, value = word.removeprefix("--").partition("=")
            if not word.startswith("-"):
                yield from _layers(word, f"{source}, line {number}", source, driver, knobs)
            elif knob == "reset":
                knobs = dict(_DEFAULTS)
            elif knob == "batch":
                reason = f"it names another file: import {value} as well"
                yield Layer("benchdnn", word, source, None, reason)
            elif knob in knobs:
                knobs[knob] = value
            elif not value and knob[:1].isalpha() and word.startswith("--"):
                driver = knob


def _layers(
    word: str, where: str, source: str, driver: str, knobs: Mapping[str, str]
) -> Iterator[Layer]:
    sizes, _, title = word.partition("n")
    if driver not in {"", "conv", "pool"}:
        what = "a transposed convolution" if driver == "deconv" else f"a problem of --{driver}"
        yield Layer("benchdnn", word, source, None, f"it is {what}: no convolution and no pool")
        return
    if _SIZES.fullmatch(sizes) is None or "ic" not in sizes:
        raise WorkloadError(
            f"{where}: the word is {word!r}; expected a problem of benchdnn, as "
            "ic16ih7oc16oh7kh3ph1, or a knob, as --dir=FWD_B. Correct it."
        )
    fields = {name: int(value) for name, value in _FIELD.findall(sizes)}
    title, _, times = title.strip('"').partition("*")
    network, _, name = title.rpartition(":")
    count = int(times) if times.isdecimal() and len(times) < 7 else 1
    pool = "oc" not in fields
    # A bias is not a matter of pools, nor the kind of a pool one of convolutions.
    knob = "alg" if pool else "dir"
    choices, batches = knobs[knob].split(","), knobs["mb"].split(",")
    if not all(re.fullmatch(r"\d{1,9}", batch) for batch in batches):
        raise WorkloadError(
            f"{where}: the batch is {knobs['mb']!r}; expected numbers, as in --mb=0,5. Correct it."
        )
    for choice, batch in itertools.product(choices, batches):
        words = f" --{knob}={choice}" * (len(choices) > 1) + f" --mb={batch}" * (len(batches) > 1)
        mb = {"mb": int(batch)} if int(batch) else {}
        yield layer(
            network or "benchdnn",
            (name or sizes) + words,
            source,
            lambda choice=choice, mb=mb: _problem(fields | mb, choice),  # type: ignore[misc]
            max(count, 1),
        )


def _problem(fields: Mapping[str, int], choice: str) -> PipelineSpec:
    if any(fields.get(f"{kind}d") for kind in "ioksd") or fields.get("pd", 0):
        two_axes(5)
    if not fields.get("ih"):
        two_axes(3)
    height = _axis(fields, "h")
    # All of the width is given, or it is as the height in everything.
    given = any(fields.get(f"{kind}w") for kind in "ikodp") or fields.get("sw", 1) != 1
    width = _axis(fields, "w") if given else height
    (h, p, r, sh, top, bottom, dh), (w, q, s, sw, left, right, dw) = height, width
    stride, dilation = (sh, sw), (dh, dw)
    padding = (top, bottom, left, right)
    sizes = (fields.get("mb", 2), h, w, fields["ic"])
    k = fields.get("oc")
    if k is not None:
        if choice not in {"FWD_B", "FWD_D", "FWD_I"}:
            raise SpecError(
                f"conv: the direction is {choice}; expected FWD_B, FWD_D or FWD_I. What goes "
                "backwards has no row."
            )
        conv = ConvSpec(k, r, s, stride, dilation, fields.get("g", 1), padding)
        found = pipeline(sizes, conv=conv, bias=choice == "FWD_B")
    elif choice.lower() in _POOLS:
        op, counted = _POOLS[choice.lower()]
        found = pipeline(
            sizes, pool=PoolSpec(op, (r, s), stride, padding, dilation, count_include_pad=counted)
        )
    else:
        raise SpecError(
            f"pool: the algorithm is {choice}; expected one of {', '.join(_POOLS)}. Correct it."
        )
    return with_output(found, (None, p, q, None))


def _axis(fields: Mapping[str, int], axis: str) -> tuple[int, int | None, int, int, int, int, int]:
    """Input, output (None if it follows), taps, stride, padding before and after, dilation."""
    size, out, taps = (fields.get(kind + axis, 0) for kind in "iok")
    stride, dilation = fields.get("s" + axis, 1), fields.get("d" + axis, 0) + 1
    pad = fields.get("p" + axis)
    if not size or not taps or not stride:
        raise SpecError(
            f"layer: i{axis}, k{axis}, s{axis} are {size}, {taps}, {stride}; expected at least 1 "
            "for each. Complete the problem."
        )
    if not out:
        return size, None, taps, stride, pad or 0, pad or 0, dilation
    total = (out - 1) * stride + (taps - 1) * dilation + 1 - size
    # Rows that no window reads make it negative; the division is C's.
    before = int(total / 2) if pad is None else pad
    return size, out, taps, stride, before, max(total - before, 0), dilation
