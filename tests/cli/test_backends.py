"""`convbench backends`, with faulty ones beside ours."""

from __future__ import annotations

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
