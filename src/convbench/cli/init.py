"""``convbench init``."""

from __future__ import annotations

import argparse
import keyword
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
from convbench.machine.project import Declared, declared
from convbench.stimulus.targets import NAME
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
_NOT_TRACKED = (".asv", "__pycache__", "*.egg-info", "build")
"""What measuring and installing leave: a tree with more than HEAD has is not what HEAD names."""

_NO_PACKAGES = {"benchmarks", "docs", "examples", "scripts", "test", "tests", "tools"}
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
dependencies = [{dependencies}]
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
    declared : Declared, optional
        The distribution that is installed from it, if one is.
    asked : bool
        Whether its ``pyproject.toml`` has ``[tool.convbench]``.
    above : str
        The folder in git's repository; "" if it is the repository's own.
    package : str
        The name that it is imported by.
    folder : Path
        Where that is.
    registered : mapping
        The places of its backends, by name.
    config : Path, optional
        An ``asv.conf.json``.
    workflow : bool
        Whether nobody but GitHub seems to run its tests.
    """

    root: Path
    declared: Declared | None
    asked: bool
    above: str
    package: str
    folder: Path
    registered: Mapping[str, str]
    config: Path | None
    workflow: bool

    @property
    def name(self) -> str:
        """Of the backend."""
        from convbench.backends import is_ours, registered

        ours = {name for name, entry in registered().items() if is_ours(entry)}
        name = self.package.lower()
        return name if NAME.fullmatch(name) and name not in {"convbench", *ours} else "mine"

    @property
    def place(self) -> str:
        """Of the backend's class."""
        return f"{self.package}.convbench:MyBackend"


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
    marks = ("pyproject.toml", "setup.cfg", "setup.py")
    root = next((f for f in above if any((f / mark).is_file() for mark in marks)), Path(top))
    made: dict[str, Any] = {}
    if (file := root / "pyproject.toml").is_file():
        try:
            made = tomllib.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(
                f"{file}: the text is not TOML ({error}); expected TOML 1.0. Correct it there."
            ) from error
    said = declared(root, str(root))
    if said is None and not made.keys().isdisjoint({"project", "build-system"}):
        raise InputError(
            f"{root / 'pyproject.toml'}: what registers entry points is elsewhere; expected"
            f" [project] that does. Register the class there, in the group {_GROUP}, and add"
            " [tool.convbench] here."
        )
    package = re.sub(r"\W", "_", (said.name if said else "") or root.name).lower()
    folder = _package(root, package)
    if not folder.name.isidentifier() or keyword.iskeyword(folder.name):
        raise InputError(
            f"init: the package is {folder.name!r}, by the name of the project or its folder;"
            " expected what Python can import. Make the package, as in"
            " src/my_kernels/__init__.py, or name the project in pyproject.toml."
        )
    found = sorted((*root.glob("asv.conf.json"), *root.glob("*/asv.conf.json")))
    others = any((root / name).exists() or Path(top, name).exists() for name in _OTHER_CI)
    workflow = root == Path(top) and ((root / ".github").is_dir() or not others)
    return Seen(
        root,
        said,
        "convbench" in made.get("tool", {}),
        root.relative_to(top).as_posix() if root != Path(top) else "",
        folder.name,
        folder,
        said.entries.get(_GROUP, {}) if said else {},
        found[0] if found else None,
        workflow,
    )


def _package(root: Path, name: str) -> Path:
    """The folder of the package, or where it would be."""
    there = [
        path.parent
        for path in (*sorted(root.glob("src/*/__init__.py")), *sorted(root.glob("*/__init__.py")))
        if path.parent.name not in _NO_PACKAGES
    ]
    named = [path for path in there if path.name == name]
    if not there and (modules := [*root.glob(f"src/{name}.py"), *root.glob(f"{name}.py")]):
        raise InputError(
            f"init: the package {name} is {modules[0].relative_to(root)}, a file; expected a"
            " folder, in which a backend can lie. Make it the __init__.py of one."
        )
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
    def libraries(self) -> list[str]:
        """What has to be installed for the backend that is written; none is where there is one."""
        if self.seen.registered:
            return []
        text = _template(f"{self.template}.py")
        (names,) = re.findall(r'^    install = "pip install (.+)"$', text, re.MULTILINE)
        return str(names).split()

    @property
    def targets(self) -> list[str]:
        """What is measured: the backends of the project, and NumPy to hold them against."""
        device = "gpu:0" if self.template in _ON_A_GPU else "cpu"
        names = self.seen.registered or (self.seen.name,)
        return [*(f"{name}@{device}" for name in names), "numpy@cpu"]

    @property
    def next(self) -> list[str]:
        """The commands that come now."""
        cells = "bench_pipeline.Smoke"
        tests = [_TEST_FILE]
        if self.seen.registered and not (self.seen.root / _TEST_FILE).is_file():
            tests = [f"--convbench {place}" for place in self.seen.registered.values()]
        return [
            f"pip install '{_INSTALL}' && pip install --editable .",
            "convbench verify",
            f"python -m pytest {' '.join(tests)}",
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
    if not seen.registered:
        if not (package / "__init__.py").is_file():
            made.whole(package / "__init__.py", '"""A convolution."""\n')
        text = _template(f"{made.template}.py").replace('name = "mine"', f'name = "{seen.name}"')
        made.whole(package / "convbench.py", text.replace("mine@", f"{seen.name}@"))
        made.whole(root / _TEST_FILE, _TEST.format(package=seen.package))
        _register(made)
    made.added(root / "pyproject.toml", _tables(made))
    _see_that_it_is_toml(made)
    _for_asv(made)
    made.added(root / ".gitignore", *(f"{name}/\n" for name in _NOT_TRACKED))
    if seen.workflow:
        text = _template("workflow.yml").replace("CONVBENCH", _INSTALL)
        made.whole(root / ".github" / "workflows" / "convbench.yml", text)
    else:
        made.by_hand.append(
            "have whoever runs the tests run `convbench verify --junit verify.xml` and `convbench"
            " gate BASE HEAD --output FOLDER`, too: docs/pull-requests.md"
        )
    return made


_TEST_FILE = "tests/test_convbench.py"
_TEST = """\
from convbench.testing import conformance_suite
from {package}.convbench import MyBackend

TestMyBackend = conformance_suite(MyBackend)
"""


def _template(name: str) -> str:
    return files("convbench.templates").joinpath(name).read_text("utf-8")


def _known_as(requirement: str) -> str:
    """The name of a library, without what follows it and the CUDA that it is built for."""
    name = re.split(r"[^\w-]", requirement, maxsplit=1)[0]
    return name.lower().partition("-cuda")[0]


def _required(seen: Seen) -> set[str]:
    return {_known_as(text) for text in seen.declared.requires} if seen.declared else set()


def _fitting(seen: Seen) -> str:
    """The template for what the project depends on."""
    order = ("triton", "torch", "numba", "cffi", "cupy")
    found = next((name for name in order if name in _required(seen)), "numpy")
    kernels = any(seen.folder.parent.rglob("*.cu")) if seen.folder.is_dir() else False
    return "cuda" if kernels and found in {"numpy", "cupy"} else found


def _register(made: Plan) -> None:
    """What is not done in ``pyproject.toml`` (:func:`_tables`), and what the backend needs."""
    seen = made.seen
    if (said := seen.declared) is None:
        return
    file, line = seen.root / said.file, f"{seen.name} = {seen.place}"
    section = f"[{said.table}]"
    if said.file == "setup.py":
        made.by_hand.append(
            f'setup.py: have setup() take entry_points={{"{_GROUP}": ["{line}"]}}, which registers'
            " the backend"
        )
    elif said.file == "setup.cfg" and section in file.read_text(encoding="utf-8"):
        made.by_hand.append(
            f"setup.cfg, {section}: add `{line}` to {_GROUP}, which registers the backend"
        )
    elif said.file == "setup.cfg":
        made.added(file, f"\n{section}\n{_GROUP} =\n    {line}\n".lstrip())
    required = _required(seen)
    if missing := [name for name in made.libraries if _known_as(name) not in required]:
        made.by_hand.append(
            f"{said.file}: name {' and '.join(missing)} among what the project depends on, or asv"
            " and the workflow install it without"
        )


def _tables(made: Plan) -> str:
    """What is added to ``pyproject.toml``."""
    seen, text = made.seen, ""
    if seen.declared is None:
        needed = ", ".join(f'"{name}"' for name in dict.fromkeys(("numpy", *made.libraries)))
        name = seen.package.replace("_", "-")
        text += _NEW_PROJECT.format(name=name, dependencies=needed)
    table = seen.declared.table if seen.declared else "project.entry-points"
    if not seen.registered and (seen.declared is None or seen.declared.file == "pyproject.toml"):
        text += f'\n[{table}."{_GROUP}"]\n{seen.name} = "{seen.place}"\n'
    if not seen.asked:
        quoted = ", ".join(f'"{target}"' for target in made.targets)
        text += f"\n[tool.convbench]\ntargets = [{quoted}]\n"
        if seen.config is not None and seen.config.parent != seen.root:
            text += f'asv = "{seen.config.relative_to(seen.root).as_posix()}"\n'
    return text.lstrip("\n")


def _for_asv(made: Plan) -> None:
    """Its configuration, and the front of the suites."""
    seen, root = made.seen, made.seen.root
    config = seen.config or root / "asv.conf.json"
    folder = config.parent / _benchmark_dir(config)
    where = config.relative_to(root)
    if seen.config is None:
        text = _template("asv.conf.json").replace("CONVBENCH", _INSTALL)
        text = text.replace("PROJECT", (seen.declared and seen.declared.name) or seen.package)
        if seen.above:  # asv takes the root of a repository, and then where the project is in it
            up = "/".join(".." for _ in Path(seen.above).parts)
            text = text.replace(
                '"repo": ".",', f'"repo": "{up}",\n    "repo_subdir": "{seen.above}",'
            )
        made.whole(config, text)
    elif ".convbench.asv_plugin" not in config.read_text(encoding="utf-8"):
        made.by_hand += [
            f'{where}: add "plugins": [".convbench.asv_plugin"], so that the evidence lies beside'
            " the results",
            f"{where}: have install_command install '{_INSTALL}', too",
        ]
        if '"build_command"' not in config.read_text(encoding="utf-8"):
            made.by_hand.append(
                f'{where}: add "build_command": ["python -m pip wheel --no-deps -w'
                ' {build_cache_dir} {build_dir}"]; without it asv stops at the wheels of what the'
                " project depends on"
            )
    ours = {path.name for path in files("convbench.suites").iterdir()} - {"__init__.py"}
    if taken := sorted(path.name for path in folder.glob("*.py") if path.name in ours):
        raise InputError(
            f"init: a suite in {folder.relative_to(root)} is {taken[0]}, as one of convbench's;"
            " expected other names. Rename it: asv would take one for the other."
        )
    made.added(folder / "__init__.py", FRONT)


def _see_that_it_is_toml(made: Plan) -> None:
    import tomllib

    (file,) = (file for file in made.files if file.path == "pyproject.toml")
    try:
        tomllib.loads(file.text)
    except ValueError as error:
        added = f"\n\n{_tables(made)}"
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
