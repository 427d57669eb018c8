"""The backends of this machine, found through the entry-point group ``convbench.backends``."""

from __future__ import annotations

import importlib.metadata
import pkgutil
import sys
from dataclasses import dataclass
from functools import cache

from convbench.backends.base import Backend
from convbench.errors import BackendUnavailable, TargetError, Unavailability
from convbench.machine.failures import place
from convbench.stimulus.targets import Target

GROUP = "convbench.backends"


@cache
def registered() -> dict[str, importlib.metadata.EntryPoint]:
    """Every registered backend by name; nothing is imported.

    Where two distributions claim a name, one of ours stays ours.
    """
    entries = importlib.metadata.entry_points(group=GROUP)
    return {entry.name: entry for entry in (*entries, *filter(is_ours, entries))}


def is_ours(entry: importlib.metadata.EntryPoint) -> bool:
    """Whether a backend is one of convbench's own."""
    return entry.value.startswith("convbench.")


def contested() -> list[str]:
    """What is to be said of names that are ours and that others have registered, too."""
    return [
        f"{entry.name!r} is convbench's own, so that {entry.value} of {_distribution(entry)} is"
        " never computed. Register it under another name."
        for entry in importlib.metadata.entry_points(group=GROUP)
        if entry.value != registered()[entry.name].value and is_ours(registered()[entry.name])
    ]


def find_backend(name: str) -> importlib.metadata.EntryPoint:
    """The entry point of a name; nothing is imported.

    Raises
    ------
    TargetError
        If no installed distribution registers it.
    """
    entry = registered().get(name)
    if entry is None:
        raise TargetError(
            f"target: the backend is {name!r}; expected one of "
            f"{', '.join(sorted(registered()))}. Others are registered by an entry point of the "
            f"group {GROUP!r}."
        )
    return entry


def backend_class(name: str) -> type[Backend]:
    """The class behind a name. Its library is not imported.

    Raises
    ------
    TargetError
        If no installed distribution registers the name.
    BackendUnavailable
        If the module that holds the class cannot be imported.
    """
    entry = find_backend(name)
    try:
        loaded = entry.load()
    except Exception as error:  # somebody else's module: anything may be raised
        where = place(error)
        raise BackendUnavailable(
            Unavailability.IMPORT_FAILED,
            f"loading {entry.value} raised {type(error).__name__}: {error}"
            + (f", at {where}" if where else ""),
            f"Correct it there; if it is not yours, reinstall or remove {_distribution(entry)},"
            f" which registers {name!r}.",
        ) from error
    if not (isinstance(loaded, type) and issubclass(loaded, Backend)):
        raise BackendUnavailable(
            Unavailability.IMPORT_FAILED,
            f"{entry.value} is not a convbench.backends.base.Backend",
            f"Correct the entry point {name!r}.",
        )
    return loaded


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the code of a backend is from.

    Attributes
    ----------
    distribution, version : str
        Of what has registered it.
    file : str
        That has its class.
    """

    distribution: str
    version: str
    file: str


def origin(name: str) -> Origin:
    """Where the class behind a name is from, which is imported.

    Raises
    ------
    TargetError, BackendUnavailable
        As :func:`backend_class`.
    """
    entry, module = find_backend(name), sys.modules[backend_class(name).__module__]
    version = entry.dist.version if entry.dist else ""
    return Origin(_distribution(entry), version, str(getattr(module, "__file__", "")))


def _distribution(entry: importlib.metadata.EntryPoint) -> str:
    return entry.dist.name if entry.dist else "a distribution without a name"


def find_class(target: Target) -> type[Backend]:
    """The class of a target that names its place, ``package.module:Class``, and not a backend.

    Raises
    ------
    TargetError
        If no class of a backend can be imported from there.
    """
    try:
        found = pkgutil.resolve_name(target.backend)
    except Exception as error:  # likewise
        found = f"{type(error).__name__}: {error}"
    if not (isinstance(found, type) and issubclass(found, Backend)):
        raise TargetError(
            f"backend: its place is {target.backend!r}, and there is {found}; expected a Backend"
            " at the top level of a module that any process can import. Move the class into one"
            " on sys.path: in a function it has no place, and a test module may have none under"
            " pytest's --import-mode=importlib."
        )
    return found


def open_class(target: Target) -> Backend:
    """Take the device that a target names, which names the place of a class.

    Raises
    ------
    TargetError, BackendUnavailable
    """
    return find_class(target)(target.device, target.variant)


def open_backend(target: Target) -> Backend:
    """Import the library and take the device that a target names.

    Raises
    ------
    TargetError, BackendUnavailable
    """
    return backend_class(target.backend)(target.device, target.variant)
