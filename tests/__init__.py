"""The tests. What they all inherit stands here, since this is imported before NumPy is."""

import os

# The products of the oracle are small. On two cores the threads of BLAS spend more time waiting for
# each other, and for the processes that are tested, than they save; who wants them says so.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
