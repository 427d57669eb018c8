"""What has to be waited for once: importing the library, starting it, building, and the first call.

Every phase is timed in a process in which nothing else has run. Where processes are forked from one
that has imported the libraries already, the import is timed in an interpreter of its own.
"""

import subprocess
import sys
import time

from .convbench_common import (
    DTYPE,
    FILL,
    SEED,
    TARGETS,
    cell,
    open_target,
    pipeline_of,
)
from .interface import IMPORT_BACKEND_CLASS, Target, backend_class, make_inputs

WORKLOAD = "inception_v3.7a_3x3b"
PHASES = ("import", "start", "build", "first_call")

_IMPORT = """
import time
start = time.perf_counter()
{backend_class}
backend_class({name!r}).library()
print(time.perf_counter() - start)
"""


class Standard:
    params = (TARGETS, (WORKLOAD,), PHASES)
    param_names = ("target", "workload", "stage")
    type = "time"
    unit = "seconds"
    version = "1"
    # A library is imported once for all variants and devices.
    skip_params = tuple(
        (target, WORKLOAD, "import") for target in TARGETS if "." in target.partition("@")[0]
    )

    @cell(rounds=3, alone=True)
    def track_time(self, target, workload, phase):
        facts = {"method": f"wall time of one {phase}, in a process of its own", "dtype": DTYPE}
        if phase == "import":
            open_target(target)  # whether it is there at all
            took_s = _import(Target.parse(target).backend)
        else:
            took_s = _phase(target, workload, phase)
        facts["spent_s"] = took_s
        return {"samples": [took_s], "number": 1}, facts


def _import(name):
    code = _IMPORT.format(backend_class=IMPORT_BACKEND_CLASS, name=name)
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        last = done.stderr.strip()[-2000:]
        raise RuntimeError(f"importing {name} ended with {done.returncode}; its last words: {last}")
    return float(done.stdout.split()[-1])  # a library may print, too


def _phase(target, workload, phase):
    backend_class(Target.parse(target).backend).library()
    pipeline = pipeline_of(workload)
    inputs = make_inputs(pipeline, DTYPE, FILL, SEED)
    times = [time.perf_counter()]
    backend = open_target(target)
    # A library starts its threads, or a card its context, with the first array.
    x = backend.to_device(inputs.x)
    backend.synchronize()
    times.append(time.perf_counter())
    run = backend.build(pipeline, inputs.weights)
    backend.synchronize()
    times.append(time.perf_counter())
    run(x)
    backend.synchronize()
    times.append(time.perf_counter())
    which = PHASES.index(phase) - 1
    return times[which + 1] - times[which]
