"""Units on workers of Dask, in real processes: what is lost with one, and what is counted twice."""

from __future__ import annotations

import json
import math
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest

from convbench.cli import main

from ..schemas import conforming
from .commits import CELLS, SELECT, Commits, certificate, cluster, limit_files, open_to_all

pytest.importorskip("distributed", reason="distributed is not installed: the extra `fleet` has it")
pytestmark = pytest.mark.fleet

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A scheduler, and two workers, of one core each."""
    folder = tmp_path_factory.mktemp("cluster")
    environment = Commits(folder).environment | {"A_SECRET": "x", "A_SETTING": "y"}
    with cluster(folder, environment) as made:
        made.scheduler()
        made.worker("--cores-each", "1", "--pass", "A_SETTING")
        yield made


@pytest.fixture
def commits(tmp_path):
    return Commits(tmp_path)


def whole(commits, *hashes):
    """That all of it is stored, once."""
    assert {commit: {*values} for commit, values in commits.stored().items()} == {
        commit: {*CELLS} for commit in hashes
    }
    assert Counter(commits.noted()) == Counter((c[:8], cell) for c in hashes for cell in CELLS)


def when(true):
    """Wait until it is."""
    end_s = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def test_a_worker_that_is_killed_costs_its_unit_a_second_run_and_nothing_else(commits, two):
    hashes = [commits.commit_that(do) for do in ("ok", "ok", "kill")]
    done = commits.fleet("HEAD~2..HEAD", "--scheduler", two.address)
    assert done.returncode == 0, done.stderr
    whole(commits, *hashes[1:])
    tries = Counter(commit for commit, _ in commits.begun())
    assert [tries[commit] for commit in hashes] == [0, 2, 4]
    said = conforming(done.stdout)
    assert [commit["measured"] for commit in said["commits"]] == [2, 2]
    assert said["machines"][0]["machine"].startswith("bench")
    again = conforming(commits.fleet("HEAD~2..HEAD", "--scheduler", two.address).stdout)
    assert (again["kept"], again["machines"][0]["units"]) == (4, 0)
    assert len(commits.begun()) == 6


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=lambda how: how.name)
def test_what_is_stored_is_kept_when_the_command_is_ended_and_it_continues(commits, two, how):
    hashes = [commits.commit_that(do) for do in ("ok", "ok", "wait")]
    process = commits.start(*commits.words("HEAD~2..HEAD", "--scheduler", two.address))
    # Two units wait, and as there are two workers, nothing else is begun.
    when(lambda: len(commits.begun()) == 2)
    os.kill(process.pid, how)
    _, said = process.communicate(timeout=60)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "the same command continues" in said
    (commits.shared / "go").touch()
    done = commits.fleet("HEAD~2..HEAD", "--scheduler", two.address)
    assert done.returncode == 0, done.stderr
    whole(commits, *hashes[1:])


def test_what_cannot_be_measured_is_said_and_not_tried_for_ever(commits, two):
    _, good, crashing, *_ = (
        commits.commit_that(do) for do in ("ok", "ok", "crash", "kill always", "half", "foreign")
    )
    done = commits.fleet("HEAD~5..HEAD", "--scheduler", two.address)
    assert done.returncode == 4, done.stderr
    said = conforming(done.stdout)
    reasons = Counter((p["commit"], p["reason"].partition(":")[0]) for p in said["problems"])
    newest_first = [commit["commit"] for commit in said["commits"]]
    assert reasons == {
        (newest_first[0], "what its worker sent cannot be used"): 2,
        (newest_first[1], "what its worker sent cannot be used"): 2,
        (newest_first[2], "KilledWorker"): 2,
        (crashing, "exit status 1"): 2,
    }
    whole(commits, good)
    tries = Counter(commit for commit, _ in commits.begun())
    assert tries[crashing] == 2, "a commit that crashes is an answer, and no accident"


def test_what_cannot_be_written_is_not_half_written(commits, two):
    """A file may not become larger than 20 kB: the disk is full, for this process alone."""
    commits.commit_that("ok")
    large = commits.commit_that("ok", samples=1000)
    full = commits.start(*commits.words("HEAD^!", "--scheduler", two.address))
    limit_files(full, 20_000)
    _, said = full.communicate(timeout=60)
    assert full.returncode == 4, said
    assert "is not writable" in said
    assert "See to the disk and the permissions." in said
    assert commits.noted() == []
    done = commits.fleet("HEAD^!", "--scheduler", two.address)
    assert done.returncode == 0, done.stderr
    whole(commits, large)


def test_a_clone_without_all_of_the_history_is_enough(commits, two, tmp_path):
    _, one, other = (commits.commit_that("ok") for _ in range(3))
    deep = commits.folder
    commits.folder = tmp_path / "shallow"
    subprocess.run(
        ["git", "clone", "--quiet", "--depth", "2", deep.as_uri(), commits.folder], check=True
    )
    done = commits.fleet("HEAD~1..HEAD", "--scheduler", two.address)
    assert done.returncode == 0, done.stderr
    commits.results_dir = commits.folder / ".asv" / "results"
    whole(commits, other)
    done = commits.fleet("HEAD~1", "--scheduler", two.address)
    assert done.returncode == 0, done.stderr
    whole(commits, one, other)


def test_what_is_measured_sees_no_secret(commits, two):
    commits.commit_that("ok")
    assert commits.fleet("HEAD", "--scheduler", two.address).returncode == 0
    seen = json.loads((commits.shared / "seen").read_text())
    assert "A_SETTING" in seen
    assert "A_SECRET" not in seen


@AS_ROOT
def test_what_is_measured_can_be_another_user(tmp_path):
    with tempfile.TemporaryDirectory() as made:  # pytest's own folders are closed to others
        folder = Path(made)
        folder.chmod(0o755)
        commits = Commits(folder / "commits")
        commits.shared.chmod(0o777)
        (commits.shared / "key").touch(0o600)
        _, *hashes = (commits.commit_that(do) for do in ("ok", "spy", "ok"))
        (kept := folder / "kept").mkdir()
        tls = certificate(folder)
        with cluster(kept, commits.environment) as own:
            own.scheduler(*tls)
            own.worker("--user", "nobody", *tls, through=open_to_all())
            done = commits.fleet("HEAD~2..HEAD", "--scheduler", own.address, *tls)
        assert done.returncode == 0, done.stderr
        whole(commits, *hashes)
        seen = json.loads((commits.shared / "spied").read_text())
        nobody = pwd.getpwnam("nobody")
        assert (seen.pop("user"), seen.pop("groups")) == (nobody.pw_uid, [nobody.pw_gid])
        assert {*seen.values()} == {"PermissionError"}, seen


@AS_ROOT
@pytest.mark.parametrize(("name", "why"), [("nobody", "ermission"), ("nosuch", "no such user")])
def test_a_user_who_cannot_work_there_is_named_at_once(tmp_path, capsys, name, why):
    tmp_path.chmod(0o700)
    more = ("--folder", str(tmp_path / "kept"), *certificate(tmp_path))
    assert main.main(["fleet", "worker", "tls://127.0.0.1:1", "--user", name, *more]) == 4
    said = capsys.readouterr().err
    assert f"--user is '{name}'" in said
    assert why in said


def test_another_user_needs_certificates(capsys):
    """Or he could have the worker do what he likes, as the worker's user."""
    assert main.main(["fleet", "worker", "tcp://127.0.0.1:1", "--user", "nobody"]) == 4
    assert "expected certificates" in capsys.readouterr().err


def test_without_tls_nobody_listens_beyond_this_machine(two):
    sockets = [*Path("/proc/net/tcp").read_text().splitlines()[1:]]
    everywhere = {line.split()[9] for line in sockets if line.split()[1].startswith("00000000:")}
    for process in two.processes:
        for pid in (process.pid, *children(process.pid)):
            mine = {
                found[1]
                for link in Path(f"/proc/{pid}/fd").iterdir()
                if (found := re.fullmatch(r"socket:\[(\d+)\]", str(link.readlink())))
            }
            assert not mine & everywhere


def children(pid):
    """Those of a process, and theirs."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(each) for each in found] + [x for each in found for x in children(int(each))]


def test_workers_of_another_version_are_not_asked(commits, tmp_path):
    commits.commit_that("ok")
    labels = "cpu=1,gpu=0,machine:other=1,kind:other=1,convbench:0.0.9=1"
    with cluster(tmp_path, commits.environment) as made:
        made.scheduler()
        for words in (("--resources", labels), ()):
            other = made.start("distributed.cli.dask_worker", made.address, *words)
            made.until(other, "(Registered to:)")
        done = commits.fleet("HEAD", "--scheduler", made.address)
    assert done.returncode == 4, done.stderr
    assert "it has convbench 0.0.9, and this is" in done.stderr
    assert "it offers nothing of ours" in done.stderr
    assert "the workers that can be asked are none" in done.stderr


def test_a_scheduler_for_everybody_needs_certificates(commits):
    done = commits.convbench("fleet", "scheduler", "--host", "0.0.0.0")
    assert done.returncode == 4
    assert "--insecure" in done.stderr


def test_with_certificates(commits, tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl here, which makes the certificate")
    commits.commit_that("ok")
    tls = certificate(tmp_path)
    with cluster(tmp_path, commits.environment) as made:
        made.scheduler(*tls)
        assert made.address.startswith("tls://")
        made.worker(*tls)
        done = commits.fleet("HEAD", "--scheduler", made.address, *tls)
        assert done.returncode == 0, done.stderr
        without = commits.fleet("HEAD", "--scheduler", made.address)
    assert without.returncode == 4
    assert "without certificates" in without.stderr


def test_the_files_are_those_of_bench(tmp_path):
    """Of a commit that measures nothing by itself, with the worker that is started for it."""
    commits = Commits(tmp_path)
    for name in ("__init__.py", "__main__.py"):
        (commits.folder / "src" / "convbench" / name).unlink()
    (commits.folder / "src" / "tiny.py").touch()
    commits.commit()
    select = (SELECT[0], rf"{SELECT[1]}.*'notebook\.(pool|conv)'", "--rounds", "2")
    done = commits.convbench("fleet", "HEAD", *select, "--shard", "1")
    assert done.returncode == 0, done.stderr
    ours = files(commits)
    shutil.rmtree(commits.folder / ".asv")
    assert commits.convbench("bench", *select).returncode == 0
    assert ours == files(commits)


def files(commits):
    """All that was written, without what differs from run to run."""
    found = {}
    for path in (commits.folder / ".asv").glob("*/**/*.json*"):
        name = str(path.relative_to(commits.folder))
        if path.suffix == ".json":
            found[name] = file = json.loads(path.read_text())
            for row in file.get("results", {}).values():
                row[0] = [math.isnan(value) for value in row[0]]
                row[3:] = [[x is None for x in c] for c in row[3:] if isinstance(c, list)]
            continue
        lines = [json.loads(line) for line in path.read_text().splitlines() if line]
        cells = [line for line in lines if line["kind"] == "cell"]
        alike = ("benchmark", "params", "round", "status", "version", "method", "dtype", "flops")
        found[name] = sorted(str([line.get(key) for key in alike]) for line in cells)
        runs = [line for line in lines if line["kind"] == "run"]
        for of in ("commit", "environment", "machine", "clean", "commit_time_s", "front"):
            found[f"{name} {of}"] = {line[of] for line in runs if of in line}
        known = [line["machine"] for line in lines if "machine" in line and line not in runs]
        found[f"{name} hardware"] = {machine["fingerprint"] for machine in known}
    return found
