"""`convbench bench` with backends that look faster than they are, and what stands in their rows."""

from __future__ import annotations

import json
import os
from collections import Counter

import pytest

from convbench.results import journal

from ..checkouts import Checkout
from .crooked import write_plugin

WORKLOAD = "mobilenet_v2.conv_last"
"""A third of a millisecond: what is hidden of it shows, and the oracle is quick."""

ROUNDS = 2


def checkout(folder, *names):
    """A checkout with these backends beside ours."""
    made = Checkout(folder, names)
    path = os.pathsep.join([str(write_plugin(folder / "crooked")), made.environment["PYTHONPATH"]])
    made.environment |= {"PYTHONPATH": path, "ASV_PYTHONPATH": path}
    made.commit()
    return made


def bench(made, *names, suites="pipeline|accuracy", **more):
    """Measure, and give what was printed and the rows by their backend."""
    targets = "|".join(names)
    done = made.convbench(
        "bench", "--json", "--fresh", "--rounds", str(ROUNDS),
        "--bench", rf"({suites})\.Smoke\..*'({targets})@cpu', '{WORKLOAD}'",
    )  # fmt: skip
    assert done.stdout, done.stderr
    document = json.loads(done.stdout)
    rows = {row["target"].partition("@")[0]: row for row in document["rows"]}
    return done, document, rows


def evidence_of(made):
    (path,) = (made.results_dir.parent / "evidence").rglob("*.jsonl")
    return journal.read(path)


# -- Of one run -----------------------------------------------------------------------------------

DOUBTED = {
    "by_identity": "time: end to end says",
    "no_wait": "time: end to end says",
    "redrawn": "time: end to end says",
    "zeros": "time: end to end says",
    "stale": "outputs of calls on fresh numbers",
}
SENT_AWAY = {
    "divides": "and it has stood by",
    "own_receipt": "it is not its business to say receipt",
    "stands_aside": "it does not stand by its time",
    "own_verdict": "it has shown no output",
    "other_cell": "it speaks of",
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    names = (*DOUBTED, *SENT_AWAY, "pool")
    made = checkout(tmp_path_factory.mktemp("receipts"), *names)
    return made, *bench(made, "numpy", *names)


@pytest.mark.parametrize("name", DOUBTED)
def test_a_time_that_is_not_supported_by_what_was_seen_is_invalid(measured, name):
    _, done, _, rows = measured
    row = rows[name]
    assert (row["status"], row["standing"]) == ("invalid", "doubted"), row
    (cause,) = [cause for cause in row["causes"] if cause["part"] == "pipeline"]
    assert "what was seen does not support it" in cause["reason"]
    assert DOUBTED[name] in cause["reason"]
    assert done.returncode == 2


@pytest.mark.parametrize("name", SENT_AWAY)
def test_who_says_what_is_not_its_to_say_has_failed(measured, name):
    row = measured[3][name]
    assert row["status"] == "failed", row
    assert any(SENT_AWAY[name] in cause["reason"] for cause in row["causes"]), row["causes"]


def test_a_cell_has_one_receipt_over_all_rounds(measured):
    given = Counter()
    for note in evidence_of(measured[0]).notes:
        if note.status == "ok" and note.benchmark.startswith("bench_pipeline"):
            given[note.params[0]] += "receipt" in note.facts
    ended_well = {"numpy@cpu", "pool@cpu", *(f"{name}@cpu" for name in DOUBTED)}
    twice = {f"{name}@cpu" for name in DOUBTED}
    for target in ended_well:
        assert given[target] == 1 + (target in twice) or rows_doubted(measured, target), target


def rows_doubted(measured, target):
    """Whether a second look was taken at an honest target."""
    looked = [n for n in evidence_of(measured[0]).notes if "receipt" in n.facts]
    of = [n.facts["receipt"]["claims"] for n in looked if n.params[0] == target]
    return any(claim["verdict"] == "not supported" for claim in of[0])


def test_a_doubt_is_only_said_if_it_shows_again_in_another_process(tmp_path):
    made = checkout(tmp_path, "once")
    done = made.convbench(
        "bench", "--json", "--rounds", "1",
        "--bench", rf"pipeline\.Smoke\..*'once@cpu', '{WORKLOAD}'",
    )  # fmt: skip
    notes = [n for n in evidence_of(made).notes if n.status == "ok"]
    assert len(notes) == 2, done.stderr
    assert len({n.process for n in notes}) == 2
    assert rows_doubted((made,), "once@cpu")
    (row,) = json.loads(done.stdout)["rows"]
    assert row["processes"] == 1
    later = notes[1].facts["receipt"]
    assert row["end_to_end_s"] == later["end_to_end_s"]


def test_what_a_receipt_says_is_documented(measured):
    from .. import checkouts

    page = (checkouts.ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
    receipts = [r for n in evidence_of(measured[0]).notes if (r := n.facts.get("receipt"))]
    assert receipts
    for name in {*receipts[0], *receipts[0]["claims"][0]}:
        assert f"`{name}`" in page, name


@pytest.mark.parametrize("name", ["numpy", "pool"])
def test_an_honest_time_is_held(measured, name):
    made, _, _, rows = measured
    if rows[name]["standing"] != "held":  # whatever else ran: a defect would show again
        _, _, rows = bench(made, name)
    row = rows[name]
    assert (row["standing"], row["status"], row["causes"]) == ("held", "ok", []), row
    assert row["processes"] == ROUNDS
    assert row["end_to_end_s"] > 0


def test_a_stage_has_a_receipt_too_and_copies_have_none(tmp_path):
    made = checkout(tmp_path)
    done = made.convbench(
        "bench", "--json", "--rounds", "1", "--bench",
        rf"stages\.Smoke\..*'numpy@cpu', '{WORKLOAD}', 'pool'",
        "--bench", r"transfer\.Standard.*'numpy@cpu', 'transfer.4kb', 'to_device'",
    )  # fmt: skip
    assert done.returncode in (0, 2), done.stderr
    has = {n.benchmark: "receipt" in n.facts for n in evidence_of(made).notes if n.status == "ok"}
    assert has == {
        "bench_stages.Smoke.track_time": True,
        "bench_transfer.Standard.track_time": False,
    }


# -- The file -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["forges", "erases"])
def test_what_a_backend_does_to_the_evidence_has_no_effect_on_a_rival(tmp_path, name):
    made = checkout(tmp_path, name)
    done, document, rows = bench(made, "numpy", name, suites="pipeline")
    rival = rows["numpy"]
    assert rival["processes"] == ROUNDS
    assert 0 < rival["time_s"] < 0.5, "the forged time is a second"
    said = " ".join(document["problems"])
    if name == "forges":
        assert "lines taken out, which somebody else wrote" in said
        assert "lines of , mine appeared in the meantime" in said
    else:
        assert "lines put back, which somebody took out" in said
    assert done.returncode == 2
    (later,) = [
        row for row in json.loads(made.convbench("results", "--json").stdout)["rows"]
        if row["target"] == "numpy@cpu"
    ]  # fmt: skip
    assert (later["time_s"], later["processes"]) == (rival["time_s"], ROUNDS)
