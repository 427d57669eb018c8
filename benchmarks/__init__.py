"""What asv measures here: convbench's suites, and whatever else lies in this folder."""

# Those of the working tree, by their place: what is imported as convbench is each commit's.
suites = [f"{__path__[0]}/../src/convbench/suites"]
__path__ += suites

from . import convbench_common  # noqa: E402, F401  # it imports the libraries, before asv forks
