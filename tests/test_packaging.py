"""What a fresh machine relies on: the locks, the Makefile, asv's configuration, a light import."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import convbench

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "convbench"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOCKS = ("cpu", "gpu", "dev", "peers", "uv")
LIBRARIES = (
    "altair", "asv", "cupy", "jax", "numpy", "pandas", "rich", "scipy", "tensorflow", "torch"
)  # fmt: skip


def lock_text(lock):
    return (ROOT / "requirements" / f"{lock}.txt").read_text("utf-8")


def pins(lock):
    """Each pinned name with its version and the number of its hashes."""
    found = {}
    # A pin is a line that starts in column one, and the indented lines after it.
    for entry in re.findall(r"^[^\s#].*(?:\n[ \t].*)*", lock_text(lock), flags=re.MULTILINE):
        match = re.match(r"([\w.-]+)==([^\s;]+)", entry)
        assert match, f"{lock}.txt: {entry.splitlines()[0]!r} is not a pin"
        found[canonicalize_name(match[1])] = Version(match[2]), entry.count("--hash=sha256:")
    return found


def python(*arguments):
    """Run this interpreter away from the source tree, so that only what is installed counts."""
    return subprocess.run(
        [sys.executable, *arguments], cwd="/", capture_output=True, text=True, check=False
    )


def make(*arguments):
    """Run make as from a shell, also where `make test` runs this."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_a_hash_for_every_pin_and_names_no_host(lock):
    assert pins(lock)
    assert [name for name, (_, hashes) in pins(lock).items() if hashes == 0] == []
    assert "://" not in lock_text(lock)
    assert "--index" not in lock_text(lock)
    assert "--find-links" not in lock_text(lock)


@pytest.mark.parametrize(
    ("one", "other"), [("gpu", "cpu"), ("gpu", "dev"), ("cpu", "peers"), ("dev", "peers")]
)
def test_locks_that_are_installed_together_agree(one, other):
    these, those = pins(one), pins(other)
    common = these.keys() & those.keys()
    assert common
    assert {name: those[name] for name in common} == {name: these[name] for name in common}


@pytest.mark.parametrize(
    ("lock", "extras"),
    [
        ("cpu", ("tensorflow", "cupy", "asv")),
        ("gpu", ("tensorflow", "tensorflow-gpu", "cupy", "cupy-gpu", "asv")),
        ("dev", ("dev", "report", "docs")),
        ("peers", ("torch", "jax")),
    ],
)
def test_the_pins_are_what_pyproject_asks_for(lock, extras):
    """A stale lock fails here: run `make lock` after an edit of pyproject.toml."""
    locked = pins(lock)
    for text in sum((EXTRAS[extra] for extra in extras), PROJECT["dependencies"]):
        wanted = Requirement(text)
        version, _ = locked[canonicalize_name(wanted.name)]
        assert wanted.specifier.contains(version), f"{lock}.txt has {version}, not {wanted}"


@pytest.mark.parametrize("name", ["asv", "asv-runner"])
def test_asv_is_pinned_exactly(name):
    (wanted,) = (
        wanted
        for wanted in map(Requirement, EXTRAS["asv"])
        if canonicalize_name(wanted.name) == name
    )
    for lock in ("cpu", "gpu"):
        assert wanted.specifier == SpecifierSet(f"=={pins(lock)[name][0]}")


def test_the_makefile_locks_with_the_uv_of_its_lock():
    (wanted,) = re.findall(r"^UV := (\S+)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert pins("uv")["uv"][0] == Version(wanted)


def test_one_range_of_python_versions():
    assert PROJECT["requires-python"] == ">=3.11,<3.14"
    installer = (ROOT / "requirements" / "install.py").read_text("utf-8")
    assert "OLDEST, TOO_NEW = (3, 11), (3, 14)" in installer
    assert "(3, 11) <= sys.version_info[:2] < (3, 14)" in (ROOT / "Makefile").read_text("utf-8")


def test_the_installer_refuses_a_lock_it_does_not_know(monkeypatch):
    monkeypatch.setenv("CONVBENCH_LOCK", "tpu")
    refused = python(str(ROOT / "requirements" / "install.py"))
    assert refused.returncode == 1
    assert "CONVBENCH_LOCK is 'tpu'; expected cpu or gpu" in refused.stderr


# What describes and tells. A command loads the rest when it runs.
LIGHT = (
    "convbench",
    "convbench.cli.main",
    "convbench.errors",
    "convbench.words.status",
    "convbench.stimulus.spec",
    "convbench.stimulus.targets",
    "convbench.stimulus.workloads",
    "convbench.machine.project",
)


@pytest.mark.parametrize("module", LIGHT)
def test_what_is_light_loads_no_library(module):
    code = f"import sys, {module}; print([m for m in {LIBRARIES} if m in sys.modules])"
    imported = python("-W", "error", "-c", code)
    assert (imported.stdout, imported.stderr) == ("[]\n", "")


def test_no_module_loads_what_a_backend_computes_with():
    code = (
        "import importlib, pkgutil, sys, convbench;"
        "names = [m.name for m in pkgutil.walk_packages(convbench.__path__, 'convbench.')];"
        "[importlib.import_module(name) for name in names if name != 'convbench.__main__'];"
        "print(len(names), *sorted({'cupy', 'jax', 'tensorflow', 'torch'} & set(sys.modules)))"
    )
    imported = python("-c", code)
    assert imported.returncode == 0, imported.stderr
    count, *loaded = imported.stdout.split()
    assert loaded == []
    assert int(count) == len([p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py"])


def test_that_check_notices_a_library():
    noticed = python(
        "-c", f"import sys, numpy; print([m for m in {LIBRARIES} if m in sys.modules])"
    )
    assert noticed.stdout == "['numpy']\n"


def test_every_room_has_its_floor():
    """An exhaustive contract refuses a module that stands on none; this says what stands where."""
    (house,) = (c for c in PYPROJECT["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    assert house["containers"] == ["convbench"]
    assert house["exhaustive"]
    assert house["exhaustive_ignores"] == ["__main__"]
    floors = [room for floor in house["layers"] for room in re.split(r" \| ", floor)]
    rooms = {
        path.stem
        for path in PACKAGE.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert sorted(floors) == sorted(rooms - {"__init__", "__main__"})


def test_a_module_outside_the_rooms_is_refused(tmp_path):
    pytest.importorskip("importlinter")
    shutil.copytree(PACKAGE, tmp_path / "convbench", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    code = (
        "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports;"
        "sys.exit(lint_imports(no_cache=True, show_timings=False, verbose=False))"
    )

    def lint():
        return subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    kept = lint()
    assert kept.returncode == 0, kept.stdout + kept.stderr
    (tmp_path / "convbench" / "stray.py").write_text("")
    refused = lint()
    assert refused.returncode == 1
    assert "stray" in refused.stdout


def test_a_wheel_has_all_that_is_in_the_package(tmp_path):
    """Data, too: the catalogue of messages is none of Python's files."""
    wheel = pytest.importorskip("flit_core.wheel")
    made = wheel.make_wheel_in(ROOT / "pyproject.toml", tmp_path)
    with zipfile.ZipFile(made.file) as archive:
        names = set(archive.namelist())
    files = {path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert PACKAGE / "machine" / "messages.toml" in files
    assert PACKAGE / "stimulus" / "workloads.toml" in files
    assert {str(path.relative_to(PACKAGE.parent)) for path in files} <= names


def test_the_classifiers_name_the_versions_of_python_that_it_runs_on():
    named = {
        found[1]
        for text in PROJECT["classifiers"]
        if (found := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", text))
    }
    wanted = SpecifierSet(PROJECT["requires-python"])
    assert named == {text for n in range(30) if (text := f"3.{n}") in wanted}


def test_one_version():
    assert PROJECT["version"] == convbench.__version__


def test_asv_reads_its_configuration():
    code = (
        "import json, sys; from asv.config import Config;"
        "print(json.dumps(Config.load(sys.argv[1]).__dict__))"
    )
    loaded = python("-c", code, str(ROOT / "asv.conf.json"))
    config = json.loads(loaded.stdout)
    assert config["project"] == PROJECT["name"]
    assert (ROOT / config["benchmark_dir"]).is_dir()
    for directory in ("repo", "benchmark_dir", "env_dir", "results_dir", "html_dir"):
        assert not Path(config[directory]).is_absolute()
    # A commit is measured with its own lock, and that lock comes before the commit's wheel.
    lock, wheel = config["install_command"]
    assert "{build_dir}" in lock
    assert lock.endswith("requirements/install.py")
    assert wheel.endswith("{wheel_file}")


def test_the_makefile_explains_every_target():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^\.PHONY: (\S+)$", makefile, re.MULTILINE))
    explained = set(re.findall(r"^([a-z-]+):.*  ## \S", makefile, re.MULTILINE))
    assert targets == explained
    assert {"help", "test", "check", "bench", "lock", "clean"} <= targets
    listed = make()
    assert set(re.findall(r"^  make (\S+) +\S", listed.stdout, re.MULTILINE)) == targets


@pytest.mark.parametrize(
    ("measured", "published", "reported", "code"),
    [
        (0, 0, 0, 0), (0, 0, 3, 0), (2, 0, 2, 2), (2, 1, 0, 2), (0, 1, 2, 1), (0, 0, 70, 70),
        (4, 0, 0, 4), (130, 0, 0, 130),
    ],
)  # fmt: skip
def test_make_bench_ends_with_the_report(tmp_path, measured, published, reported, code):
    """The status is that of the first failure; what a report has found is none."""
    for name, ends in (
        ("convbench", f"case $1 in bench) exit {measured};; report) exit {reported};; esac"),
        ("asv", f"exit {published}"),
    ):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "{name} $*"\n{ends}\n')
        (tmp_path / name).chmod(0o755)
    done = make("bench", f"BIN={tmp_path}", "INSTALLED=")
    assert re.findall(r"Error (\d+)", done.stderr) == ([str(code)] if code else [])
    said = done.stdout.splitlines()
    if code in {4, 130}:  # nothing was measured, or somebody wants it to end
        assert said == ["convbench bench --list smoke"]
        return
    assert [line for line in said if line.startswith(("asv ", "convbench "))] == [
        "convbench bench --list smoke", "asv publish", "convbench report",
    ]  # fmt: skip
    page = f"The report is {ROOT}/.asv/report.html; a browser opens it as it is."
    assert (said[-1] == page) == (reported <= 3)


def test_the_makefile_refuses_an_unknown_list():
    refused = make("bench", "LIST=tiny")
    assert refused.returncode == 2
    assert "the list is 'tiny'; expected one of smoke, standard, full" in refused.stderr
    assert "Publishing" not in refused.stdout
