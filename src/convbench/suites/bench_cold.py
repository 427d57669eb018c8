"""How long a whole pipeline takes when its inputs are in no cache."""

from .convbench_common import FULL, TARGETS, cell, names, pipeline_of, timed


class _Cold:
    param_names = ("target", "workload")
    type = "time"
    unit = "seconds"
    version = "1"

    @cell(rounds=5)
    def track_time(self, target, workload):
        return timed(target, pipeline_of(workload), cold=True)


class Smoke(_Cold):
    params = (TARGETS, names("smoke"))


if FULL:

    class Standard(_Cold):
        params = (TARGETS, names("standard"))
