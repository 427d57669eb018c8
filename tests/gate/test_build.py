"""The two sides of a gate: the sources of each, and an interpreter with its libraries."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from convbench.errors import InputError
from convbench.gate.build import Built, Wanted, build
from convbench.machine import project as projects
from convbench.measuring.asv_store import environments

from ..checkouts import ROOT, SUITES
from ..test_old_commits import commit_that_added

PACKAGE = "src/convbench"

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
PYPROJECT = """\
[project]
name = "convbench"
version = "{version}"
[project.entry-points."convbench.backends"]
{entries}
"""
NUMPY = 'numpy = "convbench.backends.numpy:NumpyBackend"'
MINE = 'mine = "convbench.mine:Mine"'

# What a commit's own requirements/install.py is to a gate: it is run, and something is installed.
INSTALL = """\
import os, pathlib, sys, sysconfig
if "--gpus" in sys.argv:
    print(0)
    sys.exit()
lock = pathlib.Path(__file__).with_name(os.environ["CONVBENCH_LOCK"] + ".txt").read_text()
assert "PYTHONPATH" not in os.environ
assert "CONVBENCH_REPLACE" not in os.environ
print(*range(30), sep="\\n", flush=True)
if lock == "broken":
    sys.exit("no such version")
pathlib.Path(sysconfig.get_path("purelib"), "numpy.py").write_text(f"lock = {lock!r}")
"""


class Project:
    """A git repository that looks like ours, and what was said while its sides were built."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.sources = folder / ".asv/gate/source"
        self.said: list[str] = []
        folder.mkdir()
        self.git("init", "--quiet", "--initial-branch", "main")
        self.write("pyproject.toml", PYPROJECT.format(version="7", entries=NUMPY))
        self.write("src/convbench/__init__.py", "side = 1")
        self.write("requirements/install.py", INSTALL)
        self.write("requirements/cpu.txt", "one")
        self.write("requirements/dev.txt", "dev")
        self.write(".gitignore", ".asv/\n*.log\n")
        self.write("asv.conf.json", '{"version": 1, "repo": ".", "env_dir": ".asv/env"} // JSON5')
        self.first = self.commit()

    def write(self, name: str, text: str) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text)

    def git(self, *words: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        command = ["git", "-C", str(self.root), *identity, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self) -> str:
        self.git("add", ".")
        self.git("commit", "--quiet", "-m", "a commit")
        return self.git("rev-parse", "HEAD")

    def build(self, side: str) -> Built:
        return build(Wanted.parse(side, "gate"), self.root, self.said.append)

    def refusal(self, side: str) -> str:
        with pytest.raises(InputError) as caught:
            self.build(side)
        return str(caught.value)

    def asv_environment(self, name: str, **variables: str) -> Path:
        """A folder that asv would take for an environment that it has made."""
        folder = self.root / ".asv/env" / name
        folder.mkdir(parents=True, exist_ok=True)
        info = {"tool_name": "virtualenv", "python": PYTHON, "requirements": {}}
        described = json.dumps({**info, "build_env_vars": variables})
        (folder / "asv-env-info.json").write_text(described)
        return folder

    def cached(self) -> list[str]:
        return sorted(path.name for path in self.sources.iterdir())


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.delenv("CONVBENCH_LOCK", raising=False)
    monkeypatch.setenv("CONVBENCH_REPLACE", "not for the sides")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return Project(tmp_path / "project")


def empty_venv(folder: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder


def with_our_libraries(folder: Path) -> Path:
    """A virtual environment that finds all that this one has installed."""
    (site,) = empty_venv(folder).glob("lib/python*/site-packages")
    ours = [path for path in sys.path if path.endswith("site-packages")]
    (site / "ours.pth").write_text("\n".join(ours))
    return folder


def ask(python: Path | str, code: str, *arguments: object) -> str:
    """What a program prints that is run away from any source tree."""
    command = [str(python), "-W", "error", "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# -- What is asked for ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted", "name"),
    [
        ("HEAD~1", Wanted("HEAD~1"), "HEAD~1"),
        ("HEAD:2.20", Wanted("HEAD", "2.20"), "HEAD:2.20"),
        ("main:numpy==2.3.0", Wanted("main", "numpy==2.3.0"), "main:numpy==2.3.0"),
        ("origin/main : ./.venv", Wanted("origin/main", "./.venv"), "origin/main:./.venv"),
        ("", Wanted(None), "working tree"),
        (".", Wanted(None), "working tree"),
        ("WORKTREE:2.20", Wanted(None, "2.20"), "working tree:2.20"),
    ],
)
def test_a_side_is_read(text: str, wanted: Wanted, name: str) -> None:
    assert Wanted.parse(text, "gate") == wanted
    assert str(wanted) == name


@pytest.mark.parametrize("text", ["HEAD::machine", "HEAD:py3.11:machine", "--all", "^HEAD"])
def test_what_is_no_side_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"gate: a side is .*; expected REVISION"):
        Wanted.parse(text, "gate")


# -- Sources --------------------------------------------------------------------------------------


def test_a_commit_is_extracted_once_and_nothing_is_checked_out(project: Project) -> None:
    project.write("src/convbench/__init__.py", "side = 2")
    project.commit()
    project.git("update-ref", "refs/remotes/origin/old", project.first)
    built = project.build("origin/old")
    assert (built.name, built.commit, built.changed) == ("origin/old", project.first, False)
    assert built.source == project.sources / project.first[:16] / "src"
    assert (built.source / "convbench/__init__.py").read_text() == "side = 1"
    described = built.source / "convbench-7.dist-info"
    assert (described / "entry_points.txt").read_text() == (
        "[convbench.backends]\nnumpy = convbench.backends.numpy:NumpyBackend\n"
    )
    assert "Name: convbench\nVersion: 7\n" in (described / "METADATA").read_text()
    assert project.git("status", "--porcelain") == ""
    assert len(project.git("worktree", "list").splitlines()) == 1
    made = built.source.stat().st_ino
    again = project.build("HEAD~1")
    assert (again.source, again.tree, again.commit) == (built.source, built.tree, built.commit)
    assert built.source.stat().st_ino == made
    assert project.cached() == [project.first[:16]]
    assert project.said == []


def test_a_version_that_is_dynamic_is_that_of_the_package(project: Project) -> None:
    dynamic = PYPROJECT.replace('version = "{version}"', 'dynamic = ["version"]')
    project.write("pyproject.toml", dynamic.format(entries=NUMPY))
    project.write("src/convbench/__init__.py", '"""Words."""\n__version__ = "8.1"\n')
    assert (project.build(".").source / "convbench-8.1.dist-info").is_dir()
    project.write("src/convbench/__init__.py", "")
    assert (project.build(".").source / "convbench-0.dist-info").is_dir()


SETUP_CFG = """\
[metadata]
name = my.kernels
version = attr: kernels.VERSION
[options.entry_points]
console_scripts =
    k = kernels:main
convbench.backends =
    mine = kernels.mine:Mine
"""
SETUP_PY = """\
import setuptools
raise SystemExit("it is read, and not run")
setuptools.setup(
    name="my.kernels", version="4", packages=setuptools.find_packages(),
    entry_points={"convbench.backends": ["mine = kernels.mine:Mine"]},
)
"""
POETRY = """\
[tool.poetry]
name = "my.kernels"
version = "5"
[tool.poetry.plugins."convbench.backends"]
mine = "kernels.mine:Mine"
"""


@pytest.mark.parametrize(
    ("name", "text", "version"),
    [("setup.cfg", SETUP_CFG, "0"), ("setup.py", SETUP_PY, "4"), ("pyproject.toml", POETRY, "5")],
)
def test_what_else_a_package_is_installed_from(
    project: Project, name: str, text: str, version: str
) -> None:
    project.git("rm", "-r", "--quiet", "pyproject.toml", "src")
    project.write(name, text)
    project.write("kernels/__init__.py", "")
    if name != "pyproject.toml":  # which is there for other tools
        project.write("pyproject.toml", "[tool.convbench]\n")
    project.commit()
    for side in ("HEAD", "."):
        built = project.build(side)
        assert built.own == {"mine"}
        (described,) = built.source.glob("*.dist-info")
        assert described.name == f"my_kernels-{version}.dist-info"
    assert projects.Project.find(project.root).name == "my-kernels"


def test_two_sides_that_are_the_same_code_can_be_told(project: Project) -> None:
    project.write("README.md", "another commit")
    project.commit()
    same = project.build("HEAD"), project.build("HEAD~1"), project.build(".")
    assert len({side.tree for side in same}) == 1
    project.write("src/convbench/__init__.py", "side = 2")
    code = project.build(".")
    project.git("checkout", "--quiet", ".")
    project.write("pyproject.toml", PYPROJECT.format(version="7", entries=MINE))
    entries = project.build(".")
    assert len({same[0].tree, code.tree, entries.tree}) == 3
    assert code.changed
    assert entries.changed
    compiled = same[0].source / "convbench/__pycache__/x.cpython-311.pyc"
    compiled.parent.mkdir()
    compiled.write_bytes(b"what an import leaves there")
    compiled.with_name("x.conv-1.py311.nbi").write_bytes(b"what Numba leaves there")
    assert project.build("HEAD").tree == same[0].tree


LOADED = """
import sys
sys.path[:0] = sys.argv[1:]
from importlib.metadata import entry_points, version
import convbench
print(version("convbench"), convbench.__file__)
for entry in entry_points(group="convbench.backends"):
    print(entry.load().__module__ if entry.name == "mine" else entry.name)
"""


def test_the_backends_of_a_side_are_loaded_also_where_another_version_is_installed(
    project: Project,
) -> None:
    project.write("pyproject.toml", PYPROJECT.format(version="99", entries=f"{MINE}\n{NUMPY}"))
    project.write(f"{PACKAGE}/mine.py", "class Mine: ...")
    project.commit()
    installed = importlib.metadata.version("convbench")
    assert ask(sys.executable, LOADED).split()[0] == installed not in {"7", "99"}
    expected = {"HEAD~1": ("7", "numpy"), "HEAD": ("99", "convbench.mine", "numpy")}
    for side, (version, *names) in expected.items():
        built = project.build(side)
        found = ask(built.python, LOADED, built.source).split()
        assert found == [version, str(built.source / "convbench/__init__.py"), *names]


def test_the_working_tree_is_taken_as_it_is_now(project: Project) -> None:
    project.write(f"{PACKAGE}/gone.py", "")
    head = project.commit()
    clean = project.build("")
    assert (clean.name, clean.commit, clean.changed) == ("working tree", head, False)
    (project.root / f"{PACKAGE}/gone.py").unlink()
    project.write("src/convbench/__init__.py", "side = 3")
    project.write(f"{PACKAGE}/new.py", "")
    project.write("src/convbench/ignored.log", "")
    (project.root / f"{PACKAGE}/link.py").symlink_to("new.py")
    built = project.build(".")
    assert (built.commit, built.changed) == (head, True)
    assert built.source.parent.name.startswith("tree-")
    files = sorted(path.name for path in (built.source / "convbench").iterdir())
    assert files == ["__init__.py", "link.py", "new.py"]
    assert project.build(".") == built
    project.write("src/convbench/__init__.py", "side = 4")
    assert (built.source / "convbench/__init__.py").read_text() == "side = 3"
    assert project.build(".").source != built.source


def test_what_computes_nothing_is_no_change(project: Project) -> None:
    with (project.root / "pyproject.toml").open("a") as file:
        file.write("[tool.ruff]\nline-length = 7\n")
    project.write("README.md", "words")
    assert not project.build(".").changed


def test_old_snapshots_go_and_none_that_was_used_within_a_day(project: Project) -> None:
    snapshots = []
    for number in range(12):
        project.write("src/convbench/__init__.py", f"side = {number}")
        snapshots.append(project.build(".").source.parent)
    assert len(project.cached()) == 1 + 12
    killed, at_work = (project.sources / name for name in ("part-killed", "part-at-work"))
    for part in (killed, at_work):
        (part / "made").mkdir(parents=True)
    days_ago_s = time.time() - 2 * 86400
    for number, folder in enumerate((*snapshots[1:], killed, project.sources / project.first[:16])):
        os.utime(folder, (days_ago_s + number, days_ago_s + number))
    project.write("src/convbench/__init__.py", "side = 1")
    project.build(".")  # is used again, so that it stays
    project.write("src/convbench/__init__.py", "side = 12")
    project.build(".")
    gone = [number for number, folder in enumerate(snapshots) if not folder.exists()]
    assert gone == [2, 3, 4, 5, 6]
    assert not killed.exists()
    assert at_work.exists()
    assert (project.sources / project.first[:16]).exists()


@pytest.mark.parametrize("side", ["HEAD", "."])
def test_gates_that_start_at_once_do_not_hurt_each_other(project: Project, side: str) -> None:
    project.write(f"{PACKAGE}/other.py", "")
    with ThreadPoolExecutor(8) as pool:
        built = set(pool.map(project.build, [side] * 8))
    assert len(built) == 1
    assert not [name for name in project.cached() if name.startswith("part-")]


def test_a_build_that_fails_leaves_nothing_half(project: Project) -> None:
    project.write("pyproject.toml", "[project]\n")
    assert "is not readable (KeyError('name')); expected a pyproject" in project.refusal(".")
    assert project.cached() == [project.first[:16]]
    project.write("pyproject.toml", "[project\n")
    assert "gate: the working tree: what it is installed from is not" in project.refusal(".")


def test_where_nothing_can_be_written_is_said(project: Project) -> None:
    project.write(".asv", "a file")
    assert f"gate: what {project.root / '.asv/gate'} is to hold" in project.refusal("HEAD")


def test_a_link_that_leads_out_of_a_commit_is_not_followed(project: Project) -> None:
    (project.root / f"{PACKAGE}/out.py").symlink_to("/etc/hostname")
    project.commit()
    assert "see to the permissions" in project.refusal("HEAD")


# -- Commits that are not there -------------------------------------------------------------------


def test_an_unknown_revision_is_named_with_what_is_close(project: Project) -> None:
    project.git("branch", "feature/tiling")
    assert project.refusal("feature/tilling") == (
        "gate: the revision is 'feature/tilling', and git knows no such commit; expected a commit, "
        "a branch or a tag, such as feature/tiling. Fetch it, or correct the name."
    )
    assert "a branch or a tag. Fetch it" in project.refusal("0" * 40)


def test_a_shallow_clone_says_how_to_get_the_others(project: Project, tmp_path: Path) -> None:
    project.write("src/convbench/__init__.py", "side = 2")
    head = project.commit()
    shallow = Project(tmp_path / "shallow")
    shallow.git("fetch", "--quiet", "--depth=1", f"file://{project.root}", "main")
    shallow.git("checkout", "--quiet", "FETCH_HEAD")
    assert shallow.build("HEAD").commit == head
    assert "`git fetch --unshallow` brings" in shallow.refusal("HEAD~1")


def test_what_is_no_repository_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(InputError, match="expected a git repository with a commit"):
        build(Wanted("HEAD"), tmp_path, print)


@pytest.mark.parametrize(
    ("part", "what"),
    [("src", "the package of {}"), ("pyproject.toml", "what {} is installed from")],
)
def test_a_commit_without_a_package_is_refused(project: Project, part: str, what: str) -> None:
    project.git("rm", "-r", "--quiet", part)
    missing = what.format(f"commit {project.commit()[:8]}")
    assert f"gate: {missing} is not there" in project.refusal("HEAD")


# -- Environments ---------------------------------------------------------------------------------


def test_the_same_lock_needs_no_other_interpreter(project: Project) -> None:
    project.write("requirements/dev.txt", "another")
    project.write("requirements/gpu.txt", "for other machines")
    project.commit()
    for side in ("HEAD", "HEAD~1", "."):
        assert project.build(side).python == Path(sys.executable)
    assert project.said == []


def test_the_lock_that_counts_is_the_one_of_this_machine(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("requirements/gpu.txt", "one card")
    project.write("requirements/install.py", "print('a driver talks')\nprint(2)")
    project.commit()
    assert "requirements/gpu.txt of HEAD~1 is not there" in project.refusal("HEAD~1")
    monkeypatch.setenv("CONVBENCH_LOCK", "cpu")
    assert project.build("HEAD~1").python == Path(sys.executable)


def test_an_environment_can_be_a_path(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv = with_our_libraries(tmp_path / "venv")
    monkeypatch.chdir(tmp_path)
    for path in (str(venv), "./venv", "venv/bin/python"):
        built = project.build(f"HEAD:{path}")
        assert (built.python, built.environment) == (venv / "bin/python", path)
        assert built.name == f"HEAD:{path}"


def test_a_path_without_numpy_is_refused(project: Project, tmp_path: Path) -> None:
    bare = empty_venv(tmp_path / "bare")
    assert "(ModuleNotFoundError: No module named 'numpy')" in project.refusal(f"HEAD:{bare}")
    assert "No such file or directory" in project.refusal("HEAD:./nowhere")


def test_asv_environments_are_found_by_a_part_of_their_names(project: Project) -> None:
    folders = [
        with_our_libraries(project.asv_environment(hashed, CONVBENCH_REPLACE=f"numpy=={version}"))
        for hashed, version in (("c0ffee", "2.2.1"), ("beef", "2.3.0"))
    ]
    names = [
        f"virtualenv-py{PYTHON}-CONVBENCH_REPLACEnumpy=={version}" for version in ("2.2.1", "2.3.0")
    ]
    for side, which in (("HEAD:2.2", 0), ("HEAD:2.3", 1), (f".:{names[0]}", 0)):
        built = project.build(side)
        assert built.python == folders[which] / "bin/python"
        assert built.environment == names[which]
    for side in ("HEAD:numpy", "HEAD:9.9"):
        assert f"the name of just one: {', '.join(names)}. Name it" in project.refusal(side)


def test_where_asv_has_made_nothing_it_is_said(project: Project) -> None:
    assert "fits 0 of asv's; expected a part of the name of just one" in project.refusal("HEAD:2.2")
    (project.root / "asv.conf.json").unlink()
    assert "there is none" in project.refusal("HEAD:2.2")


def test_an_asv_environment_that_cannot_be_read_is_said(project: Project) -> None:
    (project.asv_environment("half") / "asv-env-info.json").write_text("{}")
    assert "expected files as asv 0.6.6 writes them" in project.refusal("HEAD:half")


def test_another_lock_has_an_environment_made_for_it_once(project: Project) -> None:
    project.write("requirements/cpu.txt", "two")
    project.commit()
    environments(project.root / "asv.conf.json")  # threads cannot import asv at the same time
    with ThreadPoolExecutor(3) as pool:  # as gates that start at once
        (built,) = set(pool.map(project.build, ["HEAD~1"] * 3))
    folder = built.python.parents[1]
    assert folder.parent == project.root / ".asv/gate/env"
    assert ask(built.python, "import numpy; print(numpy.lock)") == "one"
    *waited, done = project.said
    (begun,) = (line for line in waited if not line.startswith("waiting for another gate"))
    assert begun.startswith("installing the environment of HEAD~1")
    assert done.startswith("installed in")
    assert "-cpu-" in built.environment
    assert project.build("HEAD").python == Path(sys.executable)
    again = project.build(project.first)
    assert (again.python, again.environment) == (built.python, built.environment)
    assert project.said == [*waited, done]
    (folder / "complete").unlink()  # as a gate leaves it that is killed
    (folder / "left over").touch()
    assert project.build("HEAD~1") == built
    assert [line.split()[0] for line in project.said[-2:]] == ["installing", "installed"]
    assert project.said[-3] == done
    assert not (folder / "left over").exists()


def test_an_installation_that_fails_says_what_it_said(project: Project) -> None:
    project.write("requirements/cpu.txt", "broken")
    project.commit()
    project.write("requirements/cpu.txt", "two")
    message = project.refusal("HEAD")
    assert message.startswith("gate: the environment of HEAD is not installed (exit status 1)")
    assert message.splitlines()[1:] == [*map(str, range(11, 30)), "no such version"]
    assert not [*project.root.glob(".asv/gate/env/*/complete")]  # half is not taken for whole


def wheel(folder: Path, version: str, code: str = "") -> str:
    """The line of a lock for a distribution that is made there."""
    path = folder / f"thing-{version}-py3-none-any.whl"
    content = {
        "METADATA": f"Metadata-Version: 2.1\nName: thing\nVersion: {version}\n",
        "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("thing.py", f"version = {version!r}\n{code}")
        for name, text in content.items():
            file.writestr(f"thing-{version}.dist-info/{name}", text)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"thing=={version} --hash=sha256:{digest}\n"


def test_a_version_is_put_over_the_lock_and_a_lock_is_found_where_it_is_installed(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locks = [wheel(tmp_path, version) for version in ("1.0", "2.0")]
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    over = project.build("HEAD:thing==1.0")
    assert ask(over.python, "import numpy, thing; print(numpy.lock, thing.version)") == "one 1.0"
    assert over.environment.endswith("-thing==1.0")
    assert project.build("HEAD").python == Path(sys.executable)

    # Let asv have made that one: it serves the lock that it has installed, and no other.
    folder = project.root / ".asv/env/made"
    folder.parent.mkdir()
    folder.symlink_to(over.python.parents[1])
    (folder / "pip.conf").write_text(f"[install]\nfind-links = {tmp_path}\n")
    project.asv_environment("made")
    for lock in locks:
        project.write("requirements/cpu.txt", lock)
        project.commit()
    project.write("requirements/cpu.txt", "neither")
    said = len(project.said)
    found = project.build("HEAD~1")
    assert (found.python, found.environment) == (folder / "bin/python", f"virtualenv-py{PYTHON}")
    assert len(project.said) == said
    assert "-cpu-" in project.build("HEAD").environment


@pytest.mark.parametrize("pins", ["numpy==", "--index-url==x", "numpy==2.*", "numpy==2.3.0 scipy"])
def test_what_is_no_version_is_refused(project: Project, pins: str) -> None:
    assert "expected NAME==VERSION" in project.refusal(f"HEAD:{pins}")


# -- The project itself ---------------------------------------------------------------------------

INTERFACE = """
import runpy, sys
sys.path.insert(0, sys.argv[1])
interface = runpy.run_path(sys.argv[2])
backend = interface["open_backend"](interface["Target"].parse("numpy@cpu"))
for module in ("convbench", type(backend).__module__):
    print(sys.modules[module].__file__)
"""
OLD: Sequence[Callable[[], str]] = (
    lambda: commit_that_added("benchmarks/common.py"),
    lambda: f"{commit_that_added('src/convbench/frozen.py')}^",
    lambda: f"{commit_that_added('src/convbench/frozen.py', 'stand_by')}^",
)


@pytest.mark.parametrize("old", OLD, ids=["the first", "without the door", "without a judge"])
def test_the_suites_of_today_open_a_backend_of_any_commit(
    old: Callable[[], str], tmp_path: Path
) -> None:
    revision = old()
    clone = tmp_path / "clone"
    command = ["git", "clone", "--quiet", "--shared", "--no-checkout", str(ROOT), str(clone)]
    subprocess.run(command, check=True)
    built = build(Wanted(revision, sys.executable), clone, print)
    assert built.python == Path(sys.executable)
    files = ask(built.python, INTERFACE, built.source, SUITES / "interface.py").split()
    assert files == [
        str(built.source / "convbench" / name) for name in ("__init__.py", "backends/numpy.py")
    ]


def test_what_is_built_is_no_part_of_the_project() -> None:
    command = ["git", "-C", str(ROOT), "check-ignore", "--quiet", ".asv/gate/source"]
    ignored = subprocess.run(command, check=False, capture_output=True)
    if ignored.returncode == 128:
        pytest.skip("this is no clone: there is nothing to be ignored by")
    assert ignored.returncode == 0


def test_a_package_need_not_be_under_src(project: Project) -> None:
    project.git("rm", "-r", "--quiet", "src")
    project.write("src/kernel.cpp", "no package is here")
    project.write("convbench/__init__.py", "side = 'flat'")
    project.write("helpers.py", "side = 'module'")
    project.write("tests/__init__.py", "none of its packages")
    commit = project.commit()
    print_both = "import sys; sys.path.insert(0, sys.argv[1]); import convbench, helpers;"
    print_both += "print(convbench.side, helpers.side)"
    for side in ("HEAD", "."):
        built = project.build(side)
        assert (built.commit, built.changed) == (commit, False)
        assert ask(built.python, print_both, built.source) == "flat module"
        found = {path.name for path in built.source.iterdir()} - {"__pycache__"}
        assert found == {"convbench", "convbench-7.dist-info", "helpers.py"}
    project.write("tests/__init__.py", "is edited")
    assert not project.build(".").changed
    project.write("helpers.py", "side = 'edited'")
    assert project.build(".").changed
