"""How much of the libraries is in memory already."""

from __future__ import annotations

import ctypes
import importlib.util
import mmap
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from convbench.measuring.doctor.evidence import Cached

_LIBRARIES = ("numpy", "tensorflow", "cupy", "nvidia")


def cached_libraries(names: Sequence[str] = _LIBRARIES) -> Iterator[Cached]:
    """How much of the shared objects of the libraries that are installed is in memory.

    None of them is imported. What the system does not tell is left out: since Linux 5.2 only those
    who could write a file learn which of its pages are there.
    """
    for name in names:
        spec = importlib.util.find_spec(name)
        folders = [Path(place) for place in (spec and spec.submodule_search_locations) or ()]
        paths = {
            path.resolve()
            for folder in folders
            for top, pattern in (
                (folder, "*.so*"),
                (folder, "*/*.so*"),
                (folder, "*/lib/*.so*"),
                (folder.with_name(f"{name}.libs"), "*.so*"),
            )
            for path in top.glob(pattern)
        }
        counted = [pages for path in sorted(paths) if (pages := resident_bytes(path)) is not None]
        if counted:
            resident, total = (sum(numbers) for numbers in zip(*counted, strict=True))
            yield Cached(name, resident, total)


def resident_bytes(path: Path) -> tuple[int, int] | None:
    """How many bytes of a file are in memory, and how many it has; None if that is not told."""
    try:
        mincore = ctypes.CDLL(None, use_errno=True).mincore
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
            if not (facts.st_size and (facts.st_uid == os.geteuid() or os.access(path, os.W_OK))):
                return None
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                view = np.frombuffer(mapped, np.uint8)
                pages = np.zeros(-(-facts.st_size // mmap.PAGESIZE), np.uint8)
                code = mincore(
                    ctypes.c_void_p(view.ctypes.data),
                    ctypes.c_size_t(facts.st_size),
                    ctypes.c_void_p(pages.ctypes.data),
                )
                del view  # or the mapping could not be closed
    except (OSError, AttributeError, TypeError, ValueError):  # another system, or no such file
        return None
    resident = int((pages & 1).sum()) * mmap.PAGESIZE
    return None if code else (min(resident, facts.st_size), facts.st_size)
