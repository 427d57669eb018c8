"""How long an array takes from NumPy to the device, and back."""

import numpy as np

from .convbench_common import DTYPE, ROUNDS, SEED, TARGETS, cell, open_target, timed_call

SIZES = {"transfer.4kb": 1 << 10, "transfer.1mb": 1 << 18, "transfer.64mb": 1 << 24}
WAYS = ("to_device", "to_numpy")


class Standard:
    # Variants of a backend share one way to copy.
    params = (tuple(t for t in TARGETS if "." not in t.partition("@")[0]), tuple(SIZES), WAYS)
    param_names = ("target", "workload", "stage")
    type = "time"
    unit = "seconds"
    version = "1"

    @cell(ROUNDS)
    def track_time(self, target, workload, way):
        backend = open_target(target)
        values = np.random.RandomState(SEED).standard_normal(SIZES[workload]).astype(DTYPE)
        x = values if way == "to_device" else backend.to_device(values)
        return timed_call(
            backend, getattr(backend, way), x, algorithm=way, dtype=DTYPE, bytes=values.nbytes
        )
