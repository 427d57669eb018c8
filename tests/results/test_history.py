"""The values of all commits, read a column at a time."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from convbench.results import history, records

from .test_records import ACCURACY, COMMIT, NAN, SAMPLES, STAGE, TIME, Project

OTHER = "f" * 40


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def test_it_has_the_values_that_the_records_have(project):
    project.add(TIME, [SAMPLES, 0.2, None, NAN])
    project.add(ACCURACY, [0.5] * 4)
    project.add(STAGE, [1.0, 2.0, *[NAN] * 6], extra=[["conv", "pool"]])
    project.add(TIME, [0.3] * 4, commit=OTHER)
    found = history.load(project.results_dir)
    assert set(found.commits) == {COMMIT, OTHER}
    expected = {
        (r.machine, r.environment, r.benchmark, r.target, r.workload, r.stage, r.commit): r.value
        for r in records.load(project.results_dir).records
        if r.value is not None
    }
    got = {
        (s.machine, s.environment, s.benchmark, s.target, s.workload, s.stage, commit): value
        for s, row in zip(found.series, found.values, strict=True)
        for commit, value in zip(found.commits, row, strict=True)
        if not math.isnan(value)
    }
    assert got == pytest.approx(expected)
    assert found.problems == ()


def test_commits_are_in_the_order_in_which_they_were_made(project):
    project.add(TIME, [0.1] * 4, commit=OTHER)
    project.add(TIME, [0.2] * 4)
    file = json.loads(project.file().read_text())
    project.file().write_text(json.dumps(file | {"date": file["date"] + 1000}))
    found = history.load(project.results_dir)
    assert found.commits == (OTHER, COMMIT)
    assert np.all(np.diff(found.times_s) > 0)
    assert found.values[0].tolist() == [0.1, 0.2]


def test_another_version_of_a_benchmark_is_another_series(project):
    project.add(TIME, [0.1] * 4)
    project.add(TIME, [0.2] * 4, commit=OTHER)
    path = project.file().with_name("ffffffff-env.json")
    file = json.loads(path.read_text())
    file["results"][TIME][file["result_columns"].index("version")] = "2"
    path.write_text(json.dumps(file))
    assert len(history.load(project.results_dir).series) == 8


def test_a_suite_that_has_got_more_parameters_goes_on(project):
    project.add(TIME, [0.1] * 4)
    project.add(TIME, [0.2] * 4, commit=OTHER)
    path = project.file().with_name("ffffffff-env.json")
    file = json.loads(path.read_text())
    at = {name: i for i, name in enumerate(file["result_columns"])}
    file["results"][TIME][at["params"]][1].append("'net.new'")
    file["results"][TIME][at["result"]] = [1, 2, 3, 4, 5, 6]
    path.write_text(json.dumps(file))
    found = history.load(project.results_dir)
    assert len(found.series) == 6
    assert np.isnan(found.values).sum() == 2


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda file: "{", "Expecting property name"),
        (lambda file: json.dumps(file | {"version": 3, "z": 0}), "its version is 3"),
        (
            lambda file: json.dumps(file | {"results": {TIME: [[1.0], [["'a'"], ["'b'", "'c'"]]]}}),
            "",
        ),
        (lambda file: "[" * 100_000, "nested too deeply"),
    ],
)
def test_a_damaged_file_is_named_and_the_rest_is_read(project, damage, why):
    project.add(TIME, [0.1] * 4)
    project.add(TIME, [0.2] * 4, commit=OTHER)
    path = project.file()
    path.write_text(damage(json.loads(path.read_text())))
    found = history.load(project.results_dir)
    assert found.commits == (OTHER,)
    assert len(found.problems) == 1
    assert str(path) in found.problems[0]
    assert why in found.problems[0]


def test_nothing_is_nothing(tmp_path):
    found = history.load(tmp_path)
    assert (found.commits, found.series, found.values.shape) == ((), (), (0, 0))


# -- Small steps -----------------------------------------------------------------------------------


def noisy(rows):
    commits = tuple(f"{i:040x}" for i in range(rows.shape[1]))
    series = tuple(
        history.Series("vm", "env", TIME, "1", "time", "numpy@cpu", f"net.w{i}")
        for i in range(len(rows))
    )
    return history.History(commits, np.arange(len(commits)) * 1.0, series, np.exp(rows))


def risen(past):
    return history.drifts(past, past.commits, ("vm", "env"), 0.05)


@pytest.mark.parametrize("kind", ["normal", "heavy tails", "sessions"])
def test_noise_is_seldom_said_to_rise(kind):
    chance, histories, alarms = np.random.default_rng(1), 1000, 0
    for _ in range(histories):
        shape = (18, 20)
        rows = chance.normal(0, 0.03, shape)
        if kind == "heavy tails":
            rows = 0.02 * chance.standard_t(2, shape)
        if kind == "sessions":
            rows = chance.normal(0, 0.05, (1, 20)) + chance.normal(0, 0.005, shape)
        alarms += bool(risen(noisy(rows)))
    print(f"drift, {kind}: {alarms} of {histories} histories of noise")  # noqa: T201
    assert alarms <= 0.01 * histories


@pytest.mark.parametrize(("step", "noise", "least"), [(0.015, 0.004, 100), (0.015, 0.02, 90)])
def test_what_rises_in_small_steps_is_found(step, noise, least):
    chance = np.random.default_rng(2)
    found = 0
    for _ in range(100):
        rows = chance.normal(0, noise, (1, 13)) + step * np.arange(13)
        if drifted := risen(noisy(rows)):
            found += 1
            assert drifted[0].ratio == pytest.approx(math.exp(12 * step), rel=0.1)
    print(f"drift of {step} a commit in noise of {noise}: found in {found} of 100")  # noqa: T201
    assert found >= least


def test_a_step_is_a_step_and_what_falls_is_no_drift():
    step = np.where(np.arange(20) < 10, 0.0, 0.2) + np.random.default_rng(3).normal(0, 0.01, 20)
    assert risen(noisy(step[None, :])) == []
    assert risen(noisy(-0.015 * np.arange(13)[None, :])) == []
    assert risen(noisy(0.015 * np.arange(7)[None, :])) == []


def test_the_trends_p_value_is_scipys():
    for seed in range(5):
        values = np.random.default_rng(seed).normal(0, 1, 40) + 0.02 * np.arange(40)
        exact = stats.kendalltau(np.arange(40), values, alternative="greater").pvalue
        found = history.rises(values)
        assert found == pytest.approx(exact, rel=0.1, abs=1e-3) or found == 1.0
