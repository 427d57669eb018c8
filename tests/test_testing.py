"""The conformance suite, on backends that somebody else might have written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

HEAD = """
from dataclasses import replace

from convbench.backends.base import Capabilities, Hole, HoleKind, Run
from convbench.backends.numpy import NumpyBackend
from convbench.testing import conformance_suite


def grouped(pipeline, _):
    return pipeline.conv is not None and pipeline.conv.groups > 1


def pooled(pipeline, _):
    return pipeline.pool is not None


NO_GROUPS = Hole("groups", "there is no kernel for them", grouped)
NO_POOLS = Hole("pools", "there is no kernel for them", pooled)


"""

OFF_BY_ONE = """
class Mine(NumpyBackend):
    capabilities = Capabilities(("cpu",), holes=(NO_GROUPS,))

    def build(self, pipeline, weights):
        run = super().build(pipeline, weights)

        def off_by_one(x):
            y = run(x)
            y[-1:] += 1
            return y

        return Run(off_by_one, run.algorithm)


TestMine = conformance_suite(Mine)
"""

WITHOUT_POOLS = """
class Mine(NumpyBackend):
    capabilities = Capabilities(("cpu",), holes=(NO_POOLS,))

    def build(self, pipeline, weights):
        self.check(pipeline, weights.dtype)
        if pipeline.pool is not None:
            pipeline = replace(pipeline, pool=None, bias=True)  # nobody should come here
        return super().build(pipeline, weights)


TestMine = conformance_suite(Mine)
"""

# NumPy computes all of it. The name of each hole, and what its kind and place are.
DECLARED = {
    "missing": "",
    "deviates": "kind=HoleKind.DEVIATES",
    "slow": "kind=HoleKind.SLOW, above_flops=1e9",
    "nowhere": "applies=lambda pipeline, _: pipeline.n > 99",
    "of no variant": "variants=('old',)",
}
STALE = """
for how in {declared}:
    holes = eval(how)
    name = holes[-1].what.title().replace(" ", "")
    capabilities = Capabilities(("cpu",), holes=holes)
    mine = type(name, (NumpyBackend,), {{"capabilities": capabilities, "name": holes[-1].what}})
    globals()[f"Test{{name}}"] = conformance_suite(mine)
"""


def run_suite(folder: Path, module: str, which: str) -> dict[str, tuple[str, str]]:
    """Run a test module: test -> (outcome, message)."""
    (folder / "test_mine.py").write_text(HEAD + module)
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", folder,
            "--junit-xml", folder / "out.xml", "-k", which, "-W", "error", folder,
        ],
        capture_output=True, text=True, check=False, cwd=folder,
        env=os.environ | {"CONVBENCH_EXAMPLES": "20"},
    )  # fmt: skip
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    outcomes = {}
    for case in ElementTree.parse(folder / "out.xml").iter("testcase"):
        end = next((e for e in case if e.tag in {"failure", "error", "skipped"}), None)
        outcome = ("passed", "") if end is None else (end.tag, end.get("message"))
        outcomes[case.get("name")] = outcome
    return outcomes


def only(outcomes: dict[str, tuple[str, str]], *names: str) -> list[str]:
    """The outcomes of the tests that begin like this."""
    return [how for name, (how, _) in outcomes.items() if name.startswith(names)]


def test_a_wrong_backend_fails_the_properties_beside_its_holes(tmp_path: Path) -> None:
    which = "linear or permuted or any_pipeline or groups_are or one_hot"
    found = run_suite(tmp_path, OFF_BY_ONE, which)
    wrong = ("test_linear", "test_batch_permuted", "test_any_pipeline")
    assert only(found, *wrong) == ["failure"] * 3
    assert only(found, "test_one_hot") == ["failure", "skipped"]
    # Nothing but what is refused could be drawn: that is no pass.
    ((how, why),) = [v for k, v in found.items() if k.startswith("test_groups_are_split")]
    assert how == "skipped"
    assert "every example is declared to be missing: groups: there is no kernel for them" in why


def test_an_honest_backend_without_pools_passes(tmp_path: Path) -> None:
    found = run_suite(tmp_path, WITHOUT_POOLS, "not float16 and not bfloat16 and not tf32")
    assert {how for how, _ in found.values()} == {"passed", "skipped"}
    assert only(found, "test_every_call_returns") == ["passed"] + ["skipped"] * 4
    assert only(found, "test_hole_is_needed") == ["passed"]
    assert only(found, "test_pool_commutes") == ["skipped"]
    assert only(found, "test_linear", "test_batch_permuted", "test_shifted") == ["passed"] * 3


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """What the suite says of holes that NumPy does not have."""
    declared = [f"[replace(NO_POOLS, what={n!r}, {how})]" for n, how in DECLARED.items()]
    slow = f"replace(NO_POOLS, what='slow and missing', {DECLARED['slow']})"
    declared.append(f"[NO_POOLS, {slow}]")
    module = STALE.format(declared=declared)
    return run_suite(tmp_path_factory.mktemp("stale"), module, "hole_is_needed or holes_name")


@pytest.mark.parametrize(
    ("hole", "how", "why"),
    [
        ("missing", "failure", "stale: missing: there is no kernel for them: it is right on every"),
        ("deviates", "failure", "stale: deviates: there is no kernel for them: it is right on"),
        ("slow", "passed", ""),
        ("slow and missing", "failure", "all of it is declared to be missing"),
        ("nowhere", "skipped", "no probe is in this hole"),
    ],
)
def test_a_hole_that_is_not_there_is_stale(judged, hole: str, how: str, why: str) -> None:
    got, message = judged[f"test_hole_is_needed[{hole}@cpu-{hole}]"]
    assert got == how
    assert why in message


def test_a_hole_of_a_variant_that_is_gone_is_seen(judged) -> None:
    seen = {name: how for name, (how, _) in judged.items() if name.startswith("test_holes_name")}
    assert [name for name, how in seen.items() if how == "failure"] == [
        "test_holes_name_what_there_is[of no variant@cpu-of no variant]"
    ]


LOOSE = """
class Mine(NumpyBackend):
    name = "{name}"

    def build(self, pipeline, weights):
        return replace(super().build(pipeline, weights), accumulation="{sums}")


Test{title} = conformance_suite(Mine)
"""


def test_sums_that_are_declared_and_not_needed_are_stale(tmp_path: Path) -> None:
    module = LOOSE.format(name="loose", sums="bfloat16", title="Loose")
    outcomes = run_suite(tmp_path, module, "declared_sums")
    assert only(outcomes, "test_declared_sums") == ["failure"]
    (message,) = (text for _, text in outcomes.values())
    assert "stale: its sums" in message
