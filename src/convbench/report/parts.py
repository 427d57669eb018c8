"""What a section is made of: words, facts, tables and charts, and no HTML.

The page's template makes HTML of them and escapes every character, so no section can forget to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os.path import commonprefix
from typing import Any, Literal

from convbench.words.status import Status

Tone = Literal["", "good", "care", "bad"]
"""How a thing is to be taken; it is always said in words, too."""

MOST_ROWS = 2000
"""More rows than this help nobody, and a browser cannot filter them at once."""


@dataclass(frozen=True, slots=True)
class TableCell:
    """What stands in a table, where it is more than plain text.

    Attributes
    ----------
    title : str
        What explains it to who points at it.
    command : str
        What measures or checks it again; the page has a button that copies it.
    link : str
        Where it leads: of http or https, or an anchor of the page.
    """

    text: str
    tone: Tone = ""
    title: str = ""
    command: str = ""
    link: str = ""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str
    tone: Tone = ""
    part: Literal["text"] = "text"


@dataclass(frozen=True, slots=True)
class Nothing:
    """Why there is nothing to show: the page lists all of these in one place."""

    text: str
    what: str = ""
    """If it is not all of the section."""
    part: Literal["nothing"] = "nothing"


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and what they are; or numbers and what they count, if `large`."""

    pairs: tuple[tuple[str, TableCell], ...]
    large: bool = False
    part: Literal["facts"] = "facts"

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str | TableCell]], *, large: bool = False) -> Facts:
        """Leave out what is empty."""
        known = ((name, _cell(value)) for name, value in pairs)
        return cls(tuple(pair for pair in known if pair[1].text), large)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a header; the first cell of a row names it.

    Attributes
    ----------
    numeric : frozenset of int
        Columns of numbers.
    wide : frozenset of int
        Columns that a narrow screen does without until it is asked for all.
    under : int, optional
        The column that stands below the first there.
    left_out : int
        Rows that there was no room for.
    folded : bool
        It has to be opened to be seen.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[TableCell, ...], ...]
    numeric: frozenset[int] = frozenset()
    wide: frozenset[int] = frozenset()
    under: int | None = None
    left_out: int = 0
    folded: bool = True
    part: Literal["table"] = "table"

    @property
    def start(self) -> str:
        """The words with which all of its commands begin, which the page has once."""
        commands = [cell.command for row in self.rows for cell in row if cell.command]
        start = commonprefix(commands)  # noqa: RUF071  # letters are what is meant
        return start.rpartition(" ")[0] if len(commands) > 1 else ""

    @classmethod
    def of(
        cls,
        title: str,
        header: str,
        rows: Iterable[Sequence[str | TableCell]],
        *,
        folded: bool = True,
        most: int = MOST_ROWS,
    ) -> Table:
        """Build one of so many rows at most, without the columns in which nothing stands.

        The header has the names of the columns with ``|`` between them. Before a name, ``>`` is
        one of numbers, ``~`` one that a narrow screen does without, ``^`` the one that stands below
        the first there.
        """
        every = [tuple(map(_cell, row)) for row in rows]
        kept = every[:most]
        columns = [name.strip() for name in header.split("|")]
        names = [column.lstrip(_MARKS).strip() for column in columns]
        marks = [column.removesuffix(name) for column, name in zip(columns, names, strict=True)]
        filled = [i for i in range(len(names)) if i == 0 or any(row[i].text for row in kept)]

        def marked(mark: str) -> frozenset[int]:
            return frozenset(place for place, i in enumerate(filled) if mark in marks[i])

        return cls(
            title,
            tuple(names[i] for i in filled),
            tuple(tuple(row[i] for i in filled) for row in kept),
            marked(">"),
            marked("~"),
            next(iter(marked("^")), None),
            len(every) - len(kept),
            folded,
        )


_MARKS = ">~^"


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture, as a specification for Vega-Lite.

    Attributes
    ----------
    id : str
        Names its files and its anchor, and does not change.
    alt : str
        What somebody is told who does not see it.
    hint : str
        How to read it.
    zooms : bool
        On the page it can be moved and enlarged.
    small : bool
        It does with half the width of the page.
    least_width : int
        In pixels: on a narrower screen it is scrolled.
    """

    id: str
    title: str
    alt: str
    spec: Mapping[str, Any]
    hint: str = ""
    zooms: bool = False
    small: bool = False
    least_width: int = 0
    part: Literal["chart"] = "chart"


@dataclass(frozen=True, slots=True)
class Absent:
    """What there was nothing to show of, in one list: an anchor or "", what it is, and why."""

    items: tuple[tuple[str, str, str], ...]
    part: Literal["absent"] = "absent"


Part = Text | Nothing | Absent | Facts | Table | Chart


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page, with an anchor and a title of its own."""

    id: str
    title: str
    parts: tuple[Part, ...]

    @property
    def charts(self) -> tuple[Chart, ...]:
        """The pictures among its parts."""
        return tuple(part for part in self.parts if isinstance(part, Chart))


TONES: dict[Status, Tone] = {
    **dict.fromkeys((Status.WRONG, Status.FAILED, Status.INVALID), "bad"),
    Status.DEVIATES: "care",
    Status.OK: "good",
    Status.SKIPPED: "",
}


def status(of: Status) -> TableCell:
    """A status with its tone."""
    return TableCell(str(of), TONES[of])


def _cell(value: str | TableCell) -> TableCell:
    return value if isinstance(value, TableCell) else TableCell(value)
