"""The library's log as records of Python's `logging`, under the logger "memmgr".

Every block that the pools hand out is a DEBUG record, so the library makes those only while the
logger wants them: it is given the logger's level whenever that may have changed. Its log function
is set once, and taken off before the interpreter ends.

An `Exception` of a handler is reported as `logging` reports its own: the call that caused the
record does what it was to do. KeyboardInterrupt and SystemExit are raised by that call.
"""

from __future__ import annotations

import atexit
import contextlib
import logging

from . import _native
from ._call import call, text
from ._native import ffi, lib

logger = logging.getLogger("memmgr")
logger.addHandler(logging.NullHandler())

_HOOK = ffi.addressof(lib, "memmgr_python_log")
_reporter = logging.Handler()


class _Answers(dict[int, bool]):
    """What `logging` remembers of which levels the logger is enabled for.

    It forgets that whenever the level of any logger was set, `logging.disable` included. That makes
    this the place to hear of a level without a logger class of its own, which the application may
    have chosen.
    """

    def clear(self) -> None:
        super().clear()
        follow()


def _record(message: str, level: int, *numbers: int) -> None:
    """One record, from C: its numbers are in the attribute `memmgr`, a dict."""
    operation, dimension, size, allocated, limit, threshold = numbers
    try:
        if not logger.isEnabledFor(level):
            return
        detail = {
            "operation": text(lib.memmgr_operation_name(operation)),
            "dimension": None if dimension == lib.MEMMGR_NONE else dimension,
            "bytes": size,
            "allocated": allocated,
            "limit": limit,
            "threshold": threshold,
        }
        logger.log(level, "%s", message, extra={"memmgr": detail})
    except Exception:  # noqa: BLE001 - nobody is to know of it but who reads reports
        with contextlib.suppress(Exception):
            _reporter.handleError(
                logging.LogRecord(logger.name, level, __file__, 0, "%s", (message,), None)
            )


def install() -> None:
    """Sets the process's log function, until the interpreter ends."""
    _native.set_log_function(_record)
    call(lib.memmgr_log_set, lib.MEMMGR_LOG_INFO, _HOOK, ffi.NULL)
    atexit.register(_uninstall)
    if isinstance(getattr(logger, "_cache", None), dict):
        logger._cache = _Answers()  # type: ignore[attr-defined]
    follow()


def follow() -> None:
    """Has the library make the records that the logger wants. It waits for nobody: the caller may
    hold any lock.

    A refusal is a record in any case, so that a level that nobody heard of costs no warning."""
    while True:
        level = _level()
        lib.memmgr_log_set_level(level, ffi.NULL)
        # Two threads may get here at once: the last one to set it has seen the last level.
        if level == _level():
            return


def _level() -> int:
    level = max(logger.getEffectiveLevel(), logger.manager.disable + 1)
    return int(min(max(level, lib.MEMMGR_LOG_DEBUG), lib.MEMMGR_LOG_INFO))


def _uninstall() -> None:
    call(lib.memmgr_log_set, lib.MEMMGR_LOG_DEBUG, ffi.NULL, ffi.NULL)
