"""What the suites share: targets, names of workloads, and the life of a cell.

What is called of convbench comes through `interface.py`: old commits have to answer it. These files
are imported as modules of the front, the package `benchmarks` of a project, which lends its name to
what they measure; and what the project asks for is read from beside it.

A cell is one workload on one target. Parameters are passed by index and are therefore the same on
every machine: a target that is absent is skipped in the body, which asv stores as n/a.
"""

import contextlib
import functools
import inspect
import os
import sys
import tomllib
from pathlib import Path

from asv_runner.benchmarks.mark import SkipNotImplemented

from .interface import (
    ArrayError,
    PipelineSpec,
    Target,
    TargetError,
    Unsupported,
    accuracy_of,
    asv_mode,
    backend_class,
    compute,
    digest,
    explain,
    gauge,
    judged,
    make_inputs,
    measure,
    nvidia_devices,
    open_backend,
    refer,
    stand_by,
    write,
)

OUR_TARGETS = (
    "numpy@cpu",
    "tensorflow@cpu",
    "tensorflow.eager@cpu",
    "tensorflow.xla@cpu",
    "tensorflow@gpu:0",
    "tensorflow.xla@gpu:0",
    "cupy@gpu:0",
    "numpy.winograd@cpu",
)


def _project():
    """`[tool.convbench]`, and the folder of the `pyproject.toml` that has it: nearest to the front.

    As `convbench.machine.project` finds it, which commits from before it do not have; a test holds
    that the two agree.
    """
    for folder in Path(sys.modules[__package__].__file__).resolve().parents:
        if (file := folder / "pyproject.toml").is_file():
            asked = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}).get("convbench")
            if asked is not None:
                return asked, folder
    return {}, Path()


_ASKED, _ROOT = _project()

# Constant on a machine, as every parameter is: more of them for each run of asv, or for none.
LISTED = tuple(str(Target.parse(target)) for target in _ASKED.get("targets") or OUR_TARGETS)
EXTRA_TARGETS = os.environ.get("CONVBENCH_EXTRA_TARGETS", "").replace(",", " ").split()
TARGETS = tuple(dict.fromkeys((*LISTED, *(str(Target.parse(t)) for t in EXTRA_TARGETS))))

STAGES = ("conv", "bias", "pool")

# `asv run` by itself ends within the hour; the long list has to be asked for.
FULL = os.environ.get("CONVBENCH_FULL") == "1"

DTYPE = "float32"
FILL = "normal"  # zeros and small integers draw less power and flatter a GPU
SEED = 20240607

# A process gets so long to warm up a cell, and again to sample it; there are several processes.
BUDGET_S = 0.1
ROUNDS = 5

# `asv publish` breaks on infinity, which is what a NaN in the output or a wrong shape amounts to.
WORST = 1e30

_FILES = (
    Path(__file__).parents[1] / "stimulus" / "workloads.toml",
    *(_ROOT / name for name in _ASKED.get("workloads", ())),
)
_ROWS = {
    row["name"]: row
    for file in _FILES
    for row in tomllib.loads(file.read_text(encoding="utf-8"))["workload"]
}


def names(tier):
    """Workloads of exactly this tier, so that no cell stands in two classes."""
    return tuple(name for name, row in _ROWS.items() if row["tier"] == tier)


def pipeline_of(workload):
    """Built only where it is used: a row that an old commit cannot read costs its own cells."""
    return PipelineSpec.from_dict(_ROWS[workload]["pipeline"])


def stages_of(workload):
    """Those of `STAGES` that the row has."""
    return [stage for stage in STAGES if _ROWS[workload]["pipeline"].get(stage)]


def cell(rounds=1, alone=False, stands=False):
    """Wrap a method that returns (value, facts): its evidence, and skips instead of errors.

    What raises is stored by asv as failed. What kills the process is too, and the evidence that it
    has started is then all there is.

    Parameters
    ----------
    rounds : int
        In how many processes it is measured: asv takes this from the function, as it does every
        attribute of one, and so does `convbench bench`.
    alone : bool
        `convbench bench` gives it a process in which nothing else has run, as asv always does.
    stands : bool
        Its time is that of :func:`timed`, which stands by it; `convbench bench` insists on that.
    """

    def wrap(body):
        run = _noted(body)
        run.rounds, run.alone, run.stands = rounds, alone, stands
        return run

    return wrap


def _noted(body):
    @functools.wraps(body)
    def run(suite, *params):
        module = type(suite).__module__.partition(".")[2]
        benchmark = f"{module}.{type(suite).__name__}.{body.__name__}"
        note = functools.partial(write, benchmark, params)
        note("started")
        try:
            value, facts = body(suite, *params)
        except Exception as error:
            why = explain(error)
            # A commit from before a backend was added does not know its name, and that is an
            # absence. For an extra target it is a typo, or a plug-in that is not installed here.
            unknown = isinstance(error, TargetError) and str(params[0]) in LISTED
            absent = why.status == "skipped" or unknown
            note(
                "skipped" if absent else "failed",
                error=type(error).__name__,
                reason=why.reason,
                remedy=why.remedy,
            )
            if absent:
                raise SkipNotImplemented(str(error)) from error
            raise
        note("ok", version=suite.version, **facts, **_stored(value))
        return value

    return run


def _stored(value):
    if isinstance(value, dict):
        return {"samples_s": [_short(s) for s in value["samples"]], "number": value["number"]}
    return {"value": value}


def _short(seconds):
    return float(f"{seconds:.5g}")


def timed(target, pipeline, cold=False):
    """Samples of a pipeline on a target as asv wants them, and the facts about them."""
    backend = open_target(target)
    inputs = make_inputs(pipeline, DTYPE, FILL, SEED)
    run = backend.build(pipeline, inputs.weights)
    x = backend.to_device(inputs.x)
    value, facts = timed_call(
        backend,
        run,
        x,
        cold,
        algorithm=run.algorithm,
        dtype=DTYPE,
        flops=pipeline.flops,
        bytes=pipeline.bytes(inputs.x.itemsize),
    )
    if stand_by is not None and not cold:  # commits from before it cannot, and remain claims
        stand_by(backend, run, pipeline, drawn(), value["samples"])
    return value, facts


def drawn():
    """What the inputs of a cell are drawn from."""
    return {"dtype": DTYPE, "fill": FILL, "seed": SEED}


def timed_call(backend, run, x, cold=False, **facts):
    """Samples of any call, and the facts about them."""
    # Commits from before these ways to measure have no parameter for them either.
    how = {"flush": gauged(backend, "flusher")()} if cold else {}
    if (device_timer := getattr(backend, "device_timer", lambda: None)()) is not None:
        how["device_timer"] = device_timer
    timing = measure(run, x, backend.synchronize, budget_s=BUDGET_S, **how)
    if device_samples := getattr(timing, "device_samples_s", ()):
        facts["device_samples_s"] = [_short(s) for s in device_samples]
    return {"samples": list(timing.samples_s), "number": timing.number}, {
        "versions": backend.versions(),
        "method": timing.method,
        "warmup_calls": timing.warmup_calls,
        "spent_s": round(getattr(timing, "spent_s", 0.0), 6),
        **facts,
    }


def gauged(backend, name):
    """One of convbench's own gauges: commits from before it have those of the backend."""
    own = since(backend, name)
    return own if gauge is None else gauge(backend, name)


def since(owner, name):
    """An attribute that commits from before it lack: their cells are n/a, and say so."""
    if (found := getattr(owner, name, None)) is None:
        raise Unsupported(f"this commit is from before {name}, which the cell needs")
    return found


def peak_bytes(target, pipeline):
    """The most memory that building and running a pipeline takes, beyond what was there before."""
    backend = open_target(target)
    inputs = make_inputs(pipeline, DTYPE, FILL, SEED)
    x = backend.to_device(inputs.x)
    backend.synchronize()
    meter = gauged(backend, "memory")()
    run = backend.build(pipeline, inputs.weights)
    for _ in range(3):
        run(x)
    backend.synchronize()
    facts = {"algorithm": run.algorithm, "dtype": DTYPE, "versions": backend.versions()}
    return meter(), facts | {"method": "peak of build and three calls"}


def error_over_bound(target, pipeline):
    """The largest error over its bound, a finite number, and the facts about it."""
    backend = open_target(target)
    inputs = make_inputs(pipeline, DTYPE, FILL, SEED)
    # With the contract of a backend held, by commits that can.
    how = {"poison": True} if "poison" in inspect.signature(compute).parameters else {}
    computed = compute(backend, pipeline, inputs, **how)
    facts = {"algorithm": computed.algorithm, "versions": backend.versions()}
    # Where there is a judge it says itself what is right; commits from before it have none.
    if judged and (found := judged(computed, pipeline, drawn())):
        return found.pop("value"), facts | found
    if digest is not None:  # commits from before it have none
        facts["digest"] = digest(computed.output)
    if computed.output.dtype != inputs.x.dtype:
        dtypes = f"the dtype is {computed.output.dtype}; expected {inputs.x.dtype}"
        return WORST, facts | {"worst": dtypes}
    try:
        # The first commits declare none, and have no parameter for it.
        declared = getattr(computed, "accumulation", None)
        how = {"accumulation": declared} if declared else {}
        scheme = getattr(computed, "scheme", None)
        how |= {"scheme": scheme} if scheme else {}
        worst = accuracy_of(computed.output, refer(pipeline, inputs, **how))
    except ArrayError as error:  # the output has another shape: as wrong as can be
        return WORST, facts | {"worst": str(error)}
    by = f", by the bound of {scheme}" if scheme else ""
    return min(worst.ratio, WORST), facts | {"worst": f"{worst}{by}"}


def open_target(target):
    """Import the library of a target and take its device."""
    # Importing TensorFlow to learn that there is no GPU would cost seconds, once a cell.
    if target in OUR_TARGETS and "@gpu" in target:
        nvidia_devices()
    return open_backend(Target.parse(target))


def import_libraries():
    """Import what takes seconds once, before the forks; those time like fresh processes.

    Nothing is run: no thread and no CUDA context may exist when the server forks. An import that
    kills the process is the one thing that costs every cell; `--launch-method spawn` avoids it.
    """
    targets = [Target.parse(target) for target in LISTED]
    for name in {target.backend for target in targets if target.device == "cpu"}:
        with contextlib.suppress(Exception):  # each of its cells will say why
            backend_class(name).library()


# The process that asv forks for every cell, with `--launch-method forkserver`.
if asv_mode() == "run_server":
    import_libraries()
