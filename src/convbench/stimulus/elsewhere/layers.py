"""What every reader finds, folded into rows of workloads and written as TOML."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from convbench.errors import SpecError
from convbench.stimulus.spec import ConvSpec, PipelineSpec, PoolSpec
from convbench.stimulus.workloads import Workload
from convbench.words.text import clean, clip

_MOST_TAPS = 2**24
"""Of a pool, along one axis: each is looked at, and a file can claim any size."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution or a pool of a model.

    Attributes
    ----------
    network, name : str
        As the model has them; the name of a workload is made from both.
    source : str
        The file, factory or list that it was read from.
    pipeline : PipelineSpec or None
        None if no pipeline expresses it.
    reason : str
        Why not.
    count : int
        How often the model has it.
    """

    network: str
    name: str
    source: str
    pipeline: PipelineSpec | None
    reason: str = ""
    count: int = 1


def layer(
    network: str, name: str, source: str, make: Callable[[], PipelineSpec], count: int = 1
) -> Layer:
    """Make the pipeline of a layer, or keep why there is none: `make` raises SpecError for that."""
    try:
        return Layer(network, name, source, make(), count=count)
    except SpecError as error:
        return Layer(network, name, source, None, clean(str(error)), count)


def pipeline(
    sizes: Sequence[int],
    *,
    conv: ConvSpec | None = None,
    bias: bool = False,
    pool: PoolSpec | None = None,
) -> PipelineSpec:
    """Build the pipeline on an input of (N, H, W, C).

    Raises
    ------
    SpecError
        If it cannot be computed, or claims a size at which this alone would take minutes.
    """
    n, h, w, c = sizes
    if conv is not None and conv.padding == (0, 0, 0, 0):  # in one form, so that equals are equal
        conv = replace(conv, padding="VALID")
    if pool is not None and pool.padding == (0, 0, 0, 0):
        pool = replace(pool, padding="VALID")
    if pool is not None:
        pads = (0, 0, 0, 0) if isinstance(pool.padding, str) else pool.padding
        for size, window in zip((h + sum(pads[:2]), w + sum(pads[2:])), pool.window, strict=True):
            if size * window > _MOST_TAPS:
                raise SpecError(
                    f"pool: the window of {window} on {size} positions is too large; expected a "
                    f"product of at most {_MOST_TAPS}. Check where the size comes from."
                )
    return PipelineSpec(n, h, w, c, conv=conv, bias=bias, pool=pool)


def with_output(found: PipelineSpec, shape: Sequence[object]) -> PipelineSpec:
    """`found`, if its output has this shape (N, P, Q, K); what is no number in it is not known.

    Raises
    ------
    SpecError
        If it has another.
    """
    for got, said in zip(found.output_shape, shape, strict=True):
        if isinstance(said, int) and got != said:
            raise SpecError(
                f"layer: the output is {_times(found.output_shape)}; expected "
                f"{_times(shape)} (N, P, Q, K), as its source has it. Write the row by hand."
            )
    return found


def two_axes(rank: int) -> None:
    """Refuse what has not two spatial axes.

    Raises
    ------
    SpecError
        If there is another number of them.
    """
    if rank != 4:
        raise SpecError(
            f"layer: the number of spatial axes is {rank - 2}; expected height and width. There "
            "is no row for it."
        )


def _times(shape: Iterable[object]) -> str:
    return "x".join("?" if size is None else str(size) for size in shape)


def fold(layers: Iterable[Layer], tier: str) -> tuple[Workload, ...]:
    """One row for all layers that are the same pipeline, in the order in which they came.

    The first gives the name; the source says of each model how often it has the pipeline.
    """
    same: dict[PipelineSpec, dict[str, list[Layer]]] = {}
    for found in layers:
        if found.pipeline is not None:
            same.setdefault(found.pipeline, {}).setdefault(found.source, []).append(found)
    taken: Counter[str] = Counter()
    rows = []
    for spec, by_source in same.items():
        first = next(iter(by_source.values()))[0]
        sources = []
        for source, those in by_source.items():
            count = sum(one.count for one in those)
            sources.append(f"{source}, {those[0].name}" + f" x{count}" * (count > 1))
        name = _name(first)
        while name in taken:
            taken[name] += 1
            name = f"{_name(first)}_{taken[name]}"
        taken[name] = 1
        rows.append(Workload(name, spec, tier, clip(clean("; ".join(sources)))))
    return tuple(rows)


def _name(found: Layer) -> str:
    """``network.layer`` of what a row's name may have."""
    network, name = (
        re.sub(r"[^a-z0-9_]+", "_", text.lower())[-80:].strip("_")
        for text in (found.network, found.name)
    )
    return f"{network or 'model'}.{name or 'layer'}"


def to_toml(workloads: Iterable[Workload], left_out: Iterable[Layer], command: str) -> str:
    """Write rows as :func:`convbench.stimulus.workloads.load` reads them, and what is missing."""
    lines = [f"# Written by `{clean(command)}`."]
    lines += [f"# Left out: {clean(f'{it.source}, {it.name}: {it.reason}')}" for it in left_out]
    for row in workloads:
        lines += [
            "",
            "[[workload]]",
            f"name     = {_value(row.name)}",
            f"source   = {_value(row.source)}",
            f"tier     = {_value(row.tier)}",
            f"pipeline = {_value(row.pipeline.to_dict())}",
        ]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    """In TOML, on one line. Text is printable here, for which JSON and TOML have the same form."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_value(it)}" for key, it in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)
