"""What commands print: names from anywhere are shown as they are, and nothing is left half done."""

from __future__ import annotations

import argparse
import io
import sys
import types
from xml.etree import ElementTree as ET

import pytest
from rich.table import Table
from rich.text import Text

from convbench.backends.survey import Presence
from convbench.cli import backends, main, output, workloads
from convbench.correctness import check, notebook, selftest, verify_text
from convbench.correctness.accuracy import Accuracy
from convbench.correctness.verify import Check
from convbench.results.rows import Row
from convbench.results.rows import render as table
from convbench.stimulus.formats import Fill
from convbench.stimulus.spec import ConvSpec, PipelineSpec
from convbench.stimulus.targets import Target
from convbench.stimulus.workloads import Workload
from convbench.words.status import Exit, Outcome, Status

from ..terminal import drawn

# -- Every table -----------------------------------------------------------------------------------

ALGORITHM = "im2col [fp16 acc] v2"
WORKLOAD = "net[/x]\x1b[2J"
SHOWN = "net[/x]?[2J"
PIPELINE = PipelineSpec(1, 5, 5, 3, conv=ConvSpec(2, 3, 3))
NUMPY = Target("numpy", "", "cpu")


def checked(status: Status, **fields) -> Check:
    return Check(NUMPY, WORKLOAD, "float32", Fill.NORMAL, 0, status, exact=False, **fields)


def test_of_verify() -> None:
    accuracy = Accuracy(0.5, (0, 0, 0, 0), 1.0, 1.0, 1.0, 0, 1)
    checks = [
        checked(Status.OK, accuracy=accuracy, algorithm=ALGORITHM),
        checked(Status.FAILED, reason=WORKLOAD, remedy=ALGORITHM),
        checked(Status.SKIPPED, reason=WORKLOAD),
    ]
    for some in (checks[:1], checks):
        text = drawn(verify_text.render(some))
        assert ALGORITHM in text
        assert SHOWN in text
        assert "\x1b" not in text


def test_of_results() -> None:
    row = Row(
        WORKLOAD, "[b]" * 3, WORKLOAD, WORKLOAD, ALGORITHM, Status.FAILED, time_s=1.0,
        stages_s={"[red]conv": 1.0}, suite="[/]",
        outcomes=(("pipeline", Outcome(Status.FAILED, WORKLOAD, ALGORITHM)),),
    )  # fmt: skip
    text = drawn(table([row]))
    assert text.count(SHOWN) == 4
    assert text.count(ALGORITHM) == 3
    assert "[red]conv" in text
    assert "\x1b" not in text


def test_of_workloads() -> None:
    text = drawn(workloads.render([Workload(WORKLOAD, PIPELINE, "[red]", "here")]))
    assert SHOWN in text
    assert "[red]" in text


def test_of_backends() -> None:
    present = Presence(
        "[red]", devices=("cpu",), kinds=("cpu", "gpu"), versions={"blas": ALGORITHM}
    )
    absence = Outcome(Status.SKIPPED, WORKLOAD, ALGORITHM)
    text = drawn(backends.render([present, Presence("[/]", absence=absence)]))
    for words in ("[red]@cpu", f"blas {ALGORITHM}", "[/]@cpu", SHOWN):
        assert words in text
    assert "\x1b" not in text


def test_of_check() -> None:
    report = check.Report(ok=False, reason=WORKLOAD, accuracy=None, arithmetic=ALGORITHM)
    assert drawn(check.render(report)) == f"WRONG as {ALGORITHM}: {SHOWN}\n"
    accuracy = Accuracy(9.0, (0, 0, 0, 0), 1.0, 1.0, 1.0, 1, 1)
    cause = check.Cause("x", ALGORITHM, 0.5)
    report = check.Report(
        ok=False, reason=WORKLOAD, accuracy=accuracy, arithmetic="x", causes=(cause,)
    )
    assert f"fits: {ALGORITHM}" in drawn(check.render(report))


def test_of_the_self_test_and_the_notebook() -> None:
    target = Target("[red]", "", "cpu")
    outcome = Outcome(Status.WRONG, WORKLOAD, ALGORITHM)
    planted = selftest.Planted(target, "flipped_filters", (), WORKLOAD)
    text = drawn(selftest.render([planted, (target, outcome)]))
    assert "[red]@cpu caught by" in text
    assert text.count(SHOWN) == 2
    found = notebook.run_notebook(0, {target: outcome})
    assert f"wrong [red]@cpu: {SHOWN}" in drawn(notebook.render(found))


# -- How it is shown -------------------------------------------------------------------------------


def test_a_picture_has_every_word_and_asks_nobody_for_a_font() -> None:
    row = Row("m", "c" * 40, "e", WORKLOAD, ALGORITHM, Status.WRONG, time_s=1.0)
    svg = output.picture(table([row]), "a <title>")
    words = " ".join("".join(ET.fromstring(svg).itertext()).replace("\xa0", " ").split())
    for said in (SHOWN, ALGORITHM, "wrong", "a <title>"):
        assert said in words
    assert "font-face" not in svg
    assert "url(http" not in svg
    assert "#cc555a" in svg  # wrong is red


def test_what_is_said_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    output.say(f"{WORKLOAD}\nnext")
    assert capsys.readouterr().err == f"convbench: {SHOWN} next\n"


def test_what_is_drawn_or_printed_does_nothing_to_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever drew it, and whatever it passed through before."""
    hostile = "a\x1b]0;x\x07\x9b2J\u202e\u2028b\n  c"
    drawing = Table(title=hostile, show_header=False)
    drawing.add_row(Text(hostile))
    output.show(argparse.Namespace(format="text"), "x", dict, lambda: drawing)
    output.emit(hostile)
    defect = types.SimpleNamespace(
        __name__="convbench.cli.broken", HELP="h", DESCRIPTION="", EPILOG="", run=_broken
    )
    monkeypatch.setattr(main, "COMMANDS", (defect,))
    assert main.main(["broken"]) == Exit.DEFECT
    with pytest.raises(SystemExit):
        main.main(["broken", hostile])
    out, err = capsys.readouterr()
    assert not {*out, *err} & {*"\x1b\x07\x9b\u202e\u2028"}
    assert "a?]0;x??2J??b\n  c" in out
    assert "ValueError: a?]0;x??2J??b" in err


def _broken(_: argparse.Namespace) -> int:
    raise ValueError("a\x1b]0;x\x07\x9b2J\u202e\u2028b")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_progress_names_what_was_last(
    kind: type[io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", kind())
    names = (name for name in ("one", WORKLOAD))
    assert list(output.with_progress(names, 2, str)) == ["one", WORKLOAD]
    shown = sys.stderr.getvalue()
    assert "2/2" in shown
    assert SHOWN in shown


def test_an_interrupted_run_keeps_what_it_has_and_ends_what_is_running() -> None:
    ended = []

    def items():
        try:
            yield from range(10)
        finally:
            ended.append(True)

    taken = []

    def take(item: int) -> None:
        if item == 3:
            raise KeyboardInterrupt
        taken.append(item)

    assert output.until_interrupted(output.with_progress(items(), 10, str), take) is True
    assert (taken, ended) == ([0, 1, 2], [True])
    assert output.until_interrupted(items(), taken.append) is False
    assert taken == [0, 1, 2, *range(10)]


def test_an_item_is_handed_on_before_it_is_told(capsys):
    """Whenever Ctrl-C comes, what a person was told is finished has been kept."""
    for item in output.with_progress((item for item in ("first", "second")), 2, str):
        assert item not in capsys.readouterr().err
    assert "2/2 second" in capsys.readouterr().err
