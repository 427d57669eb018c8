"""What a terminal is shown: lines and tables of text that anybody may have written.

None of it is markup to rich, to which a name as "im2col [fp16]" would be a style, and none of it
moves the cursor: every word passes through :func:`convbench.words.text.clean`. rich is imported
where something is drawn, so that whoever only computes does not wait for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from convbench.words.text import clean, harmless

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, Group, RenderableType
    from rich.table import Table as Drawn
    from rich.text import Text

UNLIMITED = 10_000
"""The columns of a pipe: nothing is cut to them."""

Styled = str | tuple[str, str]
"""Text, or text and rich's name of its style."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes
    ----------
    kind : str
        A number stands on the right, names are folded where there is no room, words never are.
    """

    title: str
    cells: Sequence[Styled]
    kind: Literal["number", "name", "word"] = "number"


@dataclass(frozen=True, slots=True)
class Table:
    """Columns under their titles, without those in which nothing stands.

    Attributes
    ----------
    dispensable : sequence of str
        Titles of what a narrow terminal goes without, in this order.
    """

    columns: Sequence[Column]
    dispensable: Sequence[str] = ()
    title: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Drawn]:
        from rich.measure import Measurement  # noqa: PLC0415

        unlimited = options.update(width=UNLIMITED)
        left = [column for column in self.columns if any(map(_words, column.cells))]
        drawn = self._drawn(left)
        for name in self.dispensable:
            if Measurement.get(console, unlimited, drawn).maximum <= options.max_width:
                break
            left = [column for column in left if column.title != name]
            drawn = self._drawn(left)
        if Measurement.get(console, unlimited, drawn).maximum > options.max_width:
            drawn = self._drawn(left, "\n")
        if left:
            yield drawn

    def _drawn(self, columns: Sequence[Column], between: str = " ") -> Drawn:
        """Draw some of the columns, with this between the words of their titles."""
        from rich import box  # noqa: PLC0415
        from rich.table import Table as Drawn  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        title = _text(self.title) if self.title else None
        drawn = Drawn(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
        for column in columns:
            drawn.add_column(
                Text(between.join(clean(column.title).split())),
                justify="right" if column.kind == "number" else "left",
                no_wrap=column.kind != "name",
                overflow="fold" if column.kind == "name" else "ellipsis",
                min_width=8 if column.kind == "name" else None,
            )
        for row in zip(*(column.cells for column in columns), strict=True):
            drawn.add_row(*map(_text, row))
        return drawn


def line(*words: Styled, indent: int = 0, style: str = "") -> RenderableType:
    """A paragraph of some words, with a space between them."""
    from rich.padding import Padding  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    text = Text(" ", style=style).join(map(_text, words))
    return Padding(text, (0, 0, 0, indent), expand=False) if indent else text


def verbatim(text: str) -> RenderableType:
    """Lines to be copied: with their spaces, and without what a terminal would obey."""
    from rich.text import Text  # noqa: PLC0415

    return Text(harmless(text), no_wrap=True, overflow="ignore")


def remark(
    status: str, where: str, sentences: Iterable[str], style: str = ""
) -> Iterator[RenderableType]:
    """What became of some cells, and indented below it every sentence that there is about it."""
    yield line((status, style), where)
    for sentence in filter(None, sentences):
        yield line(sentence, indent=4)


def stacked(parts: Iterable[RenderableType]) -> Group:
    """One below the other."""
    from rich.console import Group  # noqa: PLC0415

    return Group(*parts)


def _words(cell: Styled) -> str:
    return cell if isinstance(cell, str) else cell[0]


def _text(cell: Styled) -> Text:
    from rich.text import Text  # noqa: PLC0415

    return Text(clean(_words(cell)), style="" if isinstance(cell, str) else cell[1])
