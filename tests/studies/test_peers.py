"""Our backends beside their peers: layers, statistics, the page, and a run of two tiny rows."""

from __future__ import annotations

import importlib
import itertools
import json
import math
import os
import re
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from convbench.backends.base import Run
from convbench.backends.numpy import NumpyBackend
from convbench.machine.failures import explain
from convbench.report.charts import svg
from convbench.stimulus.spec import ConvSpec, PipelineSpec, PoolSpec
from convbench.stimulus.targets import Target
from convbench.stimulus.workloads import find, load, select

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "studies" / "peers.py"
WORKLOADS = load()
HOSTILE = "<script>alert('|')</script>\n# [a](javascript:b) `c` @everybody \x1b[31m"


def imported() -> ModuleType:
    """The script, which finds its neighbour as it does when it is run."""
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        return importlib.import_module("peers")
    finally:
        sys.path.remove(str(SCRIPT.parent))


peers = imported()


# -- layers ----------------------------------------------------------------------------------------


def test_the_kinds_of_the_standard_list() -> None:
    """As they were sorted by hand."""
    kinds: dict[str, list[str]] = {}
    for row in select(WORKLOADS, "standard"):
        kinds.setdefault(peers.kind_of_layer(row.pipeline), []).append(row.name)
    assert {kind: len(names) for kind, names in kinds.items()} == {
        "3x3, C >= 64": 7, "3x3, fewer channels": 1, "1x1": 4, "C <= 4": 5, "depthwise": 3,
        "grouped": 1, "pooling": 5, "others": 3,
    }  # fmt: skip
    assert kinds["grouped"] == ["alexnet_grouped.conv2"]
    assert kinds["3x3, fewer channels"] == ["inception_v3.2b_3x3"]
    assert "unet.out" in kinds["1x1"]
    assert "inception_v3.6b_b7_1x7" in kinds["others"]


@pytest.mark.parametrize(
    ("pipeline", "kind", "product"),
    [
        (PipelineSpec(1, 4, 4, 3, bias=True), "others", None),
        (PipelineSpec(1, 4, 4, 3, pool=PoolSpec("max", 2)), "pooling", None),
        (
            PipelineSpec(2, 4, 4, 4, conv=ConvSpec(k=8, r=3, s=3, groups=4)),
            "depthwise",
            (4, 8, 9, 2),  # with a multiplier there are matrices, if thin ones
        ),
        (PipelineSpec(2, 4, 4, 64, conv=ConvSpec(k=64, r=3, s=3, groups=64)), "depthwise", None),
        (
            PipelineSpec(2, 5, 7, 6, conv=ConvSpec(k=8, r=3, s=3, groups=2)),
            "grouped",
            (2, 2 * 3 * 5, 3 * 9, 4),
        ),
        (PipelineSpec(1, 5, 5, 64, conv=ConvSpec(k=1, r=1, s=1)), "1x1", (1, 25, 64, 1)),
        (PipelineSpec(1, 5, 5, 4, conv=ConvSpec(k=2, r=1, s=1)), "C <= 4", (1, 25, 4, 2)),
        (
            PipelineSpec(1, 5, 5, 63, conv=ConvSpec(k=2, r=3, s=3)),
            "3x3, fewer channels",
            (1, 9, 567, 2),
        ),
        (PipelineSpec(1, 5, 5, 64, conv=ConvSpec(k=2, r=3, s=3)), "3x3, C >= 64", (1, 9, 576, 2)),
        (PipelineSpec(1, 5, 5, 64, conv=ConvSpec(k=2, r=3, s=1)), "others", (1, 15, 192, 2)),
    ],
    ids=str,
)
def test_a_layer(pipeline: PipelineSpec, kind: str, product: tuple[int, ...] | None) -> None:
    assert peers.kind_of_layer(pipeline) == kind
    assert peers.product_of(pipeline) == product


def test_every_variant_of_ours_is_measured() -> None:
    names = set(map(str, peers.all_targets()))
    ours = {Target("numpy", v, "cpu") for v in NumpyBackend.capabilities.variants}
    assert {*map(str, ours), "tensorflow@cpu", "tensorflow.eager@cpu", "tensorflow.xla@cpu",
            "torch@cpu", "torch.contiguous@cpu", "torch.compile@cpu",
            "jax@cpu"} == names  # fmt: skip


# -- statistics ------------------------------------------------------------------------------------


def row(name: str = "net.a", kind: str = "1x1", **seconds: list[float]) -> Any:
    """One with these times by round; an underscore stands for the dot of a variant."""
    times = {
        f"{target.replace('_', '.', 1)}@cpu": dict(enumerate(of, start=1))
        for target, of in seconds.items()
    }
    return peers.Row(name, kind, "a pipeline", 2000, times)


def test_a_library_counts_with_its_fastest_way() -> None:
    found = row(numpy=[2.0, 4.0], numpy_fast=[1.0, 2.0], tensorflow=[9.0, 1.0],
                tensorflow_xla=[2.0, 8.0], torch=[2.5, 2.5])  # fmt: skip
    assert peers.ways(found, "numpy") == ["numpy.fast@cpu", "numpy@cpu"]
    # tensorflow@cpu has the fastest round, and the smaller geometric mean: 3 against 4.
    assert peers.log_ratios(found, "tensorflow") == pytest.approx(
        {1: math.log(9), 2: math.log(0.5)}
    )
    assert peers.log_ratios(found, "") == peers.log_ratios(found, "torch")
    assert peers.log_ratios(row(numpy=[1.0]), "torch") == {}
    assert peers.mean_ratio([row(numpy=[1.0])], "torch") is None


def test_only_rounds_that_all_rows_have_count() -> None:
    rows = [row(numpy=[1.0, 1.0], torch=[2.0, 100.0]), row(numpy=[1.0], torch=[8.0])]
    mean = peers.mean_ratio(rows, "torch")
    assert (mean.ratio, mean.rows) == (pytest.approx(4.0), 2)
    assert math.isnan(mean.low)
    assert peers._interval(mean) == "4.00"


@given(
    st.integers(2, 6).flatmap(
        lambda rounds: st.lists(
            st.lists(
                st.tuples(st.floats(1e-6, 1e-1), st.floats(1e-6, 1e-1)),
                min_size=rounds,
                max_size=rounds,
            ),
            min_size=1,
            max_size=4,
        )
    )
)
def test_the_interval_is_students(times: list[list[tuple[float, float]]]) -> None:
    rows = [row(numpy=[a for a, _ in of], torch=[b for _, b in of]) for of in times]
    logs = np.log(np.array(times))
    means = (logs[:, :, 1] - logs[:, :, 0]).mean(axis=0)
    assume(means.std(ddof=1) > 2e-3)  # below that :mod:`.stats` trusts no agreement
    known = ttest_1samp(means, 0.0).confidence_interval(0.95)
    assume(max(map(abs, known)) < 500)
    mean = peers.mean_ratio(rows, "torch")
    assert mean.ratio == pytest.approx(math.exp(means.mean()))
    assert (mean.low, mean.high) == pytest.approx((math.exp(known.low), math.exp(known.high)))


def test_the_ceiling_is_the_longer_of_copy_and_product() -> None:
    found = row(numpy=[1.0])
    assert peers.ceiling_s(found, 1.0) is None
    found.seconds["ceiling copy"] = {1: 1e-6}
    assert peers.ceiling_s(found, 1.0) == pytest.approx(1e-6)
    found.seconds["ceiling product"] = {1: 8e-6}
    assert peers.ceiling_s(found, 1.0) == pytest.approx(2e-6)  # 2000 operations at 1 GFLOP/s
    assert peers.ceiling_s(found, 0.1) == pytest.approx(8e-6)
    assert peers.ceiling_s(found, 100.0) == pytest.approx(1e-6)
    assert peers.ceiling_s(found, math.nan) == pytest.approx(8e-6)


# -- measuring, in this process --------------------------------------------------------------------


class Shifted(NumpyBackend):
    """It is off by one."""

    def build(self, *arguments: Any) -> Run:
        right = super().build(*arguments)
        return Run(lambda x: right(x) + 1, right.algorithm)


class Here:
    """A Worker whose process is this one."""

    started: list[str]

    def __init__(self, target: Target, *_: Any, **__: Any) -> None:
        self._target = target

    def start(self) -> Any:
        Here.started.append(str(self._target))
        if self._target.backend == "gone":
            return explain(ModuleNotFoundError("there is nobody"))
        backend = Shifted("cpu") if self._target.backend == "torch" else NumpyBackend("cpu")
        ceiling = self._target == peers.CEILING
        self._thing = peers.Ceilings() if ceiling else peers.Contender(backend)
        return None

    def ask(self, question: Any) -> Any:
        try:
            return question(self._thing)
        except Exception as error:
            return explain(error)

    def close(self) -> None:
        pass


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> Any:
    Here.started = []
    monkeypatch.setattr(peers, "Worker", Here)
    monkeypatch.setattr(peers, "TURN_S", 1e-4)
    monkeypatch.setattr(peers, "PEAK_N", 8)
    monkeypatch.setattr(peers, "COPY_BYTES", 1 << 10)
    targets = [Target(name, "", "cpu") for name in ("numpy", "tensorflow", "torch", "gone")]
    rows = find(WORKLOADS, ["notebook.conv", "notebook.pool"])
    return peers.Study(rows, targets, rounds=3, threads=1, budget_s=60.0, seed=1)


def test_who_is_wrong_is_not_timed(study: Any) -> None:
    told = list(study.measure())
    assert len(told) == study.done == study.total == 6
    assert "round 3 of 3" in told[-1]
    for found in study.rows.values():
        assert found.absent["torch@cpu"].startswith(peers.WRONG)
        assert {*found.seconds} >= {"numpy@cpu", "tensorflow@cpu", "ceiling copy"}
        assert "torch@cpu" not in found.seconds
        assert found.error["numpy@cpu"] <= 1 < found.error["torch@cpu"]
        assert all(sorted(of) == [1, 2, 3] for of in found.seconds.values())
    assert "ceiling product" in study.rows["notebook.conv"].seconds
    assert "there is nobody" in study.absent["gone@cpu"]
    # Each has a new process in each round, and who is absent is not asked again.
    assert {name: Here.started.count(name) for name in Here.started} == {
        "numpy@cpu": 3, "tensorflow@cpu": 3, "torch@cpu": 3, "ceiling@cpu": 3, "gone@cpu": 1,
    }  # fmt: skip
    assert 0 < study.had <= 1
    page = "\n".join(peers.markdown(study, "p.svg", interrupted=False))
    assert "`torch@cpu` on `notebook.conv`: " in page
    assert "interrupted" not in page


def test_what_is_wrong_in_a_later_round_has_no_times(
    study: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the numbers of a round are its own, so that nobody can have kept what was right once."""
    seen = []

    def prepare(self: Any, pipeline: PipelineSpec, inputs: Any) -> Any:
        seen.append(inputs.x.tobytes())
        answer = right(self, pipeline, inputs)
        later = len(Here.started) > 9  # the first two rounds have started 5 and 4
        return answer | ({"output": -answer["output"]} if later else {})

    right = peers.Contender.prepare
    monkeypatch.setattr(peers.Contender, "prepare", prepare)
    list(study.measure())
    assert study.rows["notebook.conv"].absent["numpy@cpu"].startswith(peers.WRONG)
    assert not {"numpy@cpu", "tensorflow@cpu"} & study.rows["notebook.conv"].seconds.keys()
    assert len(set(seen)) == study.rounds  # both rows take images of one size


def test_what_was_measured_before_it_was_interrupted_is_kept(study: Any) -> None:
    steps = study.measure()
    next(steps)
    steps.close()
    page = "\n".join(peers.markdown(study, "p.svg", interrupted=True))
    assert "**It was interrupted: 1 of 6 visits of a row were made.**" in page
    assert sum(bool(found.seconds) for found in study.rows.values()) == 1
    json.dumps(peers.document(study))


def test_no_row_begins_after_the_budget(study: Any) -> None:
    study.budget_s = 0.0
    assert list(study.measure()) == []
    assert study.done == 0


# -- the page and the picture ----------------------------------------------------------------------


def test_nothing_hostile_reaches_the_page(study: Any) -> None:
    list(study.measure())
    study.absent[HOSTILE] = HOSTILE
    study.versions["numpy@cpu"] = {HOSTILE: HOSTILE}
    found = study.rows["notebook.conv"]
    found.workload, found.absent["numpy@cpu"] = HOSTILE, HOSTILE
    lines = list(peers.markdown(study, "p.svg", interrupted=False))
    text = "\n".join(lines)
    assert "\x1b" not in text
    plain = re.sub(r"`[^`\n]*`", "", text)
    assert "<script" not in plain
    assert "javascript:b)" not in plain
    assert "@everybody" not in plain
    heads = [line for line in lines if line.startswith("#")]
    assert len(heads) == 5
    for before, after in itertools.pairwise(lines):
        if before.startswith("|") and after.startswith("|"):
            assert before.count("|") == after.count("|")


def test_the_picture_is_of_itself() -> None:
    rows = [
        row("net.a", "3x3, C >= 64", numpy=[1.0, 1.1, 1.2], torch=[2.0, 2.1, 2.2]),
        row("notebook.b", HOSTILE, numpy=[1.0, 1.1, 1.2], tensorflow=[2.0, 2.1, 2.2]),
    ]
    drawn = svg(peers.chart(rows))
    root = ElementTree.fromstring(drawn)
    assert not [e for e in root.iter() if e.tag.endswith(("script", "image", "foreignObject"))]
    assert not [name for e in root.iter() for name in e.attrib if name.endswith("href")]
    words = " ".join(root.itertext())
    assert "3x3, C >= 64 (1)" in words
    assert "all but the notebook's (1)" in words


# -- the libraries themselves ----------------------------------------------------------------------


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=False
    )


def test_a_dry_run(tmp_path: Path) -> None:
    """As it is started; TensorFlow, which takes long to import, is left out."""
    page = tmp_path / "new" / "p.md"
    done = run("--workload", "notebook.conv", "--workload", "notebook.pool", "--rounds", "1",
               "--target", "torch@cpu", "--output", str(page), "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["schema"] == "convbench.peers/1"
    assert [r["workload"] for r in found["rows"]] == ["notebook.conv", "notebook.pool"]
    assert all(r["seconds"]["numpy@cpu"]["1"] > 0 for r in found["rows"])
    assert all(0 <= r["error"]["numpy@cpu"] <= 1 for r in found["rows"])
    assert found["peaks"][0]["gflops"] > 0
    ElementTree.fromstring(page.with_suffix(".svg").read_text())
    there = find_spec("torch") is not None
    assert ("convbench[torch]" in page.read_text()) is not there
    assert all(("torch@cpu" in r["seconds"]) is there for r in found["rows"])


def test_ctrl_c_ends_it_with_a_page(tmp_path: Path) -> None:
    page = tmp_path / "p.md"
    words = ("--workload", "notebook.pool", "--rounds", "1000", "--target", "numpy@cpu")
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), *words, "--output", str(page)],
        stderr=subprocess.PIPE, text=True,
    ) as study:  # fmt: skip
        assert study.stderr is not None
        assert "round 1 of 1000" in study.stderr.readline()
        study.send_signal(signal.SIGINT)
        study.stderr.read()
    assert study.returncode == 130
    assert "**It was interrupted: " in page.read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--threads", "9999"), f"expected at most the {len(os.sched_getaffinity(0))} cores"),
        (("--workload", "notebook.cnv"), "Did you mean notebook.conv"),
        (("--target", "numpy@gpu:0"), "the target is numpy@gpu:0"),
        (("--rounds", "0"), "'0' is not a number from 1"),
    ],
)
def test_bad_input(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = run(*words, "--output", str(tmp_path / "p.md"))
    assert done.returncode == 4
    assert said in done.stderr
    assert not list(tmp_path.iterdir())
