"""Rows of ``workloads.toml``: pipelines with the names that results are stored under.

The file lies beside this one and comes with the package; a project may have files of its own.

The suites do not come through here: :mod:`convbench.suites.convbench_common` reads the same files
by itself.
What they call of convbench is that of each commit that is measured, and a rule that is new here
would refuse the rows for some commits and not for others. This is the reader that checks, for
people; a test holds that the two agree.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from convbench.errors import SpecError, WorkloadError
from convbench.stimulus.spec import PipelineSpec

TIERS = ("smoke", "standard", "full")
"""The lists of workloads; each contains those before it."""

BUILT_IN = Path(__file__).with_name("workloads.toml")
"""The rows that come with convbench."""

NAME = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+")
"""What a row may be called."""
_NEAR, _SEED = "+", re.compile(r"[0-9a-f]{1,8}")


@dataclass(frozen=True, slots=True)
class Workload:
    """One row.

    Attributes
    ----------
    name : str
        ``network.layer``. Results are stored under it, so it always means the same pipeline.
    tier : str
        The smallest of the lists in `TIERS` that has the row.
    source : str
        Where the pipeline was published.
    file : str
        What a command has to be told to find the row; "" where it finds it without.
    """

    name: str
    pipeline: PipelineSpec
    tier: str
    source: str
    file: str = ""


_FIELDS = tuple(name for name in Workload.__dataclass_fields__ if name != "file")


def load(*paths: Path | str) -> tuple[Workload, ...]:
    """Read files of workloads, in the order of their rows.

    Parameters
    ----------
    *paths : Path or str
        By default `BUILT_IN`.

    Raises
    ------
    WorkloadError
        If a file cannot be read, or if a row is not valid; the message says which.
    """
    workloads: dict[str, Workload] = {}
    for path in paths or (BUILT_IN,):
        for number, row in enumerate(_rows(Path(path)), start=1):
            where = f"{path}, row {number}"
            workload = _workload(where, row)
            if workload.name in workloads:
                raise WorkloadError(
                    f"{where}: the name is {workload.name!r} again; expected a name that no row "
                    "above has. Rows are append-only: rename this one."
                )
            workloads[workload.name] = workload
    return tuple(workloads.values())


def _rows(path: Path) -> list[object]:
    """What stands under each [[workload]]."""
    try:
        import tomllib  # noqa: PLC0415  # help does not wait for it

        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WorkloadError(
            f"{path}: the file is not readable ({error.strerror}); expected a file of workloads. "
            "Check the path."
        ) from error
    except ValueError as error:  # what tomllib and the decoder raise; it names the line or byte
        raise WorkloadError(
            f"{path}: the text is not TOML ({error}); expected TOML 1.0, in UTF-8. Correct it "
            "there; an inline table stays on one line."
        ) from error
    if unknown := sorted(set(table) - {"workload"}):
        raise WorkloadError(
            f"{path}: the key is {', '.join(unknown)}; expected nothing but [[workload]] tables. "
            "Remove it."
        )
    rows = table.get("workload")
    if not isinstance(rows, list) or not rows:
        raise WorkloadError(
            f"{path}: workload is {'not an array' if rows else 'empty'}; expected one or more "
            "[[workload]] tables. Write each row under [[workload]]."
        )
    return rows


def select(
    workloads: Iterable[Workload],
    list_name: str,
    lists: Mapping[str, tuple[str, ...]] | None = None,
) -> tuple[Workload, ...]:
    """Keep the workloads of a list: those of its own tier and of the tiers before it.

    Parameters
    ----------
    lists : mapping of str to tuple of str, optional
        Names of workloads, by the name of a list beside `TIERS`.

    Raises
    ------
    WorkloadError
        If there is no such list, or a name in it is that of no row.

    Examples
    --------
    >>> pipeline = PipelineSpec(1, 5, 5, 3, bias=True)
    >>> rows = [Workload(f"net.{tier}", pipeline, tier, "made up") for tier in TIERS]
    >>> [row.name for row in select(rows, "standard")]
    ['net.smoke', 'net.standard']
    """
    lists = lists or {}
    if list_name in lists:
        return find(workloads, lists[list_name])
    if list_name not in TIERS:
        raise WorkloadError(
            f"workloads: the list is {list_name!r}; expected one of {', '.join((*TIERS, *lists))}."
            " Choose one."
        )
    tiers = TIERS[: TIERS.index(list_name) + 1]
    return tuple(workload for workload in workloads if workload.tier in tiers)


def find(workloads: Iterable[Workload], names: Iterable[str]) -> tuple[Workload, ...]:
    """Look workloads up by name, in the order of `names`.

    Raises
    ------
    WorkloadError
        If no row has one of the names; the message offers those that are spelled alike.
    """
    known = {workload.name: workload for workload in workloads}
    found = []
    for wanted in names:
        name, mark, seed = wanted.partition(_NEAR)
        if name not in known:
            import difflib  # noqa: PLC0415  # nor for this

            begun = [row for row in known if row.startswith(name)]
            close = begun[:3] or difflib.get_close_matches(name, known)
            hint = f"Did you mean {' or '.join(close)}?" if close else "No row is spelled like it."
            raise WorkloadError(
                f"workloads: the name is {name!r}; expected the name of a row. {hint}"
            )
        row: Workload | None = known[name]
        if mark:
            row = neighbour(known[name], int(seed, 16)) if _SEED.fullmatch(seed) else None
        if row is None:
            raise WorkloadError(
                f"workloads: the neighbour of {name} is {seed!r}; expected up to 8 hexadecimal "
                "digits, as `convbench verify` prints them. Correct it."
            )
        found.append(row)
    return tuple(found)


def neighbour(workload: Workload, seed: int) -> Workload | None:
    """A layer like this one that nobody has listed: of other sizes, which follow from a seed.

    Who computes the listed layers and no others is found by it, as long as nobody knows the seed.

    Returns
    -------
    Workload or None
        Its name is that of the row with the seed, which :func:`find` understands; None if no other
        size can be computed.
    """
    chance = random.Random(seed)  # noqa: S311  # the seed is the secret
    table = workload.pipeline.to_dict()
    for _ in range(50):
        moved = dict(table)
        for name, most in (("n", 2), ("h", 5), ("w", 5)):
            moved[name] = max(1, int(table[name]) + chance.randint(-most, most))
        if workload.pipeline.flops > 2e8:  # a neighbour need not be as large
            moved["h"], moved["w"] = max(1, moved["h"] // 3), max(1, moved["w"] // 3)
        if workload.pipeline.conv is None or workload.pipeline.conv.groups == 1:
            moved["c"] = max(1, int(table["c"]) + chance.randint(-2, 2))
        try:
            near = PipelineSpec.from_dict(moved)
        except SpecError:
            continue
        if near != workload.pipeline:
            return replace(workload, name=f"{workload.name}{_NEAR}{seed:x}", pipeline=near)
    return None


def _workload(where: str, row: object) -> Workload:
    if not isinstance(row, dict):
        raise WorkloadError(
            f"{where}: the value is {row!r}; expected a table with {', '.join(_FIELDS)}. Write "
            "each row under [[workload]]."
        )
    name = row.get("name")
    where += f" ({name})" * isinstance(name, str)
    if unknown := sorted(set(row) - set(_FIELDS)):
        raise WorkloadError(
            f"{where}: the field is {', '.join(unknown)}; expected one of {', '.join(_FIELDS)}. "
            "Correct it."
        )
    if missing := [field for field in _FIELDS if field not in row]:
        raise WorkloadError(
            f"{where}: {', '.join(missing)} is missing; expected a value for each. Add it."
        )
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise WorkloadError(
            f"{where}: the name is {name!r}; expected network.layer in lower-case letters, "
            "digits and underscores. Rename the row."
        )
    if row["tier"] not in TIERS:
        raise WorkloadError(
            f"{where}: the tier is {row['tier']!r}; expected one of {', '.join(TIERS)}. Choose one."
        )
    if not isinstance(row["source"], str) or not row["source"]:
        raise WorkloadError(
            f"{where}: the source is {row['source']!r}; expected the paper or benchmark, and its "
            "layer. Say where the pipeline was published."
        )
    try:
        pipeline = PipelineSpec.from_dict(row["pipeline"])
    except SpecError as error:  # its message has the same shape: only the place is put before it
        raise WorkloadError(f"{where}, {error}") from error
    return Workload(name, pipeline, row["tier"], row["source"])
