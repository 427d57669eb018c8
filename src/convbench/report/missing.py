"""Everything without a result, or with one that does not count, and why."""

from __future__ import annotations

from collections.abc import Iterator

from convbench.results.rows import causes_in_words
from convbench.words.text import clip

from .data import Data
from .parts import Nothing, Part, Table, status


def parts(data: Data) -> Iterator[Part]:
    """Each reason once, with what it concerns; and the files that could not be read."""
    causes = causes_in_words(data.rows)
    if causes:
        yield Table.of(
            "Reasons",
            "status | reason | what to do | which",
            (
                (status(of), reason, remedy, clip(where))
                for (of, reason, remedy), where in causes.items()
            ),
            folded=False,
        )
    elif data.head.records:
        yield Nothing("nothing was skipped, and nothing failed")
    else:
        yield Nothing("nothing was measured")
    if data.problems:
        yield Table.of(
            "What could not be read",
            "file and reason",
            ([problem] for problem in data.problems),
            folded=False,
        )
