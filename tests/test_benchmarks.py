"""The suites as asv sees them, and a real `asv run` with faulty backends among its targets."""

from __future__ import annotations

import ast
import json
import math
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from asv.runner import BENCHMARK_RUN_SCRIPT
from asv_runner.benchmarks.mark import SkipNotImplemented
from benchmarks import (
    bench_ceiling,
    bench_first_call,
    bench_graph,
    bench_one_core,
    bench_sweep,
    bench_transfer,
)
from benchmarks import convbench_common as common

from convbench import frozen
from convbench.backends.numpy import NumpyBackend
from convbench.errors import BackendUnavailable, Unavailability, Unsupported
from convbench.machine import failures
from convbench.machine.catalogue import When
from convbench.machine.project import Project
from convbench.results import records
from convbench.results.rows import summarise
from convbench.stimulus import workloads
from convbench.words.status import Status

from .checkouts import FRONT, SUITES, Checkout
from .plugin import FAULTS, write_plugin

ROOT = Path(__file__).parents[1]

# What commits from before `convbench.frozen` answer: never touched again.
OLD = {
    "convbench.accuracy",
    "convbench.accuracy.compare",
    "convbench.accuracy.refer",
    "convbench.backends.backend_class",
    "convbench.backends.open_backend",
    "convbench.environment.nvidia_devices",
    "convbench.errors.ArrayError",
    "convbench.errors.TargetError",
    "convbench.errors.Unsupported",
    "convbench.evidence.asv_mode",
    "convbench.evidence.write",
    "convbench.inputs.make_inputs",
    "convbench.running.compute",
    "convbench.spec.PipelineSpec",
    "convbench.targets.Target",
    "convbench.timing.measure",
    "convbench.workers.NotComputed",
}

# What `convbench.frozen` exports, in every commit that has it: only ever added to.
NEW = {
    "ArrayError",
    "PipelineSpec",
    "Target",
    "TargetError",
    "Unsupported",
    "accuracy_of",
    "asv_mode",
    "backend_class",
    "compute",
    "digest",
    "explain",
    "gauge",
    "judged",
    "make_inputs",
    "measure",
    "nvidia_devices",
    "open_backend",
    "refer",
    "stand_by",
    "write",
}


def discover(folder, front=FRONT, **variables):
    """What asv discovers, by name, in a process as asv starts it."""
    command = [sys.executable, BENCHMARK_RUN_SCRIPT, "discover", str(front)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CONVBENCH_")}
    subprocess.run(
        [*command, str(folder / "found.json")], env=environment | variables, check=True, cwd=folder
    )
    return {b["name"]: b for b in json.loads((folder / "found.json").read_text())}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return discover(tmp_path_factory.mktemp("discovery"), CONVBENCH_FULL="1")


# -- What asv discovers ---------------------------------------------------------------------------


def test_the_suites_are_these(found, tmp_path):
    layers = {
        "bench_accuracy.{}.track_error_over_bound",
        "bench_pipeline.{}.track_time",
        "bench_stages.{}.track_time",
    }
    others = {
        "bench_ceiling.Smoke.track_time",
        "bench_cold.Smoke.track_time",
        "bench_first_call.Standard.track_time",
        "bench_graph.Smoke.track_time",
        "bench_memory.Smoke.track_peak_bytes",
        "bench_one_core.OneCore.track_time",
        "bench_sweep.Standard.track_time",
        "bench_transfer.Standard.track_time",
    }
    assert set(discover(tmp_path)) == others | {
        s.format(c) for s in layers for c in ("Smoke", "Standard")
    }
    more = {"bench_cold.Standard.track_time", "bench_one_core.OneCoreStandard.track_time"}
    assert set(found) == set(discover(tmp_path)) | more | {s.format("Full") for s in layers}


def test_a_time_is_measured_in_several_processes(found):
    # asv takes `rounds` from the function; the two of an accuracy are there to compare the bits.
    rounds = {name: benchmark["rounds"] for name, benchmark in found.items()}
    assert all(
        rounds[name] == 5
        for name in rounds
        if name.endswith("track_time") and "first_call" not in name
    )
    assert rounds["bench_accuracy.Smoke.track_error_over_bound"] == 2


def test_every_workload_stands_in_one_class_of_its_tier(found):
    rows = workloads.load()
    for benchmark in found.values():
        suite, tier, _ = benchmark["name"].lower().split(".")
        if suite not in {"bench_accuracy", "bench_cold", "bench_pipeline", "bench_stages"}:
            continue  # its sizes are its own
        expected = [
            repr(row.name)
            for row in rows
            if row.tier == tier
            and (len(row.pipeline.stages()) > 1 or "bench_stages" not in benchmark["name"])
        ]
        assert benchmark["params"][1] == expected, benchmark["name"]


def test_versions_are_explicit_and_units_are_what_asv_expects(found):
    for benchmark in found.values():
        assert len(benchmark["version"]) < 8, "a digest: an edit would drop the history"
        expected = {
            "track_time": ("time", "seconds"),
            "track_error_over_bound": ("track", "error / bound"),
            "track_peak_bytes": ("track", "bytes"),
        }
        kind = benchmark["name"].rpartition(".")[2]
        assert (benchmark["type"], benchmark["unit"]) == expected[kind]


def test_targets_are_the_same_everywhere_but_for_those_that_are_asked_for(found, tmp_path):
    extra = discover(tmp_path, CONVBENCH_EXTRA_TARGETS="raises@cpu, wrong.variant@gpu:1")
    for name, benchmark in extra.items():
        # Where variants do not differ, only the backends themselves are targets.
        plain = name.startswith(("bench_ceiling", "bench_transfer"))
        on_gpu = name.startswith("bench_graph")  # nothing else records launches

        def has(target, plain=plain, on_gpu=on_gpu):
            variant = "." in target.partition("@")[0]
            return not (plain and variant) and not (on_gpu and "@cpu" in target)

        assert found[name]["params"][0] == [repr(t) for t in common.OUR_TARGETS if has(t)]
        more = [repr(t) for t in ("raises@cpu", "wrong.variant@gpu:1") if has(t)]
        assert benchmark["params"][0] == [*found[name]["params"][0], *more]


def test_stages_that_a_workload_lacks_are_skipped_by_asv():
    from benchmarks import bench_stages

    rows = {row.name: row.pipeline for row in workloads.load()}
    suite = bench_stages.Smoke
    for workload in suite.params[1]:
        stages = rows[workload].stages()
        assert common.stages_of(workload) == list(stages)
        for stage in common.STAGES:
            absent = ("numpy@cpu", workload, stage) in suite.skip_params
            assert absent == (stage not in stages)


def test_the_suites_read_the_rows_as_the_service_does():
    rows = workloads.load()
    assert [common.pipeline_of(row.name) for row in rows] == [row.pipeline for row in rows]
    for tier in workloads.TIERS:
        assert common.names(tier) == tuple(row.name for row in rows if row.tier == tier)


PROJECT = """
[tool.convbench]
targets = ["mine@cpu", "numpy@cpu"]
workloads = ["layers.toml"]
"""
LAYER = """
[[workload]]
name     = "net.conv"
source   = "made up"
tier     = "smoke"
pipeline = { n = 1, h = 5, w = 7, c = 3, conv = { k = 6, r = 3, s = 3 } }
"""


def test_in_another_project_they_measure_what_it_asks_for(tmp_path):
    """The front that imports them from the installed package, two folders below the root."""
    front = tmp_path / "perf" / "suites"
    front.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "layers.toml").write_text(LAYER)
    ours = (FRONT / "__init__.py").read_text()
    by_place = re.search(r"# Those of the working tree.*\nsuites = .*\n", ours)
    theirs = "from convbench.suites import __path__ as suites\n\n"
    (front / "__init__.py").write_text(ours.replace(by_place[0], theirs))
    (front / "bench_own.py").write_text("def track_it(): return 1\n")
    found = discover(tmp_path, front, CONVBENCH_EXTRA_TARGETS="numpy@cpu extra@cpu")
    assert "bench_own.track_it" in found
    targets, layers = found["bench_pipeline.Smoke.track_time"]["params"]
    project = Project.find(front)
    assert targets == [*map(repr, project.targets), "'extra@cpu'"]
    rows = workloads.load(workloads.BUILT_IN, *project.workloads)
    assert layers == [repr(row.name) for row in workloads.select(rows, "smoke")]
    assert layers[-1] == "'net.conv'"


def test_discovery_imports_no_library():
    code = "import benchmarks, sys; print({'tensorflow', 'cupy'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout.strip() == "set()"


def test_what_the_suites_import_is_frozen():
    tree = ast.parse((SUITES / "interface.py").read_text())
    imported = [
        f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    new = {name for name in imported if name.startswith("convbench.frozen.")}
    assert {name.removeprefix("convbench.frozen.") for name in new} == NEW
    assert set(imported) - new == OLD
    assert set(frozen.__all__) == NEW
    assert all(hasattr(frozen, name) for name in NEW)


def test_only_one_file_of_the_suites_knows_where_things_are():
    for path in SUITES.glob("*.py"):
        text = path.read_text()
        if path.name != "interface.py":
            assert not re.search(r"^\s*(from|import) convbench", text, re.MULTILINE), path.name


def test_asv_is_configured_as_the_evidence_expects():
    configuration = (ROOT / "asv.conf.json").read_text()
    assert '"benchmark_dir": "benchmarks"' in configuration
    assert '"results_dir": ".asv/results"' in configuration


# -- The life of a cell ---------------------------------------------------------------------------


@pytest.fixture
def notes(monkeypatch):
    """What would be written as evidence: (params, status, facts)."""
    written = []
    monkeypatch.setattr(
        common,
        "write",
        lambda benchmark, params, status, **facts: written.append((params, status, facts)),
    )
    return written


def run_cell(outcome):
    """A cell whose body returns or raises `outcome`."""

    class Suite:
        version = "1"

        @common.cell()
        def track_it(self, target, workload):
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

    return Suite().track_it("numpy@cpu", "net.conv")


def test_a_cell_that_is_ok(notes):
    assert run_cell((0.5, {"algorithm": "im2col"})) == 0.5
    params = ("numpy@cpu", "net.conv")
    facts = {"version": "1", "algorithm": "im2col", "value": 0.5}
    assert notes == [(params, "started", {}), (params, "ok", facts)]


def test_samples_are_noted_with_as_many_digits_as_they_have(notes):
    run_cell(({"samples": [0.00012345678, 2.0], "number": 3}, {}))
    assert notes[1][2] == {"version": "1", "samples_s": [0.00012346, 2.0], "number": 3}


def test_what_an_old_commit_cannot_measure_is_skipped_with_the_reason(notes):
    with pytest.raises(Unsupported, match="this commit is from before flusher"):
        common.since(object(), "flusher")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BackendUnavailable(Unavailability.NO_DEVICE, "none", "Buy one."), "no device: none"),
        (Unsupported("a hole"), "a hole"),
        (common.TargetError("no backend is called torch"), "torch"),
    ],
)
def test_a_cell_that_cannot_be_computed_here_is_skipped(notes, error, reason):
    with pytest.raises(SkipNotImplemented):
        run_cell(error)
    assert [status for _, status, _ in notes] == ["started", "skipped"]
    assert reason in notes[1][2]["reason"]


def test_a_cell_that_fails_is_explained_and_raises(notes, monkeypatch):
    monkeypatch.setitem(failures._here, "when", When.START)  # whatever this process has computed
    with pytest.raises(RuntimeError, match="Blas"):
        run_cell(RuntimeError("Blas SGEMM launch failed"))
    assert [status for _, status, _ in notes] == ["started", "failed"]
    assert notes[1][2]["error"] == "RuntimeError"
    assert "cuBLAS could not start" in notes[1][2]["reason"]
    assert "nvidia-smi" in notes[1][2]["remedy"]


def test_a_cell_that_is_interrupted_has_only_started(notes):
    with pytest.raises(KeyboardInterrupt):
        run_cell(KeyboardInterrupt())
    assert [status for _, status, _ in notes] == ["started"]


PIPELINE = common.pipeline_of("notebook.conv")


def test_timing_gives_what_asv_takes_and_the_facts():
    value, facts = common.timed("numpy@cpu", PIPELINE)
    assert set(value) == {"samples", "number"}
    assert all(0 < sample < 1 for sample in value["samples"])
    assert facts["flops"] == PIPELINE.flops == 906
    assert facts["bytes"] == PIPELINE.bytes(4)
    assert {"algorithm", "versions", "method"} <= set(facts)
    json.dumps([value, facts])


@pytest.mark.parametrize("cold", [False, True])
def test_hot_and_cold_are_two_methods(cold):
    _, facts = common.timed("numpy@cpu", PIPELINE, cold=cold)
    assert ("caches cold" in facts["method"]) == cold


def test_memory_is_the_peak_beyond_the_input():
    # In a process of its own, as it is measured: what this one has freed is there already. A pool
    # of 1x1 windows gives its input, 8 MB.
    code = (
        "from benchmarks import convbench_common; from convbench import PipelineSpec, PoolSpec;"
        "print(*convbench_common.peak_bytes('numpy@cpu',"
        " PipelineSpec(8, 128, 128, 16, pool=PoolSpec('max', 1)))[:1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
    )
    assert 0.9 * 2**23 < int(done.stdout) < 8 * 2**23


def test_first_calls_have_phases():
    for phase in ("start", "build", "first_call"):
        assert 0 < bench_first_call._phase("numpy@cpu", bench_first_call.WORKLOAD, phase) < 60


def test_an_import_is_timed_in_an_interpreter_of_its_own(notes):
    value = bench_first_call.Standard().track_time("numpy@cpu", bench_first_call.WORKLOAD, "import")
    assert value["number"] == 1
    assert 0 < value["samples"][0] < 60
    assert [status for _, status, _ in notes] == ["started", "ok"]


@pytest.mark.parametrize("workload", bench_ceiling.Smoke.params[1])
def test_ceilings(notes, workload, monkeypatch):
    monkeypatch.setattr(common, "BUDGET_S", 1e-3)
    value = bench_ceiling.Smoke().track_time("numpy@cpu", workload)
    assert min(value["samples"]) > 0
    facts = notes[1][2]
    assert bool(facts["flops"]) == (workload == "ceiling.gemm")
    assert facts["bytes"] > 0


@pytest.mark.parametrize("way", bench_transfer.WAYS)
def test_transfers(notes, way, monkeypatch):
    monkeypatch.setattr(common, "BUDGET_S", 1e-3)
    bench_transfer.Standard().track_time("numpy@cpu", "transfer.4kb", way)
    assert notes[1][2]["bytes"] == 4096


def test_a_replay_is_a_method_of_its_own(notes, monkeypatch):
    monkeypatch.setattr(common, "BUDGET_S", 1e-3)
    with pytest.raises(SkipNotImplemented, match="numpy does not record CUDA graphs"):
        bench_graph.Smoke().track_time("numpy@cpu", "notebook.conv")
    assert notes[-1][1] == "skipped"
    calls = []
    monkeypatch.setattr(NumpyBackend, "capture", lambda self, run, x: lambda: calls.append(run(x)))
    value = bench_graph.Smoke().track_time("numpy@cpu", "notebook.conv")
    assert len(calls) >= len(value["samples"]) > 0
    assert notes[-1][2]["method"] == bench_graph.METHOD


def test_one_core_measures_in_turns_with_a_twin(notes):
    value = bench_one_core.OneCore().track_time("numpy@cpu", "notebook.pool")
    assert len(value["samples"]) >= bench_one_core.LEAST_BLOCKS
    assert 1e-7 < min(value["samples"]) * value["number"] < 0.1
    facts = notes[-1][2]
    assert facts["method"] == bench_one_core.METHOD
    assert facts["flops"] == common.pipeline_of("notebook.pool").flops
    assert "numpy" in facts["versions"]


TELLS = """
threads = {name: os.environ[name] for name in os.environ if name.endswith("_NUM_THREADS")}
raise RuntimeError(f"cores {len(os.sched_getaffinity(0))}, threads {set(threads.values())}")
"""


@pytest.mark.parametrize(
    ("target", "raised", "why"),
    [
        ("not_installed@cpu", SkipNotImplemented, "no_such_module_at_all"),
        ("killed@cpu", RuntimeError, "ended with -9"),
        ("tells@cpu", RuntimeError, "cores 1, threads {'1'}"),
    ],
)
def test_one_core_says_why_there_is_no_time(notes, monkeypatch, tmp_path, target, raised, why):
    monkeypatch.setitem(FAULTS, "tells", f"exec({TELLS!r})")
    monkeypatch.setenv("PYTHONPATH", str(write_plugin(tmp_path)))
    with pytest.raises(raised, match=re.escape(why)):
        bench_one_core.OneCore().track_time(target, "notebook.pool")
    assert notes[-1][1] == ("skipped" if raised is SkipNotImplemented else "failed")


def test_the_sweep_is_of_layers_that_can_be_computed(notes, monkeypatch):
    monkeypatch.setattr(common, "BUDGET_S", 1e-3)
    bench_sweep.Standard().track_time("numpy@cpu", "sweep.c_4")
    assert notes[1][2]["flops"] == 2 * 14 * 14 * 9 * 4 * 4 + 14 * 14 * 4


@pytest.mark.parametrize(
    ("change", "low", "high"),
    [
        (lambda y: y, 0, 1),
        (lambda y: y * 1.01, 1, 1e30),
        (lambda y: y * math.nan, 1e30, 1e30),
        (lambda y: y[..., :-1], 1e30, 1e30),
    ],
)
def test_a_wrong_output_is_a_large_but_finite_number(monkeypatch, change, low, high):
    def compute(backend, pipeline, inputs):
        computed = real(backend, pipeline, inputs)
        return type(computed)(change(computed.output), computed.algorithm)

    real = common.compute
    monkeypatch.setattr(common, "compute", compute)
    value, facts = common.error_over_bound("numpy@cpu", PIPELINE)
    assert low <= value <= high
    assert facts["worst"]
    json.dumps([value, facts], allow_nan=False)


def test_the_bound_of_a_scheme_is_named():
    pipeline = common.pipeline_of("alexnet_owt.conv5")
    value, facts = common.error_over_bound("numpy.winograd@cpu", pipeline)
    assert 0 < value <= 1
    assert facts["worst"].endswith(", by the bound of winograd F(4x4,3x3)")


def test_a_gpu_target_asks_the_driver_before_any_library(monkeypatch):
    def absent():
        raise BackendUnavailable(Unavailability.NO_DEVICE, "no driver", "")

    monkeypatch.setattr(common, "nvidia_devices", absent)
    monkeypatch.setattr(common, "open_backend", pytest.fail)
    for target in ("tensorflow@gpu:0", "cupy@gpu:0"):
        with pytest.raises(BackendUnavailable, match="no driver"):
            common.timed(target, PIPELINE)


def test_a_library_that_cannot_be_imported_does_not_stop_the_server(monkeypatch):
    asked = []

    def broken(name):
        asked.append(name)
        raise OSError("libfaulty.so.3: cannot open")

    monkeypatch.setattr(common, "backend_class", broken)
    common.import_libraries()
    assert sorted(asked) == ["numpy", "tensorflow"]


# -- A real run -----------------------------------------------------------------------------------

FAULTY = ("raises", "killed", "wrong", "misshapen", "not_installed")
GPU_TARGETS = [target for target in common.OUR_TARGETS if "@gpu" in target]


def has_gpu():
    try:
        return common.nvidia_devices() > 0
    except BackendUnavailable:
        return False


HAS_GPU = has_gpu()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """Two commits measured: the first on all targets, the second on one."""
    made = Checkout(tmp_path_factory.mktemp("asv"), FAULTY)
    device = "cpu" if HAS_GPU else ""  # CUDA does not survive the fork server
    made.first = made.commit()
    made.first_run = made.run(
        made.first, rf"(pipeline|accuracy)\.Smoke\..*@{device}.*'notebook\.pool'"
    )
    made.second = made.commit()
    made.second_run = made.run(made.second, r"pipeline\.Smoke\..*'numpy@cpu', 'notebook\.pool'")
    return made


@pytest.fixture(scope="module")
def rows(checkout):
    loaded = records.load(checkout.results_dir)
    assert loaded.problems == (), checkout.first_run.stdout
    chosen = [record for record in loaded.records if record.commit == checkout.first]
    return {row.target: row for row in summarise(chosen)}


def test_asv_says_that_something_failed_and_goes_on(checkout):
    assert checkout.first_run.returncode == 2, checkout.first_run.stdout
    assert checkout.second_run.returncode == 0, checkout.second_run.stdout


def test_every_fault_costs_its_own_cells_only(rows):
    tensorflow = Status.OK if find_spec("tensorflow") else Status.SKIPPED
    assert {name: row.status for name, row in rows.items() if name not in GPU_TARGETS} == {
        "wrong@cpu": Status.WRONG,
        "misshapen@cpu": Status.WRONG,
        "numpy@cpu": Status.OK,
        "numpy.winograd@cpu": Status.SKIPPED,
        "tensorflow@cpu": tensorflow,
        "tensorflow.eager@cpu": tensorflow,
        "tensorflow.xla@cpu": tensorflow,
        "raises@cpu": Status.FAILED,
        "killed@cpu": Status.FAILED,
        "not_installed@cpu": Status.SKIPPED,
    }


@pytest.mark.skipif(HAS_GPU, reason="it is about a machine without a GPU")
@pytest.mark.parametrize("target", GPU_TARGETS)
def test_targets_on_a_gpu_are_skipped_where_there_is_none(rows, target):
    assert rows[target].status is Status.SKIPPED
    assert "no device" in rows[target].outcomes[0][1].reason


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("raises@cpu", "cuBLAS could not start on the GPU"),
        ("killed@cpu", "the process ended in the middle"),
        ("wrong@cpu", "times its bound: at ["),
        ("misshapen@cpu", "the shape is"),
        ("not_installed@cpu", "not installed: there is no module named no_such_module_at_all"),
    ],
)
def test_the_evidence_tells_why(rows, target, reason):
    causes = [outcome for _, outcome in rows[target].outcomes]
    assert causes
    assert all(reason in cause.reason and cause.remedy for cause in causes), causes


def test_what_was_measured_has_statistics_and_evidence(rows):
    row = rows["numpy@cpu"]
    assert 0 < row.time_s < 1
    assert row.processes == 5  # by asv's own rounds
    assert row.spread >= 0
    assert row.gflops > 0
    assert row.error_over_bound == 0.0
    assert row.algorithm


@pytest.mark.parametrize(
    "words", [("show", "{second}"), ("compare", "{first}", "{second}"), ("publish",)]
)
def test_asv_reads_its_results(checkout, words):
    done = checkout.asv(*(w.format(first=checkout.first, second=checkout.second) for w in words))
    assert done.returncode == 0, done.stdout + done.stderr
    if words != ("publish",):
        assert "bench_pipeline.Smoke.track_time" in done.stdout
        return
    graphs = list((checkout.folder / ".asv" / "html" / "graphs").rglob("bench_*.json"))
    points = [json.loads(path.read_text()) for path in graphs]
    assert len(graphs) >= 2
    assert any(len(series) == 2 for series in points)
