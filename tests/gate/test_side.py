"""The script that is a side of a gate: any commit answers to it, and what it raises is told."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convbench.correctness.accuracy import accuracy_of, refer_for
from convbench.gate.build import Built, Wanted, build
from convbench.gate.pairs import Needs, Templates, plain
from convbench.machine.child import Child
from convbench.stimulus.arrays import Weights
from convbench.stimulus.formats import Fill
from convbench.stimulus.inputs import Inputs
from convbench.stimulus.spec import ConvSpec, PipelineSpec, PoolSpec
from convbench.stimulus.targets import Target
from convbench.words.status import Outcome, Status

from ..checkouts import ROOT, SUITES
from ..plugin import write_plugin
from ..test_old_commits import commit_that_added

PIPELINE = PipelineSpec(1, 9, 8, 4, ConvSpec(5, 3, 3), bias=True)
POOL = PipelineSpec(1, 5, 5, 3, pool=PoolSpec("max", 2))
NUMPY = Target.parse("numpy@cpu")


def inputs_of(pipeline: PipelineSpec) -> Inputs:
    """Numbers that no seed gives."""
    chance = np.random.default_rng()
    shapes = (pipeline.input_shape, pipeline.filter_shape, pipeline.bias_shape)
    x, *weights = (s and chance.standard_normal(s, np.float32) for s in shapes)
    return Inputs(x, Weights("float32", *weights))


def right(output: Any, pipeline: PipelineSpec, inputs: Inputs) -> bool:
    assert output.dtype == np.float32
    return accuracy_of(output, refer_for(pipeline, inputs, Fill.NORMAL)).ok


class Side:
    """One process of a side, and what it is asked for."""

    def __init__(self, child: Child, source: Path) -> None:
        self.child, self.source = child, source

    def ask(self, kind: str, **order: Any) -> Any:
        return self.child.ask({"do": kind, **order}, 60.0)

    def open(self, target: Target = NUMPY, core: int | None = None) -> Any:
        return self.ask("open", source=str(self.source), target=str(target), core=core)

    def compute(
        self, pipeline: PipelineSpec, fill: Fill = Fill.NORMAL, *, thorough: bool = False
    ) -> Any:
        order = plain(pipeline, inputs_of(pipeline), fill)
        return self.ask("compute", thorough=thorough, **order)


@contextlib.contextmanager
def side(source: Path, target: Target = NUMPY) -> Iterator[Side]:
    built = Built("a side", "0" * 40, False, Path(sys.executable), source, "here", "")
    templates = Templates({"head": built}, SUITES / "interface.py")
    try:
        forked = templates.fork({"head": target})["head"]
        assert isinstance(forked, Child)
        with contextlib.closing(forked) as child:
            yield Side(child, source)
    finally:
        templates.close()


def source_of(revision: str, folder: Path) -> Path:
    clone = folder / "clone"
    command = ["git", "clone", "--quiet", "--shared", "--no-checkout", str(ROOT), str(clone)]
    subprocess.run(command, check=True)
    return build(Wanted(revision, sys.executable), clone, print).source


COMMITS = {
    "working tree": lambda: "",
    "the first": lambda: commit_that_added("benchmarks/common.py"),
    "without the door": lambda: f"{commit_that_added('src/convbench/frozen.py')}^",
    "without a judge": lambda: f"{commit_that_added('src/convbench/frozen.py', 'stand_by')}^",
}


@pytest.fixture(scope="module", params=COMMITS)
def any_side(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    revision = COMMITS[request.param]()
    source = ROOT / "src"
    if revision:
        source = source_of(revision, tmp_path_factory.mktemp("side"))
    with side(source) as opened:
        assert opened.open(core=min(os.sched_getaffinity(0)))["versions"]["numpy"] == np.__version__
        yield opened


def test_it_takes_the_core_that_it_is_given(any_side: Side) -> None:
    cores = os.sched_getaffinity(0)
    assert os.sched_getaffinity(any_side.child.pid) == {min(cores)}


@pytest.mark.parametrize("pipeline", [PIPELINE, POOL], ids=["convolution", "pool"])
def test_it_computes_with_the_numbers_that_it_is_sent(
    any_side: Side, pipeline: PipelineSpec
) -> None:
    inputs = inputs_of(pipeline)
    order = plain(pipeline, inputs, Fill.NORMAL)
    found = any_side.ask("compute", thorough=False, **order)
    assert right(found["output"], pipeline, inputs)
    assert found["algorithm"]
    assert (found["accumulation"], found["later"] or (), found["deviation"]) == (None, (), "")


def test_what_it_times_is_what_can_be_had(any_side: Side) -> None:
    inputs = inputs_of(PIPELINE)
    built = any_side.ask("build", **plain(PIPELINE, inputs, Fill.NORMAL))
    assert 0 < built["call_s"] < 1
    assert built["algorithm"]
    assert built["accumulation"] is None
    one, many = (any_side.ask("block", calls=calls) for calls in (1, 200))
    assert 0 < one["seconds"] < many["seconds"] < 10
    assert right(any_side.ask("output"), PIPELINE, inputs)


def test_it_stands_by_its_time(any_side: Side) -> None:
    inputs = inputs_of(PIPELINE)
    any_side.ask("build", **plain(PIPELINE, inputs, Fill.NORMAL))
    xs = [inputs_of(PIPELINE).x for _ in range(3)]
    found = any_side.ask("calls", xs=xs)
    assert len(found["seconds"]) == len(found["ys"]) == 3
    assert all(0 < seconds < 10 for seconds in found["seconds"])
    for x, y in zip(xs, found["ys"], strict=True):
        assert right(y, PIPELINE, Inputs(x, inputs.weights))
    copies = any_side.ask("copies", xs=xs, size=7)["ys"]
    for x, y in zip(xs, copies, strict=True):
        assert np.array_equal(y, x.reshape(-1)[:7].reshape(1, 1, 1, 7))
    any_side.child.tell({"do": "end"})
    assert any_side.ask("block", calls=1)["seconds"] > 0


@pytest.mark.parametrize("order", [{"pipeline": {}}, {"dtype": "float7"}, {"filters": None}])
def test_what_it_raises_is_an_outcome_with_a_reason_and_it_goes_on(
    any_side: Side, order: dict[str, Any]
) -> None:
    whole = plain(PIPELINE, inputs_of(PIPELINE), Fill.NORMAL)
    for kind in ({"do": "build"}, {"do": "compute", "thorough": True}):
        answer = any_side.child.ask({**kind, **whole, **order}, 60.0)
        assert isinstance(answer, Outcome)
        assert answer.status in {Status.FAILED, Status.SKIPPED}
        assert answer.reason
        assert answer.kind
        assert not answer.process_lost
    assert "output" in any_side.compute(PIPELINE)


# -- What a backend does --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_plugin(tmp_path_factory.mktemp("faulty"))


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("raises", Status.FAILED, "cuBLAS could not start on the GPU"),
        ("exits", Status.FAILED, "exit status 7"),
        ("segfaults", Status.FAILED, "killed by SIGSEGV"),
        ("no_memory", Status.FAILED, "the machine's memory is full"),
        ("changes_input", Status.FAILED, "the run changed its input"),
        ("one_buffer", Status.FAILED, "the run changed the output of an earlier call"),
        ("returns_none", Status.FAILED, "to_numpy returned NoneType"),
    ],
)
def test_a_fault_is_told_as_everywhere(
    faulty: Path, name: str, status: Status, reason: str
) -> None:
    target = Target.parse(f"{name}@cpu")
    with side(faulty, target) as opened:
        assert "versions" in opened.open(target)
        answer = opened.compute(POOL)
    assert answer.status is status
    assert reason in answer.reason


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("not_installed", "there is no module named no_such_module"),
        ("broken_import", "`import faulty_library` raised OSError"),
        ("no_class", "loading faulty:nothing raised AttributeError"),
        ("nowhere", "the backend is 'nowhere'; expected one of"),
    ],
)
def test_a_backend_that_cannot_be_opened_says_why(faulty: Path, name: str, reason: str) -> None:
    target = Target.parse(f"{name}@cpu")
    with side(faulty, target) as opened:
        answer = opened.open(target)
    assert isinstance(answer, Outcome)
    assert reason in answer.reason


# -- What it declares -----------------------------------------------------------------------------

# In both ways in which that was ever done: holes had no kind at first.
SLOW = "Hole('convolutions', 'nobody has tiled them', lambda p, _: p.conv is not None, {})"
DEVIATES = "Hole('nan', 'comparisons drop it', lambda p, _: p.pool is not None, {})"
HOLES = """
from dataclasses import replace
from convbench.backends import base
from convbench.backends.base import Hole
holes = ({slow}, {deviates})
NumpyBackend.capabilities = replace(NumpyBackend.capabilities, holes=holes)
"""


def declared(today: bool) -> str:
    slow: Sequence[str] = ("above_flops=1.0",)
    deviates: Sequence[str] = ("fills=('nonfinite',)",)
    if today:
        slow = (*slow, "kind=base.HoleKind.SLOW")
        deviates = (*deviates, "kind=base.HoleKind.DEVIATES")
    return HOLES.format(
        slow=SLOW.format(", ".join(slow)), deviates=DEVIATES.format(", ".join(deviates))
    )


@pytest.mark.parametrize("today", [True, False], ids=["today", "before holes had a kind"])
def test_what_a_side_declares_is_told(today: bool, tmp_path: Path) -> None:
    source = tmp_path / "src"
    if today:
        shutil.copytree(ROOT / "src", source)
    else:
        kinds = commit_that_added("src/convbench/backends/base.py", "class HoleKind")
        shutil.copytree(source_of(f"{kinds}^", tmp_path), source)
    with (source / "convbench/backends/numpy.py").open("a") as file:
        file.write(declared(today))
    with side(source) as opened:
        opened.open()
        skipped = opened.compute(PIPELINE)
        assert isinstance(skipped, Outcome)
        assert skipped.status is Status.SKIPPED
        assert skipped.reason == "convolutions: nobody has tiled them"
        assert "--thorough" in skipped.remedy
        assert opened.compute(PIPELINE, thorough=True)["deviation"] == ""
        assert opened.compute(POOL)["deviation"] == ""
        assert opened.compute(POOL, Fill.NONFINITE)["deviation"] == "nan: comparisons drop it"


def test_code_that_does_not_come_from_the_side_is_not_taken_for_it(tmp_path: Path) -> None:
    """An installation that takes the place of the sources, wherever on the path they are."""
    elsewhere = tmp_path / "nothing-is-here"
    elsewhere.mkdir()
    own = frozenset({"numpy"})
    for source, names, ours in (
        (ROOT / "src", own, True), (elsewhere, frozenset(), True), (elsewhere, own, False)
    ):  # fmt: skip
        built = Built("main", "0" * 40, False, Path(sys.executable), source, "here", "", names)
        templates = Templates({"head": built}, SUITES / "interface.py")
        try:
            opened = templates.open("head", NUMPY, None)
            if ours:
                assert isinstance(opened, tuple)
                opened[0].close()
            else:
                assert isinstance(opened, Outcome)
                assert opened.status is Status.FAILED
                assert f"and not that of main in {elsewhere}" in opened.reason
        finally:
            templates.close()


# -- What both sides are forked from --------------------------------------------------------------

WANTING = """
import os
from convbench.backends.numpy import NumpyBackend
class Wanting(NumpyBackend):
    name = "wanting"
    requires = ("wanted",)
    environment = {{"WANTED": "{value}"}}
    def versions(self):
        import mine
        return {{"mine": mine.__file__, "wanted by": str(self.library().NUMBER)}}
"""
WANTED = """
import os
NUMBER = os.getpid()
with open(os.environ["IMPORTS"], "a") as file:
    file.write(os.environ["WANTED"] + "\\n")
{more}
"""
TARGET = Target.parse("wanting@cpu")


def wanting(folder: Path, value: int) -> Built:
    """A side with a backend that sets a variable and imports a library, and with a module."""
    source = folder / "src"
    shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
    (source / "wanting.py").write_text(WANTING.format(value=value))
    (source / "mine.py").write_text("")
    info = source / "wanting-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wanting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[convbench.backends]\nwanting = wanting:Wanting\n")
    return Built(folder.name, "0" * 40, True, Path(sys.executable), source, "here", "")


class Libraries:
    """An installed library, with a module of the name of one that the sides have, too."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.imports = folder, folder / "imports.txt"
        folder.mkdir()
        self.write()
        (folder / "mine.py").write_text("")
        path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
        monkeypatch.setenv("PYTHONPATH", path)
        monkeypatch.setenv("IMPORTS", str(self.imports))

    def write(self, more: str = "") -> None:
        (self.folder / "wanted.py").write_text(WANTED.format(more=more))

    def imported(self) -> list[str]:
        """With which value each import of the library has met the variable, so far."""
        return self.imports.read_text().split() if self.imports.exists() else []


@pytest.fixture
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Libraries:
    return Libraries(tmp_path / "libraries", monkeypatch)


def paired(base: Built, head: Built) -> dict[str, dict[str, str]]:
    """What the two processes of one pair say of themselves."""
    templates = Templates({"base": base, "head": head}, SUITES / "interface.py")
    with contextlib.ExitStack() as stack:
        stack.callback(templates.close)
        said = {}
        for name, child in templates.fork({"base": TARGET, "head": TARGET}).items():
            assert isinstance(child, Child)
            stack.enter_context(contextlib.closing(child))
            said[name] = templates.opened(child, name, TARGET, None)["versions"]
        return said


def test_both_processes_of_a_pair_share_one_import_and_no_code(
    tmp_path: Path, libraries: Libraries
) -> None:
    sides = [wanting(tmp_path / name, 7) for name in ("base", "head")]
    said = paired(*sides)
    assert libraries.imported() == ["7"]
    assert said["base"]["wanted by"] == said["head"]["wanted by"]
    for built in sides:
        assert said[built.name]["mine"] == str(built.source / "mine.py")


def test_sides_that_set_another_variable_before_import_for_themselves(
    tmp_path: Path, libraries: Libraries
) -> None:
    said = paired(wanting(tmp_path / "base", 7), wanting(tmp_path / "head", 8))
    assert sorted(libraries.imported()) == ["7", "8"]
    assert said["base"]["wanted by"] != said["head"]["wanted by"]


def test_a_library_that_brings_what_a_side_has_of_its_own_is_imported_by_the_sides(
    tmp_path: Path, libraries: Libraries
) -> None:
    """What an installation of the same project would have it load is other code."""
    libraries.write("import mine")
    sides = [wanting(tmp_path / name, 7) for name in ("base", "head")]
    said = paired(*sides)
    assert libraries.imported() == ["7"] * 3
    for built in sides:
        assert said[built.name]["mine"] == str(built.source / "mine.py")


def test_what_is_needed_is_asked_without_importing_it(
    any_side: Side, tmp_path: Path, libraries: Libraries
) -> None:
    templates = Templates({}, SUITES / "interface.py")
    built = Built("a side", "0" * 40, False, Path(sys.executable), any_side.source, "here", "")
    assert templates._ask_for_needs(built, "numpy") == Needs(built.python, ("numpy",))
    for unknown in ("nobody", "wanting"):
        assert templates._ask_for_needs(built, unknown) == Needs(built.python)
    tensorflow = templates._ask_for_needs(built, "tensorflow")
    assert tensorflow.modules == ("tensorflow",)
    wanted = templates._ask_for_needs(wanting(tmp_path / "side", 7), "wanting")
    assert wanted == Needs(built.python, ("wanted",), (("WANTED", "7"),))
    assert libraries.imported() == []
