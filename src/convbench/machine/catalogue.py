"""Messages that libraries, drivers and systems are known to write, and how they are found in a log.

The messages are data: ``messages.toml`` beside this file says what its fields mean. What a failed
cell says and what ``convbench explain`` says come from there.
"""

from __future__ import annotations

import functools
import io
import re
import signal as signals
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from typing import Any, BinaryIO, Literal, Self

from convbench.words.text import clean, clip

_BLOCK_BYTES = 1 << 20
_OVERLAP_BYTES = 1 << 13
"""What is read again with the next block, since a message may lie across the two."""

_MOST_TRIED = 200
"""Lines on which a particular entry may beat a general one, before that is given up; and errors of
a block that are looked at, from its end."""

_BEFORE_BYTES, _QUOTED_BYTES = 80, 320


class When(StrEnum):
    """Whether anything of the kind had worked before it failed."""

    START = "start"
    MIDDLE = "middle"


@dataclass(frozen=True, slots=True)
class Pattern:
    """An expression over small letters, and what every text that it fits has in it.

    Attributes
    ----------
    needle : bytes
        It is looked for first, which is many times quicker.
    """

    expression: re.Pattern[bytes]
    needle: bytes

    @classmethod
    def of(cls, text: str) -> Self:
        """Compile one, whose spaces stand for any white space, line breaks and Python's own too."""
        expression = text.replace(" ", r"(?:\s|\\[nt]){1,80}").encode()
        return cls(re.compile(expression), needle(text).encode())

    def matches(self, text: bytes) -> Iterator[re.Match[bytes]]:
        """Where it fits."""
        return self.expression.finditer(text) if self.needle in text else iter(())


def needle(pattern: str) -> str:
    r"""The longest plain text that every match of a pattern has in it.

    It understands what the catalogue uses: escapes, classes, groups, counts and ``|``.

    Examples
    --------
    >>> needle(r"blas \w{1,20} launch failed"), needle("cublas_status_(?:a|b)"), needle("ab|cd")
    ('launch', 'cublas_status_', '')
    """
    runs, depth = [""], 0
    for part in re.findall(r"\\.|\[\^?\]?[^\]]*\]|\{[^}]*\}|.", pattern, re.DOTALL):
        if part == "|" and not depth:
            return ""
        depth += (part == "(") - (part == ")")
        escaped = part[0] == "\\" and not part[1].isalnum()
        if not depth and (escaped or (len(part) == 1 and part not in "()^$.?*+|\\ ")):
            runs[-1] += part[-1]
            continue
        if part in "?*" or part[0] == "{":
            runs[-1] = runs[-1][:-1]  # what it counts may be absent
        runs.append("")
    return max(runs, key=len)


@dataclass(frozen=True, slots=True)
class Advice:
    """What went wrong, and what to do."""

    cause: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A message, and what is known of it.

    Attributes
    ----------
    start : Advice
        At the first use; or whenever it is, if there is no other for the `middle`.
    """

    name: str
    library: str
    kind: str
    says: tuple[Pattern, ...]
    start: Advice
    example: str
    source: str
    middle: Advice | None = None
    symptom: bool = False
    card: Literal["no", "maybe", "yes"] = "no"
    lost: bool = False
    signal: int = 0

    @classmethod
    def of(cls, plain: Mapping[str, Any], words: Mapping[str, str]) -> Self:
        """Make one of a table of the file, with the texts that several have in common."""
        rest = {key: plain[key] for key in plain if key not in {"says", "cause", "remedy"}}
        if middle := plain.get("middle"):
            rest["middle"] = _advice(middle, words)
        patterns = (*plain.get("says", ()), *_exits(plain.get("signal", 0)))
        return cls(says=tuple(map(Pattern.of, patterns)), start=_advice(plain, words), **rest)

    @property
    def harmless(self) -> bool:
        """Whether nothing is wrong."""
        return self.kind == "harmless"

    @property
    def rank(self) -> int:
        """0 for what others may come of, 1 for what comes of them, 2 for what is harmless."""
        return 2 if self.harmless else int(self.symptom)

    def advice(self, when: When | None) -> list[tuple[When | None, Advice]]:
        """What is so, or what is so in either case if it matters and is not known."""
        if self.middle is None:
            return [(None, self.start)]
        both = [(When.START, self.start), (When.MIDDLE, self.middle)]
        return [(case, told) for case, told in both if when in {None, case}]

    def matches(self, text: bytes) -> Iterator[re.Match[bytes]]:
        """Where one of its patterns fits."""
        for pattern in self.says:
            yield from pattern.matches(text)


@dataclass(frozen=True, slots=True)
class Finding:
    """An entry, and where it was found first.

    Attributes
    ----------
    line : int
        Of the log, from 1.
    said : str
        That line, or what is around the message if it is long.
    """

    entry: Entry
    line: int
    said: str
    when: When | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What is known of a log.

    Attributes
    ----------
    findings : tuple of Finding
        One an entry, the root first: what was found first, before what comes of it, before what is
        harmless.
    error : str
        The last line that speaks of an error which is not known; empty if there is none.
    empty : bool
        There was nothing but white space.
    """

    findings: tuple[Finding, ...]
    error: str
    empty: bool

    @property
    def wrong(self) -> Finding | None:
        """The root, if anything is known to be wrong."""
        first = self.findings[0] if self.findings else None
        return None if first is None or first.entry.harmless else first


def _advice(plain: Mapping[str, Any], words: Mapping[str, str]) -> Advice:
    return Advice(plain["cause"], plain["remedy"].format(**words))


@functools.cache
def _file() -> dict[str, Any]:
    return tomllib.loads(files(__package__).joinpath("messages.toml").read_text("utf-8"))


def words() -> dict[str, str]:
    """Texts that several remedies have in common, by name."""
    return dict(_file()["words"])


@functools.cache
def catalogue() -> tuple[Entry, ...]:
    """Every entry, the particular before the general."""
    return tuple(Entry.of(plain, words()) for plain in _file()["entry"])


def of_signal(number: int) -> Entry | None:
    """What it means that a signal ended a process."""
    return next((entry for entry in catalogue() if entry.signal == number > 0), None)


def read_text(text: str) -> Reading:
    """Look for known messages in a text."""
    return read(io.BytesIO(text.encode(errors="replace")))


def read(log: BinaryIO) -> Reading:
    """Look for known messages in a log of any length, block by block."""
    search = _Search()
    kept = b""
    while True:
        block = log.read(_BLOCK_BYTES)
        text = _plain(kept + block)
        end = text.rfind(b"\n") + 1
        if not block or len(text) - end > _OVERLAP_BYTES:
            end = len(text)  # of a line that is longer, a part has to do
        search.take(text[:end])
        if not block:
            return search.reading()
        low = max(0, end - _OVERLAP_BYTES)
        cut = low and (text.find(b"\n", low, end) + 1 or low)
        search.line += text.count(b"\n", 0, cut)
        kept = text[cut:]


class _Search:
    """What was found so far.

    Attributes
    ----------
    line : int
        The number of the first line of the next block.
    """

    def __init__(self) -> None:
        self.line = 1
        self._left = dict.fromkeys(catalogue(), _MOST_TRIED)
        self._found: list[Finding] = []
        self._error = ""
        self._empty = True
        self._begun = self._worked = False

    def take(self, text: bytes) -> None:
        """Look at a block."""
        self._empty = self._empty and not text.strip()
        small = text.lower()
        worked_at = 0 if self._worked else _first(_PROGRESS, small)
        begun_at = 0 if self._begun else _first(_BEGINNING, small)
        for entry in list(self._left):
            for match in entry.matches(small):
                at, end = _line_around(small, match)
                if _best(small[at:end]) is not entry:
                    self._left[entry] -= 1
                    if self._left[entry]:
                        continue
                else:
                    line = self.line + small.count(b"\n", 0, match.start())
                    when = None
                    if worked_at is not None and worked_at <= match.start():
                        when = When.MIDDLE
                    elif begun_at is not None and begun_at <= match.start():
                        when = When.START
                    self._found.append(Finding(entry, line, _quote(text, match.span()), when))
                del self._left[entry]
                break
        self._worked = self._worked or worked_at is not None
        self._begun = self._begun or begun_at is not None
        for match in [*_ERROR.matches(small)][: -_MOST_TRIED - 1 : -1]:
            at, end = _line_around(small, match)
            if _best(small[at:end]) is None:
                self._error = _quote(text, match.span())
                break

    def reading(self) -> Reading:
        """All of it, in order."""
        places = {entry: place for place, entry in enumerate(catalogue())}
        order = sorted(self._found, key=lambda f: (f.entry.rank, f.line, places[f.entry]))
        return Reading(tuple(order), self._error, self._empty)


_ESCAPES = re.compile(rb"\x1b(?:\[[0-?]{0,40}[ -/]{0,4}[@-~]|\][^\x07\x1b]{0,400}(?:\x07|\x1b\\))")
_SPACES = bytes.maketrans(b"\r\x0b\x0c", b"   ")


def _plain(text: bytes) -> bytes:
    """Without what only colours or moves, and without the zeros of a wider encoding."""
    text = text.translate(_SPACES, b"\0")
    return _ESCAPES.sub(b"", text) if b"\x1b" in text else text


def _line_around(text: bytes, match: re.Match[bytes]) -> tuple[int, int]:
    """From the start of the line in which it begins to the end of that in which it ends."""
    at = max(text.rfind(b"\n", 0, match.start()) + 1, match.start() - _OVERLAP_BYTES)
    end = text.find(b"\n", match.end(), match.end() + _OVERLAP_BYTES)
    return at, end if end >= 0 else min(len(text), match.end() + _OVERLAP_BYTES)


def _quote(text: bytes, span: tuple[int, int]) -> str:
    """What a person is shown of it: nothing that moves the cursor, and not too long."""
    at = text.rfind(b"\n", 0, span[0]) + 1
    at = max(at, span[0] - _BEFORE_BYTES)
    end = text.find(b"\n", span[1])
    return clip(clean(text[at : end if end >= 0 else None][: 4 * _QUOTED_BYTES].decode(
        errors="replace")), _QUOTED_BYTES)  # fmt: skip


def _best(text: bytes) -> Entry | None:
    """The first entry that fits somewhere in a text of small letters."""
    return next((entry for entry in catalogue() if any(True for _ in entry.matches(text))), None)


def _first(patterns: Iterable[Pattern], text: bytes) -> int | None:
    matches = (next(pattern.matches(text), None) for pattern in patterns)
    return min((match.start() for match in matches if match), default=None)


_PROGRESS = tuple(
    map(
        Pattern.of,
        (
            r"\bloss\W{1,4}\d",
            r"\bepoch\W{1,4}(?:[2-9]\b|\d\d)",
            r"\b(?:global_)?step\W{1,4}(?:[2-9]\b|\d\d)",
            r"\biter(?:ation)?\W{1,4}(?:[2-9]\b|\d\d)",
            r"\d(?:\.\d{1,6})?\s?(?:it|img|images|examples|samples|steps)/s",
            r"\b[1-9]\d{0,8}/\d{1,9} \[[=>.]",
            r"after .{0,40}\d[\d,]{0,12} (?:good |successful )?(?:steps|iterations|epochs|batches)",
            r"running for \d[\d,]{0,12} (?:steps|iterations|epochs|batches)",
            r"worked (?:fine |well )?(?:before|until|for)",
        ),
    )
)
"""What programs write when something has worked, not when it begins."""

_BEGINNING = tuple(
    map(Pattern.of, (r"\bepoch\W{1,4}[01]\b", r"\b0%\|.{0,300}\b0/\d", r"\bstep\W{1,4}[01]\b"))
)

_ERROR = Pattern.of(r"(?:error|exception|fatal): \S")


def _exits(number: int) -> tuple[str, ...]:
    """How shells, Python and people write that a signal has ended a process."""
    if not number:
        return ()
    values = rf"[\s:=(]{{1,6}}(?:-{number}|{128 + number})\b"
    return (
        rf"\b{signals.Signals(number).name.lower()}\b",
        rf"signal[\s:(#]{{1,3}}{number}\b",
        rf"exit(?:ed|code)?(?: (?:with|code|status|value)){{0,3}}{values}",
        rf"return ?code{values}",
    )
