"""What people who run regression gates have met, each as a repository with the right answer.

The situations are those of public reports on asv, conbench, nvbench and runners of CI.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convbench.cli.main import main
from convbench.comparing.suspicion import excuses
from convbench.results.machines import fingerprint, of_asv
from convbench.results.sessions import Health

from .repositories import MACHINE, Repository


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Repository(tmp_path)


def run(capsys, *words):
    """The exit code of a command, and its JSON."""
    code = main([*words, "--json"])
    said = json.loads(capsys.readouterr().out)
    assert said["exit_code"] == code
    return code, said


def first_line(capsys, *words):
    code = main([*words])
    return code, capsys.readouterr().out.splitlines()[0]


# -- Which base ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("branched", "head", "code"), [(1.30, 1.25, 1), (0.80, 1.00, 0)])
def test_a_branch_that_was_never_merged_is_no_base(repository, capsys, branched, head, code):
    """asv issues 429, 514 and 984: measured in this order, and the newest date is the branch's."""
    on_main = repository.commit()
    repository.git("checkout", "--quiet", "-b", "feature")
    feature = repository.commit()
    repository.git("checkout", "--quiet", "main")
    last = repository.commit()
    for commit, factor in ((on_main, 1.0), (feature, branched), (last, head)):
        repository.measure(commit, factor, cells={"net.conv0": 1.0})
    found, said = run(capsys, "report", "--suspects", "fail")
    assert (found, said["base"]["commit"], said["head"]["commit"]) == (code, on_main, last)
    assert run(capsys, "compare", "HEAD~1", "HEAD", "--suspects", "fail")[0] == code


def test_a_commit_that_was_force_pushed_away_is_no_base(repository, capsys):
    root = repository.commit()
    gone = repository.commit()
    repository.git("reset", "--quiet", "--hard", root)
    head = repository.commit("again")
    for commit in (root, gone, head):
        repository.measure(commit)
    code, said = run(capsys, "report")
    assert (code, said["base"]["commit"]) == (0, root)


def test_what_a_merge_has_brought_in_is_part_of_what_it_has_changed(repository, capsys):
    """The own line comes first: against the branch's tip, nothing would seem to have happened."""
    root = repository.commit()
    repository.git("checkout", "--quiet", "-b", "feature")
    feature = repository.commit()
    repository.git("checkout", "--quiet", "main")
    repository.commit()
    repository.git("merge", "--quiet", "--no-ff", "-m", "merge", "feature")
    merge = repository.git("rev-parse", "HEAD")
    for commit, factor in ((root, 1.0), (feature, 1.2), (merge, 1.2)):
        repository.measure(commit, factor, cells={"net.conv0": 1.0})
    code, said = run(capsys, "report", "--suspects", "fail")
    assert (code, said["base"]["commit"]) == (1, root)


def test_the_nearest_of_another_line_is_the_base_where_the_own_has_none(repository, capsys):
    repository.commit()
    repository.git("checkout", "--quiet", "-b", "feature")
    older, newer = repository.commit(), repository.commit()
    repository.git("checkout", "--quiet", "main")
    repository.git("merge", "--quiet", "--no-ff", "-m", "merge", "feature")
    for commit in (older, newer, repository.git("rev-parse", "HEAD")):
        repository.measure(commit)
    code, said = run(capsys, "report")
    assert (code, said["base"]["commit"]) == (0, newer)


def test_where_no_ancestor_was_measured_that_is_said_and_not_green(repository, capsys):
    repository.commit()
    repository.measure(repository.commit())
    code, said = run(capsys, "report")
    assert (code, said["base"]) == (3, None)
    assert said["reason"].startswith("NOTHING TO COMPARE WITH")
    assert any("None of the 1 commit that" in remark for remark in said["remarks"])
    code, line = first_line(capsys, "report")
    assert (code, line.startswith("NOTHING TO COMPARE WITH")) == (3, True)


def test_a_shallow_clone_is_told_how_to_get_the_rest(repository, capsys, tmp_path, monkeypatch):
    repository.measure(repository.commit())
    head = repository.commit()
    repository.measure(head)
    clone = tmp_path / "clone"
    repository.git("clone", "--quiet", "--depth", "1", f"file://{tmp_path}", str(clone))
    monkeypatch.chdir(clone)
    code, said = run(capsys, "report", "--results-dir", str(repository.results))
    assert (code, said["head"]["commit"]) == (3, head)
    assert any("git fetch --unshallow" in remark for remark in said["remarks"])


def test_results_from_elsewhere_are_reported_and_have_no_base(repository, capsys, monkeypatch):
    for _ in range(2):
        repository.measure(repository.commit())
    monkeypatch.chdir("/")
    page = repository.folder / "page.html"
    words = ("report", "--results-dir", str(repository.results), "--output", str(page))
    code, said = run(capsys, *words)
    assert (code, said["unmeasured"]) == (3, "")
    assert page.read_text("utf-8").startswith("<!doctype html>")
    (remark,) = said["remarks"]
    assert remark.startswith("git does not know here what")
    base, head = repository.git("rev-parse", "HEAD~1", "HEAD").split()
    code, said = run(capsys, *words, head, "--base", base)
    assert (code, said["base"]["commit"]) == (0, base)


# -- HEAD that was not measured --------------------------------------------------------------------


def test_a_head_that_was_not_measured_is_the_first_line_of_every_command(repository, capsys):
    measured = [repository.commit() for _ in range(2)]
    for commit in measured:
        repository.measure(commit)
    repository.git("checkout", "--quiet", "-b", "feature")
    newest = repository.commit()
    repository.measure(newest)
    repository.git("checkout", "--quiet", "main")
    head = repository.commit()
    for words in (["report"], ["results"]):
        code, line = first_line(capsys, *words)
        assert (code, line.partition(";")[0]) == (
            3,
            f"HEAD WAS NOT MEASURED: nothing of {head[:8]}",
        )
    code, said = run(capsys, "report")
    assert (code, said["unmeasured"], said["head"]["commit"]) == (3, head, measured[1])
    assert run(capsys, "results")[1]["unmeasured"] == head
    code, line = first_line(capsys, "compare", "HEAD~1", "HEAD")
    assert (code, line.partition(":")[0]) == (3, f"NOTHING MEASURED of head, {head[:8]}")
    assert run(capsys, "compare", "HEAD~1", "HEAD")[1]["unmeasured"] == ["head"]
    code, line = first_line(capsys, "report", "HEAD")
    assert (code, line.partition(":")[0]) == (3, f"NOTHING MEASURED of {head[:8]}")
    code, line = first_line(capsys, "results", "HEAD")
    assert (code, line.partition(":")[0]) == (3, f"NOTHING MEASURED of {head[:8]}")


def test_the_head_of_another_repository_has_nothing_to_do_with_it(
    repository, capsys, tmp_path_factory, monkeypatch
):
    repository.measure(repository.commit())
    other = Repository(tmp_path_factory.mktemp("other"))
    other.commit()
    monkeypatch.chdir(other.folder)
    code, said = run(capsys, "results", "--results-dir", str(repository.results))
    assert (code, said["unmeasured"]) == (0, "")
    assert run(capsys, "report", "--results-dir", str(repository.results))[1]["unmeasured"] == ""


# -- The health of the session ---------------------------------------------------------------------


def card(mhz, *why):
    return {"gpus": [{"sm_clock_mhz": mhz, "throttling": [*why]}]}


HOT = card(900, "hw_thermal_slowdown")


def sides(repository, slow, base, head, **options):
    """Two commits, of which one cell has become slower, on a machine that said this afterwards."""
    start = {"unix_s": 0.0, "cpu_total_jiffies": 0, "cpu_steal_jiffies": 0, "cpu_throttled_s": 0.0}
    for factor, after in ((1.0, base), (slow, head)):
        cells = {"net.conv3": factor}
        repository.measure(repository.commit(), cells=cells, before=start, after=after, **options)
    return "compare", "HEAD~1", "HEAD"


def test_a_slow_down_on_a_card_that_was_hot_is_suspect_with_the_figures(repository, capsys):
    """nvbench issue 231, flashinfer issue 2899."""
    words = [*sides(repository, 1.3, card(1980), HOT, targets=["cupy@gpu:0"])]
    code, said = run(capsys, *words)
    assert (code, said["counts"]) == (3, {"suspect": 1, "equivalent": 8})
    (note,) = said["cells"][0]["notes"]
    assert note == "head ran at 900 MHz, base at 1980 MHz, hw_thermal_slowdown"
    main(words)
    assert capsys.readouterr().out.count(note) == 1
    assert "--workload net.conv3" in said["gate_it"]
    assert "net.conv4" not in said["gate_it"]
    for suspects, expected in (("fail", 1), ("pass", 0), ("undecided", 3)):
        assert run(capsys, *words, "--suspects", suspects)[0] == expected
        assert run(capsys, "report", "--suspects", suspects)[0] == expected


def test_a_clock_that_does_not_explain_it_is_no_excuse(repository, capsys):
    code, said = run(capsys, *sides(repository, 3.0, card(1980), HOT, targets=["cupy@gpu:0"]))
    assert (code, said["counts"]) == (1, {"regressed": 1, "equivalent": 8})
    assert said["cells"][0]["notes"][0].endswith("hw_thermal_slowdown: that does not explain it")


def test_an_idle_card_has_a_low_clock_and_that_is_no_excuse(repository, capsys):
    words = sides(repository, 1.3, card(1980), card(345, "gpu_idle"), targets=["cupy@gpu:0"])
    assert run(capsys, *words)[0] == 1


SHARES = {"unix_s": 100.0, "cpu_total_jiffies": 1000}
QUIET = {"load_1min": 1.0, "cpu_mhz_max": 3000.0, "cpu_steal_jiffies": 0, "cpu_throttled_s": 0.0}


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ({"load_1min": 5.0}, "the load was 5.0 for head and 1.0 for base"),
        ({"cpu_steal_jiffies": 100}, "the host took 10 % of the time of head, 0 % of base's"),
        ({"cpu_throttled_s": 30.0}, "the quota stopped 30 % of the time of head, 0 % of base's"),
        ({"cpu_mhz_max": 2000.0}, "head ran at 2000 MHz, base at 3000 MHz"),
    ],
)
def test_what_else_slows_a_session_down_is_told_of_the_side_that_had_it(
    repository, capsys, after, said
):
    quiet = SHARES | QUIET
    code, found = run(capsys, *sides(repository, 1.3, quiet, quiet | after))
    assert (code, found["counts"]) == (3, {"suspect": 2, "equivalent": 16})
    assert found["cells"][0]["notes"] == [said]
    (warning,) = run(capsys, "compare", "HEAD", "HEAD~1")[1]["warnings"]
    assert warning.endswith(": in 18 cells head may be slower than it seems")
    assert run(capsys, *sides(repository, 1.3, quiet, quiet))[0] == 1


def test_a_whole_session_that_is_slower_is_suspect_and_what_sticks_out_is_not(repository, capsys):
    """proof-systems issue 3593, rotki issue 13140."""
    base, all_slower, one_more, some = (repository.commit() for _ in range(4))
    repository.measure(base)
    repository.measure(all_slower, 1.12)
    repository.measure(one_more, 1.12, cells={"net.conv3": 1.5})
    repository.measure(some, 1.12, cells={f"net.conv{i}": 1.0 for i in range(4)})
    code, said = run(capsys, "compare", base, all_slower)
    assert (code, said["counts"]) == (3, {"suspect": 18})
    assert said["remarks"][0].startswith("18 of 18 times on a CPU are 1.1")
    assert said["gate_it"].startswith(f"convbench gate {base[:8]} {all_slower[:8]} ")
    code, said = run(capsys, "compare", base, one_more)
    assert (code, said["counts"]) == (1, {"regressed": 2, "suspect": 16})
    assert {cell["workload"] for cell in said["cells"][:2]} == {"net.conv3"}
    code, said = run(capsys, "compare", base, some)
    assert (code, said["counts"]) == (1, {"regressed": 10, "equivalent": 8})


@given(st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["before", "after", "machine", "gpus", "load_1min", "throttling",
                         "sm_clock_mhz", "cpu_total_jiffies", "machine_cores", "unix_s"]),
        inner, max_size=4),
    max_leaves=12))  # fmt: skip
def test_whatever_processes_say_of_their_machine_is_no_defect(told):
    health = Health.of([told] if isinstance(told, dict) else [])
    for device in ("cpu", "gpu:0", "gpu:x"):
        assert excuses(health, health, device, ("base", "head")) == []


# -- How much is known -----------------------------------------------------------------------------


def test_strict_is_that_nothing_is_undecided_and_power_that_it_would_have_been_seen(
    repository, capsys
):
    base, head = repository.commit(), repository.commit()
    repository.noise = 0.1
    for commit in (base, head):
        repository.measure(commit)
    code, said = run(capsys, "compare", base, head)
    assert (code, said["power"]) == (0, None)
    open_cells = said["counts"]["undecided"]
    assert open_cells > 9
    assert run(capsys, "compare", base, head, "--strict")[0] == 3
    code, said = run(capsys, "compare", base, head, "--require-power", "5%")
    assert (code, said["power"]["satisfied"], said["power"]["required"]) == (3, False, 0.05)
    assert {cell["smallest_effect"] > 0.05 for cell in said["power"]["cells"]} == {True}
    code, line = first_line(capsys, "compare", base, head, "--require-power", "5%")
    lacking = len(said["power"]["cells"])
    assert line.startswith(f"TOO LITTLE POWER: 5 % slower may have gone unseen in {lacking} cells")
    assert run(capsys, "compare", base, head, "--require-power", "900%")[0] == 0


# -- Several runs ----------------------------------------------------------------------------------


def test_to_measure_again_until_it_is_green_does_not_help(repository, capsys):
    base, head = repository.commit(), repository.commit()
    repository.measure(base)
    for number, factor in enumerate((1.30, 1.02, 1.00)):
        repository.measure(head, factor, run=f"r{number}")
    for words in (["compare", base, head], ["report"]):
        code, said = run(capsys, *words)
        assert code == 3
        assert any(
            remark.startswith("head was measured 3 times, all of which count together; most apart")
            for remark in said["remarks"]
        ), said["remarks"]
    cell = run(capsys, "compare", base, head)[1]["cells"][0]
    assert cell["verdict"] == "suspect"
    assert cell["notes"][0].startswith("its sessions do not agree: one session of head is slower")
    assert [round(run["value"] / cell["base"]["value"], 1) for run in cell["head"]["runs"]] == [
        1.3, 1.0, 1.0,
    ]  # fmt: skip


def test_sessions_that_agree_count_together_and_say_so(repository, capsys):
    base, head = repository.commit(), repository.commit()
    for commit in (base, head):
        for number in range(3):
            repository.measure(commit, run=f"r{number}")
    code, said = run(capsys, "compare", base, head)
    assert (code, said["counts"]) == (0, {"equivalent": 18})
    assert {cell["head"]["processes"] for cell in said["cells"]} == {15}


def test_what_had_uncommitted_changes_is_told_and_does_not_count(repository, capsys):
    base, head = repository.commit(), repository.commit()
    repository.measure(base)
    repository.measure(head, 2.0, run="r1", clean=False)
    repository.measure(head, 1.0, run="r2")
    code, said = run(capsys, "compare", base, head)
    assert (code, said["counts"]) == (0, {"equivalent": 18})
    assert any("measured 2 times, of which the last counts" in told for told in said["remarks"])


# -- Small steps -----------------------------------------------------------------------------------


def crept(repository, only=None):
    """Thirteen commits, each 1.5 % slower than the last, on the whole or in one workload."""
    for step in range(13):
        factor = 1.015**step
        told = {"cells": {only: factor}} if only else {"factor": factor}
        repository.measure(repository.commit(), **told)
    return repository.git("rev-list", "--reverse", "HEAD").split()


def test_twelve_small_steps_are_seen_though_each_is_nothing(repository, capsys):
    """conbench issue 608, vize issue 3488."""
    commits = crept(repository, "net.conv3")
    assert run(capsys, "compare", "HEAD~1", "HEAD")[0] == 0
    code, said = run(capsys, "report")
    assert (code, len(said["drifts"])) == (0, 2)
    for drift in said["drifts"]:
        assert drift["series"]["workload"] == "net.conv3"
        assert (drift["since"], drift["commits"]) == (commits[0], 12)
        assert 1.16 < drift["ratio"] < 1.23
    main(["report"])
    told = capsys.readouterr().out
    assert f"x slower since {commits[0][:8]}, in small steps over 12 commits" in told
    assert "in small steps over 12 commits" in (repository.folder / ".asv/report.html").read_text()


@pytest.mark.parametrize("against", ["best", "HEAD~12"])
def test_head_is_held_against_the_best_and_a_pinned_commit(repository, capsys, against):
    crept(repository, "net.conv3")
    for words in (["compare", "HEAD~1", "HEAD"], ["report"]):
        code, said = run(capsys, *words, "--against", against)
        assert code == 1
        held = said["against"]
        assert (held["asked"], held["compared"]) == (against, 18)
        assert {cell["workload"] for cell in held["slower"]} == {"net.conv3"}
        assert {cell["verdict"] for cell in held["slower"]} == {"regressed"}
        assert all(cell["effect"]["ratio"] > 1.05 for cell in held["slower"])  # the surest of them
    for form in ("text", "markdown"):
        assert main(["compare", "HEAD~1", "HEAD", "--against", against, "--format", form]) == 1
        assert f"REGRESSED AGAINST {against}" in capsys.readouterr().out


def test_what_creeps_everywhere_is_suspect_against_the_best_and_not_green(repository, capsys):
    crept(repository)
    assert run(capsys, "compare", "HEAD~1", "HEAD")[0] == 0
    assert run(capsys, "compare", "HEAD~1", "HEAD", "--against", "best")[0] == 3
    assert len(run(capsys, "report")[1]["drifts"]) == 18


def test_as_fast_as_ever_is_not_slower_than_the_best(repository, capsys):
    """The lowest of twelve noisy medians is lower than the truth, and that is no regression."""
    repository.noise = 0.02
    for _ in range(13):
        repository.measure(repository.commit())
    code, said = run(capsys, "compare", "HEAD~1", "HEAD", "--against", "best")
    assert (len(said["against"]["commits"]), said["against"]["slower"]) == (12, [])
    assert code == 0
    assert run(capsys, "report")[1]["drifts"] == []


def test_a_pin_that_was_not_measured_does_not_pass(repository, capsys):
    pin = repository.commit()
    for _ in range(2):
        repository.measure(repository.commit())
    code, said = run(capsys, "compare", "HEAD~1", "HEAD", "--against", pin)
    assert (code, said["against"]["compared"]) == (3, 0)
    assert said["summary"].startswith("NOTHING COMPARABLE WITH")


# -- Which machine ---------------------------------------------------------------------------------


def test_another_name_on_the_next_runner_is_not_another_machine(repository, capsys):
    """asv issues 148 and 944."""
    commits = [repository.commit() for _ in range(3)]
    for number, (commit, factor) in enumerate(zip(commits, (1.0, 1.0, 1.3), strict=True)):
        memory = (16 << 30) - (300 + number) * 2**20  # what the kernel has left
        facts = MACHINE | {"memory_bytes": memory}
        cells = {"net.conv3": factor}
        repository.measure(commit, cells=cells, machine=f"runner-{number}", facts=facts)
    code, said = run(capsys, "report")
    assert (code, said["base"]["commit"]) == (1, commits[1])
    assert said["head"]["machine"] == said["base"]["machine"] == "runner-0"
    assert "runner-0 is also runner-1, runner-2: the same hardware." in said["remarks"]
    assert run(capsys, "compare", "HEAD~1", "HEAD")[0] == 1
    assert run(capsys, "compare", "HEAD~1::runner-1", "HEAD::runner-2")[0] == 1
    assert run(capsys, "compare", "HEAD~1", "HEAD", "--against", "best")[1]["against"]["commits"]


def test_a_machine_can_be_given_a_name(repository, capsys):
    commits = [repository.commit() for _ in range(2)]
    for number, commit in enumerate(commits):
        repository.measure(commit, machine=f"runner-{number}")
    project = repository.folder / "pyproject.toml"
    project.write_text('[tool.convbench.machines]\n"a CPU, 4 cores, 16 GiB" = "ci-large"\n')
    code, said = run(capsys, "compare", "HEAD~1", "HEAD::ci-large")
    assert (code, said["base"]["machine"], said["head"]["machine"]) == (0, "ci-large", "ci-large")


def test_other_hardware_is_another_machine_whatever_it_is_called(repository, capsys):
    base, head = repository.commit(), repository.commit()
    more = MACHINE | {"machine_cores": 8}
    repository.measure(base, machine="runner-0")
    repository.measure(head, machine="runner-1", facts=more)
    assert run(capsys, "report")[0] == 3
    repository.measure(head, machine="runner-0", facts=more)
    code, said = run(capsys, "compare", f"{base}::runner-0", f"{head}::runner-0")
    assert (code, said["counts"]) == (3, {"not comparable": 18})
    (warning,) = said["warnings"]
    assert warning.startswith("runner-0 is two machines: base was measured on a CPU, 4 cores, 16")


def test_what_two_runners_have_measured_of_a_commit_counts_together(repository, capsys):
    base, head = repository.commit(), repository.commit()
    repository.measure(base, machine="runner-0")
    for number, factor in enumerate((1.3, 1.0)):
        repository.measure(head, factor, machine=f"runner-{number}", run=f"r{number}")
    code, said = run(capsys, "compare", base, head)
    assert code != 0
    assert {cell["head"]["processes"] for cell in said["cells"]} == {10}
    assert any("head was measured 2 times, all of which" in told for told in said["remarks"])


def test_asv_and_the_evidence_know_a_machine_alike():
    described = {"cpu": "a CPU", "num_cpu": "4", "ram": str((16 << 30) - 500_000_000)}
    assert of_asv(described) == fingerprint(MACHINE) == "a CPU, 4 cores, 16 GiB"
    assert of_asv({"cpu": "", "num_cpu": "4"}) == of_asv({"cpu": "x", "num_cpu": "x"}) == ""
    cards = {"gpus": [{"name": "H100"}, {"name": "H100"}]}
    assert fingerprint(MACHINE | cards) == "a CPU, 4 cores, 16 GiB, H100, H100"
