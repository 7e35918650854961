"""Stop work in this process that does not end: a chat template that loops for ever, say.

    with time_limit(20.0):
        text = template.render(...)     # TooSlowError here, once 20 seconds are over

One thread watches all limits. Beside it, a limit costs some microseconds.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class TooSlowError(Exception):
    """The time limit is over."""


class _Limit:
    """One running limit: the thread that works, and when its time is over."""

    def __init__(self, seconds: float) -> None:
        self.thread = threading.get_ident()
        self.end = time.monotonic() + seconds


_limits: set[_Limit] = set()
_changed = threading.Condition()
_watcher: threading.Thread | None = None


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `TooSlowError` in this thread if the body still runs Python code after so many seconds.

    A single long call into C is not interrupted.
    """
    limit = _Limit(seconds)
    with _changed:
        _limits.add(limit)
        _start_watcher()
        _changed.notify()
    try:
        yield
    finally:
        with _changed:  # past this point the watcher leaves the thread alone
            _limits.discard(limit)


def _start_watcher() -> None:
    global _watcher
    if _watcher is None or not _watcher.is_alive():  # none yet, or this process was forked
        _watcher = threading.Thread(target=_watch, name="safekey-time-limits", daemon=True)
        _watcher.start()


def _watch() -> None:
    while True:
        with _changed:
            now = time.monotonic()
            for limit in [limit for limit in _limits if limit.end <= now]:
                _limits.discard(limit)
                error = ctypes.py_object(TooSlowError)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(limit.thread), error)
            _changed.wait(min((limit.end for limit in _limits), default=now + 3600.0) - now)
