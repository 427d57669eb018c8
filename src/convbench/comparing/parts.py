"""What the terminal and the pull request say alike about a comparison."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from convbench.comparing.comparison import ComparedCell, Comparison, Effect, Mean, Verdict
from convbench.comparing.sides import Side
from convbench.results.folder import environment_in_words
from convbench.words.numbers import count, digits, duration, size, times
from convbench.words.text import clean

QUIET = frozenset({Verdict.NEW, Verdict.EQUIVALENT, Verdict.NOT_MEASURED})
"""Verdicts that nobody has to look at."""

LEGEND = (
    "head / base is above 1 where head is slower or larger; its interval covers what differs"
    " between processes, and what shifts a whole session only where that is said; 'would see' is"
    " the slow-down that a cell would have shown, four times in five"
)


SIDE_BY_SIDE = "side by side"
"""The mark of a cell whose sides were measured in turns."""

SIDE_BY_SIDE_TITLE = (
    "'side by side' is measured in pairs of processes that took turns on one core, by"
    " `convbench gate`, and not a commit after the other; its times are longer than those of the"
    " suites, which have all cores to themselves"
)


def legend(comparison: Comparison) -> str:
    """How to read the table."""
    marked = any(cell.pairs for cell in comparison.cells)
    return f"{LEGEND}; {SIDE_BY_SIDE_TITLE}" if marked else LEGEND


def split(
    comparison: Comparison, *, everything: bool = False
) -> tuple[list[ComparedCell], list[ComparedCell]]:
    """Cells to be shown, and cells of which their number is enough."""
    shown: list[ComparedCell] = []
    equal: list[ComparedCell] = []
    for cell in comparison.cells:
        quiet = cell.verdict in QUIET and not cell.moved and not cell.notes
        (equal if quiet and not everything else shown).append(cell)
    return shown, equal


_MOST_NAMED = 8
"""What concerns more cells than this does not name them all: the table does."""


def some(names: Sequence[str]) -> list[str]:
    """The first of them, and how many more there are."""
    more = len(names) - _MOST_NAMED
    return [*names[:_MOST_NAMED], *([f"and {more} more"] if more > 0 else ())]


_SAID_BY_NUMBERS = frozenset(
    {
        Verdict.REGRESSED,
        Verdict.SUSPECT,
        Verdict.IMPROVED,
        Verdict.EQUIVALENT,
        Verdict.UNDECIDED,
    }
)


def unsaid(cell: ComparedCell) -> tuple[str, ...]:
    """What there is to say about a cell beside its numbers."""
    has_interval = cell.effect is not None and cell.effect.low is not None
    said = has_interval and cell.verdict in _SAID_BY_NUMBERS
    return cell.notes if said or cell.verdict in QUIET else (cell.reason, *cell.notes)


def folded(cells: Iterable[ComparedCell]) -> str:
    """Count cells that are not shown."""
    counts = Counter(cell.verdict for cell in cells)
    return " and ".join(f"{number} {verdict}" for verdict, number in counts.items())


def skipped(cells: int) -> str:
    """Count cells that neither side has."""
    return f"{count(cells, 'cell')} skipped or not selected on both sides"


def where(side: Side, *, whole: bool = False) -> str:
    """Environment and machine; an interpreter's path only if the whole is wanted."""
    environment = side.environment if whole else environment_in_words(side.environment)
    return clean(", ".join(filter(None, (environment, side.machine))))


def span(found: Mean | Effect) -> str:
    """The interval."""
    if found.low is None or found.high is None:
        return "one process a side"
    return f"{times(found.low)} to {times(found.high)}"


def bits(comparison: Comparison) -> Iterator[str]:
    """In how many cells the outputs are the same; nothing if they are in all."""
    counts = Counter(cell.bits for cell in comparison.cells if cell.bits)
    varying = "different from process to process"
    words = {"same": "the same", "different": "different", "vary": varying}
    if counts["different"] or counts["vary"]:
        yield ", ".join(f"{counts[key]} {words[key]}" for key in words if counts[key])


def value(cell: ComparedCell, value: float | None) -> str:
    """A side's time, memory or number, in the unit that fits both."""
    if cell.kind == "number":
        return f"{digits(value)} {cell.unit}".strip()
    least = min((side for side in (cell.base.value, cell.head.value) if side), default=None)
    return (size if cell.kind == "memory" else duration)(value, least)


def standing(cell: ComparedCell) -> str:
    """What stands behind the times of both sides, once if it is the same, and the mark."""
    sides = ("base", cell.base.standing), ("head", cell.head.standing)
    words = [f"{name} {standing}" for name, standing in sides if standing]
    if cell.base.standing == cell.head.standing:
        words = [str(cell.base.standing)] if cell.base.standing else []
    return ", ".join((*words, *[SIDE_BY_SIDE] * bool(cell.pairs)))


def effect(cell: ComparedCell) -> str:
    """Head / base."""
    return times(cell.effect.ratio) if cell.effect else ""


def interval(cell: ComparedCell) -> str:
    """Of Head / base."""
    return span(cell.effect) if cell.effect and cell.effect.low is not None else ""


def quartiles(cell: ComparedCell) -> str:
    """Of asv's samples, of both sides."""
    sides = [
        " to ".join(duration(end, side.value) for end in side.quartiles_s) or "-"
        for side in (cell.base, cell.head)
    ]
    return "" if sides == ["-", "-"] else " -> ".join(sides)


def error(cell: ComparedCell) -> str:
    """Error over bound of both sides, once if they are the same."""
    errors = [
        "-" if side.error_over_bound is None else f"{side.error_over_bound:.2g}"
        for side in (cell.base, cell.head)
    ]
    if errors == ["-", "-"]:
        return ""
    return errors[0] if errors[0] == errors[1] else " -> ".join(errors)
