"""How long a whole pipeline takes when its launches are replayed as a CUDA graph.

For small sizes most of a call is the asking: Python, and a launch for every kernel. A replay asks
once, so this is close to what the device itself needs. It is a method of its own, and is compared
with nothing else.
"""

from .convbench_common import (
    DTYPE,
    FILL,
    ROUNDS,
    SEED,
    TARGETS,
    cell,
    make_inputs,
    names,
    open_target,
    pipeline_of,
    since,
    timed_call,
)
from .interface import Unsupported

METHOD = "wall time of a CUDA graph replay + synchronize, caches hot"


class Smoke:
    params = (tuple(t for t in TARGETS if "@gpu" in t), names("smoke"))
    param_names = ("target", "workload")
    type = "time"
    unit = "seconds"
    version = "1"

    @cell(ROUNDS)
    def track_time(self, target, workload):
        backend, pipeline = open_target(target), pipeline_of(workload)
        capture = since(backend, "capture")
        inputs = make_inputs(pipeline, DTYPE, FILL, SEED)
        run = backend.build(pipeline, inputs.weights)
        replay = capture(run, backend.to_device(inputs.x))
        if replay is None:
            raise Unsupported(f"{backend.name} does not record CUDA graphs")
        return timed_call(
            backend,
            lambda _: replay(),
            None,
            method=METHOD,
            algorithm=run.algorithm,
            dtype=DTYPE,
            flops=pipeline.flops,
            bytes=pipeline.bytes(inputs.x.itemsize),
        )
