"""What becomes of commits, with stand-ins for what measures them: real git, and real processes."""

from __future__ import annotations

import json
import shutil
import signal
import time

import pytest

from ..repositories import Repository
from ..schemas import conforming
from .scene import Scene


def test_the_first_round_takes_the_tip_alone_and_later_ones_all_that_is_new(scene: Scene) -> None:
    second = scene.commit("1", "the tip")
    state, said = scene.watch()
    assert [c["commit"] for c in state["commits"]] == [second]
    assert scene.verdict(second) == "first"
    assert "is first: nothing before it was measured" in said
    assert scene.watch()[0] == {**state, "round_s": scene.state["round_s"]}  # nothing is new
    week = [scene.commit("1", f"day {i}") for i in range(3)]
    bad = scene.commit("2")
    later = scene.commit("2", "on top")
    scene.watch(code=1)
    assert [*scene.commits] == [second, *week, bad, later]
    assert [scene.verdict(c) for c in (*week, bad, later)] == ["fine"] * 3 + ["slower", "fine"]
    assert [words[:2] for words in scene.calls("gate")] == [
        [base, head] for base, head in zip([second, *week, bad], [*week, bad, later], strict=True)
    ]
    assert len(scene.calls("bench")) == 6
    assert [notice["commit"] for notice in scene.told()] == [bad]
    conforming(json.dumps(scene.state), "watch")


def test_two_branches_at_one_commit_are_measured_once_and_both_are_named(scene: Scene) -> None:
    scene.watch()
    scene.remote.git("checkout", "--quiet", "-b", "other")
    both = scene.commit("2")
    scene.remote.git("branch", "--force", "main")
    own = scene.commit("2", "other's own")
    scene.remote.git("update-ref", "refs/pull/7/head", own)
    scene.watch(code=1)
    assert [*scene.commits] == [scene.first, both, own]
    assert scene.commits[both]["branches"] == ["main", "other", "refs/pull/7/head"]
    assert len(scene.calls("bench")) == 3


def test_what_a_merge_brings_in_is_the_merge(scene: Scene) -> None:
    scene.watch()
    scene.remote.git("checkout", "--quiet", "-b", "elsewhere")
    scene.commit("2")
    scene.remote.git("checkout", "--quiet", "main")
    scene.remote.git("merge", "--quiet", "--no-ff", "-m", "merge", "elsewhere")
    merge = scene.remote.git("rev-parse", "HEAD")
    scene.watch(code=1)
    assert [*scene.commits] == [scene.first, merge]
    assert scene.commits[merge]["blamed"] == [merge]


def test_what_was_pushed_away_is_noted_and_told_no_more(scene: Scene) -> None:
    scene.watch()
    bad = scene.commit("2")
    scene.watch(code=1)
    scene.remote.git("reset", "--quiet", "--hard", scene.first)
    good = scene.commit("1", "instead")
    _, said = scene.watch()
    assert f"{bad[:8]} has gone" in said
    assert scene.commits[bad]["vanished"]
    assert scene.commits[good]["base"] == scene.first
    scene.remote.git("reset", "--quiet", "--hard", bad)  # and back again
    scene.watch()
    assert [(c["commit"], c["vanished"]) for c in scene.state["commits"]] == [
        (scene.first, False), (bad, False), (good, True)
    ]  # fmt: skip
    assert [notice["commit"] for notice in scene.told()] == [bad]
    assert len(scene.calls("bench")) == 3


def test_what_was_pushed_away_before_its_turn_waits_until_it_is_back(scene: Scene) -> None:
    scene.watch()
    bad = scene.commit("2")
    scene.killed("bench before")
    scene.remote.git("reset", "--quiet", "--hard", scene.first)
    scene.watch()
    assert (scene.verdict(bad), scene.commits[bad]["vanished"]) == ("open", True)
    assert scene.told() == []
    scene.remote.git("reset", "--quiet", "--hard", bad)
    scene.watch(code=1)
    assert (scene.verdict(bad), scene.commits[bad]["vanished"]) == ("slower", False)


def test_a_history_that_is_another_one(scene: Scene) -> None:
    scene.watch()
    scene.remote.git("checkout", "--quiet", "--orphan", "new")
    one = scene.commit("1", "another root")
    two = scene.commit("2")
    scene.remote.git("branch", "--force", "main")
    scene.watch(code=1)
    assert scene.verdict(one) == "first"
    assert (scene.verdict(two), scene.commits[two]["base"]) == ("slower", one)


# -- Who is to blame -------------------------------------------------------------------------------


def test_a_commit_that_cannot_be_measured_has_failed_and_holds_up_nobody(scene: Scene) -> None:
    scene.watch()
    broken = scene.commit("broken")
    fine = scene.commit("1", "mended")
    _, said = scene.watch(code=3)
    assert scene.verdict(broken) == "failed"
    assert (
        scene.commits[broken]["reason"] == "measuring it ended with 4: it does not compile: ?[31m"
    )
    assert (scene.verdict(fine), scene.commits[fine]["base"]) == ("fine", scene.first)
    assert [notice["verdict"] for notice in scene.told()] == ["failed"]
    assert len(scene.calls("bench")) == 1 + 2 + 1
    assert "\x1b" not in said


def test_one_failure_is_forgiven(scene: Scene) -> None:
    scene.watch()
    commit = scene.commit("once")
    scene.watch()
    assert scene.verdict(commit) == "fine"


def test_what_cannot_be_gated_is_no_base(scene: Scene) -> None:
    scene.watch()
    mute, bad = scene.commit("mute"), scene.commit("2")
    scene.watch(code=1)
    assert scene.verdict(mute) == "failed"
    assert (scene.verdict(bad), scene.commits[bad]["base"]) == ("slower", scene.first)
    assert scene.commits[bad]["blamed"] == [mute, bad]  # nobody can know


def test_a_commit_without_a_package_has_failed(scene: Scene) -> None:
    scene.watch()
    (scene.folder / "remote" / "pyproject.toml").write_text("[tool.nothing]\n")
    bad = scene.commit("1", "no project")
    scene.watch(code=3)
    assert "expected a pyproject.toml with [project] and a name" in scene.commits[bad]["reason"]


def test_the_range_is_halved_until_one_is_left(scene: Scene) -> None:
    scene.watch()
    among = [scene.commit(f"{i // 3 + 1} unmeasured", f"{i}") for i in range(5)]
    head = scene.commit("2", "measured at last")
    scene.watch(code=1)
    assert scene.commits[head]["blamed"] == [among[3]]
    assert f"to blame is {among[3][:8]}" in scene.told()[-1]["text"]
    assert len(scene.calls("gate")) == 1 + 2
    assert {notice["commit"] for notice in scene.told()} == {*among, head}


def test_the_halving_keeps_to_its_budget(scene: Scene) -> None:
    scene.ask('bisect = "1s"\ngate = "7s"\nlist = "standard"\ntargets = ["a@cpu", "b@cpu"]')
    scene.watch()
    among = [scene.commit(f"{quality} unmeasured dawdles") for quality in (1, 1, 2)]
    head = scene.commit("2", "measured at last")
    scene.watch(code=1)
    chosen = ["--list", "standard", "--target", "a@cpu", "--target", "b@cpu", "--json"]
    assert [words[1:] for words in scene.calls("gate")] == [
        [commit, *chosen[:-1], "--budget", "7s", "--json"] for commit in (head, among[1])
    ]
    assert scene.commits[head]["spent_s"] > 1
    assert scene.commits[head]["blamed"] == [among[2], head]
    assert [words[:-1] for words in scene.calls("bench")] == [chosen[:-1]] * 8


def test_who_comes_after_a_wrong_one_is_not_blamed_and_who_mends_it_is_timed(scene: Scene) -> None:
    scene.watch()
    wrong, after = scene.commit("wrong"), scene.commit("wrong", "no worse")
    scene.watch(code=2)
    assert [scene.verdict(c) for c in (wrong, after)] == ["wrong", "still wrong"]
    mended = scene.commit("2", "right, and slower than before")
    scene.watch(code=1)
    assert (scene.verdict(mended), scene.commits[mended]["base"]) == ("slower", scene.first)
    assert scene.commits[mended]["blamed"] == [wrong, after, mended]  # what is wrong has no time
    assert [notice["commit"] for notice in scene.told()] == [wrong, mended]


def test_a_branch_that_is_new_is_held_against_where_it_left_the_base(scene: Scene) -> None:
    fork = scene.first
    scene.remote.git("checkout", "--quiet", "-b", "other")
    one, two = scene.commit("1", "one"), scene.commit("2")
    scene.remote.git("checkout", "--quiet", "main")
    scene.commit("1", "main goes on")
    scene.watch(code=1)
    assert (scene.commits[two]["base"], scene.commits[two]["blamed"]) == (fork, [two])
    assert one not in scene.commits


# -- Killed, ended, and two at once ----------------------------------------------------------------


def plain(state: dict) -> object:
    """What has to be the same whenever it was killed."""
    times = {"found_s", "done_s", "spent_s", "round_s"}
    commits = [{k: v for k, v in c.items() if k not in times} for c in state["commits"]]
    return {k: v for k, v in state.items() if k not in times} | {"commits": commits}


def story(scene: Scene) -> None:
    """Something for each step that a watch takes."""
    scene.watch()
    for quality in ("1 unmeasured", "2"):
        scene.commit(quality)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, list]:
    scene = Scene(tmp_path_factory.mktemp("undisturbed"))
    story(scene)
    scene.watch(code=1)
    return plain(scene.state), scene.told()


def ids(notices: list) -> list[str]:
    return [notice["id"] for notice in notices]


@pytest.mark.parametrize(
    ("step", "when"),
    [("bench", "before"), ("bench", "after"), ("gate", "before"), ("report", "after"),
     ("publish", "before"), ("publish", "after"), ("told", "before"), ("told", "after")],
)  # fmt: skip
def test_killed_in_a_step(scene: Scene, undisturbed, step: str, when: str) -> None:
    story(scene)
    scene.killed(f"{step} {when}")
    scene.watch(code=None)  # of what is left of the round
    state, told = undisturbed
    assert plain(scene.state) == state
    arrived = ids(scene.told())
    assert {*arrived} == {*ids(told)}
    # What arrived, and was not written down, arrives again: with the same id.
    assert len(arrived) == len(told) + ((step, when) == ("told", "after"))


@pytest.mark.parametrize("writes", [2, -4])
def test_killed_at_every_write(scene: Scene, undisturbed, writes: int) -> None:
    """Each process gets one step further: it dies after that is written, or the next is done."""
    story(scene)
    ends = [-signal.SIGKILL]
    while ends[-1] == -signal.SIGKILL and len(ends) < 40:
        (process := scene.start("--once", writes=writes)).communicate(timeout=60)
        ends.append(process.returncode)
    assert 3 < len(ends) < 40
    state, told = undisturbed
    assert plain(scene.state) == state
    assert {*ids(scene.told())} == {*ids(told)}


def test_a_commit_at_which_the_watch_dies_again_and_again_has_failed(scene: Scene) -> None:
    scene.watch()
    deadly = scene.commit("1", "it takes the machine with it")
    for _ in range(5):
        scene.killed("bench before")
    scene.watch(code=3)
    assert scene.commits[deadly]["reason"] == "the watch was ended 5 times at this step"


def wait_for(what, process, seconds: float = 30.0) -> None:
    """Until it is so."""
    end_s = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end_s, process.communicate(timeout=5)
        assert process.poll() is None, process.communicate(timeout=5)
        time.sleep(0.05)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_it_and_nothing_is_lost(scene: Scene, number: int, code: int) -> None:
    scene.watch()
    hangs = scene.commit("hangs")
    process = scene.start("--json")
    wait_for(lambda: len(scene.calls("bench")) == 2, process)
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == code
    assert conforming(out)["doing"] is None
    assert scene.commits[hangs]["tries"] == 0
    assert scene.verdict(hangs) == "open"


def test_it_goes_on_looking_and_a_second_watch_is_refused(scene: Scene) -> None:
    process = scene.start()
    wait_for(lambda: scene.folder.joinpath("calls").exists() and scene.calls("publish"), process)
    _, said = scene.watch(code=4)
    assert f"is process {process.pid}; expected one watch a folder" in said
    bad = scene.commit("2")
    wait_for(scene.told, process)
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 143
    assert [notice["commit"] for notice in scene.told()] == [bad]


def test_a_step_that_takes_too_long_is_ended(scene: Scene) -> None:
    scene.ask('limit = "3s"')
    scene.watch()
    late = scene.commit("hangs")
    scene.watch(code=3)
    assert "it was ended after 3 s" in scene.commits[late]["reason"]


# -- What goes wrong around it ---------------------------------------------------------------------


def test_without_a_network_it_says_so_and_is_not_well(scene: Scene) -> None:
    scene.watch()
    ended_s = scene.state["round_s"]
    (scene.folder / "remote").rename(scene.folder / "away")
    state, said = scene.watch(code=3)
    assert "git fetch ended with 128" in said
    assert state["problem"].startswith("git fetch ended with 128")
    assert state["round_s"] == ended_s
    (scene.folder / "away").rename(scene.folder / "remote")
    state, _ = scene.watch()
    assert state["problem"] == ""
    assert state["round_s"] > ended_s


def test_a_state_that_cannot_be_read_is_not_begun_anew(scene: Scene) -> None:
    scene.watch()
    path = scene.project / ".asv" / "watch" / "state.json"
    for text in ("{", "[]", '{"schema": "convbench.watch/2"}', '{"schema": "convbench.watch/1"}'):
        path.write_text(text)
        _, said = scene.watch(code=4)
        assert "the state of the watch is unreadable" in said
        assert path.read_text() == text


def test_a_clone_that_is_removed_is_made_again(scene: Scene) -> None:
    scene.watch()
    shutil.rmtree(scene.project / ".asv" / "watch" / "clone")
    bad = scene.commit("2")
    scene.watch(code=1)
    assert scene.verdict(bad) == "slower"
    assert len(scene.calls("bench")) == 2


def test_a_lock_that_a_killed_git_has_left_is_nobodys(scene: Scene) -> None:
    scene.watch()
    lock = scene.project / ".asv" / "watch" / "clone" / ".git" / "index.lock"
    lock.touch()
    commit = scene.commit("1", "later")
    scene.watch()
    assert scene.verdict(commit) == "fine"


# -- Secrets ---------------------------------------------------------------------------------------

TOKEN = "t0ken-of-this-test-and-no-other"


def test_a_fleet_measures_and_gates(scene: Scene) -> None:
    files = {name: f"/{name}.pem" for name in ("ca-file", "cert", "key")}
    named = ", ".join(f'{name} = "{file}"' for name, file in files.items())
    scene.ask(f'scheduler = "tls://a:1"\nmachine = "node1"\ntls = {{{named}}}')
    scene.watch()
    slower = scene.commit("2")
    scene.watch(code=1)
    there = ["--scheduler", "tls://a:1"]
    there += [word for name, file in files.items() for word in (f"--tls-{name}", file)]
    (first, second), (gate,) = scene.calls("fleet"), scene.calls("gate")
    assert first[:9] == [f"{scene.first}^!", *there]
    assert second[:9] == [f"{slower}^!", *there]
    assert gate[:2] == [scene.first, slower]
    assert " ".join([*there, "--machine", "node1", "--budget"]) in " ".join(gate)


@pytest.mark.parametrize("measured_by", ["a fleet", "the watch"])
def test_the_suites_of_a_commit_lie_there_only_where_the_watch_measures(scene, measured_by) -> None:
    scene.ask('scheduler = "tls://a:1"' * (measured_by == "a fleet"))
    scene.watch()
    scene.remote.git("checkout", "--quiet", "-b", "other")
    (scene.folder / "remote" / "suite").touch()
    commit = scene.commit("1", "what is new lies in its suites")
    scene.watch()
    assert scene.verdict(commit) == "fine"
    lay = scene.folder / "suites-that-lay-there"
    steps = lay.read_text().split() if lay.exists() else []
    assert steps == ([] if measured_by == "a fleet" else ["bench", "gate", "report"])


def test_a_tag_with_the_name_of_the_base_is_not_the_base(scene: Scene) -> None:
    scene.ask('scheduler = "tls://a:1"')
    scene.watch()
    scene.remote.git("checkout", "--quiet", "-b", "other")
    (scene.folder / "remote" / "suite").touch()
    scene.commit("1", "other suites")
    scene.remote.git("tag", "main")
    scene.watch()
    assert not (scene.folder / "suites-that-lay-there").exists()


def test_what_git_sets_in_a_hook_leads_to_no_other_repository(scene: Scene, monkeypatch) -> None:
    scene.watch()
    commit = scene.commit("1", "later")
    mine = Repository(scene.folder / "project")
    (scene.folder / "project" / "file").touch()
    mine.git("add", ".")
    mine.commit("mine")
    mine.git("branch", "unpushed")
    monkeypatch.setenv("GIT_DIR", str(scene.folder / "project" / ".git"))
    scene.watch()
    monkeypatch.delenv("GIT_DIR")
    assert scene.verdict(commit) == "fine"
    assert "unpushed" in mine.git("branch")


def test_a_base_that_is_not_there_is_named_where_a_fleet_is_to_measure(scene: Scene) -> None:
    scene.ask('scheduler = "tls://a:1"\nbase = "nowhere"')
    scene.watch(code=3)
    assert "the base is 'nowhere'" in scene.commits[scene.first]["reason"]


def test_the_code_under_test_sees_a_few_variables_alone(scene: Scene, monkeypatch) -> None:
    for name in ("CONVBENCH_WATCH_TOKEN", "AWS_SECRET_ACCESS_KEY", "SSH_AUTH_SOCK"):
        monkeypatch.setenv(name, TOKEN)
    scene.watch()
    lines = [*map(json.loads, (scene.folder / "calls").read_text().splitlines())]
    assert {words[0] for words in lines} == {"bench", "report", "publish"}
    for words in lines:
        assert not {"CONVBENCH_WATCH_TOKEN", "AWS_SECRET_ACCESS_KEY", "SSH_AUTH_SOCK"} & {
            *words[-1]
        }
        assert {"HOME", "PATH"} <= {*words[-1]}


def test_who_is_told_has_our_environment_without_the_token(scene: Scene, monkeypatch) -> None:
    scene.watch()
    scene.commit("2")
    monkeypatch.setenv("CONVBENCH_WATCH_TOKEN", TOKEN)
    monkeypatch.setenv("MINE", "x")
    scene.watch(code=1)
    (words,) = (
        w for w in map(json.loads, (scene.folder / "calls").read_text().splitlines())
        if w[0] == "told"
    )  # fmt: skip
    assert "MINE" in words[-1]
    assert "CONVBENCH_WATCH_TOKEN" not in words[-1]


def test_a_password_of_the_repository_is_nowhere(scene: Scene) -> None:
    asked = (scene.project / "pyproject.toml").read_text()
    text = asked.replace(
        str(scene.folder / "remote") + '"', 'http://me:passw0rd@127.0.0.1:9/x.git"'
    )
    (scene.project / "pyproject.toml").write_text(text)
    _, said = scene.watch(code=3)
    assert "git fetch ended with 128" in said
    kept = [p for p in (scene.project / ".asv").rglob("*") if p.is_file()]
    assert kept
    assert "passw0rd" not in said
    assert [p for p in kept if b"passw0rd" in p.read_bytes()] == []
