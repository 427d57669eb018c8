"""What is measured: asv's suites over `workloads.toml`. Start with `common.py`."""

from convbench import evidence

from .common import import_libraries

# The process that asv forks for every cell, with `--launch-method forkserver`.
if evidence.asv_mode() == "run_server":
    import_libraries()
