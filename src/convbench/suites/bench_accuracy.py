"""How far a result lies from the float64 oracle, in units of how far a correct one may lie."""

from .convbench_common import FULL, TARGETS, cell, error_over_bound, names, pipeline_of


class _Accuracy:
    param_names = ("target", "workload")
    unit = "error / bound"
    version = "1"

    @cell(rounds=2)
    def track_error_over_bound(self, target, workload):
        return error_over_bound(target, pipeline_of(workload))


class Smoke(_Accuracy):
    params = (TARGETS, names("smoke"))


class Standard(_Accuracy):
    params = (TARGETS, names("standard"))


if FULL:

    class Full(_Accuracy):
        params = (TARGETS, names("full"))
