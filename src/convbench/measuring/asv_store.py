"""asv's side of a measurement: which benchmarks there are, and the file that their results go to.

asv does the work: it reads its configuration, discovers the suites, keeps the description of the
machine and writes the format of its files. Its Python interface is not a stable one, so that it is
pinned, and only this module and :mod:`convbench.report.site.publisher` import it.
"""

from __future__ import annotations

import ast
import contextlib
import datetime
import io
import itertools
import math
import platform
import re
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convbench.errors import InputError
from convbench.machine.files import write
from convbench.results.folder import Filed, Folder, short
from convbench.results.journal import UNREADABLE, Ends, Note, by_cell, locked
from convbench.stimulus.targets import Target

_Stored = tuple[Any, Any, Any]
"""What asv keeps of a cell: the result, the samples, the calls a sample."""


_HERE = f"existing:{sys.executable}"


@dataclass(frozen=True, slots=True)
class Cell:
    """One benchmark with one choice of parameters.

    Attributes
    ----------
    benchmark : str
        As asv calls it: ``bench_pipeline.Smoke.track_time``.
    index : int
        Which of the combinations of its parameters.
    params : tuple of str
        The target first.
    rounds : int
        In how many processes it is to be measured.
    alone : bool
        Whether it needs a process in which nothing else has run.
    stands : bool
        Whether its process stands by its time where there is a judge.
    version : str
        Of the benchmark: numbers of two versions are not comparable.
    """

    benchmark: str
    index: int
    params: tuple[str, ...]
    rounds: int
    alone: bool
    timeout_s: float
    stands: bool = False
    version: str = ""

    @property
    def target(self) -> str:
        """Where it runs."""
        return self.params[0]

    @property
    def kind(self) -> str:
        """The kind of device that it runs on."""
        return Target.parse(self.target).kind

    def __str__(self) -> str:
        return f"{self.benchmark}({', '.join(self.params)})"


class Store:
    """The results of one commit, in one environment, on this machine.

    Parameters
    ----------
    config : Path
        ``asv.conf.json``.
    select : sequence of str
        Regular expressions, as ``asv run --bench`` takes them; without any, everything.
    commit : str
        The full hash that the results are filed under.
    environment : str
        What they are of, as ``asv run --environment`` takes it; by default, this interpreter.

    Raises
    ------
    InputError
        If asv is not installed, has no such environment, or cannot read the configuration, the
        suites or the results that there are.
    """

    def __init__(
        self, config: Path, select: Sequence[str], commit: str, environment: str = _HERE
    ) -> None:
        try:
            import asv.benchmarks  # noqa: PLC0415  # it is slow to import, and not always there
            import asv.config  # noqa: PLC0415
            import asv.environment  # noqa: PLC0415
            import asv.repo  # noqa: PLC0415
            import asv.results  # noqa: PLC0415
        except ImportError as error:
            raise _no_asv("bench", error) from error
        self._util: Any = asv.util
        with (
            contextlib.redirect_stdout(io.StringIO()) as said,  # so that it does not mix with ours
            contextlib.redirect_stderr(said),
            contextlib.chdir(config.parent),
            tempfile.TemporaryDirectory(prefix="convbench-") as folder,
        ):
            try:
                self.conf = asv.config.Config.load(str(config))
                results_dir = str(config.parent / self.conf.results_dir)
                repo = asv.repo.get_repo(self.conf)
                here, of = (
                    next(asv.environment.get_environments(self.conf, [name]), None)
                    for name in (_HERE, environment)
                )
                self.suites = (config.parent / self.conf.benchmark_dir).resolve()
                self._benchmarks = asv.benchmarks.Benchmarks.discover(
                    self.conf, repo, [here], [commit], regex=list(select)
                )
                # asv describes them all in a file, in place; ours is to be replaced as a whole.
                self.conf.results_dir = folder
                self._benchmarks.save()
                self._described = Path(folder, "benchmarks.json").read_bytes()
                self.conf.results_dir = results_dir
                date = repo.get_date(commit)
            except (asv.util.UserError, asv.util.ProcessError, OSError) as error:
                raise InputError(
                    f"{config}: what asv makes of it is an error ({error}); expected suites that "
                    f"it can discover. It says: {said.getvalue()[-2000:]}"
                ) from error
            except re.error as error:
                raise InputError(
                    f"bench: what selects is {' '.join(select)!r}, which is no regular expression"
                    f" ({error}); expected one of Python's. Put \\ before a bracket that is meant"
                    " as it is."
                ) from error
        if of is None:
            raise InputError(
                f"{config}: the environment is {environment!r}, and asv makes none of that name;"
                " expected existing:PYTHON, or one of its matrix. Name one of these."
            )
        self.machine = describe_machine()
        self.commit = commit
        self.environment = str(of.name)
        params = {**self.machine, "python": of.python, **of.requirements}
        self._results = asv.results.Results(
            params, of.requirements, commit, date, of.python, of.name, of.env_vars
        )
        self._load()
        self.commit_time_s = date / 1000
        self.file = Path(asv.results.get_filename(params["machine"], commit, of.name))
        filed = Filed.of(self.file)
        if filed is None:
            raise InputError(
                f"{config}: the file of results is {self.file}; expected a name that begins with a "
                "commit's hash, as asv 0.6.6 makes it. Install that version."
            )
        kept = Folder(Path(self.conf.results_dir))
        self.evidence, self.kept = kept.evidence_of(filed), kept.kept

    def cells(self) -> list[Cell]:
        """Everything that was selected and is ours, in asv's order."""
        cells = []
        for name, benchmark in sorted(self._benchmarks.items()):
            if not _has_target(benchmark):
                continue
            rounds = int(benchmark.get("rounds", 1))
            alone, stands = (bool(benchmark.get(name, False)) for name in ("alone", "stands"))
            version = str(benchmark["version"])
            timeout_s = float(benchmark.get("timeout") or self.conf.default_benchmark_timeout)
            choices = list(itertools.product(*benchmark["params"]))
            for index in sorted(self._benchmarks.benchmark_selection[name]):
                params = tuple(str(ast.literal_eval(param)) for param in choices[index])
                cells.append(Cell(name, index, params, rounds, alone, timeout_s, stands, version))
        return cells

    def describe(self) -> None:
        """Write what asv knows of the benchmarks, all of them, where it looks for that."""
        write(Path(self.conf.results_dir) / "benchmarks.json", self._described, parents=True)

    def others(self) -> list[str]:
        """What was selected and is not ours: its first parameter is no target, or it has none."""
        return sorted(name for name, it in self._benchmarks.items() if not _has_target(it))

    def begin(self) -> None:
        """Write what asv's files are described by; what cannot be filed need not be measured.

        Raises
        ------
        InputError
            If nothing can be written there.
        """
        results = Path(self.conf.results_dir)
        with tempfile.TemporaryDirectory(prefix="convbench-") as folder:
            self._util.write_json(f"{folder}/machine.json", self.machine, 1)
            described = Path(folder, "machine.json").read_bytes()
        write((results / self.file).with_name("machine.json"), described, parents=True)
        self.describe()

    def save(self, cells: Iterable[Cell], notes: Sequence[Note]) -> None:
        """Write what the notes of a run say to asv's file, beside what it holds already.

        A cell that failed in any of its processes has failed, and one without a note is left as it
        was. The file is replaced as a whole, and nobody who does so, too, comes in between.

        Raises
        ------
        InputError
            If what it holds cannot be read, or it cannot be written.
        """
        of = by_cell(notes)
        values: dict[str, dict[int, _Stored]] = {}
        for cell in cells:
            found = outcome(of.get((cell.benchmark, cell.params), ()))
            if found is not None:
                values.setdefault(cell.benchmark, {})[cell.index] = found
        results = Path(self.conf.results_dir)
        with (
            locked(self.evidence) if notes else contextlib.nullcontext(),
            tempfile.TemporaryDirectory(prefix="convbench-") as folder,  # asv writes in place
        ):
            self._load()
            for name, of_index in values.items():
                self._add(name, of_index, [note for note in notes if note.benchmark == name])
            self._results.save(folder)
            self.begin()
            write(results / self.file, Path(folder, self.file).read_bytes())

    def _load(self) -> None:
        """Take in what asv's file holds by now."""
        try:
            self._results.load_data(self.conf.results_dir)
        except (self._util.UserError, *UNREADABLE) as error:
            raise InputError(
                f"{self.conf.results_dir}: asv's file of commit {short(self.commit)} is damaged"
                f" ({error}); expected what asv 0.6.6 writes. Remove it: what convbench has"
                " measured is in the evidence, too."
            ) from error

    def _add(self, name: str, values: dict[int, _Stored], notes: Sequence[Note]) -> None:
        import asv.runner  # noqa: PLC0415

        benchmark = self._benchmarks[name]
        number_of = math.prod(map(len, benchmark["params"]))
        rows = (values.get(index, (math.nan, None, None)) for index in range(number_of))
        result, samples, number = map(list, zip(*rows, strict=True))
        times_s = [note.time_s for note in notes]
        self._results.add_result(
            benchmark,
            asv.runner.BenchmarkResult(result, samples, number, 0, "", None),
            started_at=datetime.datetime.fromtimestamp(min(times_s), datetime.UTC),
            duration=max(times_s) - min(times_s),
            record_samples=False,
            selected_idx=set(values),
        )


def environments(config: Path) -> dict[str, Path]:
    """The environments that ``asv run`` has made, by the names that asv files results under.

    Parameters
    ----------
    config : Path
        ``asv.conf.json``. Where there is none, there is no environment.

    Raises
    ------
    InputError
        If asv is not installed, or cannot read the configuration.
    """
    if not config.is_file():
        return {}
    try:
        from asv.config import Config  # noqa: PLC0415
        from asv.environment import get_env_name  # noqa: PLC0415
        from asv.util import UserError, load_json  # noqa: PLC0415
    except ImportError as error:
        raise _no_asv(config, error) from error
    found = {}
    try:
        made = config.parent / Config.load(str(config)).env_dir
        for path in sorted(made.glob("*/asv-env-info.json")):
            info = load_json(str(path))
            variables = {("build", name): value for name, value in info["build_env_vars"].items()}
            name = get_env_name(
                info["tool_name"], info["python"], info["requirements"], variables
            )  # fmt: skip
            found[str(name)] = path.parent
    except (UserError, OSError, LookupError) as error:
        raise InputError(
            f"{config}: what asv makes of it, or of an environment, is an error ({error!r}); "
            "expected files as asv 0.6.6 writes them. Mend it, or remove the environment."
        ) from error
    return found


def _no_asv(where: object, error: ImportError) -> InputError:
    return InputError(
        f"{where}: asv is not importable ({error}); expected asv 0.6.6. Install it: pip install"
        ' "convbench[asv]"'
    )


def machine_name() -> str:
    """What asv files the results of this machine under; where asv does not tell, its node's name.

    Nothing is described that is not known yet.
    """
    try:
        from asv.machine import Machine, MachineCollection  # noqa: PLC0415
        from asv.util import UserError  # noqa: PLC0415
    except ImportError:
        return platform.node()
    try:
        known = MachineCollection.load(Machine.get_unique_machine_name())
        return str(known["machine"])
    except (UserError, KeyError, TypeError):
        return platform.node()


def outcome(notes: Sequence[Note]) -> _Stored | None:
    """What asv stores of a cell; None if it was not run.

    The result is True where asv makes it from the samples, NaN if it was skipped, None if it
    failed.
    """
    ends = Ends.of(notes)
    if ends.failed:
        return None, None, None
    if not ends.ok:
        return (math.nan, None, None) if ends.skipped else None
    if ends.samples_s:
        samples = [*itertools.chain(*ends.samples_s)]
        return True, samples, max(note.facts["number"] for note in ends.ok)
    return ends.value, None, None


def describe_machine() -> dict[str, Any]:
    """What asv knows of this machine; it is described now if it is not known."""
    from asv.machine import Machine, MachineCollection  # noqa: PLC0415
    from asv.util import UserError  # noqa: PLC0415

    name = Machine.get_unique_machine_name()
    try:
        known: dict[str, Any] = MachineCollection.load(name)
    except UserError:
        known = Machine.get_defaults()
        MachineCollection.save(platform.node(), known)
    return known


def _has_target(benchmark: dict[str, Any]) -> bool:
    try:
        for target in benchmark["params"][0]:
            Target.parse(ast.literal_eval(target))
    except (LookupError, SyntaxError, TypeError, ValueError):  # TargetError is a ValueError
        return False
    return True
