"""Which results a coordinate means, and what is said where it means none or several."""

from __future__ import annotations

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convbench.comparing.sides import Coordinate, choose_sides, find_commit, fitting
from convbench.errors import InputError
from convbench.results.folder import Folder

from ..records import BASE, HEAD, record

ENVIRONMENTS = ("venv-py3.11-tf2.20", "venv-py3.11-tf2.21", "venv-py3.12")


def places(commit, *names):
    """A record in each of these, written environment:machine."""
    return [
        record(commit, environment=e, machine=m) for e, m in (name.split(":") for name in names)
    ]


def choose(base, head, records, here="here", commits=(BASE, HEAD)):
    return choose_sides(
        *(Coordinate.parse(side, "compare") for side in (base, head)),
        commits,
        records,
        here,
        "compare",
    )


def where(sides):
    return [f"{side.environment}:{side.machine}" for side in sides]


def candidates(message):
    """What an error offers to be pasted."""
    return re.findall(r"'?\b[0-9a-f]{8}:[^,;']*?(?=[,;']|\. )", message)


# -- Coordinates -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("HEAD", ("HEAD", "", "")),
        ("HEAD~2:py3", ("HEAD~2", "py3", "")),
        ("v1.0::vm", ("v1.0", "", "vm")),
        ("a1b2:env:vm", ("a1b2", "env", "vm")),
        ("a1b2:env:vm:8", ("a1b2", "env", "vm:8")),
        (" main : env ", ("main", "env", "")),
    ],
)
def test_a_coordinate_is_read(text, parts):
    read = Coordinate.parse(text, "compare")
    assert (read.revision, read.environment, read.machine) == parts


@pytest.mark.parametrize("text", ["", " ", ":env", "::vm"])
def test_a_coordinate_without_a_revision_is_refused(text):
    with pytest.raises(InputError, match="REVISION"):
        Coordinate.parse(text, "compare")


@given(st.lists(st.from_regex(r"[\w.~^-]+", fullmatch=True), min_size=1, max_size=3))
def test_a_coordinate_is_written_as_it_is_read(parts):
    read = Coordinate.parse(":".join(parts), "compare")
    assert Coordinate.parse(str(read), "compare") == read


# -- Commits ---------------------------------------------------------------------------------------


def test_the_files_names_tell_what_was_measured_the_latest_first(tmp_path):
    names = ["results/vm/aaaaaaaa-env.json", "results/other/bbbbbbbb-env.json",
             "evidence/vm/cccccccc-env.jsonl"]  # fmt: skip
    for i, name in enumerate([*names, "results/vm/machine.json", "results/benchmarks.json"]):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("not opened")
        os.utime(path, (1000 + i, 1000 + i))
    assert Folder(tmp_path / "results").measured_commits() == ["cccccccc", "bbbbbbbb", "aaaaaaaa"]
    assert Folder(tmp_path / "nowhere" / "results").measured_commits() == []


MEASURED = ["a1b2c3d4", "a1ffffff", "0badcafe"]
GIT = {
    "HEAD": "0badcafe" + "0" * 32,
    "HEAD~1": "9" * 40,
    "a1b": "a1b2c3d4" + "e" * 32,
    "0": "8" * 40,
}


@pytest.mark.parametrize(
    ("revision", "commit"),
    [
        ("HEAD", GIT["HEAD"]),
        ("a1b", GIT["a1b"]),
        ("a1f", "a1ffffff"),
        ("0BADCAFE", "0badcafe"),
        ("0badcafe12", "0badcafe12"),
        ("HEAD~1", "9" * 40),  # known to git, and not measured: that is for others to tell
        ("0", "0badcafe"),  # git knows another one, which was not measured
    ],
)
def test_a_revision_is_what_git_says_or_the_start_of_what_was_measured(revision, commit):
    assert find_commit(revision, MEASURED, GIT.get, "compare") == commit


@pytest.mark.parametrize(
    ("revision", "said"),
    [
        ("a1", "a1b2c3d4, a1ffffff"),
        ("mian", "a1b2c3d4, a1ffffff, 0badcafe"),
        ("ffff", "a1b2c3d4, a1ffffff, 0badcafe"),
    ],
)
def test_an_unknown_or_ambiguous_revision_lists_what_there_is(revision, said):
    with pytest.raises(InputError, match=said):
        find_commit(revision, MEASURED, GIT.get, "compare")


@pytest.mark.parametrize("command", ["compare", "report", "results"])
def test_a_message_begins_with_the_command_that_was_run(command):
    coordinate = Coordinate.parse("a", command)
    records = [*places(BASE, "e:vm"), *places(HEAD, "f:vm")]
    for refused in (
        lambda: Coordinate.parse("", command),
        lambda: find_commit("nothing", MEASURED, GIT.get, command),
        lambda: choose_sides(coordinate, coordinate, (BASE, HEAD), records, "here", command),
        lambda: fitting(Coordinate("a", "moon"), BASE, records[:1], command),
    ):
        with pytest.raises(InputError, match=f"^{command}: "):
            refused()


def test_a_long_list_is_cut():
    with pytest.raises(InputError, match="and 990 more"):
        find_commit("nothing", [f"{i:08x}" for i in range(1000)], GIT.get, "compare")


# -- Environments and machines ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "head", "in_base", "in_head", "expected"),
    [
        ("a", "b", ["e:vm"], ["e:vm"], ["e:vm", "e:vm"]),
        # The environment that both have.
        ("a", "b", ["e:vm", "f:vm"], ["f:vm", "g:vm"], ["f:vm", "f:vm"]),
        # The machine that both have, or this one.
        ("a", "b", ["e:vm", "e:x"], ["e:x"], ["e:x", "e:x"]),
        ("a", "b", ["e:vm", "e:here"], ["e:here", "e:vm"], ["e:here", "e:here"]),
        # A name on one side holds for the other.
        ("a:f", "b", ["e:vm", "f:vm"], ["e:vm", "f:vm"], ["f:vm", "f:vm"]),
        ("a", "b::x", ["e:vm", "e:x"], ["e:vm", "e:x"], ["e:x", "e:x"]),
        # An environment that only one of the machines has.
        ("a:f", "b", ["e:here", "f:x"], ["e:here", "f:x"], ["f:x", "f:x"]),
        # Two environments, two machines.
        ("a:e", "b:f", ["e:vm", "f:vm"], ["e:vm", "f:vm"], ["e:vm", "f:vm"]),
        ("a::vm", "b::x", ["e:vm"], ["e:x"], ["e:vm", "e:x"]),
        ("a:e:vm", "b:f:x", ["e:vm", "f:x"], ["e:vm", "f:x"], ["e:vm", "f:x"]),
        # A part of a name, and a name that is part of another.
        ("a:2.20", "b:2.21", [f"{e}:vm" for e in ENVIRONMENTS], [f"{e}:vm" for e in ENVIRONMENTS],
         [f"{e}:vm" for e in ENVIRONMENTS[:2]]),
        ("a:e", "b:e", ["e:vm", "ee:vm"], ["e:vm", "ee:vm"], ["e:vm", "e:vm"]),
        ("a::gpu", "b::gpu", ["e:gpu", "e:gpu2"], ["e:gpu2", "e:gpu"], ["e:gpu", "e:gpu"]),
    ],
)  # fmt: skip
def test_what_is_chosen(base, head, in_base, in_head, expected):
    records = [*places(BASE, *in_base), *places(HEAD, *in_head)]
    sides = choose(base, head, records)
    assert where(sides) == expected
    for side, commit in zip(sides, (BASE, HEAD), strict=True):
        assert side.commit == commit
        assert {r.commit for r in side.records} == {commit}
        assert {(r.environment, r.machine) for r in side.records} == {
            (side.environment, side.machine)
        }


@pytest.mark.parametrize(
    ("base", "head", "in_base", "in_head", "offered"),
    [
        ("a", "b", ["e:vm", "f:vm"], ["e:vm", "f:vm"],
         ["00000000:e:vm", "00000000:f:vm", "ffffffff:e:vm", "ffffffff:f:vm"]),
        ("a", "b", ["e:vm", "e:x"], ["e:vm", "e:x"],
         ["00000000:e:vm", "00000000:e:x", "ffffffff:e:vm", "ffffffff:e:x"]),
        # Unlike machines and environments have to be asked for, on both sides.
        ("a", "b", ["e:vm"], ["e:x"], ["00000000:e:vm", "ffffffff:e:x"]),
        ("a::vm", "b", ["e:vm"], ["e:x"], ["00000000:e:vm", "ffffffff:e:x"]),
        ("a", "b", ["e:vm"], ["f:vm"], ["00000000:e:vm", "ffffffff:f:vm"]),
        ("a", "b:f", ["e:vm"], ["f:vm"], ["00000000:e:vm", "ffffffff:f:vm"]),
        ("a:zzz", "b", ["e:vm", "f:x"], ["e:vm"], ["00000000:e:vm", "00000000:f:x"]),
        ("a:tf", "b:tf", ["tf1:vm", "tf2:vm"], ["tf1:vm"], ["00000000:tf1:vm", "00000000:tf2:vm"]),
    ],
)  # fmt: skip
def test_what_leaves_a_choice_is_refused_and_what_is_offered_can_be_pasted(
    base, head, in_base, in_head, offered
):
    records = [*places(BASE, *in_base), *places(HEAD, *in_head)]
    with pytest.raises(InputError) as caught:
        choose(base, head, records)
    found = candidates(str(caught.value))
    assert found == offered
    pairs = [(a, b) for a in found for b in found if a[0] == "0" and b[0] == "f"]
    for one, other in pairs:
        sides = choose(one, other, records)
        assert [side.name for side in sides] == [one, other]


def test_a_name_that_a_shell_would_split_is_quoted():
    records = places(BASE, "my env:vm", "other:vm")
    with pytest.raises(InputError, match="'00000000:my env:vm'"):
        choose("a", "b", [*records, *places(HEAD, "my env:vm", "other:vm")])


def test_two_environments_of_one_commit():
    records = places(BASE, "tf2.20:vm", "tf2.21:vm")
    sides = choose("a:tf2.20", "a:tf2.21", records, commits=(BASE, BASE))
    assert where(sides) == ["tf2.20:vm", "tf2.21:vm"]


def test_nothing_is_compared_with_itself():
    with pytest.raises(InputError, match="two different sides"):
        choose("a", "a", places(BASE, "e:vm"), commits=(BASE, BASE))


def test_a_commit_that_was_not_measured_has_no_records():
    sides = choose("a", "b", places(BASE, "e:vm"), commits=("00000000", HEAD))
    assert [(side.commit, len(side.records)) for side in sides] == [(BASE, 1), (HEAD, 0)]
    assert {(side.machine, side.environment) for side in sides} == {("", "")}
