"""The project that a command runs in: its root, and what its ``pyproject.toml`` asks for.

There is one way to find it, whichever the command and whichever the folder below it. All that is
asked for is asked for there::

    [tool.convbench]
    targets = ["mine@cpu", "numpy@cpu"]    # what is measured, and verified where none is named
    workloads = ["perf/layers.toml"] # rows beside those that come with convbench
    asv = "perf/asv.conf.json"       # where it is not beside this file

    [tool.convbench.lists]
    mine = ["resnet50.conv1", "my_net.conv1"]

    [tool.convbench.watch]           # docs/watch.md
    branches = ["main"]

Paths are relative to the file. Backends are not listed: an installed distribution registers them.
What it says of machines is for who reads results (:mod:`convbench.results.machines`).
"""

from __future__ import annotations

import contextlib
import re
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from convbench.errors import InputError
from convbench.words.numbers import seconds

_PYPROJECT = "pyproject.toml"
_CONFIG = "asv.conf.json"
_KEYS = ("targets", "workloads", "asv", "lists", "machines", "watch")


_TLS = ("ca-file", "cert", "key")


@dataclass(frozen=True, slots=True)
class Watch:
    """What ``[tool.convbench.watch]`` asks for; docs/watch.md says what each means.

    Attributes
    ----------
    every_s, gate_s, bisect_s, limit_s : float
        Between two looks; for a gate; for all gates that look for who is to blame; for one step.
    scheduler, machine, tls : str, str, dict of str to str
        Of a fleet that measures and gates, if one does: its address, the machine whose equals gate,
        and the files of TLS by the names ``ca-file``, ``cert`` and ``key``.
    webhook, command : str, tuple of str
        Of ``notify``.
    """

    branches: tuple[str, ...] = ("main",)
    every_s: float = 600.0
    base: str = "main"
    list: str = "smoke"
    targets: tuple[str, ...] = ()
    gate_s: float = 300.0
    bisect_s: float = 1800.0
    limit_s: float = 7200.0
    repository: str = field(default="", repr=False)
    scheduler: str = ""
    machine: str = ""
    tls: dict[str, str] = field(default_factory=dict)
    webhook: str = field(default="", repr=False)
    command: tuple[str, ...] = ()

    @classmethod
    def of(cls, where: str, asked: object) -> Self:
        """Read the table.

        Raises
        ------
        InputError
            If it cannot be understood. No value is shown that can be a secret.
        """
        times = ("every", "gate", "bisect", "limit")
        words = ("branches", "targets")
        texts = ("base", "list", "repository", "scheduler", "machine")
        keys = (*times, *words, *texts, "tls", "notify")
        plain = _table(where, "watch", asked, keys)
        notify = _table(where, "watch.notify", plain.get("notify", {}), ("webhook", "command"))
        found: dict[str, Any] = {}
        for key in texts:
            if key in plain:
                found[key] = _text(where, f"watch.{key}", plain[key])
        if "webhook" in notify:
            found["webhook"] = _text(where, "watch.notify.webhook", notify["webhook"])
        for key in words:
            if key in plain:
                found[key] = _words(where, f"watch.{key}", plain[key])
        if tls := _table(where, "watch.tls", plain.get("tls", {}), _TLS):
            found["tls"] = {key: _text(where, f"watch.tls.{key}", tls.get(key)) for key in _TLS}
        found["command"] = _words(where, "watch.notify.command", notify.get("command", []))
        for key in times:
            if key in plain:
                found[f"{key}_s"] = _time(where, f"watch.{key}", plain[key])
        made = cls(**found)
        for branch in (*made.branches, made.base):
            if re.fullmatch(r"(?!.*\.\.)[\w*][\w./*+-]*", branch) is None:
                raise InputError(
                    f"{where}: a branch of watch is {branch!r}; expected the name of one, as in"
                    " main, release/* or refs/pull/*/head. Correct it."
                )
        return made


@dataclass(frozen=True, slots=True)
class Project:
    """A folder with what belongs to it.

    Attributes
    ----------
    name : str
        Of the distribution that is installed from it, as package indices compare names; "" if none
        is.
    targets : tuple of str
        Those that are asked for; empty if none are.
    workloads : tuple of Path
        Files of rows beside those that come with convbench.
    lists : mapping of str to tuple of str
        Names of workloads, by the name of a list of its own.
    config : Path
        ``asv.conf.json``, which need not be there.
    watch : Watch
        What ``convbench watch`` is to do.
    """

    root: Path
    name: str = ""
    targets: tuple[str, ...] = ()
    workloads: tuple[Path, ...] = ()
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    config: Path = Path(_CONFIG)
    watch: Watch = Watch()

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
        said = None
        with contextlib.suppress(InputError):
            said = declared(root, "")
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
            normalised(said.name) if said else "",
            _words(where, "targets", asked.get("targets", [])),
            tuple(root / path for path in _words(where, "workloads", asked.get("workloads", []))),
            {key: _words(where, f"lists.{key}", names) for key, names in lists.items()},
            root / config,
            Watch.of(where, asked.get("watch", {})),
        )


@dataclass(frozen=True, slots=True)
class Declared:
    """What is said in a folder of the distribution that is installed from it.

    Attributes
    ----------
    file : str
        That registers entry points: ``pyproject.toml``, ``setup.cfg`` or ``setup.py``.
    table : str
        Where in it; of a ``setup.py`` it says nothing.
    version : str
        "" where it is worked out as it is built.
    requires : tuple of str
        What it depends on, extras too.
    entries : mapping of str to mapping
        Entry points, by group and name.
    """

    file: str
    table: str
    name: str
    version: str = ""
    requires: tuple[str, ...] = ()
    entries: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def declared(folder: Path, where: str) -> Declared | None:
    """Read what a folder's distribution is; nothing of it is run.

    None if none is installed from it, or what registers its entry points cannot be known.

    Parameters
    ----------
    where : str
        What the message of an error begins with.

    Raises
    ------
    InputError
        If it cannot be understood.
    """
    import tomllib  # noqa: PLC0415  # help does not wait for it

    try:
        file = folder / _PYPROJECT
        made = tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        return _of_pyproject(made) or _of_setuptools(folder, made.get("project", {}))
    except (AttributeError, LookupError, SyntaxError, TypeError, ValueError) as error:
        raise InputError(
            f"{where}: what it is installed from is not readable ({error!r}); expected a"
            " pyproject.toml with [project] and a name, or a setup.cfg or setup.py. Correct it."
        ) from error


def _of_pyproject(made: Mapping[str, Any]) -> Declared | None:
    project, poetry = made.get("project"), made.get("tool", {}).get("poetry")
    if project is not None and "entry-points" not in project.get("dynamic", ()):
        extras = project.get("optional-dependencies", {}).values()
        return Declared(
            _PYPROJECT,
            "project.entry-points",
            project["name"],
            project.get("version", ""),
            (*project.get("dependencies", ()), *(text for texts in extras for text in texts)),
            project.get("entry-points", {}),
        )
    if project is None and poetry is not None:
        return Declared(
            _PYPROJECT,
            "tool.poetry.plugins",
            poetry["name"],
            poetry.get("version", ""),
            tuple(poetry.get("dependencies", ())),
            poetry.get("plugins", {}),
        )
    return None


def _of_setuptools(folder: Path, project: Mapping[str, Any]) -> Declared | None:
    """What ``setup.cfg`` says, and the literals of the call in ``setup.py``."""
    script, settings = (folder / name for name in ("setup.py", "setup.cfg"))
    if not (script.is_file() or settings.is_file()):
        return None
    import ast  # noqa: PLC0415  # few have them
    from configparser import ConfigParser  # noqa: PLC0415

    told: dict[str, Any] = {}
    for node in ast.walk(ast.parse(script.read_text("utf-8") if script.is_file() else "")):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("setup"):
            for keyword in node.keywords:
                with contextlib.suppress(ValueError):  # it is worked out
                    told[str(keyword.arg)] = ast.literal_eval(keyword.value)
    said = ConfigParser(interpolation=None)
    said.optionxform = str  # type: ignore[method-assign, assignment]
    said.read(settings, encoding="utf-8")
    about, options, entries = (
        dict(said[name]) if name in said else {}
        for name in ("metadata", "options", "options.entry_points")
    )
    if not (about or told or project):
        return None  # a setup.cfg may be there for other tools alone
    version = about.get("version") or told.get("version", "")
    required = _lines(told.get("install_requires", ())), _lines(options.get("install_requires", ""))
    return Declared(
        "setup.cfg" if about or not script.is_file() else "setup.py",
        "options.entry_points",
        project.get("name") or about.get("name") or told.get("name", ""),
        "" if version.startswith(("attr:", "file:")) else version,
        (*required[0], *required[1]),
        {
            group: {
                name.strip(): value.strip()
                for name, _, value in (line.partition("=") for line in _lines(lines))
            }
            for group, lines in {**told.get("entry_points", {}), **entries}.items()
        },
    )


def _lines(texts: str | Iterable[str]) -> list[str]:
    lines = texts.splitlines() if isinstance(texts, str) else texts
    return [line.strip() for line in lines if line.strip()]


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


def _table(where: str, key: str, value: object, keys: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict) or (unknown := sorted(value.keys() - {*keys})):
        what = ", ".join(unknown) if isinstance(value, dict) else "no table"
        raise InputError(
            f"{where}: the key of {key} is {what}; expected one of {', '.join(keys)}. Correct it."
        )
    return value


def _text(where: str, key: str, value: object) -> str:
    if not isinstance(value, str):
        raise InputError(
            f"{where}: {key} is a {type(value).__name__}; expected a text. Write it in quotes."
        )
    return value


def _time(where: str, key: str, value: object) -> float:
    with contextlib.suppress(ValueError):
        if isinstance(value, str) and 1 <= (found := seconds(value)) <= 30 * 86_400:
            return found
    raise InputError(
        f"{where}: {key} is {value!r}; expected a time of at most 30 days. Write it as in"
        ' "90s", "10m" or "2h".'
    )


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
