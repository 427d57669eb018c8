"""How far sessions lie apart, from repeated runs of one commit."""

import json
import math

import numpy as np
import pytest

from convbench.results.folder import Folder
from convbench.results.sessions import spread

TIME = "bench_pipeline.Smoke.track_time"


def store(results, commit, runs, machine="vm", environment="env", **facts):
    """Runs of a commit: for each, by workload, the medians of its processes."""
    lines = []
    for number, cells in enumerate(runs):
        run = f"{commit}{number}"
        told = {"state": "finished", "clean": True, "environment": environment, **facts}
        lines.append({"kind": "run", "run": run, "time_s": float(number), **told})
        for workload, medians in cells.items():
            for round_, median in enumerate(medians, start=1):
                lines.append(
                    {
                        "kind": "cell", "run": run, "process": f"{run}-{round_}", "round": round_,
                        "time_s": float(number), "benchmark": TIME,
                        "params": ["numpy@cpu", workload], "status": "ok", "version": "1",
                        "method": "hot", "samples_s": [median], "number": 1,
                    }
                )  # fmt: skip
    path = Folder(results).evidence / machine / f"{commit}-{environment}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"schema": 2, **line}) + "\n" for line in lines))


@pytest.fixture
def results(tmp_path):
    (tmp_path / "results").mkdir()
    return tmp_path / "results"


def drawn(chance, between, within, cells=9, processes=5):
    shift = chance.normal(0, between)
    return {
        f"a.w{i}": np.exp(shift + chance.normal(0, within, processes)).tolist()
        for i in range(cells)
    }


def test_two_sessions_by_hand(results):
    store(results, "a" * 8, [{"a.b": [1.0, 1.1]}, {"a.b": [1.3, 1.4]}])
    logs = [np.log([1.0, 1.1]), np.log([1.3, 1.4])]
    means = [log.mean() for log in logs]
    expected = np.var(means, ddof=1) - np.mean([log.var(ddof=1) / 2 for log in logs])
    found = spread(Folder(results), "vm", "env")
    assert found.variance == pytest.approx(expected)
    assert (found.freedom, found.commits) == (1, 1)


@pytest.mark.parametrize("between", [0.0, 0.01, 0.05])
def test_it_finds_what_was_drawn(results, between):
    chance = np.random.default_rng(1)
    for i in range(15):
        store(results, f"{i:08x}", [drawn(chance, between, 0.02) for _ in range(8)])
    found = spread(Folder(results), "vm", "env")
    assert found.deviation == pytest.approx(between, abs=0.002 + 0.15 * between)
    assert (found.freedom, found.commits) == (15 * 7, 15)


def test_one_session_a_commit_tells_nothing(results):
    chance = np.random.default_rng(2)
    for i in range(5):
        store(results, f"{i:08x}", [drawn(chance, 0.1, 0.02)])
    assert spread(Folder(results), "vm", "env") is None


@pytest.mark.parametrize(
    "facts", [{"clean": False}, {"state": "begun"}, {"environment": "another"}]
)
def test_what_is_not_the_same_does_not_count(results, facts):
    chance = np.random.default_rng(3)
    store(results, "a" * 8, [drawn(chance, 0.1, 0.02) for _ in range(3)], **facts)
    assert spread(Folder(results), "vm", "env") is None


def test_another_machine_does_not_count(results):
    chance = np.random.default_rng(4)
    store(results, "a" * 8, [drawn(chance, 0.1, 0.02) for _ in range(3)], machine="other")
    assert spread(Folder(results), "vm", "env") is None


def test_only_the_newest_files_are_read(results):
    chance = np.random.default_rng(5)
    for i in range(4):
        store(results, f"{i:08x}", [drawn(chance, 0.05, 0.01) for _ in range(3)])
    assert spread(Folder(results), "vm", "env", newest=2).commits == 2


@pytest.mark.parametrize("samples", [["x"], [math.inf], [0.0], "abc", None, [-1.0]])
def test_what_cannot_be_read_is_passed_over(results, samples):
    store(results, "a" * 8, [{"a.b": [1.0, 1.1]}, {"a.b": [1.3, 1.4]}])
    (path,) = Folder(results).evidence.glob("*/*.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[-1]["samples_s"] = samples
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert spread(Folder(results), "vm", "env") is None
