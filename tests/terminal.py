"""What a terminal shows of something that rich draws."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich.console import Console

from convbench.words.table import UNLIMITED

if TYPE_CHECKING:
    from rich.console import RenderableType


def drawn(renderable: RenderableType, *, width: int = UNLIMITED, color: bool = False) -> str:
    """Draw it, by default as for a pipe."""
    console = Console(file=io.StringIO(), width=width, force_terminal=color, highlight=False)
    console.print(renderable)
    return console.file.getvalue()
