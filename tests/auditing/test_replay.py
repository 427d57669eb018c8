"""An audit on the very numbers of another."""

import copy
import json

import pytest

from convbench.auditing.audit import Auditor
from convbench.auditing.replay import exit_code, load, replay
from convbench.errors import InputError
from convbench.results import journal
from convbench.stimulus.spec import ConvSpec, PipelineSpec
from convbench.stimulus.targets import Target
from convbench.stimulus.workloads import Workload
from convbench.words.status import Exit

ROW = Workload("net.layer", PipelineSpec(1, 14, 14, 8, ConvSpec(8, 3, 3), True), "smoke", "")


@pytest.fixture(scope="module")
def receipt():
    with Auditor() as auditor:
        (found,) = auditor.audit(Target("numpy", "", "cpu"), [ROW])
    return found.to_dict()


@pytest.fixture
def written(tmp_path):
    def write(*entries):
        path = tmp_path / "audit.json"
        path.write_text(json.dumps({"audited": list(entries)}))
        return load(path)

    return write


def test_the_same_secret_makes_the_same_numbers_and_bits(receipt, written):
    (result,) = replay(written(receipt), [ROW])
    assert result.numbers
    assert result.calls > 3
    assert result.same == result.calls
    assert {"time", "error"} == result.then.keys()


def test_other_numbers_and_other_verdicts_do_not_reproduce(receipt, written):
    other = copy.deepcopy(receipt)
    other["inputs"][0] = "0" * 16
    other["claims"][1]["verdict"] = "not supported"
    (result,) = results = list(replay(written(other), [ROW]))
    assert not result.numbers
    assert (result.then["error"], result.now["error"]) == ("not supported", "holds")
    assert exit_code(results) is Exit.WRONG


def test_the_evidence_of_a_run_is_replayed_stage_by_stage(receipt, tmp_path):
    path = tmp_path / "e.jsonl"
    params = ["numpy@cpu", "net.layer", "conv"]
    for facts in ({}, {"receipt": receipt}):
        journal.append(path, "cell", benchmark="b", params=params, status="ok", **facts)
    (given,) = load(path)
    assert (given.workload, given.stage) == ("net.layer", "conv")
    (result,) = replay([given], [ROW])
    assert result.numbers  # the input of the stage is that of the layer


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"audited": [{}]}', '{"audited": []}'])
def test_what_holds_no_receipt_is_named(tmp_path, text):
    path = tmp_path / "audit.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"audit\.json: "):
        load(path)


def test_a_workload_that_nobody_knows_is_named(receipt, written):
    with pytest.raises(InputError, match="expected a row"):
        list(replay(written(receipt), []))
