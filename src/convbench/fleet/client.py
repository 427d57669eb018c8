"""Asks Dask for units, and stores what comes back.

Without a scheduler's address there is a cluster of one worker on this machine: the same code. What
is asked for and what comes back is text and bytes; what Dask itself says to its own are pickles, so
that whoever has a worker or a scheduler has this process, too, and TLS says who that is.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from convbench import __version__
from convbench.errors import InputError
from convbench.fleet import worker
from convbench.fleet.received import Received, store
from convbench.fleet.slots import Labels
from convbench.fleet.units import Unit
from convbench.machine.git import UNSHALLOW, full_hash, git, is_shallow, output
from convbench.results.folder import Folder

CONNECT_S = 15.0

_COUNTED_S = 10.0
"""For so long the number of workers is taken to be what it was."""


@dataclass(frozen=True, slots=True)
class Security:
    """The files of TLS; all of them, or none.

    Attributes
    ----------
    ca_file, cert, key : Path, optional
        Of the authority that has signed the certificates, and this side's certificate and key.
    """

    ca_file: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def __bool__(self) -> bool:
        return self.ca_file is not None

    def words(self) -> list[str]:
        """As Dask's own commands take them."""
        given = (("ca-file", self.ca_file), ("cert", self.cert), ("key", self.key))
        return [word for name, file in given if file for word in (f"--tls-{name}", str(file))]

    def of_client(self) -> Any:
        """As Dask's client takes them."""
        from distributed.security import Security as Dasks  # noqa: PLC0415

        if not self:
            return None
        return Dasks(
            tls_ca_file=str(self.ca_file), tls_client_cert=str(self.cert),
            tls_client_key=str(self.key), require_encryption=True,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Range:
    """Commits, and what a worker needs of their repository.

    Attributes
    ----------
    commits : mapping of str to str
        The newest first, to a digest of what the libraries of each are installed from.
    repository : str
        The hash of its first commit, by which workers know it again.
    head : str
        The commit whose lock the libraries of a worker are meant to be of.
    place : str
        Of the project in it; "" at its top.
    shallow : tuple of str
        The commits whose parents this clone has not.
    """

    root: Path
    commits: Mapping[str, str]
    repository: str
    head: str
    place: str
    shallow: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str, root: Path) -> Self:
        """Find them: a range as `git rev-list` has it, or one commit.

        Raises
        ------
        InputError
            If git knows no such commits.
        """
        one = full_hash(text, root) if not text.startswith(("-", "^")) else None
        some = git(root, "rev-list", "--first-parent", "--end-of-options", *text.split())
        commits = [one] if one else some.split() if ".." in text or "^" in text else []
        if not commits:
            shallow = f" {UNSHALLOW}" if is_shallow(root) else ""
            raise InputError(
                f"fleet: the range is {text!r}, and git finds no commit in it; expected a commit or"
                f" a range, such as HEAD~20..HEAD. Correct it.{shallow}"
            )
        return cls.holding(commits, root)

    @classmethod
    def holding(cls, commits: Sequence[str], root: Path) -> Self:
        """Those that are known by their full hashes."""
        head = full_hash("HEAD", root) or commits[0]
        first = git(root, "rev-list", "--max-parents=0", head).split()[-1]
        locks = {commit: git(root, "rev-parse", f"{commit}:./requirements") for commit in commits}
        place = git(root, "rev-parse", "--show-prefix")
        ends = root / git(root, "rev-parse", "--git-path", "shallow")
        shallow = ends.read_text().split() if ends.is_file() else ()
        return cls(root, locks, first, head, place, tuple(shallow))

    def pack(self) -> bytes:
        """All that a clone needs, as git packs it: one stream, the same for all workers.

        Raises
        ------
        InputError
            If git cannot read all of it.
        """
        tips = "\n".join((self.head, *self.commits))
        words = ("pack-objects", "--revs", "--stdout", "--quiet", "--threads=1")
        packed = output(self.root, *words, said=f"{tips}\n")
        if packed is None:
            raise InputError(
                f"fleet: what git can read of {self.root} is not all of it; expected every commit"
                " up to those of the range. `git fsck` says what is missing; fetch it."
            )
        return packed


@dataclass(frozen=True, slots=True)
class Order:
    """Something that one worker is to do.

    Attributes
    ----------
    key : str
        What Dask knows it by: two with the same key are one.
    resources : mapping of str to float
        What it has to find at a worker.
    asked : mapping of str to any
        What to do, in plain values, without what is the same for all of them.
    of : any
        What this is an order for, to who has given it.
    """

    key: str
    resources: Mapping[str, float]
    asked: Mapping[str, Any]
    of: Any = None


def order(unit: Unit) -> Order:
    """What has a worker measure a unit."""
    what: dict[str, Any] = {"do": "bench", "machine": unit.machine, "commits": [unit.commit]}
    what |= {"cells": unit.cells, "rounds": unit.rounds}
    return Order(f"convbench-unit-{unit.id}", unit.resources, what, unit)


class Fleet:
    """A connection to a scheduler and its workers.

    Parameters
    ----------
    address : str, optional
        Of the scheduler; without one, a cluster of one worker is started here, and ended.
    security : Security

    Raises
    ------
    InputError
        If Dask is not installed, or nobody answers there.
    """

    def __init__(self, address: str | None, security: Security) -> None:
        with contextlib.ExitStack() as stack:
            try:
                from distributed import Client, LocalCluster  # noqa: PLC0415
            except ImportError as error:
                raise missing(error) from error
            if address is None:
                cluster = LocalCluster(
                    n_workers=1, threads_per_worker=1, memory_limit=0, host="127.0.0.1",
                    dashboard_address="127.0.0.1:0", preload=["convbench.fleet.slots"],
                    silence_logs=50,
                )  # fmt: skip
                stack.enter_context(cluster)
            try:
                client = Client(
                    address or cluster, security=security.of_client(), timeout=CONNECT_S,
                    set_as_default=False,
                )  # fmt: skip
            except (OSError, TypeError, ValueError) as error:
                raise InputError(
                    f"fleet: the scheduler is {address!r}, and it cannot be reached ({error});"
                    " expected the address of `convbench fleet scheduler`, as in"
                    " tcp://127.0.0.1:8786. Start it, or see to the network and the certificates."
                ) from error
            self._client: Any = stack.enter_context(client)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def workers(self) -> dict[str, Labels | None]:
        """What is connected, by its address; None of what is no worker of ours."""
        known = self._client.scheduler_info(n_workers=-1)["workers"]
        return {address: Labels.of(about["resources"]) for address, about in known.items()}

    def measure(
        self,
        units: Sequence[Unit],
        of: Range,
        folder: Folder,
        timeout_s: float,
        task: Callable[[str, bytes], bytes] = worker.measure,
    ) -> Generator[Received]:
        """Have units measured, and store each as it comes; the rest as of :meth:`answers`.

        Raises
        ------
        InputError
            If the scheduler is gone, or nothing can be stored.
        """
        left: dict[str, deque[Unit]] = {}
        for unit in units:
            left.setdefault(unit.hardware, deque()).append(unit)

        def next_of(some: deque[Unit]) -> Callable[[], Order | None]:
            return lambda: order(some.popleft()) if some else None

        sources = {hardware: next_of(some) for hardware, some in left.items()}
        with contextlib.closing(self.answers(sources, of, timeout_s, task)) as answers:
            for given, sent in answers:
                if isinstance(sent, str):
                    yield Received(given.of, sent)
                else:
                    yield store(folder, given.of, sent, time.time())

    def answers(
        self,
        sources: Mapping[str, Callable[[], Order | None]],
        of: Range,
        timeout_s: float,
        task: Callable[[str, bytes], bytes] = worker.measure,
    ) -> Generator[tuple[Order, bytes | str]]:
        """Give orders as long as there are any, and what became of each: what was sent, or why not.

        Of each kind of machine as many are out as it has workers: Dask blames all that a worker
        was given for its end, and takes from nobody what it was blamed for four times. Closing the
        iterator asks for nothing more.

        Parameters
        ----------
        sources : mapping of str to callable
            By the fingerprint of a kind of machine, says what comes next; None if nothing does now.
        timeout_s : float
            What takes longer at once is ended.
        task : callable
            What a worker does, given the text of an order and a pack.

        Raises
        ------
        InputError
            If the scheduler is gone.
        """
        from distributed import as_completed  # noqa: PLC0415

        packed = of.pack()
        name = hashlib.sha256(packed).hexdigest()[:20]
        # A task, and no data that was put somewhere: Dask makes it again where it was lost.
        pack = self._client.submit(bytes, packed, key=f"convbench-pack-{name}")
        always: dict[str, Any] = {
            "convbench": __version__, "repository": of.repository, "head": of.head,
            "place": of.place, "shallow": of.shallow, "timeout_s": timeout_s,
        }  # fmt: skip
        asked: dict[Any, tuple[str, Order]] = {}
        completed = as_completed(loop=self._client.loop)
        counted_s, there = 0.0, Counter[str]()
        try:
            while True:
                if time.monotonic() - counted_s > _COUNTED_S:
                    there = Counter(it.hardware for it in self.workers().values() if it)
                    counted_s = time.monotonic()
                out = Counter(hardware for hardware, _ in asked.values())
                for hardware, next_order in sources.items():
                    for _ in range(max(1, there[hardware]) - out[hardware]):
                        if (given := next_order()) is None:
                            break
                        future = self._client.submit(
                            task, json.dumps({**always, **given.asked}, sort_keys=True), pack,
                            pure=True, key=given.key, resources=given.resources,
                        )  # fmt: skip
                        asked[future] = hardware, given
                        completed.add(future)
                if not asked:
                    return
                future = next(completed)
                _, given = asked.pop(future)
                yield given, _sent(future, given)
                future.release()
        finally:
            with contextlib.suppress(Exception):  # there may be nobody any more to tell
                self._client.cancel([*asked, pack])  # what another client wants goes on


def _sent(future: Any, given: Order) -> bytes | str:
    """What a worker has sent, or why it has not."""
    if future.status == "finished":
        return bytes(future.result())
    if future.status == "error":
        why = future.exception()
        return f"{type(why).__name__}: {why}"
    raise InputError(
        f"fleet: the scheduler is gone, with {given.key} {future.status}; expected it to be there"
        " to the end. What was measured is kept, and the same command continues."
    )


def missing(error: ImportError) -> InputError:
    """What to say where Dask is not."""
    return InputError(
        f"fleet: Dask is not importable ({error}); expected dask.distributed. Install it: pip"
        ' install "convbench[fleet]"'
    )
