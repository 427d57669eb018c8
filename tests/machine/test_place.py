"""Where something was raised, for who mends it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from convbench.errors import BackendUnavailable, Unavailability
from convbench.machine.failures import explain, place
from convbench.words.status import Status


def raised(folder: Path, text: str) -> Exception:
    """What importing a file with this text raises."""
    file = folder / "kernel.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    spec = importlib.util.spec_from_file_location("kernel", file)
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(Exception) as caught:  # noqa: PT011  # whatever it is
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    return caught.value


DEEP = "import json\n\ndef run():\n    return json.loads('{')\n\nrun()\n"


def test_it_is_the_innermost_line_that_somebody_writes(tmp_path: Path) -> None:
    error = raised(tmp_path, DEEP)
    assert place(error) == f"{tmp_path / 'kernel.py'}:4"
    assert explain(error).reason.endswith(f", at {tmp_path / 'kernel.py'}:4")


def test_a_file_that_is_no_python_is_named_by_its_own_line(tmp_path: Path) -> None:
    assert place(raised(tmp_path, "x = 1\nx = = 2\n")) == f"{tmp_path / 'kernel.py'}:2"


def test_what_is_installed_is_no_ones_to_mend(tmp_path: Path) -> None:
    error = raised(tmp_path / "site-packages" / "kernels", DEEP)
    error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next  # without this test
    assert place(error) == ""


def test_what_is_there_and_broken_has_failed_and_what_is_absent_has_not() -> None:
    status = {kind: explain(BackendUnavailable(kind, "why", "")).status for kind in Unavailability}
    assert status == {
        Unavailability.NOT_INSTALLED: Status.SKIPPED,
        Unavailability.NO_DEVICE: Status.SKIPPED,
        Unavailability.IMPORT_FAILED: Status.FAILED,
    }
