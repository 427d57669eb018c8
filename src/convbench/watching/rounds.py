"""A round: what is new is found, and each commit is measured, gated, traced, reported and told."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from convbench import __version__
from convbench.errors import InputError
from convbench.gate.build import sources
from convbench.machine.git import full_hash, subjects
from convbench.machine.project import Watch
from convbench.results.folder import short
from convbench.watching.children import Ended, allowed, run
from convbench.watching.repository import Clone
from convbench.watching.state import BAD, KEPT, Book, Doing, Stage, Verdict, Watched
from convbench.words.numbers import count
from convbench.words.status import Exit
from convbench.words.text import clean, clip

TRIES = 2
"""A commit of which a step fails so often has failed."""

DEATHS = 5
"""A commit at which the watch itself dies so often has failed, too."""

_PYTHON = (sys.executable, "-P", "-m")  # the folder that it runs in is the commit's


@dataclass
class Rounds:
    """The watch of one folder.

    Attributes
    ----------
    folder : Path
        ``.asv/watch`` of a project.
    ways : mapping of str to callable
        How somebody is told, by a name: each is given a notice, and says what went wrong, or "".
    say : callable
        Is told how it goes.
    convbench, asv : tuple of str
        How a child is started.
    """

    folder: Path
    asked: Watch
    clone: Clone
    book: Book
    ways: Mapping[str, Callable[[Mapping[str, Any]], str]]
    say: Callable[[str], None]
    stopping: Callable[[], object]
    convbench: Sequence[str] = (*_PYTHON, "convbench")
    asv: Sequence[str] = (*_PYTHON, "asv")
    handled: list[Watched] = field(default_factory=list)

    def round(self) -> str:
        """Do all that is to be done; what went wrong, or "".

        Raises
        ------
        Stopped
            When somebody wants the watch to end; what is not complete is begun again next time.
        InputError, OSError
            If the state cannot be written, or the clone is not usable.
        """
        problems = [self.clone.fetch()]
        unreached: dict[str, str] = {}
        self._tell(unreached)  # what could not be told before
        if not problems[0]:  # or a clone that was removed would have no branch, and forget all
            self._find()
        while waiting := [c for c in self.book.state.commits if c.waits]:
            self._handle(waiting[0])
            self._tell(unreached)
        if self.book.state.tips and not self.book.state.published:
            problems.append(self._publish())
        problem = "; ".join(filter(None, (*problems, *unreached.values())))
        ended = {} if problem else {"round_s": time.time()}
        self.book.change(doing=None, problem=problem, **ended)
        return problem

    # -- What is new ------------------------------------------------------------------------------

    def _find(self) -> None:
        """Note all commits that are new, once, and those that have gone."""
        state, tips = self.book.state, self.clone.tips()
        if tips == state.tips:
            return
        found = self.clone.new(tips, state.anchors)
        said = subjects(found, self.clone.folder)
        known = [*state.commits]
        known += [
            Watched(commit, clip(clean(said.get(commit, "")), 200), tuple(branches), time.time())
            for commit, branches in found.items()
        ]
        gone = self.clone.gone((c.commit for c in known), tips.values())
        for commit in gone & {c.commit for c in known if not c.vanished}:
            self.say(f"{short(commit)} has gone: no branch has it any more")
        known = [replace(c, vanished=c.commit in gone) for c in known]
        for old in [c for c in known if c.stage is Stage.DONE][:-KEPT]:
            known.remove(old)
            shutil.rmtree(self._run_of(old.commit), ignore_errors=True)
        # One write: what lies behind an anchor has been found, and is never found again.
        anchors = self.clone.independent((*state.anchors, *tips.values()))
        self.book.change(tips=tips, anchors=anchors, commits=tuple(known))
        if found:
            self.say(f"{count(len(found), 'new commit')} on {', '.join(tips)}")

    # -- One commit -------------------------------------------------------------------------------

    def _handle(self, commit: Watched) -> None:
        self.say(f"{short(commit.commit)} {commit.subject}")
        steps = {
            Stage.FOUND: self._measured,
            Stage.MEASURED: self._gated,
            Stage.GATED: self._traced,
            Stage.TRACED: self._done,
        }
        while commit.stage is not Stage.DONE:
            try:
                commit = steps[commit.stage](commit)
            except InputError as error:
                commit = self._failed(commit, str(error))
        self.handled.append(commit)
        self.say(f"{short(commit.commit)} is {in_words(commit)}")

    def _measured(self, commit: Watched) -> Watched:
        """Measure it as it lies in the clone, with its own packages in front."""
        if refused := self._begin("measure", commit):
            return self._failed(commit, refused, TRIES)
        self._at(commit.commit, anew=True)
        if fleet := self._fleet():
            how = ["fleet", f"{commit.commit}^!", *fleet]
            paths = {}
        else:
            how = ["bench"]
            path = str(sources(commit.commit, self.clone.folder))
            paths = {
                name: os.pathsep.join(filter(None, (path, os.environ.get(name))))
                for name in ("PYTHONPATH", "ASV_PYTHONPATH")
            }
        done = self._child("measure", commit, (*how, *self._chosen()), **paths)
        if done.code not in {Exit.OK, Exit.WRONG}:
            return self._failed(commit, f"measuring it {_end_of(done)}")
        return self._next(commit, Stage.MEASURED, measured=True)

    def _gated(self, commit: Watched) -> Watched:
        """Hold it against the nearest that was measured, and where that is wrong, a right one."""
        bases = self._bases(commit)
        if not bases:
            reason = "nothing before it was measured"
            return self._next(commit, Stage.TRACED, verdict=Verdict.FIRST, reason=reason)
        if refused := self._begin("gate", commit, len(bases)):
            return self._failed(commit, refused, TRIES)
        for base in bases:
            verdict, reason, _ = self._gate(base, commit.commit, commit)
            if verdict is Verdict.FAILED:
                return self._failed(commit, reason)
            if verdict not in {Verdict.FINE, Verdict.UNDECIDED}:
                break
        traced = Stage.GATED if verdict in BAD else Stage.TRACED
        return self._next(commit, traced, verdict=verdict, reason=reason, base=base)

    def _traced(self, commit: Watched) -> Watched:
        """Where several commits can be to blame: halve them, within the budget."""
        among = self.clone.range(commit.base, commit.commit)
        while True:
            good = [i for i, c in enumerate(among) if commit.gated.get(c) is Verdict.FINE]
            bad = [i for i, c in enumerate(among) if commit.gated.get(c) is commit.verdict]
            last = min(bad, default=len(among) - 1)
            first = max((i for i in good if i < last), default=-1) + 1
            open_ = [i for i in range(first, last) if among[i] not in commit.gated]
            if not open_ or commit.spent_s >= self.asked.bisect_s:
                break
            if self._begin("bisect", commit):
                break
            tried = among[min(open_, key=lambda i: abs(i - (first + last - 1) / 2))]
            self.say(f"{short(commit.commit)}: which of {last - first + 1}? {short(tried)}")
            verdict, _, elapsed_s = self._gate(commit.base, tried, commit)
            commit = self.book.put(
                replace(
                    commit,
                    gated={**commit.gated, tried: verdict},
                    spent_s=commit.spent_s + elapsed_s,
                ),
                doing=None,
            )
        return self._next(commit, Stage.TRACED, blamed=among[first : last + 1])

    def _done(self, commit: Watched) -> Watched:
        """Make its page, and note who is to be told, before anybody is."""
        page = self._run_of(commit.commit) / "report.html"
        if commit.measured and commit.tries < TRIES and not self._begin("report", commit):
            self._at(commit.commit)
            base = ("--base", commit.base) if commit.base else ()
            words = ("report", commit.commit, *base, "--output", str(page))
            done = self._child("report", commit, words)
            if not page.is_file():
                self.say(f"{short(commit.commit)} has no page: {done.why}")
        told = commit.verdict in BAD
        key = f"{commit.commit} {commit.verdict} {commit.base}"
        return self._next(
            commit, Stage.DONE, done_s=time.time(), report=page.is_file(),
            notice=hashlib.sha256(key.encode()).hexdigest()[:16] if told else "",
            untold=tuple(self.ways) if told else (),
        )  # fmt: skip

    # -- Its steps --------------------------------------------------------------------------------

    def _begin(self, step: str, commit: Watched, times: int = 1) -> str:
        """Note what is begun; why it is not, if the watch has died of it too often."""
        last, now_s = self.book.state.doing, time.time()
        again = last is not None and (last.step, last.commit) == (step, commit.commit)
        begun = 1 + (last.times if last is not None and again else 0)
        until_s = now_s + times * self.asked.limit_s
        self.book.change(doing=Doing(step, commit.commit, now_s, until_s, begun))
        return f"the watch was ended {begun - 1} times at this step" if begun > DEATHS else ""

    def _next(self, commit: Watched, stage: Stage, **fields: Any) -> Watched:
        made = replace(commit, stage=stage, **{"tries": 0, **fields})
        published = {"published": False} if stage is Stage.DONE else {}
        return self.book.put(made, doing=None, **published)

    def _failed(self, commit: Watched, why: str, tries: int = 1) -> Watched:
        """It has, if this was the last try; else the step is tried again."""
        reason, tries = clip(clean(why)), commit.tries + tries
        self.say(f"{short(commit.commit)}: {reason}")
        if tries < TRIES or commit.stage is Stage.TRACED:  # its verdict stands without a page
            return self.book.put(replace(commit, tries=tries), doing=None)
        return self._next(commit, Stage.TRACED, verdict=Verdict.FAILED, reason=reason)

    def _bases(self, commit: Watched) -> list[str]:
        there = {
            c.commit: c.verdict
            for c in self.book.state.commits
            if c.measured and c.verdict is not Verdict.FAILED and c.commit != commit.commit
        }
        wrong = {Verdict.WRONG, Verdict.STILL_WRONG}
        nearest = self.clone.nearest(commit.commit, there)
        if not nearest:
            base = self._base()
            return [*filter(None, [base and self.clone.fork(base, commit.commit)])]
        if there[nearest] not in wrong:
            return [nearest]
        right = {c for c, verdict in there.items() if verdict not in wrong}
        return [nearest, *filter(None, [self.clone.nearest(commit.commit, right)])]

    def _gate(self, base: str, head: str, of: Watched) -> tuple[Verdict, str, float]:
        """What a gate says, why, and how long that took."""
        machine = ("--machine", self.asked.machine) if self.asked.machine else ()
        how = (*self._fleet(), *machine, "--budget", f"{self.asked.gate_s:g}s")
        words = ("gate", base, head, *self._chosen(), *how)
        self._at(of.commit)
        done = self._child(f"gate-{short(base)}-{short(head)}", of, words)
        try:
            told = json.loads(done.text())
            if told["schema"] != "convbench.gate/1" or told["interrupted"]:
                raise ValueError
            summary = clip(clean(str(told["summary"])))
            reason, counts = summary.partition(": ")[2] or summary, {**told["counts"]}
        except (ValueError, LookupError, TypeError):
            return Verdict.FAILED, f"gating it {_end_of(done)}", done.elapsed_s
        match done.code:
            case Exit.SLOWER:
                verdict = Verdict.SLOWER
            case Exit.WRONG if {"wrong", "failed", "skipped"} & counts.keys():
                verdict = Verdict.WRONG
            case Exit.WRONG:
                verdict = Verdict.STILL_WRONG
            case Exit.OK if "undecided" not in counts:
                verdict = Verdict.FINE
            case Exit.OK | Exit.NOTHING:
                verdict = Verdict.UNDECIDED
            case _:
                return Verdict.FAILED, f"gating it {_end_of(done)}", done.elapsed_s
        return verdict, reason, done.elapsed_s

    def _at(self, commit: str, *, anew: bool = False) -> None:
        """Have what it asks for in the clone; what measuring it has left there may lie beside.

        Where a fleet measures, the base says what is asked for: whatever a commit brings, suites
        and lists too, is run and read by the workers alone.
        """
        if self.asked.scheduler:
            base = self._base()
            if base is None:
                raise InputError(
                    f"watch: the base is {self.asked.base!r}, which is not there; expected a branch"
                    " that is: a fleet is asked for its suites. Correct `base`."
                )
            commit = base
        if anew or full_hash("HEAD", self.clone.folder) != commit:
            self.clone.check_out(commit)

    def _base(self) -> str | None:
        """The commit of the base; of a branch, whatever tag has its name."""
        name = self.asked.base
        name = name if name.startswith("refs/") else f"refs/heads/{name}"
        return full_hash(name, self.clone.folder)

    def _chosen(self) -> tuple[str, ...]:
        targets = (word for target in self.asked.targets for word in ("--target", target))
        return ("--list", self.asked.list, *targets)

    def _fleet(self) -> tuple[str, ...]:
        """Who measures, if it is not this machine."""
        if not self.asked.scheduler:
            return ()
        files = self.asked.tls.items()
        tls = (word for name, file in files for word in (f"--tls-{name}", file))
        return ("--scheduler", self.asked.scheduler, *tls)

    def _child(self, step: str, of: Watched, words: Sequence[str], **variables: str) -> Ended:
        """Run one of our commands in the clone, where the code under test may do what it likes."""
        log = self._run_of(of.commit) / step
        environment = {**allowed(os.environ), **variables}
        return run(
            (*self.convbench, *words, "--json"), self.clone.folder, log, self.asked.limit_s,
            self.stopping, environment,
        )  # fmt: skip

    def _run_of(self, commit: str) -> Path:
        return self.folder / "runs" / commit

    # -- Publishing and telling -------------------------------------------------------------------

    def _publish(self) -> str:
        """Have asv make its pages beside the old ones, and let them take their place at once."""
        site = self.folder / "site"
        old = site.resolve()
        for left in self.folder.glob("site-*"):
            if left.resolve() != old:
                shutil.rmtree(left, ignore_errors=True)
        try:
            self._at(next(iter(self.book.state.tips.values())), anew=True)
        except InputError as error:
            return str(error)
        new = self.folder / f"site-{time.time_ns()}"
        words = (*self.asv, "publish", "--no-pull", "--html-dir", str(new))
        log = self.folder / "logs" / "publish"
        done = run(
            words, self.clone.folder, log, self.asked.limit_s, self.stopping, allowed(os.environ)
        )
        if done.code or not (new / "index.html").is_file():
            return f"asv publish {_end_of(done)}"
        link = self.folder / "site.part"
        link.unlink(missing_ok=True)
        link.symlink_to(new.name)
        link.replace(site)  # what it pointed to goes with the next one: somebody may be reading
        self.book.change(published=True)
        return ""

    def _tell(self, unreached: dict[str, str]) -> None:
        """Tell what is untold, in each way until it fails: then it waits for the next round."""
        for commit in self.book.state.commits:
            left = [*commit.untold]
            for way in commit.untold:
                if way in unreached:
                    continue
                if way in self.ways and (problem := self.ways[way](notice(commit))):
                    unreached[way] = problem
                    continue
                left.remove(way)
                self.book.put(replace(commit, untold=tuple(left)))


def why(commit: Watched) -> str:
    """Why it has its verdict, and who is to blame if that is not the commit alone."""
    if commit.blamed in {(), (commit.commit,)}:
        return commit.reason
    return f"{commit.reason}; to blame is {' or '.join(map(short, commit.blamed))}"


def in_words(commit: Watched) -> str:
    """What became of it, in a line."""
    return ": ".join(filter(None, (str(commit.verdict), why(commit))))


def notice(commit: Watched) -> dict[str, Any]:
    """What is told of a commit. Who has seen its id already can drop it."""
    return {
        "schema": "convbench.watch_notice/1",
        "convbench": __version__,
        "id": commit.notice,
        "text": f"convbench: {short(commit.commit)} ({commit.subject}) is {in_words(commit)}",
        "verdict": str(commit.verdict),
        "commit": commit.commit,
        "subject": commit.subject,
        "branches": [*commit.branches],
        "base": commit.base,
        "blamed": [*commit.blamed],
        "reason": commit.reason,
        "report": f"/report/{commit.commit}" if commit.report else "",
        "done_s": commit.done_s,
    }


def _end_of(done: Ended) -> str:
    ended = f"was killed by signal {-done.code}" if done.code < 0 else f"ended with {done.code}"
    return f"{ended}: {done.why}" if done.why else ended
