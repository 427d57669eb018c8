"""Builds a side of a gate: the sources of a commit, and an interpreter with its libraries.

All of it lies under ``.asv/gate``, ready for the next gate. A folder there is filled under another
name and takes its own when it is whole, so that neither a gate that is killed nor two at once leave
a half one. An environment cannot be moved, so that it is whole once it holds ``complete``.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import Distribution
from pathlib import Path
from typing import Self

from convbench.backends import GROUP
from convbench.errors import InputError
from convbench.machine.git import UNSHALLOW, full_hash, git, is_shallow, output
from convbench.machine.project import Project, declared
from convbench.measuring.asv_store import environments

_WORKING_TREE = "working tree"
_OF_WHOM = ("NAME", "EMAIL")
_BESIDE = ("pyproject.toml", "setup.cfg", "setup.py", "requirements")
_NO_PACKAGES = {"benchmarks", "docs", "tests"}
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_PIN = re.compile(r"[A-Za-z0-9][\w.-]*(\[[\w,.-]+\])?==[\w.!+]+")
_KEPT, _DAY_S = 8, 86400


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody asks for as a side.

    Attributes
    ----------
    revision : str or None
        Anything that git understands; None is the working tree as it is now.
    environment : str
        A virtual environment or an interpreter, if there is a path separator in it; versions to be
        put over the commit's lock (``tensorflow==2.20.0``); or a part of the name of one of asv's
        environments. Without one, the libraries are those of the commit's lock.

    Examples
    --------
    >>> Wanted.parse("HEAD~1:tensorflow==2.20.0", "gate")
    Wanted(revision='HEAD~1', environment='tensorflow==2.20.0')
    >>> str(Wanted.parse(".", "gate"))
    'working tree'
    """

    revision: str | None
    environment: str = ""

    @classmethod
    def parse(cls, text: str, where: str) -> Self:
        """Read ``REVISION[:ENVIRONMENT]``; "", "." and "WORKTREE" are the working tree.

        Parameters
        ----------
        where : str
            What the message of an error begins with.

        Raises
        ------
        InputError
            If it is neither.
        """
        revision, _, environment = (part.strip() for part in text.partition(":"))
        # git takes the one for an option and the other for what is to be left out.
        if revision.startswith(("-", "^")) or ":" in environment:
            raise InputError(
                f"{where}: a side is {text!r}; expected REVISION[:ENVIRONMENT], or . for the "
                "working tree. Name a commit, as in HEAD~1; both sides run on one machine."
            )
        return cls(None if revision in {"", ".", "WORKTREE"} else revision, environment)

    def __str__(self) -> str:
        return f"{self.revision or _WORKING_TREE}:{self.environment}".rstrip(":")


@dataclass(frozen=True, slots=True)
class Built:
    """A side that can be measured.

    Attributes
    ----------
    name : str
        As it was asked for, or "working tree".
    commit : str
        The full hash; of the working tree, that of HEAD.
    changed : bool
        Whether what is in ``source`` is another thing than what is in that commit.
    python : Path
        The interpreter of its environment.
    source : Path
        A folder for the front of ``sys.path``: it holds the side's packages and entry points.
    environment : str
        A name for people and evidence. Where one environment serves two sides, it has one name.
    tree : str
        A digest of what is in ``source``: two sides with the same one are the same code.
    own : frozenset of str
        The backends that it registers, whose code therefore is in ``source``.
    """

    name: str
    commit: str
    changed: bool
    python: Path
    source: Path
    environment: str
    tree: str
    own: frozenset[str] = frozenset()


def build(wanted: Wanted, root: Path, say: Callable[[str], None]) -> Built:
    """Have the sources and the environment of a side ready.

    Parameters
    ----------
    root : Path
        The project's, in a git repository.
    say : callable
        Is told what takes long.

    Raises
    ------
    InputError
        If there is no such commit or environment, or it cannot be set up.
    """
    cache = root / ".asv" / "gate"
    try:
        commit = find(wanted.revision or "HEAD", root)
        folder = _committed(commit, root, cache / "source")
        tree = committed = _digest(folder / "src")
        if wanted.revision is None:
            folder = _snapshot(root, cache / "source")
            tree = _digest(folder / "src")
        python, environment = _environment(wanted, folder, root, cache / "env", say)
    except (OSError, tarfile.TarError) as error:
        raise InputError(
            f"gate: what {cache} is to hold for {wanted} is not there ({error}); expected to read "
            "all of the sources and to write there. Make room, or see to the permissions."
        ) from error
    source = folder / "src"
    return Built(
        str(wanted), commit, tree != committed, python, source, environment, tree, _own(source)
    )


def sources(commit: str, root: Path) -> Path:
    """Have the packages of a commit ready: a folder for the front of ``sys.path``.

    Parameters
    ----------
    commit : str
        Its full hash.

    Raises
    ------
    InputError
        If it has none, or they cannot be read or written.
    """
    cache = root / ".asv" / "gate"
    try:
        return _committed(commit, root, cache / "source") / "src"
    except (OSError, tarfile.TarError) as error:
        raise InputError(
            f"gate: what {cache} is to hold for {commit[:8]} is not there ({error}); expected to"
            " read all of the sources and to write there. Make room, or see to the permissions."
        ) from error


def as_commit(wanted: Wanted, root: Path) -> tuple[str, str]:
    """The commit that a side is of, and one that has all of it: for who has no working tree.

    What is in the working tree becomes a commit that no branch has, the same one for the same tree.

    Raises
    ------
    InputError
        If there is no such commit, or git cannot write one.
    """
    commit = find(wanted.revision or "HEAD", root)
    if wanted.revision is not None:
        return commit, commit
    parts = _parts(_in_tree(root))
    who = {f"GIT_{role}_{of}": "convbench" for role in ("AUTHOR", "COMMITTER") for of in _OF_WHOM}
    dates = dict.fromkeys(("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"), "@0 +0000")
    with tempfile.TemporaryDirectory(prefix="convbench-") as made:
        own = {"GIT_INDEX_FILE": str(Path(made, "index")), "GIT_LITERAL_PATHSPECS": "1"}

        def said(*words: str) -> str | None:
            found = output(root, *words, variables=own | who | dates)
            return None if found is None else found.decode().strip()

        tree = None
        if said("read-tree", commit) is not None and said("add", "-A", "--", *parts) is not None:
            tree = said("write-tree")
        if tree == said("rev-parse", f"{commit}^{{tree}}"):
            return commit, commit
        if tree and (made_of := said("commit-tree", tree, "-p", commit, "-m", _WORKING_TREE)):
            return commit, made_of
    raise InputError(
        f"gate: the {_WORKING_TREE} is that of {root}, of which git makes no commit; expected that"
        " it can read all files and write beside its own. Commit it, and name that commit."
    )


def find(revision: str, root: Path) -> str:
    """The full hash.

    Raises
    ------
    InputError
        If git knows no such commit.
    """
    if full_hash("HEAD", root) is None:
        raise InputError(
            f"gate: the commit of {root} is none; expected a git repository with a commit. Run it "
            "in a clone of the project."
        )
    commit = full_hash(revision, root)
    if commit is not None:
        return commit
    if is_shallow(root):
        raise InputError(
            f"gate: the revision is {revision!r}, which this shallow clone does not hold; expected "
            f"one of its commits, branches and tags. {UNSHALLOW}"
        )
    names = git(root, "for-each-ref", "--format=%(refname:short)").split()
    near = ", ".join(get_close_matches(revision, names))
    raise InputError(
        f"gate: the revision is {revision!r}, and git knows no such commit; expected a commit, a "
        f"branch or a tag{near and f', such as {near}'}. Fetch it, or correct the name."
    )


# -- Sources --------------------------------------------------------------------------------------


def _committed(commit: str, root: Path, sources: Path) -> Path:
    """The parts of a commit that are needed, without a checkout."""
    folder = sources / commit[:16]
    if not _used(folder):
        names = _names(output(root, "ls-tree", "-r", "-z", "--name-only", commit) or b"")
        packages, parts = _packages(names), _parts(names)
        archive = output(root, "archive", commit, *parts)
        if archive is None:
            raise InputError(
                f"gate: what git can read of commit {commit[:8]} is not all of it; expected "
                f"its {', '.join(parts)}. `git fsck` says what is missing; fetch it."
            )
        with _part(sources) as made:
            with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
                packed.extractall(made, filter="data")
            _under_src(made, packages)
            _describe(made, f"commit {commit[:8]}")
            _settle(made, folder)
    return folder


def _snapshot(root: Path, sources: Path) -> Path:
    """The same parts of the working tree: edits during a gate change nothing."""
    names = _in_tree(root)
    packages, parts = _packages(names), _parts(names)
    with _part(sources) as made:
        for name in names:
            if not any(_is_in(part, {name}) for part in parts):
                continue
            path, copy = root / name, made / name
            if path.is_symlink() or path.is_file():  # git lists what was deleted, too
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy, follow_symlinks=False)
        _under_src(made, packages)
        _describe(made, f"the {_WORKING_TREE}")
        folder = sources / f"tree-{_digest(made)}"
        if not _used(folder):
            _settle(made, folder)
            _sweep(sources)
    return folder


def _names(listed: bytes) -> set[str]:
    """What git lists, where a file with a conflict is listed twice."""
    return {*map(os.fsdecode, listed.split(b"\0"))} - {""}


def _in_tree(root: Path) -> set[str]:
    """The files of the working tree, without what git ignores; deleted ones among them."""
    return _names(output(root, "ls-files", "-z", "-co", "--exclude-standard") or b"")


def _parts(names: set[str]) -> list[str]:
    """What is needed of a tree with these files."""
    return [part for part in (*_packages(names), *_BESIDE) if _is_in(part, names)]


def _is_in(part: str, names: set[str]) -> bool:
    """Whether it is one of these files, or a folder of one."""
    return part in names or any(name.startswith(f"{part}/") for name in names)


def _packages(names: set[str]) -> list[str]:
    """``src``, where it holds packages; else the packages and modules at the top."""
    if any(re.fullmatch(r"src/[^/]+(/__init__)?\.py", name) for name in names):
        return ["src"]
    folders = {
        name.partition("/")[0] for name in names if re.fullmatch(r"[^/]+/__init__\.py", name)
    }
    modules = {name for name in names if re.fullmatch(r"\w+\.py", name)}
    return sorted((folders - _NO_PACKAGES) | (modules - {"setup.py", "conftest.py"}))


def _under_src(made: Path, packages: list[str]) -> None:
    """Put packages that lie at the top where those of other projects are."""
    if packages == ["src"]:
        return
    for name in packages:
        if (made / name).exists():
            (made / "src").mkdir(exist_ok=True)
            (made / name).rename(made / "src" / name)


@contextlib.contextmanager
def _part(folder: Path) -> Iterator[Path]:
    """A folder to fill; what has not been moved out of it goes with it."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="part-", dir=folder) as part:
        made = Path(part, "made")
        made.mkdir()
        yield made


def _settle(made: Path, folder: Path) -> None:
    """Give what is whole its name, unless another gate was first: its folder holds the same."""
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _used(folder: Path) -> bool:
    """Note that it is used now; False if it is not there."""
    try:
        os.utime(folder)
    except FileNotFoundError:
        return False
    return True


def _sweep(sources: Path) -> None:
    """Remove all snapshots but the eight that were used last, and what a killed gate has left.

    Nothing goes that was used within a day, which no gate takes; and a snapshot goes as a whole, so
    that a gate that looks for it finds all of it or makes it anew.
    """
    with contextlib.suppress(FileNotFoundError):  # another gate is at work here
        snapshots = sorted(sources.glob("tree-*"), key=_used_s)
        for path in (*snapshots[:-_KEPT], *sources.glob("part-*")):
            if time.time() - _used_s(path) > _DAY_S:
                with _part(sources) as away:
                    path.rename(away / path.name)


def _used_s(folder: Path) -> float:
    return folder.stat().st_mtime


def _describe(folder: Path, whose: str) -> None:
    """Write beside the package what an installation would: there its entry points are found.

    Of two distributions with one name, the first on ``sys.path`` is the one that counts.
    """
    source = folder / "src"
    if not source.exists():
        raise InputError(
            f"gate: the package of {whose} is not there; expected one under src/ or at the top."
            " Name a commit that has it."
        )
    if (said := declared(folder, f"gate: {whose}")) is None or not said.name:
        raise InputError(
            f"gate: what {whose} is installed from is not there; expected a pyproject.toml with"
            " [project] and a name, or a setup.cfg or setup.py. Name a commit that has one."
        )
    name = re.sub(r"[-_.]+", "_", said.name)
    version = said.version or _version(source / name / "__init__.py")
    entries = "\n".join(
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in members.items())
        for group, members in said.entries.items()
    )
    described = source / f"{name}-{version}.dist-info"
    described.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {said.name}\nVersion: {version}\n"
    (described / "METADATA").write_text(metadata, encoding="utf-8")
    (described / "entry_points.txt").write_text(entries, encoding="utf-8")


def _own(source: Path) -> frozenset[str]:
    """The names under which what was described registers backends."""
    found = Distribution.discover(path=[str(source)])
    return frozenset(
        entry.name for each in found for entry in each.entry_points.select(group=GROUP)
    )


def _version(package: Path) -> str:
    """What flit takes for a version that pyproject.toml calls dynamic."""
    text = package.read_text(encoding="utf-8") if package.is_file() else ""
    found = re.search(r"""^__version__ *= *["'](.+?)["']""", text, re.MULTILINE)
    return found[1] if found else "0"


def _digest(folder: Path) -> str:
    """Names and contents of all files, without what Python, or Numba, has compiled."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            content = path.read_bytes()
            name = os.fsencode(path.relative_to(folder))
            total.update(b"%b\0%d\0%b" % (name, len(content), content))
    return total.hexdigest()[:16]


# -- Environments ---------------------------------------------------------------------------------


def _environment(
    wanted: Wanted, folder: Path, root: Path, cache: Path, say: Callable[[str], None]
) -> tuple[Path, str]:
    """An interpreter, and what it is called."""
    asked = wanted.environment
    if os.sep in asked:
        return _with_numpy(Path(asked).expanduser().absolute(), asked), asked
    lock = _lock(root)
    here, there = (place / "requirements" / lock for place in (root, folder))
    if not asked and _content(here) == _content(there):
        return Path(sys.executable), f"running-py{_PYTHON}"
    asvs = environments(Project.find(root).config)
    if asked and ("==" not in asked or asked in asvs):  # asv puts what it replaces into the name
        name = _one_of(asvs, asked)
        return _with_numpy(asvs[name], name), name
    pins = asked.split()
    for pin in pins:
        if not _PIN.fullmatch(pin):
            raise InputError(
                f"gate: a version of {wanted} is {pin!r}; expected NAME==VERSION. Name one that "
                "the package index has, as in tensorflow==2.20.0."
            )
    if not there.is_file():
        raise InputError(
            f"gate: requirements/{lock} of {wanted} is not there; expected the lock that its "
            "environment is made from. Name an environment: REVISION:ENVIRONMENT."
        )
    key = hashlib.sha256(repr((_content(there), _PYTHON, pins)).encode()).hexdigest()[:16]
    name = "-".join((f"py{_PYTHON}", there.stem, key, *pins))
    made = cache / key
    if not _complete(made):
        for theirs, path in asvs.items() if not pins else ():
            if _has(path, there):
                return _python(path), theirs
        _install(wanted, there, pins, made, say)
    return _python(made), name


def _lock(root: Path) -> str:
    """The lock that ``requirements/install.py`` chooses on this machine."""
    chosen = os.environ.get("CONVBENCH_LOCK")
    if not chosen:
        # In a process of its own: this one is forked later, and what CUDA has begun in it breaks.
        gpus = _run(sys.executable, str(root / "requirements" / "install.py"), "--gpus")
        chosen = "cpu" if gpus.returncode or gpus.stdout.split()[-1:] == ["0"] else "gpu"
    return f"{chosen}.txt"


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _python(folder: Path) -> Path:
    return folder / "bin" / "python"


def _with_numpy(path: Path, asked: str) -> Path:
    """The interpreter of an environment that somebody has named."""
    python = _python(path) if path.is_dir() else path
    try:
        done = _run(str(python), "-I", "-c", "import numpy")
        why = done.stdout.strip().rpartition("\n")[2] if done.returncode else ""
    except OSError as error:
        why = str(error)
    if why:
        raise InputError(
            f"gate: the environment is {asked!r}, where NumPy cannot be imported ({why}); expected "
            "a virtual environment, or an interpreter, that has it. Install it, or name another."
        )
    return python


def _one_of(asvs: dict[str, Path], asked: str) -> str:
    """The one of asv's environments that a part of a name means."""
    found = [name for name in asvs if asked in name]
    if asked in asvs:
        return asked
    if len(found) != 1:
        raise InputError(
            f"gate: the environment is {asked!r}, which fits {len(found)} of asv's; expected a "
            f"part of the name of just one: {', '.join(sorted(found or asvs)) or 'there is none'}. "
            "Name it in full, `asv run` another, or give versions (NAME==VERSION) or a path "
            "(./.venv)."
        )
    return found[0]


def _has(path: Path, lock: Path) -> bool:
    """Whether each version of a lock is installed, which pip knows without a network."""
    python = path / "bin" / f"python{_PYTHON}"
    if not python.exists():  # another Python would be another difference
        return False
    how = ("--dry-run", "--no-index", "--no-deps", "--disable-pip-version-check")
    done = _run(str(python), "-m", "pip", "--isolated", "install", *how, "-r", str(lock))
    return done.returncode == 0 and "Would install" not in done.stdout


def _complete(folder: Path) -> bool:
    return (folder / "complete").exists() and _python(folder).exists()


def _install(
    wanted: Wanted, lock: Path, pins: list[str], folder: Path, say: Callable[[str], None]
) -> None:
    """Make an environment as the commit itself makes one, and put the pins over it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    python = str(_python(folder))
    # The pins are ours to install: the script of the first commits knows of none.
    pip = (python, "-m", "pip", "install", "--no-deps", "--only-binary=:all:", "--no-input")
    commands = [
        (sys.executable, "-m", "venv", "--clear", str(folder)),
        (python, str(lock.with_name("install.py"))),
        *([(*pip, "--disable-pip-version-check", *pins)] if pins else []),
    ]
    with folder.with_name(f"{folder.name}.lock").open("w") as alone:
        try:
            fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another gate, which installs the environment of {wanted}")
            fcntl.flock(alone, fcntl.LOCK_EX)
        if _complete(folder):
            return
        say(f"installing the environment of {wanted}: a few minutes, and up to 3 GB to fetch ...")
        started_s = time.monotonic()
        for command in commands:
            done = _run(*command, CONVBENCH_LOCK=lock.stem)
            if done.returncode:
                tail = "\n".join(("", *done.stdout.splitlines()[-20:]))
                raise InputError(
                    f"gate: the environment of {wanted} is not installed (exit status "
                    f"{done.returncode}); expected what {lock.name} and {pins or 'nothing'} over "
                    f"it name. Mend what it says, or name another environment:{tail}"
                )
        (folder / "complete").write_text(f"{lock.name} {' '.join(pins)}\n")
        say(f"installed in {time.monotonic() - started_s:.0f} s")


def _run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a Python that is to find what is installed in it, and nothing that belongs to ours."""
    ours = {"PYTHONPATH", "PYTHONHOME", "CONVBENCH_REPLACE"}
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    return subprocess.run(
        command, check=False, env=inherited | variables, text=True, errors="replace",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
