"""`convbench init`: what it sees, what it writes, and what it leaves alone."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from convbench.cli import init
from convbench.errors import InputError
from convbench.machine.project import Project
from convbench.results.folder import Folder

from ..checkouts import FRONT
from .command import run

THEIRS = '[project]\nname = "My.Kernels"\nversion = "1"\n'


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """An empty one, in which git looks no further up."""
    folder = tmp_path / "my-kernels"
    folder.mkdir()
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    return folder


def plan(folder: Path, template: str | None = None, *, force: bool = False) -> init.Plan:
    return init.plan(init.look(folder), template, force=force)


def what(made: init.Plan) -> dict[str, str]:
    return {file.path: file.what for file in made.files}


def text_of(made: init.Plan, path: str) -> str:
    return next(file.text for file in made.files if file.path == path)


def test_what_is_shown_can_be_copied(repository: Path) -> None:
    done = run("init", "--dry-run", cwd=repository)
    _, _, rest = done.stdout.partition("--- src/my_kernels/convbench.py\n")
    shown, _, _ = rest.partition("\n\n--- ")
    run("init", cwd=repository)
    written = (repository / "src/my_kernels/convbench.py").read_text(encoding="utf-8")
    assert shown.strip() == written.strip()
    assert "    def build(" in shown


def test_an_empty_repository(repository: Path) -> None:
    before = run("init", "--dry-run", "--json", cwd=repository)
    assert {path.name for path in repository.iterdir()} == {".git"}
    done = run("init", "--json", cwd=repository)
    assert done.returncode == before.returncode == 0, done.stderr
    found, shown = json.loads(done.stdout), json.loads(before.stdout)
    assert found["schema"] == "convbench.init/1"
    assert found | {"dry_run": True} == shown
    assert found["template"] == "numpy"
    assert found["by_hand"] == []
    assert {file["path"]: file["what"] for file in found["files"]} == dict.fromkeys(
        (
            "src/my_kernels/__init__.py", "src/my_kernels/convbench.py", "tests/test_convbench.py",
            "pyproject.toml", "asv.conf.json", "benchmarks/__init__.py", ".gitignore",
            ".github/workflows/convbench.yml",
        ),
        "write",
    )  # fmt: skip
    for file in found["files"]:
        assert (repository / file["path"]).read_text() == file["text"]
    made = tomllib.loads((repository / "pyproject.toml").read_text())
    assert made["project"]["entry-points"]["convbench.backends"] == {
        "my_kernels": "my_kernels.convbench:MyBackend"
    }
    project = Project.find(repository / "src")
    assert (project.root, project.name) == (repository, "my-kernels")
    assert project.targets == ("my_kernels@cpu", "numpy@cpu")
    assert Folder.of_config(project.config) == Folder(repository / ".asv" / "results")
    again = json.loads(run("init", "--json", cwd=repository / "src").stdout)
    assert {file["what"] for file in again["files"]} == {"keep"}
    assert again["template"] is None


def test_the_front_is_that_of_convbench_but_for_one_line() -> None:
    def lines(text: str) -> set[str]:
        return {line for line in text.splitlines() if not line.startswith("#")}

    ours, theirs = lines((FRONT / "__init__.py").read_text()), lines(init.FRONT)
    assert len(ours - theirs) == len(theirs - ours) == 1


def test_what_is_in_the_way_is_named_and_nothing_is_written(repository: Path) -> None:
    (repository / "pyproject.toml").write_text(THEIRS)
    (repository / "tests").mkdir()
    (repository / "tests" / "test_convbench.py").write_text("mine")
    refused = run("init", cwd=repository)
    assert refused.returncode == 4
    assert "what is in the way is tests/test_convbench.py" in refused.stderr
    assert not (repository / "asv.conf.json").exists()
    assert (repository / "pyproject.toml").read_text() == THEIRS
    assert run("init", "--force", cwd=repository).returncode == 0
    assert "conformance_suite" in (repository / "tests" / "test_convbench.py").read_text()
    assert (repository / "pyproject.toml").read_text().startswith(THEIRS)


def test_a_package_that_is_there_is_taken(repository: Path) -> None:
    (repository / "pyproject.toml").write_text(THEIRS)
    (repository / "kernels").mkdir()
    (repository / "kernels" / "__init__.py").write_text("x = 1\n")
    made = plan(repository)
    assert made.seen.package == "kernels"
    assert "kernels/__init__.py" not in what(made)
    assert what(made)["kernels/convbench.py"] == "write"
    assert "from kernels.convbench import MyBackend" in text_of(made, "tests/test_convbench.py")
    assert 'name = "kernels"' in text_of(made, "kernels/convbench.py")
    assert '"project": "My.Kernels"' in text_of(made, "asv.conf.json")


def test_a_backend_that_is_registered_is_taken(repository: Path) -> None:
    entry = f'{THEIRS}[project.entry-points."convbench.backends"]\nfast = "a.b:C"\n'
    (repository / "pyproject.toml").write_text(entry)
    made = plan(repository, "torch")
    assert made.targets == ["fast@cpu", "numpy@cpu"]
    assert not any(path.endswith("/convbench.py") or "test" in path for path in what(made))
    assert text_of(made, "pyproject.toml").count("entry-points") == 1
    assert "python -m pytest --convbench a.b:C" in made.next
    (repository / "tests").mkdir()
    (repository / "tests" / "test_convbench.py").touch()
    assert "python -m pytest tests/test_convbench.py" in plan(repository).next


def test_what_a_template_needs_is_depended_on(repository: Path) -> None:
    made = tomllib.loads(text_of(plan(repository, "torch"), "pyproject.toml"))
    assert made["project"]["dependencies"] == ["numpy", "torch"]
    (repository / "pyproject.toml").write_text(f'{THEIRS}dependencies = ["torch>=2"]\n')
    assert plan(repository).by_hand == []
    assert any("name triton among" in words for words in plan(repository, "triton").by_hand)


SETUP_CFG = """\
[metadata]
name = My.Kernels
version = attr: kernels.__version__

[options]
install_requires =
    numpy
    numba>=0.60
"""
SETUP_PY = """\
from setuptools import find_packages, setup

setup(name="my-kernels", version="1.2", packages=find_packages(), install_requires=["cffi>=1"]{})
"""


def test_a_setup_cfg_registers(repository: Path) -> None:
    """And no [project] is made: setuptools would take what it says for all that there is."""
    (repository / "setup.cfg").write_text(SETUP_CFG)
    (repository / "setup.py").write_text("from setuptools import setup\n\nsetup()\n")
    made = plan(repository)
    assert made.template == "numba"
    assert tomllib.loads(text_of(made, "pyproject.toml")) == {
        "tool": {"convbench": {"targets": ["my_kernels@cpu", "numpy@cpu"]}}
    }
    assert '"project": "My.Kernels"' in text_of(made, "asv.conf.json")
    assert run("init", cwd=repository).returncode == 0
    again = init.look(repository)
    assert again.registered == {"my_kernels": "my_kernels.convbench:MyBackend"}
    assert again.declared is not None
    assert (again.declared.name, again.declared.version) == ("My.Kernels", "")
    assert {file.what for file in plan(repository).files} == {"keep"}


def test_a_section_of_entry_points_is_a_persons(repository: Path) -> None:
    commands = "\n[options.entry_points]\nconsole_scripts =\n    k = kernels:main\n"
    (repository / "setup.cfg").write_text(f"{SETUP_CFG}{commands}")
    made = plan(repository)
    assert "setup.cfg" not in what(made)
    (words,) = (words for words in made.by_hand if words.startswith("setup.cfg, [options.entry"))
    assert "add `my_kernels = my_kernels.convbench:MyBackend` to convbench.backends" in words


def test_a_setup_py_is_read_and_not_run(repository: Path) -> None:
    (repository / "setup.py").write_text(SETUP_PY.format(""))
    made = plan(repository)
    assert made.template == "cffi"
    entry = 'entry_points={"convbench.backends": ["my_kernels = my_kernels.convbench:MyBackend"]}'
    assert any(entry in words for words in made.by_hand)
    (repository / "setup.py").write_text(SETUP_PY.format(f", {entry}"))
    assert init.look(repository).registered == {"my_kernels": "my_kernels.convbench:MyBackend"}


def test_a_package_that_is_one_file_is_refused(repository: Path) -> None:
    (repository / "my_kernels.py").touch()
    with pytest.raises(InputError, match=r"the package my_kernels is my_kernels\.py, a file"):
        plan(repository)


@pytest.mark.parametrize("name", ["3d-conv", "class"])
def test_a_name_that_python_cannot_import_is_refused(tmp_path: Path, name: str) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path / name)], check=True)
    with pytest.raises(InputError, match="expected what Python can import"):
        plan(tmp_path / name)


@pytest.mark.parametrize("name", ["Torch", "jax", "_kern", "fältning"])
def test_a_name_that_no_backend_can_have_is_not_given_to_it(tmp_path: Path, name: str) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path / name)], check=True)
    assert init.look(tmp_path / name).name == "mine"


def test_a_project_below_the_root_of_its_repository(repository: Path) -> None:
    """asv asks for the root, and where the project is in it."""
    below = repository / "python" / "kernels"
    below.mkdir(parents=True)
    (below / "pyproject.toml").write_text(THEIRS)
    made = plan(below)
    assert made.seen.root == below
    config = text_of(made, "asv.conf.json")
    assert '"repo": "../..",\n    "repo_subdir": "python/kernels",' in config
    assert not any("workflows" in path for path in what(made))


def test_a_suite_that_has_a_name_of_ours_is_in_the_way(repository: Path) -> None:
    (repository / "benchmarks").mkdir()
    (repository / "benchmarks" / "common.py").touch()
    assert plan(repository)
    (repository / "benchmarks" / "bench_memory.py").touch()
    with pytest.raises(InputError, match=r"a suite in benchmarks is bench_memory\.py, as one of"):
        plan(repository)


@pytest.mark.parametrize(
    ("dependencies", "template"),
    [
        ('["numpy>=2"]', "numpy"),
        ('["torch==2.7", "numpy"]', "torch"),
        ('["torch", "triton>=3"]', "triton"),
        ('["Numba"]', "numba"),
        ('["cupy-cuda12x[ctk]>=14"]', "cupy"),
        ('["cffi"]', "cffi"),
    ],
)
def test_the_template_is_for_what_it_depends_on(
    repository: Path, dependencies: str, template: str
) -> None:
    (repository / "pyproject.toml").write_text(f"{THEIRS}dependencies = {dependencies}\n")
    assert plan(repository).template == template
    assert plan(repository, "cffi").template == "cffi"


def test_a_backend_for_a_gpu_is_measured_on_it(repository: Path) -> None:
    assert plan(repository, "triton").targets == ["my_kernels@gpu:0", "numpy@cpu"]
    assert "verify --target my_kernels@gpu:0" in text_of(
        plan(repository, "triton"), "src/my_kernels/convbench.py"
    )


def test_suites_that_are_there_stay(repository: Path) -> None:
    """asv's configuration is a person's to edit; the front is added to theirs."""
    perf = repository / "perf"
    (perf / "suites").mkdir(parents=True)
    (perf / "asv.conf.json").write_text('{"benchmark_dir": "suites"}  // theirs\n')
    (perf / "suites" / "__init__.py").write_text("import os")
    made = plan(repository)
    assert "perf/asv.conf.json" not in what(made)
    assert what(made)["perf/suites/__init__.py"] == "extend"
    assert text_of(made, "perf/suites/__init__.py") == f"import os\n\n{init.FRONT}"
    for words in ('"plugins": [".convbench.asv_plugin"]', '"build_command": ['):
        assert any(words in said for said in made.by_hand)
    assert 'asv = "perf/asv.conf.json"' in text_of(made, "pyproject.toml")


def test_another_service_gets_no_workflow(repository: Path) -> None:
    (repository / ".gitlab-ci.yml").touch()
    made = plan(repository)
    assert not any("workflows" in path for path in what(made))
    assert any("convbench verify" in words for words in made.by_hand)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not TOML", "the text is not TOML"),
        ('[build-system]\nrequires = ["x"]\n', "what registers entry points is elsewhere"),
        (f'{THEIRS}dynamic = ["entry-points"]\n', "what registers entry points is elsewhere"),
        (f"{THEIRS}entry-points = {{ x = {{}} }}\n", "Add them by hand:\n\n[project.entry-points."),
    ],
)
def test_what_cannot_be_extended_is_said(repository: Path, text: str, message: str) -> None:
    (repository / "pyproject.toml").write_text(text)
    with pytest.raises(InputError) as refusal:
        plan(repository)
    assert message in str(refusal.value)


def test_poetry_has_a_table_of_its_own(repository: Path) -> None:
    (repository / "pyproject.toml").write_text('[tool.poetry]\nname = "kernels"\n')
    made = tomllib.loads(text_of(plan(repository), "pyproject.toml"))
    assert made["tool"]["poetry"]["plugins"]["convbench.backends"] == {
        "kernels": "kernels.convbench:MyBackend"
    }


def test_away_from_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(InputError, match="`git init` makes one"):
        init.look(tmp_path)


def test_nothing_is_left_to_fill_in(repository: Path) -> None:
    for file in plan(repository).files:
        assert not re.search(r"\b(PROJECT|CONVBENCH|mine)\b", file.text), file.path
