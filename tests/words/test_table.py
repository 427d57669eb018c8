"""What a terminal is shown: names are text, nothing moves the cursor, and it fits."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from convbench.words.table import Column, Table, line, remark, stacked
from convbench.words.text import clean

from ..terminal import drawn

# -- One table -------------------------------------------------------------------------------------

WIDE = Table(
    (
        Column("name", ["a_long_name.of_something", "b"], "name"),
        Column("much", ["1.00", "12.0"]),
        Column("more words", ["2", "3"]),
        Column("nothing", ["", ""]),
        Column("status", [("ok", "green"), ("WRONG", "bold red")], "word"),
    ),
    ("more words", "much"),
    "a title",
)


def test_numbers_stand_on_the_right_and_empty_columns_are_left_out() -> None:
    lines = [line for line in drawn(WIDE).splitlines() if line.strip()]
    assert lines[0].strip() == "a title"
    assert lines[1].split() == ["name", "much", "more", "words", "status"]
    first, second = lines[3:]
    assert first.index("1.00") == second.index("12.0")
    assert first.index("2") + 1 == lines[1].index("words") + len("words")
    assert "\x1b[1;31mWRONG" in drawn(WIDE, color=True)


def test_what_a_narrow_terminal_goes_without() -> None:
    shown = {width: drawn(WIDE, width=width) for width in (80, 50, 40, 24)}
    assert "more words" in shown[80]
    assert "more" not in shown[50]
    assert "much" in shown[50]
    assert "much" not in shown[40]
    for width, text in shown.items():
        assert max(map(len, text.splitlines())) <= width
        assert "WRONG" in text


def test_titles_are_broken_before_cells_are() -> None:
    table = Table([Column(f"float32 adversarial{i}", ["0.123"]) for i in range(4)])
    text = drawn(table, width=70)
    assert text.count("0.123") == 4
    assert text.count("adversarial") == 4
    assert "\u2026" not in text


@pytest.mark.parametrize("table", [Table(()), Table((Column("a", []), Column("b", [])))])
def test_a_table_without_rows_is_nothing(table: Table) -> None:
    assert drawn(table) == ""


NASTY = ("[red]", "[/x]", "[/]", "[link=x]", ":tada:", "\\[", "\x1b[31m", "\x9b1A", "\r", "\u202e")
HOSTILE = st.lists(st.sampled_from(NASTY) | st.text(max_size=5), max_size=5).map("".join)


@given(HOSTILE, HOSTILE)
def test_nothing_in_a_cell_comes_alive(name: str, title: str) -> None:
    table = Table((Column("x", ["x"]), Column(title, [name], "name")), title=title)
    parts = stacked([table, line(name, indent=2), *remark("failed", name, [title])])
    for width in (10_000, 30):
        for row in drawn(parts, width=width).splitlines():
            assert row.isprintable()
            assert cell_len(row) <= width
    whole = drawn(parts)
    assert all(clean(text) in whole for text in (name, title))


# -- What is loaded --------------------------------------------------------------------------------

ROOMS = (
    "convbench.comparing.judge", "convbench.comparing.text", "convbench.comparing.markdown",
    "convbench.results.records", "convbench.results.rows", "convbench.correctness.check",
    "convbench.correctness.notebook", "convbench.correctness.selftest",
    "convbench.correctness.verify_text", "convbench.measuring.doctor.show",
)  # fmt: skip


@pytest.mark.parametrize("room", ROOMS)
def test_who_only_computes_does_not_wait_for_rich(room: str) -> None:
    code = f"import sys, {room}; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
