"""Sides of a gate that are made in a moment: our sources, with something planted in them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from convbench.gate.build import Built

from ..checkouts import ROOT, Checkout

NOTHING = "        return run(x)\n"
SLOWER = """\
        begin_s = time.perf_counter()
        y = run(x)
        end_s = begin_s + 3 * (time.perf_counter() - begin_s)
        while time.perf_counter() < end_s:
            pass
        return y
"""
WRONG = "        return 1.001 * run(x)\n"

# Verifying makes 20 calls of a run; before it is timed there are those of 5 ms more.
LATER = """\
        if next(calls) < 50:
            return run(x)
        {}
"""

_PLANT = """

# -- planted by a test --
import itertools, os, sys, time
from convbench.errors import Unsupported
_build = NumpyBackend.build
def _planted(self, pipeline, weights):
    run = _build(self, pipeline, weights)
    calls = itertools.count()
    def called(x):
{body}
    return Run(called, "planted")
NumpyBackend.build = _planted
"""

_DISGUISE = """

# -- planted by a test --
_honest = open_backend
def open_backend(target):
    from convbench.auditing.zoo import adversaries
    return adversaries()["{name}"](_honest(target))
"""


def later(what: str) -> str:
    """A body that computes rightly until the calls that are timed."""
    return LATER.format(what)


def called(body: str) -> dict[str, str]:
    """What is appended to our sources, so that every run of NumPy is this body, given `run`."""
    return {"backends/numpy.py": _PLANT.format(body=body)}


def disguised(name: str) -> dict[str, str]:
    """The same, so that every backend is an adversary of :mod:`convbench.auditing.zoo`."""
    return {"backends/__init__.py": _DISGUISE.format(name=name)}


def write(source: Path, appended: Mapping[str, str]) -> None:
    """Append texts to files of the package."""
    for name, text in appended.items():
        with (source / "convbench" / name).open("a", encoding="utf-8") as file:
            file.write(text)


def side(folder: Path, appended: Mapping[str, str] | None = None) -> Built:
    """A copy of our sources, with these texts appended to files of the package."""
    source = folder / "src"
    cache = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src", source, ignore=cache)
    write(source, appended or {})
    return Built(
        folder.name, "0" * 40, bool(appended), Path(sys.executable), source, "here", str(folder)
    )


def branches(folder: Path, planted: Mapping[str, str]) -> Checkout:
    """Our sources as one commit, on main, and a branch with one more for each body."""
    made = Checkout(folder, ())
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("src", "requirements"):
        shutil.copytree(ROOT / name, made.folder / name, ignore=ignored, dirs_exist_ok=True)
    shutil.copy(ROOT / "pyproject.toml", made.folder)
    made.commit()
    for name, body in planted.items():
        made.git("checkout", "--quiet", "-b", name, "main")
        write(made.folder / "src", called(body))
        made.commit()
    made.git("checkout", "--quiet", "main")
    made.environment["CONVBENCH_LOCK"] = "cpu"
    return made
