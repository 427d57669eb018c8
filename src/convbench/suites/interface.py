"""What the suites call of convbench: the one file here that knows where it is.

In the repository of convbench asv takes this folder from the working tree, and the rest of `src/`
from each commit that it measures. Commits from before `convbench.frozen` answer at the names that
the second half lists; nothing is added to those, and nothing is taken away. What `convbench.frozen`
was given later is None in commits that lack it. tests/test_benchmarks.py holds both lists.
"""

try:
    from convbench.frozen import (
        ArrayError,
        PipelineSpec,
        Target,
        TargetError,
        Unsupported,
        accuracy_of,
        asv_mode,
        backend_class,
        compute,
        digest,
        explain,
        make_inputs,
        measure,
        nvidia_devices,
        open_backend,
        refer,
        write,
    )
except ModuleNotFoundError as error:
    if error.name != "convbench.frozen":  # a broken import of ours must not look like an old commit
        raise
    from convbench import accuracy
    from convbench.accuracy import compare as accuracy_of
    from convbench.accuracy import refer
    from convbench.backends import backend_class, open_backend
    from convbench.environment import nvidia_devices
    from convbench.errors import ArrayError, TargetError, Unsupported
    from convbench.evidence import asv_mode, write
    from convbench.inputs import make_inputs
    from convbench.running import compute
    from convbench.spec import PipelineSpec
    from convbench.targets import Target
    from convbench.timing import measure
    from convbench.workers import NotComputed

    explain = NotComputed.of
    digest = getattr(accuracy, "digest", None)  # the first of them have none

try:
    from convbench.frozen import gauge, judged, stand_by
except ImportError:  # without a judge a time remains a claim
    gauge = judged = stand_by = None

# For an interpreter in which nothing else is to be imported: how long that takes is what is timed.
# All commits answer to it.
IMPORT_BACKEND_CLASS = "from convbench.backends import backend_class"

__all__ = [
    "IMPORT_BACKEND_CLASS",
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
