"""How the time of one layer grows with its size, so that crossovers between targets can be seen.

A 3x3 convolution with a bias, over the height and width at 32 channels, and over the channels at
14 x 14: log spaced, from what is all overhead to what is all arithmetic.
"""

from .convbench_common import ROUNDS, TARGETS, cell, timed
from .interface import PipelineSpec

SIZES = {
    **{f"sweep.hw_{size}": (size, 32) for size in (8, 16, 32, 64, 128, 256, 512)},
    **{f"sweep.c_{channels}": (14, channels) for channels in (1, 4, 16, 64, 256, 1024)},
}


class Standard:
    param_names = ("target", "workload")
    params = (TARGETS, tuple(SIZES))
    type = "time"
    unit = "seconds"
    version = "1"

    @cell(ROUNDS, stands=True)
    def track_time(self, target, workload):
        size, channels = SIZES[workload]
        conv = {"k": channels, "r": 3, "s": 3, "padding": "SAME"}
        pipeline = {"n": 1, "h": size, "w": size, "c": channels, "conv": conv, "bias": True}
        return timed(target, PipelineSpec.from_dict(pipeline))
