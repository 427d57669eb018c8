# ruff: noqa: T201  (a script talks to whoever started it)
"""Does `convbench check` name the right cause, and never a wrong one? Prints tables in Markdown.

    .venv/bin/python studies/causes.py [--dtype D]... [--seed N] > reports/causes.md

Every known fault is planted into NumPy's backend, in all of its forms, on small pipelines of every
kind and in every format; and outputs are made that are wrong for reasons that are not on the list.
What counts is whether the planted fault is among the causes that are named, and whether any cause
is named where the right one is not.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from scipy.stats import binomtest

from convbench.backends import open_backend
from convbench.backends.compute import compute
from convbench.correctness.accuracy import accuracy_of, refer
from convbench.correctness.check import check
from convbench.correctness.faults import FAULTS
from convbench.stimulus.arrays import Array
from convbench.stimulus.formats import FORMATS, Fill
from convbench.stimulus.inputs import Inputs, make_inputs
from convbench.stimulus.probes import PROBES, SENSITIVE
from convbench.stimulus.spec import PipelineSpec
from convbench.stimulus.targets import Target

DTYPES = ("float64", "float32", "float16", "bfloat16")
BACKEND = open_backend(Target.parse("numpy@cpu"))
OF_SPECIAL_NUMBERS = {
    "swallowed_nan": Fill.NONFINITE,
    "flushed_denormals": Fill.DENORMAL,
}
"""Faults that reals of a usual size cannot show."""

BEYOND_RANGE = {"overflowed_on_the_way", "saturated_output"}
"""And those that only show where results are too large for the format."""


def rightly(pipeline: PipelineSpec, inputs: Inputs) -> Array:
    """Compute with the backend that all have."""
    with np.errstate(all="ignore"):
        return compute(BACKEND, pipeline, inputs).output


def inputs_for(pipeline: PipelineSpec, dtype: str, fault: str, seed: int) -> Inputs:
    """Numbers on which a fault can show."""
    inputs = make_inputs(pipeline, dtype, OF_SPECIAL_NUMBERS.get(fault, Fill.NORMAL), seed)
    if fault in BEYOND_RANGE:
        storage = FORMATS[dtype].storage
        factor = FORMATS[dtype].largest / max(pipeline.reduction, 1) ** 0.5 / 2
        bias = inputs.weights.bias
        with np.errstate(over="ignore"):
            x = (inputs.x.astype(np.float64) * factor).astype(storage)
            if bias is not None:
                bias = (bias.astype(np.float64) * factor).astype(storage)
        inputs = Inputs(x, replace(inputs.weights, bias=bias))
    return inputs


def unlisted(
    pipeline: PipelineSpec, inputs: Inputs, right: Array, seed: int
) -> Iterator[tuple[str, Array]]:
    """Outputs that are wrong for reasons that are no known fault."""
    chance = np.random.default_rng(seed)
    reals = right.astype(np.float64)
    spread = float(np.std(reals)) or 1.0
    flat = reals.ravel()
    dtype, weights = inputs.weights.dtype, inputs.weights

    def noise() -> Array:
        return chance.standard_normal(right.shape) * spread

    other = make_inputs(pipeline, dtype, Fill.NORMAL, seed + 1)
    found: dict[str, Array] = {
        "elements in another order": chance.permutation(flat).reshape(right.shape),
        "output channels reversed": reals[..., ::-1],
        "noise instead": noise() + float(np.mean(reals)),
        "noise of a tenth": reals + noise() / 10,
        "noise of a hundredth": reals + noise() / 100,
        "noise of a thousandth": reals + noise() / 1000,
        "1.02 times what it should be": reals * 1.02,
        "a constant more": reals + spread / 3,
        "another image": rightly(pipeline, Inputs(other.x, weights)),
        "other filters": rightly(pipeline, Inputs(inputs.x, other.weights)),
        "one in three elements negated": np.where(
            chance.random(right.shape) < 1 / 3, -reals, reals
        ),
        "one element off": reals + (np.arange(flat.size).reshape(right.shape) == flat.size // 2),
        "columns rolled by two": np.roll(reals, 2, axis=2),
        "one tap of one channel": reals,
    }
    if weights.filters is not None:
        filters = weights.filters.copy()
        filters[0, 0, 0] *= -1
        found["one tap of one channel"] = rightly(
            pipeline, Inputs(inputs.x, replace(weights, filters=filters))
        )
    if weights.filters is not None and max(weights.filters.shape[:2]) > 1:
        found["two faults: flipped filters, and a sign"] = (
            FAULTS["flipped_sign"]
            .apply(
                lambda p, i: rightly(
                    p, Inputs(i.x, replace(i.weights, filters=i.weights.filters[::-1, ::-1].copy()))
                ),
                pipeline,
                inputs,
            )
            .astype(np.float64)
        )
    with np.errstate(over="ignore"):
        for name, wrong in found.items():
            yield name, wrong.astype(right.dtype)


def share(found: int, of: int) -> str:
    """As in "3 of 400: 0.8 % (0.2 to 2.2 %)"."""
    if not of:
        return "none"
    low, high = binomtest(found, of).proportion_ci()  # Clopper and Pearson's
    return f"{found} of {of}: {100 * found / of:.3g} % ({100 * low:.2g} to {100 * high:.3g} %)"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], usage="causes.py [--dtype D]... [--seed N]"
    )
    parser.add_argument("--dtype", action="append", choices=DTYPES, help="default: all four")
    parser.add_argument("--seed", type=int, default=1, help="of the numbers; default: 1")
    parser.add_argument("--fault", action="append", help="only these; default: all")
    arguments = parser.parse_args()
    dtypes = arguments.dtype or DTYPES
    pipelines = {f"sensitive {i}": each for i, each in enumerate(SENSITIVE)} | PROBES
    listed: dict[tuple[str, str], Counter[str]] = {}
    others: dict[str, Counter[str]] = {}
    wrong_names: Counter[tuple[str, str]] = Counter()
    begun_s = time.monotonic()
    for number, (label, pipeline) in enumerate(pipelines.items()):
        if not pipeline.n:
            continue
        print(f"{number + 1} of {len(pipelines)}: {label}", file=sys.stderr)
        for dtype in dtypes:
            for name in arguments.fault or FAULTS:
                if name in BEYOND_RANGE and FORMATS[dtype].digits > 11:
                    continue  # there the sums themselves go beyond the range
                inputs = inputs_for(pipeline, dtype, name, arguments.seed)
                expected = refer(pipeline, inputs)
                arrays = (inputs.x, inputs.weights.filters, inputs.weights.bias)
                score = listed.setdefault((name, dtype), Counter())
                for output in FAULTS[name].outputs(rightly, pipeline, inputs):
                    if output is None or accuracy_of(output, expected).ok:
                        continue  # there is nothing to see
                    causes = check(output, pipeline, *arrays, dtype=dtype).causes
                    named = [cause.name for cause in causes]
                    if named[:1] == [name]:
                        score["first"] += 1
                    elif name in named:
                        score["among"] += 1
                    else:
                        score["false" if named else "none"] += 1
                        wrong_names.update((name, other) for other in named)
            if arguments.fault:
                continue
            inputs = make_inputs(pipeline, dtype, Fill.NORMAL, arguments.seed)
            expected = refer(pipeline, inputs)
            arrays = (inputs.x, inputs.weights.filters, inputs.weights.bias)
            right = rightly(pipeline, inputs)
            for name, output in unlisted(pipeline, inputs, right, arguments.seed):
                if accuracy_of(output, expected).ok:
                    continue
                causes = check(output, pipeline, *arrays, dtype=dtype).causes
                others.setdefault(name, Counter())["named" if causes else "none"] += 1
                wrong_names.update((name, cause.name) for cause in causes)
    print_report(dtypes, listed, others, wrong_names, time.monotonic() - begun_s)


def print_report(
    dtypes: list[str] | tuple[str, ...],
    listed: dict[tuple[str, str], Counter[str]],
    others: dict[str, Counter[str]],
    wrong_names: Counter[tuple[str, str]],
    took_s: float,
) -> None:
    """Print the tables."""
    print("# Which cause `convbench check` names\n")
    print(
        f"`studies/causes.py`, {time.strftime('%Y-%m-%d')}, NumPy {np.__version__}, formats"
        f" {', '.join(dtypes)}: every form of every fault on each of the small pipelines of"
        " `stimulus/probes.py` where it changes anything. Several faults can give the same output:"
        " *among* means that the planted one is named, after another that gives the same.\n"
    )
    total = sum(listed.values(), Counter())
    all_of = total.total()
    print("| all faults, probes and formats | |\n|---|---|")
    for key, words in (
        ("first", "the right cause is the first"),
        ("among", "it is among those that are named"),
        ("none", "no cause is named"),
        ("false", "only false ones are"),
    ):
        print(f"| {words} | {share(total[key], all_of)} |")
    print(f"| named at all (first or among) | {share(total['first'] + total['among'], all_of)} |")
    of_others = sum(others.values(), Counter())
    if others:
        named = share(of_others["named"], of_others.total())
        print(f"| not on the list, and a cause is named | {named} |")
    print(
        "\n| planted | " + " | ".join(f"{d}: first / among / none / false" for d in dtypes) + " |"
    )
    print("|---|" + "---|" * len(dtypes))
    for name in dict.fromkeys(name for name, _ in listed):
        cells = []
        for dtype in dtypes:
            score = listed.get((name, dtype), Counter())
            cells.append(" / ".join(str(score[k]) for k in ("first", "among", "none", "false")))
        print(f"| {name} | " + " | ".join("" if c == "0 / 0 / 0 / 0" else c for c in cells) + " |")
    if others:
        print("\n| wrong for another reason | no cause named | a cause named |\n|---|--:|--:|")
        for name, score in others.items():
            print(f"| {name} | {score['none']} | {score['named']} |")
    if wrong_names:
        print("\n| planted, or other reason | named instead | times |\n|---|---|--:|")
        for (name, other), times in wrong_names.most_common():
            print(f"| {name} | {other} | {times} |")
    print(f"\nIt took {took_s / 60:.0f} minutes.", file=sys.stderr)


if __name__ == "__main__":
    main()
