"""Every known way to cheat is planted: it is flagged, or it gains nothing; the honest is not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from convbench.auditing import zoo
from convbench.auditing.selftest import Planted, exit_code, self_test
from convbench.auditing.zoo import Disguise, adversaries, plant
from convbench.backends.base import Backend
from convbench.machine.child import Child
from convbench.stimulus.arrays import Weights
from convbench.stimulus.spec import ConvSpec, PipelineSpec
from convbench.stimulus.targets import Target
from convbench.words.status import Exit

TELLING = (
    "cache_by_identity",
    "no_synchronize",
    "lazy_output",
    "honest_for_a_while",
    "own_seconds",
    "more_calls_claimed",
    "shapes_hard_coded",
    "bfloat16_declared",
    "helper_unmarked",
    "pickle_on_the_pipe",
    "claim_of_a_huge_integer",
    "exits_when_asked",
)
ALL = bool(os.environ.get("CONVBENCH_ZOO"))


def test_there_are_enough_and_each_says_what_it_does():
    found = adversaries()
    files = Path(zoo.__file__).parent.glob("[a-z]*.py")
    written = sum(
        file.read_text().count("\nclass ") - file.read_text().count("\nclass _") for file in files
    )
    assert len(found) == written >= 70
    for name, adversary in found.items():
        assert adversary.__name__.lower() == name.replace("_", "")
        assert issubclass(adversary, Disguise)
        assert "\n" not in adversary.what()
        assert 0 < len(adversary.what()) < 90, name
        assert isinstance(adversary.source, str), name
    assert len({adversary.what() for adversary in found.values()}) == len(found)
    assert not set(TELLING) - found.keys()


def open_each(pipe):
    """In a process of its own: some replace what all of it uses."""
    for name in adversaries():
        planted = plant(name, Target.parse("numpy@cpu"))
        # Which is all that the judge's own code in that process asks of a backend.
        assert isinstance(planted, Disguise | Backend)
        assert planted.capabilities.devices == ("cpu",)
        assert planted.versions()
        pipe.send(name)
    pipe.send(None)


def test_each_can_be_planted():
    child = Child(open_each, (), threads=1)
    try:
        for name in adversaries():
            assert child.receive(120.0) == name
        assert child.receive(120.0) is None
    finally:
        child.close()


def test_what_is_put_off_is_computed_when_it_is_read():
    pipeline = PipelineSpec(1, 5, 4, 3, conv=ConvSpec(2, 3, 3))
    weights = Weights("float32", np.ones((3, 3, 3, 2), "float32"))
    x = np.arange(60, dtype="float32").reshape(1, 5, 4, 3)
    honest = plant_nothing()
    lazy = plant("lazy_output", Target.parse("numpy@cpu"))
    expected = honest.to_numpy(honest.build(pipeline, weights)(x))
    put_off = lazy.build(pipeline, weights)(x)
    assert callable(put_off)
    assert np.array_equal(lazy.to_numpy(put_off), expected)


def plant_nothing() -> Backend:
    from convbench.backends import open_backend

    return open_backend(Target.parse("numpy@cpu"))


@pytest.mark.parametrize("names", [() if ALL else TELLING], ids=["all" if ALL else "telling"])
def test_the_judge_sees_them_and_does_not_accuse_the_honest(names):
    honest, *planted = self_test(names)
    assert not honest.seen_by, honest.reason
    assert {p.name for p in planted} == set(names or adversaries())
    assert not [f"{p.name}: {p.gain:.2f}x" for p in planted if not p.caught]
    assert exit_code([honest, *planted]) is Exit.OK


def made(seen_by=(), gain=1.0) -> Planted:
    return Planted("x", "", tuple(seen_by), gain, "")


@pytest.mark.parametrize(
    ("results", "code"),
    [
        ([made()], Exit.NOTHING),
        ([made(), made(gain=1.3)], Exit.OK),
        ([made(), made(["time"], gain=9.0)], Exit.OK),
        ([made(), made(gain=1.5)], Exit.WRONG),
        ([made(["time"]), made(["time"])], Exit.WRONG),
    ],
)
def test_a_missed_one_and_an_accused_one_are_both_wrong(results, code):
    assert exit_code(results) is code
