"""What the pages say about the backends, the commands and the workloads is so."""

from __future__ import annotations

import doctest
import pkgutil
import re
import runpy
import subprocess
import sys
import tomllib
from collections import Counter
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from convbench import ConvSpec, PipelineSpec, PoolSpec, Unsupported
from convbench.backends import backend_class
from convbench.cli.main import COMMANDS
from convbench.correctness.oracle import compute
from convbench.correctness.selftest import faults_shown
from convbench.stimulus.formats import Fill
from convbench.stimulus.inputs import make_inputs
from convbench.stimulus.workloads import load

from .conftest import OWN

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "convbench"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("reports/*.md")])


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def prose(text: str) -> str:
    """Without what stands in fences, and without comments."""
    return re.sub(r"^```.*?^```$|<!--.*?-->", "", text, flags=re.MULTILINE | re.DOTALL)


def capabilities_row(name: str) -> str:
    """The row of the table, from what the backend declares."""
    declared = backend_class(name).capabilities
    variants = ", ".join(f"`{variant}`" for variant in declared.variants if variant)
    holes = "; ".join(
        str(hole) + f" ({', '.join(v or 'default' for v in hole.variants)})" * bool(hole.variants)
        for hole in declared.holes
    )
    cells = (f"`{name}`", variants, ", ".join(declared.devices), ", ".join(declared.dtypes), holes)
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"


@pytest.mark.parametrize("name", OWN)
def test_the_table_of_capabilities(name: str) -> None:
    assert capabilities_row(name) in read("docs/backends.md").splitlines()


def test_the_reference_of_the_commands() -> None:
    """After an edit of a command: `python docs/commands.py`."""
    written = runpy.run_path(str(ROOT / "docs" / "commands.py"))["page"]()
    named = re.findall(r"^## convbench (\w+)", written, re.MULTILINE)
    assert [f"convbench.cli.{name}" for name in named] == [c.__name__ for c in COMMANDS]
    assert read("docs/commands.md") == written


def test_the_numbers_of_workloads() -> None:
    tiers = Counter(row.tier for row in load())
    assert (
        f"measures {tiers['smoke'] + tiers['standard']} layers instead of {tiers['smoke']}"
        in read("docs/getting-started.md")
    )
    assert f"has {tiers['full']} layers more" in read("docs/measuring.md")


def test_the_examples_in_python() -> None:
    text = read("docs/python.md")
    (block,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    names: dict = {}
    exec(block.replace('backend="tensorflow"', 'backend="numpy"'), names)
    assert names["y"].shape == (1, 1, 1, 6)
    (example,) = re.findall(r"^```pycon\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    test = doctest.DocTestParser().get_doctest(example, {}, "python.md", None, None)
    assert doctest.DocTestRunner().run(test).failed == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "conv",
    [
        ConvSpec(6, 5, 3),
        ConvSpec(2, 3, 3, stride=(2, 3), padding="SAME"),
        ConvSpec(4, 1, 2, padding=(1, 0, 2, 3)),
    ],
    ids=str,
)
def test_the_backend_in_the_readme(conv: ConvSpec, dtype: str) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", read("README.md"), re.MULTILINE | re.DOTALL)
    names: dict = {}
    exec(block, names)
    backend = names["MyBackend"]("cpu")
    spec = PipelineSpec(2, 7, 8, 3, conv, bias=True)
    inputs = make_inputs(spec, dtype, Fill.INTEGERS, seed=1)
    y = backend.build(spec, inputs.weights)(backend.to_device(inputs.x))
    np.testing.assert_array_equal(y, compute(spec, inputs.in_float64()))
    assert y.dtype == dtype
    for hole in (
        PipelineSpec(1, 4, 4, 3, bias=True),
        PipelineSpec(1, 4, 4, 4, ConvSpec(4, 2, 2, groups=2)),
        PipelineSpec(1, 4, 4, 4, ConvSpec(4, 2, 2, dilation=(1, 2))),
        PipelineSpec(1, 4, 4, 4, ConvSpec(4, 2, 2), pool=PoolSpec("max", 2)),
    ):
        with pytest.raises(Unsupported, match="not written yet"):
            backend.build(hole, make_inputs(hole, dtype, Fill.INTEGERS, seed=1).weights)


def test_the_readme_is_short() -> None:
    words = re.findall(r"\w[\w'.-]*", re.sub(r"\]\([^)]*\)", "]", prose(read("README.md"))))
    assert 300 < len(words) <= 700


def test_the_number_of_faults() -> None:
    assert f"plants {len(faults_shown())} known faults" in read("docs/checking.md")


# -- The site --------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_no_link_is_broken() -> None:
    links = [
        (page, link)
        for page in PAGES
        for link in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text(encoding="utf-8")))
        if not link.startswith(("http://", "https://"))
    ]
    assert len(links) > 50
    broken = []
    for page, link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.is_file() or (anchor and anchor not in anchors(target)):
            broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert broken == []


class Loads(HTMLParser):
    """What a page has the browser fetch by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        had = dict(attrs)
        if tag == "link" and had.get("rel") not in {"canonical", "next", "prev"}:
            self.found.append(had.get("href") or "")
        elif tag != "a":
            self.found.append(had.get("src") or "")


def test_the_site_is_whole_and_needs_no_network(tmp_path: Path) -> None:
    pytest.importorskip(
        "furo", reason="furo is not installed; `make` installs it, from requirements/dev.txt"
    )
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "-c", "docs", ".", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "index.html").is_file()
    for made in (tmp_path / "docs").glob("*.html"):
        page = Loads()
        page.feed(made.read_text(encoding="utf-8"))
        assert any(page.found)
        assert [link for link in page.found if re.match(r"(?:https?:)?//", link)] == []
    for style in tmp_path.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", style.read_text("utf-8"))


# -- The house -------------------------------------------------------------------------------------


def listed_in(heading: str) -> dict[str, str]:
    """Name and the cell before it, of the tables in a section of CONTRIBUTING.md."""
    text = read("CONTRIBUTING.md")
    (section,) = re.findall(rf"^## {heading}\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\|(?: (\d+) \|)? `([\w./]+?)/?` \|", section, re.MULTILINE)
    assert len({name for _, name in rows}) == len(rows)
    return {name: floor for floor, name in rows}


def tracked(folder: Path) -> set[str]:
    """What is in a folder, without what tools leave there."""
    return {path.name for path in folder.iterdir() if path.name not in {"__pycache__", "build"}}


def test_every_folder_and_every_room_is_where_the_list_says() -> None:
    listed = listed_in("Where things are")
    folders = {name for name, floor in listed.items() if not floor}
    assert "src/convbench" in folders
    assert {name.partition("/")[0] for name in folders} == {
        name for name in tracked(ROOT) if (ROOT / name).is_dir() and not name.startswith(".")
    } - {"dist"}
    rooms = {name for name, floor in listed.items() if floor}
    assert rooms == tracked(PACKAGE) - {"__init__.py", "__main__.py", "py.typed"}


def test_the_floors_are_those_of_the_contract() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (house,) = (c for c in pyproject["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    floors = {
        room: str(floor)
        for floor, rooms in enumerate(reversed(house["layers"]), start=1)
        for room in rooms.split(" | ")
    }
    listed = {
        name.removesuffix(".py"): floor
        for name, floor in listed_in("Where things are").items()
        if floor
    }
    assert listed == floors


# -- What is named anywhere -----------------------------------------------------------------------

TEXTS = sorted(
    path
    for pattern in ("*.md", "Makefile", "asv*", "docs/*.md", "benchmarks/*", ".github/*/*.yml",
                    "reports/*.*", "studies/*.py", "src/**/*.py", "tests/**/*.py")
    for path in ROOT.glob(pattern)
    if path.is_file()
)  # fmt: skip
PATHS = re.compile(
    r"(?<![\w./-])(?:benchmarks|docs|reports|requirements|src/convbench|studies|tests)/"
    r"[\w/.-]+\.(?:md|py|sh|toml|txt)\b"
)
ELSEWHERE = {
    "benchmarks/common.py",  # in old commits
    "tests/test_convbench.py",  # in the repositories that `convbench init` has made ready
}
MODULES = re.compile(r"(?<![\w./-])convbench(?:\.[a-z_]+)+\b(?![/\w])")


def test_every_file_that_is_named_exists() -> None:
    named = {
        (str(path.relative_to(ROOT)), name)
        for path in TEXTS
        for name in PATHS.findall(path.read_text(encoding="utf-8"))
        if name not in ELSEWHERE
    }
    assert len(named) > 30
    assert [(path, name) for path, name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_module_that_the_pages_name_exists() -> None:
    # The changelog names what there was, too.
    pages = [p for p in TEXTS if p.suffix in {".md", ".toml"} and p.name != "CHANGELOG.md"]
    named = {
        name for page in pages for name in MODULES.findall(page.read_text(encoding="utf-8"))
    } - {"convbench.yml", "convbench.backends"}
    assert "convbench.results.journal.read" in named
    for name in sorted(named):
        assert pkgutil.resolve_name(name), name


def test_every_module_that_a_text_imports_exists() -> None:
    """Also where it is a text for another process, which no linter reads."""
    imported = {
        (str(path.relative_to(ROOT)), name)
        for path in TEXTS
        if path.suffix == ".py" and path.name != "interface.py"  # which knows old names
        for name in re.findall(r"\b(?:from|import) (convbench(?:\.\w+)*)", path.read_text("utf-8"))
    }
    assert len({name for _, name in imported}) > 30
    for path, name in sorted(imported):
        assert find_spec(name), f"{path}: {name}"
