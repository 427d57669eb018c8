"""The judge's side of the conversation that follows a timing.

The backend's process is asked to compute on numbers that were drawn a moment ago from a secret, and
to hand over every output. What it says of itself is held against what the judge sees.

Time. The judge's clock runs from before the numbers leave it until the last byte of the answers is
there, so that whatever is deferred, cached, moved to another hook or given to a helper is in it.
Taken off is only what the system itself says of it: how long the threads of the process, and the
judge, have waited for a processor that others had, but never so much that less is left than all of
the processor time that the process has used. What it holds too many, the way of the bytes, is
measured on a process without a backend, and what the backend's own copies take beyond that is
allowed as far as copies can be worth. Of all these the fastest counts, and of the claim the median:
whatever else the machine does can only make the first longer and so the accused look better. What
the process says of its own clock can only speak against it. A claim that does not fit is looked at
again, twice, before anything is said.

Outputs. All of the batch that counts are looked at, and some of the others, drawn after they have
arrived; where in them is drawn after that.
"""

from __future__ import annotations

import math
import secrets
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from convbench.auditing.claims import Claim, Receipt, Support
from convbench.correctness.accuracy import Accuracy, accuracy_of, digest, refer_for
from convbench.correctness.sample import sample
from convbench.correctness.schemes import scheme_of
from convbench.errors import ArrayError
from convbench.machine import watch
from convbench.stimulus.arrays import Array, Weights
from convbench.stimulus.formats import FORMATS, Fill, format_of
from convbench.stimulus.inputs import Inputs
from convbench.stimulus.spec import PipelineSpec
from convbench.words.numbers import duration
from convbench.words.status import Outcome

TOLERANCE = 1.4
"""So many times the claim may be seen: a run on the same numbers finds them in the caches."""

SLACK_S = 30e-6
"""And so much longer: a library takes longer to be asked between other things than in a row."""

FRESH_TOLERANCE, FRESH_SLACK_S, FRESH_BYTES_PER_S = 1.35, 25e-6, 1e10
"""The same for runs on fresh numbers by the clock of the backend's own process."""

NEW_BYTES_PER_S = 4e9
"""Numbers and answers that are new lie in memory that no cache has, and that nobody has used."""

WAKE_S = 60e-6
"""A process that has waited for numbers starts a little slower: once a batch."""

ATTEMPTS = 5
"""A claim is doubted only if every one of these looks says so."""

LOOKED_AT = 3
"""Outputs of every look that are verified thoroughly; those of the fastest batch all, in part."""

FIRST_S = 0.08
"""For the first look: what is not doubted in it needs no other."""

BUDGET_S = 0.25
"""For one look. A batch that is longer than a share of it is waited for all the same."""

MOST_BATCH_BYTES = {"cpu": 3 << 20, "gpu": 32 << 20}
FEWEST_CALLS, LONG_S = 4, 5e-3
MOST_CALLS = 16
"""Of a batch. The first of them is slow: see :mod:`convbench.backends.attest`. It does not matter
where the claim is long."""

FEWEST_AT_FIRST, FEWEST_BATCHES, MOST_BATCHES = 3, 6, 12

COPY_BYTES_PER_S = {"cpu": 1e9, "gpu": 2e9}
COPY_S = {"cpu": 100e-6, "gpu": 500e-6}
"""What copying there and back may be worth at most: so many bytes a second, and so long a copy."""

QUIET_S = 0.1
QUIET_WINDOWS = 4
BUSY = 0.5
"""A process that uses this share of a core once it has returned goes on working."""

_VERIFY_FLOPS, _VERIFY_ELEMENTS = 2e7, 200_000
_GLANCE = 8
"""Positions of an output that are drawn where it is verified in part, each with all channels."""

_SEVERAL = 1.1
"""Who used so many cores for the claim may use all that there are when asked."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is being judged.

    Attributes
    ----------
    weights : Weights
        As the backend was given them.
    device : str
        "cpu", "gpu:0".
    hot_s, mean_s : float
        What is claimed: the median and the mean of the samples.
    accumulation, scheme : str, optional
        What the run declares its sums to be kept in, and how it saves multiplications.
    """

    pipeline: PipelineSpec
    weights: Weights
    device: str
    hot_s: float
    mean_s: float
    accumulation: str | None = None
    scheme: str | None = None

    def __post_init__(self) -> None:
        if not (0 < self.hot_s < math.inf and 0 < self.mean_s < math.inf):
            raise ValueError(f"it claims {self.hot_s} s, and {self.mean_s} s as the mean")


@dataclass(frozen=True, slots=True)
class Party:
    """A process that the judge asks.

    Attributes
    ----------
    ask : callable
        Give an order and wait for the answer.
    spent : callable
        What its threads have spent so far, as the system tells it.
    """

    ask: Callable[[dict[str, Any]], Any]
    spent: Callable[[], watch.Spent] = watch.Spent


@dataclass(frozen=True, slots=True)
class _Taken:
    """What an answer took, by our clock.

    And how much of that was waiting for a processor, on either side, what the other side has used
    of the processors, and what we have.
    """

    wall_s: float
    waited_s: float
    used_s: float
    ours_s: float
    answer: Any

    def theirs_s(self, ours_s: float = math.inf) -> float:
        """What the other side took, of our own share no more taken off than this."""
        # Threads may wait for each other on one core, which they keep busy then.
        less_s = self.wall_s - self.waited_s - min(self.ours_s, ours_s)
        return min(self.wall_s, max(less_s, self.used_s))


class Numbers:
    """Inputs that nobody has seen, all of them from one secret."""

    def __init__(self, pipeline: PipelineSpec, dtype: str, seed: str) -> None:
        self.shape = pipeline.input_shape
        self._storage = np.dtype(FORMATS[dtype].storage)
        self._random = np.random.default_rng(int(seed, 16))
        size = math.prod(self.shape)
        # One long draw, of which every input is another part, scaled: drawing is slower than runs.
        self._pool = self._random.standard_normal(2 * size + 4096, dtype=np.float32)
        self._size = size

    def draw(self) -> Array:
        """The next input."""
        start = int(self._random.integers(0, len(self._pool) - self._size))
        scale = np.float32(self._random.uniform(0.5, 2.0))
        x = self._pool[start : start + self._size].reshape(self.shape) * scale
        return x.astype(self._storage)


class Unanswered(Exception):
    """The process of a backend did not answer as one that computes; `outcome` says why."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class _Look:
    """One look at the time of a call.

    By our clock, in the fastest batch; and by its own, the median and the fastest.
    """

    net_s: float
    fresh_s: float
    fastest_s: float


class Examination:
    """One subject under one secret; it ends with a :class:`Receipt`.

    Parameters
    ----------
    subject : Subject
    accused, echo : Party
        The backend's process, and one without a backend.
    seed : str
        128 bits as hexadecimal digits; drawn now by default.
    cores : float
        How many it may use at the same time.
    """

    def __init__(
        self, subject: Subject, accused: Party, echo: Party, seed: str = "", cores: float = 1.0
    ) -> None:
        self.subject = subject
        self.seed = seed or secrets.token_hex(16)
        self._accused, self._echo, self._cores = accused, echo, cores
        self._numbers = Numbers(subject.pipeline, subject.weights.dtype, self.seed)
        self._chance = np.random.default_rng([int(self.seed, 16) >> 64, 1])
        self._inputs: list[str] = []
        self._outputs: list[str] = []
        self._worst = Accuracy(0.0)
        self._verified = 0
        self._doubt = ""
        kind = "cpu" if subject.device == "cpu" else "gpu"
        fit = MOST_BATCH_BYTES[kind] // max(self._size_bytes, 1)
        wanted = BUDGET_S / MOST_BATCHES / max(subject.hot_s, 1e-6)
        fewest = min(FEWEST_CALLS, math.ceil(LONG_S / max(subject.hot_s, 1e-6)))
        self._calls = int(max(fewest, min(MOST_CALLS, fit, wanted)))

    @property
    def _output_size(self) -> int:
        return math.prod(self.subject.pipeline.output_shape)

    @property
    def _size_bytes(self) -> int:
        """Of the numbers and the answer of a call."""
        return 4 * (math.prod(self.subject.pipeline.input_shape) + self._output_size)

    def run(self) -> Receipt:
        """Look at time and outputs, again if the time is doubted."""
        looks: list[_Look] = []
        for attempt in range(ATTEMPTS):
            looks.append(self._look(FIRST_S if attempt == 0 else BUDGET_S))
            if self._fits(looks[-1]):
                break
        best = min(looks, key=lambda look: max(look.net_s, look.fastest_s))
        scheme = self.subject.scheme
        return Receipt(
            claims=(self._time(best, doubted=not self._fits(looks[-1])), self._error()),
            hot_s=self.subject.hot_s,
            fresh_s=best.fresh_s,
            end_to_end_s=best.net_s,
            verified=self._verified,
            calls=len(self._outputs),
            error_over_bound=self._worst.ratio,
            saves=scheme_of(scheme, self.subject.pipeline).saves if scheme else 1.0,
            seed=self.seed,
            inputs=tuple(self._inputs),
            outputs=tuple(self._outputs),
        )

    # -- Time ------------------------------------------------------------------------------------

    def _look(self, budget_s: float) -> _Look:
        """Time batches of calls by our clock, and what is not theirs; the fastest count."""
        neutral = (1, 1, 1, math.prod(self.subject.pipeline.input_shape))
        work_s: list[float] = []
        copies_s: list[float] = []
        echo_s: list[float] = []
        fresh_s: list[float] = []
        drawn: list[tuple[Array, Any]] = []  # an output of each batch, and all of the fastest
        fastest: list[tuple[Array, Any]] = []
        ours_s = 0.0
        begin_s = time.monotonic()
        while len(work_s) < (FEWEST_BATCHES if budget_s == BUDGET_S else FEWEST_AT_FIRST) or (
            len(work_s) < MOST_BATCHES and time.monotonic() - begin_s < budget_s
        ):
            xs = [self._numbers.draw() for _ in range(self._calls)]
            order = {"xs": [x.reshape(neutral) for x in xs], "size": self._output_size}
            bare = self._timed(self._echo, {"do": "echo", **order})
            # Whoever stops or slows down the process without a backend changes its wall time only.
            used_s = bare.used_s + 2 * WAKE_S if bare.used_s else math.inf
            echo_s.append(min(bare.theirs_s(), used_s))
            # To read what is sent in drops takes us longer, and who sends it is none the faster.
            ours_s = max(ours_s, bare.ours_s)
            copies = self._timed(self._accused, {"do": "copies", **order})
            copies_s.append(copies.theirs_s(ours_s))
            work = self._timed(self._accused, {"do": "calls", "xs": xs})
            work_s.append(work.theirs_s(ours_s))
            fresh_s += [float(s) for s in work.answer["seconds"]]
            pairs = self._noted(xs, work.answer["ys"])
            drawn.append(pairs[int(self._chance.integers(0, len(pairs)))])
            if work_s[-1] <= min(work_s):
                fastest = pairs
        self._look_at(fastest, drawn)
        # Of what its copies take beyond bare ones, no more is believed than copies can be worth.
        copying_s = max(0.0, min(copies_s) - min(echo_s))
        copying_s = min(copying_s, self._calls * self._copy_s())
        net_s = (min(work_s) - min(echo_s) - copying_s) / self._calls
        return _Look(max(0.0, net_s), statistics.median(fresh_s), min(fresh_s))

    def _timed(self, party: Party, order: dict[str, Any]) -> _Taken:
        before, ours = party.spent(), watch.spent_here()
        begin_s, begin_cpu_s = time.perf_counter(), time.thread_time()
        answer = party.ask(order)
        wall_s, cpu_s = time.perf_counter() - begin_s, time.thread_time() - begin_cpu_s
        after = party.spent()
        waited_s = after.waited_s - before.waited_s + watch.spent_here().waited_s - ours.waited_s
        used_s = (after.cpu_s - before.cpu_s) / (self._cores if party is self._accused else 1.0)
        return _Taken(wall_s, waited_s, used_s, cpu_s, answer)

    def _copy_s(self) -> float:
        kind = "cpu" if self.subject.device == "cpu" else "gpu"
        return COPY_S[kind] + self._size_bytes / COPY_BYTES_PER_S[kind]

    def _fits(self, look: _Look) -> bool:
        claim_s = self.subject.hot_s
        slack_s = SLACK_S + WAKE_S / self._calls + self._size_bytes / NEW_BYTES_PER_S
        return (
            look.net_s <= TOLERANCE * claim_s + slack_s
            and look.fastest_s
            <= FRESH_TOLERANCE * claim_s + FRESH_SLACK_S + self._size_bytes / FRESH_BYTES_PER_S
        )

    def _time(self, best: _Look, *, doubted: bool) -> Claim:
        claimed_s = self.subject.hot_s
        seen_s = max(best.net_s, best.fastest_s)
        said = f"end to end says {duration(seen_s)}, the claim is {duration(claimed_s)}"
        if doubted:
            reason = (
                f"{said}: the fastest of {len(self._outputs)} calls on fresh numbers, in {ATTEMPTS}"
                " looks. The commonest cause is a synchronize() that does not wait; others are a"
                " cache by the identity or the content of the input, an output that is computed"
                " when it is read, and work that another thread, process or hook does"
            )
            return Claim("time", Support.NOT_SUPPORTED, seen_s, claimed_s, "s", reason)
        slow = self.subject.mean_s > 2 * claimed_s and self.subject.mean_s > claimed_s + SLACK_S
        more = f"; the mean of the samples is {duration(self.subject.mean_s)}" if slow else ""
        return Claim("time", Support.HOLDS, seen_s, claimed_s, "s", said + more)

    # -- Outputs ---------------------------------------------------------------------------------

    def _noted(self, xs: list[Array], ys: object) -> list[tuple[Array, Any]]:
        """Note the digests of inputs and outputs, and pair them."""
        if not isinstance(ys, list) or len(ys) != len(xs):
            raise ArrayError(
                f"outputs: their number is {len(ys) if isinstance(ys, list) else 'none'}; expected"
                f" {len(xs)}. Each call has one."
            )
        self._inputs += map(digest, xs)
        self._outputs += (digest(y) if isinstance(y, np.ndarray) else "no array" for y in ys)
        return list(zip(xs, ys, strict=True))

    def _look_at(self, fastest: list[tuple[Array, Any]], drawn: list[tuple[Array, Any]]) -> None:
        """Verify what the time is that of, all of it, and some of the others thoroughly."""
        chosen = [fastest[int(self._chance.integers(0, len(fastest)))]]
        others = self._chance.permutation(len(drawn))[: LOOKED_AT - 1]
        for x, y in chosen + [drawn[i] for i in others]:
            self._verify(x, y)
        for x, y in fastest:
            self._verify(x, y, thoroughly=False)

    def _verify(self, x: Array, y: object, *, thoroughly: bool = True) -> None:
        subject = self.subject
        self._verified += 1
        dtype = subject.weights.dtype
        if not isinstance(y, np.ndarray) or y.dtype.name != FORMATS[dtype].storage:
            self._doubt = self._doubt or f"the output is {getattr(y, 'dtype', 'no array')}"
            self._worst = Accuracy(math.inf)
            return
        where = (int(digest(y), 16) ^ (int(self.seed, 16) & 0xFFFFFFFF)) % 2**32
        if thoroughly:
            positions = sample(subject.pipeline, where, _VERIFY_FLOPS, _VERIFY_ELEMENTS)
        else:
            chance = np.random.default_rng(where)
            n, p, q, _ = subject.pipeline.output_shape
            drawn = [chance.integers(0, size, _GLANCE) for size in (n, p, q)]
            first, second, third = np.unique(drawn, axis=1)  # a small output has fewer
            positions = first, second, third
        inputs = Inputs(x, subject.weights)
        expected = refer_for(subject.pipeline, inputs, Fill.NORMAL, None, positions, subject.scheme)
        try:
            found = accuracy_of(y, expected)
        except ArrayError as error:
            self._doubt, found = str(error), Accuracy(math.inf)
        if found.ratio > self._worst.ratio:
            self._worst = found

    def _error(self) -> Claim:
        worst = self._worst
        said = f"{self._verified} of {len(self._outputs)} outputs of calls on fresh numbers"
        if self.subject.scheme:
            said += f", by the bound of {self.subject.scheme}, which it declares"
        declared = self.subject.accumulation
        usual = format_of(self.subject.weights.dtype).accumulation
        if worst.ok:
            return Claim("error", Support.HOLDS, worst.ratio, 1.0, "error / bound", said)
        loose = declared if declared and declared != usual else ""
        reason = f"{said}: the worst is {self._doubt or worst}"
        if loose:
            reason += f"; it declares sums in {loose}, and the bound is that of {usual}"
        return Claim("error", Support.NOT_SUPPORTED, worst.ratio, 1.0, "error / bound", reason)


# -- What else is going on -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Watched:
    """What was seen of a process while its claim was measured, and after it had returned."""

    before: watch.Seen | None
    after: watch.Seen | None
    later: watch.Seen | None
    wall_s: float
    since: watch.Seen | None = None
    last: watch.Seen | None = None
    """When the judge had asked all that it wanted."""

    @property
    def cpu_s(self) -> float:
        """Processor time of the process and all that it has started."""
        return self.after.cpu_s - self.before.cpu_s if self.before and self.after else 0.0

    @property
    def quiet(self) -> bool | None:
        """Whether it rested once it had returned."""
        if self.since is None or self.later is None:
            return None
        return self.later.cpu_s - self.since.cpu_s <= BUSY * QUIET_S

    @property
    def helpers(self) -> dict[int, str]:
        """The other processes that were seen, by number."""
        seen = (self.after, self.later, self.last)
        return {number: name for s in seen if s for number, name in s.helpers.items()}

    def cores(self, usable: int) -> float:
        """How many cores it may use when it is asked for the same again."""
        return usable if self.cpu_s > _SEVERAL * self.wall_s else 1.0


def watched_claims(seen: Watched, cores: int) -> Iterator[Claim]:
    """What can be said of the threads and processes of a cell."""
    if seen.before is None or seen.after is None:
        yield Claim(
            "threads", Support.NOT_SEEN, None, cores, "cores", "there is no /proc to look into"
        )
        return
    used = seen.cpu_s / seen.wall_s if seen.wall_s else 0.0
    started = seen.helpers
    said = f"{used:.2f} cores in use, {seen.after.threads} threads"
    if started:
        named = ", ".join(sorted(set(started.values())))
        reason = f"other processes run for it: {named}. What they do is in no clock of its own"
        yield Claim("threads", Support.NOT_SUPPORTED, len(started), 0, "processes", reason)
    elif seen.quiet is False:
        reason = (
            f"{said}; it goes on working after it has returned. See that synchronize() waits for"
            " all that was asked for"
        )
        yield Claim("threads", Support.NOT_SUPPORTED, used, cores, "cores", reason)
    else:
        yield Claim("threads", Support.HOLDS, round(used, 3), cores, "cores", said)
