"""All of convbench that the suites may call, under names that never change.

In the repository of convbench asv takes the suites from the working tree and the rest of ``src/``
from each commit that it measures, so every commit from this one on has to answer to these names,
with what the suites call on what they give. The list is only ever added to. Behind it src may move:
this file is what keeps the promise, and :mod:`convbench.suites.interface` knows the names of the
commits from before it. tests/test_benchmarks.py holds both.
"""

from __future__ import annotations

from convbench.backends import backend_class, open_backend
from convbench.backends.compute import compute
from convbench.backends.gauges import gauge
from convbench.correctness.accuracy import accuracy_of, digest, refer
from convbench.errors import ArrayError, TargetError, Unsupported
from convbench.machine.failures import explain
from convbench.machine.nvidia import nvidia_devices
from convbench.measuring.asv_run import asv_mode
from convbench.measuring.evidence import judged, stand_by, write
from convbench.measuring.timing import measure
from convbench.stimulus.inputs import make_inputs
from convbench.stimulus.spec import PipelineSpec
from convbench.stimulus.targets import Target

__all__ = [
    "ArrayError",
    "PipelineSpec",
    "Target",
    "TargetError",
    "Unsupported",
    "accuracy_of",
    "asv_mode",
    "backend_class",
    "compute",
    "digest",
    "explain",
    "gauge",
    "judged",
    "make_inputs",
    "measure",
    "nvidia_devices",
    "open_backend",
    "refer",
    "stand_by",
    "write",
]
