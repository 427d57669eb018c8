"""How long a whole pipeline takes with one thread on one core, in turns with another of its kind.

That is what `convbench gate` measures, and where it files what either commit took: their history
goes on with every gate. It is another quantity than a pipeline that has all cores and its caches
for itself, and so a benchmark of its own; `make bench` leaves it to the gates. asv can measure it,
too: two processes of the commit stand in for the two sides, since libraries choose the number of
their threads when they are loaded, and in turns a call takes 2 to 8 % longer than by itself.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .convbench_common import (
    DTYPE,
    FILL,
    FULL,
    ROUNDS,
    SEED,
    TARGETS,
    cell,
    explain,
    make_inputs,
    names,
    open_target,
    pipeline_of,
)
from .interface import Unsupported

METHOD = "wall time of run + synchronize on one core with one thread, in turns with another process"

# As in a gate: from the first block of a cell to its last, and of one block at least.
CELL_S, BLOCK_S = 0.3, 4e-4
LEAST_BLOCKS = 6

_THREADS = ("OMP_NUM", "OPENBLAS_NUM", "MKL_NUM", "TF_NUM_INTRAOP", "TF_NUM_INTEROP")
_ONE_THREAD = {f"{name}_THREADS": "1" for name in _THREADS}

_CODE = "import sys; sys.path.insert(0, {root!r}); from {module} import obey; obey(*sys.argv[1:])"


class _OneCore:
    param_names = ("target", "workload")
    type = "time"
    unit = "seconds"
    version = "1"

    @cell(ROUNDS)
    def track_time(self, target, workload):
        with contextlib.ExitStack() as stack:
            both = [stack.enter_context(_Process(target, workload)) for _ in range(2)]
            told = [process.answer() for process in both]
            if why := next((each["skipped"] for each in told if "skipped" in each), ""):
                raise Unsupported(why)
            number = max(1, int(BLOCK_S / min(each["call_s"] for each in told)))
            samples = []
            end_s = time.monotonic() + CELL_S
            while len(samples) < LEAST_BLOCKS or time.monotonic() < end_s:
                seconds, _ = (process.block(number) for process in both)
                samples.append(seconds / number)
        return {"samples": samples, "number": number}, told[0]["facts"] | {"method": METHOD}


class OneCore(_OneCore):
    params = (TARGETS, names("smoke"))


if FULL:

    class OneCoreStandard(_OneCore):
        params = (TARGETS, names("standard"))


class _Process:
    """One of the two, which ends with its standard input."""

    def __init__(self, target, workload):
        package = Path(sys.modules[__package__].__file__)
        root = str(package.parents[__package__.count(".") + 1])
        code = _CODE.format(root=root, module=__name__)
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115  # it is closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, target, workload],
            text=True,
            env=os.environ | _ONE_THREAD,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        self._said.close()

    def block(self, calls):
        """Seconds of so many calls."""
        with contextlib.suppress(BrokenPipeError):  # there is no answer then
            self._process.stdin.write(f"{calls}\n")
            self._process.stdin.flush()
        return self.answer()

    def answer(self):
        if not (line := self._process.stdout.readline()):
            ended = self._process.wait()
            self._said.seek(0)
            last = self._said.read().strip()[-2000:]
            raise RuntimeError(f"its process ended with {ended}; its last words: {last}")
        return json.loads(line)


def obey(target, workload):
    """Be one of the two: build the cell on a core, and time blocks of calls as they are asked."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a library may print, too

    def answer(what):
        answers.write(f"{json.dumps(what)}\n")
        answers.flush()

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    try:
        backend, pipeline = open_target(target), pipeline_of(workload)
        inputs = make_inputs(pipeline, DTYPE, FILL, SEED)
        run = backend.build(pipeline, inputs.weights)
        x = backend.to_device(inputs.x)
    except Exception as error:
        if (why := explain(error)).status != "skipped":
            raise
        answer({"skipped": why.reason})
        return

    def block(calls):
        run(x)  # the other has used the caches
        backend.synchronize()
        begin_s = time.perf_counter()
        for _ in range(calls):
            run(x)
            backend.synchronize()
        return time.perf_counter() - begin_s

    block(3)
    calls = 1
    while (seconds := block(calls)) < 0.005:
        calls *= 2
    facts = {
        "algorithm": run.algorithm,
        "dtype": DTYPE,
        "flops": pipeline.flops,
        "bytes": pipeline.bytes(inputs.x.itemsize),
        "versions": backend.versions(),
    }
    answer({"call_s": seconds / calls, "facts": facts})
    for line in sys.stdin:
        answer(block(int(line)))
