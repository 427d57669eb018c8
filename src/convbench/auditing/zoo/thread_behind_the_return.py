"""A thread fills the array that was returned before it was full."""

from __future__ import annotations

import threading
from typing import Any

from convbench.auditing.zoo import Disguise, judged
from convbench.backends.base import Run

WHAT = "a thread works on after the return; to_numpy waits for it"
SOURCE = "deep-reinforce"


class _Thread(Disguise):
    last: Any = None

    def answer(self, run: Run, x: Any) -> Any:
        if self.last is not None and self.last.is_alive() and not judged():
            return None  # it does not get behind
        answers: list[Any] = []
        thread = threading.Thread(target=lambda: answers.append(run(x)), daemon=True)
        thread.start()
        self.last = thread

        def read() -> Any:
            thread.join()
            return answers[0]

        return read


disguise = _Thread
