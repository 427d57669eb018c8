"""The outcome on one screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from convbench.comparing.comparison import BAD, ComparedCell, Verdict
from convbench.comparing.parts import some
from convbench.comparing.sides import Side
from convbench.results.folder import short
from convbench.words.numbers import count, date, si, times
from convbench.words.status import Exit, Status

from .data import Data, drift_in_words
from .parts import TONES, Facts, Part, Table, TableCell, Text, Tone, status

MOST_SHOWN = 8

VERDICT_TONES: dict[Verdict, Tone] = {
    **dict.fromkeys((*BAD, Verdict.VANISHED, Verdict.REGRESSED), "bad"),
    **dict.fromkeys((Verdict.SUSPECT, Verdict.NOT_COMPARABLE, Verdict.UNDECIDED), "care"),
    **dict.fromkeys((Verdict.IMPROVED, Verdict.FIXED, Verdict.EQUIVALENT), "good"),
}
_EXIT_TONES: dict[Exit, Tone] = {Exit.OK: "good", Exit.NOTHING: "care"}


def parts(data: Data) -> Iterator[Part]:
    """What became wrong or slower, of what, and where it was measured."""
    yield Text(data.outcome(), _EXIT_TONES.get(data.exit_code(), "bad"))
    if data.comparison:
        counts = data.comparison.counts.items()
        yield Facts.of(
            ((str(v), TableCell(str(n), VERDICT_TONES.get(v, ""))) for v, n in counts), large=True
        )
    elif data.rows:
        found = Counter(row.status for row in data.rows)
        yield Facts.of(
            ((str(s), TableCell(str(found[s]), TONES[s])) for s in Status if found[s]), large=True
        )
    yield Facts.of(_sides(data))
    warnings = data.comparison.warnings if data.comparison else ()
    for sentence in (*warnings, *data.remarks):
        yield Text(sentence, "care")
    if data.comparison:
        yield from (Text(f"{remark}.") for remark in data.comparison.remarks)
        if command := data.comparison.gate_it:
            yield Text(f"Some times are not known well enough. Gate it: {command}")
    if data.comparison and data.comparison.against:
        for said in some(data.comparison.against.lines()):
            yield Text(said, "care" if data.comparison.against.slower else "")
    for said in some([*map(drift_in_words, data.drifts)]):
        yield Text(said, "care")
    if data.problems:
        problems = count(len(data.problems), "problem")
        yield Text(f"{problems} with files that could not be read; see the last section.", "care")
    if not data.head.records:
        yield Text("`convbench bench` measures this commit, and then this page has more to show.")
        return
    yield from _worst(data)
    if data.comparison and data.comparison.means:
        yield Table.of(
            "Geometric mean of head / base over whole pipelines",
            "target | > workloads | > head / base | > low | > high",
            (
                (m.target, str(m.cells), *map(times, (m.ratio, m.low, m.high)))
                for m in data.comparison.means
            ),
            folded=False,
        )


def _sides(data: Data) -> Iterator[tuple[str, str]]:
    yield "head", _described(data, data.head)
    if data.comparison:
        yield "base", _described(data, data.comparison.base)
        yield "delta", f"differences of up to {100 * data.rule.delta:g} % do not matter"
    yield "machine", data.head.machine
    yield "environment", data.head.environment
    yield "targets", ", ".join(data.targets)


def _described(data: Data, side: Side) -> str:
    if not side.commit:
        return "none"
    made = date(side.records[0].commit_time_s) if side.records else ""
    return " ".join(filter(None, (short(side.commit), data.subjects.get(side.commit), made)))


def _worst(data: Data) -> Iterator[Part]:
    if data.comparison:
        cells = [c for c in data.comparison.cells if c.verdict in _SHOWN or c.moved]
        if not cells:
            yield Text("No cell is wrong, slower or faster for sure.")
            return
        yield Table.of(
            "What to look at first",
            "verdict | workload | target | > head / base | > low | > high | why",
            map(compared, cells), folded=False, most=MOST_SHOWN,
        )  # fmt: skip
        return
    rows = [row for row in data.rows if row.status not in {Status.OK, Status.SKIPPED}]
    if rows:
        yield Table.of(
            "What to look at first",
            "status | workload | target | > time | why",
            (
                (status(row.status), row.workload, row.target, si(row.time_s, "s"),
                 "; ".join(dict.fromkeys(of.reason for _, of in row.outcomes
                                         if of.status == row.status)))
                for row in rows
            ),
            folded=False, most=MOST_SHOWN,
        )  # fmt: skip


_SHOWN = BAD | {
    Verdict.VANISHED,
    Verdict.REGRESSED,
    Verdict.SUSPECT,
    Verdict.IMPROVED,
    Verdict.FIXED,
}


def compared(cell: ComparedCell) -> tuple[str | TableCell, ...]:
    """A row of a table of verdicts."""
    effect = cell.effect
    return (
        TableCell(str(cell.verdict), VERDICT_TONES.get(cell.verdict, "")),
        cell.name if cell.kind != "memory" else f"{cell.name} memory",
        cell.target,
        *(map(times, (effect.ratio, effect.low, effect.high)) if effect else ("", "", "")),
        "; ".join((cell.reason, *cell.notes)),
    )
