"""The outcome on one screen: what became of it, how sure that is, and what stands behind it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from convbench.comparing import parts as words
from convbench.comparing.beside import Fastest, fastest
from convbench.comparing.comparison import (
    BAD,
    SESSIONS_UNKNOWN,
    ComparedCell,
    Comparison,
    Mean,
    Verdict,
)
from convbench.comparing.judge import mean_of
from convbench.comparing.sides import Side
from convbench.results.folder import short
from convbench.results.records import OTHER, Record
from convbench.results.rows import Row
from convbench.words.numbers import count, date, digits, faster, share, si, times
from convbench.words.status import Exit, Standing, Status

from .data import Data, drift_in_words
from .parts import Facts, Part, Table, TableCell, Text, Tone, status
from .site.side_by_side import hardware, versions

MOST_SHOWN = 3
MOST_WORKLOADS = 12

VERDICT_TONES: dict[Verdict, Tone] = {
    **dict.fromkeys((*BAD, Verdict.VANISHED, Verdict.REGRESSED), "bad"),
    **dict.fromkeys((Verdict.SUSPECT, Verdict.NOT_COMPARABLE, Verdict.UNDECIDED), "care"),
    **dict.fromkeys((Verdict.IMPROVED, Verdict.FIXED, Verdict.EQUIVALENT), "good"),
}
_EXIT_TONES: dict[Exit, Tone] = {Exit.OK: "good", Exit.NOTHING: "care"}


def parts(data: Data) -> Iterator[Part]:
    """What became wrong or slower, who is fastest, and what stands behind that."""
    yield Text(data.outcome(), _EXIT_TONES.get(data.exit_code(), "bad"))
    for sentence in _in_short(data):
        yield Text(sentence)
    if not data.head.records:
        yield Text("`convbench bench` measures this commit, and then this page has more to show.")
    yield from _worst(data)
    yield Facts.of(_behind(data))
    yield from _targets(data)
    yield from _fastest(data)
    warnings = data.comparison.warnings if data.comparison else ()
    for sentence in (*warnings, *data.remarks):
        yield Text(sentence, "care")
    if data.comparison:
        yield from (
            Text(f"{remark[:1].upper()}{remark[1:]}.") for remark in data.comparison.remarks
        )
    if data.comparison and (held := data.comparison.against):
        said = held.lines()[0]
        yield Text(f"{said[0].upper()}{said[1:]}; see the history.", "care" if held.slower else "")
    for said in words.some([*map(drift_in_words, data.drifts)]):
        yield Text(said, "care")
    if data.problems:
        problems = count(len(data.problems), "problem")
        yield Text(f"{problems} with files that could not be read; see the last section.", "care")


# -- In sentences ----------------------------------------------------------------------------------


def _in_short(data: Data) -> Iterator[str]:
    if data.comparison and not data.comparison.unmeasured:
        yield _sure(data.comparison)
    elif data.measured:
        ran = [row for row in data.rows if row.suite == "layers" and row.status in _RAN]
        right = sum(row.status is Status.OK and row.error_over_bound is not None for row in ran)
        unchecked = sum(row.error_over_bound is None for row in ran)
        said = f"{right} of {len(ran)} results are right"
        said += f", {unchecked} of them were not checked" if unchecked else ""
        first = Counter(best.time.target for best in _ranked(data) if best.second)
        if first:
            target, number = first.most_common(1)[0]
            of = count(first.total(), "workload")
            said += f"; {target} is the fastest on {number} of {of}"
        yield f"{said}. There is no base, so nothing is said of what became slower or faster."


_RAN = frozenset(Status) - {Status.SKIPPED}


def _sure(comparison: Comparison) -> str:
    """How sure the verdict is."""
    rule = comparison.rule
    false = f"{100 * (1 - rule.confidence):.2g} %"
    sentences = [
        f"Of what is called slower or faster at most {false} is false, in expectation; a difference"
        f" of up to {100 * rule.delta:g} % does not matter."
    ]
    claimed = [c for c in comparison.cells if c.verdict in {Verdict.REGRESSED, Verdict.IMPROVED}]
    apart = sum(cell.kind == "time" and not cell.pairs for cell in claimed)
    if apart and any(said.startswith(SESSIONS_UNKNOWN) for said in comparison.remarks):
        sentences.append(
            f"{apart} of the {len(claimed)} were measured apart: what shifts a whole session can be"
            " in them, too."
        )
    undecided = [c for c in comparison.cells if c.verdict is Verdict.UNDECIDED and c.effect]
    if undecided:
        seen = sorted(c.effect.seen for c in undecided if c.effect and c.effect.seen)
        what = f"a slow-down of {share(seen[len(seen) // 2])}" if seen else "any effect"
        half = "half of " if len(seen) > 1 else ""
        cells = count(len(undecided), "undecided cell")
        sentences.append(f"In {half}the {cells} {what} could have gone unseen.")
    return " ".join(sentences)


# -- In tables -------------------------------------------------------------------------------------


def _worst(data: Data) -> Iterator[Part]:
    bad = {Status.INVALID} if data.comparison else {*Status} - {Status.OK, Status.SKIPPED}
    rows = [row for row in data.rows if row.status in bad]
    if data.comparison:
        cells = [c for c in data.comparison.cells if c.verdict in _SHOWN or c.moved]
        places = {
            verdict: place for place, verdict in enumerate(dict.fromkeys(c.verdict for c in cells))
        }
        # Of two that are equally bad, the one that is surer.
        cells.sort(key=lambda cell: (places[cell.verdict], not cell.pairs))
        if cells:
            shown = {(cell.workload, cell.target) for cell in cells[:MOST_SHOWN]}
            rows = [row for row in rows if (row.workload, row.target) not in shown]
            yield Table.of(
                _most("What to look at first", len(cells)), COMPARED,
                (compared(data, cell) for cell in cells[:MOST_SHOWN]), folded=False,
            )  # fmt: skip
    if rows:
        title = "What cannot be true" if data.comparison else "What to look at first"
        yield Table.of(
            _most(title, len(rows)),
            "workload | ^ target | status | > error / bound | > time | ~ why",
            map(_bad_row, [data] * MOST_SHOWN, rows), folded=False,
        )  # fmt: skip


def _most(title: str, number: int) -> str:
    return f"{title}: {MOST_SHOWN} of {number}" if number > MOST_SHOWN else title


def _bad_row(data: Data, row: Row) -> tuple[str | TableCell, ...]:
    why = dict.fromkeys(of.reason for _, of in row.outcomes if of.status == row.status)
    return (
        TableCell(row.workload, command=data.command(row.workload, row.target)), row.target,
        status(row.status), digits(row.error_over_bound), si(row.time_s, "s"), "; ".join(why),
    )  # fmt: skip


_SHOWN = BAD | {
    Verdict.VANISHED,
    Verdict.REGRESSED,
    Verdict.SUSPECT,
    Verdict.IMPROVED,
    Verdict.FIXED,
}

COMPARED = (
    "workload | ^ target | ~> base | > head | > head / base | ~> interval | verdict"
    " | ~> error / bound | ~ stands | ~ why"
)
"""The header of a table of verdicts."""


def compared(data: Data, cell: ComparedCell) -> tuple[str | TableCell, ...]:
    """A row of it."""
    suite = "pipeline" if cell.kind == "time" and cell.suite == "pipeline" else cell.suite
    again = "" if cell.suite == OTHER else data.command(cell.workload, cell.target, suite)
    return (
        TableCell(f"{cell.name}{' memory' * (cell.kind == 'memory')}", command=again),
        cell.target,
        words.value(cell, cell.base.value),
        words.value(cell, cell.head.value),
        words.effect(cell),
        words.interval(cell),
        TableCell(str(cell.verdict), VERDICT_TONES.get(cell.verdict, "")),
        words.error(cell),
        TableCell(words.standing(cell), title=words.SIDE_BY_SIDE_TITLE if cell.pairs else ""),
        "; ".join(words.unsaid(cell)),
    )


def _targets(data: Data) -> Iterator[Part]:
    """A row a target: how often it is the fastest, how fast and how right it is, what it became."""
    used = data.times
    first = Counter(best.time.target for best in _ranked(data) if best.second)
    means = {mean.target: mean for mean in data.comparison.means} if data.comparison else {}
    rows = []
    for target in data.targets:
        both = [
            (record, used[workload, data.baseline])
            for (workload, of), record in used.items()
            if of == target and (workload, data.baseline) in used
        ]
        mine = [row for row in data.rows if row.target == target and row.suite == "layers"]
        checked = [row.error_over_bound for row in mine if row.error_over_bound is not None]
        if not mine:
            continue
        # How many times as long as the target the baseline takes: as fast as it the target is.
        mean = total = None
        if both and target != data.baseline:
            mean = mean_of(target, [(one.draws, base.draws) for one, base in both], data.rule)
            mine_s, base_s = (
                sum(record.value or 0.0 for record in of) for of in zip(*both, strict=True)
            )
            total = base_s / mine_s
        right = sum(error <= 1 for error in checked)
        tone: Tone = "good" if right == len(checked) else "bad"
        now = means.get(target)
        rows.append(
            (
                target,
                f"{first[target]} of {first.total()}" if first else "",
                TableCell(f"{right} of {len(checked)}", tone) if checked else "not checked",
                faster(mean.ratio) if mean else "baseline" if target == data.baseline else "",
                _ends(mean),
                TableCell(faster(total), title=_TOTAL) if total else "",
                times(now.ratio) if now else "",
                words.span(now) if now and now.low else "",
                digits(max(checked, default=None)),
            )
        )  # fmt: skip
    if rows:
        yield Table.of(
            f"Targets: how many times as fast as {data.baseline} over whole pipelines, and what"
            " became of them (geometric means)",
            "target | ~> fastest on | > right | > mean | ~> interval | > in total"
            " | > head / base | ~> its interval | ~> worst error / bound",
            rows,
            folded=False,
        )


_TOTAL = "by the sums of the times of the workloads that both have: what counts is what takes long"


def _ends(mean: Mean | None) -> str:
    if mean is None or mean.low is None or mean.high is None:
        return ""
    return f"{faster(mean.low)} to {faster(mean.high)}"


def _ranked(data: Data) -> list[Fastest]:
    return [*fastest(data.times, data.rule.confidence)]


def _fastest(data: Data) -> Iterator[Part]:
    ranked = [best for best in _ranked(data) if best.second and best.speed_up]
    if ranked:
        yield Table.of(
            "Fastest target of each workload",
            "workload | ^ fastest | > time | > times as fast as the next | ~> interval"
            " | ~ the next | ~ what it computes",
            (
                (
                    TableCell(workload := best.time.workload,
                              command=data.command(workload, best.time.target)),
                    best.time.target, si(best.time.value, "s"),
                    TableCell(
                        faster(best.speed_up.ratio), "" if best.speed_up.sure else "care",
                        "" if best.speed_up.sure else "the interval has 1 in it: not surely faster",
                    ),
                    best.speed_up.span, best.second.target, data.pipelines.get(workload, ""),
                )
                for best in ranked if best.speed_up and best.second
            ),
            folded=len(ranked) > MOST_WORKLOADS,
        )  # fmt: skip


# -- What stands behind it -------------------------------------------------------------------------


def _behind(data: Data) -> Iterator[tuple[str, str | TableCell]]:
    yield "timings", _receipts([*data.times.values()])
    yield "session", _session(data.head.records)
    side = data.head
    libraries = [
        f"{name} {version}" for name, version in versions(side.records).items()
        if re.search(r"\d\.\d", version)
    ]  # fmt: skip
    known = [words.where(side), *hardware(side.records), *libraries]
    yield "measured on", ", ".join(filter(None, known))
    yield "head", _described(data, data.head)
    if data.comparison:
        yield "base", _described(data, data.comparison.base)
        if command := data.comparison.gate_it:
            yield "gate it", TableCell("what is open, with both sides in turns", command=command)


def _receipts(records: Sequence[Record]) -> str | TableCell:
    """How many times were verified while they were taken."""
    stands = Counter(record.standing for record in records)
    if not stands:
        return ""
    said = f"{stands[Standing.HELD]} of {stands.total()} verified while they were taken"
    claims = stands[Standing.CLAIM]
    return TableCell(f"{said}; {claims} claimed" if claims else said, "care" if claims else "good")


def _session(records: Sequence[Record]) -> str:
    """How the machine was at its worst, as far as the processes have told."""
    healths = [record.health for record in records]
    told = []
    loads = [(h.load, h.cores) for h in healths if h.load is not None]
    if loads:
        load, cores = max(loads)
        told.append(f"load up to {load:.1f}{f' on {cores} cores' if cores else ''}")
    for what, shares in (
        ("taken by the host", [h.stolen for h in healths if h.stolen is not None]),
        ("stopped by the quota", [h.stopped for h in healths if h.stopped is not None]),
    ):
        if shares:
            told.append(f"{share(max(shares))} {what}")
    clocks = [h.cpu_mhz for h in healths if h.cpu_mhz]
    if clocks:
        ends = dict.fromkeys(f"{clock:.0f}" for clock in (min(clocks), max(clocks)))
        told.append(f"{' to '.join(ends)} MHz")
    slowed = sorted({why for h in healths for card in h.cards for why in card.slowed})
    return ", ".join((*told, *slowed))


def _described(data: Data, side: Side) -> TableCell:
    if not side.commit:
        return TableCell("none")
    made = date(side.records[0].commit_time_s) if side.records else ""
    said = " ".join(filter(None, (short(side.commit), data.subjects.get(side.commit), made)))
    return TableCell(said, link=data.link(side.commit))
