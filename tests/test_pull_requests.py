"""The recipe for a pull request: what the workflows may do."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from .checkouts import ROOT

WORKFLOWS = [
    *sorted((ROOT / ".github" / "workflows").glob("*.yml")),
    ROOT / "src" / "convbench" / "templates" / "workflow.yml",  # what `convbench init` writes
]


# -- The workflows --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_and_nothing_is_granted_at_large(path: Path):
    text = path.read_text()
    used = re.findall(r"uses: (\S+)(.*)", text)
    assert used
    for action, comment in used:
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", action)
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment)
    assert re.search(r"^permissions:( \{\}|\n  contents: read)$", text, re.MULTILINE)
    assert "pull_request_target" not in text
    assert "secrets" not in text
    # What a person has named reaches a shell as a variable only, never as part of its text.
    for script in re.findall(r"run: (\|\n(?: {10}.*\n)+|.*\n)", text):
        assert "${{" not in script


@pytest.mark.parametrize("path", [*WORKFLOWS, ROOT / "action.yml"], ids=lambda path: path.name)
def test_it_is_what_github_s_schema_describes(path: Path):
    """The expressions in it are none of the schema's: actionlint reads those."""
    jsonschema = pytest.importorskip("jsonschema", reason="it is one of the libraries of dev.txt")
    found = find_spec("check_jsonschema")
    if found is None or found.origin is None:
        pytest.skip("check-jsonschema, which has the schemas, is one of the libraries of dev.txt")
    kind = "actions" if path.name == "action.yml" else "workflows"
    vendored = Path(found.origin).parent / "builtin_schemas" / "vendor" / f"github-{kind}.json"
    schema = json.loads(vendored.read_text("utf-8"))
    judge = jsonschema.validators.validator_for(schema)(schema)

    def faults(text: str) -> list[str]:
        read: dict[Any, Any] = yaml.safe_load(text)
        if True in read:  # what YAML 1.1 makes of "on"
            read["on"] = read.pop(True)
        return [fault.message for fault in judge.iter_errors(read)]

    text = path.read_text("utf-8")
    assert faults(text) == []
    assert faults(text.replace("  steps:\n", "  step:\n"))


def test_what_runs_the_code_of_a_pull_request_can_write_nothing():
    text = (ROOT / ".github" / "workflows" / "convbench.yml").read_text()
    assert "write" not in re.sub(r"#.*", "", text)
    assert "persist-credentials: false" in text
    assert 'convbench gate "$BASE" HEAD' in text


def test_what_can_write_runs_nothing_of_a_pull_request():
    text = (ROOT / ".github" / "workflows" / "convbench-comment.yml").read_text()
    assert "checkout" not in text
    assert re.findall(r"(\S+): write", text) == ["pull-requests"]
    assert "head_sha" in text


# -- The action -----------------------------------------------------------------------------------


def test_the_action_is_one_that_github_takes():
    """Its steps are run in test_another_repository; actionlint does not read an action.yml."""
    action = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
    assert action.keys() == {"name", "description", "inputs", "outputs", "runs"}
    assert action["inputs"].keys() == {"base", "targets", "list", "budget"}
    for declared in action["inputs"].values():
        assert declared.keys() == {"description", "default"}
        assert isinstance(declared["default"], str)
    assert action["runs"]["using"] == "composite"
    steps = action["runs"]["steps"]
    ids = {step["id"] for step in steps if "id" in step}
    for step in steps:
        if "uses" in step:
            assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", step["uses"])
        else:
            assert step["shell"] == "bash"  # of a composite action it has no default
            assert "${{" not in step["run"]
    said = re.findall(r"\$\{\{ (.*?) \}\}", str(action))
    assert {name.removeprefix("inputs.") for name in said if name.startswith("inputs.")} == {
        *action["inputs"]
    }
    assert {name.split(".")[1] for name in said if name.startswith("steps.")} == ids


def test_the_action_uses_what_the_workflows_use():
    texts = [path.read_text() for path in (*WORKFLOWS, ROOT / "action.yml")]
    used = {use for text in texts for use in re.findall(r"uses: (\S+ # \S+)", text)}
    assert len({use.partition("@")[0] for use in used}) == len(used)
