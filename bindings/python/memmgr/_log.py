"""The library's log as records of Python's `logging`, under the logger "memmgr".

Every block that the pools hand out is a DEBUG record, so the library makes those only while the
logger wants them. An `Exception` of a handler is reported where `logging` reports its own, for the
call that caused the record did what it was to do; KeyboardInterrupt and SystemExit are raised by
that call. The hook is taken off before the interpreter ends.
"""

from __future__ import annotations

import atexit
import contextlib
import logging

from . import _native
from ._call import call, text
from ._errors import InvalidArgumentError
from ._native import ffi, lib


class _Logger(logging.Logger):
    installed = False

    def setLevel(self, level: int | str) -> None:  # noqa: N802
        super().setLevel(level)
        follow()


logger = logging.getLogger("memmgr")
logger.addHandler(logging.NullHandler())
logger.__class__ = _Logger

_HOOK = ffi.addressof(lib, "memmgr_python_log")
_reporter = logging.Handler()


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
    _Logger.installed = True
    follow()
    atexit.register(_uninstall)


def follow() -> None:
    """Has the library make the records that the logger wants."""
    if not _Logger.installed:
        return
    level = min(max(logger.getEffectiveLevel(), lib.MEMMGR_LOG_DEBUG), lib.MEMMGR_LOG_INFO)
    # Refused within the log function: the next manager that opens asks again.
    with contextlib.suppress(InvalidArgumentError):
        call(lib.memmgr_log_set, level, _HOOK, ffi.NULL)


def _uninstall() -> None:
    _Logger.installed = False
    call(lib.memmgr_log_set, lib.MEMMGR_LOG_DEBUG, ffi.NULL, ffi.NULL)
