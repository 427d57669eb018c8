"""Files, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from convbench.errors import InputError


def write(path: Path, content: bytes | str, *, parents: bool = False) -> None:
    """Write a file whole or not at all; one that was there keeps its permissions.

    Parameters
    ----------
    content : bytes or str
        Text is written as UTF-8, its line ends as they are.
    parents : bool
        Make the folders that it needs.

    Raises
    ------
    InputError
        If it cannot be written there.
    """
    data = content.encode() if isinstance(content, str) else content
    target = path.resolve()  # a link stays, and what it points to is replaced
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        if parents:
            target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not target.is_file():  # /dev/null must stay what it is
            target.write_bytes(data)
            return
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # or the name can be on the disk without what it names
        if target.exists():
            part.chmod(target.stat().st_mode & 0o777)
        part.replace(target)
    except OSError as error:
        raise InputError(
            f"{path}: the file is not writable ({error.strerror}); expected a place to write to. "
            "Choose another."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
