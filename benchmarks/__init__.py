"""What is measured: asv's suites over `workloads.toml`. Start with `common.py`."""

from .common import import_libraries
from .interface import asv_mode

# The process that asv forks for every cell, with `--launch-method forkserver`.
if asv_mode() == "run_server":
    import_libraries()
