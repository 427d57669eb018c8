"""What became wrong, slower or better between two measured commits, and how sure that is.

The records of two sides become one :class:`~convbench.comparing.comparison.ComparedCell` for each
workload on each target (and stage), with a verdict and a reason. docs/comparing.md says what they
mean and why.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from convbench.comparing import stats
from convbench.comparing.comparison import (
    ORDER,
    SESSIONS_UNKNOWN,
    SLOWER,
    Against,
    ComparedCell,
    Comparison,
    Effect,
    Mean,
    Measured,
    Rule,
    Verdict,
    paired,
)
from convbench.comparing.gated import (
    GATED,
    Both,
    Checks,
    Name,
    Numbers,
    PairName,
    fitting,
    is_gated,
    join,
    with_gates,
)
from convbench.comparing.pairs import clustered
from convbench.comparing.settings import changes
from convbench.comparing.sides import Side
from convbench.comparing.suspicion import Excuse, alike, excused, excuses, torn
from convbench.errors import InputError
from convbench.results.gates import SIDE_BY_SIDE, Gate
from convbench.results.machines import fingerprint
from convbench.results.records import OTHER, Record
from convbench.results.sessions import Between, Spread
from convbench.words.numbers import count, duration, integer, share, times
from convbench.words.status import Status

Draws = tuple[float, ...]
"""One number a process."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """What both sides have of a cell: the number, and the check of the output it belongs to."""

    kind: str
    suite: str
    name: Name
    numbers: Both
    checks: Both
    own_check: bool
    log_ratios: Mapping[PairName, float] = field(default_factory=dict)
    """Of the pairs in which both numbers were measured side by side."""

    @property
    def records(self) -> Iterator[Record]:
        """Those that the cell is made of."""
        return filter(None, [*self.numbers, *(self.checks if self.own_check else ())])

    @property
    def sessions(self) -> float:
        """1 / (sessions of base) + 1 / (sessions of head): what remains of their variance."""
        return sum(1 / record.sessions for record in self.numbers if record)

    def excuses(self, *, turned: bool = False) -> list[Excuse]:
        """What was worse about the machine for head; if turned, for base."""
        base, head = self.numbers
        if base is None or head is None:
            return []
        if turned:
            return excuses(head.health, base.health, base.device, ("head", "base"))
        return excuses(base.health, head.health, head.device, ("base", "head"))


def compare(
    base: Side,
    head: Side,
    rule: Rule | None = None,
    bench: str | None = None,
    gates: Sequence[Gate] = (),
    between: Between | None = None,
) -> Comparison:
    """Judge every cell that either side has.

    Parameters
    ----------
    rule : Rule, optional
        By default `Rule()`.
    bench : str, optional
        A regular expression, as asv's ``--bench``: only cells of which it matches some benchmark,
        in asv's notation ``bench_pipeline.Smoke.track_time('numpy@cpu', 'notebook.conv')``.
        Whether an output is right is taken into account all the same.
    gates : sequence of Gate
        The newest first. Those of both commits, on the machine and in the environments of both
        sides, count before what was measured apart. Where nothing was measured apart, the sides
        are those of the newest.
    between : Between, optional
        How far sessions of this machine differ, by which the intervals of times are widened that
        were measured apart: either side was measured in a session of its own.

    Raises
    ------
    InputError
        If it is not a regular expression.
    """
    rule = rule or Rule()
    gates = fitting(gates, base, head)
    if gates:
        base, head = (
            side if side.machine else Side(of.commit, of.environments[0], gates[0].machine)
            for side, of in ((base, gates[0].base), (head, gates[0].head))
        )
        gates = fitting(gates, base, head)
    missing = [name for name, side in (("base", base), ("head", head)) if not side.records]
    if missing and not gates:
        return Comparison(base, head, rule, (), unmeasured=tuple(missing))
    numbers, checks = _found(base, head)
    gated = join(numbers, checks, gates)
    pairs = _pair(numbers, checks, gated.log_ratios)
    if bench is not None:
        matches = _matcher(bench)
        pairs = [pair for pair in pairs if any(map(matches, pair.records))]
    unlike = base.machine != head.machine
    judged = [_judge(pair, unlike=unlike) for pair in pairs]
    between = Between() if unlike or between is None else between
    cells, means, warnings = _judge_numbers(pairs, judged, rule, between, unlike=unlike)
    common: list[str] = []
    if unlike:
        cells = [
            replace(cell, reason=f"{cell.reason} (unlike machines)") if cell.effect else cell
            for cell in cells
        ]
        warnings.append(
            f"unlike machines: base was measured on {base.machine} and head on {head.machine}, so"
            " any difference may be theirs"
        )
    else:
        cells, common = alike(cells, rule)
        warnings += _two_machines(base, head)
    remarks = (*gated.remarks(cells), *common, *_of_sessions(cells, between), *_of_runs(pairs))
    return Comparison(
        base, head, rule, tuple(sorted(cells, key=worst_first)), means,
        changes(*with_gates((base, head), numbers)),
        tuple(warnings), remarks, judged.count(None),
    )  # fmt: skip


def against(
    asked: str,
    head: Side,
    references: Sequence[Side],
    rule: Rule,
    bench: str | None = None,
    between: Between | None = None,
) -> Against:
    """Hold head against each of several commits, so that of all claims few are false.

    The lowest of many noisy times is lower than any of them is in truth, and a head that is as fast
    as ever is slower than it. So no lowest is taken: head is compared with each, at a level of
    (1 - confidence) / their number (Bonferroni), and is slower than the best if it surely is slower
    than any of them.

    References
    ----------
    O. J. Dunn, Multiple comparisons among means, J. Am. Stat. Assoc. 56, 1961.
    """
    each = replace(rule, confidence=1 - (1 - rule.confidence) / max(len(references), 1))
    clearest: dict[tuple[str, ...], tuple[str, ComparedCell]] = {}
    for side in references:
        for cell in compare(side, head, each, bench, between=between).cells:
            if cell.effect is None or cell.effect.low is None:
                continue
            name = (cell.kind, cell.suite, cell.target, cell.workload, cell.stage)
            known = clearest.setdefault(name, (side.commit, cell))
            if _clearer(cell) < _clearer(known[1]):
                clearest[name] = (side.commit, cell)
    found = sorted(clearest.values(), key=lambda item: worst_first(item[1]))
    return Against(asked, tuple(side.commit for side in references), tuple(found))


def _clearer(cell: ComparedCell) -> tuple[int, float]:
    """Lower where it is more clearly slower: by the p value, or else by the end of the interval."""
    assert cell.effect is not None
    if cell.verdict in SLOWER:
        return ORDER[cell.verdict], cell.effect.p_value or 0.0
    return len(ORDER), -(cell.effect.low or 0.0)


def _matcher(bench: str) -> Callable[[Record], bool]:
    try:
        pattern = re.compile(bench)
    except re.error as error:
        raise InputError(
            f"compare: --bench is {bench!r}; expected a regular expression ({error}). Correct it."
        ) from error

    def matches(record: Record) -> bool:
        if record.suite == OTHER:
            return pattern.search(record.workload) is not None
        params = filter(None, (record.target, record.workload, record.stage))
        return pattern.search(f"{record.benchmark}({', '.join(map(repr, params))})") is not None

    return matches


def _found(base: Side, head: Side) -> tuple[Numbers, Checks]:
    """Put the records of both sides together."""
    numbers: Numbers = {}
    checks: Checks = {}
    for i, side in enumerate((base, head)):
        # Whichever suite a workload stands in; what was measured last counts.
        for record in sorted(side.records, key=lambda record: record.measured_at_s):
            name = (record.target, record.workload, record.stage)
            if record.kind == "accuracy":
                both = checks.setdefault(name, [None, None])
            else:
                both = numbers.setdefault((record.kind, record.suite, name), [None, None])
            both[i] = record
    return numbers, checks


def _pair(
    numbers: Numbers, checks: Checks, log_ratios: Mapping[Name, Mapping[PairName, float]]
) -> list[_Pair]:
    """Put each number together with the check of the output that it belongs to."""
    pairs = []
    owned: set[Name] = set()
    nothing: Both = [None, None]
    for (kind, suite, name), both in numbers.items():
        whole = (*name[:2], "")
        own = kind == "time" and suite == "pipeline" and name in checks
        if own:
            owned.add(name)
        check = checks.get(name) or checks.get(whole) or nothing
        of_pairs = log_ratios.get(name, {}) if (kind, suite) == GATED else {}
        pairs.append(_Pair(kind, suite, name, both, check, own, of_pairs))
    for name, check in checks.items():
        if name not in owned:
            pairs.append(_Pair("accuracy", "accuracy", name, nothing, check, own_check=True))
    return pairs


def _judge(pair: _Pair, *, unlike: bool) -> ComparedCell | None:
    """All that can be said without statistics; undecided where those have to speak.

    None if neither side has measured anything.
    """
    if {record.status for record in pair.records} <= {Status.SKIPPED}:
        return None
    parts: list[tuple[Verdict, str]] = []
    if pair.kind != "accuracy":
        part = _of_status("measured", *pair.numbers)
        if part and part[0] in {Verdict.FIXED, Verdict.VANISHED} and is_gated(pair.numbers[0]):
            part = (Verdict.NOT_COMPARABLE, f"base: {_why(pair.numbers[0])}")
        if part is None:
            why = _incomparable(pair, unlike=unlike)
            part = (Verdict.NOT_COMPARABLE, why) if why else _of_numbers(pair)
        parts.append(part)
    if pair.own_check:
        parts = _with_check(parts, *pair.checks)
    (verdict, reason), *others = sorted(parts, key=lambda part: ORDER[part[0]])
    target, workload, stage = pair.name
    base, head = map(_measured, pair.numbers, pair.checks if pair.own_check else [None, None])
    notes = [
        f"{other}: {why}" for other, why in others if ORDER[other] < ORDER[Verdict.NOT_COMPARABLE]
    ]
    if base.algorithm and head.algorithm and base.algorithm != head.algorithm:
        notes.append(f"the algorithm was {base.algorithm} and is {head.algorithm}")
    return ComparedCell(
        pair.kind, pair.suite, target, workload, stage, verdict, reason, base, head,
        bits=_bits(base.digests, head.digests), notes=tuple(notes), pairs=len(pair.log_ratios),
        unit=next((str(record.facts.get("unit", "")) for record in pair.records), ""),
    )  # fmt: skip


def _of_numbers(pair: _Pair) -> tuple[Verdict, str]:
    """What two numbers say by themselves; of ours nothing, for which there are statistics.

    asv keeps one number of a benchmark that is none of ours, over all of its processes, and perhaps
    their samples, without saying which process took which.
    """
    base, head = pair.numbers
    if pair.suite != OTHER or base is None or head is None:
        return Verdict.UNDECIDED, ""
    if base.value == head.value and pair.kind != "time":
        return Verdict.EQUIVALENT, "the same number"
    if pair.kind != "time":
        return (
            Verdict.UNDECIDED,
            "asv kept one number a side: how far two of them differ is not known",
        )
    if all(record.facts.get("samples") for record in (base, head)):
        why = "asv kept the samples of all processes together, without saying whose they are"
    else:
        why = "asv kept no samples (`asv run --record-samples` keeps them all together)"
    return Verdict.UNDECIDED, f"{why}: how far two processes differ is not known"


def _with_check(
    parts: Sequence[tuple[Verdict, str]], base: Record | None, head: Record | None
) -> list[tuple[Verdict, str]]:
    """Join what the number says, if there is one, and what the check of the output says."""
    verdict, reason = _of_status("right", base, head) or (
        Verdict.EQUIVALENT, f"{_word(base, 'right')} in base, {_word(head, 'right')} in head",
    )  # fmt: skip
    number = [part for part in parts if part[0] is not Verdict.NOT_MEASURED]
    if not number:
        return [(verdict, reason)]
    match verdict:
        case Verdict.NEW | Verdict.EQUIVALENT | Verdict.NOT_MEASURED:
            return number  # that the output is right is not the news
        case Verdict.SKIPPED | Verdict.VANISHED if verdict is number[0][0]:
            return number  # nor that there is none to check
        case Verdict.FIXED if number[0][0] is Verdict.NOT_COMPARABLE:
            return [(verdict, reason)]  # and that is why
        case Verdict.WRONG | Verdict.STILL_WRONG | Verdict.FIXED:
            return [*number, (verdict, reason)]
    return [*number, (verdict, f"the check of its output: {reason}")]


def _of_status(good: str, base: Record | None, head: Record | None) -> tuple[Verdict, str] | None:
    """What follows from what became of a record, of which one that is ok is called `good`.

    None where both sides have a number that is right.
    """
    before = base.status if base else None
    was = f"base was {_word(base, good)}"
    is_good = f"head is {_word(head, good)}"
    match head.status if head else None:
        case None if before in {None, Status.SKIPPED}:
            return Verdict.NOT_MEASURED, f"{was} and head was not selected"
        case None:
            return Verdict.VANISHED, f"{was}, and head was not selected or not run"
        case Status.OK if before is Status.OK:
            return None
        case Status.OK if before in {None, Status.SKIPPED}:
            return Verdict.NEW, f"{was}, {is_good}"
        case Status.OK:
            return Verdict.FIXED, f"{was}, {is_good}"
        case Status.SKIPPED if before is Status.OK:
            return Verdict.SKIPPED, f"{was}, head is skipped: {_why(head)}"
        case Status.SKIPPED:
            return Verdict.NOT_MEASURED, f"{was}, head is skipped: {_why(head)}"
        case Status.FAILED if before is Status.FAILED:
            return Verdict.STILL_FAILED, f"as in base: {_why(head)}"
        case Status.FAILED:
            return Verdict.FAILED, f"{was}, head has failed: {_why(head)}"
        case _ if before in {Status.WRONG, Status.DEVIATES}:
            return Verdict.STILL_WRONG, f"{was}, and so is head: {_why(head)}"
    return Verdict.WRONG, f"{was}, head is wrong: {_why(head)}"


def _word(record: Record | None, good: str) -> str:
    if record is None:
        return "not measured"
    word = good if record.status is Status.OK else str(record.status)
    if record.kind == "accuracy" and record.value is not None:
        word += f" (error / bound {record.value:.3g})"
    return word


def _why(record: Record | None) -> str:
    return (record and record.reason) or "no reason is known"


def _measured(record: Record | None, check: Record | None) -> Measured:
    facts = check.facts if check else {}
    digests = facts.get("digests") or filter(None, [facts.get("digest")])
    known = (record and record.facts.get("algorithm")) or facts.get("algorithm") or ""
    return Measured(
        status=record.status if record else None,
        value=record.value if record else None,
        processes=len(_draws(record)),
        correct=check.status if check else None,
        error_over_bound=check.value if check else None,
        digests=tuple(dict.fromkeys(map(str, digests))),
        algorithm=str(known),
        standing=record.standing if record else None,
        quartiles_s=_quartiles_s(record),
        runs=record.runs if record else (),
    )


def _draws(record: Record | None) -> Draws:
    return record.draws if record else ()


def _positive(numbers: Collection[float]) -> bool:
    # Of a benchmark of somebody else's a number may be anything, and a ratio has to be one, too.
    return bool(numbers) and all(1e-150 < number < 1e150 for number in numbers)


def _bits(base: Collection[str], head: Collection[str]) -> str:
    if not base or not head:
        return ""
    if len(base) > 1 or len(head) > 1:
        return "vary"
    return "same" if set(base) == set(head) else "different"


def _incomparable(pair: _Pair, *, unlike: bool) -> str:
    """Why two numbers are not of the same thing, with both values; "" if they are."""
    base, head = pair.numbers
    for side, check in zip(("base", "head"), pair.checks, strict=True):
        if check is not None and check.status in {Status.WRONG, Status.DEVIATES}:
            return f"the output of {side} is wrong, and the time of a wrong result means nothing"
        if check is not None and check.status is Status.FAILED:
            return f"whether the output of {side} is right is not known: its check failed"
    assert base is not None
    assert head is not None
    if base.version != head.version:
        return _two("version of the benchmark", base.version, head.version)
    known: list[tuple[str, Any, Any]] = [
        (what, base.facts.get(fact), head.facts.get(fact)) for what, fact in _SAME_FACTS
    ]
    if not unlike:
        known.append(("CPU", _of_machine(base, "cpu_model"), _of_machine(head, "cpu_model")))
        cores = (_of_machine(record, "machine_cores") for record in (base, head))
        known.append(("number of cores", *cores))
        if base.device.startswith("gpu"):
            known.append(("GPU", _gpu(base), _gpu(head)))
    for what, one, other in known:
        # What only one side has written down is no difference.
        if one and other and one != other:
            return _two(what, one, other)
    return ""


_SAME_FACTS = (
    ("method of timing", "method"),
    ("precision", "dtype"),
    ("precision", "precision"),
    ("workload: its number of operations", "flops"),
    ("workload: its number of bytes", "bytes"),
)


def _two(what: str, base: object, head: object) -> str:
    return f"another {what}: base {base}, head {head}"


def _of_machine(record: Record, fact: str) -> Any:
    machine = record.facts.get("machine")
    return machine.get(fact) if isinstance(machine, Mapping) else None


def _quartiles_s(record: Record | None) -> tuple[float, ...]:
    """As asv keeps them; () of what is no pair of numbers, as a line of evidence may have it."""
    told = record.facts.get("quartiles_s") if record else None
    numbers = isinstance(told, list | tuple) and all(type(each) in {int, float} for each in told)
    return tuple(told) if told and numbers else ()


def _gpu(record: Record) -> str:
    """The name of the card that a target ran on; "" if nothing tells."""
    cards = _of_machine(record, "gpus")
    if not isinstance(cards, Sequence) or not cards:
        return ""
    index = record.device.partition(":")[2]
    place = integer(index) or 0
    card = cards[place] if 0 <= place < len(cards) else cards[0]
    return str(card.get("name", "")) if isinstance(card, Mapping) else ""


def _judge_numbers(
    pairs: Sequence[_Pair],
    judged: Sequence[ComparedCell | None],
    rule: Rule,
    between: Between,
    *,
    unlike: bool,
) -> tuple[list[ComparedCell], tuple[Mean, ...], list[str]]:
    """Decide what statistics can decide, over all cells at once; and what is to be warned of."""
    done: list[ComparedCell] = []
    open_cells: list[ComparedCell] = []
    open_pairs: list[_Pair] = []
    processes: list[tuple[Draws, Draws]] = []
    log_ratios: list[Mapping[PairName, float]] = []
    for pair, cell in zip(pairs, judged, strict=True):
        if cell is None:
            continue
        both = _draws(pair.numbers[0]), _draws(pair.numbers[1])
        if cell.verdict is not Verdict.UNDECIDED:
            done.append(cell)
        elif all(map(_positive, both)):
            open_cells.append(cell)
            open_pairs.append(pair)
            processes.append(both)
            log_ratios.append(pair.log_ratios)
        else:
            reason = "a number is not above 0, or beyond all bounds, so there is no ratio"
            done.append(replace(cell, verdict=Verdict.NOT_COMPARABLE, reason=reason))
    found = stats.ratios([base for base, _ in processes], [head for _, head in processes])
    if gated := [i for i, pairs in enumerate(log_ratios) if pairs]:
        of_pairs = stats.paired([log_ratios[i].values() for i in gated])
        for name in ("log", "error", "freedom"):
            getattr(found, name)[gated] = getattr(of_pairs, name)
    _widen(found, open_cells, open_pairs, between)
    known = ~np.isnan(found.error)
    low, high = stats.intervals(found, rule.confidence)
    p = stats.benjamini_hochberg(stats.p_values(found, rule.minimum_effect))
    level, number = 1 - rule.confidence, int(known.sum())
    # With one claim more than there are, its p value would have to be this.
    rank = min(int((p <= level).sum()) + 1, number)
    smallest = stats.smallest_effects(
        found, level * rank / max(number, 1), rule.minimum_effect, rule.power
    )
    columns = [column.tolist() for column in (found.ratio, low, high, p, smallest)]
    hidden: Counter[str] = Counter()
    for cell, pair, has_interval, row in zip(
        open_cells, open_pairs, known.tolist(), zip(*columns, strict=True), strict=True
    ):
        effect = Effect(*row) if has_interval else Effect(row[0])
        verdict, reason = _decide(effect, cell, number, rule)
        if cell.pairs:
            reason = f"{SIDE_BY_SIDE} in {count(cell.pairs, 'pair')}: {reason}"
        moved = verdict is Verdict.EQUIVALENT and _surely(effect, rule)
        told = replace(cell, verdict=verdict, reason=reason, effect=effect, moved=moved)
        if cell.pairs:
            told = paired(told, effect)
        if cell.kind == "time" and not cell.pairs and not unlike:
            told = torn(excused(told, pair.excuses(), rule), rule)
            if verdict is not Verdict.REGRESSED:
                hidden.update(excuse.said for excuse in pair.excuses(turned=True))
        done.append(told)
    warnings = [
        f"{said}: in {count(number, 'cell')} head may be slower than it seems"
        for said, number in hidden.items()
    ]
    return done, _means(open_pairs, processes, open_cells, rule, between), warnings


def _widen(
    found: stats.Ratios, cells: Sequence[ComparedCell], pairs: Sequence[_Pair], between: Between
) -> None:
    """Widen what was measured apart by how far sessions differ, as far as that is known."""
    of_sessions = [
        between.of(cell.target) if cell.kind == "time" and not cell.pairs else None
        for cell in cells
    ]
    variances = np.array(
        [
            pair.sessions * spread.variance if spread else 0.0
            for pair, spread in zip(pairs, of_sessions, strict=True)
        ]
    )
    freedoms = np.array([spread.freedom if spread else 1.0 for spread in of_sessions])
    wider = stats.widened(found, variances, freedoms)
    apart = variances > 0
    for name in ("error", "freedom"):
        getattr(found, name)[apart] = getattr(wider, name)[apart]


def _of_sessions(cells: Sequence[ComparedCell], between: Between) -> Iterator[str]:
    """What is known of the sessions in which times were measured apart, where there are any."""
    apart = [cell for cell in cells if cell.kind == "time" and cell.effect and not cell.pairs]
    if apart and between.unused:
        yield between.unused
    known: dict[str, dict[str, None]] = {}
    for cell in apart:
        if (spread := between.of(cell.target)) is not None:
            known.setdefault(share(spread.deviation), {})[cell.target] = None
    if known:
        by = [
            deviation + (f" ({', '.join(targets)})" if len(known) > 1 else "")
            for deviation, targets in known.items()
        ]
        yield (
            f"sessions of this machine differ by {', '.join(by)}, from {between.source}: what was"
            " measured apart has intervals that are as much wider"
        )
    unknown = [cell for cell in apart if between.of(cell.target) is None]
    if any(cell.verdict in {Verdict.REGRESSED, Verdict.IMPROVED} for cell in unknown):
        yield (
            f"{SESSIONS_UNKNOWN}, and no interval covers it:"
            " run `convbench doctor --calibrate 10` there, measure one commit twice, or gate what"
            " was claimed"
        )


def _two_machines(base: Side, head: Side) -> Iterator[str]:
    """That one name stands for two, which is not to be mixed silently."""
    known = [
        {found for record in side.records if (found := _fingerprint(record))}
        for side in (base, head)
    ]
    if all(known) and not known[0] & known[1]:
        one, other = (" or ".join(sorted(some)) for some in known)
        yield f"{head.machine} is two machines: base was measured on {one}, and head on {other}"


def _fingerprint(record: Record) -> str:
    machine = record.facts.get("machine")
    return fingerprint(machine) if isinstance(machine, Mapping) else ""


def _of_runs(pairs: Sequence[_Pair]) -> Iterator[str]:
    """How often either side was measured, and the time in which that shows most."""
    for i, side in enumerate(("base", "head")):
        several = [r for pair in pairs if (r := pair.numbers[i]) and r.runs and r.kind == "time"]
        if not several:
            continue
        worst = max(several, key=lambda record: _apart([run.value for run in record.runs]))
        values = [run.value for run in worst.runs]
        each = ", ".join(duration(value, min(values)) for value in values)
        number = max(len(record.runs) for record in several)
        counted = max(sum(run.counted for run in record.runs) for record in several)
        which = "all of which count together"
        if counted < number:
            which = f"of which {'the last' if counted == 1 else f'{counted} together'} counts"
            which += ": the others are of uncommitted changes or other versions, or by asv"
        yield (
            f"{side} was measured {number} times, {which}; most apart is {worst.target} on"
            f" {worst.workload}: {each}"
        )


def _apart(values: Sequence[float]) -> float:
    return max(values) / min(values) if min(values) > 0 else math.inf


def _means(
    pairs: Sequence[_Pair],
    processes: Sequence[tuple[Draws, Draws]],
    cells: Sequence[ComparedCell],
    rule: Rule,
    between: Between,
) -> tuple[Mean, ...]:
    """Of each target, over the times of whole pipelines, by name."""
    apart: dict[str, list[tuple[Draws, Draws]]] = {}
    gated: dict[str, list[Mapping[PairName, float]]] = {}
    sessions: dict[str, float] = {}
    for pair, cell, both in zip(pairs, cells, processes, strict=True):
        if cell.suite == "pipeline" and not cell.stage and pair.log_ratios:
            gated.setdefault(cell.target, []).append(pair.log_ratios)
        elif cell.suite == "pipeline" and not cell.stage:
            apart.setdefault(cell.target, []).append(both)
            sessions[cell.target] = max(pair.sessions, sessions.get(cell.target, 0.0))
    return tuple(
        mean_of(
            target, apart.get(target, []), rule, gated.get(target, []), between.of(target),
            sessions.get(target, 2.0),
        )
        for target in sorted(apart.keys() | gated.keys())
    )  # fmt: skip


def mean_of(
    target: str,
    sides: Sequence[tuple[Draws, Draws]],
    rule: Rule,
    gated: Sequence[Mapping[PairName, float]] = (),
    spread: Spread | None = None,
    sessions: float = 2.0,
) -> Mean:
    """The geometric mean of head / base over cells, given by the processes of either side.

    Where any cell has an interval, it is over those that have one.

    Parameters
    ----------
    gated : sequence of mapping of PairName to float
        Cells that were measured side by side, given by the logarithms of their pairs.
    spread : Spread, optional
        Of the sessions that the others were measured in, which may move all of them alike.
    sessions : float
        One over how many there were, of base and of head, added up.
    """
    several = [both for both in sides if min(map(len, both)) > 1]
    paired = [pairs for pairs in gated if len(pairs) > 1]
    known = bool(several or paired)
    chosen, chosen_pairs = (several, paired) if known else (sides, gated)
    means = []
    if chosen:
        of_medians = stats.geometric_mean(
            [base for base, _ in chosen], [head for _, head in chosen]
        )
        if spread is not None and spread.variance:
            of_medians = stats.widened(of_medians, sessions * spread.variance, spread.freedom)
        means.append((len(chosen), of_medians))
    if chosen_pairs:
        means.append((len(chosen_pairs), clustered(chosen_pairs)))
    mean = means[0][1] if len(means) == 1 else stats.pooled(means)
    low, high = stats.intervals(mean, rule.confidence)
    ends = (float(low[0]), float(high[0])) if known else (None, None)
    return Mean(target, sum(cells for cells, _ in means), float(mean.ratio[0]), *ends)


def _surely(effect: Effect, rule: Rule) -> bool:
    return effect.p_value is not None and effect.p_value <= 1 - rule.confidence


def _decide(effect: Effect, cell: ComparedCell, cells: int, rule: Rule) -> tuple[Verdict, str]:
    """Say what an effect means; `cells` is how many have an interval."""
    counts = {"base": cell.base.processes, "head": cell.head.processes}
    low, high = effect.low, effect.high
    if cell.suite == OTHER:
        return cell.verdict, cell.reason
    if low is None or high is None:
        # Memory is measured in one process: what that takes is nearly always the same to the byte.
        if cell.kind == "memory" and effect.ratio == 1:
            return Verdict.EQUIVALENT, "the same number of bytes"
        few = " and ".join(side for side, count in counts.items() if count < 2)
        one, two = ("pair", "pairs") if cell.pairs else ("process", "processes")
        return Verdict.UNDECIDED, (
            f"{few} measured in one {one}: how far two {two} differ is not known"
        )
    more, less, span = _WORDS[cell.kind == "memory"]
    span = span.format(times(low), times(high)) + f" ({100 * rule.confidence:g} %)"
    factor = f"{times(max(effect.ratio, 1 / effect.ratio))}x"
    factor += f" {more if effect.ratio > 1 else less}"
    if 1 / (1 + rule.delta) < low and high < 1 + rule.delta:
        within = f"within {100 * rule.delta:g} %: {span}"
        return Verdict.EQUIVALENT, (
            f"surely {factor}, but {within}" if _surely(effect, rule) else within
        )
    if _surely(effect, rule):
        verdict = Verdict.REGRESSED if effect.ratio > 1 else Verdict.IMPROVED
        apart = "" if cell.pairs else f"; {counts['base']} and {counts['head']} processes"
        return verdict, f"{factor}: {span}{apart}"
    least = 1 + rule.minimum_effect
    if low > least or high < 1 / least:
        span += f", as one of {count(cells, 'cell')} may by chance (p {effect.p_value:.2g})"
    seen = effect.seen
    if seen is None:
        return Verdict.UNDECIDED, f"{span}; so few processes could not have shown any effect"
    return Verdict.UNDECIDED, f"{span}; {share(seen)} {more} would have been seen"


_WORDS = (
    ("slower", "faster", "head takes {} to {} times as long"),
    ("larger", "smaller", "head needs {} to {} times as much"),
)


def worst_first(cell: ComparedCell) -> tuple[Any, ...]:
    """Where a cell stands among those of a comparison."""
    distance = abs(math.log(cell.effect.ratio)) if cell.effect else 0.0
    name = (cell.target, cell.workload, cell.stage, cell.suite)
    return ORDER[cell.verdict], not cell.moved, -distance, name
