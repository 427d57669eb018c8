"""What a comparison looks like on a terminal, in a pull request and in CI."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from convbench.comparing.comparison import Change, Demands, Verdict
from convbench.comparing.judge import compare
from convbench.comparing.junit import junit
from convbench.comparing.markdown import MARKDOWN_LIMIT, code, markdown, prose
from convbench.comparing.text import render as laid_out
from convbench.words.status import Status
from convbench.words.text import clean

from ..records import BASE, HEAD, TARGET, WORKLOAD, checked, side, timed
from ..terminal import drawn


def render(cells, *, everything=False, **terminal):
    """What is shown of a comparison."""
    return drawn(laid_out(cells, everything=everything), **terminal)


def comparison(*pairs, **options):
    """Compare what stands in the pairs, each of them a record of base and one of head."""
    base, head = ([pair[i] for pair in pairs if pair[i] is not None] for i in range(2))
    return compare(side(*base, commit=BASE), side(*head, commit=HEAD), **options)


def pair(factor=1.0, spread=0.01, **fields):
    return timed(BASE, 1e-3, spread, **fields), timed(HEAD, factor * 1e-3, spread, **fields)


def several():
    """One cell of most verdicts, and ten that are equal."""
    skipped = {"status": Status.SKIPPED, "value": None, "reason": "no device: none here"}
    return comparison(
        *(pair(workload=f"equal.{i}") for i in range(10)),
        pair(1.5, workload="slow"),
        pair(1.0, 0.2, workload="noisy"),
        (checked(BASE, workload="bad"), checked(HEAD, 9.0, workload="bad")),
        pair(1.0, 0.01, workload="bad"),
        (timed(BASE, target="cupy@gpu:0"), timed(HEAD, target="cupy@gpu:0", **skipped)),
        (timed(BASE, workload="gone"), None),
        (timed(BASE, workload="old", version="1"), timed(HEAD, workload="old", version="2")),
    )


def line_of(text, name):
    (line,) = [line for line in text.splitlines() if re.search(rf"\b{name}\b.*\d \w?s", line)]
    return " ".join(line.split())


# -- Text ------------------------------------------------------------------------------------------


def test_the_outcome_comes_first_and_then_the_worst():
    lines = render(several()).splitlines()
    assert lines[0].startswith("WRONG AND SKIPPED: 1 wrong, 1 skipped, 1 vanished, 1 regressed, ")
    assert lines[1] == "base 00000000, head ffffffff, env, vm"
    verdicts = [v for line in lines for v in Verdict if line.startswith(f"  {v} ")]
    assert verdicts == ["wrong", "skipped", "vanished", "regressed", "not comparable", "undecided"]


def test_a_row_has_both_times_in_one_unit_the_ratio_and_its_interval():
    text = render(several())
    assert line_of(text, "slow").startswith(
        f"regressed slow {TARGET} 1.00 ms 1.50 ms 1.500 1.478 to"
    )
    mixed = (timed(BASE, 0.9e-3), timed(HEAD, 1.2e-3))
    assert "900 µs 1200 µs" in line_of(render(comparison(mixed)), WORKLOAD)


def test_equal_cells_are_a_count_unless_all_are_asked_for():
    folded, whole = render(several()), render(several(), everything=True)
    assert "10 equivalent not shown: --all shows them" in folded
    assert "equal.3" not in folded
    assert "equal.3" in whole
    assert "--all" not in whole


def test_a_sure_difference_within_delta_is_not_folded_away():
    assert "equivalent" in line_of(render(comparison(pair(1.03, 0.001))), WORKLOAD)


def test_a_reason_stands_once_with_all_its_cells():
    pairs = [pair(workload=name) for name in ("one", "two")]
    unlike = [(a, replace(b, version="2")) for a, b in pairs]
    lines = [line.strip() for line in render(comparison(*unlike)).splitlines()]
    i = lines.index(f"not comparable {TARGET} on one, {TARGET} on two")
    assert lines[i + 1] == "another version of the benchmark: base 1, head 2"
    assert lines.count(lines[i + 1]) == 1


def test_means_changes_and_bits_are_listed():
    base, head = pair(1.2)
    versions = [replace(r, facts={"versions": {"numpy": v}}) for r, v in ((base, "2"), (head, "3"))]
    checks = (checked(BASE, digests=["aa"]), checked(HEAD, digests=["bb"]))
    text = render(comparison(tuple(versions), checks))
    assert f"1.200 (1.183 to 1.218) {TARGET}, 1 workload" in text
    assert f"numpy: 2 -> 3 ({TARGET})" in text
    assert "1 different" in text


def test_unlike_sides_are_told_apart():
    cells = compare(side(timed(BASE), machine="mine"), side(timed(HEAD), machine="yours"))
    lines = render(cells).splitlines()
    assert "UNLIKE MACHINES mine and yours" in lines[0]
    assert lines[1:3] == ["base 00000000, env, mine", "head ffffffff, env, yours"]
    assert lines[3].startswith("WARNING: unlike machines")


def test_the_path_of_an_existing_environment_is_not_shown_where_both_have_it():
    name = "existing-py_somewhere_bin_python"
    sides = [side(timed(c), environment=name) for c in (BASE, HEAD)]
    assert name not in render(compare(*sides)) + markdown(compare(*sides))


def test_colours_are_for_terminals():
    assert "\x1b[1;31m" in render(several(), color=True)
    assert "\x1b" not in render(several())


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140])
def test_a_terminal_gets_lines_that_fit(width):
    text = render(several(), width=width)
    assert max(map(len, text.splitlines())) <= width
    for name in ("bad", "slow", "gone"):
        assert name in text


def test_nothing_measured_is_said_in_every_form():
    nothing = compare(side(timed(BASE)), side(commit=HEAD))
    for text in (render(nothing), markdown(nothing), junit(nothing).decode()):
        assert "NOTHING MEASURED" in text
        assert "NOTHING MEASURED of head, ffffffff" in text
    assert ET.fromstring(junit(nothing)).find(".//error") is not None


# -- Markdown --------------------------------------------------------------------------------------

# What a writer of a commit message, a parameter or an error could wish for.
NASTY = (
    "<img src=x onerror=alert(1)>", "<script>", "</code>", "</details>", "<!--", "-->",
    "@everybody", "@org/team", "#1", "GH-12", "org/repo#3", "https://example.org",
    "www.example.org", "a@b.org", "![x](y)", "[x](y)", "**bold**", "_it_", "~~no~~",
    "`", "``", "```", "|", "\\", "\\|", "$x$", "$`x`$", ":tada:",
    "\n\n# title\n", "\n- item", "\n| a | b |\n", "\x1b[31m", "\u202e", "\u200b",
    "&lt;", "&#60;", "0123456789abcdef", " ", "\t", "\x00", "\ud800",
)  # fmt: skip
TEXT = st.lists(st.sampled_from(NASTY) | st.text(max_size=8), max_size=6).map("".join)

_PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
_OURS = {
    "<details>",
    "</details>",
    "<summary>",
    "</summary>",
    "<sub>",
    "</sub>",
    "<code>",
    "</code>",
}


def read_markdown(text):
    """All tokens, and the text that stands in no code: there GitHub looks for links and people."""
    kinds, words, html, in_code = Counter(), [], [], False
    for token in _PARSER.parse(text):
        kinds[token.type] += 1
        if token.type == "html_block":
            html += re.findall(r"<[^>]*>?", token.content)
        for child in token.children or ():
            kinds[child.type] += 1
            if child.type == "html_inline":
                html.append(child.content)
                in_code = child.content == "<code>"
            elif child.type == "text" and not in_code:
                words.append(child.content)
    return kinds, words, html


def assert_inert(text, tables):
    kinds, words, html = read_markdown(text)
    assert set(html) <= _OURS
    assert not kinds.keys() & {
        "link_open", "image", "em_open", "s_open", "heading_open", "code_block", "fence", "hr",
        "ordered_list_open", "blockquote_open",
    }  # fmt: skip
    assert kinds["table_open"] == tables
    for word in words:
        assert not re.search(r"[@#<>`|$*]|://|www\.|\bgh-\d|:\w+:", word, re.IGNORECASE), word
    return kinds


@given(TEXT)
def test_prose_and_code_are_inert(text):
    for written in (prose(text), code(text), code(text, 1000)):
        assert "\n" not in written
        assert_inert(f"{written}\n", tables=0)
        kinds = assert_inert(f"| a | b |\n|---|---|\n| x | {written} |\n", tables=1)
        assert kinds["td_open"] == 2


@given(st.text(alphabet="`|\\<a", max_size=12))
def test_code_loses_nothing(text):
    (paragraph,) = (t for t in _PARSER.parse(f"x {code(text)} y") if t.type == "inline")
    read = "".join(
        child.content for child in paragraph.children if child.type in {"text", "code_inline"}
    )
    assert read.split() == ["x", *([clean(text)] * bool(text)), "y"]


@given(TEXT)
def test_cleaned_text_is_one_printable_line(text):
    assert clean(text).isprintable()
    assert clean(clean(text)) == clean(text)


@settings(max_examples=50)
@given(TEXT, TEXT, TEXT, TEXT, TEXT)
def test_nothing_in_the_data_comes_alive(target, workload, reason, machine, version):
    failed = {"status": Status.FAILED, "value": None, "reason": reason}
    names = {"target": target, "workload": workload}
    versions = {"facts": {"versions": {version: "1"}, "algorithm": reason}}
    changed = {"facts": {"versions": {version: workload}, "algorithm": machine}}
    cells = compare(
        side(
            timed(BASE, stage="a", **names, **versions), timed(BASE, stage="b", **names),
            timed(BASE, stage="c", **names), environment=version, machine=machine,
        ),
        side(
            timed(HEAD, stage="a", **names, **changed), timed(HEAD, stage="b", **names, **failed),
            timed(HEAD, 2e-3, stage="c", **names), environment=reason, machine=f"not {machine}",
        ),
    )  # fmt: skip
    text = markdown(cells)
    kinds = read_markdown(text)[0]
    assert_inert(text, tables=kinds["table_open"])
    assert kinds["td_open"] % 2 == 0
    for shown in (render(cells), render(cells, everything=True, width=80)):
        assert all(line.isprintable() for line in shown.splitlines())
    ET.fromstring(junit(cells))


def test_the_comment_has_the_outcome_the_bad_rows_and_the_rest_folded_up():
    text = markdown(several())
    assert text.startswith("**WRONG AND SKIPPED: 1 wrong, ")
    before, folded = text.split("<details><summary>10 equivalent</summary>")
    assert (
        f"| **regressed** | `slow` | `{TARGET}` | 1.00 ms (claim) | 1.50 ms (claim) | 1.500 ("
        in before
    )
    assert "equal.3" not in before
    assert folded.count("| equivalent | `equal.") == 10
    assert "left out" not in text


@settings(max_examples=15)
@given(
    st.integers(0, 2000), st.integers(0, 2000), st.integers(0, 400), st.integers(0, 400),
    st.sampled_from(["w", "w" * 500, "|" * 500, "\U0001f600|" * 500]),
)  # fmt: skip
def test_the_comment_fits_whatever_its_size(bad, equal, targets, changes, name):
    made = several()
    by_verdict = {cell.verdict: cell for cell in made.cells}
    slow = replace(by_verdict[Verdict.REGRESSED], workload=name, reason=name * 3)
    same = replace(
        next(c for c in comparison(pair()).cells), workload=name, target=name, reason=name
    )
    mean = made.means[0]
    large = replace(
        made,
        cells=(*[slow] * bad, *[same] * equal),
        means=tuple(replace(mean, target=f"{name}{i}") for i in range(targets)),
        changes=tuple(Change(name, name, name, (name,) * 5) for i in range(changes)),
        warnings=(name * 50,) * 9,
    )
    text = markdown(large)
    assert len(text) < MARKDOWN_LIMIT
    kinds = read_markdown(text)[0]
    rows = kinds["tr_open"] - kinds["table_open"]
    counts = re.findall(r"^(\d+) of \d+ rows left out", text, re.MULTILINE)
    left_out = sum(map(int, counts))
    assert rows + left_out == bad + equal + targets + changes
    assert text.count("<details>") == text.count("</details>")


def test_what_is_left_out_is_the_least_bad():
    pairs = [pair(1 + i / 100, workload=f"w{i:04}.") for i in range(10, 1500)]
    text = markdown(comparison(*pairs))
    assert "w1499." in text
    assert "w0010." not in text
    assert re.search(r"^\d+ of 1490 rows left out for want of room\.$", text, re.MULTILINE)


# -- JUnit -----------------------------------------------------------------------------------------


def test_junit_has_a_case_for_every_cell():
    root = ET.fromstring(junit(several()))
    suites = {suite.get("name"): suite for suite in root}
    assert suites.keys() == {"comparison", "cupy@gpu:0", TARGET}
    assert int(suites[TARGET].get("tests")) == 15
    found = {case.get("name"): [kind.tag for kind in case] for case in root.iter("testcase")}
    assert found["slow"] == found["bad"] == ["failure"]
    assert found["gone"] == found[WORKLOAD] == ["error"]
    assert found["noisy"] == found["old"] == ["skipped"]
    assert found["equal.3"] == found["something was measured"] == ["system-out"]
    (message,) = [f.get("message") for c in suites[TARGET] if c.get("name") == "slow" for f in c]
    assert message.startswith("regressed: 1.500x slower")


@pytest.mark.parametrize("strict", [False, True])
def test_junit_fails_if_the_exit_code_does(strict):
    noisy = comparison(pair(spread=0.3))
    root = ET.fromstring(junit(replace(noisy, demands=Demands(strict=strict))))
    assert (root.find(".//error") is not None) == strict
