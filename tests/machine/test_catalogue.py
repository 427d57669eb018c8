"""The catalogue of messages, and how they are found in a log."""

from __future__ import annotations

import io
import random
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convbench.machine import catalogue as module
from convbench.machine.catalogue import Pattern, When, catalogue, needle, read, read_text

FILE = Path(module.__file__).with_name("messages.toml")
PLAIN = tomllib.loads(FILE.read_text("utf-8"))
PATTERNS = sorted(
    {p for e in PLAIN["entry"] for p in (*e.get("says", ()), *module._exits(e.get("signal", 0)))}
)

# The reports that have to be answered, and what each of them is about.
REPORTED = {
    "tensorflow#43174", "tensorflow#55468", "tensorflow#58534", "tensorflow#11301",
    "tensorflow#93733", "keras#20414", "chainer#3554", "pytorch#11065",
}  # fmt: skip


def names(text: str | bytes) -> list[str]:
    raw = text.encode() if isinstance(text, str) else text
    return [finding.entry.name for finding in read(io.BytesIO(raw)).findings]


def test_it_is_large_and_every_entry_is_whole() -> None:
    entries = catalogue()
    assert len(entries) >= 80
    assert len({entry.name for entry in entries}) == len(entries)
    for entry in entries:
        for _, advice in entry.advice(None):
            assert advice.cause
            assert not advice.cause.endswith(".")
            assert re.search(r"[.)]$", advice.remedy), entry.name
        assert entry.example
        assert "://" not in entry.source
        assert entry.source
    sources = " ".join(entry.source for entry in entries)
    assert {name for name in REPORTED if name not in sources} == set()


@pytest.mark.parametrize("entry", catalogue(), ids=lambda entry: entry.name)
def test_its_own_example_is_told_as_it(entry) -> None:
    assert names(entry.example)[0] == entry.name
    assert names(f"x = 1\n{entry.example!r}\ny = 2")[0] == entry.name  # as Python quotes it


def test_patterns_are_of_small_letters_bounded_and_quick_to_look_for() -> None:
    plain = [re.sub(r"\\.", "", pattern) for pattern in PATTERNS]  # without \S and its like
    assert plain == [pattern.lower() for pattern in plain]
    assert [pattern for pattern in plain if re.search(r"[*+]", pattern)] == []
    assert [pattern for pattern in PATTERNS if len(needle(pattern)) < 3] == []


@pytest.mark.parametrize("pattern", PATTERNS)
@settings(max_examples=5, suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data())
def test_whatever_fits_a_pattern_has_its_needle(pattern: str, data) -> None:
    compiled = Pattern.of(pattern)
    assert compiled.needle in data.draw(st.from_regex(compiled.expression))


# -- Logs -----------------------------------------------------------------------------------------

SAID = "E cuda_blas.cc:543] failed to run cuBLAS routine: CUBLAS_STATUS_EXECUTION_FAILED"


@pytest.mark.parametrize(
    ("before", "when"),
    [
        ("", None),
        ("Epoch 1/15\n", When.START),
        ("  0%|          | 0/250 [00:00<?, ?it/s]\n", When.START),
        ("Epoch 1/15\n 1/938 [......] - ETA: 1:02 - loss: 2.30\n", When.MIDDLE),
        ("epoch: 7, lr 0.1\n", When.MIDDLE),
        ("After successfully running for 65700 steps, it crashed with:\n", When.MIDDLE),
        ("Steps:  17%|#7        | 501/3000 [11:44<58:08,  7.40it/s]\n", When.MIDDLE),
        ("Number of epochs 200, batch 64\n", None),
    ],
)
def test_a_log_tells_whether_anything_had_worked(before: str, when: When | None) -> None:
    reading = read_text(before + SAID)
    assert reading.wrong is not None
    assert reading.wrong.when is when
    assert read_text(SAID + "\n" + before).findings[0].when is None  # what comes later says nothing


def test_the_first_is_the_root_and_repeats_are_told_once() -> None:
    log = "ok\n" * 9 + "libcudart.so.12: cannot open shared object file: No such file\n"
    log += "ImportError: Failed to import CuPy.\n" * 20 + "Process exited with code 139\n"
    assert names(log) == ["cuda-library-missing", "cupy-import", "sigsegv"]
    assert [finding.line for finding in read_text(log).findings] == [10, 11, 31]


def test_what_comes_of_others_comes_after_them() -> None:
    log = "DNN library is not found.\nNVRM: Xid (PCI:0000:44:00): 79, GPU has fallen off the bus\n"
    assert names(log) == ["xid-off-the-bus", "dnn-library"]


def test_the_particular_is_told_of_a_line_and_the_general_of_another() -> None:
    particular = "Allocator (GPU_0_bfc) ran out of memory trying to allocate 2GiB. The caller"
    particular += " indicates that this is not a failure (ResourceExhausted)\n"
    assert names(particular * 3) == ["allocator-retries"]
    assert names(particular * 3 + "ResourceExhaustedError: OOM\n") == [
        "device-memory", "allocator-retries"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "\x1b[31mtensorflow.InternalError\x1b[0m: Blas \x1b[1mSGEMM\x1b[0m launch failed",
        "2017-06-30 16:27:50.302438: E] Blas SGEMM launch\n    failed : m=1",
        "InternalError('Blas SGEMM\\nlaunch failed')",
        "Blas SGEMM launch failed : m=1".encode("utf-16-le"),
        b"\xff\xfe\x80 Blas GEMM launch failed\r\n",
    ],
)
def test_colours_wraps_quotes_and_encodings(text: str | bytes) -> None:
    assert names(text) == ["blas-launch"]


def test_what_is_quoted_moves_no_cursor_and_is_short() -> None:
    text = "\x1b]0;title\x07\x1b[2J\x07\x9b bell " + "x" * 9000 + " No algorithm worked! \x00\x1bc"
    (finding,) = read_text(text + "y" * 9000).findings
    assert finding.said.isprintable()
    assert "No algorithm worked!" in finding.said
    assert len(finding.said) < 400


def test_a_message_is_found_wherever_the_blocks_end(monkeypatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_BYTES", 256)
    monkeypatch.setattr(module, "_OVERLAP_BYTES", 128)
    draw = random.Random(5)
    for _ in range(150):
        lines = draw.randrange(40)
        log = "".join("z" * draw.randrange(60) + "\n" for _ in range(lines))
        reading = read_text(log + SAID + "\n" + log)
        assert [(f.entry.name, f.line) for f in reading.findings] == [
            ("cublas-execution", lines + 1)
        ]


def test_an_error_that_is_not_known_is_quoted() -> None:
    reading = read_text(f"{SAID}\nTraceback:\nValueError: the cat\nbye\n")
    assert reading.error == "ValueError: the cat"
    assert read_text(SAID).error == ""
    assert read_text("all is well").findings == ()
    assert read_text(" \n\t\n").empty


@given(st.binary(max_size=400))
def test_any_bytes_are_read(raw: bytes) -> None:
    for finding in read(io.BytesIO(raw)).findings:
        assert finding.said.isprintable()


HARMLESS = [
    "I external/local_xla/xla/tsl/cuda/cudart_stub.cc:31] Could not find cuda drivers on your"
    " machine, GPU will not be used.",
    "oneDNN custom operations are on. You may see slightly different numerical results",
    "successful NUMA node read from SysFS had negative value (-1), but there must be at least one"
    " NUMA node, so returning NUMA node zero",
    "This TensorFlow binary is optimized to use available CPU instructions",
]


@pytest.mark.parametrize("line", HARMLESS)
def test_what_is_harmless_is_told_so(line: str) -> None:
    reading = read_text(line)
    assert reading.wrong is None
    assert [finding.entry.harmless for finding in reading.findings] == [True]
