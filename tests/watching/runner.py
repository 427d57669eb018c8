"""`convbench watch` with stand-ins for what it starts, which may be told to die at its n-th write.

    python runner.py FOLDER WRITES WORDS ...

WRITES is 0 for never; n dies after the n-th, -n before it.
"""

from __future__ import annotations

import functools
import itertools
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from convbench.cli.main import main
from convbench.watching import rounds, state


@contextmanager
def standing_in(folder: Path, writes: int = 0) -> Iterator[None]:
    """Replace what takes long, and what writes."""
    fake = (sys.executable, "-I", str(Path(__file__).with_name("fake.py")), str(folder))
    made, count = state.write, itertools.count(1)

    def write(*arguments: object, **named: object) -> None:
        number = next(count)
        if number == -writes:
            os.kill(os.getpid(), signal.SIGKILL)
        made(*arguments, **named)
        if number == writes:
            os.kill(os.getpid(), signal.SIGKILL)

    faked = functools.partial(rounds.Rounds, convbench=fake, asv=fake)
    with patch.object(rounds, "Rounds", faked), patch.object(state, "write", write):
        yield


if __name__ == "__main__":
    with standing_in(Path(sys.argv[1]), int(sys.argv[2])):
        sys.exit(main(["watch", *sys.argv[3:]]))
