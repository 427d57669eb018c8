"""Ways to look faster or more right than one is: data for the judge, as faults are for the checks.

Each class in the files here is one mechanism that somebody was caught with or that we have thought
of: it dresses an honest backend up, says in a line what it does, and where it was seen. `convbench
audit --self-test` plants each into the process that is audited, and prints which of them were seen,
and by what. Whoever fools the judge with another gets a class here: CONTRIBUTING.md says how.

All are harmless: they write nowhere but into files without a name, what they start ends by itself
or with the process that is audited, and they stop or end no process but those of the same audit.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from convbench.backends import open_backend
from convbench.backends.base import Backend, Run
from convbench.stimulus.arrays import Array, Weights
from convbench.stimulus.spec import PipelineSpec
from convbench.stimulus.targets import Target


class Disguise:
    """An honest backend, of which a subclass changes what it likes; most change one call.

    The first line of a subclass is what is said of it to whoever looks for it.

    Attributes
    ----------
    source : str
        Where it was seen; "" if we have thought of it.
    declares : mapping of str to str
        What its runs say of themselves: fields of a Run.
    known : dict
        What it has computed, as far as it keeps that.
    """

    source: ClassVar[str] = ""
    declares: ClassVar[Mapping[str, str]] = {}

    def __init__(self, honest: Backend) -> None:
        self.honest = honest
        self.calls = 0
        self.known: dict[Any, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.honest, name)

    @classmethod
    def what(cls) -> str:
        """What it does, in a line."""
        text = inspect.getdoc(cls) or ""
        return text[:1].lower() + text[1:].removesuffix(".")

    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        """Build the honest run, and let `answer` stand before it."""
        run = self.honest.build(pipeline, weights)

        def called(x: Any) -> Any:
            self.calls += 1
            return self.answer(run, x)

        return replace(run, function=called, **self.declares)

    def answer(self, run: Run, x: Any) -> Any:
        """What a call returns: an array, or something to be called for it by who reads it."""
        return run(x)

    def once(self, make: Callable[[], Any]) -> Any:
        """What it makes the first time, and keeps."""
        if "once" not in self.known:
            self.known["once"] = make()
        return self.known["once"]

    def to_numpy(self, array: Any) -> Array:
        """Compute what was put off until now."""
        return self.honest.to_numpy(array() if callable(array) else array)


def called_from(*names: str) -> bool:
    """Whether a function of such a name waits for this to return."""
    frame = sys._getframe(1)  # which is what adversaries do
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_name in names:
            return True
    return False


def judged() -> bool:
    """Whether the judge has asked for this, and not the timing."""
    return called_from("attest", "_compute")


def local(function: str, name: str) -> Any:
    """A variable of a function that waits for this to return; None if none of that name does."""
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != function:
        frame = frame.f_back
    return frame and frame.f_locals.get(name)


def adversaries() -> dict[str, type[Disguise]]:
    """All of them, by name; none of their code has run yet but what defines it."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        loaded = importlib.import_module(f"{__name__}.{module.name}")
        for name, kind in vars(loaded).items():
            ours = isinstance(kind, type) and kind.__module__ == loaded.__name__
            if ours and not name.startswith("_"):
                found[re.sub("(?<=.)(?=[A-Z])", "_", name).lower()] = kind
    return dict(sorted(found.items()))


def plant(name: str, target: Target) -> Backend:
    """Open a backend and dress it up as an adversary."""
    disguised: Any = adversaries()[name](open_backend(target))
    return disguised  # type: ignore[no-any-return]
