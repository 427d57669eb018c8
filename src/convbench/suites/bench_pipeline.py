"""How long a whole pipeline takes."""

from .convbench_common import FULL, ROUNDS, TARGETS, cell, names, pipeline_of, timed


class _Pipeline:
    param_names = ("target", "workload")
    type = "time"
    unit = "seconds"
    version = "1"

    @cell(ROUNDS, stands=True)
    def track_time(self, target, workload):
        return timed(target, pipeline_of(workload))


class Smoke(_Pipeline):
    params = (TARGETS, names("smoke"))


class Standard(_Pipeline):
    params = (TARGETS, names("standard"))


if FULL:

    class Full(_Pipeline):
        params = (TARGETS, names("full"))
