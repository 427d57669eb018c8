"""What a calibration says of sessions, when it counts, and what a damaged one costs."""

import json
import math
import os

import numpy as np
import pytest

from convbench.results import calibration
from convbench.results.calibration import Calibration, Measured, Session, between
from convbench.results.folder import Folder
from convbench.results.sessions import Between, Spread

from .test_sessions import drawn, store

TARGET = "numpy@cpu"
HARDWARE = "EPYC, 2 cores, 8 GiB"
MACHINE = {"cpu_model": "EPYC", "machine_cores": 2, "memory_bytes": 8_217_329_664}


def session(number, medians, versions=None, target=TARGET):
    return Session(86400.0 * number, {target: Measured(versions or {"numpy": "2"}, medians)})


TWO = session(1, {"a": [1.0, 1.1]}), session(2, {"a": [1.3, 1.4]})


def save(known, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(known.to_dict()))


def calibrated(*sessions, hardware=HARDWARE):
    return Calibration(hardware, sessions)


@pytest.fixture
def folder(tmp_path):
    """The evidence of one run, which says what the machine is."""
    (tmp_path / "results").mkdir()
    made = Folder(tmp_path / "results")
    store(made.results, "a" * 8, [{"a.b": [1.0, 1.1]}])
    (path,) = made.evidence.glob("*/*.jsonl")
    line = {"schema": 2, "kind": "process", "run": "r", "process": "p", "time_s": 1.0}
    with path.open("a") as file:
        file.write(json.dumps({**line, "machine": MACHINE}) + "\n")
    return made


def path_in(folder, machine="vm"):
    return folder.evidence / machine / calibration.NAME


def test_two_sessions_by_hand():
    known = calibrated(*TWO)
    logs = [np.log([1.0, 1.1]), np.log([1.3, 1.4])]
    expected = np.var([log.mean() for log in logs], ddof=1)
    expected -= np.mean([log.var(ddof=1) / 2 for log in logs])
    (found,) = known.spreads().values()
    assert found.variance == pytest.approx(expected)
    assert found.freedom == 1


@pytest.mark.parametrize("deviation", [0.0, 0.03])
def test_it_finds_what_was_drawn(deviation):
    chance = np.random.default_rng(1)
    sessions = [session(i, drawn(chance, deviation, 0.01, cells=3)) for i in range(200)]
    (found,) = calibrated(*sessions).spreads().values()
    assert found.deviation == pytest.approx(deviation, abs=0.002 + 0.1 * deviation)
    assert found.freedom == 199


def test_other_versions_are_another_thing():
    medians = [{"a": [t, 1.1 * t]} for t in (1.0, 2.0, 3.0)]
    old, new = {"numpy": "1"}, {"numpy": "2"}
    with_versions = enumerate(zip(medians, (old, new, new), strict=True))
    sessions = [session(i, m, v) for i, (m, v) in with_versions]
    assert calibrated(*sessions).spreads()[TARGET].freedom == 1
    assert calibrated(*sessions[:2]).spreads() == {}


def test_it_is_read_as_it_was_written(folder):
    known = calibrated(*TWO)
    path = path_in(folder)
    save(known, path)
    assert Calibration.read(path) == known
    found = between(folder, "vm", "any")
    assert found.spreads == known.spreads()
    assert found.source == "calibration of 1970-01-03 00:00 on this machine"
    assert found.unused == ""


def test_what_was_measured_again_counts_before_it(folder):
    save(calibrated(*TWO), path_in(folder))
    store(folder.results, "b" * 8, [{"a.b": [time_s, 1.1]} for time_s in (1.0, 1.2, 1.3)])
    (path,) = folder.evidence.glob("vm/bbb*.jsonl")
    os.utime(path, (0, 0))  # which does not say what the machine is
    found = between(folder, "vm", "env")
    assert found.source == "3 repeated sessions of 1 commit"
    assert found.of("any@gpu:0").freedom == 2
    assert between(folder, "vm", "another").source.startswith("calibration of ")


@pytest.mark.parametrize("hardware", ["EPYC, 4 cores, 8 GiB", ""])
def test_that_of_another_machine_is_not_used_and_that_is_said(folder, hardware):
    save(calibrated(*TWO, hardware=hardware), path_in(folder))
    found = between(folder, "vm", "env")
    assert found.spreads == {}
    theirs = hardware or "unknown hardware"
    assert found.unused == (
        f"the calibration of 1970-01-03 00:00 is not used: it is of {theirs}, and vm is {HARDWARE}"
    )


def test_without_evidence_nobody_knows_which_machine_it_is(tmp_path):
    (tmp_path / "results").mkdir()
    folder = Folder(tmp_path / "results")
    save(calibrated(*TWO), path_in(folder))
    assert between(folder, "vm", "env").unused.endswith(f"of {HARDWARE}, and vm is unknown")
    assert between(folder, "another", "env") == Between()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "Expecting"),
        ("[]", "schema"),
        ('{"schema": "convbench.calibration/9"}', "its schema is"),
        (None, "a variance is -1"),
        ({"variance": math.inf, "freedom": 1}, "finite"),
        ({"variance": "x", "freedom": 1}, "no number"),
        ({"variance": 0.1, "freedom": 0}, "degrees of freedom"),
    ],
)
def test_a_damaged_one_is_named_and_left_out(folder, text, why):
    path = path_in(folder)
    if not isinstance(text, str):
        target = text or {"variance": -1, "freedom": 1}
        told = {"schema": calibration.SCHEMA, "fingerprint": HARDWARE, "ended_s": 1.0}
        text = json.dumps({**told, "targets": {TARGET: target}, "sessions": []})
    path.write_text(text)
    found = between(folder, "vm", "env")
    assert found.spreads == {}
    assert found.unused.startswith(f"{path}: left out, because ")
    assert why in found.unused


@pytest.mark.parametrize("seconds", [0, -1, math.nan, "x", None, True])
def test_sessions_with_impossible_times_are_not_added_to(folder, seconds):
    path = path_in(folder)
    save(calibrated(TWO[0]), path)
    told = json.loads(path.read_text())
    told["sessions"][0]["targets"][TARGET]["medians_s"]["a"][0] = seconds
    path.write_text(json.dumps(told))
    assert Calibration.read(path) is None


def test_a_target_without_a_spread_has_the_largest_of_its_kind_of_device():
    spreads = {"a@cpu": Spread(0.1, 1), "b@cpu": Spread(0.2, 1), "c@gpu:0": Spread(0.3, 1)}
    known = Between(spreads)
    assert known.of("a@cpu").variance == 0.1
    assert known.of("other@cpu").variance == 0.2
    assert known.of("other@gpu:1").variance == 0.3
    assert Between().of("a@cpu") is None
    assert Between({"a@cpu": Spread(0.1, 1)}).of("a@gpu:0") is None
