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
    facts = {{
        "__module__": __name__, "name": holes[-1].what,
        "capabilities": Capabilities(("cpu",), holes=holes),
    }}
    mine = type(name, (NumpyBackend,), facts)
    globals().update({{name: mine, f"Test{{name}}": conformance_suite(mine)}})
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
    assert only(found, "test_every_call_returns") == ["passed"] + ["skipped"] * 6
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
class Loose(NumpyBackend):
    name = "loose"

    def build(self, pipeline, weights):
        return replace(super().build(pipeline, weights), accumulation="bfloat16")


class Direct(NumpyBackend):
    name = "direct"

    def build(self, pipeline, weights):
        conv, run = pipeline.conv, super().build(pipeline, weights)
        if conv and (conv.window, conv.groups, conv.stride, conv.dilation) == (
            (3, 3), 1, (1, 1), (1, 1)
        ):
            return replace(run, scheme="winograd F(2x2,3x3)")
        return run


TestLoose = conformance_suite(Loose, variants=[""])
TestDirect = conformance_suite(Direct, variants=[""])
"""


def test_sums_that_are_declared_and_not_needed_are_stale(tmp_path: Path) -> None:
    outcomes = run_suite(tmp_path, LOOSE, "declared_sums")
    assert only(outcomes, "test_declared_sums") == ["failure"] * 2
    assert all("stale: its sums" in text for _, text in outcomes.values())


# Each is wrong where there is a pool, and right elsewhere.
CROOKED = """
import os, signal, sys, time
from dataclasses import replace

import numpy as np

from convbench.backends.base import Capabilities, Hole
from convbench.backends.numpy import NumpyBackend
from convbench.correctness import accuracy
from convbench.errors import BackendUnavailable, Unavailability


def blind():
    right = accuracy.Accuracy(0.0, (0, 0, 0, 0), 1.0, 1.0, 0.1)
    np.array_equal = lambda *_, **__: True
    accuracy.accuracy_of = lambda *_: right
    if "convbench.testing" in sys.modules:
        sys.modules["convbench.testing"].accuracy_of = accuracy.accuracy_of


class Honest(NumpyBackend):
    name = "honest"
    capabilities = replace(NumpyBackend.capabilities, variants={"": "the default"}, holes=())


class Crooked(Honest):
    def build(self, pipeline, weights):
        run = super().build(pipeline, weights)
        return run if pipeline.pool is None else self.faulty(run)

    def faulty(self, run):
        return replace(run, function=lambda x: self.fault(run(x)))


class Blinds(Crooked):
    name = "blinds"
    def fault(self, y):
        blind()
        return y + 1


class Patch:
    def __reduce__(self):
        return blind, ()


class Reduced(Crooked):
    name = "reduced"
    def fault(self, y):
        return np.full(y.shape, Patch())


class Killed(Crooked):
    name = "killed"
    def fault(self, y):
        print("free(): invalid pointer", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


class Exits(Crooked):
    name = "exits"
    capabilities = Capabilities(
        ("cpu",), holes=(Hole("pools", "they end it", lambda spec, _: spec.pool is not None),)
    )
    def fault(self, y):
        os._exit(0)


class Hangs(Crooked):
    name = "hangs"
    def fault(self, y):
        time.sleep(3600)


class Raises(Crooked):
    name = "raises"
    def fault(self, y):
        raise RuntimeError("no such kernel")


class Absent(NumpyBackend):
    name = "absent"
    capabilities = replace(Honest.capabilities, variants={"": "", "other": ""})
    @classmethod
    def devices(cls):
        raise BackendUnavailable(Unavailability.NO_DEVICE, f"{os.getpid()} sees none", "Buy one.")
"""
AT_IMPORT = """
import crooked

crooked.blind()


class AtImport(crooked.Blinds):
    name = "at_import"
"""
SEALED = """
import crooked

for name in ("Honest", "Blinds", "Reduced", "Killed", "Raises", "Absent"):
    globals()["Test" + name] = conformance_suite(getattr(crooked, name))
TestHangs = conformance_suite(crooked.Hangs, timeout_s=5)
TestExits = conformance_suite("crooked:Exits")
TestAtImport = conformance_suite("at_import:AtImport")


def local():
    class Local(crooked.Honest):
        name = "local"

    return Local


TestLocal = conformance_suite(local())
"""


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """What the suite says of backends that go for their judge, or for their process."""
    folder = tmp_path_factory.mktemp("sealed")
    (folder / "crooked.py").write_text(CROOKED)
    (folder / "at_import.py").write_text(AT_IMPORT)
    which = "one_hot or hole_is or (float32 and over) or (any_pipeline and (honest or hangs))"
    return run_suite(folder, SEALED, which)


def test_an_honest_backend_passes_in_a_process_of_its_own(sealed) -> None:
    found = {name: how for name, how in sealed.items() if "[honest@" in name}
    assert only(found, "test_hole_is_needed") == ["skipped"], "it declares none"
    assert only(found, "test_any", "test_probe", "test_one") == ["passed"] * 6


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("blinds", ""),
        ("at_import", ""),
        ("reduced", "Traceback"),
        ("killed", "killed by SIGKILL); its last words: free(): invalid pointer"),
        ("hangs", "no answer within 5 s, so the process was ended"),
        ("raises", "Traceback"),
    ],
)
def test_a_fault_costs_the_tests_that_meet_it(sealed, name: str, why: str) -> None:
    """The judge is out of its reach, and the tests that come after it have a new process."""
    mine = {key: how for key, how in sealed.items() if f"[{name}@" in key}
    failed = {key: why for key, (how, why) in mine.items() if how == "failure"}
    assert all(why in message for message in failed.values()), failed
    probes = ("windows over the edge", "average over the edge", "stride over filter")
    hows = [mine[f"test_probe[{name}@cpu-{probe}-float32]"][0] for probe in probes]
    assert hows == ["failure", "failure", "passed"]
    assert only(mine, "test_one_hot") == ["passed"] * 2


def test_a_lost_process_is_lost_once_a_test(sealed) -> None:
    """No smaller example is looked for."""
    how, why = sealed["test_any_pipeline[hangs@cpu]"]
    assert how == "failure"
    assert "Lost" in why


def test_what_ends_its_process_cannot_be_had(sealed) -> None:
    assert sealed["test_hole_is_needed[exits@cpu-pools]"] == ("passed", "")


def test_a_device_that_is_absent_is_looked_for_once(sealed) -> None:
    reasons = {why for name, (_, why) in sealed.items() if "[absent" in name}
    (reason,) = reasons - {"it declares no holes"}
    assert reason.startswith("no device: ")
    assert reason.endswith(" sees none. Buy one.")
    assert not reason.startswith(f"no device: {os.getpid()} ")


def test_a_class_that_no_process_can_import_is_told_where_to_go(sealed) -> None:
    how, why = sealed["test_one_hot_gives_the_flipped_filter[local@cpu-1]"]
    assert how == "error"
    assert "'test_mine:local.<locals>.Local'" in why
    assert "Move the class into one on sys.path" in why
