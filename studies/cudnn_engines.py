# ruff: noqa: T201, E402  (a script talks to whoever started it, and finds its package)
"""Hold every engine of cuDNN's against the float64 oracle, and say which deviates on what.

    .venv/bin/python studies/cudnn_engines.py [--output FILE] [--most N]

A graph of cuDNN's has several engines, and which one a pipeline gets depends on its sizes, the card
and the version. So each of the first N of a graph computes the probes of the conformance suite and
a few layers of ordinary sizes, in each format and on each fill. An engine is wrong on a fill if one
of its results is beyond the bound of direct methods; the table has one line an engine and a format.
The backend bars those that are wrong on numbers, and declares what the others deviate in
(backends/cudnn.py).
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
try:
    import convbench  # noqa: F401
except ModuleNotFoundError:
    sys.path.insert(0, str(ROOT / "src"))

import numpy as np

from convbench.backends.cudnn import plans
from convbench.backends.cupy import CupyBackend
from convbench.correctness.accuracy import accuracy_of, refer_for
from convbench.errors import Unsupported
from convbench.machine.files import write
from convbench.stimulus.arrays import Weights
from convbench.stimulus.formats import Fill
from convbench.stimulus.inputs import make_inputs
from convbench.stimulus.probes import PROBES
from convbench.stimulus.spec import ConvSpec, PipelineSpec

DTYPES = ("float32", "tf32", "float16", "bfloat16")

LAYERS = {
    **{name: replace(probe, pool=None) for name, probe in PROBES.items() if probe.conv and probe.n},
    **{
        f"{c} to {k} channels, {r}x{r}, stride {stride}, {groups} groups": PipelineSpec(
            2, 14, 14, c,
            ConvSpec(k, r, r, stride=stride, groups=groups, padding="SAME"), bias=True,
        )
        for c, k, groups in (
            (1, 8, 1), (3, 16, 1), (3, 64, 1), (4, 64, 1), (8, 8, 1), (16, 64, 1), (24, 20, 1),
            (64, 64, 1), (96, 128, 2), (64, 64, 64), (32, 64, 32),
        )
        for r in (1, 3, 5)
        for stride in (1, 2)
    },
}  # fmt: skip


@dataclass
class Engine:
    """What was seen of one engine in one format."""

    plans: int = 0
    computed: dict[Fill, int] = field(default_factory=lambda: defaultdict(int))
    wrong: dict[Fill, list[str]] = field(default_factory=lambda: defaultdict(list))


def survey(backend: CupyBackend, most: int, show: Any) -> dict[tuple[str, str], Engine]:
    """By the engine's name without its knobs, and the format."""
    found: dict[tuple[str, str], Engine] = defaultdict(Engine)
    cudnn = backend._cudnn
    for i, (name, pipeline) in enumerate(LAYERS.items()):
        show(f"{i + 1}/{len(LAYERS)} {name}")
        for dtype in DTYPES:
            cases = {fill: make_inputs(pipeline, dtype, fill, 0) for fill in Fill}
            expected = {fill: refer_for(pipeline, cases[fill], fill, None) for fill in Fill}
            try:
                engines = list(
                    itertools.islice(
                        plans(cudnn._frontend, pipeline, dtype, handle=cudnn._handle),
                        most,
                    )
                )
            except Unsupported:
                continue
            for plan in engines:
                engine = found[plan.name.partition("_")[0], dtype]
                engine.plans += 1
                for fill, inputs in cases.items():
                    placed = backend.place(inputs.weights)
                    run = cudnn._runner(plan, pipeline, Weights(dtype, placed.filters, placed.bias))
                    output = backend.to_numpy(run(backend.to_device(inputs.x)))
                    engine.computed[fill] += 1
                    accuracy = accuracy_of(output, expected[fill])
                    if not accuracy.ok:
                        engine.wrong[fill].append(f"{name}: {_seen(output, expected[fill])}")
    return found


def _seen(output: Any, expected: Any) -> str:
    """The kinds of wrong numbers: what came, for what."""
    got, right = np.asarray(output, "float64"), np.asarray(expected.output, "float64")
    kinds = np.array(["finite", "-inf", "+inf", "nan", "0"])

    def kind(values: Any) -> Any:
        index = np.where(values == 0, 4, 0)
        index = np.where(np.isneginf(values), 1, np.where(np.isposinf(values), 2, index))
        return np.where(np.isnan(values), 3, index)

    both = zip(kind(got).flat, kind(right).flat, strict=True)
    pairs = [(kinds[a], kinds[b]) for a, b in both if a != b]
    counted = {pair: pairs.count(pair) for pair in dict.fromkeys(pairs)}
    return ", ".join(f"{n} x {a} for {b}" for (a, b), n in counted.items()) or "beyond the bound"


def lines(found: dict[tuple[str, str], Engine], versions: dict[str, str]) -> Iterator[str]:
    """The report."""
    yield "# cuDNN's engines against the oracle"
    yield ""
    yield ", ".join(f"{name} {version}" for name, version in versions.items())
    yield ""
    yield "| engine | format | plans | " + " | ".join(map(str, Fill)) + " | for example |"
    yield "|---|---|--:|" + "--:|" * len(Fill) + "---|"
    for (name, dtype), engine in sorted(found.items(), key=lambda e: (int(e[0][0][3:]), e[0][1])):
        cells = [f"{len(engine.wrong[f])}/{engine.computed[f]}" for f in Fill]
        examples = [f"{f}: {engine.wrong[f][0]}" for f in Fill if engine.wrong[f]]
        yield f"| {name} | {dtype} | {engine.plans} | {' | '.join(cells)} | {'; '.join(examples)} |"


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--most", type=int, default=6, help="engines of a graph; default: 6")
    parser.add_argument("--output", type=Path, help="write the table there, too")
    options = parser.parse_args()
    backend = CupyBackend("gpu:0", "cudnn")
    found = survey(backend, options.most, lambda text: print(text, file=sys.stderr, flush=True))
    text = "\n".join(lines(found, backend.versions())) + "\n"
    if options.output:
        write(options.output, text)
    print(text, end="")


if __name__ == "__main__":
    main()
