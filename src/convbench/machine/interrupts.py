"""Ctrl-C while a process is started or ended."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait until a process is started, or ended with all that belongs to it."""
    if threading.current_thread() is not threading.main_thread():
        with _blocked():  # no signal comes here, and one would come to what is started
            yield
        return
    noted: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: noted.append(number))
    try:
        with _blocked():
            yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if noted:
        raise KeyboardInterrupt


@contextlib.contextmanager
def _blocked() -> Iterator[None]:
    """Let a process that is started meanwhile not die of Ctrl-C, with a traceback of its own.

    It inherits what is blocked. :mod:`multiprocessing` blocks nothing any more after it has started
    its helper, so that has to come first.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
