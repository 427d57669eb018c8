"""The most that a device can do: a large matrix product, and copies in and out of the caches.

The report derives from these where every result stands on the roofline, and that one above it
cannot be true.
"""

import numpy as np

from .convbench_common import DTYPE, ROUNDS, TARGETS, cell, gauged, open_target, timed_call

# A product whose matrices (4 MB each) are read from the caches, a copy that cannot be, and one
# that is within the second level.
GEMM = 1024
COPIES = {"ceiling.copy": 256 << 20, "ceiling.copy_cached": 256 << 10}


class Smoke:
    # One answer a device: variants do not differ here.
    params = (
        tuple(t for t in TARGETS if "." not in t.partition("@")[0]),
        ("ceiling.gemm", *COPIES),
    )
    param_names = ("target", "workload")
    type = "time"
    unit = "seconds"
    version = "1"

    @cell(ROUNDS)
    def track_time(self, target, workload):
        backend = open_target(target)
        if workload == "ceiling.gemm":
            run = gauged(backend, "gemm")(GEMM)
            x = backend.to_device(np.ones((GEMM, GEMM), DTYPE))
            facts = {"flops": 2 * GEMM**3, "bytes": 3 * GEMM**2 * 4}
        else:
            size = COPIES[workload]
            run = gauged(backend, "copier")(size)
            x = backend.to_device(np.ones(size // 4, DTYPE))
            facts = {"flops": 0, "bytes": 2 * size}
        return timed_call(backend, run, x, algorithm=workload, dtype=DTYPE, **facts)
