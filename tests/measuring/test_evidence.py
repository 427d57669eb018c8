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
    """A process as asv starts it for a benchmark; call it with what asv has told it."""
    for name in ("ASV_COMMIT", "ASV_ENV_NAME", asv_run.VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    suites = tmp_path / "project" / "benchmarks"
    suites.mkdir(parents=True)

    def start(asked=None, mode="run", **variables):
        monkeypatch.setattr(sys, "argv", ["/venv/asv/benchmark.py", mode, str(suites), "name"])
        if asked is not None:
            variables[asv_run.VARIABLE] = json.dumps(asked)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return suites.parent

    return start


BUILT = {"ASV_COMMIT": COMMIT, "ASV_ENV_NAME": "virtualenv-py3.11"}


@pytest.fixture
def told(tmp_path):
    """What asv tells where it saves to `measured/results` of the project."""
    results = tmp_path / "project" / "measured" / "results"
    return {"run": "asv-7-1", "machine": "farm", "commit": None, "results_dir": str(results)}


@pytest.fixture
def writer(tmp_path):
    """As one of asv's processes."""
    path = tmp_path / "evidence" / "farm" / "e.jsonl"
    return evidence.Writer(evidence.Place(path, "asv-7-1", launch="run"))


def read(path):
    said = journal.read(path)
    return said.notes, said.problems


def test_outside_asv_there_is_none_and_no_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evidence, "_writer", None)  # and put back afterwards
    assert asv_run.location() is None
    evidence.write(*CELL, "ok")
    assert list(tmp_path.iterdir()) == []


def test_discovery_leaves_none(asv, told):
    asv(told, mode="discover", **BUILT)
    assert asv_run.location() is None


@pytest.mark.parametrize("environment", ["virtualenv-py3.11", "virtualenv-py3.11-" + "numpy" * 40])
def test_it_lies_beside_the_results_under_the_name_that_asv_gives_them(asv, told, environment):
    project = asv(told, ASV_COMMIT=COMMIT, ASV_ENV_NAME=environment)
    path, run = asv_run.location()
    assert path.parent == project / "measured" / "evidence" / "farm"
    assert path.stem == Path(get_filename("farm", COMMIT, environment)).stem
    assert run == "asv-7-1"


def test_in_an_existing_environment_it_is_the_commit_that_asv_was_told(asv, told):
    asv({**told, "commit": COMMIT})
    name = get_env_name("existing", sys.executable.replace(os.path.sep, "_"), {}, {})
    assert asv_run.location()[0].stem == Path(get_filename("any", COMMIT, name)).stem


def test_where_asv_saves_no_result_there_is_no_evidence(asv, told):
    asv(told)  # an existing environment without --set-commit-hash
    assert asv_run.location() is None
    asv({**told, "results_dir": None}, **BUILT)
    assert asv_run.location() is None


def test_without_the_plug_in_there_is_no_evidence(asv):
    asv(**BUILT)
    assert asv_run.location() is None


def test_what_a_later_version_tells_is_read(asv, told):
    asv({**told, "new": 1}, **BUILT)
    assert asv_run.location()[1] == "asv-7-1"


# -- What asv tells -------------------------------------------------------------------------------

NODE = platform.node()


@pytest.fixture
def tell(tmp_path, monkeypatch):
    """What `asv WORDS` tells those that it starts."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(asv_run.VARIABLE, "")  # and put back afterwards
    configuration = {"version": 1, "repo": ".", "results_dir": "measured/results"}
    (tmp_path / "asv.conf.json").write_text(json.dumps(configuration))
    monkeypatch.chdir(tmp_path)

    def told(*words):
        monkeypatch.setattr(sys, "argv", ["/venv/bin/asv", *words])
        asv_run.tell()
        return json.loads(os.environ[asv_run.VARIABLE])

    return told


@pytest.mark.parametrize(
    ("words", "known", "machine"),
    [
        ((), {}, NODE),
        ((), {"farm": {"machine": "farm"}}, "farm"),
        ((), {NODE: {"machine": "renamed"}, "farm": {"machine": "farm"}}, "renamed"),
        ((), {"a": {"machine": "a"}, "b": {"machine": "b"}}, NODE),
        (("--machine", "a"), {"a": {"machine": "a"}, "b": {"machine": "b"}}, "a"),
        (("-m", "new"), {"a": {"machine": "a"}}, "new"),
        (("--mach=new",), {}, "new"),
    ],
)
def test_the_machine_is_the_one_that_asv_chooses(tell, tmp_path, words, known, machine):
    (tmp_path / ".asv-machine.json").write_text(json.dumps({"version": 1, **known}))
    assert tell("run", *words)["machine"] == machine


@pytest.mark.parametrize(
    ("words", "saves"),
    [
        (("run",), True),
        (("run", "-E", "existing", "-b", "Smoke", "--quick"), True),
        (("continuous", "HEAD"), True),
        (("run", "-n"), False),
        (("run", "-qn"), False),
        (("run", "--dry-run"), False),
        (("find", "HEAD~1..HEAD", "b"), False),
        (("publish",), False),
        ((), False),
    ],
)
def test_where_it_saves_is_told_by_its_configuration(tell, tmp_path, words, saves):
    results = str(tmp_path / "measured" / "results") if saves else None
    assert tell(*words)["results_dir"] == results


def test_another_configuration_is_another_folder(tell, tmp_path):
    other = {"version": 1, "repo": ".", "results_dir": "others"}
    (tmp_path / "other.json").write_text(json.dumps(other))
    told = tell("run", "--config", "other.json")
    assert told["results_dir"] == str(tmp_path / "others")


def test_a_name_of_a_commit_is_resolved_where_asv_runs(tell, tmp_path):
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "one"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    assert tell("run", "--set-commit-hash", "HEAD")["commit"] == head.stdout.strip()
    assert tell("run", "--set-commit-hash", "a" * 40)["commit"] == "a" * 40
    assert tell("run")["commit"] is None


# -- What is written ------------------------------------------------------------------------------


def test_what_is_written_is_read(writer):
    writer.write(*CELL, "started")
    writer.write(*CELL, "failed", reason="no memory", remedy="take less", error="MemoryError")
    notes, problems = read(writer.place.path)
    assert problems == []
    assert [note.status for note in notes] == ["started", "failed"]
    assert (notes[1].benchmark, notes[1].params) == (CELL[0], tuple(CELL[1]))
    said = {"reason": "no memory", "remedy": "take less", "error": "MemoryError"}
    assert said.items() <= notes[1].facts.items()
    assert notes[0].time_s <= notes[1].time_s


def test_a_process_says_once_what_it_is_and_how_the_machine_is_before_and_after(writer):
    for _ in range(2):
        writer.write(*CELL, "started")
        writer.write(*CELL, "ok", versions={"numpy": "2.1"})
    said = journal.read(writer.place.path)
    (process,) = said.processes.values()
    assert {"launch", "machine", "before", "after", "versions"} <= set(process)
    assert {note.process for note in said.notes} == set(said.processes)
    assert all(note.facts["versions"] == {"numpy": "2.1"} for note in said.notes[1:])
    text = writer.place.path.read_text()
    assert text.count('"versions"') == text.count('"machine"') == 1


def test_a_process_of_asvs_writes_where_asv_saves_and_a_fork_of_it_is_another(
    asv, told, monkeypatch
):
    monkeypatch.setattr(evidence, "_writer", None)  # and put back afterwards
    asv(told, **BUILT)
    evidence.write(*CELL, "ok")
    monkeypatch.setattr(evidence._writer, "pid", 0)
    evidence.write(*CELL, "ok")
    said = journal.read(asv_run.location()[0])
    assert {note.run for note in said.notes} == {"asv-7-1"}
    assert len({note.process for note in said.notes}) == len(said.processes) == 2
    assert {process["launch"] for process in said.processes.values()} == {"run"}


def test_a_place_that_was_given_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(evidence, "_writer", None)  # and put back afterwards
    place = evidence.Place(tmp_path / "a" / "b.jsonl", "run", 3, "fork")
    writer = evidence.Writer(place)
    evidence.use(writer)
    evidence.write(*CELL, "ok", samples_s=[1.0])
    writer.finish()
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


def test_every_line_names_its_schema(writer):
    writer.write(*CELL, "ok")
    lines = writer.place.path.read_text().split()
    entries = [json.loads(line) for line in writer.place.path.read_text().splitlines() if line]
    assert lines
    assert {entry["schema"] for entry in entries} == {journal.SCHEMA}


def test_facts_that_are_not_json_are_written_as_text(writer):
    writer.write(*CELL, "ok", versions={"library": ValueError("1.0")})
    (note,), _ = read(writer.place.path)
    assert note.facts["versions"] == {"library": "1.0"}


def write_many(path, count):
    writer = evidence.Writer(evidence.Place(path, "run"))
    for _ in range(count):
        writer.write(*CELL, "ok", filler="x" * 5000)


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
        (line(params=3), "params is not a list"),
        (line(time_s="now"), "which is no number"),
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


def test_a_torn_line_costs_only_itself(writer):
    writer.write(*CELL, "started")
    path = writer.place.path
    with path.open("a") as file:
        file.write('\n{"schema": 1, "benchm')
    writer.write(*CELL, "ok")
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
    assert "it is no file" in problems[0]


def test_a_disk_that_cannot_be_written_to_costs_no_measurement(writer):
    writer.place.path.parents[1].write_text("a file where a folder should be")
    with pytest.warns(RuntimeWarning, match="no evidence could be written"):
        writer.write(*CELL, "ok")


def test_where_there_is_no_lock_it_is_written_and_read_without(tmp_path):
    code = (
        "import sys; sys.modules['fcntl'] = None; from pathlib import Path;"
        "from convbench.results import journal; path = Path(sys.argv[1]);"
        "journal.append(path, 'run', run='a', state='begun');"
        "sys.exit(list(journal.read(path).runs) != ['a'])"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "e.jsonl"], check=False)
    assert done.returncode == 0
