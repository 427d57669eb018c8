"""Damaged files, by the thousand: each costs itself or its cells, with a reason."""

from __future__ import annotations

import copy
import json
import math
import random
import resource
import signal
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from convbench.comparing.judge import compare
from convbench.comparing.sides import Side
from convbench.errors import ConvbenchError
from convbench.report.data import Request, gather
from convbench.results import gates, history
from convbench.results.records import load
from convbench.results.rows import render, summarise, to_dict

from ..gates import gated_cell, store_gate
from ..terminal import drawn
from .test_foreign import row, store, version_2
from .test_records import ACCURACY, CELL, COMMIT, NAN, SAMPLES, TIME, Project, begun

MUTANTS = 3200
MOST_S = 5.0
ROOM_BYTES = 1 << 30
UNTOUCHED = "f" * 40

JUNK = (
    None, True, False, -1, -1.0, 0, 1, 1e308, math.inf, -math.inf, NAN, 10**400, 2**63, "", "x",
    "\x1b[31m", "numpy@cpu", "\ud800", "\u202e", "-1", "NaN", [], {}, [[]], {"a": 1}, [None] * 40,
    "long" * 20_000, [0.5] * 2000, [["1", "2", "3", "4", "5", "6", "7", "8"]] * 12,
)  # fmt: skip
BYTES = (
    b"null", b"[", b"]", b"{", b'"', b"NaN", b"1e999", b"-", b"9" * 400, b"9" * 5000, b"\xff",
    b"<script>alert(1)</script>", b"true", b", ", b": ", b"{}", b"\x00", b"[" * 20_000, b"\n",
)  # fmt: skip


def damaged_bytes(chance, content):
    """Damage a file as disks, editors and strangers do."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        data = data or bytearray(b" ")
        start = chance.randrange(len(data))
        end = start + chance.randint(1, 200)
        match chance.randrange(6):
            case 0:
                del data[start:]
            case 1:
                data[start] = chance.randrange(256)
            case 2:
                del data[start : start + chance.randint(1, 40)]
            case 3:
                data[start:start] = chance.choice(BYTES)
            case 4:
                data[start : start + 8] = data[:8]
            case 5:
                data[start:end] = b"0" * chance.randint(0, 3)
    return bytes(data)


def places(node):
    """Everything that can be replaced: containers and their keys."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        yield node, key
        if isinstance(value, dict | list):
            yield from places(value)


def damaged_structure(chance, content, *, lines):
    """Valid JSON that says something else."""
    texts = content.split(b"\n") if lines else [content]
    at = chance.choice([i for i, text in enumerate(texts) if text.strip()])
    whole = [json.loads(texts[at])]
    for _ in range(chance.randint(1, 3)):
        node, key = chance.choice([*places(whole)])
        match chance.randrange(5):
            case 0 | 1:
                node[key] = copy.deepcopy(chance.choice(JUNK))
            case 2 if node is not whole:
                del node[key]
            case 3 if isinstance(node, list):
                node.insert(key, copy.deepcopy(node[key]))
            case _:
                other, place = chance.choice([*places(whole)])
                node[key] = copy.deepcopy(other[place])
        whole = whole or [None]
    texts[at] = json.dumps(whole[0]).encode()
    return b"\n".join(texts)


@contextmanager
def bounded():
    """So much memory more than there is now, and so much time of the processor."""
    now_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)

    def late(*_):
        raise AssertionError(f"a file took more than {MOST_S} s")

    before = signal.signal(signal.SIGVTALRM, late)
    resource.setrlimit(resource.RLIMIT_AS, (now_bytes + ROOM_BYTES, hard))
    try:
        yield lambda: signal.setitimer(signal.ITIMER_VIRTUAL, MOST_S)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGVTALRM, before)


@pytest.fixture
def files(tmp_path):
    """A folder with all kinds of files, each of which is damaged in its turn."""
    project = Project(tmp_path)
    project.add(TIME, [SAMPLES, 0.2, None, NAN], record_samples=True)
    project.add(ACCURACY, [0.5] * 4)
    begun(project)
    project.line(kind="process", run="r", process="p1", versions={"numpy": "2.1"}, before={})
    receipt = {"claims": [{"claim": "time", "verdict": "holds", "reason": ""}], "fresh_s": 0.1}
    for number in (1, 2):
        project.measured(
            TIME, CELL, number, [0.001, 0.002], flops=7, bytes=9, receipt=receipt,
            device_samples_s=[0.001], machine={"cpu_model": "x", "logical_cores": 2, "gpus": []},
        )  # fmt: skip
    project.measured("bench_ceiling.Smoke.track_time", ["numpy@cpu", "ceiling.gemm"], 1, [0.1],
                     flops=10**9, bytes=9, machine={"logical_cores": 2})  # fmt: skip
    project.note(ACCURACY, CELL, "failed", reason="no memory", remedy="Buy some.")
    project.note(TIME, ["numpy@cpu", "net.pool"], "ok", algorithm="im2col", flops=6)
    project.add(TIME, [0.1] * 4, commit=UNTOUCHED)
    foreign = store(
        tmp_path,
        version_2(
            COMMIT,
            {
                "a.time_x": row(
                    [0.1, 0.2, None, NAN], [["1", "'b'"], ["<C at 0x1f>", "None"]],
                    stats_q_25=[0.1, 0.1, None, None], stats_q_75=[0.2, 0.3, None, None],
                    stats_number=[1, 1, None, None], stats_repeat=[5, 5, None, None],
                    samples=[[0.1, 0.2], None, None, None], version="v", started_at=1e12,
                ),
                "a.peakmem_x": row([1024]), "a.track_x": row([-3.0, 5], [["1", "2"]]),
            },
        ),
        machine="there",
    )  # fmt: skip
    machine = project.results_dir / "here" / "machine.json"
    machine.write_text(json.dumps({"machine": "here", "os": "Linux", "ram": 8, "version": 1}))
    described = project.results_dir / "benchmarks.json"
    described.write_text(json.dumps({"a.track_x": {"unit": "MB/s", "params": []}, "version": 2}))
    gate = store_gate(
        project.results_dir, gated_cell(1.1), machine="here", base=UNTOUCHED, head=COMMIT,
        of_base={"environment": "env"}, of_head={"environment": "env"},
    )  # fmt: skip
    evidence = tmp_path / "evidence" / "here" / f"{COMMIT[:8]}-env.jsonl"
    return project.results_dir, (project.file(), evidence, foreign, gate, machine, described)


def possible(record):
    numbers = [] if record.value is None else [record.value, *record.processes]
    return all(
        isinstance(number, float)
        and {
            "time": 0 < number < math.inf, "memory": 0 <= number < math.inf,
            "number": math.isfinite(number), "accuracy": number >= 0,
        }[record.kind]
        for number in numbers
    )  # fmt: skip


def read_all(results_dir, *, everything):
    """As the commands read it; what they say of what they could not read."""
    loaded = load(results_dir)
    of_gates = gates.load(results_dir, gates.between(UNTOUCHED, COMMIT))
    untouched = [r for r in loaded.records if r.commit == UNTOUCHED]
    assert [r.value for r in untouched] == [0.1] * 4
    assert all(map(possible, loaded.records))
    for gate in of_gates.gates:
        for cell in gate.cells.values():
            assert all(map(possible, filter(None, (*cell.times, *cell.checks))))
    rows = summarise(loaded.records)
    head = Side(COMMIT, "env", "here", tuple(
        r for r in loaded.records if r.commit == COMMIT and r.place == ("here", "env")
    ))  # fmt: skip
    base = Side(UNTOUCHED, "env", "here", tuple(untouched))
    compared = compare(base, head, gates=of_gates.gates)
    if everything:
        json.dumps(compared.to_dict())
        json.dumps(to_dict(rows), default=str)
        text = drawn(render(rows))
        assert "\x1b" not in text
        past = history.load(results_dir)
        assert all(
            not (row <= 0).any()
            for series, row in zip(past.series, past.values, strict=True) if series.kind == "time"
        )  # fmt: skip
        with suppress(ConvbenchError):  # a side has no such environment any more
            asked = Request(results_dir, COMMIT[:8], f"{UNTOUCHED[:8]}:env:here")
            gather(asked, lambda _: None, lambda _: (UNTOUCHED,))
    return [*loaded.problems, *of_gates.problems]


@pytest.mark.parametrize("how", ["bytes", "structure"])
def test_damaged_files_cost_themselves_and_nothing_else(files, how):
    results_dir, paths = files
    right = {path: path.read_bytes() for path in paths}
    assert read_all(results_dir, everything=True) == []
    chance = random.Random(how)
    told = 0
    with bounded() as begin:
        for i in range(MUTANTS // 2):
            path = paths[i % len(paths)]
            if how == "bytes":
                content = damaged_bytes(chance, right[path])
            else:
                lines = path.suffix == ".jsonl"
                content = damaged_structure(chance, right[path], lines=lines)
            path.write_bytes(content)
            begin()
            try:
                problems = read_all(results_dir, everything=i % 60 < len(paths))
            except BaseException as error:
                error.add_note(f"{path.name}, mutant {i}: {content[:3000]!r}")
                raise
            assert all(str(results_dir.parent) in problem for problem in problems)
            told += bool(problems)
            path.write_bytes(right[path])
    assert told > MUTANTS / 2 / (3 if how == "bytes" else 6), "much of this damage is visible"
