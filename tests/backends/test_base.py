"""The contract: what a backend declares, and where a declared hole is."""

from __future__ import annotations

import pytest

from convbench.backends import base
from convbench.backends.base import Capabilities, Hole, HoleKind
from convbench.errors import BrokenContract
from convbench.stimulus import arrays
from convbench.stimulus.spec import ConvSpec, PipelineSpec, PoolSpec

POOL = PipelineSpec(1, 5, 5, 3, pool=PoolSpec("max", (2, 2)))
CONV = PipelineSpec(1, 5, 5, 3, ConvSpec(6, 3, 3))

NO_POOLS = Hole("pools", "it has none", lambda pipeline, _: pipeline.pool is not None)
FLUSHES = Hole(
    "denormal numbers", "they are flushed", kind=HoleKind.DEVIATES,
    devices=("gpu",), variants=("fast",), dtypes=("float32",), fills=("denormal",),
)  # fmt: skip
LARGE = Hole("large ones", "it is slow", kind=HoleKind.SLOW, above_flops=CONV.flops - 1)
CAPABILITIES = Capabilities(
    ("cpu", "gpu"), variants={"": "exact", "fast": "not"}, holes=(NO_POOLS, FLUSHES, LARGE)
)


def test_a_pipeline_is_missing_with_the_reason() -> None:
    assert CAPABILITIES.missing(POOL, "float32") == "pools: it has none"
    assert CAPABILITIES.missing(CONV, "float32") is None
    assert "it has float64, float32" in CAPABILITIES.missing(CONV, "float16")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, FLUSHES),
        ({"variant": ""}, None),
        ({"device": "cpu"}, None),
        ({"dtype": "float64"}, None),
        ({"fill": "normal"}, None),
        ({"fill": ""}, None),
        ({"kind": HoleKind.MISSING}, None),
        ({"kind": HoleKind.SLOW}, LARGE),
        ({"kind": HoleKind.SLOW, "pipeline": CONV.with_batch(0)}, None),
        ({"kind": HoleKind.MISSING, "pipeline": POOL}, NO_POOLS),
    ],
    ids=str,
)
def test_a_hole_is_where_it_says(change: dict, found: Hole | None) -> None:
    asked = {
        "kind": HoleKind.DEVIATES, "pipeline": CONV, "dtype": "float32",
        "variant": "fast", "device": "gpu:1", "fill": "denormal",
    }  # fmt: skip
    assert CAPABILITIES.hole(**asked | change) is found


def test_a_hole_that_says_nothing_more_is_everywhere() -> None:
    everywhere = Hole("all", "it rounds", kind=HoleKind.DEVIATES)
    assert everywhere.covers(CONV.with_batch(0), "tf32", "", "cpu", "normal")


def test_what_is_refused_is_refused_whatever_its_input_is() -> None:
    with pytest.raises(BrokenContract, match="of the kind MISSING and has fills"):
        Hole("nan", "it is passed over", fills=("nonfinite",))


def test_a_plug_in_finds_all_that_it_names_in_one_place() -> None:
    assert all(hasattr(base, name) for name in base.__all__)
    assert (base.Array, base.DeviceArray) == (arrays.Array, arrays.DeviceArray)
    assert base.Weights is arrays.Weights
