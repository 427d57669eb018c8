"""``convbench init``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convbench import __version__
from convbench.cli.output import show
from convbench.errors import InputError
from convbench.machine.files import write
from convbench.machine.git import git
from convbench.words.status import Exit
from convbench.words.table import verbatim

if TYPE_CHECKING:
    from rich.console import RenderableType

HELP = "make this repository ready: a backend, its test, asv's configuration, a workflow"
DESCRIPTION = """\
What it can see it does not ask: the package, a backend that is registered already, an
asv.conf.json, the service that runs the tests. Nothing that is there is overwritten: all of
it is written, or, where a file is in the way, none of it."""
EPILOG = """\
examples:
  convbench init --dry-run
  convbench init --template torch

exit codes: 0 all is there now, 4 a file is in the way or something is missing,
70 a defect of convbench"""

TEMPLATES = ("numpy", "torch", "triton", "numba", "cupy", "cuda", "cffi")

_ON_A_GPU = {"triton", "cupy", "cuda"}
_GROUP = "convbench.backends"
_INSTALL = f"convbench[asv,testing]=={__version__}"
_OTHER_CI = (
    ".gitlab-ci.yml", ".circleci", "azure-pipelines.yml", "Jenkinsfile", ".travis.yml",
    "bitbucket-pipelines.yml", ".woodpecker.yml", ".cirrus.yml",
)  # fmt: skip

FRONT = '''\
"""What asv measures here: convbench's suites, and whatever else lies in this folder."""

from convbench.suites import __path__ as suites

__path__ += suites

from . import convbench_common  # noqa: E402, F401  # it imports the libraries, before asv forks
'''

_NEW_PROJECT = """\
[build-system]
requires = ["flit_core>=3.12,<4"]
build-backend = "flit_core.buildapi"

[project]
name = "{name}"
version = "0.1.0"
description = "A convolution"
requires-python = ">=3.11"
dependencies = ["numpy"]
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--template", choices=TEMPLATES,
        help="what the backend is written with; default: what the project depends on, or numpy",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="only show what would be written")
    parser.add_argument("--force", action="store_true", help="overwrite what is in the way")


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is already.

    Attributes
    ----------
    root : Path
        The folder of the project.
    made : mapping
        Its ``pyproject.toml``.
    package : str
        The name that it is imported by.
    folder : Path
        Where that is.
    registered : tuple of str
        The names of its backends.
    config : Path, optional
        An ``asv.conf.json``.
    workflow : bool
        Whether nobody but GitHub seems to run its tests.
    """

    root: Path
    made: Mapping[str, Any]
    package: str
    folder: Path
    registered: tuple[str, ...]
    config: Path | None
    workflow: bool

    @property
    def name(self) -> str:
        """Of the backend."""
        taken = self.package in {"convbench", "cupy", "numpy", "tensorflow"}
        return "mine" if taken else self.package

    @property
    def group(self) -> str:
        """The table of the entry points."""
        poetry = "project" not in self.made and "poetry" in self.made.get("tool", {})
        return f'tool.poetry.plugins."{_GROUP}"' if poetry else f'project.entry-points."{_GROUP}"'


def look(start: Path) -> Seen:
    """See what there is.

    Raises
    ------
    InputError
        If it is no git repository, or a project that cannot register a backend.
    """
    import tomllib

    top = git(start, "rev-parse", "--show-toplevel")
    if not top:
        raise InputError(
            f"init: the folder is {start}, which git does not know; expected one of a repository."
            " Results are filed under commits: `git init` makes one."
        )
    above = [folder for folder in (start, *start.parents) if folder.is_relative_to(top)]
    root = next((f for f in above if (f / "pyproject.toml").is_file()), Path(top))
    made: dict[str, Any] = {}
    if (file := root / "pyproject.toml").is_file():
        try:
            made = tomllib.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(
                f"{file}: the text is not TOML ({error}); expected TOML 1.0. Correct it there."
            ) from error
        project, poetry = made.get("project"), made.get("tool", {}).get("poetry")
        if (project is None and poetry is None) or "entry-points" in (project or {}).get(
            "dynamic", ()
        ):
            raise InputError(
                f"{file}: what registers entry points is elsewhere; expected [project] that does."
                f" Register the class there, in the group {_GROUP}, and add [tool.convbench] here."
            )
    declared = made.get("project") or made.get("tool", {}).get("poetry") or {}
    package = re.sub(r"\W", "_", str(declared.get("name", root.name))).lower()
    folder = _package(root, package)
    entries = {
        **declared.get("entry-points", {}).get(_GROUP, {}),
        **declared.get("plugins", {}).get(_GROUP, {}),
    }
    found = sorted((*root.glob("asv.conf.json"), *root.glob("*/asv.conf.json")))
    others = any((root / name).exists() or Path(top, name).exists() for name in _OTHER_CI)
    workflow = root == Path(top) and ((root / ".github").is_dir() or not others)
    return Seen(
        root, made, folder.name, folder, tuple(entries), found[0] if found else None, workflow
    )


def _package(root: Path, name: str) -> Path:
    """The folder of the package, or where it would be."""
    there = [
        path.parent
        for path in (*sorted(root.glob("src/*/__init__.py")), *sorted(root.glob("*/__init__.py")))
        if path.parent.name not in {"tests", "benchmarks", "docs"}
    ]
    named = [path for path in there if path.name == name]
    return next(iter((*named, *there)), root / "src" / name)


@dataclass(frozen=True, slots=True)
class File:
    """What is to be in a file.

    Attributes
    ----------
    what : str
        write, extend, replace or keep; or refuse, where it is in the way.
    """

    path: str
    what: str
    text: str = ""


@dataclass(slots=True)
class Plan:
    """Everything that is to be written, and what is left to a person."""

    seen: Seen
    template: str
    force: bool
    files: list[File] = field(default_factory=list)
    by_hand: list[str] = field(default_factory=list)

    def whole(self, path: Path, text: str) -> None:
        """A file that is ours alone."""
        self._add(path, text, "write" if not path.exists() else "replace")

    def added(self, path: Path, *texts: str) -> None:
        """What is to be somewhere in a file that is somebody's."""
        before = path.read_text(encoding="utf-8") if path.is_file() else ""
        more = "".join(text for text in texts if text.strip() not in before)
        gap = "\n" * (bool(before) and not before.endswith("\n"))
        gap += "\n" * (bool(before.strip()) and "\n" in more.rstrip())
        what = "extend" if before.strip() else "write"
        self._add(path, f"{before}{gap}{more}" if more else before, what)

    def _add(self, path: Path, text: str, what: str) -> None:
        if path.is_file() and path.read_text(encoding="utf-8", errors="replace") == text:
            what = "keep"
        if what == "replace" and not self.force:
            what = "refuse"
        self.files.append(File(str(path.relative_to(self.seen.root)), what, text))

    @property
    def targets(self) -> list[str]:
        """What is measured: the backends of the project, and NumPy to hold them against."""
        device = "gpu:0" if self.template in _ON_A_GPU and not self.seen.registered else "cpu"
        names = self.seen.registered or (self.seen.name,)
        return [*(f"{name}@{device}" for name in names), "numpy@cpu"]

    @property
    def next(self) -> list[str]:
        """The commands that come now."""
        cells = "bench_pipeline.Smoke"
        return [
            f"pip install '{_INSTALL}' && pip install --editable .",
            "convbench verify",
            "python -m pytest tests/test_convbench.py",
            "git add --all && git commit -m 'Measure with convbench'",
            f"convbench bench --bench {cells}",
            "convbench gate HEAD~1 HEAD    # once the next change is committed",
        ]


def plan(seen: Seen, template: str | None, *, force: bool) -> Plan:
    """Work out what is to be written.

    Raises
    ------
    InputError
        If ``pyproject.toml`` cannot be extended.
    """
    made = Plan(seen, template or _fitting(seen), force)
    root, package = seen.root, seen.folder
    asked = made.seen.made.get("tool", {}).get("convbench")
    if not seen.registered:
        if not (package / "__init__.py").is_file():
            made.whole(package / "__init__.py", '"""A convolution."""\n')
        text = files("convbench.templates").joinpath(f"{made.template}.py").read_text("utf-8")
        text = text.replace('name = "mine"', f'name = "{seen.name}"')
        made.whole(package / "convbench.py", text.replace("mine@", f"{seen.name}@"))
        made.whole(root / "tests" / "test_convbench.py", _TEST.format(package=seen.package))
    made.added(root / "pyproject.toml", _tables(made, asked))
    _see_that_it_is_toml(made)
    config = seen.config or root / "asv.conf.json"
    if seen.config is None:
        text = files("convbench.templates").joinpath("asv.conf.json").read_text("utf-8")
        name = str((seen.made.get("project") or {}).get("name", seen.package))
        made.whole(config, text.replace("PROJECT", name).replace("CONVBENCH", _INSTALL))
    elif ".convbench.asv_plugin" not in config.read_text(encoding="utf-8"):
        where = config.relative_to(root)
        made.by_hand += [
            f'{where}: add "plugins": [".convbench.asv_plugin"], so that the evidence lies beside'
            " the results",
            f"{where}: have install_command install '{_INSTALL}', too",
        ]
    made.added(config.parent / _benchmark_dir(config) / "__init__.py", FRONT)
    made.added(root / ".gitignore", *(f"{name}/\n" for name in (".asv", "__pycache__")))
    if seen.workflow:
        text = files("convbench.templates").joinpath("workflow.yml").read_text("utf-8")
        path = root / ".github" / "workflows" / "convbench.yml"
        made.whole(path, text.replace("CONVBENCH", _INSTALL))
    else:
        made.by_hand.append(
            "have whoever runs the tests run `convbench verify --junit verify.xml` and `convbench"
            " gate BASE HEAD --output FOLDER`, too: docs/pull-requests.md"
        )
    return made


_TEST = """\
from convbench.testing import conformance_suite
from {package}.convbench import MyBackend

TestMyBackend = conformance_suite(MyBackend)
"""


def _fitting(seen: Seen) -> str:
    """The template for what the project depends on."""
    declared = seen.made.get("project") or {}
    texts = [*declared.get("dependencies", ())]
    for more in declared.get("optional-dependencies", {}).values():
        texts += more
    texts += seen.made.get("tool", {}).get("poetry", {}).get("dependencies", ())
    names = {
        re.split(r"[^\w-]", text, maxsplit=1)[0].lower().partition("-cuda")[0] for text in texts
    }
    order = ("triton", "torch", "numba", "cffi", "cupy")
    found = next((name for name in order if name in names), "numpy")
    kernels = any(seen.folder.parent.rglob("*.cu")) if seen.folder.is_dir() else False
    return "cuda" if kernels and found in {"numpy", "cupy"} else found


def _tables(made: Plan, asked: object) -> str:
    """What is added to ``pyproject.toml``."""
    seen, text = made.seen, ""
    if not seen.made:
        text += _NEW_PROJECT.format(name=seen.package.replace("_", "-"))
    if not seen.registered:
        text += f'\n[{seen.group}]\n{seen.name} = "{seen.package}.convbench:MyBackend"\n'
    if asked is None:
        quoted = ", ".join(f'"{target}"' for target in made.targets)
        text += f"\n[tool.convbench]\ntargets = [{quoted}]\n"
        if seen.config is not None and seen.config.parent != seen.root:
            text += f'asv = "{seen.config.relative_to(seen.root).as_posix()}"\n'
    return text.lstrip("\n")


def _see_that_it_is_toml(made: Plan) -> None:
    import tomllib

    (file,) = (file for file in made.files if file.path == "pyproject.toml")
    try:
        tomllib.loads(file.text)
    except ValueError as error:
        asked = made.seen.made.get("tool", {}).get("convbench")
        added = f"\n\n{_tables(made, asked)}"
        raise InputError(
            f"pyproject.toml: what its tables are with those of convbench is no TOML ({error});"
            f" expected to add them at its end. Add them by hand:{added}"
        ) from error


def _benchmark_dir(config: Path) -> str:
    """Where asv looks for suites: what the file says, or asv's usual."""
    text = config.read_text(encoding="utf-8") if config.is_file() else ""
    found = re.search(r'^[^/\n]*"benchmark_dir"\s*:\s*"([^"]+)"', text, re.MULTILINE)
    return found[1] if found else "benchmarks"


def run(arguments: argparse.Namespace) -> int:
    """Run the command; its exit code."""
    seen = look(Path.cwd())
    made = plan(seen, arguments.template, force=arguments.force)
    if refused := [file.path for file in made.files if file.what == "refuse"]:
        raise InputError(
            f"init: what is in the way is {', '.join(refused)}; expected files that are not there"
            " or say the same. Move them, or overwrite them with --force. Nothing was written."
        )
    if not arguments.dry_run:
        for file in made.files:
            if file.what != "keep":
                write(seen.root / file.path, file.text, parents=True)

    def listed() -> dict[str, Any]:
        return {
            "root": str(seen.root),
            "package": seen.package,
            "template": None if seen.registered else made.template,
            "targets": made.targets,
            "dry_run": arguments.dry_run,
            "files": [
                {"path": file.path, "what": file.what, "text": file.text} for file in made.files
            ],
            "by_hand": made.by_hand,
            "next": made.next,
        }

    show(arguments, "init", listed, lambda: render(made, dry_run=arguments.dry_run))
    return Exit.OK


def render(made: Plan, *, dry_run: bool) -> RenderableType:
    """Lay out what was written, or would be, and what comes next."""
    lines: list[str] = [f"{file.what:<8} {file.path}" for file in made.files]
    if dry_run:
        for file in made.files:
            if file.what != "keep":
                lines += ["", f"--- {file.path}", *file.text.splitlines()]
        lines += ["", "nothing was written"]
    lines += [*_listed("by hand", made.by_hand), *_listed("next", made.next)]
    return verbatim("\n".join(lines))


def _listed(title: str, items: Sequence[str]) -> list[str]:
    return ["", f"{title}:", *(f"  {item}" for item in items)] if items else []
