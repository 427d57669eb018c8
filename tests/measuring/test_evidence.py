"""The file beside asv's: where it lies, what is written, and what of it can be read."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from asv.environment import get_env_name
from asv.results import get_filename

from convbench.measuring import asv_run, evidence
from convbench.results import journal

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CELL = ("bench_pipeline.Smoke.track_time", ["numpy@cpu", "notebook.conv"])


@pytest.fixture
def asv(tmp_path, monkeypatch):
    """A process as asv starts it for a benchmark, by default in an environment that asv has built.

    Call it with the words of the `asv run` above the process.
    """
    for name in ("ASV_COMMIT", "ASV_ENV_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    suites = tmp_path / "project" / "benchmarks"
    suites.mkdir(parents=True)

    def start(*words, mode="run", **variables):
        monkeypatch.setattr(sys, "argv", ["/venv/asv/benchmark.py", mode, str(suites), "name"])
        monkeypatch.setattr(
            asv_run, "_ancestors", lambda: iter([(7, ["asv", "run", *words]), (1, ["sh"])])
        )
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        for cached in (asv_run.location, asv_run.run_of_asv):
            cached.cache_clear()
        evidence._told.clear()
        return suites.parent

    yield start
    asv_run.location.cache_clear()


@pytest.fixture
def built(asv):
    return asv(ASV_COMMIT=COMMIT, ASV_ENV_NAME="virtualenv-py3.11")


def read(path):
    said = journal.read(path)
    return said.notes, said.problems


def test_outside_asv_there_is_none_and_no_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asv_run.location.cache_clear()
    assert asv_run.location() is None
    evidence.write(*CELL, "ok")
    assert list(tmp_path.iterdir()) == []


def test_discovery_leaves_none(asv):
    asv(mode="discover", ASV_COMMIT=COMMIT, ASV_ENV_NAME="virtualenv-py3.11")
    assert asv_run.location() is None


@pytest.mark.parametrize("environment", ["virtualenv-py3.11", "virtualenv-py3.11-" + "numpy" * 40])
def test_it_lies_beside_the_results_under_the_name_that_asv_gives_them(asv, environment):
    project = asv(ASV_COMMIT=COMMIT, ASV_ENV_NAME=environment)
    beside = project / ".asv" / "results" / get_filename(platform.node(), COMMIT, environment)
    path = asv_run.location()
    assert path.parent == project / ".asv" / "evidence" / beside.parent.name
    assert path.stem == beside.stem


def test_in_an_existing_environment_it_follows_the_command_line(asv):
    project = asv("-E", f"existing:{sys.executable}", "--set-commit-hash", "HEAD", "-b", "Smoke")
    git = ["git", "-C", str(project), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "one"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    name = get_env_name("existing", sys.executable.replace(os.path.sep, "_"), {}, {})
    assert asv_run.location().stem == Path(get_filename("any", head.stdout, name)).stem


@pytest.mark.parametrize(
    "words",
    [
        ("-E", "existing"),  # asv measures and saves nothing
        ("-E", "existing", "--set-commit-hash", "no-such-name"),
    ],
)
def test_where_asv_saves_no_result_there_is_no_evidence(asv, words):
    asv(*words)
    assert asv_run.location() is None


@pytest.mark.parametrize("flag", ["-n", "--dry-run"])
def test_a_dry_run_leaves_none(asv, flag):
    asv(flag, ASV_COMMIT=COMMIT, ASV_ENV_NAME="virtualenv-py3.11")
    assert asv_run.location() is None


NODE = platform.node()


@pytest.mark.parametrize(
    ("words", "known", "machine"),
    [
        ((), {}, NODE),
        ((), {"farm": {"machine": "farm"}}, "farm"),
        ((), {NODE: {"machine": "renamed"}, "farm": {"machine": "farm"}}, "renamed"),
        ((), {"a": {"machine": "a"}, "b": {"machine": "b"}}, NODE),
        (("--machine", "a"), {"a": {"machine": "a"}, "b": {"machine": "b"}}, "a"),
        (("-m", "new"), {"a": {"machine": "a"}}, "new"),
        (("--machine=new",), {}, "new"),
    ],
)
def test_the_machine_is_the_one_that_asv_chooses(asv, tmp_path, words, known, machine):
    (tmp_path / ".asv-machine.json").write_text(json.dumps({"version": 1, **known}))
    asv(*words, ASV_COMMIT=COMMIT, ASV_ENV_NAME="virtualenv-py3.11")
    assert asv_run.location().parent.name == machine


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="Linux shows command lines")
def test_command_lines_of_the_processes_above_are_read():
    code = "from convbench.measuring import asv_run; print(*next(asv_run._ancestors())[1])"
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}], check=True)"
    done = subprocess.run(
        [sys.executable, "-c", script, "asv", "run"], check=True, capture_output=True, text=True
    )
    assert done.stdout.split()[-2:] == ["asv", "run"]


def test_what_is_written_is_read(built):
    evidence.write(*CELL, "started")
    evidence.write(*CELL, "failed", reason="no memory", remedy="take less", error="MemoryError")
    notes, problems = read(asv_run.location())
    assert problems == []
    assert [note.status for note in notes] == ["started", "failed"]
    assert (notes[1].benchmark, notes[1].params) == (CELL[0], tuple(CELL[1]))
    said = {"reason": "no memory", "remedy": "take less", "error": "MemoryError"}
    assert said.items() <= notes[1].facts.items()
    assert notes[0].time_s <= notes[1].time_s


def test_a_process_says_once_what_it_is_and_how_the_machine_is_before_and_after(built):
    for _ in range(2):
        evidence.write(*CELL, "started")
        evidence.write(*CELL, "ok", versions={"numpy": "2.1"})
    said = journal.read(asv_run.location())
    (process,) = said.processes.values()
    assert {"launch", "machine", "before", "after", "versions"} <= set(process)
    assert {note.process for note in said.notes} == set(said.processes)
    assert all(note.facts["versions"] == {"numpy": "2.1"} for note in said.notes[1:])
    text = asv_run.location().read_text()
    assert text.count('"versions"') == text.count('"machine"') == 1


def test_all_processes_of_one_asv_are_one_run(built):
    evidence.write(*CELL, "ok")
    assert journal.read(asv_run.location()).notes[0].run == asv_run.run_of_asv()
    assert asv_run.run_of_asv().startswith("asv-7-")


def test_a_place_that_was_given_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(evidence, "_place", None)  # and put back afterwards
    place = evidence.Place(tmp_path / "a" / "b.jsonl", "run", 3, "fork")
    evidence.use(place)
    evidence.write(*CELL, "ok", samples_s=[1.0])
    evidence.finish()
    said = journal.read(place.path)
    (note,) = said.notes
    assert (note.run, note.round, note.facts["launch"]) == ("run", 3, "fork")
    assert "after" in said.processes[note.process]


def test_runs_are_told_apart_and_their_last_word_counts(tmp_path):
    path = tmp_path / "e.jsonl"
    journal.append(path, "run", run="a", state="begun", commit="c")
    journal.append(path, "run", run="b", state="begun", commit="c")
    journal.append(path, "run", run="a", state="finished")
    runs = journal.read(path).runs
    assert {name: run["state"] for name, run in runs.items()} == {"a": "finished", "b": "begun"}
    assert runs["a"]["commit"] == "c"


def test_every_line_names_its_schema(built):
    evidence.write(*CELL, "ok")
    lines = asv_run.location().read_text().split()
    entries = [json.loads(line) for line in asv_run.location().read_text().splitlines() if line]
    assert lines
    assert {entry["schema"] for entry in entries} == {journal.SCHEMA}


def test_facts_that_are_not_json_are_written_as_text(built):
    evidence.write(*CELL, "ok", versions={"library": ValueError("1.0")})
    (note,), _ = read(asv_run.location())
    assert note.facts["versions"] == {"library": "1.0"}


def write_many(path, count):
    evidence.location = lambda: path
    for _ in range(count):
        evidence.write(*CELL, "ok", filler="x" * 5000)


def test_two_runs_can_meet(tmp_path):
    path = tmp_path / "evidence.jsonl"
    context = multiprocessing.get_context("spawn")
    runs = [context.Process(target=write_many, args=(path, 100)) for _ in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    notes, problems = read(path)
    assert (len(notes), problems) == (200, [])


def line(**changes):
    entry = {"schema": 1, "time_s": 1.0, "benchmark": "b", "params": ["p"], "status": "ok"}
    return json.dumps({k: v for k, v in (entry | changes).items() if v is not None})


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ('{"schema": 1, "time_s', "Unterminated string"),
        ("[1, 2]", "not an object"),
        ("\x00\xff", "Expecting value"),
        (line(schema=3), "its schema is 3 and this version reads 1 and 2"),
        (line(schema=2), "its kind is None, none of run, process, cell"),
        (line(schema=None), "it has no 'schema'"),
        (line(benchmark=None), "it has no 'benchmark'"),
        (line(params=None), "it has no 'params'"),
        (line(params=3), "not iterable"),
        (line(time_s="now"), "could not convert"),
        (line(status="great"), "its status is 'great'"),
    ],
)
def test_a_line_that_cannot_be_read_is_reported_and_skipped(tmp_path, bad, why):
    path = tmp_path / "evidence.jsonl"
    path.write_text("\n".join([line(), bad, line(status="failed")]))
    notes, problems = read(path)
    assert [note.status for note in notes] == ["ok", "failed"]
    assert len(problems) == 1
    assert str(path) in problems[0]
    assert "line 2" in problems[0]
    assert why in problems[0]


def test_a_torn_line_costs_only_itself(built):
    evidence.write(*CELL, "started")
    path = asv_run.location()
    with path.open("a") as file:
        file.write('\n{"schema": 1, "benchm')
    evidence.write(*CELL, "ok")
    notes, problems = read(path)
    assert [note.status for note in notes] == ["started", "ok"]
    assert len(problems) == 1


def test_bytes_that_are_not_text_are_a_problem(tmp_path):
    path = tmp_path / "evidence.jsonl"
    path.write_bytes(line().encode() + b"\n\xff\xfe\n")
    notes, problems = read(path)
    assert (len(notes), len(problems)) == (1, 1)


def test_a_file_that_is_not_there_is_no_problem(tmp_path):
    assert journal.read(tmp_path / "none.jsonl") == journal.Journal(tmp_path / "none.jsonl")


def test_a_file_that_cannot_be_opened_is_one(tmp_path):
    notes, problems = read(tmp_path)
    assert notes == []
    assert "cannot be read" in problems[0]


def test_a_disk_that_cannot_be_written_to_costs_no_measurement(built):
    (built / ".asv").write_text("a file where a folder should be")
    with pytest.warns(RuntimeWarning, match="no evidence could be written"):
        evidence.write(*CELL, "ok")
