"""Which results a report is of, what it exits with, and what it does with files of any kind."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from convbench.cli import main
from convbench.comparing.comparison import Rule
from convbench.errors import InputError
from convbench.report import backends
from convbench.report.data import Request, gather
from convbench.results import folder
from convbench.words.status import Status

from ..gates import gated_cell, store_gate
from ..records import BASE, HEAD, checked, record, timed
from ..results.test_records import ACCURACY, NAN, TIME, Project
from .factories import make

OLD, MIDDLE, NEW = "a" * 40, "b" * 40, "c" * 40


@pytest.fixture
def project(tmp_path):
    """Three commits of which each was measured, made in the order of their letters."""
    project = Project(tmp_path)
    for days, commit in enumerate((OLD, MIDDLE, NEW)):
        add(project, commit, days)
    return project


def add(project, commit, days=0, machine="here", environment="env", time=0.1, error=0.5):
    project.add(TIME, [time, NAN, NAN, NAN], commit=commit, machine=machine)
    project.add(ACCURACY, [error, NAN, NAN, NAN], commit=commit, machine=machine)
    path = project.results_dir / machine / f"{commit[:8]}-env.json"
    content = json.loads(path.read_text())
    content |= {"date": 1.7e12 + 86_400_000 * days, "env_name": environment}
    path.unlink()
    path.with_name(f"{commit[:8]}-{environment}.json").write_text(json.dumps(content))


def collect(project, *coordinates, git=None, ancestors=None, **options):
    head, base = [*coordinates, None, None][:2]
    request = Request(project.results_dir, head, base, here="here", **options)
    known = {OLD: (), MIDDLE: (OLD,), NEW: (MIDDLE, OLD)} | (ancestors or {})
    return gather(request, (git or {}).get, known.get)


# -- Which results ---------------------------------------------------------------------------------


def test_by_default_it_is_the_newest_commit_against_the_one_before(project):
    data = collect(project)
    assert (data.head.commit, data.comparison.base.commit) == (NEW, MIDDLE)
    assert data.remarks == data.problems == ()


def test_gits_head_comes_before_the_newest_if_it_was_measured(project):
    data = collect(project, git={"HEAD": MIDDLE})
    assert (data.head.commit, data.comparison.base.commit) == (MIDDLE, OLD)
    unmeasured = collect(project, git={"HEAD": "d" * 40})
    assert (unmeasured.head.commit, unmeasured.unmeasured, unmeasured.exit_code()) == (
        NEW, "d" * 40, 3,
    )  # fmt: skip


def test_the_sides_can_be_named(project):
    data = collect(project, "cccc", "HEAD~2", git={"HEAD~2": OLD})
    assert (data.head.commit, data.comparison.base.commit) == (NEW, OLD)


def test_gates_of_head_and_base_count_and_those_that_are_damaged_are_named(project):
    sides = {"machine": "here", "base": MIDDLE, "head": NEW}
    store_gate(project.results_dir, gated_cell(1.5), **sides)
    path = store_gate(project.results_dir, schema="another", **sides)
    data = collect(project)
    (cell,) = data.comparison.cells
    assert (cell.pairs, cell.verdict) == (12, "regressed")
    (problem,) = data.problems
    assert problem.startswith(f"{path}: left out, because its schema is 'another'")
    assert collect(project, OLD).problems == ()


def test_the_first_commit_has_no_base_and_that_is_said(project):
    data = collect(project, OLD)
    assert (data.comparison, data.exit_code()) == (None, 3)
    assert data.outcome().startswith("NOTHING TO COMPARE WITH: 1 ok")
    (remark,) = data.remarks
    assert remark.startswith(f"None of the 0 commits that {OLD[:8]} was made from was measured on")


def test_the_base_is_of_the_same_machine_and_environment(project):
    add(project, "d" * 40, 1, machine="there")
    add(project, "e" * 40, 2, environment="other")
    data = collect(project, NEW)
    assert data.comparison.base.commit == MIDDLE
    for commit in ("d" * 40, "e" * 40):
        data = collect(project, commit, ancestors={commit: (MIDDLE, OLD)})
        assert (data.comparison, data.exit_code()) == (None, 3)


def test_of_several_places_it_is_this_machine_and_the_others_are_named(project):
    add(project, NEW, 2, machine="another")
    data = collect(project, NEW)
    assert data.head.machine == "here"
    assert data.remarks == ("This commit was also measured in env on another.",)
    assert collect(project, f"{NEW}::another").head.machine == "another"


def test_a_place_that_has_no_results_of_it_is_refused_with_those_that_have(project):
    with pytest.raises(InputError, match=r"'cccc::moon'.*one of cccc.*:env:here"):
        collect(project, "cccc::moon")


def test_a_revision_that_nobody_knows_is_refused(project):
    with pytest.raises(InputError, match=r"^report: .*unknown to git"):
        collect(project, "nonsense")


@pytest.mark.parametrize("coordinates", [(NEW, "d" * 40), ("d" * 40, OLD)])
def test_a_side_that_was_not_measured_leaves_the_other(project, coordinates):
    data = collect(project, *coordinates, git={"d" * 40: "d" * 40})
    assert bool(data.head.records) == (coordinates[0] == NEW)
    assert data.exit_code() == 3


def test_without_any_results_there_is_a_report_of_nothing(tmp_path):
    data = collect(Project(tmp_path))
    assert (data.exit_code(), data.head.records, data.targets) == (3, (), ())
    assert "NOTHING MEASURED" in data.outcome()


def test_a_run_that_goes_on_is_reported_from_its_evidence(tmp_path):
    project = Project(tmp_path)
    project.line(kind="run", run="r", state="begun", commit="0123456789" * 4, environment="env")
    project.measured(TIME, ["numpy@cpu", "net.conv"], 1, [0.1, 0.2], version="1")
    data = collect(project)
    assert (len(data.head.records), data.exit_code()) == (1, 3)


def test_what_cannot_be_read_is_a_problem_once(project):
    (project.results_dir / "here" / f"{NEW[:8]}-env.json").write_text("{")
    (project.results_dir / "here" / "machine.json").write_text("[]")
    data = collect(project)
    assert data.head.commit == MIDDLE
    assert len(data.problems) == len(set(data.problems)) == 2


def test_each_file_is_opened_once_or_if_compared_twice(project, monkeypatch):
    read, opened = folder.content, []
    monkeypatch.setattr(folder, "content", lambda path: opened.append(path) or read(path))
    collect(project)
    results = [path.name for path in opened if path.suffix == ".json"]
    assert sorted(results) == [f"{c * 8}-env.json" for c in "abbcc"]


# -- The baseline ----------------------------------------------------------------------------------


def test_the_baseline_is_numpys_or_the_one_that_is_asked_for(tmp_path):
    project = Project(tmp_path)
    project.add(TIME, [0.1, 0.1, 0.1, NAN])
    assert collect(project).baseline == "numpy@cpu"
    assert collect(project, baseline="cupy@gpu:0").baseline == "cupy@gpu:0"
    with pytest.raises(InputError, match=r"'numpie@cpu'.*one of numpy@cpu, cupy@gpu:0"):
        collect(project, baseline="numpie@cpu")


def test_without_numpy_it_is_whichever_computed_most(tmp_path):
    project = Project(tmp_path)
    project.add(TIME, [NAN, NAN, 0.1, NAN])
    assert collect(project).baseline == "cupy@gpu:0"


# -- Git -------------------------------------------------------------------------------------------


def test_messages_come_from_git_and_options_do_not_go_there(project, tmp_path, monkeypatch):
    repository = tmp_path / "repository"
    git = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "init", "--quiet", str(repository)], check=True)
    message = "Go faster\n\nMuch."
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", message], check=True)
    done = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    commit = done.stdout.strip()
    add(project, commit, 5)
    add(project, "--output=evil", 3)
    monkeypatch.chdir(repository)
    data = collect(project, commit)
    assert data.subjects[commit] == "Go faster"
    assert NEW not in data.subjects
    assert [path.name for path in repository.iterdir()] == [".git"]


def test_without_git_commits_have_no_messages(project, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert collect(project).subjects == {}


# -- Exit codes ------------------------------------------------------------------------------------

FAILED = {"status": Status.FAILED, "value": None, "reason": "no memory"}
SKIPPED = {"status": Status.SKIPPED, "value": None, "reason": "no device"}


@pytest.mark.parametrize(
    ("head", "base", "code"),
    [
        ([], [], 3),
        ([timed(HEAD)], [], 3),
        ([checked(HEAD, error=2.0)], [], 2),
        ([timed(HEAD), record(HEAD, target="t@cpu", **FAILED)], [], 2),
        ([record(HEAD, **FAILED)], [], 3),
        ([record(HEAD, **SKIPPED)], [], 3),
        ([timed(HEAD)], [timed(BASE)], 0),
        ([timed(HEAD, 2e-3)], [timed(BASE)], 1),
        ([record(HEAD, **FAILED)], [timed(BASE)], 2),
        ([timed(HEAD, workload="new")], [timed(BASE)], 3),
    ],
)
def test_exit_codes(head, base, code):
    data = make(*head, base=base)
    assert data.exit_code() == code
    assert data.outcome()


# -- The command -----------------------------------------------------------------------------------


def report(project, *words):
    return main.main(
        ["report", "--results-dir", str(project.results_dir), "--output",
         str(project.results_dir.parent / "new" / "report.html"), *words]
    )  # fmt: skip


def test_the_command_writes_the_page_and_says_so(project, capsys):
    assert report(project, NEW, "--base", MIDDLE) == 0
    path = project.results_dir.parent / "new" / "report.html"
    assert path.read_text("utf-8").startswith("<!doctype html>")
    said = capsys.readouterr().out
    assert f"wrote {path}" in said
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_json_says_what_was_written_and_why_the_exit_code(project, capsys):
    add(project, NEW, 2, error=9.0)
    charts = project.results_dir.parent / "charts"
    assert (
        report(project, NEW, "--base", MIDDLE, "--json", "--charts", str(charts), "--delta", "3")
        == 2
    )
    said = json.loads(capsys.readouterr().out)
    assert said["schema"] == "convbench.report/1"
    assert said["reason"].startswith("WRONG: 1 wrong")
    assert (said["exit_code"], said["head"]["commit"], said["base"]["commit"]) == (2, NEW, MIDDLE)
    names = ["correctness.png", "correctness.svg", "history-1.png", "history-1.svg"]
    assert sorted(path.name for path in charts.iterdir()) == names
    assert sorted(said["charts"]) == [str(charts / name) for name in names]
    assert (charts / "correctness.svg").read_text("utf-8").startswith("<svg")


def test_one_chart_can_be_asked_for(project, capsys):
    assert report(project, NEW, "--base", MIDDLE, "--format", "svg:correctness") == 0
    assert (
        (project.results_dir.parent / "new" / "report.html").read_text("utf-8").startswith("<svg")
    )
    assert report(project, NEW, "--base", MIDDLE, "--format", "png:nothing") == 4
    assert "correctness, history-1" in capsys.readouterr().err


def test_commits_lead_to_where_they_can_be_read(project):
    assert report(project, NEW, "--base", MIDDLE, "--commit-url", "https://example.org/?c=") == 0
    text = (project.results_dir.parent / "new" / "report.html").read_text("utf-8")
    assert f'<a href="https://example.org/?c={NEW}" rel="noreferrer">' in text


def test_nothing_measured_is_written_and_exits_with_3(tmp_path, capsys):
    assert report(Project(tmp_path)) == 3
    assert "NOTHING MEASURED" in (tmp_path / "new" / "report.html").read_text("utf-8")


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"], ["--base", "nonsense"], ["--baseline", "numpie@cpu"], ["x:y:z"],
        ["--format", "pdf"], ["--format", "svg:"], ["--format", "svg:../correctness"],
        ["--commit-url", "javascript:alert(1)//"], ["--commit-url", "https://a b/"],
    ],
)  # fmt: skip
def test_bad_input_exits_with_4_and_writes_nothing(project, words, capsys):
    assert report(project, *words) == 4
    assert capsys.readouterr().err.startswith("convbench: ")
    assert not (project.results_dir.parent / "new").exists()


def test_without_the_libraries_that_draw_the_remedy_is_named(project, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "convbench.report.page", None)
    monkeypatch.delattr("convbench.report.page", raising=False)
    assert report(project) == 4
    assert "pip install 'convbench[report]'" in capsys.readouterr().err


def test_delta_is_the_rules(project):
    assert collect(project, rule=Rule(delta=0.03)).comparison.rule.delta == 0.03


def test_a_speed_up_is_the_ratio_of_the_times_beside_it(tmp_path):
    project = Project(tmp_path)
    project.line(kind="run", run="r", state="begun", commit="0123456789" * 4, environment="env")
    # The median of all samples of the one is 1 s, of the other 2 s; that of the processes is not.
    for target, processes in (
        ("numpy@cpu", ([1.0], [1.0], [4.0])),
        ("tensorflow@cpu", ([2.0], [2.0, 2.0, 2.0], [0.5])),
    ):
        for number, samples in enumerate(processes, start=1):
            project.measured(TIME, [target, "net.conv"], number, samples)
    data = collect(project)
    (shown,) = list(backends.parts(data))[-1].rows
    _, _, speed_up, *_, time, baseline = (str(cell) for cell in shown)
    seconds = [float(text.removesuffix(" s")) for text in (time, baseline)]
    assert float(speed_up.removesuffix("x")) == pytest.approx(seconds[1] / seconds[0], rel=0.01)
    assert [row.time_s for row in data.rows] == pytest.approx([4 ** (1 / 3), 2 ** (1 / 3)])
