"""`convbench backends`, with faulty ones beside ours."""

from __future__ import annotations

import os

from ..schemas import conforming
from .command import run


def test_backends_says_why_not(faulty: dict[str, str]) -> None:
    done = run("backends", "--json", env=faulty)
    assert done.returncode == 0
    backends = {b["name"]: b for b in conforming(done.stdout)["backends"]}
    assert backends["numpy"]["targets"][0] == "numpy@cpu"
    assert backends["numpy"]["versions"]["numpy"]

    def missing(name: str) -> tuple[str, str]:
        (entry,) = backends[name]["missing"]
        return entry["reason"], entry["remedy"]

    assert missing("not_installed") == (
        "not installed: there is no module named no_such_module_at_all",
        "Install it: pip install no-such-module",
    )
    assert "import failed" in missing("broken_import")[0]
    assert "libfaulty.so.3" in missing("broken_import")[0]
    assert "SIGABRT" in missing("dies_at_import")[0]
    assert "free(): invalid pointer" in missing("dies_at_import")[0]
    assert "import failed: loading faulty:nothing" in missing("no_class")[0]
    text = run("backends", env=faulty)
    assert text.returncode == 0
    assert "pip install no-such-module" in text.stdout


BAD = """
from convbench.backends.base import Capabilities
from convbench.backends.numpy import NumpyBackend

class Of(NumpyBackend):
    capabilities = Capabilities(("cpu",), ("float32",), {"": "as it is"})

class NoVersions(Of):
    def versions(self):
        return None

class OneText(Of):
    @classmethod
    def devices(cls):
        return "cpu"

class Kinds(Of):
    capabilities = Capabilities(("cpu"), ("float32",), {"": "as it is"})

class Variant(Of):
    capabilities = Capabilities(("cpu",), ("float32",), {"": "as it is", "F4x4": "another"})
"""
NAMES = {
    "no_versions": "NoVersions", "one_text": "OneText", "kinds": "Kinds", "variant": "Variant",
    "My-Kernel": "Of", "numpy": "Of",
}  # fmt: skip


def test_a_backend_that_says_what_it_may_not_costs_the_others_nothing(tmp_path) -> None:
    (tmp_path / "bad.py").write_text(BAD)
    info = tmp_path / "bad-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bad\nVersion: 1.0\n")
    lines = [f"{name} = bad:{value}" for name, value in NAMES.items()]
    (info / "entry_points.txt").write_text("\n".join(["[convbench.backends]", *lines, ""]))
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = run("backends", "--json", env=environment)
    assert done.returncode == 0, done.stderr
    assert "WARNING: 'numpy' is convbench's own, so that bad:Of of bad is never" in done.stderr
    backends = {b["name"]: b for b in conforming(done.stdout)["backends"]}
    assert backends["numpy"]["targets"]
    for name, why in {
        "no_versions": "NoneType",
        "one_text": "a tuple of texts",
        "kinds": "a tuple of texts",
        "variant": "'F4x4'; expected a small letter",
        "My-Kernel": "'My-Kernel'; expected a small letter",
    }.items():
        assert not backends[name]["targets"], name
        assert any(why in entry["reason"] for entry in backends[name]["missing"]), backends[name]
    wrong = run("verify", "--target", "My-Kernel@cpu", env=environment)
    assert wrong.returncode == 4
    assert "where a name is a small letter" in wrong.stderr
