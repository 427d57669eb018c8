"""Files, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from convbench.errors import InputError


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        raise InputError(
            f"{path}: the file is not writable ({error.strerror}); expected a place to write to. "
            "Choose another."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
