"""What a child of the watch is at first: it sees to its limits, and becomes the command.

It is run by its path and imports nothing of convbench: ``python -I confine.py PARENT COMMAND ...``.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

MOST_BYTES = 8 << 30
"""No file that it writes may be larger."""

_SET_DEATH_SIGNAL = 1


def main() -> None:
    """Become the command, unless whoever started this is gone already."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":  # or what a killed watch has begun would go on beside the next one
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() == parent:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_BYTES, MOST_BYTES))
        os.execvp(command[0], command)  # noqa: S606  # there is no shell in between


if __name__ == "__main__":
    main()
