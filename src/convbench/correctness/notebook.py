"""What the notebook that convbench grew from meant to show, on every target that is present.

Its input is 5x5x3, its filters are 5x5x3x6 at stride 2 without padding, with a bias; and it pools
the same input, not the convolution: that is 1x1 already, and no 2x2 window fits into it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from convbench.correctness.accuracy import Accuracy, Reference, accuracy_of, refer
from convbench.correctness.worker import Task, Worker
from convbench.errors import SpecError
from convbench.stimulus.arrays import Array, Weights
from convbench.stimulus.inputs import Inputs
from convbench.stimulus.spec import ConvSpec, PipelineSpec, PoolSpec, Shape
from convbench.stimulus.targets import Target
from convbench.words.status import Exit, Outcome, Status
from convbench.words.table import Column, Styled, Table, line, remark, stacked

if TYPE_CHECKING:
    from rich.console import RenderableType

MAX_POOL = PoolSpec("max", window=(2, 2))

PIPELINES = {
    "convolution + bias": PipelineSpec(1, 5, 5, 3, ConvSpec(k=6, r=5, s=5, stride=(2, 2)), True),
    "max pool": PipelineSpec(1, 5, 5, 3, pool=MAX_POOL),
    "average pool": PipelineSpec(1, 5, 5, 3, pool=PoolSpec("avg", window=(2, 2))),
}
"""The notebook's two branches, and the other pooling that it speaks of."""


def make_notebook_inputs(pipeline: PipelineSpec, seed: int) -> Inputs:
    """Draw what the notebook drew, as float32.

    Integers in [-10, 10), filters from a normal distribution of standard deviation 0.1 truncated
    at two deviations (TensorFlow's ``truncated_normal_initializer``), and a bias of 0.1.
    """
    x = np.random.RandomState([seed, 0]).randint(-10, 10, size=pipeline.input_shape)
    filters = bias = None
    if pipeline.filter_shape is not None:
        filters = 0.1 * _truncated_normal(np.random.RandomState([seed, 1]), pipeline.filter_shape)
    if pipeline.bias_shape is not None:
        bias = np.full(pipeline.bias_shape, 0.1)
    return Inputs(x, Weights("float32", filters, bias)).each(lambda a: a.astype(np.float32))


def _truncated_normal(random: np.random.RandomState, shape: Shape) -> Array:
    values = random.standard_normal(shape)
    while (outside := np.abs(values) > 2).any():
        values[outside] = random.standard_normal(int(outside.sum()))
    return values


@dataclass(frozen=True, slots=True)
class Agreement:
    """How one target did on one pipeline.

    Attributes
    ----------
    output : array, optional
        None if there is none; the reason then says why.
    accuracy : Accuracy, optional
        Against the float64 oracle.
    same_bits : bool
        Whether the output has the very bits of the first target's.
    """

    target: Target
    pipeline: str
    status: Status
    output: Array | None = None
    accuracy: Accuracy | None = None
    same_bits: bool = False
    reason: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Notebook:
    """Everything that the command prints."""

    seed: int
    inputs: Mapping[str, Inputs]
    agreements: tuple[Agreement, ...]
    refusal: str
    """Why pooling the convolution's output is impossible."""

    def output(self, pipeline: str) -> Array | None:
        """What the first target computed that could."""
        outputs = (a.output for a in self.agreements if a.pipeline == pipeline)
        return next((output for output in outputs if output is not None), None)

    def exit_code(self) -> Exit:
        """Whether anything is wrong or failed, or nothing was computed."""
        statuses = {a.status for a in self.agreements}
        if statuses & {Status.WRONG, Status.FAILED}:
            return Exit.WRONG
        return Exit.OK if Status.OK in statuses else Exit.NOTHING

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "seed": self.seed,
            "pipelines": {
                name: {
                    "pipeline": spec.to_dict(),
                    "input": self.inputs[name].x.tolist(),
                    "filters": _listed(self.inputs[name].weights.filters),
                    "bias": _listed(self.inputs[name].weights.bias),
                    "output_shape": list(spec.output_shape),
                    "output": _listed(self.output(name)),
                }
                for name, spec in PIPELINES.items()
            },
            "agreement": [
                {
                    "target": str(a.target),
                    "pipeline": a.pipeline,
                    "status": str(a.status),
                    "error_over_bound": None if a.accuracy is None else a.accuracy.ratio,
                    "same_bits": a.same_bits,
                    "reason": a.reason,
                    "remedy": a.remedy,
                }
                for a in self.agreements
            ],
            "conv_then_pool": self.refusal,
        }


def run_notebook(seed: int, targets: Mapping[Target, Outcome | None]) -> Notebook:
    """Draw the numbers and compute the three pipelines on every target."""
    inputs = {name: make_notebook_inputs(spec, seed) for name, spec in PIPELINES.items()}
    references = {name: refer(spec, inputs[name]) for name, spec in PIPELINES.items()}
    first: dict[str, Array] = {}
    agreements = []
    for target, absence in targets.items():
        with Worker(target, absence=absence) as worker:
            for name, spec in PIPELINES.items():
                answer = worker.compute(Task(spec, inputs[name]))
                if isinstance(answer, Outcome):
                    agreement = Agreement(
                        target, name, answer.status, reason=answer.reason, remedy=answer.remedy
                    )
                else:
                    agreement = _agree(target, name, answer.output, references[name], first)
                agreements.append(agreement)
    return Notebook(seed, inputs, tuple(agreements), _refusal())


def render(notebook: Notebook) -> RenderableType:
    """Lay the results out as the notebook printed them, and then how far the targets agree."""
    conv = PIPELINES["convolution + bias"]
    parts = [
        line(
            f"Seed {notebook.seed}. The input holds integers in [-10, 10); the filters are drawn"
            " from a normal distribution of stddev 0.1, truncated at 2 stddev; the bias is 0.1."
        ),
        *_block("input", notebook.inputs["convolution + bias"].x),
        line(f"filters, shape {conv.filter_shape}"),
        line(f"bias, shape {conv.bias_shape}"),
        *(part for name in PIPELINES for part in _block(name, notebook.output(name))),
        line("Agreement with the float64 oracle, as error / bound (at most 1 is right):"),
    ]
    cells = {(a.target, a.pipeline): a for a in notebook.agreements}
    targets = dict.fromkeys(t for (t, _), a in cells.items() if a.status is not Status.SKIPPED)
    columns = [Column("target", list(map(str, targets)), "name")]
    columns += [
        Column(name, [_cell(cells[target, name]) for target in targets], "word")
        for name in PIPELINES
    ]
    parts.append(Table(columns))
    said = dict.fromkeys(
        (a.target, a.status, a.reason, a.remedy) for a in notebook.agreements if a.reason
    )
    for target, status, reason, remedy in said:
        parts += remark(status, f"{target}: {reason}", [remedy], "yellow")
    parts.append(line(f"The pool cannot follow this convolution. {notebook.refusal}"))
    return stacked(parts)


def _block(title: str, array: Array | None) -> Iterator[RenderableType]:
    from rich.text import Text  # noqa: PLC0415

    if array is None:
        yield line(f"{title}: no target computed it")
        return
    values = np.array2string(array, precision=6, suppress_small=True, prefix="  ")
    yield Text(f"{title}, shape {array.shape}:\n  {values}\n")


def _agree(
    target: Target, name: str, output: Array, reference: Reference, first: dict[str, Array]
) -> Agreement:
    accuracy = accuracy_of(output, reference)
    same = bool(np.array_equal(first.setdefault(name, output), output))
    status = Status.OK if accuracy.ok else Status.WRONG
    reason = "" if accuracy.ok else f"{name}: error / bound {accuracy.ratio:.3g} {accuracy}"
    return Agreement(target, name, status, output, accuracy, same, reason)


def _refusal() -> str:
    try:
        replace(PIPELINES["convolution + bias"], pool=MAX_POOL)
    except SpecError as error:
        return str(error)
    raise AssertionError("the notebook's pool fits after its convolution")


def _cell(agreement: Agreement) -> Styled:
    if agreement.accuracy is None or agreement.status is not Status.OK:
        return agreement.status.upper(), "bold red"
    bits = ", same bits" if agreement.same_bits else ""
    return f"{agreement.accuracy.ratio:.3f}{bits}"


def _listed(array: Array | None) -> Any:
    return None if array is None else array.tolist()
