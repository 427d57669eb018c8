"""What NumPy has here to compute with: the kernels of its BLAS, and threads."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

SMALL = 10**6
"""OpenBLAS multiplies matrices of up to so many multiplications M N K without packing them first,
where it has kernels for that: ``sgemm_small_matrix_permit`` of its SkylakeX."""

_WITH_SMALL = {"skylakex", "cooperlake", "sapphirerapids"}
"""OpenBLAS's names of the cores, all of them with AVX-512, for which it has such kernels."""


@cache
def small_products() -> bool:
    """Whether many small products are faster here than a large one.

    OpenBLAS chooses its kernels when it is loaded: by ``OPENBLAS_CORETYPE``, or else by what the
    processor has. It does not say through NumPy which it took, so that the same is asked here.
    """
    config: Any = np.show_config(mode="dicts")
    if "openblas" not in config["Build Dependencies"]["blas"]["name"]:
        return False
    if named := os.environ.get("OPENBLAS_CORETYPE"):
        return named.lower() in _WITH_SMALL
    try:
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = info.partition("\nflags")[2].partition("\n")[0].split()
    return {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"} <= {*flags}


def threads() -> int:
    """How many threads to use: as many as NumPy's BLAS was told to, or one a core.

    OpenBLAS takes the first of ``OPENBLAS_NUM_THREADS`` and ``OMP_NUM_THREADS`` that is a number
    above zero, and no more threads than there are cores for this process.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        asked = os.environ.get(name, "").partition(",")[0].strip()
        if asked.isdecimal() and int(asked):
            return min(int(asked), cores or 1)
    return cores or 1


_pools: dict[int, ThreadPoolExecutor] = {}
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)  # a child has none of its parent's threads


def side_by_side(parts: Sequence[Callable[[], object]]) -> None:
    """Call functions that know nothing of each other, each in a thread; the first in this one."""
    if len(parts) == 1:
        parts[0]()
        return
    others = len(parts) - 1
    if others not in _pools:
        _pools[others] = ThreadPoolExecutor(others, thread_name_prefix="convbench-numpy")
    # np.errstate is of the caller's context, and what it says holds for all of the call.
    waiting = [_pools[others].submit(copy_context().run, part) for part in parts[1:]]
    try:
        parts[0]()
    finally:
        for future in waiting:
            future.exception()  # nothing may write into the output once this has returned
    for future in waiting:
        future.result()


def shares(items: Sequence[Any], count: int) -> list[Sequence[Any]]:
    """Cut a sequence into at most `count` parts of about the same length, none empty."""
    cuts = [round(i * len(items) / count) for i in range(count + 1)]
    return [items[a:b] for a, b in itertools.pairwise(cuts) if b > a]
