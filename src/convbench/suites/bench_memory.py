"""How much memory a pipeline takes at its peak beyond its input: weights, workspace, output."""

from .convbench_common import TARGETS, cell, names, peak_bytes, pipeline_of


class Smoke:
    param_names = ("target", "workload")
    params = (TARGETS, names("smoke"))
    unit = "bytes"
    version = "1"

    @cell(rounds=3, alone=True)
    def track_peak_bytes(self, target, workload):
        return peak_bytes(target, pipeline_of(workload))
