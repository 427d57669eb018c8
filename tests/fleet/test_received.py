"""What a worker sends is filed once and whole, and only if it is what was asked for."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from convbench.errors import InputError
from convbench.fleet.received import store, stored
from convbench.fleet.slots import Labels
from convbench.fleet.units import called, kinds, split
from convbench.measuring.asv_store import Cell
from convbench.results import journal, records
from convbench.results.folder import Folder

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TIME = "bench_pipeline.Smoke.track_time"
WORKLOADS = ("net.conv1", "net.conv2", "net.conv3")
TARGETS = ("numpy@cpu", "cupy@gpu:0")
CELLS = [
    Cell(TIME, index, (target, workload), 1, alone=False, timeout_s=1.0)
    for index, (target, workload) in enumerate((t, w) for t in TARGETS for w in WORKLOADS)
]
COLUMNS = ["result", "params", "version", "started_at", "duration", "stats_q_25"]


def labels(machine="one", hardware="a CPU, 2 cores", card=""):
    return Labels(hardware, machine, "0.1.0", card)


def units_of(folder, *workers, shard=40):
    return [*split({COMMIT: "lock"}, kinds(workers or [labels()], folder), CELLS, None, shard)]


def sent(unit, *, run="r1", name=None, more=(), without=0, code=0, **asv):
    """What a worker that does all right would send, but for what is said here."""
    name = name or f"{unit.machine}/{COMMIT[:8]}-env"
    about = {"run": run, "machine": unit.machine, "commit": COMMIT, "environment": "env"}
    lines = [{"kind": "run", "state": "begun", **about}]
    measured = [cell for cell in CELLS if called(cell) in unit.cells]
    lines += [
        {"kind": "cell", "run": run, "process": "p", "round": 1, "benchmark": TIME,
         "params": cell.params, "status": "ok", "samples_s": [seconds(cell)], "number": 1}
        for cell in measured
    ]  # fmt: skip
    lines.append({"kind": "run", "state": "finished", "measured_s": 1.5, **about})
    lines = [*lines[: len(lines) - without], *more]
    values = [seconds(cell) if cell in measured else math.nan for cell in CELLS]
    row = [
        values,
        [[repr(t) for t in TARGETS], [repr(w) for w in WORKLOADS]],
        "1",
        5.0,
        1.0,
        values,
    ]
    file = {
        "commit_hash": COMMIT, "env_name": "env", "date": 0, "params": {"machine": unit.machine},
        "result_columns": COLUMNS, "results": {TIME: row}, "version": 2, **asv,
    }  # fmt: skip
    texts = [json.dumps({"schema": 2, "time_s": 7.0, **line}) for line in lines]
    files = {
        f"{name}.jsonl": "".join(f"\n{text}" for text in texts),
        f"{name}.json": json.dumps(file),
        f"{unit.machine}/machine.json": "{}",
    }
    told = {"code": code, "said": "a\nb", "worker": "w", "now_s": 3600.0, "files": files}
    return json.dumps(told).encode()


def seconds(cell):
    return 1e-3 * (1 + cell.index)


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / ".asv" / "results")


def contents(folder):
    return {path: path.read_bytes() for path in folder.results.parent.rglob("*") if path.is_file()}


def test_what_is_sent_twice_is_stored_once(folder):
    (unit,) = units_of(folder)
    assert stored(folder, [unit]) == set()
    first = store(folder, unit, sent(unit), 0.0)
    assert (first.problem, first.measured_s, first.ahead_s) == ("", 1.5, 3600.0)
    before = contents(folder)
    assert store(folder, unit, sent(unit, run="r2"), 0.0).problem == ""
    assert contents(folder) == before
    assert stored(folder, [unit]) == {unit.id}


def test_parts_become_the_whole_whatever_comes_first(folder, tmp_path):
    (unit,) = units_of(folder)
    store(folder, unit, sent(unit), 0.0)
    whole = records.load(folder.results)
    for number, order in enumerate((1, -1)):
        other = Folder(tmp_path / str(number) / "results")
        parts = units_of(other, shard=2)
        assert [len(part.cells) for part in parts] == [2, 2, 2]
        for part in parts[::order]:
            assert store(other, part, sent(part, run=part.id), 0.0).problem == ""
        found = records.load(other.results)
        assert (found.problems, whole.problems) == ((), ())
        values = [
            {(r.target, r.workload): r.value for r in side.records} for side in (found, whole)
        ]
        assert values[0] == values[1]
        assert len(values[0]) == len(CELLS)
        (path,) = other.results.glob("one/0*.json")
        row = json.loads(path.read_text())["results"][TIME]
        assert row[0] == row[5] == [seconds(cell) for cell in CELLS]
        assert row[4] == 3.0


def test_a_new_version_of_a_benchmark_replaces_the_old(folder):
    one, other = units_of(folder, shard=4)
    store(folder, one, sent(one), 0.0)
    (path,) = folder.results.glob("one/0*.json")
    file = json.loads(path.read_text())
    file["results"][TIME][2] = "0"
    path.write_text(json.dumps(file))
    store(folder, other, sent(other, run="r2"), 0.0)
    row = json.loads(path.read_text())["results"][TIME]
    assert row[2] == "1"
    assert [math.isnan(value) for value in row[0]] == [True, True, False] * 2


@pytest.mark.parametrize(
    ("but", "why"),
    [
        ({"name": "one/../../x"}, "filed under"),
        ({"name": f"another/{COMMIT[:8]}-env"}, "filed under"),
        ({"name": "one/76543210-env"}, "filed under"),
        ({"name": f"one/{COMMIT[:8]}-a/b"}, "filed under"),
        ({"commit_hash": COMMIT[::-1]}, "it is of"),
        ({"version": 3}, "in version 3"),
        ({"without": 1}, "not finished"),
        ({"without": 8}, "unpack"),
        ({"more": [{"kind": "cell", "run": "r1", "benchmark": TIME, "params": ["numpy@cpu", "x"],
                    "status": "ok"}]}, "other runs or cells"),
        ({"more": [{"kind": "cell", "run": "r0", "benchmark": TIME,
                    "params": ["numpy@cpu", "net.conv1"], "status": "ok"}]}, "other runs"),
        ({"more": [{"kind": "run", "run": "r0", "state": "finished"}]}, "unpack"),
        ({"more": [{"kind": "run", "run": "r1", "state": "finished", "unit": "another"}]},
         "its run is another's"),
        ({"more": [{"kind": "nonsense"}]}, "its kind is"),
        ({"code": 4}, "exit status 4: a; b"),
        ({"code": 137}, "exit status 137"),
    ],
)  # fmt: skip
def test_what_was_not_asked_for_is_not_stored(folder, but, why):
    (unit,) = units_of(folder)
    assert why in store(folder, unit, sent(unit, **but), 0.0).problem
    assert contents(folder) == {}


@pytest.mark.parametrize("nonsense", [b"", b"\xff", b"[]", b"{}", b'{"code": "x"}', b"1" * 5000])
def test_nonsense_is_not_stored(folder, nonsense):
    (unit,) = units_of(folder)
    assert "cannot be used" in store(folder, unit, nonsense, 0.0).problem
    assert contents(folder) == {}


def test_a_damaged_file_is_left_as_it_is(folder):
    one, other = units_of(folder, shard=4)
    store(folder, one, sent(one), 0.0)
    (path,) = folder.results.glob("one/0*.json")
    path.write_text("{")
    before = contents(folder)
    with pytest.raises(InputError, match="asv's file is damaged"):
        store(folder, other, sent(other), 0.0)
    assert contents(folder) == before


def test_a_line_that_does_not_fit_leaves_none(tmp_path):
    """A full disk: the first write takes a part, and the next one fails."""

    class Full:
        def __init__(self, file):
            self.file, self.room = file, 10

        def write(self, data):
            if not self.room:
                raise OSError(28, "No space left on device")
            written = self.file.write(bytes(data[: self.room]))
            self.room -= written
            return written

        def __getattr__(self, name):
            return getattr(self.file, name)

    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\n{}")
    with path.open("ab", buffering=0) as file, pytest.raises(OSError, match="No space"):
        journal.extend(Full(file), [b"a" * 8, b"b" * 8])
    assert path.read_bytes() == b"\n{}"


# -- What is asked for -----------------------------------------------------------------------------


def test_a_card_is_asked_for_by_what_needs_one(folder):
    with_card = labels("two", "a CPU, 2 cores, a card", "a card")
    found = units_of(folder, labels(), with_card)
    assert [(unit.machine, unit.device, len(unit.cells)) for unit in found] == [
        ("one", "cpu", 6), ("two", "cpu", 3), ("two", "gpu", 3)
    ]  # fmt: skip
    assert all("cupy@gpu:0" in cell for cell in found[2].cells)
    for unit in found:
        offers = [worker.resources() for worker in (labels(), with_card)]
        fits = [unit.resources.items() <= offer.items() for offer in offers]
        assert fits == [unit.machine == "one", unit.machine == "two"]


def test_equal_machines_share_the_work_and_one_name(folder):
    same = [labels(name) for name in ("b", "a", "b")]
    (kind,) = kinds(same, folder)
    assert (kind.machine, kind.names, kind.workers) == ("a", ("a", "b"), 3)
    (unit,) = units_of(folder, labels("b"))
    process = {"kind": "process", "run": "r1", "process": "p",
               "machine": {"cpu_model": "a CPU", "machine_cores": 2}}  # fmt: skip
    store(folder, unit, sent(unit, more=[process]), 0.0)
    (kind,) = kinds([labels("a"), labels("b")], folder)
    assert kind.machine == "b", "which is where results of such a machine are"


def test_labels_are_read_as_they_are_written():
    for one in (labels(), labels(card="NVIDIA H200")):
        assert Labels.of(one.resources()) == one
    assert Labels.of({"GPU": 1}) is None


def test_another_question_is_another_unit(folder):
    (unit,) = units_of(folder)
    others = [
        replace(unit, rounds=2),
        replace(unit, lock="x"),
        replace(unit, cells=unit.cells[:1]),
        replace(unit, hardware="x"),
    ]
    assert len({unit.id, *(other.id for other in others)}) == 5
    assert units_of(folder)[0].id == unit.id
