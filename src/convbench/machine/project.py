"""The project that a command runs in: its root, and what its ``pyproject.toml`` asks for.

There is one way to find it, whichever the command and whichever the folder below it. All that is
asked for is asked for there::

    [tool.convbench]
    targets = ["mine@cpu", "numpy@cpu"]    # what is measured, and verified where none is named
    workloads = ["perf/layers.toml"] # rows beside those that come with convbench
    asv = "perf/asv.conf.json"       # where it is not beside this file

    [tool.convbench.lists]
    mine = ["resnet50.conv1", "my_net.conv1"]

Paths are relative to the file. Backends are not listed: an installed distribution registers them.
What it says of machines is for who reads results (:mod:`convbench.results.machines`).
"""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from convbench.errors import InputError

_PYPROJECT = "pyproject.toml"
_CONFIG = "asv.conf.json"
_KEYS = ("targets", "workloads", "asv", "lists", "machines")


@dataclass(frozen=True, slots=True)
class Project:
    """A folder with what belongs to it.

    Attributes
    ----------
    root : Path
    name : str
        Of the distribution that its ``pyproject.toml`` makes, as package indices compare names; ""
        if it makes none.
    targets : tuple of str
        Those that are asked for; empty if none are.
    workloads : tuple of Path
        Files of rows beside those that come with convbench.
    lists : mapping of str to tuple of str
        Names of workloads, by the name of a list of its own.
    config : Path
        ``asv.conf.json``, which need not be there.
    """

    root: Path
    name: str = ""
    targets: tuple[str, ...] = ()
    workloads: tuple[Path, ...] = ()
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    config: Path = Path(_CONFIG)

    @classmethod
    def find(cls, start: Path | None = None) -> Self:
        """Find the project of a folder.

        Its root is the nearest folder, from there upwards, whose ``pyproject.toml`` has
        ``[tool.convbench]``; else the nearest that has an ``asv.conf.json``; else that of the git
        repository; else the folder itself.

        Parameters
        ----------
        start : Path, optional
            By default the current folder.

        Raises
        ------
        InputError
            If what such a file asks for cannot be understood.
        """
        start = (start or Path.cwd()).resolve()
        folders = (start, *start.parents)
        for folder in folders:
            if "convbench" in (made := _read(folder / _PYPROJECT)).get("tool", {}):
                return cls._of(folder, made)
        for mark in (_CONFIG, ".git"):
            for folder in folders:
                if (folder / mark).exists():
                    return cls._of(folder, _read(folder / _PYPROJECT))
        return cls._of(start, {})

    def holds(self, file: Path) -> bool:
        """Whether a file is the project's own, and no copy that is installed below it."""
        file = file.resolve()
        installed = (Path(sysconfig.get_path(name)) for name in ("purelib", "platlib"))
        return file.is_relative_to(self.root) and not any(
            file.is_relative_to(place.resolve()) for place in installed
        )

    @classmethod
    def _of(cls, root: Path, made: Mapping[str, Any]) -> Self:
        asked = made.get("tool", {}).get("convbench", {})
        name = made.get("project", {}).get("name", "")
        where = f"{root / _PYPROJECT}, [tool.convbench]"
        if not isinstance(asked, dict) or (unknown := sorted(asked.keys() - {*_KEYS})):
            what = ", ".join(unknown) if isinstance(asked, dict) else repr(asked)
            raise InputError(
                f"{where}: the key is {what}; expected one of {', '.join(_KEYS)}. Correct it; a"
                " backend is registered by an entry point."
            )
        lists = asked.get("lists", {})
        if not isinstance(lists, dict):
            raise InputError(
                f"{where}: lists is {lists!r}; expected a table of lists of names. Write each as"
                " NAME = [...]."
            )
        config = asked.get("asv", _CONFIG)
        if not isinstance(config, str):
            raise InputError(f"{where}: asv is {config!r}; expected a path. Write it in quotes.")
        return cls(
            root,
            normalised(name),
            _words(where, "targets", asked.get("targets", [])),
            tuple(root / path for path in _words(where, "workloads", asked.get("workloads", []))),
            {key: _words(where, f"lists.{key}", names) for key, names in lists.items()},
            root / config,
        )


def normalised(name: str) -> str:
    """The name of a distribution, as package indices compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _words(where: str, key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise InputError(
            f"{where}: {key} is {value!r}; expected a list of words. Write it as in"
            ' ["one", "another"].'
        )
    return tuple(value)


def _read(path: Path) -> dict[str, Any]:
    """What is in a file; nothing where it is not, or where another's is damaged."""
    import tomllib  # noqa: PLC0415  # help does not wait for it

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return {}
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        if "tool.convbench" not in text:
            return {}
        raise InputError(
            f"{path}: the text is not TOML ({error}); expected TOML 1.0. Correct it there."
        ) from error
