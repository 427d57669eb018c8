"""What the judge takes from a backend's process about the cell that it has asked for."""

import numpy as np
import pytest

from convbench.auditing import audit
from convbench.auditing.judge import WORST, Judge
from convbench.measuring.asv_store import Cell
from convbench.stimulus.inputs import make_inputs
from convbench.stimulus.spec import ConvSpec, PipelineSpec

PIPELINE = PipelineSpec(1, 5, 5, 2, ConvSpec(3, 3, 3), True)
CELL = Cell("bench_accuracy.Smoke.track_error_over_bound", 0, ("mine@cpu", "net.a"), 1, False, 1.0)
CLAIM = {"pipeline": PIPELINE.to_dict(), "dtype": "float32", "fill": "normal", "seed": 7}


def judge(output, scheme=None, **changes):
    made = Judge()
    made.pipelines = {"net.a": PIPELINE}
    computed = {"output": output, "accumulation": None, "scheme": scheme}
    return made.error(CELL, computed, CLAIM | changes)


def right():
    from convbench.correctness import oracle

    inputs = make_inputs(PIPELINE, "float32", "normal", 7)
    return oracle.compute(PIPELINE, inputs.in_float64()).astype("float32")


def test_what_is_right_is_right():
    assert judge(right())["value"] <= 1


def test_a_scheme_is_judged_by_its_own_bound_and_named():
    output = right() * np.float32(1 + 2**-19)
    assert judge(output)["value"] > 1
    found = judge(output, "winograd F(4x4,3x3)")
    assert 0.01 < found["value"] <= 1
    assert found["worst"].endswith(", by the bound of winograd F(4x4,3x3)")
    assert judge(output, "winograd F(9x9,3x3)")["value"] == WORST


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fill": "denormal"}, "the fill is denormal"),
        ({"seed": "x"}, "invalid literal"),
        ({"dtype": "int8"}, "dtype"),
        ({"pipeline": PIPELINE.with_batch(2).to_dict()}, "that of the cell is"),
        ({"pipeline": {}}, "pipeline"),
    ],
)
def test_a_process_does_not_choose_what_it_is_judged_by(changes, words):
    found = judge(right(), **changes)
    assert found["value"] == WORST
    assert words in found["worst"]


@pytest.mark.parametrize("output", [np.zeros((1, 3, 3, 3), "float64"), np.zeros(3, "float32"), 7])
def test_an_output_of_another_kind_is_as_wrong_as_can_be(output):
    assert judge(output)["value"] == WORST


@pytest.mark.parametrize(
    ("claimed", "installed", "same"),
    [
        ("2.14.1", "2.14.1", True),
        ("2.14.1+cu130", "2.14.1", True),
        ("2.14.1", "2.14.1+cpu", True),
        ("2.14.1+cu130", "2.14.1+cpu", False),
        ("2.14.2+cu130", "2.14.1", False),
        ("9.9", "2.14.1", False),
    ],
)
def test_a_local_label_of_a_version_may_be_said_on_one_side_alone(
    claimed: str, installed: str, *, same: bool
) -> None:
    assert audit._same_version(claimed, installed) is same
